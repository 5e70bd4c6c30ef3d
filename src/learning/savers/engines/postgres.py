"""Threads in PostgreSQL: four tables, one statement for each put and each get.

A put locks its thread's row for as long as its statement takes, shared with other puts; what removes things locks it
for itself, and gives the thread a new epoch. So nothing that a put relies on can go while it is on its way, and threads
never wait for each other. Connections come from a pool, no lock is held around it, and nothing relies on a session, so
that it works behind PgBouncer.
"""

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolTimeout

from ..errors import SaverError, Unavailable
from ..program import Program, arun, run
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
    Task,
)

SCHEMA_VERSION = 1

SCHEMA: LiteralString = """
-- A thread is a hash of the tenant and the thread's id. Its name is the id itself, sealed, or empty if it was deleted.
-- The epoch changes when something is removed, and the horizon is the id of the moment of the last deletion.
CREATE TABLE IF NOT EXISTS lg_threads (
    thread bytea PRIMARY KEY, name bytea NOT NULL, epoch bigint NOT NULL,
    horizon bytea NOT NULL DEFAULT '', ends timestamptz
);
CREATE TABLE IF NOT EXISTS lg_checkpoints (
    thread bytea, space bytea, id bytea, run bytea NOT NULL, data bytea NOT NULL, needs bytea NOT NULL,
    PRIMARY KEY (thread, space, id)
);
CREATE INDEX IF NOT EXISTS lg_checkpoints_by_id ON lg_checkpoints (substring(thread FROM 1 FOR 8), id, thread, space);
CREATE INDEX IF NOT EXISTS lg_checkpoints_by_run ON lg_checkpoints (run) WHERE run <> '';
CREATE TABLE IF NOT EXISTS lg_items (
    thread bytea, name bytea, data bytea NOT NULL, needs bytea NOT NULL, PRIMARY KEY (thread, name)
);
-- Writes may come before their checkpoint, so there is no foreign key.
CREATE TABLE IF NOT EXISTS lg_writes (
    thread bytea, space bytea, id bytea, task bytea, index int, data bytea NOT NULL, needs bytea NOT NULL,
    PRIMARY KEY (thread, space, id, task, index)
);
-- All data is compressed already.
ALTER TABLE lg_checkpoints ALTER data SET STORAGE EXTERNAL;
ALTER TABLE lg_items ALTER data SET STORAGE EXTERNAL;
ALTER TABLE lg_writes ALTER data SET STORAGE EXTERNAL;
CREATE TABLE IF NOT EXISTS lg_schema (version int NOT NULL);
INSERT INTO lg_schema SELECT 1 WHERE NOT EXISTS (SELECT FROM lg_schema)
"""


@dataclass(frozen=True)
class Statement:
    """One statement, to be run by itself, or as the last of a transaction after others."""

    text: LiteralString
    parameters: dict[str, Any]
    after: Sequence["Statement"] = ()


class PostgresEngine:
    """Threads in a PostgreSQL database of version 12 or newer.

    Args:
        url: as psycopg takes it: `postgresql://user:password@host:port/database`.
        pool: how many connections there may be; and as many again, if it is used from async code as well.
        timeout: how many seconds to wait for a free connection.
        prepare: whether to prepare statements on the server. A PgBouncer before version 1.21 needs `False`.
    """

    def __init__(self, url: str, *, pool: int = 8, timeout: float = 10.0, prepare: bool = True):
        settings = {"autocommit": True, "prepare_threshold": 2 if prepare else None}
        self._options: dict[str, Any] = {
            "conninfo": url,
            "min_size": 1,
            "max_size": pool,
            "timeout": timeout,
            "kwargs": settings,
            "open": False,
        }
        self._timeout = timeout
        self._pool = ConnectionPool(**self._options)
        self._async_pools: dict[asyncio.AbstractEventLoop, AsyncConnectionPool] = {}

    # --- sync and async -----------------------------------------------------------------------------------------------

    def perform(self, request: Request) -> Any:
        """The answer to a request; see `records`."""
        return run(_program(request), self._run)

    async def aperform(self, request: Request) -> Any:
        """The answer to a request; see `records`."""
        return await arun(_program(request), self._arun)

    def setup(self) -> None:
        """Make the tables that are missing; any number of callers at once.

        Raises:
            SaverError: if the tables are of a newer version of this library.
        """
        run(_setup(), self._run)

    async def asetup(self) -> None:
        """The same."""
        await arun(_setup(), self._arun)

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    async def aclose(self) -> None:
        """Close the connections of this event loop, and those of sync code."""
        pool = self._async_pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            await pool.close()
        await asyncio.to_thread(self._pool.close)

    def _run(self, statement: Statement) -> list[Any]:
        attempts = _attempts(self._timeout)
        for pause in attempts:
            time.sleep(pause)
            try:
                self._pool.open()
                with self._pool.connection() as connection:
                    if not statement.after:
                        return _rows(connection.execute(statement.text, statement.parameters, binary=True))
                    with connection.transaction(), connection.pipeline():
                        for each in statement.after:
                            connection.execute(each.text, each.parameters)
                        cursor = connection.execute(statement.text, statement.parameters, binary=True)
                    return _rows(cursor)
            except (psycopg.Error, PoolTimeout) as error:
                _raise_unless_lost(error)
                attempts.failed = error
                self._pool.check()  # lets go of other connections that were lost as well
        raise attempts.error

    async def _arun(self, statement: Statement) -> list[Any]:
        attempts = _attempts(self._timeout)
        for pause in attempts:
            await asyncio.sleep(pause)
            pool = await self._async_pool()
            try:
                async with pool.connection() as connection:
                    if not statement.after:
                        return await _arows(await connection.execute(statement.text, statement.parameters, binary=True))
                    async with connection.transaction(), connection.pipeline():
                        for each in statement.after:
                            await connection.execute(each.text, each.parameters)
                        cursor = await connection.execute(statement.text, statement.parameters, binary=True)
                    return await _arows(cursor)
            except (psycopg.Error, PoolTimeout) as error:
                _raise_unless_lost(error)
                attempts.failed = error
                await pool.check()
        raise attempts.error

    async def _async_pool(self) -> AsyncConnectionPool:
        loop = asyncio.get_running_loop()
        for ended in [each for each in self._async_pools if each.is_closed()]:
            del self._async_pools[ended]
        if loop not in self._async_pools:
            self._async_pools[loop] = AsyncConnectionPool(**self._options)
            await self._async_pools[loop].open()
        return self._async_pools[loop]


class _attempts:
    """How long to pause before each attempt, until the time is up. Requests are idempotent, so each is safe."""

    failed: Exception | None = None

    def __init__(self, seconds: float):
        self._deadline = time.monotonic() + seconds

    def __iter__(self) -> Iterator[float]:
        yield 0.0
        pause = 0.01
        while time.monotonic() + pause < self._deadline:
            yield pause * random.uniform(0.5, 1.0)
            pause = min(2 * pause, 1.0)

    @property
    def error(self) -> Unavailable:
        """What to raise when no attempt is left."""
        return Unavailable(f"PostgreSQL did not answer: {str(self.failed).strip()}")


def _rows(cursor: psycopg.Cursor) -> list[Any]:
    return cursor.fetchall() if cursor.description else []


async def _arows(cursor: psycopg.AsyncCursor) -> list[Any]:
    return await cursor.fetchall() if cursor.description else []


def _raise_unless_lost(error: Exception) -> None:
    """Raise what our callers are to see, unless only the connection was lost."""
    if isinstance(error, PoolTimeout):
        raise Unavailable("All connections of the pool are in use, and none came free in time.") from error
    if isinstance(error, psycopg.errors.UndefinedTable):
        raise SaverError("The tables are missing: call setup() once.") from error
    if isinstance(error, psycopg.errors.DiskFull) or not isinstance(error, psycopg.OperationalError):
        raise SaverError(f"PostgreSQL refused: {str(error).strip()}") from error


# --- requests ---------------------------------------------------------------------------------------------------------


def _setup() -> Program[None]:
    ((there,),) = yield Statement("SELECT to_regclass('lg_schema') IS NOT NULL", {})
    if not there:
        one_at_a_time = Statement("SELECT pg_advisory_xact_lock(hashtext('lg_schema'))", {})
        *made, last = [Statement(each, {}) for each in SCHEMA.split(";\n")]
        yield Statement(last.text, {}, after=[one_at_a_time, *made])
    ((found,),) = yield Statement("SELECT max(version) FROM lg_schema", {})
    if found > SCHEMA_VERSION:
        raise SaverError(f"The tables have version {found}, and this library knows {SCHEMA_VERSION}: update it.")


def _program(request: Request) -> Program[Any]:
    match request:
        case Put() | PutWrites():
            return _put(request)
        case Get(thread, space, id):
            return _batch(thread, _ONE if id else _NEWEST, {"space": space, "id": (id or "").encode()})
        case Read(thread, places):
            spaces, ids = [place.space for place in places], [place.id.encode() for place in places]
            return _batch(thread, _SEVERAL, {"spaces": spaces, "ids": ids}, places)
        case Scan():
            return _scan(request)
        case Remove():
            return _remove(request)
        case Drop():
            return _drop(request)


def _put(request: Put | PutWrites) -> Program[Outcome]:
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
        "items": names,
        "item_data": [request.items[name].data for name in names],
        "item_needs": [b"".join(request.items[name].needs) for name in names],
        "extends": None,
    }
    after = []
    if isinstance(request, Put):
        text = _PUT
        parameters |= {"run": request.run, "data": request.record.data, "needs": b"".join(request.record.needs)}
        if request.extends is not None:  # lock first, so that the statement itself sees what others have put
            parameters["extends"] = request.extends.encode()
            after = [Statement("SELECT FROM lg_threads WHERE thread = %(thread)s FOR UPDATE", parameters)]
    else:
        text = _PUT_WRITES
        tasks = sorted(request.writes)
        parameters |= {
            "tasks": [task.encode() for task, _ in tasks],
            "indexes": [index for _, index in tasks],
            "data": [request.writes[task].data for task in tasks],
            "needs": [b"".join(request.writes[task].needs) for task in tasks],
        }
    while True:
        ((kind, epoch),) = yield Statement(text, parameters, after)
        if kind == "expired":
            yield from _clear(request.place.thread, "DELETE FROM lg_threads WHERE thread = %(thread)s", {})
        else:
            return Outcome(kind, epoch)


def _batch(
    thread: bytes, chosen: LiteralString, parameters: dict[str, Any], order: Sequence[Place] = ()
) -> Program[Batch]:
    rows: dict[Place, Row] = {}
    writes: dict[Place, dict[Task, Record]] = {}
    items: dict[bytes, Record] = {}
    epoch, name = None, b""
    for kind, key, id, index, space, data, needs in (
        yield Statement(_BATCH.format(chosen), parameters | {"thread": thread})
    ):
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


def _scan(request: Scan) -> Program[list[Row]]:
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
    rows = yield Statement(_SCAN.format(conditions), parameters)
    return [
        Row(Place(thread, space, id.decode()), Record(data, _split(needs)), name)
        for thread, space, id, data, needs, name in rows
    ]


def _remove(request: Remove) -> Program[int]:
    parameters = {
        "thread": request.thread,
        "new_epoch": request.new_epoch,
        "spaces": [place.space for place in request.places],
        "ids": [place.id.encode() for place in request.places],
    }
    lock = Statement("UPDATE lg_threads SET epoch = %(new_epoch)s WHERE thread = %(thread)s", parameters)
    count = Statement(_COUNT, parameters)
    rest = [Statement(text, parameters) for text in (_REMOVE_WRITES, _REMOVE_ROWS, _REMOVE_ORPHANS)]
    ((removed,),) = yield count
    yield Statement(_REMOVE_ITEMS, parameters, after=[lock, *rest])
    return removed


def _drop(request: Drop) -> Program[None]:
    parameters = {"horizon": request.horizon.encode(), "seconds": request.seconds}
    yield from _clear(request.thread, _BURY, parameters)


def _clear(thread: bytes, first: LiteralString, parameters: dict[str, Any]) -> Program[None]:
    """Remove all that a thread has, after a statement that locks the thread."""
    parameters = parameters | {"thread": thread}
    tables = ("lg_checkpoints", "lg_writes", "lg_items")
    *emptied, last = [Statement(f"DELETE FROM {table} WHERE thread = %(thread)s", parameters) for table in tables]
    yield Statement(last.text, parameters, after=[Statement(first, parameters), *emptied])


def _split(needs: bytes) -> tuple[bytes, ...]:
    return tuple(needs[at : at + 16] for at in range(0, len(needs), 16))


# --- statements -------------------------------------------------------------------------------------------------------

_NAMES: LiteralString = (
    "substring(needs FROM at * 16 + 1 FOR 16) FROM {0}, generate_series(0, length(needs) / 16 - 1) at"
)
"""The names that are needed, one in a row."""

_GUARDED: LiteralString = """
WITH old AS MATERIALIZED (
    SELECT * FROM lg_threads WHERE thread = %(thread)s FOR SHARE
), verdict AS MATERIALIZED (
    SELECT CASE
        WHEN old.ends <= now() THEN 'expired'
        WHEN %(lineage)s::bytea < old.horizon THEN 'deleted'
        WHEN old.epoch IS DISTINCT FROM %(epoch)s::bigint AND %(epoch)s::bigint IS NOT NULL THEN 'stale'
        WHEN %(extends)s::bytea IS NOT NULL AND coalesce(
            (SELECT max(id) FROM lg_checkpoints WHERE thread = %(thread)s AND space = %(space)s), ''
        ) NOT IN (%(extends)s, %(id)s) THEN 'conflict'
        ELSE 'stored'
    END AS kind, old.*
    FROM (VALUES (1)) one LEFT JOIN old ON true
), thread AS (
    INSERT INTO lg_threads (thread, name, epoch, ends)
    SELECT %(thread)s, %(name)s, %(new_epoch)s, now() + %(seconds)s * interval '1 second'
    FROM verdict
    WHERE kind = 'stored' AND (thread IS NULL OR name = '' OR ends IS NOT NULL OR %(seconds)s::float IS NOT NULL)
    ON CONFLICT (thread) DO UPDATE SET
        name = CASE WHEN lg_threads.name = '' THEN EXCLUDED.name ELSE lg_threads.name END,
        epoch = CASE WHEN lg_threads.name = '' THEN EXCLUDED.epoch ELSE lg_threads.epoch END,
        ends = EXCLUDED.ends
    RETURNING epoch
), items AS (
    INSERT INTO lg_items (thread, name, data, needs)
    SELECT %(thread)s, i.* FROM verdict,
        unnest(%(items)s::bytea[], %(item_data)s::bytea[], %(item_needs)s::bytea[]) i
    WHERE kind = 'stored'
    ON CONFLICT DO NOTHING
), put AS ({0})
SELECT kind, coalesce((SELECT epoch FROM thread), epoch) FROM verdict
"""

_PUT = _GUARDED.replace(
    "{0}",
    """
    INSERT INTO lg_checkpoints (thread, space, id, run, data, needs)
    SELECT %(thread)s, %(space)s, %(id)s, %(run)s, %(data)s, %(needs)s FROM verdict WHERE kind = 'stored'
    ON CONFLICT (thread, space, id) DO UPDATE SET run = EXCLUDED.run, data = EXCLUDED.data, needs = EXCLUDED.needs
""",
)

_PUT_WRITES = _GUARDED.replace(
    "{0}",
    """
    INSERT INTO lg_writes (thread, space, id, task, index, data, needs)
    SELECT %(thread)s, %(space)s, %(id)s, w.* FROM verdict,
        unnest(%(tasks)s::bytea[], %(indexes)s::int[], %(data)s::bytea[], %(needs)s::bytea[]) w
    WHERE kind = 'stored'
    ON CONFLICT (thread, space, id, task, index) DO UPDATE SET data = EXCLUDED.data, needs = EXCLUDED.needs
    WHERE lg_writes.index < 0
""",
)

_NEWEST: LiteralString = """
    SELECT space, id, data, needs FROM lg_checkpoints WHERE thread = %(thread)s AND space = %(space)s
    ORDER BY id DESC LIMIT 1
"""

_ONE: LiteralString = """
    SELECT space, id, data, needs FROM lg_checkpoints
    WHERE thread = %(thread)s AND space = %(space)s AND id = %(id)s
"""

_SEVERAL: LiteralString = """
    SELECT c.space, c.id, c.data, c.needs
    FROM unnest(%(spaces)s::bytea[], %(ids)s::bytea[]) AS wanted (space, id)
    JOIN lg_checkpoints c ON c.thread = %(thread)s AND c.space = wanted.space AND c.id = wanted.id
"""

_BATCH: LiteralString = (
    """
WITH RECURSIVE thread AS MATERIALIZED (
    SELECT epoch, name FROM lg_threads
    WHERE thread = %(thread)s AND name <> '' AND (ends IS NULL OR ends > now())
), chosen AS MATERIALIZED (
    SELECT * FROM ({0}) rows WHERE EXISTS (SELECT FROM thread)
), written AS MATERIALIZED (
    SELECT w.space, w.id, task, index, w.data, w.needs
    FROM chosen c JOIN lg_writes w ON w.thread = %(thread)s AND w.space = c.space AND w.id = c.id
), needing AS (
    SELECT needs FROM chosen UNION ALL SELECT needs FROM written
), nodes (name, needs) AS (
    SELECT i.name, i.needs FROM (SELECT """
    + _NAMES.replace("{0}", "needing")
    + """) AS wanted (name)
    JOIN lg_items i ON i.thread = %(thread)s AND i.name = wanted.name AND get_bit(wanted.name, 120) = 1
    UNION
    SELECT i.name, i.needs FROM (SELECT """
    + _NAMES.replace("{0}", "nodes")
    + """) AS wanted (name)
    JOIN lg_items i ON i.thread = %(thread)s AND i.name = wanted.name AND get_bit(wanted.name, 120) = 1
), needed (name) AS (
    SELECT """
    + _NAMES.replace("{0}", "(SELECT needs FROM needing UNION ALL SELECT needs FROM nodes) AS all_of_them")
    + """
)
SELECT 'thread' AS kind, NULL::bytea AS key, NULL::bytea AS id, epoch AS index,
    NULL::bytea AS space, name AS data, NULL::bytea AS needs FROM thread
UNION ALL SELECT 'row', NULL, id, NULL, space, data, needs FROM chosen
UNION ALL SELECT 'write', task, id, index, space, data, needs FROM written
UNION ALL SELECT 'item', name, NULL, NULL, NULL, data, needs
FROM lg_items WHERE thread = %(thread)s AND name = ANY (ARRAY (SELECT name FROM needed))
"""
)

_SCAN: LiteralString = """
SELECT c.thread, c.space, c.id, c.data, c.needs, t.name
FROM lg_checkpoints c JOIN lg_threads t ON t.thread = c.thread AND (t.ends IS NULL OR t.ends > now())
WHERE {0}
ORDER BY c.id DESC, c.thread DESC, c.space DESC LIMIT %(count)s
"""

_COUNT: LiteralString = """
SELECT count(*) FROM unnest(%(spaces)s::bytea[], %(ids)s::bytea[]) AS gone (space, id)
JOIN lg_checkpoints c ON c.thread = %(thread)s AND c.space = gone.space AND c.id = gone.id
"""

_REMOVE_WRITES: LiteralString = """
DELETE FROM lg_writes w USING unnest(%(spaces)s::bytea[], %(ids)s::bytea[]) AS gone (space, id)
WHERE w.thread = %(thread)s AND w.space = gone.space AND w.id = gone.id
"""

_REMOVE_ROWS: LiteralString = """
DELETE FROM lg_checkpoints c USING unnest(%(spaces)s::bytea[], %(ids)s::bytea[]) AS gone (space, id)
WHERE c.thread = %(thread)s AND c.space = gone.space AND c.id = gone.id
"""

_REMOVE_ORPHANS: LiteralString = """
DELETE FROM lg_writes w
WHERE thread = %(thread)s
AND NOT EXISTS (SELECT FROM lg_checkpoints c WHERE c.thread = w.thread AND c.space = w.space AND c.id = w.id)
AND id < (SELECT max(id) FROM lg_checkpoints c WHERE c.thread = w.thread AND c.space = w.space)
"""

_REMOVE_ITEMS: LiteralString = (
    """
WITH RECURSIVE needing AS (
    SELECT needs FROM lg_checkpoints WHERE thread = %(thread)s
    UNION ALL SELECT needs FROM lg_writes WHERE thread = %(thread)s
), needed (name, needs) AS (
    SELECT i.name, i.needs FROM (SELECT DISTINCT """
    + _NAMES.replace("{0}", "needing")
    + """) AS wanted (name)
    JOIN lg_items i ON i.thread = %(thread)s AND i.name = wanted.name
    UNION
    SELECT i.name, i.needs FROM (SELECT """
    + _NAMES.replace("{0}", "needed")
    + """) AS wanted (name)
    JOIN lg_items i ON i.thread = %(thread)s AND i.name = wanted.name
)
DELETE FROM lg_items WHERE thread = %(thread)s AND name NOT IN (SELECT name FROM needed)
"""
)

_BURY: LiteralString = """
INSERT INTO lg_threads (thread, name, epoch, horizon, ends)
VALUES (%(thread)s, '', 0, %(horizon)s, now() + %(seconds)s * interval '1 second')
ON CONFLICT (thread) DO UPDATE SET name = '', epoch = 0, horizon = EXCLUDED.horizon, ends = EXCLUDED.ends
"""
