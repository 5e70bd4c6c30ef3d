"""The check cell in a live notebook: a real kernel runs the cells, and its outputs are what a learner would see."""

import os
from pathlib import Path

import nbformat
import pytest

from learning.course.tasks import ROOT

from ..kernels import client_for

SETUP = "from langgraph.checkpoint.memory import InMemorySaver\nfrom learning.course import check"
pytestmark = pytest.mark.xdist_group("check")  # what a learner saw in one kernel serves them all

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
    client = client_for(
        notebook, kernel_name="python3", allow_errors=True, resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env=os.environ | environment)
    return [cell.outputs for cell in notebook.cells]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory, answers: dict[str, str]) -> dict[str, list]:
    """What a learner saw who tried everything in one kernel, by what was tried."""
    head = "import os\nclass MemoryMonitor:\n    def __init__(self, *args, **limits):\n        "
    right = answers["memory_monitoring"]
    tried = {
        "nothing": "# not written yet",
        "a starter": head + "raise NotImplementedError",
        "a syntax error": right.replace("def sample(self):", "def sample(self:"),
        "an exit": head + "os._exit(3)",
        "an endless loop": head + "while True:\n            pass",
        "a wrong answer": right.replace("(0.9 * limit if already_on else limit)", "limit"),
        "a right answer": right,
    }
    cells = [SETUP, "check('memory_monitor')"]
    for source in tried.values():
        cells += [source, "check('memory_monitoring')"]
    outputs = run(tmp_path_factory.mktemp("session"), *cells)
    return {
        "a misspelt task": outputs[1],
        **dict(zip(tried, outputs[3::2], strict=True)),
        "all": [output for each in outputs for output in each],
    }


def card(outputs: list) -> dict:
    """The one card that a check cell shows, as plain data."""
    (output,) = outputs
    assert output.output_type == "display_data"
    return output.data[CARD]


@pytest.mark.parametrize("tried", ["nothing", "a starter"])
def test_what_is_not_attempted_is_called_so(session: dict[str, list], tried: str):
    assert card(session[tried])["outcome"] == "not attempted"


@pytest.mark.parametrize(
    ("tried", "says"),
    [
        ("a syntax error", "cell In [7], line"),
        ("an exit", "ended the Python process (exit code 3)"),
    ],
)
def test_an_answer_that_cannot_be_judged_is_told_why(session: dict[str, list], tried: str, says: str):
    assert card(session[tried])["outcome"] == "failed"
    assert says in card(session[tried])["reason"]


def test_an_endless_loop_is_told_where_it_loops(session: dict[str, list]):
    looping = card(session["an endless loop"])["behaviours"][0]

    assert "still running after" in looping["came"]
    assert looping["where"].endswith("while True:") or looping["where"].endswith("pass")


def test_a_wrong_answer_loses_what_it_misses_and_no_more(session: dict[str, list]):
    outcomes = {each["name"]: each["outcome"] for each in card(session["a wrong answer"])["behaviours"]}

    assert card(session["a wrong answer"])["outcome"] == "failed"
    assert outcomes.pop("hovering at a limit gives no more alerts") == "failed"
    assert "passed" in outcomes.values()


def test_a_right_answer_passes_after_all_that_went_wrong_before(session: dict[str, list]):
    shown = session["a right answer"][0].data

    assert shown[CARD]["outcome"] == "passed"
    assert shown[CARD]["progress"]["lesson_passed"] == 1
    for behaviour in shown[CARD]["behaviours"]:
        assert behaviour["name"] in shown["text/html"]
        assert behaviour["name"] in shown["text/plain"]


def test_nothing_raises_but_the_learners_own_syntax_error(session: dict[str, list]):
    assert [output.ename for output in session["all"] if output.output_type == "error"] == ["SyntaxError"]


def test_a_misspelt_task_is_told_by_name(session: dict[str, list]):
    (said,) = session["a misspelt task"]

    assert said.text.strip() == "There is no task 'memory_monitor'. Did you mean 'memory_monitoring'?"


def test_where_checks_have_to_pass_a_failed_one_raises(tmp_path: Path):
    outputs = run(tmp_path, SETUP, "check('memory_monitoring')", LEARNING_STRICT="1")

    assert [output.get("ename") for output in outputs[-1]][-1] == "CheckFailed"
