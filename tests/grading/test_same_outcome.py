"""Who checks an answer in the notebook, and who grades it, see the same: over the bank of wrong and right answers."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from learning.course.judge import judge
from learning.course.tasks import TASKS
from learning.grading.sandbox import Sandbox

from ..course.bank import RIGHT, WRONG
from ..course.bank_redis import RIGHT_REDIS, WRONG_REDIS
from ..course.test_bank import with_answer

BREAKS_SERVERS = {"redis_cluster", "redis_monitoring"}
"""Judging them takes long, and one of each kind shows as much: `test_bank` takes a part of them too."""

ANSWERS = [*WRONG, *RIGHT, *(each for each in WRONG_REDIS + RIGHT_REDIS if each.task not in BREAKS_SERVERS)]
ANSWERS += [
    next(each for each in bank if each.task == task)
    for task in sorted(BREAKS_SERVERS)
    for bank in (WRONG_REDIS, RIGHT_REDIS)
]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as found:
        yield found


@pytest.mark.parametrize(
    "answer", ANSWERS, ids=lambda answer: f"{answer.task}: {getattr(answer, 'how', '') or answer.mistake}"
)
def test_a_check_and_a_grade_agree(tmp_path: Path, sandbox: Sandbox, answer):
    def written(source: str) -> str:
        if hasattr(answer, "source"):
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
    assert json.dumps(graded.to_json())


def outcomes(verdict) -> list:
    return [verdict.outcome, *((each.name, each.outcome) for each in verdict.behaviours)]
