"""CONTRIBUTING.md is true: its six steps, with its code, add a task to a copy of the course."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from learning.course.tasks import ROOT

COURSE = ("src", "notebooks", "solutions", "tests", "test_learning_03.py", "pyproject.toml")
HINT = "<details>\n<summary>How do I find it?</summary>\n\nAsk for it.\n\n</details>"


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """A copy of the course."""
    ignore = shutil.ignore_patterns("__pycache__", "*.kept-*", ".ipynb_checkpoints")
    for part in COURSE:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, tmp_path / part, ignore=ignore)
        else:
            shutil.copy(ROOT / part, tmp_path / part)
    return tmp_path


def insert(path: Path, before: str, text: str) -> None:
    """Put text before the first line that begins like this."""
    source = path.read_text(encoding="utf-8")
    assert source.count(f"\n{before}") >= 1
    path.write_text(source.replace(f"\n{before}", f"\n{text}\n{before}", 1), encoding="utf-8")


def run(course: Path, command: str) -> str:
    """What one of the page's commands prints in the copy."""
    program, *arguments = command.split()
    module = {"learning": "learning.cli", "pytest": "pytest"}[program]
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=course,
        env=os.environ | {"PYTHONPATH": str(course / "src")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.stdout + done.stderr


def test_six_steps_add_a_task(course: Path):
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Add a task in six steps")[1]
    named, written, judged, wrong = re.findall(r"```python\n(.*?)\n```", page, re.DOTALL)
    build, see = (block.split("\n") for block in re.findall(r"```\n(learning.*?|pytest.*?)\n```", page, re.DOTALL))

    insert(course / "src/learning/course/tasks.py", '    Task("redis_cluster"', named)
    master = nbformat.read(course / "solutions/01_memory.ipynb", as_version=4)
    about = {"learning": {"task": "memory_export"}}
    master.cells += [
        nbformat.v4.new_markdown_cell(HINT, id="hint-1", metadata=about | {"tags": ["hint"]}),
        nbformat.v4.new_markdown_cell(HINT, id="hint-2", metadata=about | {"tags": ["hint"]}),
        nbformat.v4.new_code_cell(written, id="memory-export", metadata=about | {"tags": ["answer"]}),
        nbformat.v4.new_code_cell('check("memory_export")', id="check-export", metadata={"tags": ["check"]}),
    ]
    nbformat.write(master, course / "solutions/01_memory.ipynb")
    insert(course / "test_learning_03.py", "\nclass TestRedisStorage", judged)
    insert(course / "tests/course/bank.py", "]\n", wrong)

    assert "wrote notebooks/01_memory.ipynb" in run(course, build[0])
    assert run(course, build[1]) == ""
    solved, starter, bank = (run(course, command) for command in see)
    assert "1 of 25 tasks passed" in solved
    assert "1 skipped" in starter
    assert "1 passed" in bank
