"""Threads in memory: the plainest engine, and the meaning of every request (see `records`) for the others to match."""

import heapq
import threading
import time
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from ..records import (
    EMPTY,
    Batch,
    Drop,
    Get,
    Outcome,
    Place,
    Put,
    PutWrites,
    Read,
    Record,
    Remove,
    Request,
    Row,
    Scan,
    Sweep,
    Task,
)


@dataclass
class Shelf:
    """One thread. Without a name it is a tombstone: nothing is in it but the horizon."""

    thread: bytes
    name: bytes = b""
    epoch: int = 0
    horizon: str = ""
    ends: float | None = None
    """When it expires, in seconds since 1970."""
    rows: dict[Place, tuple[Record, bytes]] = field(default_factory=dict)
    """The record of each checkpoint, and its run."""
    order: dict[bytes, list[str]] = field(default_factory=dict)
    """The ids of each space, sorted."""
    items: dict[bytes, Record] = field(default_factory=dict)
    writes: dict[Place, dict[Task, Record]] = field(default_factory=dict)

    def put(self, request: Put | PutWrites) -> Outcome:
        """Store a checkpoint or writes, or refuse to."""
        if request.lineage is not None and request.lineage < self.horizon:
            return Outcome("deleted")
        if request.epoch is not None and request.epoch != self.epoch:
            return Outcome("stale")
        place = request.place
        if isinstance(request, Put):
            ids = self.order.setdefault(place.space, [])
            newest = ids[-1] if ids else ""
            if request.extends is not None and newest not in (request.extends, place.id):
                return Outcome("conflict")
            if place not in self.rows:
                insort(ids, place.id)
            self.rows[place] = request.record, request.run
        else:
            there = self.writes.setdefault(place, {})
            for task, record in request.writes.items():
                if task[1] < 0 or task not in there:
                    there[task] = record
        if not self.name:
            self.name, self.epoch = request.name, request.new_epoch
        self.items |= {name: item for name, item in request.items.items() if name not in self.items}
        self.ends = None if request.seconds is None else time.time() + request.seconds
        return Outcome("stored", self.epoch)

    def newest(self, space: bytes) -> str | None:
        """The greatest id of a space."""
        ids = self.order.get(space)
        return ids[-1] if ids else None

    def get(self, request: Get) -> Batch:
        """One checkpoint, with what it needs of the items that are not known."""
        id = request.id or self.newest(request.space)
        return self.batch([Place(self.thread, request.space, id)], request.known) if id else EMPTY

    def batch(self, places: Iterable[Place], known: Iterable[bytes] = ()) -> Batch:
        """Checkpoints with all that they need, but for known items and what these need."""
        found = [place for place in places if place in self.rows]
        writes = {place: dict(self.writes[place]) for place in found if place in self.writes}
        needed = [self.rows[place][0] for place in found]
        needed += [record for tasks in writes.values() for record in tasks.values()]
        rows = [Row(place, self.rows[place][0], self.name) for place in found]
        return Batch(rows, writes, self._closure(needed, {*known}), self.epoch)

    def scan(self, request: Scan) -> Iterable[Row]:
        """At most the wanted number of rows of each space, newest first."""
        for space, ids in self.order.items():
            if request.space not in (None, space):
                continue
            end = len(ids) if request.before is None else bisect_left(ids, request.before)
            if request.below is not None:
                end = min(end, bisect_right(ids, request.below.id))
            places = (Place(self.thread, space, id) for id in reversed(ids[:end]))
            rows = (place for place in places if _below(place, request.below) and self._made_by(request.run, place))
            for place in islice(rows, request.count):
                yield Row(place, self.rows[place][0], self.name)

    def remove(self, places: Iterable[Place]) -> int:
        """Remove checkpoints with their writes, writes that waited in vain, and what nothing needs any more."""
        gone = [place for place in places if self.rows.pop(place, None)]
        for place in gone:
            self.order[place.space].remove(place.id)
            self.writes.pop(place, None)
        for place in self.orphans().writes:
            del self.writes[place]
        needed = [record for record, _ in self.rows.values()]
        needed += [record for tasks in self.writes.values() for record in tasks.values()]
        self.items = self._closure(needed, set())
        return len(gone)

    def orphans(self) -> Batch:
        """Writes that waited in vain: their checkpoint is not there, and newer ones are."""
        lonely = [place for place in self.writes if place not in self.rows]
        writes = {place: dict(self.writes[place]) for place in lonely if place.id < (self.newest(place.space) or "")}
        needed = [record for tasks in writes.values() for record in tasks.values()]
        return Batch((), writes, self._closure(needed, set()), self.epoch)

    def _made_by(self, run: bytes | None, place: Place) -> bool:
        return run is None or self.rows[place][1] == run

    def _closure(self, needed: Iterable[Record], seen: set[bytes]) -> dict[bytes, Record]:
        """The items that records need, directly or not, but for those that were seen already."""
        found: dict[bytes, Record] = {}
        names = [name for record in needed for name in record.needs]
        while names:
            name = names.pop()
            if name not in seen and name in self.items:
                seen.add(name)
                found[name] = self.items[name]
                names += found[name].needs
        return found


class MemoryEngine:
    """Threads that live as long as the process."""

    def __init__(self) -> None:
        self._shelves: dict[bytes, Shelf] = {}
        self._lock = threading.RLock()

    def setup(self) -> None:
        """Nothing to set up."""

    async def asetup(self) -> None:
        """Nothing to set up."""

    def close(self) -> None:
        """Nothing to close."""

    async def aclose(self) -> None:
        """Nothing to close."""

    def perform(self, request: Request) -> object:
        """The answer to a request; see `records`."""
        with self._lock:
            return self._perform(request)

    async def aperform(self, request: Request) -> object:
        """The same: nothing here takes long enough to wait for."""
        return self.perform(request)

    def orphans(self, thread: bytes) -> Batch:
        """Writes of a thread that waited in vain for their checkpoint."""
        with self._lock:
            shelf = self._shelf(thread)
            return shelf.orphans() if shelf else EMPTY

    def _perform(self, request: Request) -> object:
        shelf: Shelf | None
        match request:
            case Put() | PutWrites():
                thread = request.place.thread
                shelf = self._shelf(thread) or Shelf(thread)
                outcome = shelf.put(request)
                if outcome.kind == "stored":
                    self._shelves[thread] = shelf
                return outcome
            case Get(thread):
                shelf = self._shelf(thread)
                return shelf.get(request) if shelf else EMPTY
            case Read(thread, places):
                shelf = self._shelf(thread)
                return shelf.batch(places) if shelf else EMPTY
            case Scan():
                return self._scan(request)
            case Remove(thread, places, new_epoch):
                shelf = self._shelf(thread)
                if shelf is None:
                    return 0
                shelf.epoch = new_epoch
                return shelf.remove(places)
            case Drop(thread, horizon, seconds):
                self._shelves[thread] = Shelf(thread, horizon=horizon, ends=time.time() + seconds)
                return None
            case Sweep():
                before = len(self._shelves)
                for thread in list(self._shelves):
                    self._shelf(thread)
                return before - len(self._shelves)

    def _shelf(self, thread: bytes) -> Shelf | None:
        shelf = self._shelves.get(thread)
        if shelf is not None and shelf.ends is not None and shelf.ends <= time.time():
            del self._shelves[thread]
            return None
        return shelf

    def _scan(self, request: Scan) -> list[Row]:
        threads = [request.thread] if request.thread is not None else list(self._shelves)
        rows = (
            row
            for thread in threads
            if thread.startswith(request.owner) and (shelf := self._shelf(thread))
            for row in shelf.scan(request)
        )
        return newest(rows, request.count)


def newest(rows: Iterable[Row], count: int) -> list[Row]:
    """The first so many of rows in the order of a scan."""
    return heapq.nlargest(count, rows, lambda row: _order(row.place))


def _order(place: Place) -> tuple[str, bytes, bytes]:
    return place.id, place.thread, place.space


def _below(place: Place, limit: Place | None) -> bool:
    return limit is None or _order(place) < _order(limit)
