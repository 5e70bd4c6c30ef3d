"""Who is compared: our savers and those that others have published, each opened on a storage that is empty."""

import re
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool

from .. import services
from ..savers import open_saver
from ..services import S3, PostgreSQL, RedisCluster, Server
from .proxy import Proxy

POOL = 8
"""How many connections a pool has, and how many threads use it."""

Stored = tuple[int, int | None]
"""The bytes that a storage holds, and what they take on disk with all that the server adds, where that is known."""


@dataclass
class Opened:
    """A saver on an empty storage. The token is in the name of all that it stores, or of the place where it does."""

    saver: BaseCheckpointSaver
    token: str
    stored: Callable[[], Stored]


@dataclass(frozen=True)
class Contender:
    """A saver to be measured. In each group, all are compared with the first that is not ours."""

    name: str
    group: str
    kind: str
    make: Callable[[str, str, ExitStack], BaseCheckpointSaver]
    package: str = ""
    """What to install, if it is not ours."""
    pooled: bool = False

    @property
    def title(self) -> str:
        """Its name in tables."""
        return self.name if self.package else f"learning {self.name}"

    @contextmanager
    def open(self, server: Server | None, url: str = "") -> Iterator[Opened]:
        """The saver on a storage that is removed at the end; with a URL, by way of that, which may be a proxy's."""
        token = f"bench{token_hex(4)}"
        with ExitStack() as stack:
            place, stored = stack.enter_context(STORAGES[self.kind](server, url or getattr(server, "url", ""), token))
            saver = self.make(place, token, stack)
            yield Opened(saver, token, lambda: stored(saver))


# --- storages: where a saver is to store, and what tells how much it does ---------------------------------------------


@contextmanager
def _memory(*_: Any) -> Iterator[Any]:
    def stored(saver: Any) -> Stored:
        theirs = isinstance(saver, InMemorySaver)
        return _held([saver.storage, saver.writes, saver.blobs] if theirs else saver.engine._shelves, set()), None

    yield "memory://", stored


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
def _files(*_: Any) -> Iterator[Any]:
    def stored(saver: Any) -> Stored:
        if hasattr(saver, "conn"):
            saver.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()), None

    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder).as_uri(), stored


@contextmanager
def _schema(server: PostgreSQL, url: str, token: str) -> Iterator[Any]:
    def stored(_: Any) -> Stored:
        tables = "SELECT oid::regclass::text, pg_total_relation_size(oid) FROM pg_class WHERE relkind = 'r'"
        found = connection.execute(f"{tables} AND relnamespace = '{token}'::regnamespace").fetchall()
        rows = "SELECT coalesce(sum(pg_column_size(each.*)), 0)::bigint FROM {} each"
        sizes = [size for table, _ in found for (size,) in connection.execute(rows.format(table))]
        return sum(sizes), sum(size for _, size in found)

    with server.client(autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {token}")
        try:
            yield _postgres_url(url, options=f"-csearch_path={token}"), stored
        finally:
            connection.execute(f"DROP SCHEMA {token} CASCADE")


def _postgres_url(url: str, **changes: Any) -> str:
    return "postgresql:///?" + urlencode(conninfo_to_dict(url) | changes, quote_via=quote)


@contextmanager
def _keys(server: Any, url: str, token: str) -> Iterator[Any]:
    def stored(_: Any) -> Stored:
        return sum(client.memory_usage(key, samples=0) for key in keys()), None

    with closing(server.client(socket_timeout=30)) as client:

        def keys() -> Iterable[bytes]:
            return client.scan_iter(f"*{token}*", count=1000)

        try:
            yield url, stored
        finally:
            for key in keys():
                client.unlink(key)


@contextmanager
def _objects(server: S3, url: str, token: str) -> Iterator[Any]:
    client = server.client()

    def objects() -> list[dict[str, Any]]:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=server.bucket, Prefix=token)
        return [each for page in pages for each in page.get("Contents", ())]

    try:
        yield url, lambda _: (sum(each["Size"] for each in objects()), None)
    finally:
        for each in objects():
            client.delete_object(Bucket=server.bucket, Key=each["Key"])


STORAGES = {
    "memory": _memory,
    "files": _files,
    "postgresql": _schema,
    "redis": _keys,
    "redis+cluster": _keys,
    "s3": _objects,
}

SERVERS: dict[str, Callable[[], Server]] = {
    "postgresql": services.postgres,
    "redis": services.redis,
    "redis+cluster": services.redis_cluster,
    "s3": services.s3,
}
"""How to start the server that a storage needs."""

# --- savers -----------------------------------------------------------------------------------------------------------


def _ours(url: str, token: str, stack: ExitStack) -> BaseCheckpointSaver:
    parts = urlsplit(url)
    options: dict[str, Any] = {}
    if parts.scheme == "postgresql":
        options = {"pool": POOL}
    elif parts.scheme in ("redis", "redis+cluster"):
        options = {"prefix": token}
    elif parts.scheme == "s3":
        url = parts._replace(path=f"/{token}").geturl()
    return stack.enter_context(open_saver(url, **options))


def _sqlite_saver(url: str, token: str, stack: ExitStack) -> BaseCheckpointSaver:
    from langgraph.checkpoint.sqlite import SqliteSaver

    file = Path(urlsplit(url).path) / "checkpoints.sqlite"
    return SqliteSaver(stack.enter_context(closing(sqlite3.connect(file, check_same_thread=False))))


def _postgres_saver(url: str, token: str, stack: ExitStack) -> BaseCheckpointSaver:
    from langgraph.checkpoint.postgres import PostgresSaver

    saver = stack.enter_context(PostgresSaver.from_conn_string(url))
    saver.setup()
    return saver


def _postgres_saver_on_pool(url: str, token: str, stack: ExitStack) -> BaseCheckpointSaver:
    from langgraph.checkpoint.postgres import PostgresSaver

    settings = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    pool = ConnectionPool(url, connection_class=Connection[DictRow], max_size=POOL, kwargs=settings, open=True)
    saver = PostgresSaver(stack.enter_context(pool))
    saver.setup()
    return saver


def _plain_redis_saver(url: str, token: str, stack: ExitStack) -> BaseCheckpointSaver:
    from langgraph_checkpoint_plainredis import RedisSaver

    return stack.enter_context(closing(RedisSaver(url=url, prefix=token)))


def _valkey_saver(url: str, token: str, stack: ExitStack) -> BaseCheckpointSaver:
    from langgraph_checkpoint_aws.checkpoint.valkey import ValkeySaver

    return stack.enter_context(ValkeySaver.from_conn_string(url))


def _redis_saver(url: str, token: str, stack: ExitStack) -> BaseCheckpointSaver:
    from langgraph.checkpoint.redis import RedisSaver

    saver = stack.enter_context(RedisSaver.from_conn_string(url))
    saver.setup()
    return saver


POSTGRES, REDIS = ("PostgreSQL", "postgresql"), ("Redis", "redis")

CONTENDERS = (
    Contender("InMemorySaver", "memory", "memory", lambda *_: InMemorySaver(), "langgraph-checkpoint"),
    Contender("memory", "memory", "memory", _ours),
    Contender("SqliteSaver", "files", "files", _sqlite_saver, "langgraph-checkpoint-sqlite"),
    Contender("file", "files", "files", _ours),
    Contender("PostgresSaver", *POSTGRES, _postgres_saver, "langgraph-checkpoint-postgres"),
    Contender("PostgresSaver+pool", *POSTGRES, _postgres_saver_on_pool, "langgraph-checkpoint-postgres", pooled=True),
    Contender("postgresql", *POSTGRES, _ours, pooled=True),
    Contender("plainredis", *REDIS, _plain_redis_saver, "langgraph-checkpoint-plainredis"),
    Contender("ValkeySaver", *REDIS, _valkey_saver, "langgraph-checkpoint-aws[valkey]"),
    Contender("RedisSaver", *REDIS, _redis_saver, "langgraph-checkpoint-redis"),
    Contender("redis", *REDIS, _ours),
    Contender("redis+cluster", "Redis", "redis+cluster", _ours),
    Contender("s3", "S3", "s3", _ours),
)


def available(
    chosen: Iterable[Contender], stack: ExitStack, trial: Callable[[Opened], Any]
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
            left_out[contender.name] = f"{contender.package} is not installed" if contender.package else str(error)
        except Exception as error:  # whatever is wrong with one is no reason to stop the others
            left_out[contender.name] = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return found, left_out


@contextmanager
def counted(server: Server) -> Iterator[tuple[str, Proxy]]:
    """A URL that leads to a server through a proxy, and the proxy."""
    if isinstance(server, PostgreSQL):
        parts = conninfo_to_dict(server.url)
        host, port = str(parts.get("host") or "localhost"), int(parts.get("port") or 5432)
        with Proxy([f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)]) as proxy:
            ((host, port),) = proxy.addresses
            yield _postgres_url(server.url, host=host, port=port), proxy
        return
    places = [(host, int(port)) for host, port in re.findall(r"([\w.-]+):(\d+)(?=[,/?]|$)", server.url)]
    with Proxy(places, cluster=isinstance(server, RedisCluster)) as proxy:
        url = server.url
        for old, new in zip(places, proxy.addresses, strict=True):
            url = url.replace(":".join(map(str, old)), ":".join(map(str, new)))
        yield url, proxy
