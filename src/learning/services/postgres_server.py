"""PostgreSQL."""

from pathlib import Path
from typing import Any

import psycopg

from .server import Place, Server, wait_for

ANSWER_SECONDS = 2
"""How long it may take to answer a ping. libpq takes 2 for the least."""

SETTINGS = {"cluster_name": "learning", "dynamic_shared_memory_type": "mmap"}
"""Shared memory in files of the data folder: nothing of it is left elsewhere after a kill."""

ARCHIVE_COMMAND = "cp %p {archive}/%f.part && chmod 644 {archive}/%f.part && mv {archive}/%f.part {archive}/%f"
"""Copies a finished piece of the write-ahead log. A piece is there whole or not at all."""


class PostgreSQL(Server):
    """A PostgreSQL server."""

    title = "PostgreSQL"
    variable = "DATABASE_URL"

    def client(self, **options: Any) -> psycopg.Connection:
        """A new connection; `options` are psycopg's."""
        return psycopg.connect(self.url, **options)

    @property
    def archive(self) -> Path | None:
        """The folder with the archived write-ahead log, of a server that was started with `archive=True`."""
        return self.folder / "archive" if self.folder else None

    def ready(self) -> bool:
        """Whether it takes connections and answers. A ValueError if its URL is none."""
        try:
            with self.client(connect_timeout=ANSWER_SECONDS) as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        except psycopg.ProgrammingError as error:
            raise ValueError(error) from error
        return True


def start_postgres(place: Place, archive: bool) -> PostgreSQL:
    """Start a server. With `archive` it keeps all of its write-ahead log, for point-in-time recovery."""
    settings = SETTINGS | ({"archive_mode": "on"} if archive else {})
    node, url = place.postgres(settings, ARCHIVE_COMMAND)
    server = PostgreSQL({"DATABASE_URL": url}, [node])
    wait_for(server.ready, "PostgreSQL answers", starting=[node])
    return server
