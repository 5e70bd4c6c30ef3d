"""Threads in files: one for each thread, to which all that happens to it is appended, on disk before the answer.

    a file     4 bytes that name this format and 12 random ones, then frames
    a frame    3 bytes as a mark, 5 bytes length of its body, 8 bytes checksum, the body
    a body     a shelf, or a part of one, to lay over what the frames before it have built

A file takes its place, or that of another, by a rename, once it is on disk with its first frame. After that it only
grows. So a frame that is not whole can only be the last one, which a crash has torn and nobody was promised: readers
ignore it, and the next writer cuts it off. Anything else that is wrong is damage.

A writer locks the file. A reader does not: it sees whole frames, or does not see them yet. A checksum covers the random
bytes and the place in the file, so that nothing but this frame, written here, has it. By the checksum of the last frame
that it has read, a process knows that a file is still the one it knows, and reads on from there.
"""

import errno
import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from ..errors import SaverError, StorageFull, Unreadable
from ..program import in_thread
from ..records import EMPTY, Batch, Drop, Get, Outcome, Put, PutWrites, Read, Remove, Request, Row, Scan, Sweep
from .memory import Shelf, newest
from .parts import lay, packed, put

FORMAT = b"LOG\x01"
KEY = 16
"""How many bytes the format and the random bytes are: the key of the checksums."""
MARK = b"\xf5\x1e\xa7"
HEAD = 16
"""How many bytes of a frame come before its body."""
SMALL = 64 * 1024
"""A file of fewer bytes is not rewritten because of what is superseded in it."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class FilesEngine:
    """Threads in a folder, for any number of processes on one machine.

    Args:
        folder: where the files are, in subfolders. Not on a network: locks and renames are not to be trusted there.
        cached: how many threads are kept in memory, so that only what is new is read.
    """

    def __init__(self, folder: Path, *, cached: int = 100):
        self._folder = Path(folder).absolute()
        self._cached = cached
        self._logs: dict[bytes, _Log] = {}
        self._lock = threading.Lock()

    def setup(self) -> None:
        """Make the folder, if it is not there."""
        with self._told():
            _make(self._folder)

    async def asetup(self) -> None:
        """The same, in a thread."""
        await in_thread(self.setup)

    def close(self) -> None:
        """Forget what was read. No file stays open between requests."""
        with self._lock:
            self._logs.clear()

    async def aclose(self) -> None:
        """The same: there is nothing to wait for."""
        self.close()

    def perform(self, request: Request) -> object:
        """The answer to a request; see `records`. What it says is stored survives a power cut.

        Raises:
            Unreadable: if the thread's file is damaged. Only `Drop` may follow.
            SaverError: if the disk is full, or fails. What was stored is still there, and the request may be repeated.
        """
        with self._told():
            match request:
                case Put(place) | PutWrites(place):
                    return self._log(place.thread).put(request)
                case Get(thread):
                    with self._log(thread).reading() as shelf:
                        return shelf.get(request) if shelf else EMPTY
                case Read(thread, places):
                    with self._log(thread).reading() as shelf:
                        return shelf.batch(places) if shelf else EMPTY
                case Scan():
                    return self._scan(request)
                case Remove(thread):
                    return self._log(thread).remove(request)
                case Drop(thread):
                    self._log(thread).drop(request)
                    return None
                case Sweep():
                    threads = [bytes.fromhex(path.stem) for path in self._folder.glob("*/*.log")]
                    return sum(self._swept(thread) for thread in threads)

    async def aperform(self, request: Request) -> object:
        """The same, in a thread."""
        return await in_thread(self.perform, request)

    def _swept(self, thread: bytes) -> int:
        """How many threads are gone by it. One that is damaged stays as it is, for a person to look at."""
        try:
            return self._log(thread, keep=False).sweep()
        except Unreadable:
            return 0

    def _log(self, thread: bytes, *, keep: bool = True) -> "_Log":
        """The log of a thread. The one that was used longest ago is forgotten, and would be read anew."""
        with self._lock:
            known = self._logs.pop(thread, None)
            log = known or _Log(self._folder, thread)
            if known or keep:
                self._logs[thread] = log
            if len(self._logs) > self._cached:
                del self._logs[next(iter(self._logs))]
            return log

    def threads(self, owner: bytes) -> list[bytes]:
        """The threads that have a file, be it damaged or not."""
        return [bytes.fromhex(path.stem) for path in self._folder.glob(f"*/{owner.hex()}*.log")]

    def orphans(self, thread: bytes) -> Batch:
        """Writes of a thread that waited in vain for their checkpoint."""
        with self._told(), self._log(thread, keep=False).reading() as shelf:
            return shelf.orphans() if shelf else EMPTY

    def _scan(self, request: Scan) -> list[Row]:
        threads = self.threads(request.owner) if request.thread is None else [request.thread]
        rows = (row for thread in threads if thread.startswith(request.owner) for row in self._scanned(thread, request))
        return newest(rows, request.count)

    def _scanned(self, thread: bytes, request: Scan) -> list[Row]:
        with self._log(thread, keep=request.thread is not None).reading() as shelf:
            return list(shelf.scan(request)) if shelf else []

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = error.filename or self._folder
            if error.errno in FULL:
                raise StorageFull(f"The disk is full: nothing more can be stored in {where}.") from error
            raise SaverError(f"The disk does not do as it is told: {error.strerror}, in {where}.") from error


class _Log:
    """The file of one thread, and what this process has read of it."""

    def __init__(self, root: Path, thread: bytes):
        name = thread.hex()
        self._root = root
        self._path = root / name[-2:] / f"{name}.log"
        self._thread = thread
        self._lock = threading.RLock()
        self._forget()

    def _forget(self) -> None:
        self._shelf = Shelf(self._thread)
        self._key = self._head = b""
        self._last = self._end = 0
        """Where the last frame begins, and where it ends: 0 if nothing is stored."""
        self._durable = False
        """Whether all of it is known to be on disk, because this process has put it there."""
        self._enough = SMALL
        """From which size on it is worth looking whether the file may be smaller."""

    # --- requests -----------------------------------------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[Shelf | None]:
        """What is stored now, if anything is, for as long as the context lasts."""
        with self._lock:
            try:
                with open(self._path, "rb", buffering=0) as file:
                    self._catch_up(file)
            except FileNotFoundError:
                self._forget()
            except Unreadable:  # it may look so while a writer cuts a torn frame off: with the lock it is certain
                with self._writing() as file:
                    self._catch_up(file)
            yield self._shelf if self._end else None

    def put(self, request: Put | PutWrites) -> Outcome:
        """Store a checkpoint or writes, or refuse to."""
        with self._writing() as file:
            self._catch_up(file)
            outcome, part = put(self._shelf, request)
            if part:
                self._store(file, part)
            return outcome

    def remove(self, request: Remove) -> int:
        """Remove checkpoints, and write what remains to a new file."""
        with self._writing() as file:
            self._catch_up(file)
            if not self._end:
                return 0
            self._shelf.epoch = request.new_epoch
            count = self._shelf.remove(request.places)
            self._rewrite(packed(self._shelf))
            return count

    def drop(self, request: Drop) -> None:
        """Put a tombstone in place of the file, be it damaged or not."""
        with self._writing():
            self._shelf = Shelf(self._thread, horizon=request.horizon, ends=time.time() + request.seconds)
            self._rewrite(packed(self._shelf))

    def sweep(self) -> int:
        """Remove the file if its time is up; how many were removed."""
        with self.reading() as shelf:
            if shelf:
                return 0
        with self._writing() as file:
            self._catch_up(file)
            return 0 if self._end else 1

    # --- reading ------------------------------------------------------------------------------------------------------

    def _catch_up(self, file: FileIO) -> None:
        """Read what is new, or all of it if this is not the file that we know."""
        try:
            if not self._head or os.pread(file.fileno(), HEAD, self._last) != self._head:
                self._forget()
            file.seek(self._end)
            self._take(file.readall())
        except BaseException:
            self._forget()
            raise
        if self._shelf.ends is not None and self._shelf.ends <= time.time():
            self._forget()

    def _take(self, data: bytes) -> None:
        if data and not self._end:
            if not data.startswith(FORMAT):
                raise Unreadable(f"{self._path} is damaged, or was written by another version of this library.")
            self._key, self._end, data = data[:KEY], KEY, data[KEY:]
        begin, at = self._end, 0
        while frame := _frame(self._key, begin, data, at):
            head, body = frame
            lay(self._shelf, body)
            self._last, self._head, self._durable = begin + at, head, False
            at += HEAD + len(body)
        self._end = begin + at
        behind = at
        while (behind := data.find(MARK, behind + 1)) >= 0:
            if _frame(self._key, begin, data, behind):
                raise Unreadable(f"{self._path} is damaged at byte {self._end}, and more follows. Restore a copy.")
        if self._end == KEY:
            raise Unreadable(f"{self._path} is damaged: its first frame cannot be read.")

    # --- writing ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _writing(self) -> Iterator[FileIO]:
        """The file, locked. If nothing is stored in it at the end, it is removed."""
        with self._lock:
            while True:
                _make(self._path.parent)
                with open(self._path, "a+b", buffering=0) as file:
                    fcntl.flock(file, fcntl.LOCK_EX)
                    try:
                        if not _is_at(file, self._path):  # another writer has replaced it while we waited
                            continue
                        yield file
                        if not self._end:
                            os.unlink(self._path)
                        return
                    except BaseException:
                        self._forget()  # what we know may be more than what is stored
                        raise
                    finally:
                        fcntl.flock(file, fcntl.LOCK_UN)

    def _store(self, file: FileIO, part: bytes) -> None:
        """Append a packed part of the shelf, or or write all anew: the first time, or if half of a file is garbage."""
        if self._end > self._enough:
            whole = packed(self._shelf)
            self._enough = max(SMALL, 2 * len(whole))
            if 2 * len(whole) < self._end:
                return self._rewrite(whole)
        if self._end:
            self._append(file.fileno(), part)
        else:
            self._rewrite(packed(self._shelf))

    def _append(self, file: int, body: bytes) -> None:
        if not self._durable:  # who wrote what is there may have died too soon, and what follows needs it
            _sync(file)
            self._sync_folders()
        head = _head(self._key, self._end, body)
        try:
            if os.fstat(file).st_size > self._end:
                os.ftruncate(file, self._end)
            _write(file, head + body)
            _sync(file)
        except BaseException:
            with suppress(OSError):  # if this fails too, the next writer does it
                os.ftruncate(file, self._end)
            raise
        self._last, self._head, self._end, self._durable = self._end, head, self._end + HEAD + len(body), True

    def _rewrite(self, body: bytes) -> None:
        """Put a new file in place of the old one. It is locked until it is certain that it will stay."""
        key = FORMAT + os.urandom(KEY - len(FORMAT))
        head = _head(key, KEY, body)
        new = self._path.with_suffix(".new")
        with open(new, "wb", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                _write(file.fileno(), key + head + body)
                _sync(file.fileno())
                os.replace(new, self._path)
                self._sync_folders()
            except BaseException:
                with suppress(OSError):
                    os.unlink(new)
                raise
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)
        self._key, self._head, self._last, self._end, self._durable = key, head, KEY, KEY + HEAD + len(body), True

    def _sync_folders(self) -> None:
        _sync_folder(self._path.parent)
        _sync_folder(self._root)


# --- bytes ------------------------------------------------------------------------------------------------------------


def _head(key: bytes, at: int, body: bytes) -> bytes:
    """What comes before a body in the frame at this place of a file."""
    return MARK + len(body).to_bytes(5) + hashlib.blake2b(body, digest_size=8, key=key, salt=at.to_bytes(16)).digest()


def _frame(key: bytes, begin: int, data: bytes, at: int) -> tuple[bytes, bytes] | None:
    """The head and the body of the frame here, if it is whole, in data that begin at some place of a file."""
    head = data[at : at + HEAD]
    length = int.from_bytes(head[len(MARK) : 8])
    body = data[at + HEAD : at + HEAD + length]
    return (head, body) if head == _head(key, begin + at, body) else None


def _write(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def _sync(file: int) -> None:
    """Wait until a file or folder is on disk. (On a Mac, fsync alone leaves it in the disk's memory.)"""
    if hasattr(fcntl, "F_FULLFSYNC"):
        fcntl.fcntl(file, fcntl.F_FULLFSYNC)
    else:
        os.fsync(file)


def _sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk."""
    file = os.open(folder, os.O_RDONLY)
    try:
        _sync(file)
    finally:
        os.close(file)


def _is_at(file: FileIO, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    return False


def _make(folder: Path) -> None:
    """Make a folder and those above it, on disk."""
    if not folder.is_dir():
        _make(folder.parent)
        with suppress(FileExistsError):
            os.mkdir(folder)
        _sync_folder(folder.parent)
