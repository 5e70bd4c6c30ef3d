"""Each engine, empty, for each test of the contract."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from learning.savers import Saver, open_saver
from learning.savers.engines.memory import MemoryEngine

ENGINES = ["memory", "postgres"]


@dataclass
class Storage:
    """A storage that is empty at first, and that any number of savers may open."""

    url: str
    memory: MemoryEngine | None = None
    opened: list[Saver] = field(default_factory=list)

    def open(self, **options: Any) -> Saver:
        """A saver on it, set up."""
        saver = Saver(self.memory, **options) if self.memory else open_saver(self.url, **options)
        saver.setup()
        self.opened.append(saver)
        return saver


@pytest.fixture(params=ENGINES)
def storage(request: pytest.FixtureRequest) -> Iterator[Storage]:
    """A storage of each kind."""
    storage = Storage(*_place(request))
    yield storage
    for saver in storage.opened:
        saver.close()


@pytest.fixture
def saver(storage: Storage) -> Saver:
    """A saver on a storage of each kind."""
    return storage.open()


def _place(request: pytest.FixtureRequest) -> tuple[str, MemoryEngine | None]:
    match request.param:
        case "memory":
            return "memory://", MemoryEngine()
        case "postgres":
            url = request.getfixturevalue("postgres").url
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("DROP TABLE IF EXISTS lg_threads, lg_checkpoints, lg_items, lg_writes, lg_schema")
            return url, None
        case "files":
            return f"file://{request.getfixturevalue('tmp_path')}", None
        case "redis" | "cluster" as name:
            return request.getfixturevalue(name).url, None
    raise AssertionError(request.param)
