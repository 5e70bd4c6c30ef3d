"""What a class has handed in: one folder for each learner, with their notebooks at any depth."""

import json
import os
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from learning.course.starters import code_of
from learning.course.tasks import LESSONS, TASKS, Task

from .limits import NOTEBOOK_BYTES

GRADEBOOK, JUNIT, REPORT = "gradebook.csv", "junit.xml", "report.html"
"""Files that the grader writes beside the learners' folders."""

TAKEN = "the folder has the name of a file that the grader writes, so it was not graded: rename it"

LOOSE = "not in a folder of its own, named after the learner, so it was not graded"

LEFT_OUT = {".ipynb", ".pyc", ".so", ".zip", ".egg"}
"""Of what lies beside a notebook: other notebooks, and code that nobody can read."""

TIMESTAMP = "timestamp.txt"
"""The file in a learner's folder that says when it was handed in, where nbgrader has written one."""

TIMESTAMP_BYTES = 100
"""A longer one is none."""


class GradingError(Exception):
    """Nothing can be graded as asked. The message is for the instructor."""


@dataclass(frozen=True)
class Submission:
    """One notebook that will be graded."""

    learner: str
    lesson: int
    path: Path
    name: str
    """What to call it: its path in the learner's folder."""
    written: datetime
    """The time of its file."""
    stamped: datetime | None = None
    """When it was handed in, by the learner's `TIMESTAMP`."""

    def files(self) -> dict[str, bytes]:
        """The notebook, and what lies beside it, without the outputs of cells."""
        found = {self.path.name: _slim(self.path.read_bytes())}
        room = NOTEBOOK_BYTES
        for path in sorted(self.path.parent.iterdir()):
            regular = path.is_file() and not path.is_symlink() and path.suffix.lower() not in LEFT_OUT
            if regular and not path.name.startswith(".") and (room := room - path.stat().st_size) >= 0:
                found[path.name] = path.read_bytes()
        return found


@dataclass(frozen=True)
class HandedIn:
    """All that a learner has handed in, and remarks on what could not be graded."""

    learner: str
    notebooks: dict[int, Submission] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def handed_in(submissions: Path, wanted: Collection[int]) -> list[HandedIn]:
    """What each learner has handed in of the lessons that are wanted; last what lies beside the learners' folders.

    Raises:
        GradingError: if there is no such folder, or nobody's in it.
    """
    if not submissions.is_dir():
        raise GradingError(f"There is no folder {submissions}.")
    try:
        inside = sorted(path for path in submissions.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise GradingError(f"{submissions} cannot be read: {error.strerror}.") from error
    folders = [path for path in inside if path.is_dir() and path.name not in (GRADEBOOK, JUNIT, REPORT)]
    taken = [path.name for path in inside if path.is_dir() and path not in folders]
    if not folders:
        raise GradingError(
            f"{submissions} has no folders in it. Each learner's notebooks go into a folder of their own."
        )
    loose = [path.name for path in inside if path.is_file() and path.suffix.lower() in (".ipynb", ".zip")]
    remarks = [(name, TAKEN) for name in taken] + [(name, LOOSE) for name in loose]
    return [*(_of(folder, wanted) for folder in folders), *(HandedIn(name, remarks=[said]) for name, said in remarks)]


def lesson_of(notebook: Path) -> int | None:
    """The lesson that a notebook belongs to: by its name, which may have been changed a little, else by its code."""
    for number, (name, _) in LESSONS.items():
        if name in notebook.stem:
            return number
    try:
        cells = list(json.loads(notebook.read_text(encoding="utf-8-sig"))["cells"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    code = "\n".join(code_of(cell) for cell in cells)
    signs = Counter(task.lesson for task in TASKS.values() if _speaks_of(code, task))
    return signs.most_common(1)[0][0] if signs else None


def _speaks_of(code: str, task: Task) -> bool:
    """Whether the code of a notebook checks a task, or defines what the task asks for."""
    names = "|".join(task.writes) or "(?!)"
    checked = rf"""\bcheck\(\s*["']{task.name}["']\s*\)"""
    return bool(re.search(rf"{checked}|^(class|def|async def) ({names})\b|^({names}) =", code, re.MULTILINE))


def _of(folder: Path, wanted: Collection[int]) -> HandedIn:
    notebooks: dict[int, Submission] = {}
    files, remarks = _files(folder)
    candidates = [path for path in files if path.suffix.lower() == ".ipynb"]
    for path in sorted(candidates, key=_rank):
        name = str(path.relative_to(folder))
        if path.is_symlink() or not path.is_file():
            remarks.append(f"{name}: not a regular file, so it was left out")
            continue
        lesson = lesson_of(path)
        if lesson is None:
            remarks.append(f"{name}: cannot tell which lesson it is")
        elif lesson in notebooks:
            remarks.append(f"{name}: another notebook of lesson {lesson} was graded in its place")
        elif lesson in wanted:
            written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            notebooks[lesson] = Submission(folder.name, lesson, path, name, written, _stamped(folder / TIMESTAMP))
    others = ", ".join(str(path.relative_to(folder)) for path in files)
    missing = "missing" if candidates or not others else f"missing; there is only {others}"
    remarks += [f"{LESSONS[lesson][0]}.ipynb: {missing}" for lesson in wanted if lesson not in notebooks]
    return HandedIn(folder.name, notebooks, remarks)


def _files(folder: Path) -> tuple[list[Path], list[str]]:
    """All that is in a folder but for hidden things, and remarks on what cannot be read."""
    errors: list[OSError] = []
    files = []
    for parent, folders, names in os.walk(folder, onerror=errors.append):
        found = [name for name in folders if name.endswith(".ipynb")] + names  # a folder called so is told
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(parent) / name for name in found if not name.startswith(".")]
    return sorted(files), [f"{error.filename}: cannot be read: {error.strerror}" for error in errors]


def _rank(path: Path) -> tuple[bool, int, Path]:
    """Which of several notebooks of a lesson is graded: rather the one with the lesson's own name than a copy of it."""
    return path.stem not in {name for name, _ in LESSONS.values()}, len(path.parts), path


def _stamped(file: Path) -> datetime | None:
    try:
        if file.is_symlink() or not file.is_file() or file.stat().st_size > TIMESTAMP_BYTES:
            return None
        when = datetime.fromisoformat(file.read_text().strip().replace(" UTC", "+00:00"))
    except (OSError, ValueError):
        return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _slim(content: bytes) -> bytes:
    """A notebook without outputs, which may be many megabytes; as it is where it is no notebook, or too big for one."""
    if len(content) < 2**20:
        return content
    try:
        notebook: Any = json.loads(content.decode("utf-8-sig"))
        for cell in notebook["cells"]:
            if "outputs" in cell:
                cell["outputs"] = []
        return json.dumps(notebook).encode()[:NOTEBOOK_BYTES]
    except (ValueError, KeyError, TypeError, RecursionError):
        return content[:NOTEBOOK_BYTES]
