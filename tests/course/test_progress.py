"""The small file that remembers which tasks are solved, and how long the learner was at work."""

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from learning.course import progress
from learning.course.tasks import LESSONS, TASKS
from learning.course.verdict import Verdict

NOON = 1_790_000_000.0


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(progress, "FILE", tmp_path / "kept" / "progress.json")
    return progress.FILE


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    """Sets what time it is, in seconds after noon."""

    def at(seconds: float) -> None:
        monkeypatch.setattr(progress, "time", lambda: NOON + seconds)

    at(0)
    return at


# --- tasks ------------------------------------------------------------------------------------------------------------


def test_what_passes_is_remembered_and_what_fails_later_is_not(file: Path):
    progress.record(Verdict("memory_monitoring", "passed"))
    progress.record(Verdict("memory_analytics", "passed"))
    progress.record(Verdict("memory_monitoring", "failed"))

    assert progress.load().passed == {"memory_analytics"}
    assert progress.load().tasks == {"memory_monitoring": "failed", "memory_analytics": "passed"}


@pytest.mark.parametrize("outcome", ["not attempted", "not judged"])
def test_an_answer_that_was_not_run_today_takes_nothing_back(file: Path, outcome: str):
    progress.record(Verdict("memory_monitoring", "passed"))
    progress.record(Verdict("memory_monitoring", outcome))
    progress.record(Verdict("memory_analytics", outcome))

    assert progress.load().tasks == {"memory_monitoring": "passed"}


def test_a_lesson_that_is_forgotten_counts_as_not_tried_and_the_others_stay(file: Path, clock):
    for name in TASKS:
        progress.record(Verdict(name, "passed"))
    clock(60)
    progress.worked(1)
    progress.forget(1)

    assert progress.load().passed == {name for name, task in TASKS.items() if task.lesson != 1}
    assert progress.load().seconds[1] == 60


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"tasks": 3}', '{"tasks": {}, "seconds": [], "seen": 0}', '{"tasks": {"no_such_task": "passed"}}'],
)
def test_a_damaged_file_counts_as_no_progress_and_is_kept_beside_the_new_one(file: Path, content: str):
    file.parent.mkdir()
    file.write_text(content)

    assert progress.load() == progress.Journal()
    progress.record(Verdict("memory_monitoring", "passed"))
    assert progress.load().passed == {"memory_monitoring"}
    assert file.with_suffix(".damaged").read_text() == content


# --- time -------------------------------------------------------------------------------------------------------------


def test_time_counts_from_cell_to_cell_and_breaks_do_not(file: Path, clock):
    for moment in (0, 60, 300, 300 + progress.BREAK + 1, 300 + progress.BREAK + 101):
        clock(moment)
        progress.worked(2)

    assert progress.load().seconds == {**dict.fromkeys(LESSONS, 0.0), 2: 400}


def test_two_notebooks_side_by_side_share_the_time_that_passes(file: Path, clock):
    for moment, lesson in [(0, 1), (100, 2), (150, 1)]:
        clock(moment)
        progress.worked(lesson)

    assert (progress.load().seconds[1], progress.load().seconds[2]) == (50, 100)


def test_a_run_of_all_cells_does_not_write_for_each(file: Path, clock):
    progress.worked(1)
    written = file.stat().st_ino
    clock(progress.STEP - 1)
    progress.worked(1)
    assert file.stat().st_ino == written

    clock(progress.STEP)
    progress.worked(1)
    assert progress.load().seconds[1] == progress.STEP


def test_a_check_counts_the_time_as_well(file: Path, clock):
    progress.worked(1)
    clock(90)
    progress.record(Verdict("memory_monitoring", "failed"))

    assert progress.load().seconds[1] == 90


def test_a_clock_that_was_put_back_takes_no_time_away(file: Path, clock):
    for moment in (0, 60, -3600, -3540):
        clock(moment)
        progress.worked(1)

    assert progress.load().seconds[1] == 120


# --- two at once, and crashes -----------------------------------------------------------------------------------------


def in_a_process(step) -> int:
    """Take a step in a process of its own; returns its exit code."""
    process = multiprocessing.get_context("fork").Process(target=step)
    process.start()
    process.join()
    return process.exitcode


def record_in_a_process(file: Path, task: str) -> None:
    progress.FILE = file
    progress.record(Verdict(task, "passed"))


def test_many_notebooks_at_once_lose_nothing(file: Path):
    with multiprocessing.get_context("fork").Pool(8) as pool:
        pool.starmap(record_in_a_process, [(file, task) for task in TASKS])

    assert progress.load().passed == set(TASKS)


def test_two_kernels_that_write_all_the_time_lose_nothing(file: Path):
    halves = [list(TASKS)[::2], list(TASKS)[1::2]]
    context = multiprocessing.get_context("fork")
    writers = [
        context.Process(target=lambda names=names: [record_in_a_process(file, name) for name in names * 20])
        for names in halves
    ]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        if file.exists():
            json.loads(file.read_text())  # whole, whenever it is read
    for writer in writers:
        writer.join()

    assert [writer.exitcode for writer in writers] == [0, 0]
    assert progress.load().passed == set(TASKS)


def die(*_) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("at", ["fsync", "replace"])
def test_a_kernel_that_is_killed_while_it_writes_leaves_what_was_there(file: Path, monkeypatch, at: str):
    progress.record(Verdict("memory_monitoring", "passed"))
    before = file.read_text()

    def killed() -> None:
        monkeypatch.setattr(os, at, die)
        progress.record(Verdict("memory_analytics", "passed"))

    assert in_a_process(killed) == -signal.SIGKILL
    assert file.read_text() == before

    progress.record(Verdict("memory_compression", "passed"))  # no lock is left, and the draft is no hindrance
    assert progress.load().passed == {"memory_monitoring", "memory_compression"}
