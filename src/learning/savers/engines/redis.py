"""Threads in Redis or Valkey, alone or a cluster: one call of a script, so one round trip, for a request on a thread.

The keys of a thread share a hash tag, so they are on one server, and a script changes them as a whole:

    lg:{thread}:about     hash: the thread's name, its epoch and its horizon
    lg:{thread}:rows      hash: the record of each checkpoint, by place
    lg:{thread}:spaces    sorted set: the places, in the order of (space, id)
    lg:{thread}:ids       sorted set: the places, in the order of (id, space)
    lg:{thread}:items     hash: items, by name
    lg:{thread}:writes    hash: writes, by place and task
    lg:{thread}:tasks     sorted set: the places and tasks of the writes

A sorted set whose scores are all 0 is in the order of its bytes; `_key` writes places for that. `_framed` writes records
so that Lua can tell what they need. A server must not evict keys (`maxmemory-policy noeviction`).
"""

import asyncio
import hashlib
import random
import re
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.retry import Retry

from ..errors import SaverError, Unavailable
from ..program import Program, arun, run
from ..records import EMPTY, Batch, Drop, Get, Outcome, Place, Put, PutWrites, Read, Record, Remove, Request, Row, Scan

Result = TypeVar("Result")

# --- scripts ----------------------------------------------------------------------------------------------------------

ANY = b"\xff"
"""Says that a script has no condition to check. It is greater than any text, and no text has it: it is not UTF-8."""

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

local function closure(records)  -- the items that records need, directly or not, and the set of their names
  local found, seen = {}, {}
  while #records > 0 do
    for _, name in ipairs(needs(table.remove(records))) do
      local item = not seen[name] and call('HGET', items, name)
      if item then
        seen[name] = true
        table.insert(found, {name, item})
        table.insert(records, item)
      end
    end
  end
  return found, seen
end
"""

# A failover can lose items that a caller has seen stored, with the epoch left as it was: so what is needed is looked for.
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
        url: `redis://…` or `rediss://…`, or `redis+cluster://host:port,host:port,…` with any nodes of a cluster.
        prefix: what the names of all keys begin with: letters, digits and `_.:-`.
        durable: how many replicas have to have each write before it counts as stored. Without any, a failover loses
            what the replica did not have yet.
        timeout: how long a server may take to answer, in seconds. Requests are made again for twice as long, where
            servers do not answer or are in the middle of a failover.

    Every request may raise `Unavailable`, or a `SaverError` where a server refuses it, as one does that is out of
    memory. Then nothing was stored.
    """

    def __init__(self, url: str, *, prefix: str = "lg", durable: int = 0, timeout: float = 5):
        if not re.fullmatch(r"[\w.:-]+", prefix, re.ASCII):
            raise ValueError(f"The prefix {prefix!r} has other characters than letters, digits and _.:-")
        self._servers = Servers(url, timeout)
        self._prefix = prefix
        self._durable = durable
        self._timeout = timeout

    def setup(self) -> None:
        """Nothing to set up: a script goes to a server when it turns out not to have it."""

    async def asetup(self) -> None:
        """Nothing to set up."""

    def close(self) -> None:
        """Close all connections but those of event loops."""
        self._servers.close()

    async def aclose(self) -> None:
        """Close all connections, but those of other event loops."""
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

    def _run(self, script: str, thread: bytes, arguments: Sequence[Any]) -> Program[Any]:
        """What a script answers, and for one that writes wait until enough replicas have what it wrote."""
        tag = f"{self._prefix}:{{{thread.hex()}}}"
        keys = [f"{tag}:{name}" for name in ("about", "rows", "spaces", "ids", "items", "writes", "tasks")]
        source = SHARED + script
        durable = self._durable if script in (STORE, REMOVE, DROP) else 0
        wait = [("WAIT", durable, int(self._timeout * 500))] if durable else []  # half the time until we give up

        def attempt(owners: list[str]) -> Program[list[Any]]:
            address = owners[key_slot(tag.encode())]
            rest = (len(keys), *keys, *arguments)
            try:
                command = ("EVALSHA", hashlib.sha1(source.encode()).hexdigest(), *rest)
                return (yield from self._servers.call(address, command, *wait))
            except redis.exceptions.NoScriptError:
                return (yield from self._servers.call(address, ("EVAL", source, *rest), *wait))

        answer, *acknowledged = yield from self._servers.retried(attempt)
        if acknowledged and acknowledged[0] < durable:
            raise Unavailable(f"Redis stored it, but {acknowledged[0]} of {durable} replicas said in time to have it.")
        return answer

    def _read(self, thread: bytes, keys: Sequence[bytes]) -> Program[Batch]:
        answer = yield from self._run(READ, thread, keys)
        if answer is None:
            return EMPTY
        name, epoch, found, items = answer
        rows = [Row(_place(thread, key), _record(data), name) for key, data, _ in found]
        writes = {
            _place(thread, key): {_task(field[len(key) :]): _record(data) for field, data in written}
            for key, _, written in found
            if written
        }
        return Batch(rows, writes, {item: _record(data) for item, data in items}, int(epoch))

    def _scan(self, request: Scan) -> Program[list[Row]]:
        if request.thread is None:
            threads = yield from self._servers.retried(lambda owners: self._threads(owners, request.owner))
        else:
            threads = [request.thread] if request.thread.startswith(request.owner) else []
        found: list[Row] = []
        for thread in threads:
            space, run_id = (ANY if each is None else each for each in (request.space, request.run))
            name, rows = yield from self._run(SCAN, thread, [space, _bound(request, thread), run_id, request.count])
            found += [Row(_place(thread, key), _record(data), name) for key, data in rows]
        found.sort(key=lambda row: (row.place.id, row.place.thread, row.place.space), reverse=True)
        return found[: request.count]

    def _threads(self, owners: list[str], owner: bytes) -> Program[set[bytes]]:
        """All threads of an owner. They are looked for among the keys of all, so it takes time."""
        found: set[bytes] = set()
        for address in set(owners):
            cursor = None
            while cursor != 0:
                command = ("SCAN", cursor or 0, "MATCH", f"{self._prefix}:{{{owner.hex()}*}}:about", "COUNT", 1000)
                ((cursor, keys),) = yield from self._servers.call(address, command)
                found |= {bytes.fromhex(key.decode().rpartition("{")[2].partition("}")[0]) for key in keys}
        return found


# --- servers ----------------------------------------------------------------------------------------------------------


class Call(NamedTuple):
    """Commands for one server, in one round trip."""

    address: str
    commands: Sequence[tuple[Any, ...]]


class Servers:
    """One Redis or a cluster: who has what, and connections, with pools that are made when they are needed.

    redis-py's `RedisCluster` is not used, as it may send the parts of a pipeline to several servers: a WAIT has to go
    where the write went, on the same connection.
    """

    def __init__(self, url: str, timeout: float):
        parts = urlsplit(url)
        scheme, _, kind = parts.scheme.partition("+")
        if scheme not in ("redis", "rediss") or kind not in ("", "cluster"):
            raise ValueError("The URL has to begin with redis://, rediss://, redis+cluster:// or rediss+cluster://")
        self._parts = parts._replace(scheme=scheme)
        self._timeout = timeout
        self._known = parts.netloc.rpartition("@")[2].split(",")
        """Addresses, and those last that were asked last."""
        self._owners = [] if kind else self._known * REDIS_CLUSTER_HASH_SLOTS
        """The address of each slot's owner. Empty in a cluster until it is known."""
        self._clustered = bool(kind)
        self._clients: dict[str, redis.Redis] = {}
        self._aclients: dict[asyncio.AbstractEventLoop, dict[str, redis.asyncio.Redis]] = {}

    # what waits, and what awaits

    def perform(self, step: Call | float) -> Any:
        """The answers to a call, or a pause of some seconds."""
        if isinstance(step, Call):
            return self._pipeline(step, redis, self._clients).execute(raise_on_error=False)
        return time.sleep(step)

    async def aperform(self, step: Call | float) -> Any:
        """The same, awaited."""
        if isinstance(step, Call):
            return await self._pipeline(step, redis.asyncio, self._clients_here()).execute(raise_on_error=False)
        return await asyncio.sleep(step)

    def close(self) -> None:
        """Close the connections that no event loop has."""
        while self._clients:
            self._clients.popitem()[1].close()

    async def aclose(self) -> None:
        """Close these, and those of the running event loop."""
        self.close()
        for client in self._aclients.pop(asyncio.get_running_loop(), {}).values():
            await client.aclose()

    def _pipeline(self, call: Call, kind: ModuleType, clients: dict[str, Any]) -> Any:
        if call.address not in clients:
            login, at, _ = self._parts.netloc.rpartition("@")
            pool = kind.BlockingConnectionPool.from_url(
                self._parts._replace(netloc=login + at + call.address).geturl(),
                timeout=self._timeout,
                socket_timeout=self._timeout,
                socket_connect_timeout=self._timeout,
                retry=kind.retry.Retry(NoBackoff(), 0),
            )
            clients[call.address] = kind.Redis.from_pool(pool)
        pipeline = clients[call.address].pipeline(transaction=False)
        for command in call.commands:
            pipeline.execute_command(*command)
        return pipeline

    def _clients_here(self) -> dict[str, redis.asyncio.Redis]:
        """The clients of the running event loop: a connection works in no other."""
        loop = asyncio.get_running_loop()
        if loop not in self._aclients:
            for other in [each for each in list(self._aclients) if each.is_closed()]:
                self._aclients.pop(other, None)
        return self._aclients.setdefault(loop, {})

    # programs

    def call(self, address: str, *commands: tuple[Any, ...]) -> Program[list[Any]]:
        """The answers of one server.

        Raises:
            Unavailable: where it may help to ask again, here or elsewhere.
            SaverError: where it would not.
            NoScriptError: where a script is missing.
        """
        if not address:
            raise Unavailable("No server of the cluster has this thread now.")
        try:
            answers = yield Call(address, commands)
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
            return answers
        except redis.exceptions.NoScriptError:
            raise
        except redis.RedisError as error:
            what = f"{type(error).__name__}: {str(error).partition(' script: ')[0]}"
            if _is_passing(error):
                self._known = _with_last(self._known, address)
                raise Unavailable(f"Redis at {address} cannot do it now. {what}") from error
            raise SaverError(f"Redis at {address} refused. {what}") from error

    def retried(self, attempt: Callable[[list[str]], Program[Result]]) -> Program[Result]:
        """The result of the first attempt that succeeds, where each is given the owners of all slots.

        Raises:
            Unavailable: if none does in time.
        """
        deadline = time.monotonic() + 2 * self._timeout
        longest = 0.02
        while True:
            try:
                owners = self._owners or (yield from self._look_for_owners())
                return (yield from attempt(owners))
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
            if self._clustered:
                self._owners = []
            yield random.uniform(0, longest)
            longest = min(2 * longest, 0.5)

    def _look_for_owners(self) -> Program[list[str]]:
        """Ask one node after the other who has which slot."""
        problem = ""
        for address in self._known:
            self._known = _with_last(self._known, address)
            try:
                (ranges,) = yield from self.call(address, ("CLUSTER SLOTS",))
            except Unavailable as error:
                problem = str(error)
                continue
            owners = [""] * REDIS_CLUSTER_HASH_SLOTS
            for first, last, *nodes in ranges:
                places = [_address(host or b"", port, address) for host, port, *_ in nodes]
                owners[first : last + 1] = places[:1] * (last + 1 - first)
                self._known = list(dict.fromkeys([*self._known, *places]))
            self._owners = owners
            return owners
        raise Unavailable(f"No node of the cluster answers. {problem}")


PASSING = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.exceptions.AskError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.TryAgainError,
)
LASTING = (redis.exceptions.AuthenticationError, redis.exceptions.AuthorizationError)
"""Among redis-py's errors of connections these say that it will not work the next time either."""


def _is_passing(error: Exception) -> bool:
    if isinstance(error, PASSING):
        return not isinstance(error, LASTING)
    return str(error).startswith(("BUSY ", "MISCONF ", "NOREPLICAS "))


def _address(host: bytes, port: int, asked: str) -> str:
    """The address of a node, which is on the host that was asked if it does not say where."""
    name = host.decode()
    name = f"[{name}]" if ":" in name else name or asked.rpartition(":")[0]
    return f"{name}:{port}"


def _with_last(addresses: list[str], last: str) -> list[str]:
    return [each for each in addresses if each != last] + [last]


# --- bytes ------------------------------------------------------------------------------------------------------------

HEAD = struct.Struct(">IB")
"""The beginning of a record: how many names of items it has, and how many bytes for the run."""

NAME = 16
"""The bytes of an item's name."""


def _framed(record: Record, run: bytes = b"") -> bytes:
    """A record as it is stored: its head, its run, the names of the items that it needs, its data."""
    return b"".join([HEAD.pack(len(record.needs), len(run)), run, *record.needs, record.data])


def _record(stored: bytes) -> Record:
    count, run = HEAD.unpack_from(stored)
    start = HEAD.size + run
    end = start + NAME * count
    return Record(stored[end:], tuple(stored[at : at + NAME] for at in range(start, end, NAME)))


def _text(id: str) -> bytes:
    """An id, so that no other begins with it, and bytes are in the order of ids: a zero byte ends each, by two."""
    return id.encode().replace(b"\0", b"\0\xff") + b"\0\0"


def _key(space: bytes, id: str) -> bytes:
    return space + _text(id)


def _place(thread: bytes, key: bytes) -> Place:
    return Place(thread, key[:8], key[8:-2].replace(b"\0\xff", b"\0").decode())


def _task(field: bytes) -> tuple[str, int]:
    index, _, task_id = field.partition(b" ")
    return task_id.decode(), int(index)


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _to_store(request: Put | PutWrites) -> list[Any]:
    """The arguments of the script STORE."""
    place = _key(request.place.space, request.place.id)
    extends = request.extends if isinstance(request, Put) else None
    arguments = [
        place,
        request.name,
        ANY if request.epoch is None else request.epoch,
        request.new_epoch,
        ANY if request.lineage is None else request.lineage,
        ANY if extends is None else extends and _key(request.place.space, extends),
        ANY if request.seconds is None else _milliseconds(request.seconds),
    ]
    if isinstance(request, Put):
        arguments += ["row", place, _framed(request.record, request.run)]
    else:
        for (task_id, index), record in request.writes.items():
            kind = "overwrite" if index < 0 else "write"
            arguments += [kind, place + f"{index} {task_id}".encode(), _framed(record)]
    for name, item in request.items.items():
        arguments += ["item", name, _framed(item)]
    return arguments


def _bound(request: Scan, thread: bytes) -> bytes:
    """A scan of a thread gives the places before this, in the order of one space or of all."""
    space = request.space or b""
    bounds = [space + ANY]
    if request.before is not None:
        bounds.append(space + _text(request.before))
    if below := request.below:
        if (thread, space) < (below.thread, below.space) and (space or thread != below.thread):
            rest = ANY * 9  # the same id is before it, in any space
        else:
            rest = b"" if space or thread != below.thread else below.space
        bounds.append(space + _text(below.id) + rest)
    return min(bounds)
