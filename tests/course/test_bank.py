"""The graded tests are tested: worked and other right answers keep all marks, wrong ones lose theirs and learn why."""

import json
import os
from pathlib import Path

import nbformat
import pytest

from learning import services
from learning.course.judge import judge
from learning.course.tasks import ROOT, TASKS

from .bank import RIGHT, WRONG, Right, Wrong
from .bank_custom import RIGHT_CUSTOM, WRONG_CUSTOM
from .bank_migration import RIGHT_MIGRATION, WRONG_MIGRATION
from .bank_postgres import RIGHT_POSTGRES, WRONG_POSTGRES
from .bank_redis import RIGHT_REDIS, WRONG_REDIS

ALL_WRONG = WRONG + WRONG_REDIS + WRONG_POSTGRES + WRONG_CUSTOM + WRONG_MIGRATION
ALL_RIGHT = RIGHT + RIGHT_REDIS + RIGHT_POSTGRES + RIGHT_CUSTOM + RIGHT_MIGRATION

ALL_ANSWERS = "LEARNING_ALL_ANSWERS"
"""With this environment variable set, all wrong answers are judged: which takes a quarter of an hour."""

FEW = 5
"""How many of each task's wrong answers are judged else, at most: from the first to the last, evenly."""


def chosen(answers: list[Wrong]) -> list[Wrong]:
    """The wrong answers to judge."""
    if ALL_ANSWERS in os.environ:
        return answers
    found = []
    for task in TASKS:
        of_task = [answer for answer in answers if answer.task == task]
        found += of_task[:: -(-len(of_task) // FEW) or 1]
    return found


@pytest.fixture(scope="module")
def redis_servers():
    """One Redis and one cluster for all answers of lesson 2: what is judged finds them in the environment."""
    with services.redis() as redis, services.redis_cluster() as cluster, pytest.MonkeyPatch.context() as environment:
        for name, value in (redis.environment | cluster.environment).items():
            environment.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def postgres_server():
    """One PostgreSQL for all answers of lesson 3."""
    with services.postgres() as postgres, pytest.MonkeyPatch.context() as environment:
        environment.setenv("DATABASE_URL", postgres.url)
        yield


@pytest.fixture
def servers(request: pytest.FixtureRequest, answer: Wrong | Right):
    """What the answer is judged on: nothing for lesson 1."""
    if name := {2: "redis_servers", 3: "postgres_server"}.get(TASKS[answer.task].lesson):
        request.getfixturevalue(name)


def handed_in(folder: Path, answer: Wrong | Right) -> Path:
    """The worked lesson, with this answer to its task."""
    master = nbformat.read(ROOT / "solutions" / TASKS[answer.task].notebook, as_version=4)
    for cell in master.cells:
        if cell.metadata.get("learning", {}).get("task") == answer.task and "answer" in cell.metadata.get("tags", []):
            cell.source = answer.answer(cell.source)
    notebook = folder / TASKS[answer.task].notebook
    nbformat.write(master, notebook)
    return notebook


@pytest.mark.usefixtures("servers")
@pytest.mark.parametrize("answer", chosen(ALL_WRONG), ids=lambda wrong: f"{wrong.task}: {wrong.mistake}")
def test_a_wrong_answer_loses_its_mark_and_learns_why(tmp_path: Path, answer: Wrong):
    verdict = judge(TASKS[answer.task], handed_in(tmp_path, answer))

    assert verdict.outcome == "failed"
    lost = [each for each in verdict.behaviours if each.outcome == "failed"]
    for beginning in answer.loses:
        assert any(each.name.startswith(beginning) for each in lost), f"{beginning!r} should be lost, not only {lost}"
    told = json.dumps([[each.expected, each.came, each.idea] for each in lost], ensure_ascii=False)
    for words in answer.says:
        assert words in told


@pytest.mark.usefixtures("servers")
@pytest.mark.parametrize("answer", ALL_RIGHT, ids=lambda right: f"{right.task}: {right.how}")
def test_a_right_answer_written_differently_keeps_all_marks(tmp_path: Path, answer: Right):
    verdict = judge(TASKS[answer.task], handed_in(tmp_path, answer))

    assert [each for each in verdict.behaviours if each.outcome != "passed"] == []
    assert verdict.outcome == "passed", verdict.reason


def test_each_task_that_is_judged_has_three_wrong_answers_and_two_right_ones():
    for task in {wrong.task for wrong in ALL_WRONG}:
        assert sum(wrong.task == task for wrong in ALL_WRONG) >= 3
        assert sum(right.task == task for right in ALL_RIGHT) >= 2
