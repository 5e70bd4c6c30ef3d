"""The same submissions of lesson 1 graded by `learning grade` and by nbgrader: how long each takes."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from learning.course.starters import has_tag, starter_source
from learning.course.tasks import LESSONS, ROOT

NAME = f"{LESSONS[1][0]}.ipynb"
ASSIGNMENT = "memory"


class BenchError(Exception):
    """It cannot be measured. The message says why."""


def measure(submissions: int, jobs: int) -> dict[str, float]:
    """The seconds that each took, by name: ours, nbgrader, ours again with nothing changed.

    Raises:
        BenchError: if nbgrader is not here, or one of the two fails.
    """
    if find_spec("nbgrader") is None:
        raise BenchError("nbgrader is not here: pip install -c constraints.txt -e '.[test]'")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(submissions):
            for place in (
                folder / "class" / f"learner{number}",
                folder / "submitted" / f"learner{number}" / ASSIGNMENT,
            ):
                place.mkdir(parents=True)
                (place / NAME).write_text(json.dumps(_submission(number)), encoding="utf-8")
        (folder / "source" / ASSIGNMENT).mkdir(parents=True)
        shutil.copy(ROOT / "solutions" / NAME, folder / "source" / ASSIGNMENT)
        ours = [sys.executable, "-m", "learning.cli", "grade", "class", "--out", "grades", "--lesson", "1"]
        _seconds(folder, [sys.executable, "-m", "nbgrader", "generate_assignment", ASSIGNMENT])
        theirs = [sys.executable, "-m", "nbgrader", "autograde", ASSIGNMENT, "--ExecutePreprocessor.timeout=120"]
        return {
            f"learning grade --jobs {jobs}": _seconds(folder, [*ours, "--jobs", str(jobs)]),
            "nbgrader autograde": _seconds(folder, theirs),
            "learning grade, again": _seconds(folder, ours),
        }


def _submission(number: int) -> dict:
    """The worked lesson, in which one task of four is left as it came, and nothing is quite like another's."""
    notebook = json.loads((ROOT / "solutions" / NAME).read_text(encoding="utf-8"))
    answers = [cell for cell in notebook["cells"] if has_tag(cell, "answer")]
    for place, cell in enumerate(answers):
        source = f"# learner {number}\n" + "".join(cell["source"])
        cell["source"] = starter_source(source, cell["metadata"]["learning"]["task"]) if place == number % 5 else source
    return notebook


def _seconds(folder: Path, command: list[str]) -> float:
    beside = Path(sys.executable).parent  # nbgrader starts a program that lies there
    environment = os.environ | {"LEARNING_STRICT": "1", "PATH": f"{beside}:{os.environ.get('PATH', '')}"}
    environment["JUPYTER_CONFIG_DIR"] = str(folder / "config")
    began = time.monotonic()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{' '.join(command[2:4])} failed:\n{done.stderr[-2000:]}")
    return time.monotonic() - began
