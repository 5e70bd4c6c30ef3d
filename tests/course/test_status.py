"""What a learner is told of the whole course, in a notebook and in a terminal; and how to start a lesson afresh."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from IPython.core.formatters import DisplayFormatter
from typer.testing import CliRunner

from learning.cli import app
from learning.course import build, progress, tasks
from learning.course.look import WIDTH
from learning.course.progress import Journal
from learning.course.status import StatusCard
from learning.course.tasks import LESSONS, ROOT, TASKS, Task
from learning.course.verdict import Verdict

from .test_card import ALLOWED_ATTRIBUTES, ALLOWED_PROPERTIES, ALLOWED_TAGS, Page

BEGUN = Journal(
    {"custom_memory_lru": "passed", "memory_monitoring": "failed"}, {**dict.fromkeys(LESSONS, 0.0), 1: 4000}
)


@pytest.fixture(autouse=True)
def every_lesson_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Task, "available", True)


def shown(journal: Journal) -> tuple[Page, str]:
    data, _ = DisplayFormatter().format(StatusCard(journal))
    return Page(data["text/html"]), data["text/plain"]


@pytest.mark.parametrize("form", [0, 1])
def test_every_lesson_and_every_task_is_told_in_order(form: int):
    said = shown(BEGUN)[form]
    text = said if form else said.text
    names = [
        name for lesson in LESSONS for name in (LESSONS[lesson][1], *(t for t in TASKS if TASKS[t].lesson == lesson))
    ]
    place = 0
    for name in names:
        place = text.index(name, place)
    assert "1 of 24 tasks solved, 1 h 7 min spent" in text
    assert "1 of 4, 1 h 7 min" in text and "0 of 5, 0 min" in text
    for mark in ("✓ custom_memory_lru", "✗ memory_monitoring", "○ memory_compression"):
        assert mark in text
    assert "Next: memory_monitoring, in notebooks/01_memory.ipynb" in text


def test_a_terminal_s_lines_are_not_too_long_and_no_mark_is_torn_from_its_task():
    lines = str(StatusCard(BEGUN)).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert not any(line.endswith(("✓", "✗", "○")) for line in lines)


def test_nothing_is_lost_in_an_untrusted_notebook():
    page, _ = shown(BEGUN)
    assert set(page.tags) <= ALLOWED_TAGS
    assert {name for name, _ in page.attributes} <= ALLOWED_ATTRIBUTES
    declarations = [each.partition(":") for style in page.styles for each in style.split(";")]
    assert {name for name, _, _ in declarations} <= ALLOWED_PROPERTIES


def test_the_end_of_the_course_is_told():
    assert "the course is complete" in str(StatusCard(Journal(dict.fromkeys(TASKS, "passed"))))


def test_what_is_not_here_is_not_next(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Task, "available", property(lambda task: task.lesson == 1))
    solved = {name: "passed" for name, task in TASKS.items() if task.lesson == 1}
    assert "All tasks that are here are solved." in str(StatusCard(Journal(solved)))


# --- the commands -----------------------------------------------------------------------------------------------------


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lesson 1 in a folder of its own, with its progress."""
    for folder in ("solutions", "notebooks"):
        (tmp_path / folder).mkdir()
    shutil.copy(ROOT / "solutions" / "01_memory.ipynb", tmp_path / "solutions")
    build.build(tmp_path)
    monkeypatch.setattr(tasks, "ROOT", tmp_path)
    monkeypatch.setattr(progress, "FILE", tmp_path / ".learning" / "progress.json")
    return tmp_path


def learning(*arguments: str):
    return CliRunner().invoke(app, arguments)


def test_the_terminal_tells_the_same_as_the_card(course: Path):
    progress.record(Verdict("memory_monitoring", "passed"))
    assert learning("status").stdout.rstrip("\n") == str(StatusCard(progress.load()))


def test_status_outside_a_notebook_is_text():
    code = "from learning.course import status; status()"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith("Your progress: ")


def test_reset_puts_the_starter_back_and_keeps_what_was_there(course: Path):
    notebook = course / "notebooks" / "01_memory.ipynb"
    starter = notebook.read_bytes()
    for number, work in enumerate((b"my work", b"more of it"), start=1):
        notebook.write_bytes(work)
        result = learning("reset", "1")

        assert result.exit_code == 0
        assert f"kept as notebooks/01_memory.kept-{number}.ipynb" in result.stdout
        assert notebook.read_bytes() == starter
    assert (course / "notebooks" / "01_memory.kept-1.ipynb").read_bytes() == b"my work"
    assert (course / "notebooks" / "01_memory.kept-2.ipynb").read_bytes() == b"more of it"


def test_reset_keeps_outputs_as_well(course: Path):
    notebook = course / "notebooks" / "01_memory.ipynb"
    run = json.loads(notebook.read_text())
    run["cells"][1]["execution_count"] = 1
    notebook.write_text(json.dumps(run))

    assert "kept" in learning("reset", "01_memory").stdout


def test_reset_of_an_untouched_lesson_keeps_no_copy(course: Path):
    assert "kept" not in learning("reset", "1").stdout
    assert [path.name for path in (course / "notebooks").iterdir()] == ["01_memory.ipynb"]


def test_reset_brings_back_a_notebook_that_is_gone(course: Path):
    notebook = course / "notebooks" / "01_memory.ipynb"
    starter = notebook.read_bytes()
    notebook.unlink()
    assert learning("reset", "1").exit_code == 0
    assert notebook.read_bytes() == starter


def test_reset_forgets_that_the_lesson_was_solved(course: Path):
    progress.record(Verdict("memory_monitoring", "passed"))
    progress.record(Verdict("redis_cluster", "passed"))
    learning("reset", "1")
    assert progress.load().passed == {"redis_cluster"}


@pytest.mark.parametrize(
    ("asked", "says"),
    [("7", "There is no lesson '7'. The lessons are 01_memory"), ("2", "solutions/02_redis.ipynb is missing")],
)
def test_a_lesson_that_cannot_be_reset_is_an_error_that_helps(course: Path, asked: str, says: str):
    result = learning("reset", asked)
    assert result.exit_code == 2
    assert says in result.stderr
