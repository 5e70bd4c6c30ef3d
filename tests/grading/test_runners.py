"""A class judged in several ways earns the same: one after another, several at a time, on a Dask cluster."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import LocalCluster

from learning.course.judge import JudgeError
from learning.course.tasks import TASKS
from learning.grading import batch, runners
from learning.grading import sandbox as sandboxes
from learning.grading.isolation import SWITCH, Isolation, isolation
from learning.grading.runners import Runner, judge_on_worker, on_dask, on_this_machine
from learning.grading.sandbox import Judged, Sandbox
from learning.grading.submissions import GradingError

from .test_grading import LESSON, hand_in, rows, with_answer, worked

pytestmark = pytest.mark.xdist_group("runners")  # what is graded once serves them all

CLASS = {
    "ana": worked(),
    "ben": with_answer("memory_monitoring", "self.level = level", "pass"),
    "cem": with_answer("custom_memory_lru", "def put(", "def put(("),
    "dee": with_answer("memory_monitoring", "self.saver = saver", "import os; os._exit(0)"),
}


@pytest.fixture(scope="module")
def submissions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("class")
    for learner, notebook in CLASS.items():
        hand_in(folder / learner, notebook=notebook)
    return folder


@pytest.fixture(scope="module")
def one_at_a_time(submissions: Path, runner: Runner, tmp_path_factory) -> dict[str, dict[str, str]]:
    return rows(batch.grade(submissions, tmp_path_factory.mktemp("one"), lessons=[1], runner=runner))


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as found:
        yield found


def test_several_at_a_time(submissions: Path, one_at_a_time, tmp_path: Path):
    graded = rows(batch.grade(submissions, tmp_path / "grades", lessons=[1], runner=on_this_machine(2)))

    assert graded == one_at_a_time
    assert [float(row["total"]) for row in graded.values()] == [20.0, 12.0, 10.0, 10.0]


def test_on_a_cluster_of_two_workers(submissions: Path, one_at_a_time, tmp_path: Path, cluster: LocalCluster):
    runner = on_dask(cluster.scheduler_address)

    assert rows(batch.grade(submissions, tmp_path / "grades", lessons=[1], runner=runner)) == one_at_a_time


def test_a_cluster_that_is_not_there_is_told(submissions: Path, tmp_path: Path):
    with pytest.raises(GradingError, match=r"No Dask scheduler answers at tcp://127\.0\.0\.1:1"):
        batch.grade(submissions, tmp_path / "grades", lessons=[1], runner=on_dask("tcp://127.0.0.1:1"))


def test_without_dask_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(GradingError, match=r"--scheduler needs Dask: pip install .*\[dask\]"):
        on_dask("tcp://127.0.0.1:1")


def test_what_a_worker_answers_is_plain_and_what_the_sandbox_said(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch):
    files, task = {LESSON: json.dumps(CLASS["ben"]).encode()}, "memory_monitoring"
    monkeypatch.setattr(runners._here, "sandbox", sandbox, raising=False)
    [told] = json.loads(json.dumps(judge_on_worker(LESSON, files, [task])))
    judged = Judged.from_json(told)
    assert (judged.verdict.task, judged.verdict.outcome) == (task, "failed")
    assert judged.to_json() == told


def test_a_grading_that_is_stopped_judges_nothing_more():
    with Sandbox() as stopped, pytest.raises(JudgeError, match="The grading was stopped"):
        files = {LESSON: json.dumps(CLASS["ana"]).encode()}
        stopped.judge(LESSON, files, [TASKS["memory_monitoring"]], lambda task: stopped.close())


def test_a_sandbox_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sandboxes, "enclosed", lambda command: ["false"])
    with Sandbox() as broken, pytest.raises(JudgeError, match=r"does not work|no sandbox|ended"):
        broken.judge(LESSON, {LESSON: b"{}"}, [TASKS["memory_monitoring"]])


def test_in_landlock(submissions: Path, one_at_a_time, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(SWITCH, Isolation.LANDLOCK)
    isolation.cache_clear()
    try:
        if isolation() is not Isolation.LANDLOCK:
            pytest.skip("there is no Landlock here")
        assert rows(batch.grade(submissions, tmp_path / "grades", lessons=[1])) == one_at_a_time
    finally:
        isolation.cache_clear()
