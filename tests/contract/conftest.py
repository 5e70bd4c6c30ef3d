"""Each engine, empty, for each test of the contract."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest

from learning.savers import Saver, open_saver
from learning.savers.engines.files import FilesEngine
from learning.savers.engines.memory import MemoryEngine
from learning.savers.engines.s3 import _thread
from learning.savers.program import run

TABLES = ("lg_threads", "lg_checkpoints", "lg_items", "lg_writes")
ENGINES = ["memory", "postgres", "redis", "cluster", "files", "s3"]


@dataclass
class Storage:
    """A storage that is empty at first, and that any number of savers may open."""

    kind: str
    url: str
    server: Any = None
    folder: Path | None = None
    memory: MemoryEngine | None = None
    opened: list[Saver] = field(default_factory=list)

    def open(self, **options: Any) -> Saver:
        """A saver on it, set up."""
        saver = Saver(self.memory, **options) if self.memory else open_saver(self.url, **options)
        saver.setup()
        self.opened.append(saver)
        return saver

    def items(self) -> int:
        """How many items are stored, of all threads."""
        match self.kind:
            case "memory":
                return sum(len(shelf.items) for shelf in self.memory._shelves.values())
            case "postgres":
                with psycopg.connect(self.url) as connection:
                    return connection.execute("SELECT count(*) FROM lg_items").fetchone()[0]
            case "files":
                count = 0
                for path in self.folder.rglob("*.log"):
                    with FilesEngine(self.folder)._log(bytes.fromhex(path.stem)).reading() as shelf:
                        count += len(shelf.items) if shelf else 0
                return count
            case "s3":
                engine = self.opened[0].engine
                threads = [_thread(name.partition("/")[2]) for name in self._objects() if "/heads/" in name]
                shelves = [run(engine._read(thread), engine._bucket.perform).living for thread in threads]
                return sum(len(shelf.items) for shelf in shelves if shelf)
            case "redis" | "cluster":
                client = self.server.client()
                return sum(client.hlen(key) for key in client.scan_iter("lg:*:items"))
        raise AssertionError(self.kind)

    def bytes(self) -> int:
        """How many bytes are stored, with what the storage needs for them."""
        match self.kind:
            case "memory":
                shelves = self.memory._shelves.values()
                records = [record for shelf in shelves for record, _ in shelf.rows.values()]
                records += [record for shelf in shelves for tasks in shelf.writes.values() for record in tasks.values()]
                records += [record for shelf in shelves for record in shelf.items.values()]
                return sum(len(record.data) + 16 * len(record.needs) for record in records)
            case "postgres":
                sizes = [f"(SELECT sum(pg_column_size(t.*)) FROM {table} t)" for table in TABLES]
                with psycopg.connect(self.url) as connection:
                    return connection.execute(f"SELECT {' + '.join(sizes)}").fetchone()[0]
            case "files":
                return sum(path.stat().st_size for path in self.folder.rglob("*.log"))
            case "s3":
                return sum(map(len, self._objects().values()))
            case "redis" | "cluster":
                client = self.server.client()
                return sum(client.memory_usage(key, samples=0) for key in client.scan_iter("*"))
        raise AssertionError(self.kind)

    def dump(self) -> bytes:
        """All that is stored, as bytes."""
        match self.kind:
            case "memory":
                return repr(self.memory._shelves).encode()
            case "postgres":
                with psycopg.connect(self.url) as connection:
                    return repr([connection.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES]).encode()
            case "files":
                return b"".join(path.read_bytes() for path in self.folder.rglob("*.log"))
            case "s3":
                return b"".join(self._objects().values())
            case "redis" | "cluster":
                client = self.server.client()
                return b"".join(client.dump(key) for key in client.scan_iter("*"))
        raise AssertionError(self.kind)

    def _objects(self) -> dict[str, bytes]:
        prefix = urlsplit(self.url).path.strip("/")
        client, bucket = self.server.client(), self.server.bucket
        found = client.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/").get("Contents", [])
        return {each["Key"]: client.get_object(Bucket=bucket, Key=each["Key"])["Body"].read() for each in found}

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Until something has happened that time brings."""
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture(params=ENGINES)
def storage(request: pytest.FixtureRequest) -> Iterator[Storage]:
    """A storage of each kind."""
    storage = _empty(request, request.param)
    yield storage
    for saver in storage.opened:
        saver.close()


@pytest.fixture
def saver(storage: Storage) -> Saver:
    """A saver on a storage of each kind."""
    return storage.open()


def _empty(request: pytest.FixtureRequest, kind: str) -> Storage:
    match kind:
        case "memory":
            return Storage(kind, "memory://", memory=MemoryEngine())
        case "files":
            folder = request.getfixturevalue("tmp_path")
            return Storage(kind, folder.as_uri(), folder=folder)
    server = request.getfixturevalue(kind)
    if kind == "s3":
        return Storage(kind, server.url.replace("?", f"/{uuid4().hex}?"), server)
    return Storage(kind, server.url, server)
