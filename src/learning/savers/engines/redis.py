"""Threads in Redis or Valkey, alone or a cluster: one call of a script, so one round trip, for a request on a thread.

The keys of a thread share a hash tag, so they are on one server, and a script changes them as a whole:

    lg:{thread}:about     hash: the thread's name, its epoch and its horizon
    lg:{thread}:rows      hash: the record of each checkpoint, by place
    lg:{thread}:spaces    sorted set: the places, in the order of (space, id)
    lg:{thread}:ids       sorted set: the places, in the order of (id, space)
    lg:{thread}:items     hash: the record of each item, by name
    lg:{thread}:writes    hash: the record of each write, by place and task
    lg:{thread}:tasks     sorted set: the places and tasks of the writes

A sorted set whose scores are all 0 is in the order of its bytes: `_key` writes places for that. `_stored` writes
records so that Lua can tell what they need. The servers must not evict keys (`maxmemory-policy noeviction`).
"""

import asyncio
import hashlib
import random
import re
import struct
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import redis
import redis.asyncio
from redis import exceptions
from redis.backoff import NoBackoff
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from ..errors import InvalidRequest, SaverError, Unavailable
from ..program import Program, arun, run
from ..records import EMPTY, Batch, Drop, Get, Outcome, Place, Put, PutWrites, Read, Record, Remove, Request, Row, Scan

Result = TypeVar("Result")

KEYS = ("about", "rows", "spaces", "ids", "items", "writes", "tasks")

ANY = b"\xff"
"""Tells a script that there is no condition. It is in no text, since it is not UTF-8, and greater than any."""

# --- scripts: each follows after SHARED -------------------------------------------------------------------------------

SHARED = r"""
local about, rows, spaces, ids, items, writes, tasks = unpack(KEYS)
local call, ANY = redis.call, '\255'

local function less(a, b)  -- by bytes, where `<` would heed the server's locale
  for i = 1, math.min(#a, #b) do
    if a:byte(i) ~= b:byte(i) then return a:byte(i) < b:byte(i) end
  end
  return #a < #b
end

local function by_id(place) return place:sub(9) .. place:sub(1, 8) end

local function newest(space)
  return call('ZREVRANGEBYLEX', spaces, '(' .. space .. ANY, '[' .. space, 'LIMIT', 0, 1)[1] or ''
end

local function tasks_of(place) return call('ZRANGEBYLEX', tasks, '[' .. place, '(' .. place .. ANY) end

local function needs(record)
  local names, count, run = {}, struct.unpack('>I4B', record)
  for i = 1, count do names[i] = record:sub(run + 16 * i - 10, run + 16 * i + 5) end
  return names
end

local function closure(records)  -- the items that records need, directly or not: one string; and the set of names
  local found, seen = {}, {}
  while #records > 0 do
    for _, name in ipairs(needs(table.remove(records))) do
      local item = not seen[name] and call('HGET', items, name)
      if item then
        seen[name] = true
        found[#found + 1] = name .. struct.pack('>I4', #item) .. item
        records[#records + 1] = item
      end
    end
  end
  return table.concat(found), seen
end
"""

# A failover may lose items that a caller has seen stored, and leave the epoch: so it is looked whether they are there.
STORE = r"""
local place, name, epoch, new_epoch, lineage, extends, lifetime = unpack(ARGV, 1, 7)
local old = call('HMGET', about, 'name', 'epoch', 'horizon')
if less(lineage, old[3] or '') then return {'deleted'} end
if epoch ~= ANY then
  if epoch ~= (old[2] or '0') then return {'stale'} end
  local new = {}
  for i = 8, #ARGV, 3 do new[ARGV[i + 1]] = true end
  for i = 8, #ARGV, 3 do
    for _, item in ipairs(needs(ARGV[i + 2])) do
      if not new[item] and call('HEXISTS', items, item) == 0 then return {'stale'} end
    end
  end
end
if extends ~= ANY then
  local last = newest(place:sub(1, 8))
  if last ~= extends and last ~= place then return {'conflict'} end
end

epoch = old[1] and old[2] or new_epoch
call('HSET', about, 'name', old[1] or name, 'epoch', epoch)  -- first: this fails if the memory is full, not the rest
for i = 8, #ARGV, 3 do
  local kind, field, record = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if kind == 'item' then
    call('HSETNX', items, field, record)
  elseif kind == 'row' then
    call('HSET', rows, field, record)
    call('ZADD', spaces, 0, field)
    call('ZADD', ids, 0, by_id(field))
  else
    call(kind == 'write' and 'HSETNX' or 'HSET', writes, field, record)
    call('ZADD', tasks, 0, field)
  end
end
for _, key in ipairs(KEYS) do
  if lifetime == ANY then call('PERSIST', key) else call('PEXPIRE', key, lifetime) end
end
return {'stored', epoch}
"""

# Takes places, or spaces, which stand for their newest places.
READ = r"""
if call('EXISTS', about) == 0 then return false end
local found, records = {}, {}
for _, place in ipairs(ARGV) do
  if #place == 8 then place = newest(place) end
  local row = call('HGET', rows, place)
  if row then
    local written = {}
    for _, task in ipairs(tasks_of(place)) do
      local record = call('HGET', writes, task)
      table.insert(written, {task, record})
      table.insert(records, record)
    end
    table.insert(records, row)
    table.insert(found, {place, row, written})
  end
end
local thread = call('HMGET', about, 'name', 'epoch')
return {thread[1] or '', thread[2] or '0', found, (closure(records))}
"""

SCAN = r"""
local space, below, run, count = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local found, page = {}, nil
repeat
  if space == ANY then
    page = call('ZREVRANGEBYLEX', ids, '(' .. below, '-', 'LIMIT', 0, count)
  else
    page = call('ZREVRANGEBYLEX', spaces, '(' .. below, '[' .. space, 'LIMIT', 0, count)
  end
  for _, member in ipairs(page) do
    local place = space == ANY and member:sub(-8) .. member:sub(1, -9) or member
    local row = call('HGET', rows, place)
    if #found < count and (run == ANY or row:sub(6, 5 + row:byte(5)) == run) then table.insert(found, {place, row}) end
    below = member
  end
until #page < count or #found >= count
return {call('HGET', about, 'name') or '', found}
"""

# What frees memory comes before what takes some, so that this works where the memory is full.
REMOVE = r"""
if call('EXISTS', about) == 0 then return 0 end
local function remove_write(task)
  call('HDEL', writes, task)
  call('ZREM', tasks, task)
end

local removed = 0
for i = 2, #ARGV do
  local place = ARGV[i]
  if call('HDEL', rows, place) == 1 then
    removed = removed + 1
    call('ZREM', spaces, place)
    call('ZREM', ids, by_id(place))
    for _, task in ipairs(tasks_of(place)) do remove_write(task) end
  end
end
for _, task in ipairs(call('ZRANGE', tasks, 0, -1)) do
  local _, last = task:find('\0\0', 9, true)
  local place = task:sub(1, last)
  if call('HEXISTS', rows, place) == 0 and less(place, newest(place:sub(1, 8))) then remove_write(task) end
end
local records = call('HVALS', rows)
for _, record in ipairs(call('HVALS', writes)) do table.insert(records, record) end
local _, needed = closure(records)
for _, item in ipairs(call('HKEYS', items)) do
  if not needed[item] then call('HDEL', items, item) end
end
call('HSET', about, 'epoch', ARGV[1])
return removed
"""

DROP = r"""
call('UNLINK', unpack(KEYS))
call('HSET', about, 'horizon', ARGV[1])
call('PEXPIRE', about, ARGV[2])
"""


# --- the engine -------------------------------------------------------------------------------------------------------


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
            case Get(thread, space, id):
                batch = yield from self._read(thread, [_key(space, id) if id else space])
                return batch if id or batch.rows else EMPTY
            case Read(thread, places):
                return (yield from self._read(thread, [_key(place.space, place.id) for place in places]))
            case Scan():
                return (yield from self._scan(request))
            case Remove(thread, places, new_epoch):
                keys = [_key(place.space, place.id) for place in places]
                return (yield from self._run(REMOVE, thread, [new_epoch, *keys]))
            case Drop(thread, horizon, seconds):
                yield from self._run(DROP, thread, [horizon, _milliseconds(seconds)])

    def _read(self, thread: bytes, keys: Sequence[bytes]) -> Program[Batch]:
        answer = yield from self._run(READ, thread, keys)
        if answer is None:
            return EMPTY
        name, epoch, found, items = answer
        rows = [Row(_place(thread, key), _record(row), name) for key, row, _ in found]
        writes = {
            _place(thread, key): {_task(field[len(key) :]): _record(write) for field, write in written}
            for key, _, written in found
            if written
        }
        return Batch(rows, writes, _items(items), int(epoch))

    def _scan(self, request: Scan) -> Program[list[Row]]:
        threads = {request.thread}
        if request.thread is None:
            threads = yield from self._servers.retried(lambda owners: self._threads(owners, request.owner))
        found: list[Row] = []
        for thread in threads:
            if thread.startswith(request.owner):
                name, rows = yield from self._run(SCAN, thread, _to_scan(request, thread))
                found += [Row(_place(thread, key), _record(row), name) for key, row in rows]
        found.sort(key=lambda row: (row.place.id, row.place.thread, row.place.space), reverse=True)
        return found[: request.count]

    def _threads(self, owners: list[str | None], owner: bytes) -> Program[set[bytes]]:
        """All threads of an owner. The servers go through the keys of everybody for that."""
        found: set[bytes] = set()
        for address in set(owners):
            cursor = None
            while cursor != 0:
                command = ("SCAN", cursor or 0, "MATCH", f"{self._prefix}:{{{owner.hex()}*}}:about", "COUNT", 1000)
                ((cursor, keys),) = yield from self._servers.call(address, command)
                found |= {bytes.fromhex(key.decode().partition("{")[2].partition("}")[0]) for key in keys}
        return found

    def _run(self, script: str, thread: bytes, arguments: Sequence[Any]) -> Program[Any]:
        """The answer of a script. What it has written is with enough replicas."""
        source = SHARED + script
        keys = [f"{self._prefix}:{{{thread.hex()}}}:{name}" for name in KEYS]
        rest = len(keys), *keys, *arguments
        durable = self._durable if script in (STORE, REMOVE, DROP) else 0
        wait = [("WAIT", durable, self._wait)] if durable else []

        def attempt(owners: list[str | None]) -> Program[list[Any]]:
            address = owners[key_slot(keys[0].encode())]
            try:
                command = ("EVALSHA", hashlib.sha1(source.encode()).hexdigest(), *rest)
                return (yield from self._servers.call(address, command, *wait))
            except exceptions.NoScriptError:
                return (yield from self._servers.call(address, ("EVAL", source, *rest), *wait))

        answer, *replicas = yield from self._servers.retried(attempt)
        if replicas and replicas[0] < durable:
            raise Unavailable(f"Redis has it, but only {replicas[0]} of {durable} replicas said so in time.")
        return answer


# --- servers ----------------------------------------------------------------------------------------------------------

PASSING = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.AskError,
    exceptions.ClusterDownError,
    exceptions.ReadOnlyError,
    exceptions.TryAgainError,
)
LASTING = (exceptions.AuthenticationError, exceptions.AuthorizationError)
"""These are among redis-py's errors of connections, and will not pass."""


class Call(NamedTuple):
    """Commands for one server, in one round trip on one connection."""

    address: str
    commands: Sequence[tuple[Any, ...]]


class Servers:
    """One Redis or a cluster: which server owns which slot, and pools of connections.

    redis-py's `RedisCluster` is not used: it makes the commands of a pipeline again one by one, each on a connection of
    its own, but a WAIT tells of the writes of its own connection.
    """

    def __init__(self, url: str, timeout: float):
        parts = urlsplit(url)
        scheme, _, cluster = parts.scheme.partition("+")
        if parts.scheme not in ("redis", "rediss", "unix", "redis+cluster", "rediss+cluster"):
            raise InvalidRequest(
                "The URL has to begin with redis, rediss, unix, redis+cluster or rediss+cluster, and ://"
            )
        login, at, places = parts.netloc.rpartition("@")
        self._url = f"{scheme}://{login}{at}", f"{parts.path}?{parts.query}"
        """What is before and after the address."""
        self._timeout = timeout
        self._clustered = bool(cluster)
        self._addresses = places.split(",")
        """All that are known; at the end those that were asked or failed last."""
        self._owners: list[str | None] = [] if cluster else [places] * REDIS_CLUSTER_HASH_SLOTS
        """The address that owns each slot; of a cluster, nothing until it is known."""
        self._clients: dict[str, redis.Redis] = {}
        self._aclients: dict[asyncio.AbstractEventLoop, dict[str, redis.asyncio.Redis]] = {}

    def perform(self, step: Call | float) -> Any:
        """The answers to a call; or wait for so many seconds."""
        if isinstance(step, Call):
            return self._pipeline(step, redis, self._clients).execute(raise_on_error=False)
        return time.sleep(step)

    async def aperform(self, step: Call | float) -> Any:
        """The same, awaited. A connection works in one event loop only, so each has its own."""
        if isinstance(step, Call):
            loop = asyncio.get_running_loop()
            for other in [each for each in list(self._aclients) if each.is_closed()]:
                self._aclients.pop(other, None)
            clients = self._aclients.setdefault(loop, {})
            return await self._pipeline(step, redis.asyncio, clients).execute(raise_on_error=False)
        return await asyncio.sleep(step)

    def _pipeline(self, call: Call, library: ModuleType, clients: dict[str, Any]) -> Any:
        if call.address not in clients:
            pool = library.BlockingConnectionPool.from_url(
                call.address.join(self._url),
                timeout=self._timeout,
                socket_timeout=self._timeout,
                socket_connect_timeout=self._timeout,
                retry=library.retry.Retry(NoBackoff(), 0),  # `retried` does that
            )
            clients[call.address] = library.Redis.from_pool(pool)
        pipeline = clients[call.address].pipeline(transaction=False)
        for command in call.commands:
            pipeline.execute_command(*command)
        return pipeline

    def close(self) -> None:
        """Close the connections that belong to no event loop."""
        while self._clients:
            self._clients.popitem()[1].close()

    async def aclose(self) -> None:
        """Close these, and those of the running event loop."""
        self.close()
        for client in self._aclients.pop(asyncio.get_running_loop(), {}).values():
            await client.aclose()

    def call(self, address: str | None, *commands: tuple[Any, ...]) -> Program[list[Any]]:
        """The answers of one server.

        Raises:
            Unavailable: if it may help to ask again, here or elsewhere.
            SaverError: if not.
            NoScriptError: if the server does not know a script.
        """
        if address is None:
            raise Unavailable("No server of the cluster owns this thread now.")
        try:
            answers = yield Call(address, commands)
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
            return answers
        except exceptions.NoScriptError:
            raise
        except exceptions.RedisError as error:
            what = f"{type(error).__name__}: {str(error).partition(' script: ')[0]}"
            passing = isinstance(error, PASSING) and not isinstance(error, LASTING)
            if passing or str(error).startswith(("BUSY ", "MISCONF ", "NOREPLICAS ")):
                self._move_to_end(address)
                raise Unavailable(f"Redis at {address or 'its socket'} cannot do it now. {what}") from error
            raise SaverError(f"Redis at {address or 'its socket'} refused. {what}") from error

    def retried(self, attempt: Callable[[list[str | None]], Program[Result]]) -> Program[Result]:
        """The result of the first attempt that succeeds, each of which is given the owners of all slots.

        Raises:
            Unavailable: if none does in time.
        """
        deadline = time.monotonic() + 2 * self._timeout
        pause = 0.02
        while True:
            try:
                return (yield from attempt(self._owners or (yield from self._look_around())))
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
            if self._clustered:
                self._owners = []
            yield random.uniform(0, pause)
            pause = min(2 * pause, 0.5)

    def _look_around(self) -> Program[list[str | None]]:
        """The owners of all slots, as the first node tells that answers."""
        problem = None
        for asked in self._addresses:
            self._move_to_end(asked)
            try:
                (ranges,) = yield from self.call(asked, ("CLUSTER SLOTS",))
            except Unavailable as error:
                problem = error
                continue
            owners: list[str | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
            for first, last, *nodes in ranges:
                places = [_address((host or b"").decode(), port, asked) for host, port, *_ in nodes]
                owners[first : last + 1] = places[:1] * (last + 1 - first)
                self._addresses = list(dict.fromkeys(self._addresses + places))
            self._owners = owners
            return owners
        raise Unavailable(f"No node of the cluster answers. {problem}")

    def _move_to_end(self, address: str) -> None:
        self._addresses = [each for each in self._addresses if each != address] + [address]


def _address(host: str, port: int, asked: str) -> str:
    """The address of a node. One that does not say on which host it is, is on that of the node that was asked."""
    return f"[{host}]:{port}" if ":" in host else f"{host or asked.rpartition(':')[0]}:{port}"


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
            arguments += ["overwrite" if index < 0 else "write", key + f"{index} {task_id}".encode(), _stored(record)]
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
