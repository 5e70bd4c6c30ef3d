"""The check cell: `check("custom_memory_lru")` runs that task's graded test on the live notebook, and shows a card."""

import difflib
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from IPython import get_ipython
from IPython.display import display

from . import judge, progress
from .card import Card
from .tasks import LESSONS, ROOT, TASKS, Task
from .verdict import Verdict

STRICT = "LEARNING_STRICT"
"""With this environment variable set, a check that does not pass raises, so that a run of the notebook fails."""

_ran: list[tuple[str, str]] = []
"""What to call each cell that ran in this kernel, and its source."""

_passed_here: set[str] = set()


class CheckFailed(Exception):
    """A check did not pass, where checks have to."""


def check(name: str) -> None:
    """Judge one task by what this notebook has run so far, and show the card.

    The same test judges the notebook on disk (`pytest test_learning_03.py`) and in grading. Here the cells count as
    they last ran: after a change, run the answer's cell again before its check.

    Raises:
        CheckFailed: only where the environment variable LEARNING_STRICT is set.
    """
    shell = get_ipython()
    if shell is None:
        print("check() judges a live notebook. In a terminal, run: pytest test_learning_03.py")
        return
    if str(name) not in TASKS:
        guess = difflib.get_close_matches(str(name), TASKS, n=1)
        print(f"There is no task {name!r}." + (f" Did you mean {guess[0]!r}?" if guess else ""))
        return
    task = TASKS[name]
    try:
        verdict = _judge_live(task)
    except judge.JudgeError as error:
        print(f"{name} could not be judged, and your answer is not the reason. Look at `learning doctor`.\n{error}")
        return
    if verdict.outcome == "passed":
        _passed_here.add(name)
    else:
        _passed_here.discard(name)
    if _here() == ROOT / "notebooks":
        try:
            progress.record(verdict)
        except OSError as error:
            print(f"Your progress could not be written to {progress.FILE}: {error.strerror}. The card is right.")
        display(Card(verdict, progress.load().passed))
    else:  # a worked solution, say, or a submission: not the learner's own progress
        display(Card(verdict, _passed_here))
    if os.environ.get(STRICT) and verdict.outcome != "passed":
        raise CheckFailed(f"{name}: {verdict.reason or verdict.outcome}")


def _judge_live(task: Task) -> Verdict:
    """The verdict on a notebook made of the cells that ran, in the order in which they ran."""
    cells = [
        {"cell_type": "code", "source": source, "metadata": {"learning": {"ran_as": label}}} for label, source in _ran
    ]
    with tempfile.TemporaryDirectory() as folder:
        notebook = Path(folder) / task.notebook
        notebook.write_text(json.dumps({"cells": cells}), encoding="utf-8")
        return judge.judge(task, notebook, folder=_here())


def _here() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:  # somebody has removed the kernel's folder
        return ROOT


def _remember(result: Any) -> None:
    """Note a cell that has run. IPython's own history lacks those that a tool ran without history, as nbval does."""
    _ran.append((f"In [{result.execution_count or '-'}]", result.info.raw_cell))
    lesson = _lesson_open()
    if lesson:
        with suppress(OSError):  # a check will tell
            progress.worked(lesson)


def _lesson_open() -> int | None:
    """The lesson of the learner's that this kernel was started for, as Jupyter tells it; other programs do not."""
    notebook = Path(os.environ.get("JPY_SESSION_NAME", ""))
    if notebook.parent != ROOT / "notebooks":
        return None
    return next((number for number, (name, _) in LESSONS.items() if name == notebook.stem), None)


def _start(shell: Any) -> None:
    """Note what has run and what will, and get ready to judge before the first check."""
    _ran.extend((f"In [{number}]", source) for number, source in enumerate(shell.history_manager.input_hist_raw))
    shell.events.register("post_run_cell", _remember)
    judge.warm_up()


if get_ipython() is not None:
    _start(get_ipython())
