"""Workspaces: a folder for each server, that never outlives its owner."""

import fcntl
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from . import guard
from .errors import ServiceError

PREFIX = "learning-"

MARKER = ".workspace"
"""The file that tells a workspace, and its owner, from any other folder with such a name, which nobody may clear."""

DESCRIPTION = "server.json"

LONGEST_BASE = 60
"""A unix socket's path has 103 characters at most; a workspace has to leave room for it."""

NEEDED_BYTES = 256 * 2**20
"""What has to be free on the disk before a server starts: PostgreSQL's first files are most of it."""


class Workspace:
    """A new folder with a short path and a guard. It goes, with all that runs in it, at `close()` or with its owner.

    Raises:
        ServiceError: if there is no room for it on the disk.
    """

    def __init__(self) -> None:
        clear_abandoned()
        self.folder, lock = _make_locked()
        self.owner = os.getpid()
        program = [sys.executable, "-P", guard.__file__, str(self.folder), str(self.owner)]
        try:
            # In a session of its own: a Ctrl-C at the terminal, or the end of a Jupyter kernel's process group, is not
            # for the guard. It inherits the lock, and is the only one that keeps it.
            keeper = subprocess.Popen(
                program,
                cwd="/",
                start_new_session=True,
                pass_fds=[lock],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except BaseException:
            shutil.rmtree(self.folder)
            raise
        finally:
            os.close(lock)
        self._close = weakref.finalize(self, _close, self.folder, self.owner, keeper)

    def close(self) -> None:
        """End what runs here and remove the folder. Repeating it does nothing."""
        self._close()

    def make(self, name: str) -> Path:
        """A new folder in the workspace, for its owner alone."""
        folder = self.folder / name
        folder.mkdir(mode=0o700)
        return folder

    def give(self, folder: Path, user: str) -> None:
        """Let another user own a folder of the workspace and reach it."""
        shutil.chown(folder, user)
        self.folder.chmod(0o711)

    def describe(self, description: dict[str, Any]) -> None:
        """Say what runs here, so that another process can find it."""
        draft = self.folder / f"{DESCRIPTION}.new"
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(description | {"owner": self.owner}))
        os.replace(draft, self.folder / DESCRIPTION)

    def note_leftover(self, path: str) -> None:
        """Have the guard remove a file that lies elsewhere."""
        with (self.folder / guard.LEFTOVERS).open("a") as lines:
            lines.write(f"{path}\n")


def described() -> list[tuple[Path, dict[str, Any]]]:
    """The workspaces of this user that have a server, and what it is."""
    found = []
    for folder in _workspaces():
        with suppress(OSError, ValueError):
            found.append((folder, json.loads((folder / DESCRIPTION).read_text())))
    return found


def clear_abandoned() -> None:
    """Clear the workspaces whose owner and guard are both gone, as after a power failure."""
    for folder in _workspaces():
        with suppress(OSError, ValueError, psutil.Error):
            pid, began = json.loads((folder / MARKER).read_text())
            if psutil.pid_exists(pid) and _identity(pid) == [pid, began]:
                continue  # its guard may be gone: the server is in use all the same
            lock = _lock(folder)
            try:
                guard.clear(folder)
            finally:
                os.close(lock)


def _identity(pid: int) -> list[float]:
    """What tells a process from all others, also from a later one with its pid."""
    return [pid, psutil.Process(pid).create_time()]


def _workspaces() -> list[Path]:
    """Those of this user: what another has put into a folder that looks like one is none of our business."""
    found = []
    for folder in sorted(base().glob(f"{PREFIX}*")):
        with suppress(OSError):
            mine = not folder.is_symlink() and folder.stat().st_uid == os.geteuid()
            if mine and (folder / MARKER).exists():
                found.append(folder)
    return found


def base() -> Path:
    """The folder that workspaces are made in."""
    try:
        chosen = Path(tempfile.gettempdir()).resolve()
    except FileNotFoundError as error:
        raise ServiceError(f"No folder for temporary files can be written to. Set TMPDIR to one. ({error})") from error
    # Root has to hand PostgreSQL to another user, who must get there.
    closed = os.geteuid() == 0 and not all(each.stat().st_mode & 0o001 for each in (chosen, *chosen.parents))
    # Not every character can stand in a setting of PostgreSQL, in a URL and in a command.
    unfit = len(os.fsencode(chosen)) > LONGEST_BASE or re.search(r"[^\w/ .+'-]", str(chosen))
    return Path("/tmp").resolve() if closed or unfit else chosen


def _make_locked() -> tuple[Path, int]:
    parent = base()
    free = shutil.disk_usage(parent).free
    if free < NEEDED_BYTES:
        raise ServiceError(
            f"There are only {free // 2**20} MB free in {parent}, and a server needs {NEEDED_BYTES // 2**20}. "
            "Free some, or set TMPDIR to a folder on a disk with more."
        )
    while True:
        folder = parent / f"{PREFIX}{secrets.token_hex(4)}"
        # Named before it is made: a Ctrl-C may come at any moment, and finds what to remove.
        try:
            folder.mkdir(mode=0o700)
            (folder / MARKER).write_text(json.dumps(_identity(os.getpid())))
            lock = _lock(folder)
            if folder.exists():
                return folder, lock
            os.close(lock)
        except (FileExistsError, FileNotFoundError, BlockingIOError):
            continue  # the name is taken, or another process takes it for an abandoned one
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def _lock(folder: Path) -> int:
    """Lock a folder, or raise a BlockingIOError if another process has."""
    opened = os.open(folder, os.O_RDONLY)
    # Not 0 to 2, where they are free, as in a daemon: the guard gets others there.
    descriptor = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(opened)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _close(folder: Path, owner: int, keeper: subprocess.Popen) -> None:
    if os.getpid() != owner:  # a fork that ends takes nothing of its parent's with it
        return
    guard.clear(folder)
    keeper.kill()  # it would see by itself, a moment later
    keeper.wait()
