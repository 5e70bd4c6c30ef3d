"""What a notebook earned: the verdicts on the tasks of its lesson, and how they are written into it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from learning.course.card import Card
from learning.course.reading import behaviours
from learning.course.starters import checked_task, code_of
from learning.course.tasks import TASKS, Task
from learning.course.verdict import Verdict

from .rules import Rules
from .sandbox import Judged

LONGEST = 400
"""The most characters of a remark."""


@dataclass
class Marks:
    """The verdicts on a learner's notebook, by the rules of the class, and remarks for the person who grades."""

    judged: list[Judged] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    rules: Rules = field(default_factory=Rules)
    learner: str = ""
    late_days: int = 0

    @property
    def total(self) -> float:
        """The points earned."""
        return round(sum(self.points(each) for each in self.judged), 2)

    @property
    def out_of(self) -> float:
        """The points that could be earned."""
        return sum(self.rules.out_of(each.verdict.task) for each in self.judged)

    def points(self, judged: Judged) -> float:
        """What one of the verdicts earned."""
        return self.rules.points(self.learner, judged, self.late_days)


def graded_tasks(lesson: int) -> list[Task]:
    """The tasks of a lesson that have a graded test today."""
    return [task for task in TASKS.values() if task.lesson == lesson and behaviours(task)]


def remarks_on(judged: list[Judged]) -> list[str]:
    """What a person should know of the verdicts on a notebook, each remark once."""
    troubles = [(each.verdict.task, " ".join(said.split())) for each in judged for said in _troubles(each.verdict)]
    remarks = [f"{task}: {said if len(said) <= LONGEST else said[:LONGEST] + ' …'}" for task, said in troubles]
    unreadable = {remark.partition(": ")[2] for remark in remarks if "cannot be read as a notebook" in remark}
    remarks = sorted(unreadable) or remarks
    for each in judged:
        for flag in each.flags:
            doubt = "; no points until a person has looked" if flag.grave else ""
            remarks.append(f"FLAG {each.verdict.task}: the answer {flag.words}{doubt}")
    return remarks


def _troubles(verdict: Verdict) -> Iterator[str]:
    """What kept a task from being judged in full: a broken answer, an endless loop, an exit, a second answer."""
    if verdict.outcome in ("failed", "not judged"):
        stopped = [
            each for each in verdict.behaviours if each.came.startswith(("still running", "SystemExit", "MemoryError"))
        ]
        if verdict.reason or stopped:
            yield verdict.reason or f"{stopped[0].came}, {stopped[0].where}"
    if verdict.outcome != "passed" and verdict.remark:
        yield verdict.remark


def marked(content: bytes, marks: Marks) -> bytes:
    """A notebook with its marks in it; as it came, and a remark in the marks, where it is too broken to hold them."""
    try:
        notebook = json.loads(content.decode("utf-8-sig"))
        write_into(notebook, marks)
        return (json.dumps(notebook, indent=1, ensure_ascii=False) + "\n").encode()
    except Exception as error:  # a notebook can be broken in any way
        marks.remarks.append(f"returned without marks in it: {type(error).__name__}")
        return content


def write_into(notebook: dict[str, Any], marks: Marks) -> None:
    """Put each card below its check cell, and the marks into the notebook's metadata, under `learning.marks`."""
    solved = {each.verdict.task for each in marks.judged if each.verdict.outcome == "passed"}
    cards = {each.verdict.task: Card(each.verdict, solved)._repr_mimebundle_() for each in marks.judged}
    for cell in notebook["cells"]:
        if task := checked_task(code_of(cell)):
            shown = {"output_type": "display_data", "data": cards.get(task, {}), "metadata": {}}
            cell["outputs"] = [shown] if task in cards else cell["outputs"]
    ours = notebook["metadata"].get("learning")
    notebook["metadata"]["learning"] = (ours if isinstance(ours, dict) else {}) | {
        "marks": {
            "points": marks.total,
            "out_of": marks.out_of,
            "late_days": marks.late_days,
            "remarks": marks.remarks,
            "tasks": [
                each.verdict.to_json()
                | {"points": marks.points(each), "out_of": marks.rules.out_of(each.verdict.task), "flags": _words(each)}
                for each in marks.judged
            ],
        }
    }
    make_writable(notebook)


def _words(judged: Judged) -> list[str]:
    return [flag.words for flag in judged.flags]


def make_writable(part: Any) -> Any:
    """A notebook, or a part of one, in which each lone surrogate has become a question mark: no file can hold one."""
    if isinstance(part, str):
        return part.encode(errors="replace").decode()
    if isinstance(part, dict | list):
        for key, value in list(part.items() if isinstance(part, dict) else enumerate(part)):
            part[key] = make_writable(value)
    return part
