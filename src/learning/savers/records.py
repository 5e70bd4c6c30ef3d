"""What a saver asks of an engine, and what the engine answers: records of bytes, and nothing of LangGraph.

A thread has *checkpoints* in spaces, ordered by their ids; *writes* that belong to a checkpoint, which may come later
than they do; and *items*, named by their content. Checkpoints, writes and items may need items, and an engine never
keeps an item longer than something needs it.

Each request is atomic: it happens as a whole or not at all, and what is answered is on disk, or as safe as the engine
can make it. Each may be made again after an error, as if for the first time.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple


class Record(NamedTuple):
    """Sealed bytes, and the names of the items without which they are of no use.

    Names have 16 bytes. If the last one is even, the item needs no other.
    """

    data: bytes
    needs: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a checkpoint is: its thread (20 bytes, of which 8 are its owner), its space (8 bytes) and its id."""

    thread: bytes
    space: bytes
    id: str

    def __bytes__(self) -> bytes:
        return self.thread + self.space + self.id.encode()


Task = tuple[str, int]
"""Which write of a checkpoint: the id of the task that wrote, and the index of the write in it."""


# --- requests ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Put:
    """Store a checkpoint, in place of one with the same id, with items that may be there already. Answer: Outcome."""

    place: Place
    record: Record
    items: Mapping[bytes, Record]
    name: bytes
    """The sealed name of the thread, for a thread that is new."""
    epoch: int | None
    """Where items are left out that the thread had in this epoch: refuse as stale if the epoch is another."""
    new_epoch: int
    """The epoch of a thread that is new."""
    lineage: str | None = None
    """Refuse as deleted if the thread was deleted after this id was made."""
    extends: str | None = None
    """Refuse as a conflict if the newest id of the space is neither this (or empty, for none) nor the record's own."""
    run: bytes = b""
    """The run that made the checkpoint, as 16 bytes, or none."""
    seconds: float | None = None
    """How long the thread lives from now on, if not for ever."""


@dataclass(frozen=True, slots=True)
class PutWrites:
    """Store writes of a task: with an index of 0 or more unless they are there, else in any case. Answer: Outcome."""

    place: Place
    writes: Mapping[Task, Record]
    items: Mapping[bytes, Record]
    name: bytes
    epoch: int | None
    new_epoch: int
    lineage: str | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Get:
    """One checkpoint, the newest of its space if no id is given, with all it needs. Answer: Batch, perhaps empty."""

    thread: bytes
    space: bytes
    id: str | None
    known: Collection[bytes] = ()
    """Items that the caller has, with all that they need: these are left out."""


@dataclass(frozen=True, slots=True)
class Read:
    """Several checkpoints of one thread with all that they need. Answer: Batch, without those that are not there."""

    thread: bytes
    places: Sequence[Place]


@dataclass(frozen=True, slots=True)
class Scan:
    """The checkpoints that there are, newest id first, without their items. Answer: a list of Row.

    Of all threads of an owner, unless one is given, and all spaces, unless one is given; with an id smaller than
    `before`; only those below a place in the order of (id, thread, space); at most `count`.
    """

    owner: bytes
    thread: bytes | None = None
    space: bytes | None = None
    below: Place | None = None
    before: str | None = None
    run: bytes | None = None
    count: int = 100


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove checkpoints with their writes, and the items that nothing else needs. Answer: how many there were."""

    thread: bytes
    places: Sequence[Place]
    new_epoch: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Remove a whole thread, and refuse for `seconds` what was on its way to it before `horizon`. Answer: None."""

    thread: bytes
    horizon: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Sweep:
    """Remove some of the threads of any owner whose time is up. Answer: how many; 0 if there are no more."""


Request = Put | PutWrites | Get | Read | Scan | Remove | Drop | Sweep


# --- answers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a put, and the thread's epoch if it is stored."""

    kind: Literal["stored", "stale", "deleted", "conflict"]
    epoch: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A checkpoint's record, where it is, and the sealed name of its thread."""

    place: Place
    record: Record
    name: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """Checkpoints of one thread with their writes, and every item that any of them needs, directly or not."""

    rows: Sequence[Row]
    writes: Mapping[Place, Mapping[Task, Record]]
    items: Mapping[bytes, Record]
    epoch: int | None = None


EMPTY = Batch((), {}, {})
