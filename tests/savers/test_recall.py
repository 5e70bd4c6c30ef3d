"""What a saver remembers has a bound, and what it has forgotten costs bytes and nothing else."""

import asyncio
import threading

import pytest
from langchain_core.messages import HumanMessage

from learning.savers import InvalidRequest, NotStorable, Saver, Unreadable, inspection, open_saver, recall
from learning.savers.codec import split
from learning.savers.engines.memory import MemoryEngine
from learning.savers.inspection import Inspection
from learning.savers.program import in_thread, run

from ..contract.cases import config, contents, conversation, put, values

THREADS = ["ana", "ben", "eve", "tom"]


@pytest.mark.parametrize("bound", ["MOST_NAMES", "MOST_ROWS", "MOST_THREADS", "MOST_BYTES"])
def test_with_little_room_to_remember_every_thread_is_whole(monkeypatch, bound: str):
    monkeypatch.setattr(recall, bound, 3)
    engine = MemoryEngine()
    saver = Saver(engine)
    for _ in range(2):
        for thread in THREADS:
            conversation(saver, thread, turns=10)
            assert len(contents(saver.get_tuple(config(thread)))) == 10
    for thread in THREADS:
        assert [len(contents(each)) for each in Saver(engine).list(config(thread))] == [*range(10, 0, -1)] * 2


def test_the_names_of_the_thread_that_was_used_longest_ago_are_forgotten(monkeypatch):
    monkeypatch.setattr(recall, "MOST_NAMES", 30)
    saver = open_saver("memory://")
    for thread in THREADS:
        conversation(saver, thread, turns=10)
    kept = saver._core._recall
    newest = saver._core._thread("tom")
    assert list(kept._items)[-1] == newest
    assert kept._names == sum(len(items.names) for items in kept._items.values()) <= 30


def test_the_items_of_few_threads_are_remembered_and_those_of_a_long_one_begin_anew(monkeypatch):
    monkeypatch.setattr(recall, "MOST_THREADS", 2)
    saver = open_saver("memory://")
    for thread in THREADS:
        conversation(saver, thread, turns=3)
    kept = saver._core._recall._plain
    assert list(kept) == [saver._core._thread(thread) for thread in THREADS[-2:]]

    monkeypatch.setattr(recall, "MOST_BYTES", 100_000)
    above = config("long")
    for number in range(200):
        above = put(saver, above, {"note": f"{number} " * 300}, {"note": number})
    assert kept[saver._core._thread("long")].size < 60_000
    assert values(saver, above) == {"note": "199 " * 300}


def test_items_that_were_forgotten_are_sent_again_where_somebody_has_removed_them(monkeypatch):
    monkeypatch.setattr(recall, "MOST_NAMES", 1)
    engine = MemoryEngine()
    saver, other = Saver(engine), Saver(engine)
    messages = [HumanMessage(f"{number}: {'lorem ipsum ' * 20}") for number in range(20)]
    put(saver, config(), {"messages": messages})
    put(saver, config("ben"), {"messages": messages})  # now the names of the first thread are forgotten
    other.prune(["ana"], strategy="delete")
    where = put(saver, config(), {"messages": [*messages, HumanMessage("new")]}, {"messages": 2})

    assert values(other, where) == {"messages": [*messages, HumanMessage("new")]}


def test_a_record_that_points_to_more_than_it_needs_is_unreadable():
    assert split({"a": 0, "b": b"x", "c": [2, 1]}, [b"1", b"2"]) == {
        "a": (0, [b"1"]),
        "b": (b"x", []),
        "c": ([2, 1], [b"2"]),
    }
    with pytest.raises(Unreadable, match="points to more than it needs"):
        split({"a": 0, "c": [2, 1]}, [b"1"])


def test_all_is_seen_in_pages(monkeypatch):
    monkeypatch.setattr(inspection, "ALL_THREADS", 3)
    saver, seen = open_saver("memory://"), []
    for thread in THREADS:
        conversation(saver, thread, turns=4)
    run(Inspection(saver).scan(None, seen.append), saver.engine.perform)
    assert len(seen) == len({each.row.place for each in seen}) == 16


# --- what is asked in a wrong way -------------------------------------------------------------------------------------


@pytest.mark.parametrize("thread_id", [None, 1.5, b"ana", ["ana"]])
def test_a_thread_that_has_no_name_is_refused(thread_id: object):
    saver = open_saver("memory://")
    with pytest.raises(InvalidRequest, match=f"thread_id is a string, not {type(thread_id).__name__}"):
        saver.get_tuple(config(thread_id))  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="thread_id is a string"):
        put(saver, config(thread_id))  # type: ignore[arg-type]
    assert values(saver, put(saver, config(1), {"a": 1})) == values(saver, config("1"))  # type: ignore[arg-type]


def test_a_config_without_a_thread_is_refused_with_what_is_missing():
    saver = open_saver("memory://")
    for named in ({}, {"configurable": {}}):
        with pytest.raises(InvalidRequest, match=r"names no thread: .*thread_id"):
            saver.get_tuple(named)


def test_writes_without_a_checkpoint_are_refused_and_not_stored():
    saver = open_saver("memory://")
    where = put(saver, config(), {"a": 1})
    with pytest.raises(InvalidRequest, match=r"no checkpoint_id.*thread 'ana'"):
        saver.put_writes(config(), [("a", 2)], "task")
    assert saver.get_tuple(where).pending_writes == []


def test_metadata_that_cannot_be_stored_is_refused_by_its_name():
    saver = open_saver("memory://")
    with pytest.raises(NotStorable, match=r"metadata\['who'\]\['is'\]: builtins\.object is no type"):
        put(saver, config(), {"a": 1}, metadata={"who": {"is": object()}})
    endless = {}
    endless["who"] = endless
    with pytest.raises(NotStorable, match="contains itself, or is nested too deep"):
        put(saver, config(), {"a": 1}, metadata=endless)
    assert saver.get_tuple(config()) is None


# --- threads ----------------------------------------------------------------------------------------------------------


def test_what_is_cancelled_in_a_thread_ends_when_its_work_has():
    begun, may_end, done = threading.Event(), threading.Event(), []

    def work() -> None:
        begun.set()
        may_end.wait(30)
        done.append("all of it")

    async def main() -> None:
        working = asyncio.create_task(in_thread(work))
        await asyncio.to_thread(begun.wait, 30)
        for _ in range(2):  # who hurries cancels again
            working.cancel()
            for _ in range(5):
                await asyncio.sleep(0)
            assert not working.done()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await working
        assert done == ["all of it"]

    try:
        asyncio.run(main())
    finally:
        may_end.set()
