"""Who checks an answer in the notebook, and who grades it, see the same: over the bank of wrong and right answers."""

import json
import os
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import pytest

from learning.course.judge import judge
from learning.course.tasks import LESSONS, ROOT, TASKS
from learning.course.verdict import Verdict
from learning.grading.marks import graded_tasks
from learning.grading.sandbox import Sandbox

from ..course.bank import Right, Wrong
from ..course.test_bank import (  # noqa: F401 - the servers are fixtures
    ALL_ANSWERS,
    ALL_RIGHT,
    ALL_WRONG,
    postgres_server,
    redis_servers,
)
from .test_grading import answer_to


def handed_in() -> Iterator[tuple[int, list[Wrong | Right]]]:
    """The lessons with an answer of the bank to each task, until all answers were given; once each, unless all are
    asked for: then every other task has a wrong answer, and the others a right one.
    """
    for lesson in LESSONS:
        wrong, right = (
            [[each for each in bank if each.task == task.name] for task in graded_tasks(lesson)]
            for bank in (ALL_WRONG, ALL_RIGHT)
        )
        if ALL_ANSWERS in os.environ:
            for answers in zip_longest(*(each + other for each, other in zip(wrong, right, strict=True))):
                yield lesson, [answer for answer in answers if answer]
        else:
            yield lesson, [both[number % 2][0] for number, both in enumerate(zip(wrong, right, strict=True))]


def notebook_with(lesson: int, answers: list[Wrong | Right]) -> bytes:
    """The worked lesson, with some other answers."""
    notebook = json.loads((ROOT / "solutions" / f"{LESSONS[lesson][0]}.ipynb").read_text(encoding="utf-8"))
    for answer in answers:
        cell = answer_to(notebook, answer.task)
        cell["source"] = answer.answer("".join(cell["source"]))
    return json.dumps(notebook).encode()


@pytest.mark.parametrize(("lesson", "answers"), list(handed_in()))
def test_a_check_and_a_grade_agree(
    request: pytest.FixtureRequest, tmp_path: Path, sandbox: Sandbox, lesson: int, answers: list[Wrong | Right]
):
    if servers := {2: "redis_servers", 3: "postgres_server"}.get(lesson):
        request.getfixturevalue(servers)
    tasks = [TASKS[answer.task] for answer in answers]
    notebook = tmp_path / tasks[0].notebook
    notebook.write_bytes(notebook_with(lesson, answers))

    graded = sandbox.judge(notebook.name, {notebook.name: notebook.read_bytes()}, tasks)

    for answer, task, each in zip(answers, tasks, graded, strict=True):
        assert outcomes(answer, each.verdict) == outcomes(answer, judge(task, notebook))
    assert [(each.verdict.task, flag.words) for each in graded for flag in each.flags if flag.grave] == []


def outcomes(answer: Wrong | Right, verdict: Verdict) -> list:
    """What is the same each time: a wrong answer may lose more than it must, by chance."""
    certain = answer.loses if isinstance(answer, Wrong) else ("",)
    behaviours = [(each.name, each.outcome) for each in verdict.behaviours if each.name.startswith(certain)]
    return [verdict.task, verdict.outcome, *behaviours]
