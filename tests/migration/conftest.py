"""Storages for these tests: ours, each empty, and those of the official savers."""

import sqlite3
from contextlib import closing, contextmanager
from urllib.parse import quote
from uuid import uuid4

import psycopg
import pytest

from tests.contract.conftest import saver, storage  # noqa: F401  these are fixtures here as well


@pytest.fixture
def official(request, tmp_path):
    """The URL of an empty storage of an official saver; the test says which, "sqlite" or "postgres"."""
    if request.param == "sqlite":
        yield f"sqlite+official://{tmp_path}/official.sqlite"
        return
    server, schema = request.getfixturevalue("postgres"), f"official_{uuid4().hex}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
    joint = "&" if "?" in server.url else "?"
    yield f"{server.url.replace('postgresql:', 'postgresql+official:', 1)}{joint}options={quote(f'-csearch_path={schema}')}"


@contextmanager
def sqlite_saver(path):
    """The official one, which need not survive a power cut here."""
    from langgraph.checkpoint.sqlite import SqliteSaver

    with closing(sqlite3.connect(path, check_same_thread=False)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        yield SqliteSaver(connection)
