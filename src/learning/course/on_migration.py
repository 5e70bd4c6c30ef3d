"""What the tests of lesson 5 stand on: refund desks of all versions at work, and savers that watch, fail and wait."""

import asyncio
import threading
from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from copy import deepcopy

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command

from learning.migration import STAMP, Migrations, state_version
from learning.savers.plain import PlainSaver

from .desk import VERSIONS, build_desk
from .expect import Missed
from .scenarios import thread


def to_2(values):
    """Money in cents, and a customer that is called by a name."""
    if "customer" in values:
        values["name"] = values.pop("customer")
    if "total" in values:
        values["cents"] = round(100 * values.pop("total"))
    return values


def to_3(values):
    """All that is there was paid in euros."""
    values.setdefault("currency", "EUR")
    return values


def desk_steps():
    """The library's Migrations with the steps of the refund desk."""
    migrations = Migrations()
    migrations.step(1, 2)(to_2)
    migrations.step(2, 3)(to_3)
    return migrations


def in_version_3(values):
    """What values of version 1 are in version 3, counted without any Migrations."""
    values = deepcopy(values)
    for each in (values, values.get("__start__")):
        if isinstance(each, dict):
            if "customer" in each:
                each["name"] = each.pop("customer")
            if "total" in each:
                each["cents"] = round(100 * each.pop("total"))
            each["currency"] = "EUR"
    return values


def old_threads(saver, rng, customers):
    """Conversations of the desk in version 1: some wait for a person, some are over, some were begun anew."""
    desk = build_desk(1, saver)
    for customer in customers:
        desk.invoke({"customer": customer.title(), "total": rng.randint(1, 99_999) / 100}, thread(customer))
        if rng.random() < 0.5 or customer == customers[0]:
            desk.invoke(Command(resume=True), thread(customer))
            history = list(desk.get_state_history(thread(customer)))
            desk.invoke(None, history[-2].config)  # back to before the first node: a fork, which waits again


def old_office(saver, name):
    """A conversation of version 1 that waits for a person in a subgraph, which has a namespace of its own."""
    build_office(1, saver).invoke({"customer": name.title(), "total": 12.34}, thread(name))


def build_office(version, saver):
    """A graph with the desk as its only node."""
    graph = StateGraph(VERSIONS[version][0])
    graph.add_node("desk", build_desk(version, None))
    graph.add_edge(START, "desk")
    graph.add_edge("desk", END)
    return graph.compile(checkpointer=saver)


def everything(saver):
    """All that an InMemorySaver holds, to be compared later."""
    storage = {name: {space: dict(held) for space, held in spaces.items()} for name, spaces in saver.storage.items()}
    return deepcopy((storage, {key: dict(held) for key, held in saver.writes.items()}, dict(saver.blobs)))


def values_of(saver):
    """The version, values, parent and writes of each checkpoint in a saver, by its id."""
    return {
        found.config["configurable"]["checkpoint_id"]: (
            state_version(found),
            found.checkpoint["channel_values"],
            found.parent_config and found.parent_config["configurable"]["checkpoint_id"],
            _shown(found.pending_writes),
        )
        for found in saver.list(None)
    }


def values_in_version_3(saver):
    """What `values_of` should tell after all was taken from version 1 to 3. Writes have their old and new names."""
    wanted = {}
    for found in saver.list(None):
        added = [
            (task_id, name, new)
            for task_id, channel, value in found.pending_writes
            for name, new in in_version_3({channel: value}).items()
            if name not in (channel, "currency")
        ]
        wanted[found.checkpoint["id"]] = (
            3,
            in_version_3(found.checkpoint["channel_values"]),
            found.parent_config and found.parent_config["configurable"]["checkpoint_id"],
            _shown([*found.pending_writes, *added]),
        )
    return wanted


def _shown(writes):
    return sorted((task_id, channel, repr(value)) for task_id, channel, value in writes)


class Stopped(Exception):
    """The process has ended here."""


class Watched(InMemorySaver):
    """Counts what is put into it, and can end the process, so to speak, before something is stored."""

    def __init__(self, **options):
        super().__init__(**options)
        self.puts = Counter()
        self.left = None
        """How much more it stores before it stops, if it does."""

    def put(self, config, checkpoint, metadata, new_versions):
        """As its parent's, unless it stops."""
        self._go_on()
        self.puts[checkpoint["id"]] += 1
        return super().put(config, checkpoint, metadata, new_versions)

    def put_writes(self, config, writes, task_id, task_path=""):
        """As its parent's, unless it stops."""
        self._go_on()
        super().put_writes(config, writes, task_id, task_path)

    def _go_on(self):
        if self.left is not None:
            if self.left == 0:
                raise Stopped("the process was killed")
            self.left -= 1


class WholeSaver(PlainSaver):
    """Keeps each checkpoint whole, with all its values, as files and most key-value stores do; in a dictionary."""

    def __init__(self):
        super().__init__()
        self.stored, self._lock = {}, threading.Lock()

    def read(self, thread_id):
        """See `PlainSaver`."""
        return self.stored.get(thread_id)

    def change(self, thread_id, edit):
        """See `PlainSaver`."""
        with self._lock:
            self.stored[thread_id] = edit(self.stored.get(thread_id))

    def remove(self, thread_id):
        """See `PlainSaver`."""
        self.stored.pop(thread_id, None)

    def threads(self):
        """See `PlainSaver`."""
        return list(self.stored)


class Distant(InMemorySaver):
    """A saver that is far away: storing takes some turns of the event loop, and is counted while it is on its way."""

    def __init__(self):
        super().__init__()
        self.at_work, self.most, self.begun = 0, 0, 0
        self.at = {}
        """What to do when so many puts have begun."""

    async def aput(self, config, checkpoint, metadata, new_versions):
        """Wait a little, then store."""
        self.begun += 1
        if self.begun in self.at:
            self.at[self.begun]()
        async with self._on_its_way():
            return InMemorySaver.put(self, config, checkpoint, metadata, new_versions)

    async def aput_writes(self, config, writes, task_id, task_path=""):
        """Wait a little, then store."""
        async with self._on_its_way():
            InMemorySaver.put_writes(self, config, writes, task_id, task_path)

    async def aget_tuple(self, config):
        """As its parent's."""
        return InMemorySaver.get_tuple(self, config)

    async def alist(self, config, **options):
        """As its parent's."""
        for found in list(InMemorySaver.list(self, config, **options)):
            yield found

    def get_tuple(self, config):
        """Whoever calls this on the event loop has everybody wait."""
        _beside_the_loop("get_tuple")
        return super().get_tuple(config)

    def list(self, config, **options):
        """Whoever goes through this on the event loop has everybody wait."""
        _beside_the_loop("list")
        yield from super().list(config, **options)

    def put(self, config, checkpoint, metadata, new_versions):
        """Whoever calls this on the event loop has everybody wait."""
        _beside_the_loop("put")
        return super().put(config, checkpoint, metadata, new_versions)

    def put_writes(self, config, writes, task_id, task_path=""):
        """Whoever calls this on the event loop has everybody wait."""
        _beside_the_loop("put_writes")
        super().put_writes(config, writes, task_id, task_path)

    @asynccontextmanager
    async def _on_its_way(self):
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        try:
            for _ in range(5):
                await asyncio.sleep(0)
            yield
        finally:
            self.at_work -= 1


def _beside_the_loop(method):
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    idea = (
        f"`{method}` was called on the event loop: while it waits for the storage, nobody is served. Await `a{method}` "
        "instead (`alist` with `async for`)."
    )
    raise Missed(expected=f"saver.a{method}(…), awaited", came=f"saver.{method}(…)", idea=idea)


class Heart:
    """Beats on an event loop, for as long as the loop turns."""

    def __init__(self):
        self._beat = threading.Event()
        self._stood_still = False

    async def beats(self):
        """Beat until cancelled."""
        while True:
            self._beat.set()
            await asyncio.sleep(0.001)

    def is_beating(self, seconds=3.0):
        """Whether the loop turns while whoever asks waits here. After it did not once, nobody waits again."""
        self._beat.clear()
        self._stood_still = self._stood_still or not self._beat.wait(seconds)
        return not self._stood_still


@contextmanager
def missed_within():
    """Show a Missed that a learner's code has wrapped in an error of its own, or in the group of a TaskGroup.

    Of a group without one, the first error is shown: the group's own message does not say what happened.
    """
    try:
        yield
    except Missed:
        raise
    except Exception as error:
        within = list(_within(error))
        for each in within:
            if isinstance(each, Missed):
                raise each from None
        first = next(each for each in within if not isinstance(each, ExceptionGroup))
        raise first from first.__cause__


def _within(error):
    """An error, those of its group, and what caused each of them."""
    while error is not None:
        yield error
        for each in error.exceptions if isinstance(error, ExceptionGroup) else ():
            yield from _within(each)
        error = error.__cause__ or error.__context__


def all_bytes(held):
    """The set of all bytes in dicts, lists and tuples, at any depth."""
    if isinstance(held, bytes):
        return {held}
    if isinstance(held, dict):
        held = [*held.keys(), *held.values()]
    return set().union(*map(all_bytes, held)) if isinstance(held, list | tuple | set) else set()


def stamp_of(saver, name):
    """The version that the head of a thread is stamped with, where it is stored."""
    return saver.get_tuple(thread(name)).metadata.get(STAMP)
