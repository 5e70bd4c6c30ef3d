"""What the tests of lesson 3 stand on: databases of their own, sessions that are ended at any statement, pools."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg
import pytest
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool

from learning import services

from .expect import Missed
from .on_servers import in_time
from .plugin import unattempted
from .starters import UNWRITTEN
from .tasks import TASKS


@contextmanager
def database(server: services.PostgreSQL) -> Iterator[str]:
    """The URL of an empty database, for the ordinary user who owns it. It is dropped at the end."""
    name = f"judged_{secrets.token_hex(6)}"
    try:
        yield server.database(name)
    finally:
        # Where a time limit has cut off the making of a database, the server goes on with it.
        with suppress(psycopg.errors.DependentObjectsStillExist):
            server.drop_database(name)


@contextmanager
def emptied(url: str) -> Iterator[psycopg.Connection]:
    """A connection to a database, for the user who owns it: whatever was there is gone, and so are all other sessions.

    (To make a database takes a hundred times as long, on a busy disk.)
    """
    with psycopg.connect(url, autocommit=True) as connection:
        end_sessions(connection)
        drop_tables(connection)
        yield connection


def superuser(server: services.PostgreSQL, conn: psycopg.Connection) -> psycopg.Connection:
    """Another connection to the database of `conn`, of a user whom no policy binds."""
    return psycopg.connect(server.url, dbname=conn.info.dbname, autocommit=True)


def idle(connection: psycopg.Connection, idea: str) -> None:
    """See that a connection has no transaction left open.

    Raises:
        Missed: if it has.
    """
    status = connection.info.transaction_status
    if status != TransactionStatus.IDLE:
        raise Missed(expected="no transaction is open afterwards", came=f"the connection is {status.name}", idea=idea)


def written(task: str, script: str) -> None:
    """Skip a test where the SQL script of an answer is still the starter's."""
    if UNWRITTEN.search(script):
        pytest.skip(unattempted(TASKS[task], Path(TASKS[task].notebook)))


# --- sessions that end ------------------------------------------------------------------------------------------------


def ended_while_it_waits(admin: psycopg.Connection, session: psycopg.Connection, call: Callable[[], Any]) -> bool:
    """Call, and end the session's process on the server while it waits for a lock; whether it ever did wait.

    Whatever error the call gets afterwards is its own business, and one before is raised. One that does not end is
    given up, and told.
    """
    pid, over = session.info.backend_pid, threading.Event()
    errors: list[Exception] = []

    def watched() -> None:
        try:
            call()
        except Exception as error:
            errors.append(error)
        finally:
            over.set()

    threading.Thread(target=watched, daemon=True).start()
    query = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
    waited = False
    while not over.wait(0.01) and not waited:
        ((locks,),) = admin.execute(query, [pid])
        waited = bool(locks)
    if errors and not waited:
        raise errors[0]
    admin.execute("SELECT pg_terminate_backend(%s, 2000)", [pid])
    in_time(3, "a call whose session was ended", "An error has to get out: do not wait for ever.", over.wait)
    return waited


class Fragile(psycopg.Connection):
    """A connection whose session the server ends before the statement with the number `last` (0 is the first)."""

    url = ""
    last: int | None = None
    count = 0

    @property
    def broken(self) -> bool:
        """Whether it has come to that."""
        return self.last is not None and self.count > self.last


class FragileCursor(psycopg.Cursor):
    """Counts its connection's statements, and ends the session before the chosen one."""

    def execute(self, *args: Any, **options: Any) -> "FragileCursor":
        """As any cursor does it."""
        self._count()
        return super().execute(*args, **options)

    def executemany(self, *args: Any, **options: Any) -> None:
        """As any cursor does it."""
        self._count()
        super().executemany(*args, **options)

    def _count(self) -> None:
        connection = self.connection
        assert isinstance(connection, Fragile), "see `fragile`"
        if connection.count == connection.last:
            with psycopg.connect(connection.url, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s, 2000)", [connection.info.backend_pid])
        connection.count += 1


def fragile(url: str, last: int | None) -> Fragile:
    """A connection that is cut before a statement, or None for one that is never cut."""
    connection = Fragile.connect(url, autocommit=True, cursor_factory=FragileCursor)
    connection.url, connection.last = url, last
    return connection


# --- migrations -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Migration:
    """One change of a schema, and how to undo it."""

    number: int
    name: str
    up: str
    down: str


def migrations(count: int) -> list[Migration]:
    """Migrations that each make a table, and note in `log` that they ran. `log` is the first one's."""
    made = [Migration(1, "log", "CREATE TABLE log (done text); INSERT INTO log VALUES ('up 1')", "DROP TABLE log")]
    for number in range(2, count + 1):
        up = f"CREATE TABLE orders_{number} (id int); INSERT INTO log VALUES ('up {number}')"
        down = f"DROP TABLE orders_{number}; INSERT INTO log VALUES ('down {number}')"
        made.append(Migration(number, f"orders {number}", up, down))
    return made


def noted(connection: psycopg.Connection) -> list[str]:
    """What migrations have noted, sorted as text; nothing where the first has not run."""
    ((log,),) = connection.execute("SELECT to_regclass('log')")
    if log is None:
        return []
    return sorted(done for (done,) in connection.execute("SELECT done FROM log"))


def tables_of(connection: psycopg.Connection) -> list[str]:
    """The names of the tables that migrations have made."""
    query = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ '^(log|orders_\\d+|half)$' ORDER BY oid"
    return [name for (name,) in connection.execute(query)]


def drop_tables(connection: psycopg.Connection) -> None:
    """Drop all that a user owns in a database."""
    connection.execute("DROP OWNED BY CURRENT_USER CASCADE; CREATE SCHEMA IF NOT EXISTS public")


# --- plans ------------------------------------------------------------------------------------------------------------

TENANTS = 10
CHECKPOINTS = 100_000

FILL = f"""
INSERT INTO checkpoints (tenant, thread_id, checkpoint_ns, checkpoint_id, created_at, checkpoint, metadata)
SELECT 'shop-' || n % {TENANTS}, 'thread-' || n / 20000, '', lpad(to_hex(n), 16, '0'), now() - n * interval '1 minute',
    '\\x00', jsonb_build_object('source', 'loop', 'run_id', 'run-' || n / {TENANTS} / 10 || '-' || n % {TENANTS})
FROM generate_series(1, {CHECKPOINTS}) AS n;
INSERT INTO writes (tenant, thread_id, checkpoint_ns, checkpoint_id, task_id, idx, channel, value)
SELECT 'shop-' || n % {TENANTS}, 'thread-' || n / 20000, '', lpad(to_hex(n), 16, '0'), 'task', 0, 'messages', '\\x00'
FROM generate_series(1, {CHECKPOINTS}, 7) AS n
"""
"""Ten shops, each with five conversations of two thousand checkpoints, and runs of ten."""


def fill_tables(admin: psycopg.Connection) -> Exception | None:
    """Put 100,000 checkpoints into the tables of the first task; the error, if that does not work."""
    try:
        admin.execute(f"SET synchronous_commit = off; {FILL}")
        admin.execute("ANALYZE")
    except psycopg.Error as error:
        return error
    return None


HOT_QUERIES = {
    (
        "The newest checkpoint of a conversation",
        "SELECT checkpoint FROM checkpoints WHERE thread_id = 'thread-2' AND checkpoint_ns = ''"
        " ORDER BY checkpoint_id DESC LIMIT 1",
    ): 50,
    (
        "What tasks wrote after a checkpoint",
        "SELECT channel, value FROM writes WHERE thread_id = 'thread-2' AND checkpoint_ns = ''"
        " AND checkpoint_id = lpad(to_hex(47103), 16, '0') ORDER BY task_id, idx",
    ): 50,
    ("All checkpoints of a run", "SELECT checkpoint_id FROM checkpoints WHERE run_id = 'run-700-3'"): 100,
    (
        "Checkpoints that are older than a time",
        "SELECT checkpoint_id FROM checkpoints WHERE created_at < now() - interval '69 days'",
    ): 2000,
}
"""What is asked all the time, and how many rows may be read for it, of 100,000."""


# --- pools ------------------------------------------------------------------------------------------------------------


def end_sessions(admin: psycopg.Connection) -> int:
    """End all other sessions of this database's owner, in the middle of whatever they do; how many there were."""
    query = (
        "SELECT count(pg_terminate_backend(pid, 2000)) FROM pg_stat_activity WHERE datname = current_database()"
        " AND usename = current_database() AND pid <> pg_backend_pid()"
    )
    ((count,),) = admin.execute(query)
    return count


@contextmanager
def closed_to_all(server: services.PostgreSQL, admin: psycopg.Connection) -> Iterator[None]:
    """A database that ends its sessions and takes no new ones, as in a maintenance."""
    name = admin.info.dbname
    with server.client(autocommit=True) as elsewhere:
        elsewhere.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
        try:
            end_sessions(admin)
            yield
        finally:
            elsewhere.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")


def sessions(admin: psycopg.Connection, condition: str = "true") -> int:
    """How many sessions this database has, those of the superuser left out."""
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename <> current_user"
        f" AND backend_type = 'client backend' AND {condition}"
    )
    ((count,),) = admin.execute(query)
    return count


@contextmanager
def tries_of(pool: ConnectionPool, lost_for: float) -> Iterator[list[tuple[float, float]]]:
    """Have a pool lend dead connections for `lost_for` seconds, from the first try on.

    What it gives is filled try by try: how many seconds the pool was told to wait, and how many were gone for certain
    when that was computed.
    """
    tries: list[tuple[float, float]] = []
    take, gone, begin = pool.getconn, 0.0, 0.0

    def taken(timeout: float | None = None) -> psycopg.Connection:
        nonlocal gone, begin
        begin = begin or time.monotonic()
        tries.append((pool.timeout if timeout is None else timeout, gone))
        lost = time.monotonic() - begin < lost_for
        connection = take(timeout)
        if lost:
            connection.close()
            time.sleep(0.3 if len(tries) == 1 else 0)
            gone = time.monotonic() - begin
        return connection

    with patch.object(pool, "getconn", taken):
        yield tries
