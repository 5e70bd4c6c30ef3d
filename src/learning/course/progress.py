"""Which tasks the learner has solved so far: one small file beside the course, kept by the check cells."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

from .tasks import ROOT, TASKS
from .verdict import Verdict

FILE = ROOT / ".learning" / "progress.json"


def passed() -> set[str]:
    """The tasks solved so far."""
    try:
        return TASKS.keys() & set(json.loads(FILE.read_text(encoding="utf-8"))["passed"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def record(verdict: Verdict) -> None:
    """Remember whether the task is solved now. Two notebooks may do so at once; a crash leaves a whole file."""
    with _lock():
        names = passed() - {verdict.task} | ({verdict.task} if verdict.outcome == "passed" else set())
        draft = FILE.with_suffix(".new")
        draft.write_text(json.dumps({"passed": sorted(names)}, indent=1) + "\n", encoding="utf-8")
        os.replace(draft, FILE)


@contextmanager
def _lock() -> Iterator[None]:
    FILE.parent.mkdir(exist_ok=True)
    with open(FILE.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
