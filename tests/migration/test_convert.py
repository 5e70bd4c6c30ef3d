"""From one saver into another: nothing is lost or changed on the way, and every thread continues."""

import operator
from typing import Annotated, TypedDict

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from learning.agent import build_agent
from learning.migration import convert, walk
from learning.migration.official import opened
from learning.migration.walk import Failures, names, perform
from learning.savers import Unavailable
from learning.savers.wrappers.base import Wrapper

TALKS = {
    "done": ["Where is 1001 and 1002?", "Thanks"],
    "waits": ["Hello", "Please refund order 1001"],  # for a person, in a subgraph
}


def named(thread_id):
    return {"configurable": {"thread_id": thread_id}}


def talk(saver):
    """Two conversations, one of which waits for a person, and one that has a fork."""
    agent = build_agent(saver)
    for thread_id, texts in TALKS.items():
        for text in texts:
            agent.invoke({"messages": [("user", text)]}, named(thread_id))
    agent.invoke({"messages": [("user", "Hello")]}, named("forked"))
    past = list(agent.get_state_history(named("forked")))[-1]
    agent.invoke({"messages": [("user", "Where is 1003?")]}, past.config)


def content(saver: BaseCheckpointSaver):
    """All that there is: for each checkpoint everything that the interface tells of it."""
    return {
        (*place(found.config), found.checkpoint["id"]): (
            found.checkpoint,
            found.metadata,
            found.parent_config and (*place(found.parent_config), found.parent_config["configurable"]["checkpoint_id"]),
            found.pending_writes,
        )
        for found in saver.list(None)
    }


def place(config):
    return config["configurable"]["thread_id"], config["configurable"]["checkpoint_ns"]


def whole(saver):
    """As `content`, with the writes of each checkpoint in one order: PostgresSaver has its own."""
    return {
        key: (*rest, sorted(writes, key=lambda write: (write[0], write[1])))
        for key, (*rest, writes) in content(saver).items()
    }


def assert_continues(saver):
    """As what was said before tells."""
    agent = build_agent(saver)
    assert agent.get_state(named("waits")).next
    assert "on their way back" in str(agent.invoke(Command(resume=True), named("waits"))["messages"])
    for thread_id in ("done", "forked"):
        before = len(agent.get_state(named(thread_id)).values["messages"])
        assert before >= 2
        assert len(agent.invoke({"messages": [("user", "Hello")]}, named(thread_id))["messages"]) == before + 2


@pytest.mark.parametrize("official", ["sqlite", "postgres"], indirect=True)
@pytest.mark.parametrize("ours", ["file", "postgresql"])
def test_an_official_store_is_converted_and_back_and_every_thread_continues(official, ours, request, tmp_path):
    url = (tmp_path / "ours").as_uri() if ours == "file" else request.getfixturevalue("postgres").url
    with opened(official, make=True) as source, opened(url, make=True, tenant=str(tmp_path)) as target:
        talk(source)
        before = whole(source)
        report = convert(source, target)
        assert (report.copied, report.there, list(report.failed)) == (len(before), 0, [])
        assert whole(target) == before
        back = InMemorySaver()
        convert(target, back)
        for thread_id in {thread_id for thread_id, _, _ in before}:
            source.delete_thread(thread_id)
        assert whole(source) == {}
        convert(back, source)
        assert whole(source) == before
        assert_continues(target)
        assert_continues(source)


def test_every_engine_takes_what_another_has_and_gives_it_on(saver):
    source, back = InMemorySaver(), InMemorySaver()
    talk(source)
    convert(source, saver)
    convert(saver, back)
    assert content(saver) == content(back) == content(source)
    assert_continues(saver)


class Stopping(Wrapper):
    """Does as the saver inside does, so many times."""

    def __init__(self, inner, calls):
        super().__init__(inner)
        self.calls = calls

    def handle(self, call):
        if call.method.startswith("put"):
            self.calls -= 1
            if self.calls < 0:
                raise Unavailable("The cable is cut.")
        return (yield call)


def test_a_second_run_finishes_what_was_stopped_at_any_moment():
    source = InMemorySaver()
    talk(source)
    for calls in range(200):
        target = InMemorySaver()
        try:
            convert(source, Stopping(target, calls))
        except Unavailable:
            ids = {key[2] for key in content(target)}
            parents = {value[2][2] for value in content(target).values() if value[2]}
            assert parents <= ids, "a checkpoint came before its parent"
            convert(source, target)
            assert content(target) == content(source)
        else:
            break
    assert calls > 20


def test_what_is_there_is_not_stored_again():
    source, target = InMemorySaver(), InMemorySaver()
    talk(source)
    convert(source, target)
    report = convert(source, Stopping(target, 0))
    assert (report.copied, report.there) == (0, len(content(source)))
    assert_continues(target)
    longer = content(target)
    convert(source, target)
    assert content(target) == longer, "what happened in the target since was changed"


def test_a_checkpoint_that_the_target_does_not_take_is_named_and_the_rest_goes_on(tmp_path):
    source = InMemorySaver()
    talk(source)
    odd = next(source.list(named("done"))).checkpoint["id"]
    with opened(tmp_path.as_uri()) as target:

        class Picky(Wrapper):
            def handle(self, call):
                if call.method == "put" and call.arguments[1]["id"] == odd:
                    raise TypeError("a value of a strange type")
                return (yield call)

        report = convert(source, Picky(target))
        assert [(each.thread_id, each.checkpoint_id) for each in report.failed] == [("done", odd)]
        assert "strange type" in str(next(iter(report.failed)))
        assert content(target) == {key: value for key, value in content(source).items() if key[2] != odd}


@pytest.mark.parametrize("official", ["postgres"], indirect=True)
def test_all_threads_are_found_in_pages_though_many_have_the_same_ids(official, monkeypatch):
    monkeypatch.setattr(walk, "PAGE", 2)
    with opened(official, make=True) as saver:
        for thread_id in "abcde":
            above = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
            for id in ("2", "1", "3") if thread_id == "c" else ("2",):
                saver.put(above, {**empty_checkpoint(), "id": id}, {}, {})
        saver.put(
            {"configurable": {"thread_id": "old", "checkpoint_ns": ""}}, {**empty_checkpoint(), "id": "0"}, {}, {}
        )
        assert sorted(perform(names(saver, Failures()))) == [(thread_id, "") for thread_id in [*"abcde", "old"]]


class Refusing(Wrapper):
    """Does as the saver inside does, but for listings that have a certain checkpoint in them."""

    def __init__(self, inner, id, error):
        super().__init__(inner)
        self.id, self.error = id, error

    def list(self, config, **options):
        for found in self.inner.list(config, **options):
            if config and found.checkpoint["id"] == self.id:
                raise self.error
            yield found


def test_a_source_that_stays_away_stops_the_copy_and_is_no_failure_of_a_checkpoint():
    source, target = InMemorySaver(), InMemorySaver()
    talk(source)
    newest = source.get_tuple(named("done")).checkpoint["id"]
    with pytest.raises(Unavailable, match="The cable is cut"):
        convert(Refusing(source, newest, Unavailable("The cable is cut.")), target)
    convert(source, target)
    assert content(target) == content(source)


def test_a_source_that_goes_away_while_it_is_read_one_by_one_stops_the_copy():
    source = InMemorySaver()
    talk(source)
    newest = source.get_tuple(named("done")).checkpoint["id"]

    class Worse(Refusing):
        def list(self, config, *, limit=None, **options):
            if limit == 1:
                raise Unavailable("The cable is cut.")
            return super().list(config, limit=limit, **options)

    with pytest.raises(Unavailable, match="The cable is cut"):
        convert(Worse(source, newest, ValueError("odd")), InMemorySaver())


@pytest.mark.parametrize(("age", "told"), [(0, "(the newest)"), (2, "before {}")])
def test_where_a_saver_of_others_does_not_say_which_checkpoint_it_cannot_read_the_newer_ones_are_copied(age, told):
    source, target = InMemorySaver(), InMemorySaver()
    talk(source)
    ids = [found.checkpoint["id"] for found in source.list(named("done"))]
    report = convert(Refusing(source, ids[age], ValueError("odd bytes")), target)
    [failure] = report.failed
    assert (failure.thread_id, failure.checkpoint_id) == ("done", told.format(ids[age - 1]))
    assert "odd bytes" in str(failure)
    expected = {key for key in content(source) if key[0] != "done" or key[2] in ids[:age]}
    assert content(target).keys() == expected


class Notes(TypedDict):
    notes: Annotated[list[str], operator.add]


def test_long_threads_keep_their_order_and_writes_theirs(tmp_path):
    def ask(number):
        return {"notes": [f"{number}: {interrupt(number)}"]} if number == 3 else {"notes": [f"{number}"]}

    graph = StateGraph(Notes)
    for number in range(8):
        graph.add_node(f"clerk {number}", lambda _, number=number: ask(number))
        graph.add_edge(START, f"clerk {number}")
        graph.add_edge(f"clerk {number}", END)
    source = InMemorySaver()
    long = build_agent(source)
    for number in range(40):  # three pages
        long.invoke({"messages": [("user", f"Hello {number}")]}, named("long"))
    graph.compile(checkpointer=source).invoke({"notes": []}, named("side by side"))
    with opened(tmp_path.as_uri()) as target:
        convert(source, target)
        assert content(target) == content(source)
        assert list(content(target)) == sorted(content(target), key=lambda key: key[2], reverse=True)
        notes = graph.compile(checkpointer=target).invoke(Command(resume="yes"), named("side by side"))["notes"]
        assert sorted(notes) == sorted([str(number) for number in range(8) if number != 3] + ["3: yes"])
