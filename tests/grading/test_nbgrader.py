"""A course that runs nbgrader takes lesson 1 as it is: its own three steps, with marks that are ours."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from nbgrader.api import Gradebook

from learning.course.tasks import ROOT

from .test_grading import LESSON, TASK_NAMES, hand_in, with_answer

pytestmark = pytest.mark.xdist_group("nbgrader")  # what is graded once serves them all

LEARNER = "ben"


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A course after the three steps."""
    folder = tmp_path_factory.mktemp("nbgrader")
    (folder / "source" / "memory").mkdir(parents=True)
    shutil.copy(ROOT / "solutions" / LESSON, folder / "source" / "memory")
    hand_in(
        folder / "submitted" / LEARNER / "memory",
        notebook=with_answer("memory_monitoring", "self.level = level", "pass"),
    )
    environment = os.environ | {"LEARNING_STRICT": "1", "JUPYTER_CONFIG_DIR": str(folder / "config")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"  # it starts alembic
    for step in ("generate_assignment", "autograde", "generate_feedback"):
        command = [sys.executable, "-m", "nbgrader", step, "memory", "--ExecutePreprocessor.timeout=120"]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
    return folder


def test_a_release_has_no_answers_in_it(course: Path):
    released = (course / "release" / "memory" / LESSON).read_text(encoding="utf-8")

    assert "raise NotImplementedError" in released
    assert "BEGIN SOLUTION" not in released


def test_marks_are_ours_task_by_task(course: Path):
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        submission = gradebook.find_submission_notebook(LESSON[:-6], "memory", LEARNER)
        scores = {grade.name.removeprefix("check-"): grade.score for grade in submission.grades}

    assert scores == dict.fromkeys(TASK_NAMES, 0) | {"custom_memory_lru": 10}


def test_feedback_shows_the_cards(course: Path):
    page = next((course / "feedback" / LEARNER / "memory").glob("*.html")).read_text(encoding="utf-8")

    assert "memory_monitoring" in page
    assert "✗" in page and "✓" in page
