"""What the tests of lesson 5 stand on: refund desks of all versions at work, and savers that watch, fail and wait."""

import asyncio
import threading
from collections import Counter
from contextlib import contextmanager
from copy import deepcopy

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from learning.migration import STAMP, Migrations, state_version
from learning.savers.plain import PlainSaver

from .desk import build_desk
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
            [(task_id, channel, repr(value)) for task_id, channel, value in found.pending_writes or []],
        )
        for found in saver.list(None)
    }


class Stopped(Exception):
    """The process has ended here."""


class Watched(InMemorySaver):
    """Counts what is put into it, and can end the process, so to speak, before a put."""

    def __init__(self, **options):
        super().__init__(**options)
        self.puts: Counter[str] = Counter()
        self.left = None
        """How many more puts there are before it stops, if it does."""

    def put(self, config, checkpoint, metadata, new_versions):
        """As its parent's, unless it stops."""
        if self.left is not None:
            if self.left == 0:
                raise Stopped("the process was killed")
            self.left -= 1
        self.puts[checkpoint["id"]] += 1
        return super().put(config, checkpoint, metadata, new_versions)


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
    """A saver that is far away: each put takes some turns of the event loop, and is counted while it is on its way."""

    def __init__(self):
        super().__init__()
        self.at_work, self.most, self.begun = 0, 0, 0
        self.at = {}
        """What to do when so many puts have begun."""

    async def aput(self, config, checkpoint, metadata, new_versions):
        """Wait a little, then store."""
        self.begun += 1
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        try:
            if self.begun in self.at:
                self.at[self.begun]()
            for _ in range(5):
                await asyncio.sleep(0)
            return InMemorySaver.put(self, config, checkpoint, metadata, new_versions)
        finally:
            self.at_work -= 1

    def put(self, config, checkpoint, metadata, new_versions):
        """Whoever calls this on the event loop has everybody wait."""
        if _on_a_loop():
            idea = "`put` was called on the event loop: while it waits for the storage, nobody is served. Await `aput`."
            raise Missed(expected="await saver.aput(…)", came="saver.put(…)", idea=idea)
        return super().put(config, checkpoint, metadata, new_versions)


def _on_a_loop():
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class Heart:
    """Beats on an event loop, for as long as the loop turns."""

    def __init__(self):
        self._beat = threading.Event()

    async def beats(self):
        """Beat until cancelled."""
        while True:
            self._beat.set()
            await asyncio.sleep(0.001)

    def is_beating(self, seconds=3.0):
        """Whether the loop turns while somebody else, or this thread, waits here."""
        self._beat.clear()
        return self._beat.wait(seconds)


@contextmanager
def missed_within():
    """Show a Missed that a learner's code has wrapped in an error of its own."""
    try:
        yield
    except Missed:
        raise
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, Missed):
                raise cause from None
            cause = cause.__cause__ or cause.__context__
        raise


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
