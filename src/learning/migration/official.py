"""Savers by URL: ours, and the official ones of LangGraph, under `postgresql+official://…` and `sqlite+official:///…`."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from langgraph.checkpoint.base import BaseCheckpointSaver

from ..savers import InvalidRequest, open_saver

OFFICIAL = ("postgresql+official", "postgres+official", "sqlite+official")


@contextmanager
def opened(url: str, *, make: bool = False, **options: Any) -> Iterator[BaseCheckpointSaver]:
    """The saver at a URL, set up, and closed at the end.

    Args:
        url: what `open_saver` takes; or that of a PostgreSQL with `+official` after its scheme, for the tables of
            PostgresSaver; or `sqlite+official:///path/to/file`, for those of SqliteSaver.
        make: whether a folder or a file that is not there is made.
        options: those of `open_saver`; official savers have none.

    Raises:
        InvalidRequest: if there is no saver for such a URL, or nothing is there.
        ImportError: if the package of an official saver is not installed.
    """
    parts = urlsplit(url)
    if parts.scheme == "memory":
        raise InvalidRequest("What is in memory:// is gone with the process that put it there: use another storage.")
    path = Path(unquote(parts.path))
    if parts.scheme in ("file", "sqlite+official") and not make and not path.exists():
        raise InvalidRequest(f"There is no {'folder' if parts.scheme == 'file' else 'file'} {path}.")
    if parts.scheme not in OFFICIAL:
        with open_saver(url, **options) as saver:
            yield saver
    elif parts.scheme == "sqlite+official":
        from langgraph.checkpoint.sqlite import SqliteSaver

        with closing(sqlite3.connect(path, check_same_thread=False)) as connection:
            yield SqliteSaver(connection)
    else:
        from langgraph.checkpoint.postgres import PostgresSaver

        with PostgresSaver.from_conn_string(url.replace("+official", "", 1)) as saver:
            saver.setup()
            yield saver
