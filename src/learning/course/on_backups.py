"""What the test of backups stands on: a server with an archive that makes one wait, and what can happen to a backup."""

import itertools
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
import psycopg

from learning import services

from .expect import Missed


def archiving_server() -> services.PostgreSQL:
    """A server with an archive, whose files are within reach.

    Raises:
        ServiceError: if there is none, as in a container.
    """
    server = services.postgres(archive=True)
    if not hasattr(server.node, "command"):
        server.close()
        raise services.ServiceError("its files are in a container; set LEARNING_SERVICES=embedded, or unset it")
    return server


@contextmanager
def roomy_folder(otherwise: Path) -> Iterator[Path]:
    """A folder in memory for all temporary files, servers too, if there is room; else `otherwise`, for the test's own.

    A backup syncs a thousand files, and to restore it is to copy them twice: a busy disk takes many seconds for that.
    """
    memory = Path("/dev/shm")
    if not (os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2**29):
        yield otherwise
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder, patch.object(tempfile, "tempdir", folder):
        Path(folder).chmod(0o711)  # root has PostgreSQL run by another user, who has to get there
        yield Path(folder)


LOOKS = 3
"""How often an answer has to look until the archive has the piece: one that looks once, or sleeps once, only hopes."""

PATIENCE = 3
"""After how many seconds it is there for one that waits in a way that nobody sees."""


@contextmanager
def slow_archive(connection: psycopg.Connection, archive: Path, idea: str) -> Iterator[None]:
    """Have the archive get nothing until somebody waits for it, as when its disk is busy.

    To wait is to look into `server.archive`, or to sleep, again and again. To copy a backup is not, however slow.

    Raises:
        Missed: from `services.postgres`, if a restored server is started before the archive goes on.
    """
    query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'archiver'"
    ((pid,),) = connection.execute(query)
    archiver = psutil.Process(pid)
    looks, copies, goes_on = itertools.count(1), 0, threading.Event()
    start, sleep, copytree = services.postgres, time.sleep, shutil.copytree

    def go_on() -> None:
        goes_on.set()
        archiver.resume()

    def looked() -> None:
        if next(looks) >= LOOKS:
            go_on()

    class Looked(type(archive)):  # type: ignore[misc]  # a path tells its name whenever the operating system is asked about it
        def __fspath__(self) -> str:
            looked()
            return super().__fspath__()

    def sleep_and_look(seconds: float) -> None:
        sleep(seconds)
        looked()

    def start_when_archived(**options: Any) -> services.PostgreSQL:
        if not goes_on.is_set():
            expected = "a server that is started when the archive has all that was committed"
            raise Missed(expected=expected, came="it was started before", idea=idea)
        return start(**options)

    def copy(*args: Any, **options: Any) -> Any:
        nonlocal copies
        copies += 1
        try:
            return copytree(*args, **options)
        finally:
            copies -= 1

    def give_in() -> None:
        left = float(PATIENCE)
        while left > 0 and not goes_on.wait(0.1):
            left -= 0 if copies else 0.1
        go_on()

    archiver.suspend()
    patience = threading.Thread(target=give_in, daemon=True)
    patience.start()
    try:
        with (
            patch.object(services.PostgreSQL, "archive", Looked(archive)),
            patch.object(services, "postgres", start_when_archived),
            patch.object(time, "sleep", sleep_and_look),
            patch.object(shutil, "copytree", copy),
        ):
            yield
    finally:
        go_on()
        patience.join()


def changed(backup: Path) -> str:
    """How a backup differs from one that nobody has restored, in the files that its manifest leaves out."""
    if (backup / "recovery.signal").exists():
        return "a recovery.signal is in it"
    if "recovery_target" in (backup / "postgresql.auto.conf").read_text():
        return "its postgresql.auto.conf has a recovery target"
    return ""


def _flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0b100]) + content[middle + 1 :]


def _replace(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Give a file other content. It may have other names, in a copy made of links, which keep the old one."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(change(content))


@contextmanager
def aside(backup: Path) -> Iterator[Path]:
    """A backup under another name, so that damaged ones can have its own. At the end it has its name again."""
    other = backup.rename(backup.with_name(secrets.token_hex(6)))
    try:
        yield other
    finally:
        shutil.rmtree(backup, ignore_errors=True)
        other.rename(backup)


DAMAGES: dict[str, Callable[[Path, str], None]] = {
    "one bit of a table is flipped": lambda backup, table: _replace(backup / table, _flipped),
    "a table's file is cut short": lambda backup, table: _replace(backup / table, lambda content: content[:8192]),
    "a table's file is gone": lambda backup, table: (backup / table).unlink(),
    "a file that does not belong there": lambda backup, table: (backup / "base" / "1" / "99999").touch(),
    "one bit of the manifest is flipped": lambda backup, table: _replace(backup / "backup_manifest", _flipped),
    "the manifest is gone": lambda backup, table: (backup / "backup_manifest").unlink(),
}
"""What can happen to a backup on a disk: each does it, given the backup and the path of a table's file in it."""
