"""What a learner has solved and how long it took: one small file beside the course, kept by the lessons' kernels."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from time import time

from learning import atomic

from .tasks import LESSONS, ROOT, TASKS
from .verdict import Verdict

FILE = ROOT / ".learning" / "progress.json"

BREAK = 20 * 60
"""How many seconds without running a cell are a break, which is not counted."""

STEP = 10
"""How many seconds have to go by until time is written down again."""

DAMAGED = (ValueError, KeyError, TypeError, AttributeError)
"""What reading the file raises where it is damaged."""


@dataclass
class Journal:
    """What the file holds."""

    tasks: dict[str, str] = field(default_factory=dict)
    """The outcome of each task that has been tried: "passed", or "failed" at the last check."""
    seconds: dict[int, float] = field(default_factory=lambda: dict.fromkeys(LESSONS, 0.0))
    """The time spent on each lesson, breaks left out."""
    seen: float = 0.0
    """When a cell ran last, in seconds since 1970."""

    @property
    def passed(self) -> set[str]:
        """The tasks solved so far."""
        return {name for name, outcome in self.tasks.items() if outcome == "passed"}

    def work(self, lesson: int) -> None:
        """Count the time since the last cell, in whatever notebook, as spent on this lesson, unless it was a break."""
        now = time()
        if 0 < now - self.seen < BREAK:
            self.seconds[lesson] += now - self.seen
        self.seen = now


def load() -> Journal:
    """What is kept. A file that is missing or damaged counts as no progress."""
    with suppress(OSError, *DAMAGED):
        return _read()
    return Journal()


def record(verdict: Verdict) -> None:
    """Remember what a check found. What is solved stays so until another answer fails.

    Raises:
        OSError: if the file cannot be written.
    """
    with _changing() as journal:
        if verdict.outcome in ("passed", "failed"):
            journal.tasks[verdict.task] = verdict.outcome
        journal.work(TASKS[verdict.task].lesson)


def worked(lesson: int) -> None:
    """Count the time up to now as spent on this lesson.

    Raises:
        OSError: if the file cannot be written.
    """
    if not 0 <= time() - load().seen < STEP:
        with _changing() as journal:
            journal.work(lesson)


def forget(lesson: int) -> None:
    """Count the tasks of a lesson as not tried. The time spent on it stays.

    Raises:
        OSError: if the file cannot be written.
    """
    with _changing() as journal:
        journal.tasks = {name: outcome for name, outcome in journal.tasks.items() if TASKS[name].lesson != lesson}


@contextmanager
def _changing() -> Iterator[Journal]:
    """What is kept, to be changed by one process at a time, and written whole or, after a crash, not at all."""
    FILE.parent.mkdir(exist_ok=True)
    with open(FILE.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            journal = _read()
        except FileNotFoundError:
            journal = Journal()
        except DAMAGED:
            journal = Journal()
            os.replace(FILE, FILE.with_suffix(".damaged"))  # a person may still read what is in it
        yield journal
        seconds = {name: round(journal.seconds[number], 1) for number, (name, _) in LESSONS.items()}
        kept = {"tasks": journal.tasks, "seconds": seconds, "seen": journal.seen}
        atomic.write(FILE, json.dumps(kept, indent=1).encode())


def _read() -> Journal:
    kept = json.loads(FILE.read_text(encoding="utf-8"))
    return Journal(
        tasks={name: kept["tasks"][name] for name in TASKS if name in kept["tasks"]},
        seconds={number: float(kept["seconds"].get(name, 0)) for number, (name, _) in LESSONS.items()},
        seen=float(kept["seen"]),
    )
