"""What the process of a task may say of it, and what it may not.

An answer that gets hold of the line to the grader can say anything. What is no event of ours is not passed on.
"""

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from learning.course.verdict import Behaviour

FORGED = {"flag": "wrote a result of its own in place of its judge", "grave": True}


class Event(BaseModel):
    """One line of a test's report; any of its parts."""

    model_config = ConfigDict(extra="forbid")

    arriving: bool = True
    started: bool = True
    behaviour: Behaviour = Behaviour("", "not judged")
    outcome: Literal["passed", "failed", "skipped"] = "passed"
    reason: str = ""
    remark: str = ""
    flag: str = ""
    grave: bool = False
    canary: list[Literal["passed", "failed", "skipped"]] = []
    nothing_judged: str = ""
    done: bool = True


TOGETHER = ({"outcome", "reason", "remark"}, {"flag", "grave"}, {"nothing_judged", "done"})
"""What comes in one line, all of it or nothing."""


def read(line: bytes, secret: bytes) -> dict[str, Any]:
    """The event in a line that the test has written; of any other line, that there was one."""
    if not line.startswith(secret):
        return FORGED
    try:
        event = Event.model_validate(json.loads(line.removeprefix(secret))).model_dump(exclude_unset=True)
    except (ValueError, RecursionError, ValidationError):
        return FORGED
    if any(0 < len(parts & event.keys()) < len(parts) for parts in TOGETHER):
        return FORGED
    return event
