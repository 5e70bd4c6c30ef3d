"""What is wrong in a store is found and named; repair mends it or sets it aside, and loses nothing."""

import asyncio
import json
import os
from typing import Annotated, NotRequired, TypedDict

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph.message import AnyMessage, add_messages
from pydantic import BaseModel

from learning.course.on_migration import desk_steps
from learning.migration import amigrate, convert, repair, restore, validate, walk
from learning.migration.walk import config_of
from learning.savers import InvalidRequest, Saver, Unavailable, open_saver
from learning.savers.engines.memory import MemoryEngine
from learning.savers.records import Put, PutWrites, Record

from ..contract.cases import put
from .test_convert import assert_continues, content, named, talk


class Damaging:
    """An engine that lets bytes of some checkpoints or writes rot on their way to another one."""

    def __init__(self, inner):
        self.inner = inner
        self.rows, self.tasks = set(), set()

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def perform(self, request):
        match request:
            case Put(place=place, record=record) if place.id in self.rows:
                request = Put(place, rotten(record), *rest(request, 2))
            case PutWrites(place=place, writes=writes) if any(task in self.tasks for task, _ in writes):
                request = PutWrites(place, {task: rotten(each) for task, each in writes.items()}, *rest(request, 2))
        return self.inner.perform(request)


def rest(request, count):
    return [getattr(request, name) for name in list(type(request).__dataclass_fields__)[count:]]


def rotten(record):
    return Record(b"\xc1" + record.data[1:], record.needs)


def again(saver, found, parent=None, **changes):
    """Store a checkpoint once more, with another id or parent."""
    checkpoint = {**found.checkpoint, **changes}
    config = {
        "configurable": {"thread_id": "ana", "checkpoint_ns": "", **({"checkpoint_id": parent} if parent else {})}
    }
    return saver.put(config, checkpoint, found.metadata, checkpoint["channel_versions"])


@pytest.fixture
def ill(saver):
    """A healthy store with a thread beside it in which everything is wrong, and what is wrong in it."""
    talk(saver)
    first = next(saver.list(named("done")))
    saver.engine = Damaging(saver.engine)
    again(saver, first, None, id="1")
    saver.engine.rows.add("2")
    again(saver, first, "1", id="2")
    again(saver, first, "2", id="3")
    again(saver, first, "0", id="4")
    again(saver, first, "6", id="5")
    again(saver, first, "5", id="6")
    saver.engine.tasks.add("rotten")
    saver.put_writes(again(saver, first, "6", id="7"), [("messages", [])], "rotten")
    again(saver, first, "7", id="8", channel_values={**first.checkpoint["channel_values"], "messages": "Hello"})
    again(saver, first, "8", id="9")
    saver.engine = saver.engine.inner
    return {("damaged", "2"), ("no parent", "4"), ("circle", "5"), ("damaged", "7"), ("wrong type", "8")}


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    order: NotRequired[str]


def test_every_engine_tells_what_is_wrong_and_repair_leaves_a_healthy_store(saver, ill, tmp_path):
    healthy = others(saver)
    found = {(each.what, each.checkpoint_id) for each in validate(saver, State)}
    assert found == ill
    file = tmp_path / "aside.jsonl"
    report = repair(saver, file, State)
    assert {(each.what, each.checkpoint_id) for each in report.mended} == {("no parent", "4"), ("circle", "5")}
    assert {(each.what, each.checkpoint_id) for each in report.aside} == ill - {("no parent", "4"), ("circle", "5")}
    assert report.left == []
    assert list(validate(saver, State)) == []
    assert others(saver) == healthy
    parents = {
        each.checkpoint["id"]: each.parent_config and each.parent_config["configurable"]["checkpoint_id"]
        for each in saver.list(named("ana"))
    }
    assert parents == {"1": None, "3": None, "4": None, "5": None, "6": "5", "9": "6"}
    assert_continues(saver)
    kept = [json.loads(line) for line in file.read_text().splitlines()]
    assert {(each["checkpoint_id"], each["parent"]) for each in kept if not each["aside"]} == {
        ("3", "2"),
        ("4", "0"),
        ("5", "6"),
        ("9", "8"),
    }
    assert restore(saver, file) == 3
    assert {(each.what, each.checkpoint_id) for each in validate(saver, State)} == {
        each for each in ill if each[0] in ("damaged", "wrong type")
    }


def others(saver):
    """All that is in the healthy threads."""
    return {
        (thread_id, found.checkpoint["id"]): found
        for thread_id in ("done", "waits", "forked")
        for found in saver.list(named(thread_id))
    }


@pytest.mark.parametrize("page", [1, 3, 50])
def test_what_cannot_be_read_is_named_and_the_rest_is_copied_and_migrated(saver, ill, monkeypatch, page):
    monkeypatch.setattr(walk, "PAGE", page)
    readable = set(all_that_is_readable(saver))
    target = InMemorySaver()
    report = convert(saver, target)
    assert sorted(each.checkpoint_id for each in report.failed) == ["2", "7"]
    assert {(thread_id, id) for thread_id, _, id in content(target)} == readable

    report = asyncio.run(amigrate(saver, desk_steps(), 3))
    assert sorted(each.checkpoint_id for each in report.failed) == ["2", "7"]
    assert report.changed == len(readable)
    assert_continues(target)


def all_that_is_readable(saver):
    """Threads and ids of all that can be read, one by one."""
    for thread_id in ("done", "waits", "forked"):
        yield from ((thread_id, found.checkpoint["id"]) for found in saver.list(named(thread_id)))
    yield from (("ana", id) for id in "1345689")


@pytest.mark.parametrize("kind", ["memory", "files"])
def test_orphan_writes_are_set_aside_and_put_back(kind, tmp_path):
    with open_saver((tmp_path / "store").as_uri()) if kind == "files" else Saver(MemoryEngine()) as saver:
        talk(saver)
        before = content(saver)
        newest = saver.get_tuple(named("done")).config["configurable"]
        lonely = {"configurable": {**newest, "checkpoint_id": "0"}}
        waiting = {"configurable": {**newest, "checkpoint_id": "f"}}
        saver.put_writes(lonely, [("messages", ["x" * 500])], "task")
        saver.put_writes(waiting, [("messages", ["may still come"])], "task")
        assert [(each.what, each.thread_id, each.checkpoint_id) for each in validate(saver)] == [
            ("orphan writes", "done", "0")
        ]
        report = repair(saver, tmp_path / "aside.jsonl")
        assert [each.checkpoint_id for each in report.aside] == ["0"]
        assert list(validate(saver)) == []
        assert content(saver) == before
        assert restore(saver, tmp_path / "aside.jsonl") == 1
        assert [each.what for each in validate(saver)] == ["orphan writes"]


def test_a_file_that_is_damaged_does_not_hide_the_other_threads(tmp_path):
    with open_saver(tmp_path.as_uri()) as saver:
        talk(saver)
        broken = min(tmp_path.rglob("*.log"))
        data = bytearray(broken.read_bytes())
        data[40] ^= 1
        broken.write_bytes(data)
        saver.engine.close()
        [problem] = validate(saver)
        assert (problem.what, problem.thread_id) == ("damaged", broken.stem)
        assert str(broken) in problem.why
        report = repair(saver, tmp_path / "aside.jsonl")
        assert report.left == [problem]
        assert broken.read_bytes() == data


def test_a_file_that_is_damaged_is_told_and_the_other_threads_are_copied(tmp_path):
    with open_saver(tmp_path.as_uri()) as saver:
        talk(saver)
        broken = min(tmp_path.rglob("*.log"))
        [lost] = [
            thread_id
            for thread_id in ("done", "waits", "forked")
            if saver._core._thread(thread_id).hex() == broken.stem
        ]
        before = {key for key in content(saver) if key[0] != lost}
        data = bytearray(broken.read_bytes())
        data[40] ^= 1
        broken.write_bytes(data)
        saver.engine.close()
        target = InMemorySaver()
        [failure] = convert(saver, target).failed
        assert (failure.thread_id, failure.checkpoint_id) == (broken.stem, "(all)")
        assert str(broken) in failure.reason
        assert content(target).keys() == before


def test_a_checkpoint_that_the_saver_does_not_take_anew_is_left_and_told(tmp_path):
    engine = MemoryEngine()
    talk(Saver(engine))
    saver = Saver(engine, fencing=True)
    first = next(saver.list(named("done")))
    for id, parent in (("2", "1"), ("3", "2")):
        again(Saver(engine), first, parent, id=id)
    report = repair(saver, tmp_path / "aside.jsonl")
    assert [(each.what, each.checkpoint_id) for each in report.left] == [("no parent", "2")]
    assert (report.mended, report.aside) == ([], [])
    assert list(validate(saver)) == report.left


def test_a_storage_that_goes_away_stops_a_repair_that_may_be_run_again(tmp_path):
    class Leaving(MemoryEngine):
        gone = False

        def perform(self, request):
            if self.gone and isinstance(request, Put):
                raise Unavailable("The cable is cut.")
            return super().perform(request)

    saver = Saver(Leaving())
    talk(saver)
    again(saver, next(saver.list(named("done"))), "missing", id="1")
    saver.engine.gone = True
    with pytest.raises(Unavailable, match="The cable is cut"):
        repair(saver, tmp_path / "aside.jsonl")
    saver.engine.gone = False
    assert [each.checkpoint_id for each in repair(saver, tmp_path / "aside.jsonl").mended] == ["1"]
    assert list(validate(saver)) == []


def test_a_child_of_what_is_set_aside_whose_own_parent_is_missing_becomes_a_first_one(tmp_path):
    saver = Saver(MemoryEngine())
    talk(saver)
    first = next(saver.list(named("done")))
    saver.put_writes(config_of(("ana", ""), "0"), [("messages", ["x" * 500])], "task")  # an orphan: "0" never comes
    again(saver, first, "0", id="1", channel_values={"messages": "Hello"})
    again(saver, first, "1", id="2")
    assert [(each.what, each.checkpoint_id) for each in validate(saver, State) if each.what != "no parent"] == [
        ("wrong type", "1"),
        ("orphan writes", "0"),
    ]
    repair(saver, tmp_path / "aside.jsonl", State)
    assert list(validate(saver, State)) == []
    assert saver.get_tuple(named("ana")).parent_config is None


class Customer(BaseModel):
    name: str


@pytest.mark.parametrize(
    ("schema", "wrong"),
    [
        ({"customer": Customer}, "customer: "),
        ({"customer": Customer | None}, "customer: "),
        ({"customer": str, "count": int}, "count: "),
        ({"customer": NotRequired[int]}, "customer: "),
        ({"count": str}, ""),
        ({}, ""),
    ],
)
def test_a_schema_may_be_a_mapping_and_its_types_may_bring_their_own_settings(schema, wrong):
    saver = Saver(MemoryEngine())
    put(saver, named("ana"), {"customer": "Ana", "count": "1"})
    found = list(validate(saver, schema))
    assert [each.what for each in found] == (["wrong type"] if wrong else [])
    assert all(each.why.startswith(wrong) for each in found)


@pytest.mark.parametrize("schema", ["State", [State], 3])
def test_what_is_no_schema_is_refused(schema):
    with pytest.raises(InvalidRequest, match="the class of a state or a mapping of channels to types, not"):
        list(validate(Saver(MemoryEngine()), schema))


def test_a_store_of_others_is_not_taken_for_a_healthy_one():
    with pytest.raises(InvalidRequest, match="InMemorySaver: convert it first"):
        list(validate(InMemorySaver()))


def test_what_is_removed_while_a_store_is_repaired_needs_no_repair(monkeypatch, tmp_path):
    saver = Saver(MemoryEngine())
    talk(saver)
    again(saver, next(saver.list(named("done"))), "missing", id="1")
    monkeypatch.setattr(os, "fsync", lambda _: saver.delete_thread("ana"))  # after all was read, before all is mended
    report = repair(saver, tmp_path / "aside.jsonl")
    assert [each.checkpoint_id for each in report.mended] == ["1"]
    assert list(saver.list(named("ana"))) == list(validate(saver)) == []
