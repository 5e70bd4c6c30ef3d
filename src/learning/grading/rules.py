"""How a class is marked: weights, due dates and what lateness costs, from one small TOML file.

    late_percent_per_day = 10
    late_percent_at_most = 50
    timestamps = true

    [due]
    01_memory = 2026-12-01T23:59:00+01:00

    [weights]
    memory_analytics = 2

    [accepted]
    ana = ["memory_analytics"]

A task without a weight has 1. With `timestamps`, a file timestamp.txt in a learner's folder, as nbgrader puts it there,
says when it was handed in; without, the time of the notebook's file does. `accepted` gives a learner the points of a
task that was flagged, after a person looked.
"""

import tomllib
from dataclasses import dataclass, field
from datetime import datetime
from math import ceil
from pathlib import Path
from typing import Any

from learning.course.tasks import LESSONS, TASKS

from .sandbox import Judged
from .submissions import Submission

POINTS = 10
"""What a task of weight 1 is worth. Behaviours share it: a task with 3 of 4 behaviours earns 7.5."""

SECONDS_A_DAY = 86400


class RulesError(Exception):
    """The file cannot be used. The message says what is wrong in it."""


@dataclass(frozen=True)
class Rules:
    """Weights by task, due dates by lesson, the percentage that a day begun after it costs, and whose time counts."""

    weights: dict[str, float] = field(default_factory=dict)
    due: dict[int, datetime] = field(default_factory=dict)
    late_percent_per_day: float = 0.0
    late_percent_at_most: float = 100.0
    timestamps: bool = False
    accepted: dict[str, list[str]] = field(default_factory=dict)

    def out_of(self, task: str) -> float:
        """The points that a task can earn."""
        return POINTS * self.weights.get(task, 1)

    def points(self, learner: str, judged: Judged, late_days: int = 0) -> float:
        """What a learner earns by a verdict: by behaviours, less what lateness costs; nothing while it is in doubt."""
        task = judged.verdict.task
        if not judged.trusted and task not in self.accepted.get(learner, ()):
            return 0.0
        return round(self.out_of(task) * judged.verdict.share * (1 - self.late_percent(late_days) / 100), 2)

    def late_percent(self, days: int) -> float:
        """What so many days cost."""
        return min(days * self.late_percent_per_day, self.late_percent_at_most)

    def late_days(self, submission: Submission) -> int:
        """How many days, each counted when it has begun, a lesson came after its due date."""
        if submission.lesson not in self.due:
            return 0
        submitted = (self.timestamps and submission.stamped) or submission.written
        late = (submitted - self.due[submission.lesson]).total_seconds()
        return max(0, ceil(late / SECONDS_A_DAY))


def read_rules(path: Path) -> Rules:
    """The rules in a file.

    Raises:
        RulesError: if it cannot be read, or names something that there is not.
    """
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RulesError(f"{path} cannot be read: {error}") from error
    lessons = {name: number for number, (name, _) in LESSONS.items()}
    percentages = ("late_percent_per_day", "late_percent_at_most")
    _known(path, "", told, ("weights", "due", "accepted", "timestamps", *percentages))
    _known(path, "weights.", _table(path, told, "weights"), TASKS)
    _known(path, "due.", _table(path, told, "due"), lessons)
    due = {}
    for name, when in told.get("due", {}).items():
        if not isinstance(when, datetime):
            raise RulesError(
                f"{path}: due.{name} is {when!r}, and has to be a date and time: 2026-12-01T23:59:00+01:00"
            )
        due[lessons[name]] = when.astimezone()
    for learner, tasks in _table(path, told, "accepted").items():
        if not isinstance(tasks, list):
            raise RulesError(f"{path}: accepted.{learner} has to be a list of tasks")
        _known(path, f"accepted.{learner}: ", tasks, TASKS)
    if not isinstance(timestamps := told.get("timestamps", False), bool):
        raise RulesError(f"{path}: timestamps is {timestamps!r}, and has to be true or false")
    numbers = told.get("weights", {}) | {name: told[name] for name in percentages if name in told}
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int | float) or number < 0:
            raise RulesError(f"{path}: {name} is {number!r}, and has to be a number of 0 or more")
    return Rules(
        told.get("weights", {}),
        due,
        timestamps=timestamps,
        **{n: told[n] for n in percentages if n in told},
        accepted=told.get("accepted", {}),
    )


def _table(path: Path, told: dict[str, Any], name: str) -> dict[str, Any]:
    table = told.get(name, {})
    if not isinstance(table, dict):
        raise RulesError(f"{path}: {name} has to be a table: [{name}]")
    return table


def _known(path: Path, where: str, names: Any, known: Any) -> None:
    for name in names:
        if name not in known:
            raise RulesError(f"{path}: there is no {where}{name}; there are {', '.join(known)}")
