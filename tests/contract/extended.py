"""What our savers do beyond LangGraph's base interface. Each case takes a storage, empty at first, to open savers on."""

import asyncio
import operator
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base.id import uuid6
from langgraph.graph import START, StateGraph

from learning.savers import Conflict, InvalidRequest, NotStorable, ThreadDeleted, Unreadable

from .cases import config, contents, conversation, ids, pending, put, values

CASES: list[Callable[[Any], None]] = []


def case(function: Callable[[Any], None]) -> Callable[[Any], None]:
    """Add a function to the cases."""
    CASES.append(function)
    return function


# --- removal and copies -----------------------------------------------------------------------------------------------


@case
def pruning_keeps_the_newest_whole_and_its_items_only(storage):
    saver = storage.open()
    for thread in ("ana", "ben"):
        head = conversation(saver, thread)[-1]
        for n in range(1, 6):
            versions = {"messages": 30, "scratch": n}
            head = put(saver, head, {"scratch": f"{n} " * 200}, versions, new={"scratch": n})
        saver.put_writes(head, [("messages", ["pending " * 50])], "task")
    before = storage.items()
    saver.prune(["ana"])

    assert contents(saver.get_tuple(config("ana"))) == [str(n) for n in range(30)]
    assert pending(saver, config("ana")) == [("task", "messages", ["pending " * 50])]
    assert len(list(saver.list(config("ana")))) == 1
    assert len(list(saver.list(config("ben")))) == 35
    assert storage.items() == before - 4


@case
def what_is_put_after_pruning_is_whole(storage):
    saver, other = storage.open(), storage.open()
    configs = conversation(saver)
    saver.get_tuple(config())
    other.prune(["ana"])
    messages = values(other, config())["messages"]
    where = put(saver, configs[-1], {"messages": [*messages, *messages]}, {"messages": 31})

    assert values(other, where)["messages"] == [*messages, *messages]


@case
def what_is_inherited_from_a_checkpoint_that_was_pruned_meanwhile_is_not_made_up(storage):
    saver, other = storage.open(), storage.open()
    first = put(saver, config(), {"a": "1" * 200, "b": "2" * 200})
    put(other, first, {"c": "3" * 200}, {"c": 1})
    other.prune(["ana"])
    saver.get_tuple(config())  # now it knows the thread as it is, and remembers the first checkpoint as it was
    where = put(saver, first, {"a": "4" * 200}, {"a": 2, "b": 1}, new={"a": 2})

    assert values(other, where) == {"a": "4" * 200}


@case
def nothing_is_left_of_what_is_deleted(storage):
    saver = storage.open()
    conversation(saver, "ana")
    where = put(saver, config("ana"), {"big": "x" * 1000})
    saver.put_writes(where, [("big", "y" * 1000)], "task")
    saver.delete_thread("ana")
    put(saver, config("ben"), {"a": 1})

    assert storage.items() == 0


@case
def retention_keeps_the_young_and_the_newest_and_tells_before_it_does(storage):
    saver = storage.open()
    conversation(saver)  # of a day long past
    assert saver.retain("ana", newest=10, dry_run=True) == 20
    assert len(list(saver.list(config()))) == 30
    assert saver.retain("ana", newest=10) == 20
    assert len(list(saver.list(config()))) == 10
    assert saver.retain("ana", newest=1, younger_than=timedelta(days=36500)) == 0
    assert saver.retain("nobody") == 0
    with pytest.raises(InvalidRequest, match="at least its newest"):
        saver.retain("ana", newest=0)


@case
def a_copy_outlives_what_it_was_copied_from(storage):
    saver = storage.open()
    configs = conversation(saver, "ana")
    saver.put_writes(configs[3], [("x", 1), ("__interrupt__", "ask"), ("y", 2)], "task", "path")
    put(saver, configs[-1], {"ns": 1}, id=str(uuid6()))
    saver.copy_thread("ana", "ben")
    saver.delete_thread("ana")

    there = list(saver.list(config("ben")))
    assert len(there) == 31
    assert [len(contents(each)) for each in there[1:]] == list(range(30, 0, -1))
    third = config("ben", checkpoint_id=configs[3]["configurable"]["checkpoint_id"])
    assert pending(saver, third) == [("task", "__interrupt__", "ask"), ("task", "x", 1), ("task", "y", 2)]
    assert saver.get_tuple(third).parent_config == config(
        "ben", checkpoint_id=configs[2]["configurable"]["checkpoint_id"]
    )


@case
def deleting_runs_takes_their_checkpoints_wherever_they_are(storage):
    saver = storage.open()
    for thread in ("ana", "ben"):
        for run in ("one", "two"):
            put(saver, config(thread), {"a": run * 100}, metadata={"run_id": run})
    saver.delete_for_runs(["one", "no such run"])

    assert [each.metadata["run_id"] for each in saver.list(None)] == ["two", "two"]


@case
def a_strategy_that_does_not_exist_removes_nothing(storage):
    saver = storage.open()
    conversation(saver, turns=3)
    with pytest.raises(InvalidRequest, match="keep_latest"):
        saver.prune(["ana"], strategy="keep_newest")
    assert len(list(saver.list(config()))) == 3


@case
def a_delta_channel_is_whole_after_pruning(storage):
    class State(TypedDict):
        words: Annotated[list[str], DeltaChannel(operator_add, snapshot_frequency=4)]

    saver = storage.open()
    graph = StateGraph(State).add_node("say", lambda state: {"words": ["said"]}).add_edge(START, "say")
    agent = graph.compile(checkpointer=saver)
    for turn in range(11):
        agent.invoke({"words": [f"turn {turn}"]}, config())
    whole = agent.get_state(config()).values["words"]
    assert len(whole) == 22
    saver.prune(["ana"])

    assert agent.get_state(config()).values["words"] == whole
    assert len(list(saver.list(config()))) < 22
    saver.copy_thread("ana", "ben")
    assert agent.get_state(config("ben")).values["words"] == whole


def operator_add(state: list, writes: list) -> list:
    """A reducer for a delta channel: it is handed all writes at once."""
    for write in writes:
        state = operator.add(state, write)
    return state


# --- late writes and other writers ------------------------------------------------------------------------------------


@case
def what_comes_late_to_a_deleted_thread_is_refused(storage):
    saver, other = storage.open(), storage.open()
    configs = conversation(saver, turns=3)
    late = str(uuid6())
    other.delete_thread("ana")
    with pytest.raises(ThreadDeleted, match=r"ana"):
        put(saver, configs[-1], {"a": 1}, id=late)
    with pytest.raises(ThreadDeleted):
        put(saver, configs[-1], {"a": 1})
    with pytest.raises(ThreadDeleted):
        saver.put_writes(configs[-1], [("a", 1)], "task")

    assert list(other.list(None)) == []
    assert storage_is_usable(saver)


@case
def of_two_writers_on_one_thread_the_second_is_told(storage):
    saver, other = storage.open(fencing=True), storage.open(fencing=True)
    first = put(saver, config(), {"a": 1}, source="input")
    with pytest.raises(Conflict):
        put(other, config(), {"a": 2}, source="input")
    second = put(saver, first, {"a": 2})
    with pytest.raises(Conflict, match="read the thread again"):
        put(other, first, {"a": 3})
    again = put(saver, first, {"a": 2}, id=second["configurable"]["checkpoint_id"])
    fork = put(other, first, {"a": 4}, source="update")

    assert again == second
    assert ids(saver.list(config())) == [each["configurable"]["checkpoint_id"] for each in (fork, second, first)]


@case
def of_two_writers_at_the_same_moment_one_is_told(storage):
    savers = [storage.open(fencing=True), storage.open(fencing=True)]
    head = put(savers[0], config(), {"n": 0}, source="input")

    def extend(saver: Any, above: dict, start: threading.Barrier, n: int) -> dict | None:
        start.wait()
        try:
            return put(saver, above, {"n": n}, {"n": n})
        except Conflict:
            return None

    with ThreadPoolExecutor(2) as pool:
        for n in range(1, 31):
            start = threading.Barrier(2)
            outcomes = [pool.submit(extend, saver, head, start, n) for saver in savers]
            stored = [outcome.result() for outcome in outcomes if outcome.result()]
            assert len(stored) == 1
            head = stored[0]
    assert len(list(savers[0].list(config()))) == 31


@case
def a_thread_ends_with_its_time_and_nothing_is_left_of_it(storage):
    saver = storage.open(ttl=timedelta(seconds=0.2))
    where = put(saver, config(), {"a": "x" * 500})
    saver.put_writes(where, [("a", "y" * 500)], "task")
    storage.wait_until(lambda: saver.get_tuple(config()) is None)

    assert list(saver.list(None)) == []
    saver.sweep()
    assert (storage.items(), saver.sweep()) == (0, 0)
    where = put(saver, config(), {"b": "z" * 500})
    assert values(saver, where) == {"b": "z" * 500}
    assert pending(saver, where) == []


@case
def a_sweep_takes_what_has_expired_and_nothing_else(storage):
    keeping, passing = storage.open(), storage.open(ttl=timedelta(seconds=0.2))
    conversation(keeping, "stays", turns=3)
    before = storage.items()
    for sweep in (keeping.sweep, lambda: asyncio.run(keeping.asweep())):
        put(passing, config("goes"), {"a": "x" * 500})
        over = time.time() + 0.25
        storage.wait_until(lambda: time.time() > over)  # noqa: B023
        assert sweep() == (0 if storage.kind in ("redis", "cluster") else 1)  # those do it by themselves
        assert (storage.items(), sweep()) == (before, 0)

    assert [len(contents(each)) for each in keeping.list(None)] == [3, 2, 1]


# --- tenants and keys -------------------------------------------------------------------------------------------------


@case
def tenants_see_nothing_of_each_other(storage):
    acme, other, nobody = storage.open(tenant="acme"), storage.open(tenant="acm"), storage.open()
    where = put(acme, config(), {"secret": "s" * 300}, metadata={"run_id": "run"})
    acme.put_writes(where, [("secret", "w")], "task")

    for saver in (other, nobody):
        assert saver.get_tuple(where) is None
        assert saver.get_tuple(config()) is None
        assert list(saver.list(None)) == list(saver.list(config())) == []
        saver.delete_thread("ana")
        saver.delete_for_runs(["run"])
        saver.prune(["ana"], strategy="delete")
        saver.copy_thread("ana", "ben")
        put(saver, config(), {"mine": 1})
    assert values(acme, config()) == {"secret": "s" * 300}
    assert len(list(acme.list(None))) == 1


@case
def a_key_hides_everything_and_another_key_opens_nothing(storage):
    old, new = bytes(range(32)), bytes(range(1, 33))
    where = put(storage.open(keys=[old]), config(), {"secret": "s" * 300, "short": "tiny"}, metadata={"user": "ana"})

    for keys in ([], [new]):
        with pytest.raises(Unreadable, match=r"encrypted|key"):
            storage.open(keys=keys).get_tuple(where)
    configs = conversation(storage.open(keys=[old]), "ben")
    rotated = storage.open(keys=[new, old])
    assert len(contents(rotated.get_tuple(configs[-1]))) == 30
    assert values(rotated, where) == {"secret": "s" * 300, "short": "tiny"}
    later = put(rotated, where, {"secret": "s" * 300}, {"secret": 2})
    assert values(storage.open(keys=[new, old]), later) == {"secret": "s" * 300}
    for secret in (b"ssss", b"tiny", b"ana"):
        assert secret not in storage.dump()


@case
def what_is_not_encrypted_is_refused_where_there_is_a_key(storage):
    where = put(storage.open(), config(), {"a": 1})
    with pytest.raises(Unreadable, match="not encrypted"):
        storage.open(keys=[bytes(32)]).get_tuple(where)


def storage_is_usable(saver: Any) -> bool:
    """Whether a saver still takes a new thread."""
    return values(saver, put(saver, config("new"), {"a": 1})) == {"a": 1}


# --- hostile input ----------------------------------------------------------------------------------------------------

NAMES = [
    "../../etc/passwd", "/", ".", "", "a\0b", "\0", "{x}", "{", "a:b", "*", "?", "[a]", "%", "_", "'; DROP TABLE lg_items; --",
    '"', "\\", "\n", "\r\n", "é", "e\u0301", "\ud800", "\U0001f600", "名" * 3400, "x" * 10_000, " ", "NULL", "None", "0", "-1",
]  # fmt: skip


@case
def any_name_of_a_thread_or_a_namespace_is_a_name_and_no_more(storage):
    saver = storage.open()
    for number, name in enumerate(NAMES):
        put(saver, config(name, ns="sub"), {"n": number})
        put(saver, config("thread", ns=name), {"ns": number})
    for number, name in enumerate(NAMES):
        found = saver.get_tuple(config(name, ns="sub"))
        assert (found.config["configurable"]["thread_id"], found.checkpoint["channel_values"]) == (name, {"n": number})
        found = saver.get_tuple(config("thread", ns=name))
        assert (found.config["configurable"]["checkpoint_ns"], found.checkpoint["channel_values"]) == (
            name,
            {"ns": number},
        )
    for number, name in enumerate(NAMES):
        saver.delete_thread(name)
        assert len(list(saver.list(None))) == 2 * len(NAMES) - number - 1


@case
def any_id_of_a_checkpoint_or_a_task_is_an_id_or_is_refused(storage):
    saver = storage.open()
    for number, name in enumerate(name for name in NAMES if name):
        try:
            where = put(saver, config(f"thread {number}"), {"n": number}, id=name)
            saver.put_writes(where, [("a", number)], name, name)
        except InvalidRequest:
            assert len(name.encode(errors="replace")) > 255 or "\ud800" in name
            continue
        assert values(saver, config(f"thread {number}", checkpoint_id=name)) == {"n": number}
        assert pending(saver, where) == [(name, "a", number)]


@case
def a_filter_compares_and_does_no_more(storage):
    saver = storage.open()
    for name in NAMES:
        put(saver, config(), metadata={name: name} if name != "\ud800" else {}, id=str(uuid6()))
    for key in NAMES[:-6]:
        found = list(saver.list(None, filter={key: key})) if key not in ("\ud800", "a\0b", "\0") else []
        assert len(found) <= 1
        assert list(saver.list(None, filter={key: "x' OR '1'='1"})) == []
        assert list(saver.list(None, filter={f"{key}' OR 1=1 --": 1})) == []


@case
def odd_values_in_state_metadata_and_writes_come_back(storage):
    saver = storage.open()
    odd = {"inf": float("inf"), "nul": "a\0b", "half": "\ud800", "big": 2**80, "keys": {1: "a", None: 2}, "t": (1, [2])}
    where = put(saver, config(), {"odd": odd, "list": [odd, "\ud800" * 200]}, metadata={"odd": {"nul": ["\0"]}})
    saver.put_writes(where, [("odd", odd)], "task")

    assert values(saver, where) == {"odd": odd, "list": [odd, "\ud800" * 200]}
    assert pending(saver, where) == [("task", "odd", odd)]
    assert saver.get_tuple(where).metadata["odd"] == {"nul": ["\0"]}


@case
def what_cannot_be_stored_is_refused_by_name_and_stores_nothing(storage):
    saver = storage.open()
    with pytest.raises(NotStorable, match=r"channel 'plan': builtins\.object .*thread 'ana'"):
        put(saver, config(), {"fine": 1, "plan": object()})
    where = put(saver, config(), {"fine": 1})
    with pytest.raises(NotStorable, match=r"channel 'plan'\[0\]\['x'\]"):
        saver.put_writes(where, [("fine", 1), ("plan", [{"x": object()}])], "task")

    assert pending(saver, where) == []
    assert ids(saver.list(None)) == [where["configurable"]["checkpoint_id"]]


# --- what a tester broke ----------------------------------------------------------------------------------------------


@case
def what_names_no_run_and_no_thread_removes_nothing(storage):
    saver = storage.open()
    put(saver, config("1"))
    put(saver, config("2"), metadata={"run_id": "run"})
    for runs in ([None], [""], "run", ["run", None]):
        with pytest.raises(InvalidRequest):
            saver.delete_for_runs(runs)
    with pytest.raises(InvalidRequest, match="a list of strings, not one"):
        saver.prune("12", strategy="delete")

    assert len(list(saver.list(None))) == 2


@case
def of_many_puts_to_a_thread_whose_time_is_up_none_is_lost(storage):
    saver = storage.open()
    with ThreadPoolExecutor(4) as pool:
        for _ in range(8):
            conversation(saver, turns=2)
            saver.prune(["ana"], strategy="delete")
            start = threading.Barrier(4)

            def store(n: int, start: threading.Barrier = start) -> dict:
                start.wait()
                return put(saver, config(), {"n": n, "big": f"{n}" * 300})

            for n, where in enumerate(pool.map(store, range(4))):
                assert values(saver, where) == {"n": n, "big": f"{n}" * 300}


@case
def of_many_first_writers_one_is_told_that_it_is_first(storage):
    savers = [storage.open(fencing=True), storage.open(fencing=True)]
    with ThreadPoolExecutor(4) as pool:
        for round in range(10):
            start = threading.Barrier(4)

            def begin(n: int, start: threading.Barrier = start, thread: str = f"thread {round}") -> int:
                start.wait()
                try:
                    put(savers[n % 2], config(thread), {"n": n}, source="input")
                except Conflict:
                    return 0
                return 1

            assert sum(pool.map(begin, range(4))) == 1


@case
def a_checkpoint_with_very_many_channels_and_writes_comes_back(storage):
    saver = storage.open()
    channels = {f"channel {n}": f"{n} " * 40 for n in range(9000)}
    where = put(saver, config(), channels)
    saver.put_writes(where, [("x", f"{n} " * 40) for n in range(2000)], "task")
    saver.put_writes(where, [("x", "again")] * 3, "task")

    assert values(saver, where) == channels
    assert [value for _, _, value in pending(saver, where)] == [f"{n} " * 40 for n in range(2000)]
    assert saver.retain("ana") == 0
    saver.delete_thread("ana")
    assert storage.items() == 0


@case
def a_copy_may_be_taken_back_after_a_deletion(storage):
    saver = storage.open()
    configs = conversation(saver, turns=3)
    saver.put_writes(configs[-1], [("x", 1)], "task")
    saver.copy_thread("ana", "safe")
    saver.delete_thread("ana")
    saver.copy_thread("safe", "ana")

    assert contents(saver.get_tuple(config())) == ["0", "1", "2"]
    assert pending(saver, config()) == [("task", "x", 1)]


@case
def a_config_that_names_no_thread_does_not_mean_all(storage):
    saver = storage.open()
    where = put(saver, config())
    for wrong in ({}, {"configurable": {}}):
        with pytest.raises(InvalidRequest, match="names no thread"):
            list(saver.list(wrong))
    empty = {"configurable": {"thread_id": "ana", "checkpoint_ns": None, "checkpoint_id": ""}}
    assert ids(saver.list(empty, before={"configurable": {"checkpoint_id": ""}})) == ids(saver.list(where))
    for wrong in ({"ttl": timedelta(0)}, {"ttl": 3600}, {"tenant": None}):
        with pytest.raises(InvalidRequest):
            storage.open(**wrong)


@case
def a_saver_that_was_closed_opens_again(storage):
    saver = storage.open()
    put(saver, config(), {"a": 1})
    for _ in range(2):
        saver.close()
        assert values(saver, config()) == {"a": 1}
