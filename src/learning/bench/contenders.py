"""Who is compared: our savers and those that others have published, each opened on a storage that is empty."""

import re
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from .. import services
from ..savers import open_saver
from ..services import PostgreSQL, RedisCluster, Server
from .proxy import Proxy

POOL = 8
"""How many connections a pool has, and how many threads use it."""

SERVERS: dict[str, Callable[[], Server]] = {
    "postgresql": services.postgres,
    "redis": services.redis,
    "redis+cluster": services.redis_cluster,
    "s3": services.s3,
}
"""How to start the server that a kind of storage needs."""


@dataclass
class Opened:
    """A saver on an empty storage.

    Attributes:
        token: is part of the name of all that it stores, or of the place where it does.
        stored: tells how many bytes its storage holds, and how many there are on disk with all that the server adds to
            them, where that is known.
    """

    saver: BaseCheckpointSaver
    token: str
    stored: Callable[[], tuple[int, int | None]]


@dataclass(frozen=True)
class Contender:
    """A saver to be measured. The first of a group is what the others in it are compared with."""

    name: str
    group: str
    kind: str
    opening: Callable[[Server | None, str, str], Any]
    package: str = ""
    """What to install, if it is not ours."""
    pooled: bool = False

    @property
    def title(self) -> str:
        """Its name in tables."""
        return self.name if self.package else f"learning {self.name}"

    @contextmanager
    def open(self, server: Server | None, url: str | None = None) -> Iterator[Opened]:
        """The saver on a storage of its own, that is removed at the end; with a URL, through a proxy, say."""
        token = f"bench{token_hex(4)}"
        with self.opening(server, url or (server.url if server else ""), token) as (saver, stored):
            yield Opened(saver, token, stored)


# --- in this process, and in files ------------------------------------------------------------------------------------


@contextmanager
def _our_memory(*_: Any) -> Iterator[Any]:
    with open_saver("memory://") as saver:
        yield saver, lambda: (_held(saver.engine._shelves, set()), None)


@contextmanager
def _in_memory_saver(*_: Any) -> Iterator[Any]:
    saver = InMemorySaver()
    yield saver, lambda: (_held([saver.storage, saver.writes, saver.blobs], set()), None)


def _held(value: Any, seen: set[int]) -> int:
    """The lengths of all bytes and texts in a value, each object once."""
    if id(value) in seen:
        return 0
    seen.add(id(value))
    if isinstance(value, bytes | str):
        return len(value)
    if hasattr(value, "__dataclass_fields__"):
        value = [getattr(value, name) for name in value.__dataclass_fields__]
    parts = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list | tuple) else []
    return sum(_held(part, seen) for part in parts)


@contextmanager
def _our_files(*_: Any) -> Iterator[Any]:
    with tempfile.TemporaryDirectory() as folder, open_saver(Path(folder).as_uri()) as saver:
        yield saver, lambda: (_in_files(folder), None)


@contextmanager
def _sqlite_saver(*_: Any) -> Iterator[Any]:
    from langgraph.checkpoint.sqlite import SqliteSaver

    with (
        tempfile.TemporaryDirectory() as folder,
        closing(sqlite3.connect(Path(folder) / "checkpoints.sqlite", check_same_thread=False)) as connection,
    ):

        def stored() -> tuple[int, None]:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return _in_files(folder), None

        yield SqliteSaver(connection), stored


def _in_files(folder: str) -> int:
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


def _in_schema(opening: Callable[[str], Any]) -> Callable[..., Any]:
    """Open a saver in a schema of its own."""

    @contextmanager
    def opened(server: PostgreSQL, url: str, token: str) -> Iterator[Any]:
        with server.client(autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {token}")
            try:
                with opening(_url(url, options=f"-csearch_path={token}")) as saver:
                    saver.setup()
                    yield saver, lambda: _in_tables(connection, token)
            finally:
                connection.execute(f"DROP SCHEMA {token} CASCADE")

    return opened


def _url(url: str, **changes: Any) -> str:
    return "postgresql:///?" + urlencode(conninfo_to_dict(url) | changes, quote_via=quote)


def _in_tables(connection: psycopg.Connection, schema: str) -> tuple[int, int]:
    """The bytes of all rows before PostgreSQL compresses them, and those of all files, indexes among them."""
    tables = "SELECT oid::regclass::text, pg_total_relation_size(oid) FROM pg_class"
    found = connection.execute(f"{tables} WHERE relkind = 'r' AND relnamespace = '{schema}'::regnamespace").fetchall()
    in_rows = "SELECT coalesce(sum(pg_column_size(each.*)), 0)::bigint FROM {} each"
    rows = sum(connection.execute(in_rows.format(table)).fetchone()[0] for table, _ in found)
    return rows, sum(size for _, size in found)


@contextmanager
def _postgres_saver(url: str) -> Iterator[Any]:
    from langgraph.checkpoint.postgres import PostgresSaver

    with PostgresSaver.from_conn_string(url) as saver:
        yield saver


@contextmanager
def _postgres_saver_on_pool(url: str) -> Iterator[Any]:
    from langgraph.checkpoint.postgres import PostgresSaver

    settings = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    with ConnectionPool(url, max_size=POOL, kwargs=settings, open=True) as pool:
        yield PostgresSaver(pool)


# --- Redis ------------------------------------------------------------------------------------------------------------


def _in_keys(opening: Callable[[str, str], Any]) -> Callable[..., Any]:
    """Open a saver whose keys all have the token in their names."""

    @contextmanager
    def opened(server: Any, url: str, token: str) -> Iterator[Any]:
        with closing(server.client(socket_timeout=30)) as client:

            def keys() -> Iterator[bytes]:
                return client.scan_iter(f"*{token}*", count=1000)

            try:
                with opening(url, token) as saver:
                    yield saver, lambda: (sum(client.memory_usage(key, samples=0) for key in keys()), None)
            finally:
                for key in keys():
                    client.unlink(key)

    return opened


@contextmanager
def _plain_redis_saver(url: str, token: str) -> Iterator[Any]:
    from langgraph_checkpoint_plainredis import RedisSaver

    with closing(RedisSaver(url=url, prefix=token)) as saver:
        yield saver


@contextmanager
def _valkey_saver(url: str, token: str) -> Iterator[Any]:
    import orjson  # noqa: F401 - without them the package has a class that only raises
    import valkey  # noqa: F401
    from langgraph_checkpoint_aws import ValkeySaver

    with ValkeySaver.from_conn_string(url) as saver:
        yield saver


@contextmanager
def _redis_saver(url: str, token: str) -> Iterator[Any]:
    from langgraph.checkpoint.redis import RedisSaver

    with RedisSaver.from_conn_string(url) as saver:
        saver.setup()
        yield saver


# --- S3 ---------------------------------------------------------------------------------------------------------------


@contextmanager
def _our_s3(server: services.S3, url: str, token: str) -> Iterator[Any]:
    client = server.client()

    def objects() -> list[dict[str, Any]]:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=server.bucket, Prefix=token)
        return [each for page in pages for each in page.get("Contents", ())]

    place, _, options = url.partition("?")
    try:
        with open_saver(f"{place}/{token}?{options}") as saver:
            yield saver, lambda: (sum(each["Size"] for each in objects()), None)
    finally:
        for each in objects():
            client.delete_object(Bucket=server.bucket, Key=each["Key"])


# --- all --------------------------------------------------------------------------------------------------------------

_ours_in_keys = _in_keys(lambda url, token: open_saver(url, prefix=token))

CONTENDERS = (
    Contender("InMemorySaver", "memory", "memory", _in_memory_saver, "langgraph-checkpoint"),
    Contender("memory", "memory", "memory", _our_memory),
    Contender("SqliteSaver", "files", "files", _sqlite_saver, "langgraph-checkpoint-sqlite"),
    Contender("file", "files", "files", _our_files),
    Contender(
        "PostgresSaver", "PostgreSQL", "postgresql", _in_schema(_postgres_saver), "langgraph-checkpoint-postgres"
    ),
    Contender(
        "PostgresSaver+pool",
        "PostgreSQL",
        "postgresql",
        _in_schema(_postgres_saver_on_pool),
        "langgraph-checkpoint-postgres",
        pooled=True,
    ),
    Contender("postgresql", "PostgreSQL", "postgresql", _in_schema(lambda url: open_saver(url, pool=POOL)), pooled=True),
    Contender("plainredis", "Redis", "redis", _in_keys(_plain_redis_saver), "langgraph-checkpoint-plainredis"),
    Contender("ValkeySaver", "Redis", "redis", _in_keys(_valkey_saver), "langgraph-checkpoint-aws[valkey]"),
    Contender("RedisSaver", "Redis", "redis", _in_keys(_redis_saver), "langgraph-checkpoint-redis"),
    Contender("redis", "Redis", "redis", _ours_in_keys),
    Contender("redis+cluster", "Redis", "redis+cluster", _ours_in_keys),
    Contender("s3", "S3", "s3", _our_s3),
)


def available(
    chosen: list[Contender], stack: ExitStack, trial: Callable[[Opened], Any]
) -> tuple[dict[Contender, Server | None], dict[str, str]]:
    """Those that can be measured, each with its server, and for the others why not."""
    started: dict[str, Server | None] = {}
    found: dict[Contender, Server | None] = {}
    left_out: dict[str, str] = {}
    for contender in chosen:
        kind = contender.kind
        try:
            if kind not in started:
                started[kind] = stack.enter_context(SERVERS[kind]()) if kind in SERVERS else None
            with contender.open(started[kind]) as opened:
                trial(opened)
            found[contender] = started[kind]
        except ImportError as error:
            left_out[contender.name] = f"pip install {contender.package}" if contender.package else str(error)
        except Exception as error:  # whatever is wrong with one is no reason to stop the others
            left_out[contender.name] = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return found, left_out


@contextmanager
def counted(server: Server) -> Iterator[tuple[str, Proxy]]:
    """A URL that leads to a server through a proxy, and the proxy."""
    if isinstance(server, PostgreSQL):
        parts = conninfo_to_dict(server.url)
        host, port = parts.get("host", "localhost"), int(parts.get("port", 5432))
        with Proxy([f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)]) as proxy:
            host, port = proxy.addresses[0]
            yield _url(server.url, host=host, port=port), proxy
        return
    places = [(host, int(port)) for host, port in re.findall(r"([\w.-]+):(\d+)(?=[,/?]|$)", server.url)]
    with Proxy(places, cluster=isinstance(server, RedisCluster)) as proxy:
        url = server.url
        for old, new in zip(places, proxy.addresses, strict=True):
            url = url.replace("%s:%d" % old, "%s:%d" % new)
        yield url, proxy
