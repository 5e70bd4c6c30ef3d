"""What the tests of lesson 5 stand on: refund desks of all versions at work, and savers that watch, fail and wait."""

import asyncio
import threading
from collections import Counter
from contextlib import contextmanager
from copy import deepcopy

from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple, get_checkpoint_metadata
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from learning.migration import STAMP, Migrations, state_version

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
    return desk


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
        self.puts = Counter()
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


class WholeSaver(BaseCheckpointSaver[str]):
    """Keeps each checkpoint whole, with all its values, as files and most key-value stores do; of one thread each."""

    def __init__(self):
        super().__init__()
        self.stored, self.tasks = {}, {}

    def put(self, config, checkpoint, metadata, new_versions):
        """Store a checkpoint."""
        named = config["configurable"]
        whole = [checkpoint, get_checkpoint_metadata(config, metadata), named.get("checkpoint_id")]
        self.stored[named["thread_id"], checkpoint["id"]] = self.serde.dumps_typed(whole)
        return thread(named["thread_id"], "", checkpoint["id"])

    def put_writes(self, config, writes, task_id, task_path=""):
        """Store what a task wrote."""
        held = self.tasks.setdefault(config["configurable"]["checkpoint_id"], {})
        for place, (channel, value) in enumerate(writes):
            held[task_id, channel, place] = self.serde.dumps_typed((task_id, channel, value))

    def get_tuple(self, config):
        """The checkpoint of that id, or the newest."""
        return next(self.list(config), None)

    def list(self, config, *, filter=None, before=None, limit=None):
        """All checkpoints, the newest first."""
        named = config["configurable"] if config else {}
        count = 0
        for name, checkpoint_id in sorted(self.stored, key=lambda key: key[1], reverse=True):
            if name != named.get("thread_id", name) or checkpoint_id != named.get("checkpoint_id", checkpoint_id):
                continue
            if before and checkpoint_id >= before["configurable"]["checkpoint_id"]:
                continue
            checkpoint, metadata, parent = self.serde.loads_typed(self.stored[name, checkpoint_id])
            if filter and any(metadata.get(key) != value for key, value in filter.items()):
                continue
            if limit is not None and count >= limit:
                return
            count += 1
            writes = [tuple(self.serde.loads_typed(each)) for each in self.tasks.get(checkpoint_id, {}).values()]
            above = thread(name, "", parent) if parent else None
            yield CheckpointTuple(thread(name, "", checkpoint_id), checkpoint, metadata, above, writes)

    def get_next_version(self, current, channel):
        """As InMemorySaver's."""
        return InMemorySaver.get_next_version(self, current, channel)


class AsyncOnly(InMemorySaver):
    """A saver that is far away: each put takes some turns of the event loop, and is counted while it is on its way."""

    def __init__(self):
        super().__init__()
        self.at_work, self.most, self.begun, self.threads_at_work = 0, 0, 0, Counter()
        self.most_threads = 0
        self.at = {}
        """What to do when so many puts have begun."""

    async def aput(self, config, checkpoint, metadata, new_versions):
        """Wait a little, then store."""
        name = config["configurable"]["thread_id"]
        self.begun += 1
        self.at_work += 1
        self.threads_at_work[name] += 1
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
        cause = error
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
