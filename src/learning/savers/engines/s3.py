"""Threads in S3, or what speaks its protocol: one object a thread, its head, which every write replaces as a whole.

    heads/{owner}/{thread}              the newest of what happened to the thread, and the names of its segments
    segments/{owner}/{thread}/{name}    what happened before; such an object never changes

A write replaces the head on the condition that it is still the one that the writer knows (its ETag), so it happens as
a whole and after all that was written before, or else the writer reads the head and tries again. A process remembers
the threads that it has used, so a put is one request. A read asks for the head if it has changed.

The price is traffic: each put sends the whole log in the head, which is 32 KB on the average of a long thread, and 20
compressed. A log of more than 64 KB becomes a segment, which is merged with those before it that are not much greater,
so that a thread has few of them, and a process that does not know the thread reads them at the same time. A put that
does so takes five requests or some more.

The condition also settles what is garbage. A head has a version, which grows when its segments change, and the name of
a segment begins with the version that its writer knew. So one with a lower version than the head's that the head does
not name was given up, or never used, and will not be: it is deleted after the next change of segments. A reader that
finds a segment missing has read an old head, and reads the new one.

A write whose answer is lost is made again, and refused if it had been made. So a head has tokens: by its own, a writer
sees that it was.

Heads are never deleted, and nobody else should delete them: where a thread was removed, or had expired when all threads
were listed, one of a few hundred bytes remains. A bucket should keep old versions of objects for a short time, if at
all: it would keep each head.
"""

import os
import random
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import ormsgpack
from obstore.exceptions import AlreadyExistsError, NotModifiedError

from ..errors import SaverError, Unavailable, Unreadable
from ..program import Program, arun, run
from ..records import EMPTY, Drop, Get, Place, Put, PutWrites, Read, Remove, Request, Row, Scan, Sweep
from .memory import Shelf, newest
from .parts import lay, packed, put
from .s3_bucket import REFUSED, Bucket, Damaged
from .s3_turns import NAME, Turns

LOG = 64 * 1024
"""A head whose log has more bytes gives it to a segment."""
RATIO = 4
"""A segment stays as it is if it is so many times as great as all that comes after it."""
WRITERS = 16
"""Of how many writers a head has the last token."""
ABREAST = 16
"""How many threads are read at the same time."""


class S3Engine:
    """Threads in a bucket.

    Args:
        url: `s3://bucket` or `s3://bucket/prefix`.
        endpoint: the server's URL, if it is not AWS. Default: `S3_ENDPOINT_URL`, else what the AWS variables say.
        region: where the bucket is; like the keys, from the environment by default (`AWS_REGION` and so on), or where
            AWS gives them to a machine. Profiles in `~/.aws` are not read.
        access_key_id: who we are.
        secret_access_key: how we prove it.
        timeout: how many seconds the server may take to answer. Where it does not, or is too busy, requests are made
            again for three times as long.
        cached: how many bytes of threads are remembered.

    Each request may raise `Unavailable`; `SaverError` if the server refuses it for good, as for a wrong key; and
    `Unreadable` if an object is damaged, which only `Drop` may follow.
    """

    def __init__(
        self,
        url: str,
        *,
        endpoint: str | None = None,
        region: str | None = None,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        timeout: float = 10,
        cached: int = 64 * 1024 * 1024,
    ):
        given = {
            "endpoint": endpoint or os.environ.get("S3_ENDPOINT_URL"),
            "region": region,
            "access_key_id": access_key_id,
            "secret_access_key": secret_access_key,
        }
        self._bucket = Bucket(url, timeout, {name: value for name, value in given.items() if value})
        self._timeout = timeout
        self._cached = cached
        self._known: dict[bytes, _Thread] = {}
        """What is known of threads, those that were used last at the end."""
        self._size = 0
        self._lock = threading.Lock()
        self._turns, self._aturns = Turns(), Turns()
        """Who calls must not wait for who awaits: it may be in the event loop that the other needs."""

    def setup(self) -> None:
        """See whether the bucket can be reached. Nothing has to be made in it."""
        run(self._reach(), self._bucket.perform)

    async def asetup(self) -> None:
        """The same, awaited."""
        await arun(self._reach(), self._bucket.aperform)

    def close(self) -> None:
        """Forget what was read."""
        with self._lock:
            self._known.clear()
            self._size = 0

    async def aclose(self) -> None:
        """The same: there is nothing to wait for."""
        self.close()

    def perform(self, request: Request) -> Any:
        """The answer to a request; see `records`."""
        return run(self._program(request, self._turns), self._bucket.perform)

    async def aperform(self, request: Request) -> Any:
        """The answer to a request; see `records`."""
        return await arun(self._program(request, self._aturns), self._bucket.aperform)

    def _program(self, request: Request, turns: "Turns") -> Program[Any]:
        match request:
            case Put(Place(thread)) | PutWrites(Place(thread)) | Remove(thread):
                return (yield from turns.take(thread, request, self._write))
            case Drop(thread):
                yield from self._write(thread, [request], os.urandom(NAME))
            case Get(thread):
                shelf = (yield from self._read(thread)).living
                return shelf.get(request) if shelf else EMPTY
            case Read(thread, places):
                shelf = (yield from self._read(thread)).living
                return shelf.batch(places) if shelf else EMPTY
            case Sweep():
                return (yield from self._sweep_all())
            case Scan(owner, thread):
                return (yield from self._scan(request)) if thread is None or thread.startswith(owner) else []

    def _reach(self) -> Program[None]:
        with suppress(FileNotFoundError):
            yield from self._bucket.get("heads/none")

    # --- reading ------------------------------------------------------------------------------------------------------

    def _read(self, thread: bytes) -> Program["_Thread"]:
        """A thread as it is now, or was at some moment since this was asked for."""
        known, name, lost = self._known.get(thread, _Thread(thread)), _path("heads", thread), None
        while True:
            try:
                etag, body = yield from self._bucket.get(name, known.etag)
            except NotModifiedError:
                return self._remember(known)
            except FileNotFoundError:
                return _Thread(thread)
            head = _Head(*ormsgpack.unpackb(body))
            try:
                return self._remember((yield from self._replayed(thread, etag, head, known)))
            except FileNotFoundError as error:
                if lost == etag:
                    raise Unreadable(
                        f"{name} names a segment that is not there. Restore a copy of the bucket."
                    ) from error
                lost = etag

    def _replayed(self, thread: bytes, etag: str, head: "_Head", known: "_Thread") -> Program["_Thread"]:
        """The thread that a head describes; starting from what is known, where only its log has grown."""
        count = len(known.head.log)
        if (head.segments, head.log[:count]) == (known.head.segments, known.head.log):
            shelf, bodies = known.copy(), head.log[count:]
        else:
            shelf, bodies = Shelf(thread), [*(yield from self._segments(thread, head.segments)), *head.log]
        for body in bodies:
            lay(shelf, body)
        return _Thread(thread, etag, head, shelf)

    def _segments(self, thread: bytes, segments: Sequence[list[Any]]) -> Program[list[bytes]]:
        programs = [self._bucket.get(f"{_path('segments', thread)}/{name}") for name, _ in segments]
        return [body for _, body in (yield programs)]

    def _remember(self, thread: "_Thread") -> "_Thread":
        """Remember this of a thread, and forget the threads that were used longest ago."""
        with self._lock:
            self._forget(thread.thread)
            self._known[thread.thread] = thread
            self._size += thread.size
            while self._size > self._cached and len(self._known) > 1:
                self._forget(next(iter(self._known)))
        return thread

    def _forget(self, thread: bytes) -> None:
        if known := self._known.pop(thread, None):
            self._size -= known.size

    def _scan(self, request: Scan) -> Program[list[Row]]:
        if request.thread is not None:
            return (yield from self._scanned(request.thread, None, request))
        found: list[Row] = []
        last = None
        while page := (yield from self._bucket.page(f"heads/{request.owner.hex()}", last)):
            for at in range(0, len(page), ABREAST):
                heads = ((_thread(each["path"]), each["e_tag"]) for each in page[at : at + ABREAST])
                for rows in (yield [self._scanned(thread, etag, request) for thread, etag in heads]):
                    found = newest([*found, *rows], request.count)
            last = page[-1]["path"]
        return found

    def _scanned(self, thread: bytes, etag: str | None, request: Scan) -> Program[list[Row]]:
        """The rows of a thread, whose head has this ETag if it is given."""
        known = self._known.get(thread)
        if known is None or known.etag != etag:
            known = yield from self._read(thread)
        shelf = known.living
        if known.size and not shelf:
            yield from self._write(thread, [], os.urandom(NAME))
        return newest(shelf.scan(request), request.count) if shelf else []

    def _sweep_all(self) -> Program[int]:
        """Empty the heads of all threads whose time is up."""
        swept, last = 0, None
        while page := (yield from self._bucket.page("heads", last)):
            for thread in (_thread(each["path"]) for each in page):
                try:
                    known = yield from self._read(thread)
                except Unreadable:  # it stays as it is, for a person to look at
                    continue
                if known.size and not known.living:
                    yield from self._write(thread, [], os.urandom(NAME))
                    swept += 1
            last = page[-1]["path"]
        return swept

    # --- writing ------------------------------------------------------------------------------------------------------

    def _write(self, thread: bytes, requests: Sequence[Request], writer: bytes) -> Program[list[Any]]:
        """The answers to requests that change a thread, all of which happen at once; and remove it if it has expired.

        An answer counts if what it is based on was there at some moment since this began: either we replace the head
        that we know by a new one, or we have read it. Nothing else is written under the writer's name meanwhile.
        """
        token, deadline = writer + os.urandom(NAME), time.monotonic() + 3 * self._timeout
        drops = bool(requests) and isinstance(requests[0], Drop)
        known, current = self._known.get(thread), False
        answers: list[Any] = []
        while True:
            if known is None:
                known = yield from (self._read_head(thread) if drops else self._read(thread))
                current = True
                if token in known.head.tokens:  # it was written, but we have not had the answer
                    return answers
            change = _Change(known, requests)
            answers = change.answers
            if change.empty and current:
                return answers
            if not change.empty:
                if (yield from self._store(known, change, token)):
                    return answers
                if current and time.monotonic() > deadline:
                    raise Unavailable("Others write to this thread all the time.")
                yield random.uniform(0, 0.01)
            known = None

    def _read_head(self, thread: bytes) -> Program["_Thread"]:
        """A thread without its shelf, damaged or not."""
        try:
            etag, body = yield from self._bucket.get(_path("heads", thread))
            return _Thread(thread, etag, _Head(*ormsgpack.unpackb(body)))
        except FileNotFoundError:
            return _Thread(thread)
        except Damaged as error:
            return _Thread(thread, error.etag, _Head(version=time.time_ns()))  # greater than it was

    def _store(self, known: "_Thread", change: "_Change", token: bytes) -> Program[bool]:
        """Replace the head that is known, if it is still there."""
        old, shelf = known.head, change.shelf or Shelf(known.thread)
        tokens = [*(each for each in old.tokens if each[:NAME] != token[:NAME]), token][-WRITERS:]
        head = _Head(old.version, tokens, [] if change.whole else list(old.segments), change.log)
        try:
            if sum(map(len, head.log)) > LOG:
                head = yield from self._moved(known, shelf, head)
            moved = change.whole or head.segments != [*old.segments]
            head = head._replace(version=old.version + moved)
            etag = yield from self._bucket.put(_path("heads", known.thread), ormsgpack.packb([*head]), known.etag)
        except REFUSED:
            return False
        except FileNotFoundError:  # a segment is gone; some servers say so of the head
            with self._lock:
                self._forget(known.thread)
            return False
        self._remember(_Thread(known.thread, etag, head, shelf))
        if moved:
            yield from self._sweep(known.thread, head)
        return True

    def _moved(self, known: "_Thread", shelf: Shelf, head: "_Head") -> Program["_Head"]:
        """The head with its log in a new segment, merged with those before it that are not much greater."""
        size, kept = sum(map(len, head.log)), len(head.segments)
        while kept and head.segments[kept - 1][1] < RATIO * size:
            kept -= 1
            size += head.segments[kept][1]
        if kept:
            shelf = Shelf(known.thread)
            for body in [*(yield from self._segments(known.thread, head.segments[kept:])), *head.log]:
                lay(shelf, body)
        body, name = packed(shelf), f"{head.version:016x}-{os.urandom(8).hex()}"
        with suppress(AlreadyExistsError):  # because an answer was lost
            yield from self._bucket.put(f"{_path('segments', known.thread)}/{name}", body)
        return head._replace(segments=[*head.segments[:kept], [name, len(body)]], log=[])

    def _sweep(self, thread: bytes, head: "_Head") -> Program[None]:
        """Delete the segments that are garbage now. What fails is left to the next time."""
        folder, version = _path("segments", thread), f"{head.version:016x}"
        named = {f"{folder}/{name}" for name, _ in head.segments}
        with suppress(SaverError):
            page = yield from self._bucket.page(folder)
            names = {each["path"] for each in page if each["path"] < f"{folder}/{version}"} - named
            if names:
                yield from self._bucket.delete(sorted(names))


# --- what is known of a thread ----------------------------------------------------------------------------------------


class _Head(NamedTuple):
    """What a head has in it."""

    version: int = 0
    """Grows when segments change."""
    tokens: Sequence[bytes] = ()
    """Of each of the last writers its name, and random bytes by which it knows that its last write was made."""
    segments: Sequence[list[Any]] = ()
    """Name and size of each, oldest first."""
    log: Sequence[bytes] = ()
    """Parts of a shelf, to lay over what the segments hold."""


@dataclass(frozen=True)
class _Thread:
    """A thread as it was at one moment. The shelf is never changed."""

    thread: bytes
    etag: str | None = None
    """None if there is no head."""
    head: _Head = field(default_factory=_Head)
    shelf: Shelf | None = None

    @property
    def size(self) -> int:
        """How many bytes it has; none if there is nothing."""
        return sum(size for _, size in self.head.segments) + sum(map(len, self.head.log))

    @property
    def living(self) -> Shelf | None:
        """The shelf, if there is something, and it has not expired."""
        alive = self.size and self.shelf and (self.shelf.ends is None or self.shelf.ends > time.time())
        return self.shelf if alive else None

    def copy(self) -> Shelf:
        """A shelf to change."""
        shelf = self.shelf or Shelf(self.thread)
        return replace(
            shelf,
            rows=dict(shelf.rows),
            order={space: list(ids) for space, ids in shelf.order.items()},
            items=dict(shelf.items),
            writes={place: dict(tasks) for place, tasks in shelf.writes.items()},
        )


class _Change:
    """What requests make of a thread, and the answers to them."""

    def __init__(self, known: _Thread, requests: Sequence[Request]):
        living = known.living
        self.shelf = known.copy() if living else None
        self.whole = bool(known.size and not living)
        """Whether it starts anew, with a log that has all of it."""
        self.log = list(known.head.log)
        self.answers = [self._answer(known.thread, request) for request in requests]
        if self.whole:
            self.log = [packed(self.shelf)] if self.shelf else []
        self.empty = not self.whole and len(self.log) == len(known.head.log)

    def _answer(self, thread: bytes, request: Request) -> Any:
        match request:
            case Put() | PutWrites():
                shelf = self.shelf or Shelf(thread)
                outcome, part = put(shelf, request)
                if part:
                    self.shelf = shelf
                    self.log.append(part)
                return outcome
            case Remove(_, places, new_epoch):
                if self.shelf is None:
                    return 0
                self.whole = True
                self.shelf.epoch = new_epoch
                return self.shelf.remove(places)
            case Drop(_, horizon, seconds):
                self.whole = True
                self.shelf = Shelf(thread, horizon=horizon, ends=time.time() + seconds)
                return None


# --- names and bytes --------------------------------------------------------------------------------------------------


def _path(kind: str, thread: bytes) -> str:
    return f"{kind}/{thread[:8].hex()}/{thread[8:].hex()}"


def _thread(path: str) -> bytes:
    return bytes.fromhex("".join(path.split("/")[1:3]))
