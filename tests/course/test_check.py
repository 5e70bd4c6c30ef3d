"""The check cell in a live notebook: a real kernel runs the cells, and its outputs are what a learner would see."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from learning.course.tasks import ROOT

SETUP = "from langgraph.checkpoint.memory import InMemorySaver\nfrom learning.course import check"
CARD = "application/vnd.learning.check+json"


@pytest.fixture(scope="module")
def answers() -> dict[str, str]:
    """The worked answers of lesson 1, by task."""
    master = nbformat.read(ROOT / "solutions" / "01_memory.ipynb", as_version=4)
    return {
        cell.metadata["learning"]["task"]: cell.source
        for cell in master.cells
        if "answer" in cell.metadata.get("tags", [])
    }


def run(folder: Path, *cells: str, **environment: str) -> list:
    """The outputs of each cell, run in a fresh kernel whose folder is `folder`."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = NotebookClient(
        notebook, timeout=60, kernel_name="python3", allow_errors=True, resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env=os.environ | environment)
    return [cell.outputs for cell in notebook.cells]


def cards(outputs: list) -> list[dict]:
    """The cards among the outputs, as plain data."""
    return [output.data[CARD] for cell in outputs for output in cell if CARD in output.get("data", {})]


def test_a_learners_way_from_not_attempted_to_passed(tmp_path: Path, answers: dict[str, str]):
    right = answers["memory_monitoring"]
    outputs = run(
        tmp_path,
        SETUP,
        "check('memory_monitoring')",
        "class MemoryMonitor:\n    def __init__(self, saver, warn_bytes, critical_bytes):\n        raise NotImplementedError",
        "check('memory_monitoring')",
        right.replace("def sample(self):", "def sample(self:"),
        "check('memory_monitoring')",
        right.replace("(0.9 * limit if already_on else limit)", "limit"),
        "check('memory_monitoring')",
        right,
        "check('memory_monitoring')",
    )

    not_run, unwritten, broken, wrong, passed = cards(outputs)
    assert not_run["outcome"] == unwritten["outcome"] == "not attempted"
    assert broken["outcome"] == "failed"
    assert "cell In [5], line" in broken["reason"]
    lost = [each["name"] for each in wrong["behaviours"] if each["outcome"] == "failed"]
    assert wrong["outcome"] == "failed" and any("hovering" in name for name in lost) and len(lost) < 5
    assert passed["outcome"] == "passed"
    errors = [output.ename for cell in outputs for output in cell if output.output_type == "error"]
    assert errors == ["SyntaxError"], "only the learner's own broken cell may raise"


def test_a_task_that_ends_or_hangs_the_process_leaves_the_notebook_alive(tmp_path: Path, answers: dict[str, str]):
    outputs = run(
        tmp_path,
        SETUP,
        "import os\nclass MemoryMonitor:\n    def __init__(self, *args, **limits):\n        os._exit(3)",
        "check('memory_monitoring')",
        "class MemoryMonitor:\n    def __init__(self, *args, **limits):\n        while True:\n            pass",
        "check('memory_monitoring')",
        answers["memory_monitoring"],
        "check('memory_monitoring')",
    )

    ended, endless, passed = cards(outputs)
    assert "ended the Python process (exit code 3)" in ended["reason"]
    assert any("still running" in each["came"] for each in endless["behaviours"])
    assert passed["outcome"] == "passed"


def test_the_card_reads_as_html_and_as_text(tmp_path: Path, answers: dict[str, str]):
    outputs = run(tmp_path, SETUP, answers["memory_monitoring"], "check('memory_monitoring')")

    (card,) = outputs[-1]
    assert card.output_type == "display_data"
    for behaviour in card.data[CARD]["behaviours"]:
        assert behaviour["name"] in card.data["text/html"]
        assert behaviour["name"] in card.data["text/plain"]


def test_an_unknown_task_is_told_by_name(tmp_path: Path):
    outputs = run(tmp_path, SETUP, "check('memory_monitor')")

    assert outputs[-1][0].text.strip() == "There is no task 'memory_monitor'. Did you mean 'memory_monitoring'?"


def test_where_checks_have_to_pass_a_failed_one_raises(tmp_path: Path):
    outputs = run(tmp_path, SETUP, "check('memory_monitoring')", LEARNING_STRICT="1")

    assert [output.get("ename") for output in outputs[-1]][-1] == "CheckFailed"


def test_work_outside_of_notebooks_is_not_the_learners_progress(tmp_path: Path, answers: dict[str, str]):
    file = ROOT / ".learning" / "progress.json"
    before = file.read_bytes() if file.exists() else None

    run(tmp_path, SETUP, answers["memory_monitoring"], "check('memory_monitoring')")

    assert (file.read_bytes() if file.exists() else None) == before
