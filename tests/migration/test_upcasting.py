"""Code of one version beside states of others: it reads them as its own, and loses nothing that it does not know."""

import asyncio

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from learning.course.desk import build_desk
from learning.course.on_migration import desk_steps, in_version_3
from learning.migration import STAMP, Migrations, UpcastingSaver, state_version
from learning.migration.steps import NoWay
from tests.contract.test_cases import Async

from .shop_steps import migrations
from .test_convert import content, named
from .test_runner import ask, versions


@pytest.fixture(params=["sync", "async"])
def upcasting(request):
    """Makes a saver that upcasts, whose sync methods run those, or the async ones."""
    if request.param == "sync":
        yield UpcastingSaver
    else:
        with asyncio.Runner() as runner:
            yield lambda *arguments: Async(UpcastingSaver(*arguments), runner)


@pytest.mark.parametrize("through", ["sync", "async"])
def test_a_conversation_of_an_older_version_continues_with_newer_code(through):
    saver = InMemorySaver()
    ask(saver, ["ana"])
    desk, resume = build_desk(3, UpcastingSaver(saver, migrations, 3)), Command(resume=True)
    answer = desk.invoke(resume, named("ana")) if through == "sync" else asyncio.run(desk.ainvoke(resume, named("ana")))
    assert answer["notes"][-1] == "v3 says: ana gets 24900 cents in EUR"
    assert state_version(saver.get_tuple(named("ana"))) == 3
    assert versions(saver) == {1, 3}, "what was stored before stays as it was"


def test_what_is_read_is_in_this_version_and_what_is_stored_stays_as_it_was(upcasting):
    saver = InMemorySaver()
    ask(saver)
    saver.put_writes(saver.get_tuple(named("ana")).config, [("total", 99.0), ("notes", ["said"])], "task")
    before = content(saver)
    seen = upcasting(saver, desk_steps(), 3)
    listed = {found.checkpoint["id"]: found for found in seen.list(None)}
    assert len(listed) == len(before) == 9
    for (*_, id), (checkpoint, *_) in before.items():
        assert listed[id].checkpoint["channel_values"] == in_version_3(checkpoint["channel_values"])
        assert state_version(listed[id]) == 3
    newest = seen.get_tuple(named("ana"))
    assert newest == listed[newest.checkpoint["id"]]
    written = [write[1:] for write in newest.pending_writes if write[0] == "task"]
    assert written == [("cents", 9900), ("notes", ["said"])]
    assert seen.get_tuple(named("nobody")) is None
    assert content(saver) == before


def test_what_is_newer_than_this_code_is_handed_on_as_it_is(upcasting):
    saver = InMemorySaver()
    ask(UpcastingSaver(saver, migrations, 3), ["ana"])
    seen = upcasting(saver, migrations, 1)
    assert versions(saver) == {3}
    assert seen.get_tuple(named("ana")) == saver.get_tuple(named("ana"))
    assert list(seen.list(None)) == list(saver.list(None))


def a_checkpoint(id, values, numbers):
    return {**empty_checkpoint(), "id": id, "channel_values": values, "channel_versions": numbers}


def test_an_old_worker_carries_along_what_it_does_not_know(upcasting):
    saver = InMemorySaver()
    there = {"notes": ["new"], "currency": "EUR", "draft": "x"}
    above = saver.put(
        {"configurable": {"thread_id": "ana", "checkpoint_ns": ""}},
        a_checkpoint("1", there, dict.fromkeys(there, 1)),
        {STAMP: 3},
        dict.fromkeys(there, 1),
    )
    numbers = {"notes": 2, "currency": 1, "draft": 2}
    old = upcasting(saver, migrations, 2)
    old.put(above, a_checkpoint("2", {"notes": ["new", "old"]}, numbers), {}, {"notes": 2, "draft": 2})
    found = saver.get_tuple(named("ana"))
    assert found.checkpoint["channel_values"] == {"notes": ["new", "old"], "currency": "EUR"}, "draft was emptied"
    assert state_version(found) == 3


def test_what_is_stored_has_the_stamp_of_this_version_whether_it_has_a_parent_or_not(upcasting):
    saver = InMemorySaver()
    new = upcasting(saver, migrations, 2)
    lost = {"configurable": {"thread_id": "ana", "checkpoint_ns": "", "checkpoint_id": "0"}}
    for number, config in enumerate([{"configurable": {"thread_id": "ben", "checkpoint_ns": ""}}, lost]):
        new.put(config, a_checkpoint(f"{number + 1}", {"cents": 1}, {"cents": 1}), {}, {"cents": 1})
    assert versions(saver) == {2}
    assert {found.checkpoint["channel_values"]["cents"] for found in saver.list(None)} == {1}


def test_without_steps_to_this_version_nothing_is_made_up(upcasting):
    saver = InMemorySaver()
    ask(saver, ["ana"])
    seen = upcasting(saver, Migrations(), 2)
    for read in (lambda: seen.get_tuple(named("ana")), lambda: list(seen.list(None))):
        with pytest.raises(NoWay, match=r"no way from version 1 .* add a step"):
            read()
