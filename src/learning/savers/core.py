"""LangGraph's rules, written once and without I/O.

Each operation is a program (see `program`): it yields what it asks of the engine (see `records`), and is sent the
answer.
"""

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    PendingWrite,
    get_checkpoint_metadata,
    writes_sort_key,
)
from langgraph.checkpoint.base.id import uuid6

from .codec import Codec, Pointer, Writer, split
from .errors import Conflict, InvalidRequest, NotStorable, ThreadDeleted, Unreadable
from .listing import PAGE, Listing
from .names import config_of, configured, each_of, key_of, require_short, run_key, space_key, text_of
from .program import Program
from .recall import Items, Manifest, Plain, Recall
from .records import Batch, Drop, Get, Outcome, Place, Put, PutWrites, Read, Record, Remove, Row, Scan, Sweep, Task
from .serde import ExactSerializer

ALL_THREADS = 1000
"""How many records are asked for at once, of all threads: some engines look at each thread for that."""

TOMBSTONE_SECONDS = 24 * 3600
"""How long writes that come late to a deleted thread are refused."""


class Core:
    """What a saver does, as programs.

    Args:
        tenant: whose threads these are. Those of other tenants cannot be named.
        fencing: refuse a checkpoint that does not follow the newest of its thread, unless it is an update or a fork.
        seconds: how long a thread lives after its last write, if not for ever.
    """

    def __init__(self, codec: Codec, *, tenant: str = "", fencing: bool = False, seconds: float | None = None):
        self._codec = codec
        self._owner = key_of(8, "tenant", tenant)
        self._fencing = fencing
        self._seconds = seconds
        self._recall = Recall()

    def reading(self, serde: ExactSerializer) -> "Core":
        """The same, with another serializer."""
        clone = copy.copy(self)
        clone._codec = Codec(serde, self._codec.sealer)
        return clone

    # --- programs -----------------------------------------------------------------------------------------------------

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> Program[RunnableConfig]:
        """Store a checkpoint; see `BaseCheckpointSaver.put`."""
        lineage = _lineage(checkpoint["id"], configured(config)[2])
        return (yield from self._put(config, checkpoint, metadata, new_versions, lineage))

    def _put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
        lineage: str | None,
    ) -> Program[RunnableConfig]:
        thread_id, ns, parent = configured(config)
        place = self._place(thread_id, ns, checkpoint["id"])
        metadata = get_checkpoint_metadata(config, metadata)
        rest = {key: value for key, value in checkpoint.items() if key != "channel_values"}
        fenced = self._fencing and metadata.get("source") not in ("update", "fork")
        while True:
            inherited, epoch = yield from self._inherited(place, parent, checkpoint, new_versions)
            known = self._recall.items(place.thread)
            if inherited and known.epoch != epoch:  # rely on what is inherited, and on nothing else
                known = Items(epoch)
            writer = Writer(self._codec, place.thread, known.names, self._recall.plain(place.thread))
            with _told(thread_id, place.id):
                values = inherited | {
                    channel: _pointer(writer, channel, value, place.space)
                    for channel, value in checkpoint["channel_values"].items()
                }
                pointers = {channel: pointer for channel, (pointer, _) in values.items()}
                needs = [name for _, names in values.values() for name in names]
                record = self._codec.row(place, [ns, parent, rest, metadata, pointers], needs)
            outcome = yield Put(
                place=place,
                record=record,
                items=writer.items(),
                name=self._codec.name(place.thread, thread_id),
                epoch=known.epoch,
                new_epoch=_new_epoch() if known.epoch is None else 0,
                lineage=lineage,
                extends=(parent or "") if fenced else None,
                run=run_key(metadata.get("run_id")),
                seconds=self._seconds,
            )
            if self._settled(outcome, place, thread_id, writer):
                self._recall.remember_row(place, Manifest(outcome.epoch, checkpoint["channel_versions"], values))
                return config_of(thread_id, ns, place.id)

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> Program[None]:
        """Store what a task wrote; see `BaseCheckpointSaver.put_writes`."""
        indexed = [
            (WRITES_IDX_MAP.get(channel, index), channel, value) for index, (channel, value) in enumerate(writes)
        ]
        lineage = _lineage(configured(config)[2], None)
        yield from self._put_writes(config, indexed, text_of(task_id, "task_id"), task_path, lineage)

    def get_tuple(self, config: RunnableConfig) -> Program[CheckpointTuple | None]:
        """One checkpoint; see `BaseCheckpointSaver.get_tuple`."""
        thread_id, ns, checkpoint_id = configured(config)
        place = self._place(thread_id, ns, checkpoint_id or "")
        plain = self._recall.plain(place.thread)
        known = self._recall.held(place.thread, place.space, plain)
        batch = yield Get(place.thread, place.space, checkpoint_id, known)
        return next(iter(self._tuples(batch, plain)), None)

    def pages(
        self,
        config: RunnableConfig | None,
        filter: Mapping[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> Iterator[Program[list[CheckpointTuple]]]:
        """One program after the other, for the pages of a listing; see `BaseCheckpointSaver.list`."""
        named = config.get("configurable", {}) if config is not None else {}
        if config is not None and "thread_id" not in named:
            raise InvalidRequest("The config names no thread. To list all threads, use None.")
        thread = self._thread(text_of(named["thread_id"], "thread_id")) if named else None
        ns = text_of(named["checkpoint_ns"] or "", "checkpoint_ns") if "checkpoint_ns" in named else None
        scan = Scan(
            owner=self._owner,
            thread=thread,
            space=None if ns is None else space_key(ns),
            before=(before["configurable"].get("checkpoint_id") or None) if before else None,
            count=PAGE if thread else ALL_THREADS,
        )
        listing = Listing(scan, named.get("checkpoint_id") or None, filter or {}, limit)
        while not listing.done:
            yield self._page(listing)

    def _page(self, listing: Listing) -> Program[list[CheckpointTuple]]:
        if not listing.rows:
            listing.add((yield listing.scan))
        wanted = [row for row in listing.page() if listing.id in (None, row.place.id)]
        if listing.filter:
            wanted = [row for row in wanted if _matches(self._codec.opened_row(row)[3], listing.filter)]
        found = yield from self._read([row.place for row in wanted[: listing.left]])
        listing.give(len(found))
        return found

    def delete_thread(self, thread_id: str) -> Program[None]:
        """Remove a thread, and refuse what was on its way to it."""
        yield from self._drop(thread_id, horizon=str(uuid6()), seconds=TOMBSTONE_SECONDS)

    def delete_for_runs(self, run_ids: Sequence[str]) -> Program[None]:
        """Remove the checkpoints that these runs made, in all threads, with their writes."""
        for run_id in each_of(run_ids, "run_ids"):
            while rows := (yield Scan(owner=self._owner, run=run_key(run_id), count=ALL_THREADS)):
                yield from self._remove([row.place for row in rows])

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> Program[None]:
        """Copy all checkpoints of a thread, with their writes, oldest first."""
        target = text_of(target_thread_id, "target_thread_id")
        rows = yield from self._rows(text_of(source_thread_id, "source_thread_id"))
        for row in reversed(rows):
            batch = yield Read(row.place.thread, [row.place])
            for tuple_ in self._tuples(batch):
                ns, checkpoint = tuple_.config["configurable"]["checkpoint_ns"], tuple_.checkpoint
                parent = configured(tuple_.parent_config)[2] if tuple_.parent_config else None
                above, here = config_of(target, ns, parent), config_of(target, ns, row.place.id)
                # Older than any deletion of the target, and yet not late: so without a lineage.
                yield from self._put(above, checkpoint, tuple_.metadata, checkpoint["channel_versions"], None)
                for task_path, task_id, index, channel, value in self._writes(batch, row.place, Plain()):
                    yield from self._put_writes(here, [(index, channel, value)], task_id, task_path, None)

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> Program[None]:
        """Remove all but the newest checkpoint of each namespace and what it is rebuilt from, or all.

        What comes late to a thread of which all went is not refused, unlike after `delete_thread`.
        """
        if strategy not in ("keep_latest", "delete"):
            raise InvalidRequest(f"There is no strategy {strategy!r} for pruning: use 'keep_latest' or 'delete'.")
        for thread_id in each_of(thread_ids, "thread_ids"):
            if strategy == "delete":
                yield from self._drop(thread_id, horizon="", seconds=0)
            else:
                yield from self.retain(thread_id, newest=1)

    def retain(
        self, thread_id: str, *, newest: int, younger_than: timedelta | None = None, dry_run: bool = False
    ) -> Program[int]:
        """Keep in each namespace the newest checkpoints, the young ones, and what these are rebuilt from.

        Returns:
            how many checkpoints went, or would go if this were no dry run.
        """
        if newest < 1:
            raise InvalidRequest("A thread keeps at least its newest checkpoint. To remove all, use delete_thread.")
        since = (datetime.now(UTC) - younger_than).isoformat() if younger_than else None
        rows = yield from self._rows(text_of(thread_id, "thread_id"))
        kept = self._kept(rows, newest, since)
        gone = [row.place for row in rows if row.place not in kept]
        if not dry_run:
            yield from self._remove(gone)
        return len(gone)

    def sweep(self) -> Program[int]:
        """Remove all threads whose time is up, of all tenants. They are not read before either; this makes room."""
        swept = 0
        while count := (yield Sweep()):
            swept += count
        return swept

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Program[Mapping[str, DeltaChannelHistory]]:
        """What a checkpoint's ancestors wrote to channels; see `BaseCheckpointSaver.get_delta_channel_history`."""
        writes: dict[str, list[PendingWrite]] = {channel: [] for channel in channels}
        seeds: dict[str, Any] = {}
        batch = (yield from self._get(config)) if channels else None
        while batch and batch.rows and len(seeds) < len(writes):
            thread_id, ns, _ = configured(config)
            parent = self._codec.opened_row(batch.rows[0])[1]
            if parent is None:
                break
            batch = yield from self._get(config_of(thread_id, ns, parent))
            for row in batch.rows:
                missing = writes.keys() - seeds.keys()
                for _, task_id, _, channel, value in reversed(self._writes(batch, row.place, Plain(), missing)):
                    writes[channel].append((task_id, channel, value))
                seeds |= self._values(batch, row, self._codec.opened_row(row)[4], missing, Plain())
        histories: dict[str, DeltaChannelHistory] = {
            channel: {"writes": found[::-1]} for channel, found in writes.items()
        }
        for channel, seed in seeds.items():
            histories[channel]["seed"] = seed
        return histories

    # --- parts of programs --------------------------------------------------------------------------------------------

    def _get(self, config: RunnableConfig) -> Program[Batch]:
        thread_id, ns, checkpoint_id = configured(config)
        place = self._place(thread_id, ns, checkpoint_id or "")
        return (yield Get(place.thread, place.space, checkpoint_id))

    def _put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[int, str, Any]],
        task_id: str,
        task_path: str,
        lineage: str | None,
    ) -> Program[None]:
        thread_id, ns, checkpoint_id = configured(config)
        if checkpoint_id is None:
            raise InvalidRequest("Writes belong to a checkpoint: the config has no checkpoint_id.", thread_id=thread_id)
        place = self._place(thread_id, ns, checkpoint_id)
        require_short(task_id, "task_id")
        if not writes:
            return
        while True:
            known = self._recall.items(place.thread)
            writer = Writer(self._codec, place.thread, known.names, self._recall.plain(place.thread))
            records: dict[Task, Record] = {}
            with _told(thread_id, place.id):
                for index, channel, value in writes:
                    pointer, needs = _pointer(writer, channel, value)
                    parts = [channel, task_path, pointer]
                    records[task_id, index] = self._codec.write(place, (task_id, index), parts, needs)
            outcome = yield PutWrites(
                place=place,
                writes=records,
                items=writer.items(),
                name=self._codec.name(place.thread, thread_id),
                epoch=known.epoch,
                new_epoch=_new_epoch() if known.epoch is None else 0,
                lineage=lineage,
                seconds=self._seconds,
            )
            if self._settled(outcome, place, thread_id, writer):
                return

    def _inherited(
        self, place: Place, parent: str | None, checkpoint: Checkpoint, new_versions: ChannelVersions
    ) -> Program[tuple[dict[str, tuple[Pointer, Sequence[bytes]]], int | None]]:
        """Where the parent has the values that have not changed and that the caller did not repeat, in which epoch."""
        versions = checkpoint["channel_versions"]
        unchanged = versions.keys() - checkpoint["channel_values"].keys() - new_versions.keys()
        if not unchanged or parent is None:
            return {}, None
        above = Place(place.thread, place.space, parent)
        manifest = self._recall.row(above)
        if manifest is None or any(manifest.versions.get(channel) != versions[channel] for channel in unchanged):
            self._tuples((yield Read(place.thread, [above])), self._recall.plain(place.thread))
            manifest = self._recall.row(above)
        if manifest is None:
            return {}, None
        return {
            channel: manifest.values[channel]
            for channel in sorted(unchanged)
            if channel in manifest.values and manifest.versions.get(channel) == versions[channel]
        }, manifest.epoch

    def _read(self, places: Sequence[Place]) -> Program[list[CheckpointTuple]]:
        """Whole checkpoints, in this order, without those that are gone by now."""
        found: dict[Place, CheckpointTuple] = {}
        for thread in dict.fromkeys(place.thread for place in places):
            batch = yield Read(thread, [place for place in places if place.thread == thread])
            found |= {row.place: each for row, each in zip(batch.rows, self._tuples(batch), strict=True)}
        return [found[place] for place in places if place in found]

    def _drop(self, thread_id: str, horizon: str, seconds: float) -> Program[None]:
        thread = self._thread(text_of(thread_id, "thread_id"))
        yield Drop(thread, horizon, seconds)
        self._recall.forget(thread)

    def _rows(self, thread_id: str) -> Program[list[Row]]:
        """All checkpoints of a thread, newest first, without their items."""
        rows: list[Row] = []
        while True:
            below = rows[-1].place if rows else None
            page = yield Scan(owner=self._owner, thread=self._thread(thread_id), below=below, count=PAGE)
            rows += page
            if len(page) < PAGE:
                return rows

    def _remove(self, places: Sequence[Place]) -> Program[None]:
        for thread in dict.fromkeys(place.thread for place in places):
            yield Remove(thread, [place for place in places if place.thread == thread], _new_epoch())
            self._recall.forget(thread)

    def _kept(self, rows: Sequence[Row], newest: int, since: str | None) -> set[Place]:
        """The newest checkpoints of each space, and the ancestors that their delta channels are rebuilt from."""
        opened = {row.place: self._codec.opened_row(row) for row in rows}
        seen: dict[bytes, int] = {}
        kept: set[Place] = set()
        for place in opened:
            seen[place.space] = seen.get(place.space, 0) + 1
            if seen[place.space] > newest and not (since and opened[place][2]["ts"] >= since):
                continue
            lacking = set(opened[place][3].get("counters_since_delta_snapshot") or ())
            while place not in kept or lacking:
                kept.add(place)
                _, parent, _, _, pointers = opened[place]
                lacking -= pointers.keys()
                place = Place(place.thread, place.space, parent or "")
                if not lacking or place not in opened:
                    break
        return kept

    def _settled(self, outcome: Outcome, place: Place, thread_id: str, writer: Writer) -> bool:
        """Whether a put is done; False where it has to be made again with all of its items."""
        if outcome.kind == "stored":
            self._recall.remember_items(place.thread, outcome.epoch, writer.names)
            return True
        if outcome.kind == "stale":
            self._recall.forget(place.thread)
            return False
        if outcome.kind == "deleted":
            message = "The thread was deleted while this was on its way. Nothing was written."
            raise ThreadDeleted(message, thread_id=thread_id, checkpoint_id=place.id)
        message = "Another writer has moved the thread on. Nothing was written: read the thread again."
        raise Conflict(message, thread_id=thread_id, checkpoint_id=place.id)

    # --- from records -------------------------------------------------------------------------------------------------

    def _tuples(self, batch: Batch, recalled: Plain | None = None) -> list[CheckpointTuple]:
        """The checkpoints of a batch; with what is recalled of the thread they are remembered, for a put may follow."""
        plain = Plain() if recalled is None else recalled
        tuples = []
        for row in batch.rows:
            thread_id = self._codec.opened_name(row)
            with _told(thread_id, row.place.id):
                ns, parent, checkpoint, metadata, pointers = self._codec.opened_row(row)
                values = self._values(batch, row, pointers, pointers.keys(), plain)
                writes = [(each[1], each[3], each[4]) for each in self._writes(batch, row.place, plain)]
            if recalled is not None:
                manifest = Manifest(batch.epoch, checkpoint["channel_versions"], split(pointers, row.record.needs))
                self._recall.remember_row(row.place, manifest)
            tuples.append(
                CheckpointTuple(
                    config=config_of(thread_id, ns, row.place.id),
                    checkpoint=checkpoint | {"channel_values": values},
                    metadata=metadata,
                    parent_config=None if parent is None else config_of(thread_id, ns, parent),
                    pending_writes=writes,
                )
            )
        if recalled is not None and tuples and batch.epoch is not None:
            self._recall.remember_items(batch.rows[0].place.thread, batch.epoch, batch.items)
        return tuples

    def _values(
        self, batch: Batch, row: Row, pointers: Mapping[str, Pointer], wanted: Any, plain: Plain
    ) -> dict[str, Any]:
        return {
            channel: self._codec.value(batch, row.place.thread, pointer, names, plain)
            for channel, (pointer, names) in split(pointers, row.record.needs).items()
            if channel in wanted
        }

    def _writes(
        self, batch: Batch, place: Place, plain: Plain, wanted: Any = None
    ) -> list[tuple[str, str, int, str, Any]]:
        """(task_path, task_id, index, channel, value) of each write, in LangGraph's order."""
        writes = []
        for task, record in batch.writes.get(place, {}).items():
            channel, task_path, pointer = self._codec.opened_write(place, task, record)
            if wanted is None or channel in wanted:
                value = self._codec.value(batch, place.thread, pointer, record.needs, plain)
                writes.append((task_path, *task, channel, value))
        return sorted(writes, key=lambda write: writes_sort_key(*write[:3]))

    # --- places -------------------------------------------------------------------------------------------------------

    def _thread(self, thread_id: str) -> bytes:
        return self._owner + key_of(12, "thread", thread_id)

    def _place(self, thread_id: str, ns: str, checkpoint_id: str) -> Place:
        require_short(checkpoint_id, "checkpoint_id")
        return Place(self._thread(thread_id), space_key(ns), checkpoint_id)


def _new_epoch() -> int:
    return int.from_bytes(os.urandom(6))


def _lineage(checkpoint_id: str | None, parent: str | None) -> str | None:
    """The older of a checkpoint's id and its parent's, if these tell time as LangGraph's own do."""
    ids = [each for each in (checkpoint_id, parent) if each]
    return min(ids) if ids and all(len(each) == 36 and each[14] == "6" for each in ids) else None


def _matches(metadata: Mapping[str, Any], filter: Mapping[str, Any]) -> bool:
    return all(key in metadata and metadata[key] == value for key, value in filter.items())


def _pointer(writer: Writer, channel: str, value: Any, space: bytes | None = None) -> tuple[Pointer, Sequence[bytes]]:
    try:
        return writer.pointer(value, None if space is None else (space, channel))
    except NotStorable as error:
        raise NotStorable(f"channel {channel!r}{'' if str(error).startswith('[') else ': '}{error}") from None


@contextmanager
def _told(thread_id: str, checkpoint_id: str) -> Iterator[None]:
    """Have errors say which checkpoint they are about."""
    try:
        yield
    except (NotStorable, Unreadable) as error:
        raise type(error)(str(error), thread_id=thread_id, checkpoint_id=checkpoint_id) from error
