"""A look at what a saver has stored, record by record: what cannot be read is found, and does not hide the rest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from langgraph.checkpoint.base import CheckpointTuple, PendingWrite

from .core import ALL_THREADS, _new_epoch
from .program import Program
from .records import EMPTY, Batch, Place, Read, Remove, Row, Scan, Task
from .saver import Saver


@dataclass(frozen=True, slots=True)
class Seen:
    """A record of a checkpoint. What could not be read of it is None."""

    row: Row
    thread_id: str | None
    ns: str | None
    parent: str | None
    error: Exception | None = None
    """Why it cannot be read."""

    @property
    def name(self) -> tuple[str, str]:
        """The thread and the namespace, by name, or what is stored in place of a name that cannot be read."""
        thread, space = self.row.place.thread.hex(), self.row.place.space.hex()
        return thread if self.thread_id is None else self.thread_id, f"?{space}" if self.ns is None else self.ns


@dataclass(slots=True)
class Opened:
    """All of a checkpoint, as stored and as read, as far as it can be."""

    batch: Batch
    found: CheckpointTuple | None = None
    error: Exception | None = None
    """Why the checkpoint cannot be read, if it cannot."""
    damaged_writes: dict[Task, Exception] = field(default_factory=dict)
    """The writes that cannot be read, and why."""


class Inspection:
    """Programs (see `program`) that read a saver's records one by one; run them with what the saver's engine performs.

    It sees what the saver sees: the threads of its tenant, opened with its keys.
    """

    def __init__(self, saver: Saver):
        self._engine = saver.engine
        self._core = saver._core
        self._codec = self._core._codec

    def threads(self) -> Program[list[bytes]]:
        """All threads, as the engine names them; with files, those as well that are damaged."""
        if hasattr(self._engine, "threads"):
            return self._engine.threads(self._core._owner)
        found: dict[bytes, None] = {}
        yield from self.scan(None, lambda seen: found.setdefault(seen.row.place.thread))
        return list(found)

    def orphans(self, thread: bytes) -> Batch:
        """What tasks wrote after checkpoints that are not there, though newer ones are; where the engine can tell."""
        return self._engine.orphans(thread) if hasattr(self._engine, "orphans") else EMPTY

    def remove(self, places: Sequence[Place]) -> Program[None]:
        """Remove checkpoints of a thread, and its orphan writes."""
        yield Remove(places[0].thread, places, _new_epoch())
        self._core._recall.forget(places[0].thread)

    def scan(self, thread: bytes | None, visit: Callable[[Seen], None]) -> Program[None]:
        """Show each checkpoint of a thread, or of all, newest first, without its values."""
        below: Place | None = None
        while True:
            rows = yield Scan(owner=self._core._owner, thread=thread, below=below, count=ALL_THREADS)
            for row in rows:
                visit(self._seen(row))
            if len(rows) < ALL_THREADS:
                return
            below = rows[-1].place

    def open(self, place: Place) -> Program[Opened]:
        """One checkpoint with those of its writes that can be read."""
        batch: Batch = yield Read(place.thread, [place])
        opened = Opened(batch)
        try:
            opened.found = next(iter(self._core._tuples(batch)), None)
        except Exception as error:  # whatever a damaged record makes a library say
            self._open_apart(place, opened, error)
        return opened

    def _open_apart(self, place: Place, opened: Opened, error: Exception) -> None:
        """The checkpoint and each of its writes by itself, to find out which it is that cannot be read."""
        batch = opened.batch
        try:
            found = self._core._tuples(Batch(batch.rows, {}, batch.items))[0]
        except Exception:
            opened.error = error
            return
        writes: list[PendingWrite] = []
        for task, record in batch.writes[place].items():
            try:
                alone = Batch(batch.rows, {place: {task: record}}, batch.items)
                writes += self._core._tuples(alone)[0].pending_writes or ()
            except Exception as caught:
                opened.damaged_writes[task] = caught
        opened.found = found._replace(pending_writes=writes)

    def _seen(self, row: Row) -> Seen:
        thread_id = ns = parent = error = None
        try:
            thread_id = self._codec.opened_name(row)
            ns, parent, *_ = self._codec.opened_row(row)
        except Exception as caught:  # whatever a damaged record makes a library say
            error = caught
        return Seen(row, thread_id, ns, parent, error)
