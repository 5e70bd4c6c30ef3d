"""What a checkpointer must do and the official suite does not ask: each case takes an empty saver and asserts.

The name of a case says what holds. Cases use nothing but LangGraph's interface, so they judge any saver.
"""

from collections.abc import Callable
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.base.id import uuid6

Saver = BaseCheckpointSaver
CASES: list[Callable[[Saver], None]] = []


def case(function: Callable[[Saver], None]) -> Callable[[Saver], None]:
    """Add a function to the cases."""
    CASES.append(function)
    return function


# --- what cases are made of -------------------------------------------------------------------------------------------


def config(thread: str = "ana", ns: str = "", checkpoint_id: str | None = None) -> dict:
    """A config that names a thread, a namespace and perhaps a checkpoint."""
    named = {"thread_id": thread, "checkpoint_ns": ns}
    return {"configurable": named | ({"checkpoint_id": checkpoint_id} if checkpoint_id else {})}


def put(saver: Saver, above: dict, values: dict | None = None, versions: dict | None = None, **more: Any) -> dict:
    """Put a checkpoint with these values, all of them changed unless `new` says which were; return its config."""
    values = values or {}
    versions = versions or dict.fromkeys(values, 1)
    checkpoint = {
        "v": 4,
        "id": more.get("id") or str(uuid6()),
        "ts": "2026-11-25T12:00:00.000000+00:00",
        "channel_values": values,
        "channel_versions": versions,
        "versions_seen": {},
        "updated_channels": None,
    }
    metadata = {"source": more.get("source", "loop"), "step": 1, "parents": {}} | more.get("metadata", {})
    return saver.put(above, checkpoint, metadata, more.get("new", versions))


def values(saver: Saver, where: dict) -> dict:
    """The channel values of a checkpoint."""
    found = saver.get_tuple(where)
    assert found is not None, "there is no such checkpoint"
    return found.checkpoint["channel_values"]


def pending(saver: Saver, where: dict) -> list:
    """The pending writes of a checkpoint."""
    found = saver.get_tuple(where)
    assert found is not None, "there is no such checkpoint"
    return found.pending_writes or []


def ids(found: Any) -> list[str]:
    """The checkpoint ids of a listing."""
    return [each.config["configurable"]["checkpoint_id"] for each in found]


def conversation(saver: Saver, thread: str = "ana", turns: int = 30) -> list[dict]:
    """A thread whose list of messages grows by one in each checkpoint; the configs, oldest first."""
    above, messages, configs = config(thread), [], []
    for turn in range(turns):
        message = (HumanMessage if turn % 2 else AIMessage)(f"{turn}: {'lorem ipsum ' * 20}", id=f"{thread}-{turn}")
        messages = [*messages, message]
        above = put(saver, above, {"messages": messages, "turns": turn}, {"messages": turn + 1, "turns": turn + 1})
        configs.append(above)
    return configs


def contents(found: CheckpointTuple | None) -> list[str]:
    """The first words of the messages of a conversation's checkpoint."""
    assert found is not None, "there is no such checkpoint"
    return [message.content.split(":")[0] for message in found.checkpoint["channel_values"]["messages"]]


# --- values -----------------------------------------------------------------------------------------------------------


@case
def what_is_changed_after_a_put_stays_as_it_was_put(saver):
    messages, plan = [HumanMessage("one", id="1")], {"steps": ["a"]}
    where = put(saver, config(), {"messages": messages, "plan": plan})
    saver.put_writes(where, [("messages", messages)], "task")
    messages[0].content = "changed"
    messages.append("more")
    plan["steps"].append("b")

    assert values(saver, where) == {"messages": [HumanMessage("one", id="1")], "plan": {"steps": ["a"]}}
    assert pending(saver, where) == [("task", "messages", [HumanMessage("one", id="1")])]


@case
def what_is_changed_after_a_get_stays_as_it_was_put(saver):
    where = put(saver, config(), {"messages": [HumanMessage("one", id="1")]})
    found = values(saver, where)["messages"]
    found[0].content = "changed"
    found.clear()

    assert values(saver, where) == {"messages": [HumanMessage("one", id="1")]}


@case
def each_checkpoint_of_a_growing_list_keeps_its_own(saver):
    configs = conversation(saver)

    for turn, where in enumerate(configs):
        assert contents(saver.get_tuple(where)) == [str(n) for n in range(turn + 1)]
    assert [len(contents(each)) for each in saver.list(config())] == list(range(30, 0, -1))


@case
def a_list_that_shrinks_changes_in_the_middle_or_repeats_itself_comes_back(saver):
    words = [f"{n}: {'word ' * 40}" for n in range(40)]
    versions = [
        words,
        words[5:],
        [*words[:20], "new", *words[21:]],
        words[::-1],
        words * 3,
        [words[0]] * 50,
        [],
        [[]],
        [words, words],
        words[:1],
        [None, True, 1, 1.0, "", b""],
        list(range(1000)),
    ]
    above, configs = config(), []
    for number, value in enumerate(versions):
        above = put(saver, above, {"words": value}, {"words": number + 1})
        configs.append(above)

    assert [values(saver, where)["words"] for where in configs] == versions


@case
def a_channel_that_did_not_change_keeps_its_value_though_it_is_not_repeated(saver):
    first = put(saver, config(), {"a": "1" * 200, "b": "2" * 200}, {"a": 1, "b": 1})
    second = put(saver, first, {"a": "3"}, {"a": 2, "b": 1}, new={"a": 2})
    third = put(saver, second, {}, {"a": 2, "b": 1}, new={})

    assert values(saver, second) == {"a": "3", "b": "2" * 200}
    assert values(saver, third) == {"a": "3", "b": "2" * 200}


@case
def a_channel_that_changed_and_has_no_value_has_none(saver):
    first = put(saver, config(), {"a": "1", "b": "2" * 200}, {"a": 1, "b": 1})
    second = put(saver, first, {"a": "1"}, {"a": 1, "b": 2}, new={"b": 2})
    third = put(saver, second, {"a": "1"}, {"a": 1, "b": 2}, new={})

    assert values(saver, second) == values(saver, third) == {"a": "1"}
    assert values(saver, first) == {"a": "1", "b": "2" * 200}


@case
def a_fork_leaves_the_branch_that_it_left_alone(saver):
    root = put(saver, config(), {"words": ["root " * 50]}, {"words": saver.get_next_version(None, None)})
    version = saver.get_tuple(root).checkpoint["channel_versions"]["words"]
    one = put(saver, root, {"words": ["root " * 50, "one"]}, {"words": saver.get_next_version(version, None)})
    two = put(saver, root, {"words": ["root " * 50, "two"]}, {"words": saver.get_next_version(version, None)})

    assert values(saver, one)["words"][-1] == "one"
    assert values(saver, two)["words"][-1] == "two"
    assert values(saver, root)["words"] == ["root " * 50]


@case
def versions_grow_whatever_they_were(saver):
    version = None
    for _ in range(12):
        following = saver.get_next_version(version, None)
        assert version is None or following > version
        version = following


# --- which checkpoint -------------------------------------------------------------------------------------------------


@case
def the_newest_is_the_one_with_the_greatest_id(saver):
    early, middle, late = (str(uuid6()) for _ in range(3))
    put(saver, config(), {"a": "late"}, id=late)
    put(saver, config(), {"a": "early"}, id=early)
    put(saver, config(), {"a": "middle"}, id=middle)

    assert values(saver, config()) == {"a": "late"}
    assert ids(saver.list(config())) == [late, middle, early]


@case
def a_checkpoint_that_is_put_again_is_there_once_and_as_it_was_put_last(saver):
    where = put(saver, config(), {"a": 1})
    id = where["configurable"]["checkpoint_id"]
    put(saver, config(), {"a": 2}, id=id)

    assert ids(saver.list(config())) == [id]
    assert values(saver, where) == {"a": 2}


@case
def a_namespace_is_not_the_beginning_of_another(saver):
    for ns in ("", "a", "a|b", "a:b", "ab"):
        put(saver, config(ns=ns), {"ns": ns})

    for ns in ("", "a", "a|b", "a:b", "ab"):
        assert [each.checkpoint["channel_values"]["ns"] for each in saver.list(config(ns=ns))] == [ns]
    assert len(list(saver.list({"configurable": {"thread_id": "ana"}}))) == 5


@case
def a_listing_goes_on_where_before_says_and_counts_what_the_filter_leaves(saver):
    above, configs = config(), []
    for step in range(250):
        above = put(saver, above, metadata={"step": step, "even": step % 2 == 0})
        configs.append(above)

    assert (
        ids(saver.list(config()))
        == ids(saver.list(None))
        == [each["configurable"]["checkpoint_id"] for each in reversed(configs)]
    )
    found = list(saver.list(config(), before=configs[200], filter={"even": True}, limit=3))
    assert [each.metadata["step"] for each in found] == [198, 196, 194]
    assert list(saver.list(config(), filter={"even": True, "step": 7})) == []
    assert list(saver.list(config(), limit=0)) == []
    assert len(list(saver.list(config(), filter={"even": False}))) == 125


@case
def threads_are_listed_together_newest_first(saver):
    put_ids = [put(saver, config(f"thread {n % 3}"))["configurable"]["checkpoint_id"] for n in range(9)]

    assert ids(saver.list(None)) == put_ids[::-1]
    assert ids(saver.list(None, limit=2)) == put_ids[:-3:-1]


# --- writes -----------------------------------------------------------------------------------------------------------


@case
def a_write_that_is_made_again_keeps_what_was_written_first(saver):
    where = put(saver, config())
    saver.put_writes(where, [("a", "first"), ("b", "first")], "task")
    saver.put_writes(where, [("a", "again"), ("b", "again"), ("c", "new")], "task")

    assert pending(saver, where) == [("task", "a", "first"), ("task", "b", "first"), ("task", "c", "new")]


@case
def an_error_an_interrupt_and_an_answer_to_it_are_the_last_that_were_written(saver):
    where = put(saver, config())
    for said in ("first", "last"):
        for channel in ("__error__", "__interrupt__", "__resume__", "__scheduled__"):
            saver.put_writes(where, [(channel, said)], "task")
    saver.put_writes(where, [("messages", "kept")], "task")

    found = {channel: value for _, channel, value in pending(saver, where)}
    special = dict.fromkeys(["__error__", "__interrupt__", "__resume__", "__scheduled__"], "last")
    assert found == special | {"messages": "kept"}


@case
def writes_come_in_the_order_of_their_paths_tasks_and_indexes(saver):
    where = put(saver, config())
    saver.put_writes(where, [("x", n) for n in range(12)], "task-a", "~__pregel_pull, z")
    saver.put_writes(where, [("x", "b")], "task-b", "~__pregel_pull, a")
    saver.put_writes(where, [("x", "c")], "task-0", "")

    assert [value for _, _, value in pending(saver, where)] == ["c", "b", *range(12)]


@case
def writes_may_come_before_their_checkpoint(saver):
    id = str(uuid6())
    saver.put_writes(config(checkpoint_id=id), [("a", "early" * 50)], "task")

    assert saver.get_tuple(config()) is None
    where = put(saver, config(), {"b": 1}, id=id)
    assert pending(saver, where) == [("task", "a", "early" * 50)]


@case
def writes_belong_to_one_checkpoint_of_one_namespace(saver):
    id = str(uuid6())
    here, there = put(saver, config(), id=id), put(saver, config(ns="sub"), id=id)
    saver.put_writes(here, [("a", 1)], "task")

    assert pending(saver, here) == [("task", "a", 1)]
    assert pending(saver, there) == []


# --- metadata ---------------------------------------------------------------------------------------------------------


@case
def metadata_takes_what_the_config_has(saver):
    above = config() | {"metadata": {"run_id": "run", "user": "ana"}}
    above["configurable"] |= {"plan": "gold", "__secret": "hidden", "thread_id": "ana"}
    where = put(saver, above, metadata={"user": "ben"})

    found = saver.get_tuple(where).metadata
    assert {key: found[key] for key in ("source", "step", "user", "plan", "run_id")} == {
        "source": "loop",
        "step": 1,
        "user": "ben",
        "plan": "gold",
        "run_id": "run",
    }
    assert "__secret" not in found
    assert ids(saver.list(None, filter={"plan": "gold", "user": "ben"})) == [where["configurable"]["checkpoint_id"]]


# --- removal ----------------------------------------------------------------------------------------------------------


@case
def a_deleted_thread_is_gone_with_its_writes_and_no_other_is(saver):
    for thread in ("1", "10", "1:0", "1%"):
        where = put(saver, config(thread), {"a": thread * 200}, id="1f1e8000-0000-6000-8000-000000000001")
        saver.put_writes(where, [("a", "w" * 200)], "task")
    saver.delete_thread("1")

    assert saver.get_tuple(config("1")) is None
    assert list(saver.list(config("1"))) == []
    for thread in ("10", "1:0", "1%"):
        assert values(saver, config(thread)) == {"a": thread * 200}
        assert pending(saver, config(thread)) == [("task", "a", "w" * 200)]


@case
def a_checkpoint_that_comes_back_after_a_deletion_has_no_old_writes(saver):
    where = put(saver, config(), {"a": 1})
    saver.put_writes(where, [("a", 2)], "task")
    saver.delete_thread("ana")
    try:
        put(saver, config(), {"a": 1}, id=where["configurable"]["checkpoint_id"])
    except Exception:
        return  # it is refused, as something that comes late: even better
    assert pending(saver, where) == []


@case
def a_thread_that_starts_again_after_its_deletion_has_nothing_of_the_old_one(saver):
    conversation(saver, turns=5)
    saver.delete_thread("ana")
    id = str(uuid6())
    where = put(saver, config(), {"messages": ["new"]}, id=id)

    assert values(saver, config()) == {"messages": ["new"]}
    assert pending(saver, where) == []
    assert ids(saver.list(config())) == [id]
    assert len(conversation(saver, turns=5)) == 5
    assert contents(saver.get_tuple(config())) == ["0", "1", "2", "3", "4"]
