"""The code is formatted, and neither ruff nor mypy finds fault with it."""

import subprocess
import sys

from learning.course.tasks import ROOT

CODE = ("src", "tests", "test_learning_03.py")


def said_by(*command: str) -> str:
    """What a tool says if it is not content."""
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    return done.stdout + done.stderr if done.returncode else ""


def test_ruff_is_content():
    assert said_by("ruff", "check", *CODE) == ""
    assert said_by("ruff", "format", "--check", *CODE) == ""


def test_mypy_is_content():
    assert said_by("mypy") == ""
