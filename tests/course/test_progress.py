"""The small file that remembers which tasks are solved."""

import multiprocessing
from pathlib import Path

import pytest

from learning.course import progress
from learning.course.tasks import TASKS
from learning.course.verdict import Verdict


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(progress, "FILE", tmp_path / "kept" / "progress.json")
    return progress.FILE


def test_what_passes_is_remembered_and_what_fails_later_is_not(file: Path):
    progress.record(Verdict("memory_monitoring", "passed"))
    progress.record(Verdict("memory_analytics", "passed"))
    progress.record(Verdict("memory_monitoring", "failed"))

    assert progress.passed() == {"memory_analytics"}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"passed": 3}', '{"passed": ["no_such_task"]}'])
def test_a_damaged_file_counts_as_no_progress(file: Path, content: str):
    file.parent.mkdir()
    file.write_text(content)

    assert progress.passed() == set()


def record_in_a_process(file: Path, task: str) -> None:
    progress.FILE = file
    progress.record(Verdict(task, "passed"))


def test_many_notebooks_at_once_lose_nothing(file: Path):
    with multiprocessing.get_context("fork").Pool(8) as pool:
        pool.starmap(record_in_a_process, [(file, task) for task in TASKS])

    assert progress.passed() == set(TASKS)
