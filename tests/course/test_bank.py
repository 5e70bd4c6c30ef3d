"""The graded tests are tested: worked and other right answers keep all marks, wrong ones lose theirs and learn why."""

import json
from pathlib import Path

import nbformat
import pytest

from learning.course.judge import judge
from learning.course.tasks import ROOT, TASKS

from .bank import RIGHT, WRONG, Right, Wrong


def with_answer(folder: Path, task: str, change) -> Path:
    """The worked lesson, with the answer to one task changed."""
    master = nbformat.read(ROOT / "solutions" / TASKS[task].notebook, as_version=4)
    for cell in master.cells:
        if cell.metadata.get("learning", {}).get("task") == task and "answer" in cell.metadata.get("tags", []):
            cell.source = change(cell.source)
    notebook = folder / TASKS[task].notebook
    nbformat.write(master, notebook)
    return notebook


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: f"{wrong.task}: {wrong.mistake}")
def test_a_wrong_answer_loses_its_mark_and_learns_why(tmp_path: Path, wrong: Wrong):
    def patched(source: str) -> str:
        for old, new in wrong.patch.items():
            assert source.count(old) == 1, f"the worked answer has changed: {old!r} is there {source.count(old)} times"
            source = source.replace(old, new)
        return source

    verdict = judge(TASKS[wrong.task], with_answer(tmp_path, wrong.task, patched))

    assert verdict.outcome == "failed"
    lost = [each for each in verdict.behaviours if each.outcome == "failed"]
    for beginning in wrong.loses:
        assert any(each.name.startswith(beginning) for each in lost), f"{beginning!r} should be lost, not only {lost}"
    told = json.dumps([[each.expected, each.came, each.idea] for each in lost], ensure_ascii=False)
    for words in wrong.says:
        assert words in told


@pytest.mark.parametrize("right", RIGHT, ids=lambda right: f"{right.task}: {right.how}")
def test_a_right_answer_written_differently_keeps_all_marks(tmp_path: Path, right: Right):
    verdict = judge(TASKS[right.task], with_answer(tmp_path, right.task, lambda _: right.source))

    assert [each for each in verdict.behaviours if each.outcome != "passed"] == []
    assert verdict.outcome == "passed", verdict.reason


def test_each_task_that_is_judged_has_three_wrong_answers_and_two_right_ones():
    for task in {wrong.task for wrong in WRONG}:
        assert sum(wrong.task == task for wrong in WRONG) >= 3
        assert sum(right.task == task for right in RIGHT) >= 2
