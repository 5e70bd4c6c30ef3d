"""Who checks an answer in the notebook, and who grades it, see the same: over the bank of wrong and right answers."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from learning.course.judge import judge
from learning.course.tasks import TASKS
from learning.course.verdict import Verdict
from learning.grading.sandbox import Sandbox

from ..course.bank import Right, Wrong
from ..course.test_bank import (  # noqa: F401 - the servers are fixtures
    ALL_ANSWERS,
    ALL_RIGHT,
    ALL_WRONG,
    SLOW,
    postgres_server,
    redis_servers,
    servers,
    with_answer,
)


def chosen() -> list[Wrong | Right]:
    """All answers, but for the slow tasks only one wrong and one right: how they are judged is the same for all."""
    if ALL_ANSWERS in os.environ:
        return [*ALL_WRONG, *ALL_RIGHT]
    quick = [each for each in [*ALL_WRONG, *ALL_RIGHT] if each.task not in SLOW]
    return quick + [
        next(each for each in bank if each.task == task) for task in SLOW for bank in (ALL_WRONG, ALL_RIGHT)
    ]


def name_of(answer: Wrong | Right) -> str:
    return f"{answer.task}: {answer.mistake if isinstance(answer, Wrong) else answer.how}"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as found:
        yield found


@pytest.mark.usefixtures("servers")
@pytest.mark.parametrize("answer", chosen(), ids=name_of)
def test_a_check_and_a_grade_agree(tmp_path: Path, sandbox: Sandbox, answer: Wrong | Right):
    def written(source: str) -> str:
        if isinstance(answer, Right):
            return answer.source
        for old, new in answer.patch.items():
            source = source.replace(old, new)
        return source

    task = TASKS[answer.task]
    notebook = with_answer(tmp_path, answer.task, written)

    checked = judge(task, notebook)
    (graded,) = sandbox.judge(notebook.name, {notebook.name: notebook.read_bytes()}, [task])

    assert outcomes(graded.verdict) == outcomes(checked)
    assert [flag.words for flag in graded.flags if flag.grave] == []


def outcomes(verdict: Verdict) -> list:
    return [verdict.outcome, *((each.name, each.outcome) for each in verdict.behaviours)]
