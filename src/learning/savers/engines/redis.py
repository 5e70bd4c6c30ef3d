"""Threads in Redis or Valkey, alone or a cluster: one call of a script, so one round trip, for a request on a thread.

The keys of a thread share a hash tag, so they are on one server, and a script changes them as a whole:

    lg:{thread}:about     hash: the thread's name, its epoch and its horizon
    lg:{thread}:rows      hash: the record of each checkpoint, by place
    lg:{thread}:spaces    sorted set: the places, in the order of (space, id)
    lg:{thread}:ids       sorted set: the places, in the order of (id, space)
    lg:{thread}:items     hash: the record of each item, by name
    lg:{thread}:writes    hash: the tasks that wrote and their records, by place, in chunks

A sorted set whose scores are all 0 is in the order of its bytes: `_key` writes places for that. `_stored` writes
records so that Lua can tell what they need. The servers must not evict keys (`maxmemory-policy noeviction`).
"""

import hashlib
import re
import struct
from collections.abc import Collection, Sequence
from typing import Any

from redis import exceptions
from redis.crc import key_slot

from ..errors import InvalidRequest, Unavailable
from ..program import Program, arun, run
from ..records import (
    EMPTY,
    Batch,
    Drop,
    Get,
    Outcome,
    Place,
    Put,
    PutWrites,
    Read,
    Record,
    Remove,
    Request,
    Row,
    Scan,
    Sweep,
)
from .memory import newest
from .redis_scripts import DROP, READ, REMOVE, SCAN, SHARED, STORE
from .redis_servers import Servers

KEYS = ("about", "rows", "spaces", "ids", "items", "writes")

DIGESTS = {each: hashlib.sha1((SHARED + each).encode()).hexdigest() for each in (STORE, READ, SCAN, REMOVE, DROP)}

ANY = b"\xff"
"""Tells a script that there is no condition. It is in no text, since it is not UTF-8, and greater than any."""


class RedisEngine:
    """Threads in Redis or Valkey.

    Args:
        url: `redis://…`, `rediss://…` or `unix:///…`, or for a cluster `redis+cluster://host:port,host:port,…`.
        prefix: what the names of all keys begin with: letters, digits and `_.:-`.
        durable: how many replicas must have a write before it counts as stored. If none, a failover may lose some.
        timeout: how many seconds a server may take to answer. Where one does not, as in a failover, requests are made
            again for twice as long.

    Each request may raise `Unavailable`, or `SaverError` if a server refuses it for good, as for want of memory.
    """

    def __init__(self, url: str, *, prefix: str = "lg", durable: int = 0, timeout: float = 5):
        if not re.fullmatch(r"[\w.:-]+", prefix, re.ASCII):
            raise InvalidRequest(f"The prefix {prefix!r} has other characters than letters, digits and _.:-")
        self._servers = Servers(url, timeout)
        self._prefix = prefix
        self._durable = durable
        self._wait = int(timeout * 500)
        """How many milliseconds replicas have: half as long as we wait for the answer."""

    def setup(self) -> None:
        """Nothing to set up: a server that does not know a script is given it."""

    async def asetup(self) -> None:
        """Nothing to set up."""

    def close(self) -> None:
        """Close the connections that belong to no event loop."""
        self._servers.close()

    async def aclose(self) -> None:
        """Close these, and those of the running event loop."""
        await self._servers.aclose()

    def perform(self, request: Request) -> Any:
        """The answer to a request; see `records`."""
        return run(self._program(request), self._servers.perform)

    async def aperform(self, request: Request) -> Any:
        """The answer to a request; see `records`."""
        return await arun(self._program(request), self._servers.aperform)

    def _program(self, request: Request) -> Program[Any]:
        match request:
            case Put() | PutWrites():
                kind, *epoch = yield from self._run(STORE, request.place.thread, _to_store(request))
                return Outcome(kind.decode(), *map(int, epoch))
            case Get(thread, space, id, known):
                batch = yield from self._read(thread, [_key(space, id) if id else space], known)
                return batch if id or batch.rows else EMPTY
            case Read(thread, places):
                return (yield from self._read(thread, [_key(place.space, place.id) for place in places]))
            case Scan():
                return (yield from self._scan(request))
            case Remove(thread, places, new_epoch):
                keys = [_key(place.space, place.id) for place in places]
                return (yield from self._run(REMOVE, thread, [new_epoch, *keys]))
            case Sweep():
                return 0  # Redis does it by itself
            case Drop(thread, horizon, seconds):
                yield from self._run(DROP, thread, [horizon, _milliseconds(seconds)])

    def _read(self, thread: bytes, keys: Sequence[bytes], known: Collection[bytes] = ()) -> Program[Batch]:
        answer = yield from self._run(READ, thread, [b"".join(known), *keys])
        if answer is None:
            return EMPTY
        name, epoch, found, items = answer
        rows = [Row(_place(thread, key), _record(row), name) for key, row, _ in found]
        writes = {
            _place(thread, key): {_task(field): _record(write) for field, write in written}
            for key, _, written in found
            if written
        }
        return Batch(rows, writes, _items(items), int(epoch))

    def _scan(self, request: Scan) -> Program[list[Row]]:
        if request.thread is None:
            threads = yield from self._servers.retried(lambda owners: self._threads(owners, request.owner))
        else:
            threads = {request.thread}
        found: list[Row] = []
        for thread in threads:
            if thread.startswith(request.owner):
                name, rows = yield from self._run(SCAN, thread, _to_scan(request, thread))
                found += [Row(_place(thread, key), _record(row), name) for key, row in rows]
        return newest(found, request.count)

    def _threads(self, owners: list[str | None], owner: bytes) -> Program[set[bytes]]:
        """All threads of an owner. The servers go through the keys of everybody for that."""
        found: set[bytes] = set()
        for address in set(owners):
            cursor = None
            while cursor != 0:
                command = ("SCAN", cursor or 0, "MATCH", f"{self._prefix}:{{{owner.hex()}*}}:about", "COUNT", 1000)
                ((cursor, keys),) = yield from self._servers.call(address, command)
                cursor = int(cursor)
                found |= {bytes.fromhex(key.decode().partition("{")[2].partition("}")[0]) for key in keys}
        return found

    def _run(self, script: str, thread: bytes, arguments: Sequence[Any]) -> Program[Any]:
        """The answer of a script. What it has written is with enough replicas."""
        keys = [f"{self._prefix}:{{{thread.hex()}}}:{name}" for name in KEYS]
        rest = len(keys), *keys, *arguments
        durable = self._durable if script in (STORE, REMOVE, DROP) else 0
        wait = [("WAIT", durable, self._wait)] if durable else []

        def attempt(owners: list[str | None]) -> Program[list[Any]]:
            address = owners[key_slot(keys[0].encode())]
            try:
                command = ("EVALSHA", DIGESTS[script], *rest)
                return (yield from self._servers.call(address, command, *wait))
            except exceptions.NoScriptError:
                return (yield from self._servers.call(address, ("EVAL", SHARED + script, *rest), *wait))

        answer, *replicas = yield from self._servers.retried(attempt)
        if replicas and replicas[0] < durable:
            raise Unavailable(f"Redis has it, but only {replicas[0]} of {durable} replicas said so in time.")
        return answer


# --- bytes ------------------------------------------------------------------------------------------------------------

HEAD = struct.Struct(">IB")
"""What a stored record begins with: how many items it needs, and how many bytes its run has."""

NAME = 16
"""How many bytes the name of an item has."""


def _stored(record: Record, run: bytes = b"") -> bytes:
    return b"".join([HEAD.pack(len(record.needs), len(run)), run, *record.needs, record.data])


def _record(stored: bytes) -> Record:
    count, run = HEAD.unpack_from(stored)
    start = HEAD.size + run
    if not count:
        return Record(stored[start:])
    end = start + NAME * count
    return Record(stored[end:], tuple(stored[at : at + NAME] for at in range(start, end, NAME)))


def _items(stored: bytes) -> dict[bytes, Record]:
    """The items of a closure: of each its name, the size of its record, and the record."""
    items, at = {}, 0
    while at < len(stored):
        start = at + NAME + 4
        end = start + int.from_bytes(stored[at + NAME : start])
        items[stored[at : at + NAME]] = _record(stored[start:end])
        at = end
    return items


def _key(space: bytes, id: str) -> bytes:
    """A place in a thread. It ends with two zero bytes, which are in no id as it is written here.

    So keys are in the order of places, and none is the beginning of another.
    """
    return space + id.encode().replace(b"\0", b"\0\xff") + b"\0\0"


def _place(thread: bytes, key: bytes) -> Place:
    return Place(thread, key[:8], key[8:-2].replace(b"\0\xff", b"\0").decode())


def _task(field: bytes) -> tuple[str, int]:
    index, _, task_id = field.partition(b" ")
    return task_id.decode(), int(index)


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _to_store(request: Put | PutWrites) -> list[Any]:
    """The arguments of STORE."""
    key = _key(request.place.space, request.place.id)
    extends = request.extends if isinstance(request, Put) else None
    arguments = [
        key,
        request.name,
        ANY if request.epoch is None else request.epoch,
        request.new_epoch,
        ANY if request.lineage is None else request.lineage,
        ANY if extends is None else extends and _key(request.place.space, extends),
        ANY if request.seconds is None else _milliseconds(request.seconds),
    ]
    if isinstance(request, Put):
        arguments += ["row", key, _stored(request.record, request.run)]
    else:
        for (task_id, index), record in request.writes.items():
            arguments += ["write", f"{index} {task_id}".encode(), _stored(record)]
    for name, item in request.items.items():
        arguments += ["item", name, _stored(item)]
    return arguments


def _to_scan(request: Scan, thread: bytes) -> list[Any]:
    """The arguments of SCAN: it gives what is less than a bound, in the order of its space, or else of all ids."""
    space = request.space or b""
    bounds = [space + ANY]
    if request.before is not None:
        bounds.append(_key(space, request.before))
    if below := request.below:
        if thread == below.thread and not space:
            rest = below.space
        else:  # is the same id, here, less than that?
            rest = ANY * 9 if (thread, space) < (below.thread, below.space) else b""
        bounds.append(_key(space, below.id) + rest)
    return [space or ANY, min(bounds), ANY if request.run is None else request.run, request.count]
