"""LangGraph's official conformance suite, run on a saver, and its report as a card."""

import html
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import BASE_CAPABILITIES
from langgraph.checkpoint.conformance.report import ProgressCallbacks

from .answers import where

SHOWN = 5
"""How many failures are told."""

_CARD = "border:1px solid #767676;border-left-width:5px;border-radius:4px;padding:12px 16px;max-width:52em"


@dataclass(frozen=True)
class Failure:
    """A case that failed: of which capability, what was said, and the learner's own line that raised, if one did."""

    capability: str
    case: str
    said: str
    where: str

    def __str__(self) -> str:
        return f"{self.capability}: {self.case}: {self.said}"


@dataclass(frozen=True, repr=False)
class Report:
    """How many cases of each capability passed, and what was said of those that failed. Notebooks show it as a card."""

    passed: dict[str, int]
    failures: list[Failure]

    def __repr__(self) -> str:
        lines = [f"{'✗' if self._failed(name) else '✓'} {name}: {count} passed" for name, count in self.passed.items()]
        told = [str(failure) for failure in self.failures[:SHOWN]]
        told += [f"and {len(self.failures) - SHOWN} more"] * (len(self.failures) > SHOWN)
        return "\n".join([*lines, *told, f"{sum(self.passed.values())} passed, {len(self.failures)} failed"])

    def _failed(self, name: str) -> bool:
        return any(failure.capability == name for failure in self.failures)

    def _repr_html_(self) -> str:
        first, *rest = repr(self).splitlines()[::-1]
        lines = "".join(f'<div style="margin-top:4px">{html.escape(line)}</div>' for line in reversed(rest))
        return f'<div style="{_CARD}"><strong>Conformance: {html.escape(first)}</strong>{lines}</div>'


async def examine(make_saver: Callable[[], BaseCheckpointSaver]) -> Report:
    """Run every case of the suite's base capabilities, each on a saver of its own that `make_saver` makes."""

    @checkpointer_test(name="saver")
    async def fresh_saver():
        yield make_saver()

    failures = []

    def note(capability: str, case: str, passed: bool, _: str | None) -> None:
        if not passed and (error := sys.exception()):
            failures.append(Failure(capability, case, _said(error), where(error)))

    base = sorted(capability.value for capability in BASE_CAPABILITIES)
    report = await validate(fresh_saver, capabilities=set(base), progress=ProgressCallbacks(on_test_result=note))
    return Report({name: report.results[name].tests_passed for name in base}, failures)


def _said(error: BaseException) -> str:
    """What an error says; of an assertion without words, what was asserted."""
    if isinstance(error, AssertionError):
        return str(error).strip() or str(traceback.extract_tb(error.__traceback__)[-1].line)
    return f"{type(error).__name__}: {error}"
