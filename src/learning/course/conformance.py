"""LangGraph's official conformance suite, run on a saver, and its report as a card."""

import html
from collections.abc import Callable
from dataclasses import dataclass

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import BASE_CAPABILITIES

SHOWN = 5
"""How many failures are told."""

_CARD = "border:1px solid #767676;border-left-width:5px;border-radius:4px;padding:12px 16px;max-width:52em"


@dataclass(frozen=True, repr=False)
class Report:
    """How many cases of each capability passed, and what was said of those that failed. Notebooks show it as a card."""

    passed: dict[str, int]
    failures: list[str]

    def __repr__(self) -> str:
        lines = [f"{'✗' if self._failed(name) else '✓'} {name}: {count} passed" for name, count in self.passed.items()]
        told = self.failures[:SHOWN] + [f"and {len(self.failures) - SHOWN} more"] * (len(self.failures) > SHOWN)
        return "\n".join([*lines, *told, f"{sum(self.passed.values())} passed, {len(self.failures)} failed"])

    def _failed(self, name: str) -> bool:
        return any(failure.startswith(f"{name}:") for failure in self.failures)

    def _repr_html_(self) -> str:
        first, *rest = repr(self).splitlines()[::-1]
        lines = "".join(f'<div style="margin-top:4px">{html.escape(line)}</div>' for line in reversed(rest))
        return f'<div style="{_CARD}"><strong>Conformance: {html.escape(first)}</strong>{lines}</div>'


async def examine(make_saver: Callable[[], BaseCheckpointSaver]) -> Report:
    """Run every case of the suite's base capabilities, each on a saver of its own that `make_saver` makes."""

    @checkpointer_test(name="saver")
    async def fresh_saver():
        yield make_saver()

    base = sorted(capability.value for capability in BASE_CAPABILITIES)
    report = await validate(fresh_saver, capabilities=set(base))
    results = {name: report.results[name] for name in base}
    failures = [f"{name}: {failure.strip()}" for name, each in results.items() for failure in each.failures]
    return Report({name: each.tests_passed for name, each in results.items()}, failures)
