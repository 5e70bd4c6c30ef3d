"""What a graded test found out about one task: plain data that survives a trip through JSON."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Outcome = Literal["passed", "failed", "not attempted", "not judged"]


@dataclass(frozen=True)
class Behaviour:
    """One thing that a task's answer must do, and whether it did."""

    name: str
    outcome: Outcome
    expected: str = ""
    came: str = ""
    idea: str = ""
    """The idea that was missed, in a sentence or two."""
    where: str = ""
    """The learner's own line that raised, such as `cell 14, line 9: self.order[thread]`."""


@dataclass(frozen=True)
class Verdict:
    """The outcome of one task, with its behaviours in the order of the test."""

    task: str
    outcome: Outcome
    reason: str = ""
    """Why the task as a whole was not attempted, not judged or failed, where no behaviour says it."""
    behaviours: list[Behaviour] = field(default_factory=list)
    remark: str = ""
    """What to know about the judging, such as a second answer that did not count."""

    @property
    def passed(self) -> int:
        """How many behaviours held."""
        return sum(behaviour.outcome == "passed" for behaviour in self.behaviours)

    @property
    def share(self) -> float:
        """The part of the task's marks that is earned, from 0.0 to 1.0: partial credit by behaviour."""
        return self.passed / len(self.behaviours) if self.behaviours else 0.0

    def to_json(self) -> dict[str, Any]:
        """As plain dicts and lists."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Verdict":
        """The inverse of `to_json`."""
        return cls(**{**data, "behaviours": [Behaviour(**each) for each in data["behaviours"]]})
