"""Threads in PostgreSQL: four tables, one statement for each put and each get.

A put locks its thread's row for as long as its statement takes, shared with other puts; what removes things locks it
for itself, and gives the thread a new epoch. So nothing that a put relies on can go while it is on its way, and threads
never wait for each other. Connections come from a pool, no lock is held around it, and nothing relies on a session, so
that it works behind PgBouncer.
"""

import math
import struct
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, LiteralString

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg_pool import ConnectionPool, PoolTimeout

from ..errors import SaverError, StorageFull, Unavailable
from ..program import in_thread, pauses
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
from .postgres_statements import (
    BATCH,
    BURY,
    EMPTY_ITEMS,
    EMPTY_ROWS,
    EMPTY_WRITES,
    EXPIRE,
    NEWEST,
    ONE,
    ONE_AT_A_TIME,
    PUT,
    PUT_WRITES,
    REMOVE_ITEMS,
    REMOVE_ORPHANS,
    REMOVE_ROWS,
    REMOVE_WRITES,
    SCAN,
    SCHEMA,
    SCHEMA_VERSION,
    SEVERAL,
    SWEEP,
)

BYTEA = psycopg.postgres.types["bytea"].oid

CANCEL = 1
"""How many seconds the server has to hear that nobody waits for an answer any more."""


Statement = tuple[LiteralString, dict[str, Any]]
"""What to execute, and its parameters."""


class Connection(psycopg.Connection[Any]):
    """A connection that is given up where the server does not answer in time: its process may be stopped."""

    deadline: float | None = None
    """When the answer has to be there, by the monotonic clock, for as long as a request has the connection."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """What psycopg does to wait for any answer."""
        if self.deadline is None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, max(0.0, self.deadline - time.monotonic()))
        except psycopg.OperationalError:
            if time.monotonic() >= self.deadline:
                self.deadline = None
                self.cancel_safe(timeout=CANCEL)  # it may only wait for a lock, and would do so for ever
                self.close()
            raise


class Array(list[bytes]):
    """A parameter of type bytea[]. psycopg's own dumper takes any list, and several times as long for it."""


class ArrayDumper(Dumper):
    """Writes arrays in PostgreSQL's binary format: dimensions, flags, type, length and lower bound, then the items."""

    format = Format.BINARY
    oid = psycopg.postgres.types["bytea"].array_oid

    def dump(self, obj: Array) -> bytes:
        """The bytes of an array."""
        head = struct.pack("!iiiii", 1, 0, BYTEA, len(obj), 1) if obj else struct.pack("!iii", 0, 0, BYTEA)
        return head + b"".join([part for item in obj for part in (struct.pack("!i", len(item)), item)])


def _configure(connection: psycopg.Connection) -> None:
    connection.adapters.register_dumper(Array, ArrayDumper)


class PostgresEngine:
    """Threads in a PostgreSQL database of version 12 or newer.

    Args:
        url: as psycopg takes it: `postgresql://user:password@host:port/database`.
        pool: how many connections there may be.
        timeout: how many seconds a request may take, from waiting for a free connection to the server's answer.
        prepare: whether to prepare statements on the server. A PgBouncer before version 1.21 needs `False`.
    """

    def __init__(self, url: str, *, pool: int = 8, timeout: float = 10.0, prepare: bool = True):
        settings = {
            "autocommit": True,
            "prepare_threshold": 2 if prepare else None,
            "connect_timeout": max(2, math.ceil(timeout)),
        }
        self._timeout = timeout
        self._new_pool = partial(
            ConnectionPool[Connection],
            url,
            connection_class=Connection,
            kwargs=settings,
            configure=_configure,
            min_size=1,
            max_size=pool,
            timeout=timeout,
            open=False,
        )
        self._pool = self._new_pool()

    # --- sync and async -----------------------------------------------------------------------------------------------

    def perform(self, request: Request) -> Any:
        """The answer to a request; see `records`."""
        match request:
            case Put() | PutWrites():
                return self._put(request)
            case Get(thread, space, id, known):
                parameters = {"space": space, "id": (id or "").encode(), "known": Array(known)}
                return self._batch(thread, ONE if id else NEWEST, parameters)
            case Read(thread, places):
                return self._batch(thread, SEVERAL, _named(places) | {"known": Array()}, places)
            case Scan():
                return self._scan(request)
            case Remove():
                return self._remove(request)
            case Drop():
                return self._drop(request)
            case Sweep():
                ((swept,),) = self._rows((SWEEP, {}))
                return swept

    async def aperform(self, request: Request) -> Any:
        """The same, in a thread: psycopg's pools for async code must not outlive their event loop, and this one may."""
        return await in_thread(self.perform, request)

    def setup(self) -> None:
        """Make the tables that are missing; any number of callers at once.

        Raises:
            SaverError: if the tables are of a newer version of this library.
        """
        ((there,),) = self._rows(("SELECT to_regclass('lg_schema') IS NOT NULL", {}))
        if not there:
            one_at_a_time: Statement = "SELECT pg_advisory_xact_lock(hashtext('lg_schema'))", {}
            self._run(one_at_a_time, *((each, {}) for each in SCHEMA.split(";\n")))
        ((found,),) = self._rows(("SELECT max(version) FROM lg_schema", {}))
        if found > SCHEMA_VERSION:
            raise SaverError(f"The tables have version {found}, and this library knows {SCHEMA_VERSION}: update it.")

    async def asetup(self) -> None:
        """The same, in a thread."""
        await in_thread(self.setup)

    def close(self) -> None:
        """Close the connections. The next request opens others."""
        self._pool.close()
        self._pool = self._new_pool()  # one that was closed cannot be opened again

    async def aclose(self) -> None:
        """The same, in a thread."""
        await in_thread(self.close)

    # --- statements ---------------------------------------------------------------------------------------------------

    def _rows(self, *statements: Statement) -> list[Any]:
        """The rows of the last of some statements, which are one transaction."""
        return self._run(*statements)[-1].fetchall()

    def _run(self, *statements: Statement) -> list[psycopg.Cursor[Any]]:
        """The outcomes of some statements, tried again while the connection is lost: requests are idempotent."""
        deadline = time.monotonic() + self._timeout
        waits = pauses()
        while True:
            try:
                return self._tried(statements, deadline)
            except (psycopg.Error, PoolTimeout) as error:
                _raise_unless_lost(error)
                pause = next(waits)
                if time.monotonic() + pause >= deadline:
                    raise Unavailable(f"PostgreSQL did not answer in time: {str(error).strip()}") from error
                self._pool.drain()  # the others may be lost as well
            time.sleep(pause)

    def _tried(self, statements: Sequence[Statement], deadline: float) -> list[psycopg.Cursor[Any]]:
        self._pool.open()
        with self._pool.connection(max(0.0, deadline - time.monotonic())) as connection:
            connection.deadline = deadline
            try:
                if len(statements) == 1:
                    return [connection.execute(*statements[0], binary=True)]
                with connection.pipeline():  # one transaction, too
                    return [connection.execute(*each, binary=True) for each in statements]
            finally:
                connection.deadline = None

    # --- requests -----------------------------------------------------------------------------------------------------

    def _put(self, request: Put | PutWrites) -> Outcome:
        names = sorted(request.items)  # in one order, so that two puts do not wait for each other in a circle
        parameters: dict[str, Any] = {
            "thread": request.place.thread,
            "space": request.place.space,
            "id": request.place.id.encode(),
            "name": request.name,
            "epoch": request.epoch,
            "new_epoch": request.new_epoch,
            "lineage": request.lineage and request.lineage.encode(),
            "seconds": request.seconds,
            "items": Array(names),
            "item_data": Array(request.items[name].data for name in names),
            "item_needs": Array(b"".join(request.items[name].needs) for name in names),
            "extends": None,
        }
        before: list[Statement] = []
        if isinstance(request, Put):
            text = PUT
            parameters |= {"run": request.run, "data": request.record.data, "needs": b"".join(request.record.needs)}
            if request.extends is not None:  # lock first, so that the statement itself sees what others have put
                parameters["extends"] = request.extends.encode()
                before = [(ONE_AT_A_TIME, parameters)]
        else:
            text = PUT_WRITES
            tasks = sorted(request.writes)
            parameters |= {
                "tasks": Array(task.encode() for task, _ in tasks),
                "indexes": [index for _, index in tasks],
                "data": Array(request.writes[task].data for task in tasks),
                "needs": Array(b"".join(request.writes[task].needs) for task in tasks),
            }
        while True:
            ((kind, epoch),) = self._rows(*before, (text, parameters))
            if kind != "expired":
                return Outcome(kind, epoch)
            self._run((EXPIRE, {"thread": request.place.thread}))

    def _batch(
        self, thread: bytes, chosen: LiteralString, parameters: dict[str, Any], order: Sequence[Place] = ()
    ) -> Batch:
        rows: dict[Place, Row] = {}
        writes: dict[Place, dict[Task, Record]] = {}
        items: dict[bytes, Record] = {}
        epoch, name = None, b""
        found = self._rows((BATCH.format(chosen), parameters | {"thread": thread}))
        for kind, key, id, index, space, data, needs in found:
            if kind == "item":
                items[key] = Record(data, _split(needs))
            elif kind == "thread":
                epoch, name = index, data
            else:
                place = Place(thread, space, id.decode())
                record = Record(data, _split(needs))
                if kind == "row":
                    rows[place] = Row(place, record, name)
                else:
                    writes.setdefault(place, {})[key.decode(), index] = record
        if epoch is None:
            return EMPTY
        return Batch(
            [Row(place, rows[place].record, name) for place in order or rows if place in rows], writes, items, epoch
        )

    def _scan(self, request: Scan) -> list[Row]:
        wanted: dict[LiteralString, Any] = {
            "t.name <> ''": True,
            "substring(c.thread FROM 1 FOR 8) = %(owner)s": request.owner,
            "c.thread = %(thread)s": request.thread,
            "c.space = %(space)s": request.space,
            "c.run = %(run)s": request.run,
            "c.id < %(before)s": request.before and request.before.encode(),
            "(c.id, c.thread, c.space) < (%(below_id)s, %(below_thread)s, %(below_space)s)": request.below,
        }
        parameters = {
            "owner": request.owner,
            "thread": request.thread,
            "space": request.space,
            "run": request.run,
            "before": None if request.before is None else request.before.encode(),
            "count": request.count,
        }
        if request.below is not None:
            below = request.below
            parameters |= {"below_id": below.id.encode(), "below_thread": below.thread, "below_space": below.space}
        conditions = " AND ".join(text for text, value in wanted.items() if value is not None)
        rows = self._rows((SCAN.format(conditions), parameters))
        return [
            Row(Place(thread, space, id.decode()), Record(data, _split(needs)), name)
            for thread, space, id, data, needs, name in rows
        ]

    def _remove(self, request: Remove) -> int:
        parameters = {"thread": request.thread, "new_epoch": request.new_epoch, **_named(request.places)}
        lock = "UPDATE lg_threads SET epoch = %(new_epoch)s WHERE thread = %(thread)s"
        texts: list[LiteralString] = [lock, REMOVE_ROWS, REMOVE_WRITES, REMOVE_ORPHANS, REMOVE_ITEMS]
        _, rows, *_ = self._run(*((text, parameters) for text in texts))
        return rows.rowcount

    def _drop(self, request: Drop) -> None:
        parameters = {"thread": request.thread, "horizon": request.horizon.encode(), "seconds": request.seconds}
        self._run(*((text, parameters) for text in (BURY, EMPTY_ROWS, EMPTY_WRITES, EMPTY_ITEMS)))


def _raise_unless_lost(error: Exception) -> None:
    """Raise what our callers are to see, unless only the connection was lost."""
    if isinstance(error, PoolTimeout):
        raise Unavailable(
            "No connection in time: all of the pool are in use, or PostgreSQL does not answer."
        ) from error
    if isinstance(error, psycopg.errors.UndefinedTable):
        raise SaverError("The tables are missing: call setup() once.") from error
    if isinstance(error, psycopg.errors.DiskFull):
        raise StorageFull(f"PostgreSQL has no room: {str(error).strip()}") from error
    if not isinstance(error, psycopg.OperationalError):
        raise SaverError(f"PostgreSQL refused: {str(error).strip()}") from error


def _named(places: Sequence[Place]) -> dict[str, Array]:
    return {
        "spaces": Array(place.space for place in places),
        "ids": Array(place.id.encode() for place in places),
    }


def _split(needs: bytes) -> tuple[bytes, ...]:
    return tuple(needs[at : at + 16] for at in range(0, len(needs), 16))
