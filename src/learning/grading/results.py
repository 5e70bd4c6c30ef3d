"""What has been judged already, kept beside the grades: a batch goes on where it stopped, and judges what has changed.

One file for each learner and lesson, written whole or not at all. It has the hashes of what was handed in and of what
judged it, so that a change of either is seen.
"""

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from learning import atomic
from learning.course.tasks import GRADED_TESTS, ROOT, Task

from .sandbox import Judged

FOLDER = ".results"

JUDGING = ("session.py", "watch.py", "limits.py", "isolation.py", "landlock.py")
"""The modules of this package that a verdict depends on, beside all other packages of the course."""


class Results:
    """The results of one class, below the folder that its grades go to."""

    def __init__(self, out: Path):
        self._folder = out / FOLDER
        self._release = release()

    def load(self, learner: str, lesson: int, files: Mapping[str, bytes], tasks: list[Task], again: set[str]) -> dict:
        """The verdicts that still hold, by task.

        Args:
            again: the tasks to judge anew whatever is known. Where there are any, the others' verdicts hold even if the
                tests have changed since.
        """
        with suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(self._path(learner, lesson).read_text(encoding="utf-8"))
            if kept["submission"] == digest(files) and (again or kept["release"] == self._release):
                found = {each["verdict"]["task"]: Judged.from_json(each) for each in kept["judged"]}
                wanted = {task.name for task in tasks} - again
                return {name: each for name, each in found.items() if name in wanted}
        return {}

    def save(self, learner: str, lesson: int, files: Mapping[str, bytes], judged: list[Judged]) -> None:
        """Keep the verdicts on a notebook, but for those that could not be judged."""
        known = [each.to_json() for each in judged if each.verdict.outcome != "not judged"]
        kept = {"submission": digest(files), "release": self._release, "judged": known}
        atomic.write(self._path(learner, lesson), json.dumps(kept).encode())

    def _path(self, learner: str, lesson: int) -> Path:
        return self._folder / learner / f"{lesson}.json"


def release() -> str:
    """The hash of all that a verdict depends on, beside what is judged."""
    package = ROOT / "src" / "learning"
    inside = [path for path in sorted(package.rglob("*.py")) if path.parent.name != "grading" or path.name in JUDGING]
    paths = [GRADED_TESTS, *inside]
    files = {str(path.relative_to(ROOT)): path.read_bytes() for path in paths}
    return digest(files | {"versions": f"{sys.version} {version('langgraph')} {version('pytest')}".encode()})


def digest(files: Mapping[str, bytes]) -> str:
    """A hash of some files, with their names."""
    whole = hashlib.sha256()
    for name, content in sorted(files.items()):
        whole.update(hashlib.sha256(os.fsencode(name)).digest() + hashlib.sha256(content).digest())
    return whole.hexdigest()
