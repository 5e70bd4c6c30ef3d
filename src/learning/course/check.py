"""The check cell: `check("custom_memory_lru")` runs that task's graded test on the live notebook, and shows a card."""

import difflib
import os
import tempfile
from pathlib import Path

import nbformat
from IPython import get_ipython
from IPython.display import display

from . import judge, progress
from .card import Card
from .tasks import ROOT, TASKS, Task
from .verdict import Verdict

STRICT = "LEARNING_STRICT"
"""With this environment variable set, a check that does not pass raises, so that a run of the notebook fails."""

_passed_here: set[str] = set()


class CheckFailed(Exception):
    """A check did not pass, where checks have to."""


def check(name: str) -> None:
    """Judge one task by what this notebook has run so far, and show the card.

    The same test judges the notebook on disk (`pytest test_learning_03.py`) and in grading. Here the cells count as they
    last ran: after a change, run the answer's cell again before its check.

    Raises:
        CheckFailed: only where the environment variable LEARNING_STRICT is set.
    """
    shell = get_ipython()
    if shell is None:
        print("check() judges a live notebook. In a terminal, run: pytest test_learning_03.py")
        return
    if name not in TASKS:
        guess = difflib.get_close_matches(str(name), TASKS, n=1)
        print(f"There is no task {name!r}." + (f" Did you mean {guess[0]!r}?" if guess else ""))
        return
    task = TASKS[name]
    verdict = _judge_live(task, shell.history_manager.input_hist_raw)
    if verdict.outcome == "passed":
        _passed_here.add(name)
    else:
        _passed_here.discard(name)
    if Path.cwd() == ROOT / "notebooks":
        progress.record(verdict)
        display(Card(verdict, progress.passed()))
    else:  # a worked solution, say, or a submission: not the learner's own progress
        display(Card(verdict, _passed_here))
    if os.environ.get(STRICT) and verdict.outcome != "passed":
        raise CheckFailed(f"{name}: {verdict.outcome} {verdict.reason}")


def _judge_live(task: Task, inputs: list[str]) -> Verdict:
    """The verdict on a notebook made of the cells that ran, in the order in which they ran."""
    cells = [
        nbformat.v4.new_code_cell(source, metadata={"learning": {"ran_as": f"In [{number}]"}})
        for number, source in enumerate(inputs)
    ]
    with tempfile.TemporaryDirectory() as folder:
        notebook = Path(folder) / task.notebook
        nbformat.write(nbformat.v4.new_notebook(cells=cells), notebook)
        return judge.judge(task, notebook)


if get_ipython() is not None:
    judge.warm_up()
