"""What the graded tests stand on: checkpoints of a known size, conversations drawn at random, independent counts."""

import asyncio
import itertools
import os
import signal
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import uuid6
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Command

from learning.agent import ORDERS, build_agent

from .answers import where
from .conformance import examine
from .expect import Missed, expect


def thread(thread_id, namespace="", checkpoint_id=None):
    """The config that names a thread, or one checkpoint of it."""
    config = {"thread_id": thread_id, "checkpoint_ns": namespace}
    return {"configurable": config | ({"checkpoint_id": checkpoint_id} if checkpoint_id else {})}


_versions = itertools.count(1)


def a_checkpoint(values):
    """Arguments for `put`, after the config: a checkpoint whose channels have just changed. Always of the same size."""
    versions = dict.fromkeys(values, f"{next(_versions):032}.{0:016}")
    checkpoint = {
        "v": 4,
        "id": str(uuid6()),
        "ts": "2026-01-01T12:00:00.000000+00:00",
        "channel_values": values,
        "channel_versions": versions,
        "versions_seen": {},
        "updated_channels": sorted(values),
    }
    return checkpoint, {"source": "input", "step": -1, "parents": {}}, versions


def put(saver, thread_id, namespace="", **values):
    """Store one checkpoint, and return its config."""
    checkpoint, metadata, versions = a_checkpoint(values)
    config = saver.put(thread(thread_id, namespace), checkpoint, metadata, versions)
    expect(config, thread(thread_id, namespace, checkpoint["id"]), "`put` returns the config of what it has stored.")
    return config


def stored(saver):
    """The bytes that an InMemorySaver holds, as {thread: [bytes, …]}: checkpoints, metadata, blobs and writes."""
    held: dict[str, list[bytes]] = {}
    for thread_id, namespaces in saver.storage.items():
        for checkpoints in namespaces.values():
            for checkpoint, metadata, _ in checkpoints.values():
                held.setdefault(thread_id, []).extend([checkpoint[1], metadata[1]])
    for (thread_id, *_), (_, data) in saver.blobs.items():
        held.setdefault(thread_id, []).append(data)
    for (thread_id, *_), writes in saver.writes.items():
        for _, _, (_, data), _ in writes.values():
            held.setdefault(thread_id, []).append(data)
    return held


def sizes(saver):
    """Bytes held for each thread."""
    return {thread_id: sum(map(len, data)) for thread_id, data in stored(saver).items()}


def fill(saver, thread_id, size):
    """Make a thread take exactly `size` bytes."""
    saver.delete_thread(thread_id)
    empty = InMemorySaver()
    put(empty, "empty", data=b"")
    put(saver, thread_id, data=bytes(size - sizes(empty)["empty"]))


def use(model, thread_id, limit):
    """What a least-recently-used store does, on an OrderedDict."""
    model[thread_id] = True
    model.move_to_end(thread_id)
    while len(model) > limit:
        model.popitem(last=False)


def passes_conformance(make_saver):
    """Run the official suite's base capabilities, every case of them, on a fresh saver for each."""
    report = asyncio.run(examine(make_saver))
    if report.failures:
        idea = (
            "The suite is LangGraph's own set of tests for every saver; the name before the colon is the case that "
            "failed. A saver may do more than this contract asks, never less."
        )
        first = report.failures[0]
        came = f"{first.case}: {first.said}"
        raise Missed(expected="every case of the official suite passes", came=came, idea=idea, where=first.where)
    cases = sum(report.passed.values())
    assert cases == 58, f"the conformance suite ran {cases} cases instead of 58"


def some_states(rng):
    """Values of the kinds that a graph's channels hold."""
    words = ["order", "refund", "Grüße", "价格", "☕", ""]
    messages = [HumanMessage("Where is 1001?", id="m1"), AIMessage("On its way. " * rng.randint(1, 200), id="m2")]
    return [
        None,
        b"",
        "".join(rng.choice(words) for _ in range(400)),
        messages,
        {"messages": messages, "refunded": rng.random(), "orders": {str(n): rng.random() for n in range(50)}},
        [datetime(2026, 1, 1), {1, 2, 3}, (1, "two", b"three"), {"deep": [{"er": [None, True]}]}] * rng.randint(1, 50),
    ]


def same(came, expected):
    """Whether two states are the same, by their bytes: what a learner's class says of equality does not count."""
    return JsonPlusSerializer().dumps_typed(came) == JsonPlusSerializer().dumps_typed(expected)


LOADED_ELSEWHERE = (
    "Another process loads what this one has stored, perhaps next year: all it has is the type and bytes."
)
"""The idea behind `another_process`."""

PATIENCE = 5
"""After how many seconds another process that has not answered will not answer any more."""


@contextmanager
def another_process(ask: Callable[..., Any], *, expected: str, idea: str) -> Iterator[Callable[..., Any]]:
    """A process that has what there is now, and nothing of what comes later: what `ask` returns there.

    Raises:
        Missed: if `ask` raises an error there, ends the process, or does not come back.
    """
    ours, theirs = Pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child touches no other thread's work
        process = os.fork()
    if process == 0:
        _answer(ask, ours, theirs)
    theirs.close()

    def ask_there(*question: Any) -> Any:
        try:
            ours.send(question)
            if not ours.poll(PATIENCE):
                came = f"no answer from another process after {PATIENCE} seconds"
                raise Missed(expected=expected, came=came, idea=idea)
            answer, came, place = ours.recv()
        except (EOFError, OSError):
            answer, came, place = None, "another process ended, and gave no answer", ""
        if came:
            raise Missed(expected=expected, came=came, idea=idea, where=place)
        return answer

    try:
        yield ask_there
    finally:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(process, 0)
        ours.close()


def _answer(ask: Callable[..., Any], theirs: Connection, ours: Connection) -> NoReturn:
    """Answer questions until nobody asks any more, and end this process."""
    try:
        theirs.close()
        while True:
            question = ours.recv()
            try:
                told = ask(*question), "", ""
            except Exception as error:
                told = None, f"in another process: {type(error).__name__}: {error}", where(error)
            ours.send(told)
    finally:
        os._exit(0)


class Renamed:
    """A serializer whose type is always `kind`, and that loads no other."""

    def __init__(self, kind):
        self.kind = kind

    def dumps_typed(self, value):
        """Bytes of the usual form, under this serializer's own type."""
        return self.kind, JsonPlusSerializer().dumps_typed(value)[1]

    def loads_typed(self, typed):
        """The value of a pair that `dumps_typed` gave: one that the usual serializer calls msgpack."""
        if typed[0] != self.kind:
            raise ValueError(f"the inner serializer was given the type {typed[0]!r}, and its own is {self.kind!r}")
        return JsonPlusSerializer().loads_typed(("msgpack", typed[1]))


class Weighed:
    """A serializer that hands on to another, and adds up what its bytes and the usual ones weigh."""

    def __init__(self, inner):
        self.inner = inner
        self.weight = self.usual = 0

    def dumps_typed(self, value):
        """As the inner one."""
        typed = self.inner.dumps_typed(value)
        self.weight += len(typed[1])
        self.usual += len(JsonPlusSerializer().dumps_typed(value)[1])
        return typed

    def loads_typed(self, typed):
        """As the inner one."""
        return self.inner.loads_typed(typed)


def shorten(value):
    """A value's repr, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:199]}…"


def ask(agent, thread_id, text):
    """One turn of a conversation; returns what the agent says, or what it asks a person for."""
    result = agent.invoke({"messages": [("user", text)]}, thread(thread_id))
    waiting = result.get("__interrupt__")
    return waiting[0].value["question"] if waiting else result["messages"][-1].text


class History:
    """Conversations drawn at random, and what a report should tell of them, counted while they happen."""

    def __init__(self, saver, rng):
        self.saver, self.agent, self.rng = saver, build_agent(saver), rng
        self.told = {}
        self.continued = {}

    def every_kind_of_turn(self, customer):
        """One conversation with everything in it, and a person waited for at its end."""
        for turn in (self.greet, self.look_up, self.approve, self.refuse, self.fork, self.abandon, self.wait):
            turn(customer)

    def a_turn(self, customer):
        """One turn of any kind."""
        turns = [self.greet, self.look_up, self.approve, self.refuse, self.fork, self.abandon, self.wait]
        self.rng.choice(turns)(customer)

    def greet(self, customer, config=None):
        """A message without an order."""
        self._say(customer, "Hello", config, turns=1, steps=2, assistant=1)

    def what_chance_may_leave_out(self, customer):
        """A person who decided long ago, parallel lookups, and a state that was changed by hand."""
        self.approve(customer)
        self.abandon(customer)
        self.look_up(customer, count=2)
        self.change(customer)
        self.greet(customer)
        self.change(customer, config=self.rng.choice(self.continued[customer]))
        self.told[customer]["forks"] += 1
        self.greet(customer)

    def change(self, customer, config=None):
        """The checkpoint of an `update_state`, which is neither a turn nor a step, though it may be a fork."""
        head = self.saver.get_tuple(config or thread(customer))
        checkpoint = head.checkpoint | {"id": str(uuid6()), "updated_channels": []}
        metadata = head.metadata | {"source": "update", "step": head.metadata["step"] + 1}
        self.saver.put(head.config, checkpoint, metadata, {})
        self._tell(customer, f"update_state{' of an earlier checkpoint' if config else ''}", turns=0, steps=0)

    def look_up(self, customer, count=None):
        """Up to three orders at once: one parallel task for each."""
        orders = self.rng.sample(sorted(ORDERS), count or self.rng.randint(1, 3))
        self._say(customer, f"Where is {' and '.join(orders)}?", turns=1, steps=4, assistant=2, look_up=len(orders))

    def refuse(self, customer):
        """A refund that the agent refuses by itself."""
        self._say(customer, "Please refund order 1002", turns=1, steps=4, assistant=2, refund=1)

    def wait(self, customer):
        """A refund that waits for a person."""
        self._say(customer, "Please refund order 1001", turns=1, steps=2, assistant=1, refund=1)
        self.told[customer]["interrupted"] = True

    def approve(self, customer):
        """A refund that a person decides on."""
        self.wait(customer)
        self.agent.invoke(Command(resume=self.rng.random() < 0.5), thread(customer))
        self._tell(customer, "decided by a person", turns=0, steps=2, assistant=1)

    def abandon(self, customer):
        """A refund that nobody decides on, because the customer says something else."""
        self.wait(customer)
        self.greet(customer)

    def fork(self, customer):
        """Back to the end of an earlier turn, and on from there, twice."""
        self.greet(customer)
        self.look_up(customer)
        earlier = self.rng.choice(self.continued[customer])
        for _ in range(2):
            self.greet(customer, config=earlier)
            self.told[customer]["forks"] += 1

    def _say(self, customer, text, config=None, **counts):
        head = self.agent.get_state(thread(customer))
        if not config and head.values and not head.next:
            self.continued.setdefault(customer, []).append(head.config)
        self.agent.invoke({"messages": [("user", text)]}, config or thread(customer))
        self._tell(customer, f"{text!r}{', from an earlier checkpoint' if config else ''}", **counts)

    def _tell(self, customer, event, *, turns, steps, **nodes):
        fresh = {"turns": 0, "steps": 0, "nodes": Counter(), "forks": 0, "interrupted": False, "log": []}
        told = self.told.setdefault(customer, fresh)
        told["turns"] += turns
        told["steps"] += steps
        told["nodes"] += Counter(nodes)
        told["interrupted"] = False
        told["log"].append(event)
