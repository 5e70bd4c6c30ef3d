"""PostgreSQL."""

import secrets
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
from psycopg import sql

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

    def database(self, name: str) -> str:
        """Make the database `name`, empty, with an ordinary user of the same name who owns it; return that user's URL.

        What was there under this name is dropped. The server's own user is a superuser: no rule of a table binds it.
        """
        named, password = sql.Identifier(name), secrets.token_hex(8)
        with self.client(autocommit=True) as connection:
            self._drop(connection, name)
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(named, password))
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(named, named))
        url = urlsplit(self.url)
        place = url.netloc.rpartition("@")[2]
        return urlunsplit(url._replace(netloc=f"{quote(name, safe='')}:{password}@{place}", path=f"/{quote(name)}"))

    def drop_database(self, name: str) -> None:
        """Drop a database and its user, and end whatever goes on in it."""
        with self.client(autocommit=True) as connection:
            self._drop(connection, name)

    def _drop(self, connection: psycopg.Connection, name: str) -> None:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))

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

    def recovering(self) -> bool:
        """Whether it still applies write-ahead log. One that has paused at its recovery target does not."""
        query = "SELECT pg_is_in_recovery() AND pg_get_wal_replay_pause_state() <> 'paused'"
        with self.client() as connection:
            ((recovering,),) = connection.execute(query)
            return recovering


def start_postgres(place: Place, archive: bool, data: Path | None) -> PostgreSQL:
    """Start a server. With `archive` it keeps all of its write-ahead log, for point-in-time recovery.

    With `data` it starts on a copy of that folder, and is here when it has recovered what it is told to.
    """
    settings = SETTINGS | ({"archive_mode": "on"} if archive else {})
    if data:  # a copy that ends with its workspace has no power failure to survive, and a thousand files to sync
        settings |= {"fsync": "off"}
    node, url = place.postgres(settings, ARCHIVE_COMMAND, data)
    server = PostgreSQL({"DATABASE_URL": url}, [node])
    wait_for(lambda: server.ready() and not server.recovering(), "PostgreSQL answers", starting=[node])
    return server
