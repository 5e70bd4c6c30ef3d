"""What a notebook earned: the graded tests of its lesson, run on the answers in it, and the marks written into it."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from learning.course.card import Card
from learning.course.judge import behaviours, judge
from learning.course.starters import checked_task, code_of
from learning.course.tasks import LESSONS, TASKS, Task
from learning.course.verdict import Verdict

POINTS = 10
"""What each task is worth. Behaviours share it: a task with 3 of 4 behaviours earns 7.5."""


@dataclass
class Marks:
    """The verdicts on a notebook, and remarks for the person who grades."""

    verdicts: list[Verdict] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def total(self) -> float:
        """The points earned."""
        return sum(points(verdict) for verdict in self.verdicts)

    @property
    def out_of(self) -> int:
        """The points that could be earned."""
        return POINTS * len(self.verdicts)


def points(verdict: Verdict) -> float:
    """What a verdict is worth."""
    return round(POINTS * verdict.share, 2)


def graded_tasks(lesson: int) -> list[Task]:
    """The tasks of a lesson that have a graded test today."""
    return [task for task in TASKS.values() if task.lesson == lesson and behaviours(task)]


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


def mark(notebook: Path, lesson: int) -> Marks:
    """Judge every graded task of a lesson on a notebook. Whatever is wrong with it costs what it must, and is told."""
    marks = Marks([judge(task, notebook) for task in graded_tasks(lesson)])
    marks.remarks = [
        f"{verdict.task}: {' '.join(trouble.split())}" for verdict in marks.verdicts for trouble in _troubles(verdict)
    ]
    unreadable = {remark.partition(": ")[2] for remark in marks.remarks if "cannot be read as a notebook" in remark}
    if unreadable:
        marks.remarks = sorted(unreadable)
    return marks


def _troubles(verdict: Verdict) -> Iterator[str]:
    """What kept a task from being judged in full: a broken answer, an endless loop, an exit, a second answer."""
    if verdict.outcome == "failed":
        stopped = [each for each in verdict.behaviours if each.came.startswith(("still running", "SystemExit"))]
        if verdict.reason or stopped:
            yield verdict.reason or f"{stopped[0].came}, {stopped[0].where}"
    if verdict.outcome != "passed" and verdict.remark:
        yield verdict.remark


def write_into(notebook: NotebookNode, marks: Marks) -> None:
    """Put each card below its check cell, and the marks into the notebook's metadata, under `learning.marks`."""
    solved = {verdict.task for verdict in marks.verdicts if verdict.outcome == "passed"}
    cards = {verdict.task: Card(verdict, solved)._repr_mimebundle_() for verdict in marks.verdicts}
    for cell in notebook.cells:
        task = checked_task("".join(cell.source)) if cell.cell_type == "code" else ""
        if task in cards:
            cell.outputs = [nbformat.v4.new_output("display_data", data=cards[task])]
    ours = notebook.metadata.get("learning")
    notebook.metadata["learning"] = (ours if isinstance(ours, dict) else {}) | {
        "marks": {
            "points": marks.total,
            "out_of": marks.out_of,
            "remarks": marks.remarks,
            "tasks": [verdict.to_json() | {"points": points(verdict), "out_of": POINTS} for verdict in marks.verdicts],
        }
    }
    make_writable(notebook)


def make_writable(part: Any) -> Any:
    """A notebook, or a part of one, in which each lone surrogate has become a question mark: no file can hold one."""
    if isinstance(part, str):
        return part.encode(errors="replace").decode()
    if isinstance(part, dict | list):
        for key, value in list(part.items() if isinstance(part, dict) else enumerate(part)):
            part[key] = make_writable(value)
    return part
