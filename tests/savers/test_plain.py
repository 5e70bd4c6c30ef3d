"""The plain saver and the forwarding one, on a dictionary: they keep LangGraph's rules, sync and async."""

import asyncio

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from learning.agent import build_agent
from learning.course.conformance import examine
from learning.course.on_migration import WholeSaver
from learning.savers.forwarding import ForwardingSaver

from ..contract.cases import CASES, config, put

NOT_REPEATED = "a_channel_that_did_not_change_keeps_its_value_though_it_is_not_repeated"
"""What a plain saver does without: LangGraph repeats all values in each put."""

KEPT = [case for case in CASES if case.__name__ != NOT_REPEATED]
MAKERS = {"plain": WholeSaver, "forwarding": lambda: ForwardingSaver(WholeSaver())}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("case", KEPT, ids=lambda case: case.__name__)
def test_a_case_of_the_contract(case, make):
    case(make())


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_the_official_suite(make):
    report = asyncio.run(examine(make))
    assert report.failures == []
    assert sum(report.passed.values()) == 58


def test_a_report_tells_what_failed():
    class NoList(InMemorySaver):
        def list(self, *_, **__):
            return iter(())

    report = asyncio.run(examine(NoList))
    assert report.failures
    failed = {failure.capability for failure in report.failures}
    assert failed <= {"list", "put", "put_writes", "get_tuple", "delete_thread"}
    assert all(failure.said for failure in report.failures)
    assert f"{sum(report.passed.values())} passed, {len(report.failures)} failed" in repr(report)
    assert f"✗ list: {report.passed['list']} passed" in repr(report)
    assert "✓ put_writes: 10 passed" in report._repr_html_()


def test_a_change_of_one_method_is_one_of_its_async_twin_too():
    class Loud(ForwardingSaver):
        asked = 0

        def get_tuple(self, config):
            self.asked += 1
            return super().get_tuple(config)

    saver = Loud(InMemorySaver())
    asyncio.run(build_agent(saver).ainvoke({"messages": [("user", "Hello")]}, config()))
    assert saver.asked == 1


def test_versions_and_classes_are_those_of_the_saver_inside():
    class Inside(InMemorySaver):
        def get_next_version(self, current, channel):
            return "7"

        def with_allowlist(self, extra_allowlist):
            return Allowing()

    class Allowing(InMemorySaver):
        pass

    saver = ForwardingSaver(Inside())
    clone = saver.with_allowlist([("shop", "Order")])
    assert saver.get_next_version(None, None) == "7"
    assert isinstance(clone.inner, Allowing) and clone.serde is clone.inner.serde
    assert isinstance(saver.inner, Inside)


def test_what_is_stored_stays_as_it_was_when_a_change_fails():
    saver = WholeSaver()
    where = put(saver, config(), {"a": 1})
    before = dict(saver.stored)
    with pytest.raises(TypeError):
        put(saver, where, {"a": lambda: None})
    assert saver.stored == before
