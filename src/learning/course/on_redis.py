"""What the tests of lesson 2 stand on: Redis watched and disturbed, agents that talk meanwhile, exact comparison."""

import dataclasses
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit, urlunsplit

import numpy
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import BaseModel
from redis import ConnectionPool, RedisCluster
from redis import Redis as Client
from redis.exceptions import RedisClusterException

from learning import services
from learning.agent import build_agent
from learning.bench.proxy import Proxy
from learning.services.server import Node, wait_for

from .expect import Missed
from .scenarios import shorten, thread

AGAIN = (
    "In a failover the master of a key changes: ask the cluster again who has the slot (which may fail as well), and "
    "send the same commands again, until `seconds` have passed."
)


@contextmanager
def another_connection_each_time() -> Iterator[None]:
    """Have each pool give another connection than the time before, as one may that many threads take from."""
    take = ConnectionPool.get_connection

    def take_another(pool: ConnectionPool, *args: Any, **options: Any) -> Any:
        first, second = take(pool, *args, **options), take(pool, *args, **options)
        pool.release(first)
        return second

    with patch.object(ConnectionPool, "get_connection", take_another):
        yield


@contextmanager
def after_round_trips(client: Client, number: int, what: Callable[[], Any]) -> Iterator[list[Any]]:
    """Have something happen when a client has made so many round trips, before the next; what it returned is listed."""
    pool, trips, happened = client.connection_pool, count(), []
    take = pool.get_connection

    def take_later(*args: Any, **options: Any) -> Any:
        if next(trips) == number:
            happened.append(what())
        return take(*args, **options)

    with patch.object(pool, "get_connection", take_later):
        yield happened


@contextmanager
def changed_keys(client: Client) -> Iterator[set[bytes]]:
    """The names of the keys that anybody changes meanwhile; they are known at the end.

    Raises:
        Missed: if the server does not tell of them any more.
    """
    names: set[bytes] = set()
    client.config_set("notify-keyspace-events", "KA")
    with client.pubsub(ignore_subscribe_messages=True) as told:
        told.psubscribe("__keyspace@*__:*")
        told.get_message(timeout=1)
        yield names
        client.set("the end", "", px=1)
        while (told_of := told.get_message(timeout=5)) and not told_of["channel"].endswith(b":the end"):
            names.add(told_of["channel"].partition(b":")[2])
    client.config_set("notify-keyspace-events", "")
    if not told_of:
        idea = "A check changes no setting of the server: it is not the only one who uses it."
        raise Missed(expected="a server that tells of changed keys, as before", came="it tells no more", idea=idea)


@contextmanager
def counting(redis: services.Redis) -> Iterator[tuple[Any, Callable[[], int]]]:
    """A client of a Redis, and how many round trips it has made, counted by a proxy before the server."""
    url = urlsplit(redis.url)
    with Proxy([(url.hostname or "localhost", url.port or 6379)]) as proxy:
        ((host, port),) = proxy.addresses
        place = f"{url.netloc.rpartition('@')[0]}@{host}:{port}"
        with Client.from_url(urlunsplit(url._replace(netloc=place))) as client:
            yield client, lambda: proxy.trips


@contextmanager
def limited(client: Client, prefix: str) -> Iterator[Client]:
    """A client with a login of its own, which may use keys that begin with `prefix` only."""
    client.acl_setuser(prefix, enabled=True, passwords=["+secret"], keys=[f"{prefix}*"], commands=["+@all"])
    known = client.get_connection_kwargs()
    try:
        with Client(host=known["host"], port=known["port"], username=prefix, password="secret") as narrow:
            yield narrow
    finally:
        client.acl_deluser(prefix)


# --- clusters ---------------------------------------------------------------------------------------------------------


@contextmanager
def quick_failover(cluster: services.RedisCluster, milliseconds: int = 500) -> Iterator[None]:
    """Have the nodes of a cluster take each other for dead sooner. At the end it is whole, and as it was."""
    name = "cluster-node-timeout"
    before = cluster.node_client(cluster.node).config_get(name)[name]
    try:
        _configure(cluster, name, milliseconds)
        yield
    finally:
        cluster.heal()
        _configure(cluster, name, before)


def _configure(cluster: services.RedisCluster, name: str, value: Any) -> None:
    for node in cluster.nodes:
        cluster.node_client(node).config_set(name, value)


def keys_of(cluster: services.RedisCluster) -> set[bytes]:
    """The names of all keys in a cluster."""
    return {key for node in cluster.masters for key in cluster.node_client(node).scan_iter(count=1000)}


def owner(cluster: services.RedisCluster, keys: set[bytes]) -> tuple[Node, Node]:
    """The master that has some keys of one slot, and its replica."""
    master = cluster.master_of(next(iter(keys)).decode(errors="surrogateescape"))
    return master, cluster.replicas_of(master)[0]


def fail_to_initialize(client: RedisCluster, times: int = 2) -> None:
    """Have a client of a cluster fail to ask anew who has which slot, the first few times."""
    ask, asked = client.nodes_manager.initialize, count()

    def initialize(*args: Any, **options: Any) -> Any:
        if next(asked) < times:
            raise RedisClusterException("`nodes_manager.initialize()` failed: no server answers yet")
        return ask(*args, **options)

    client.nodes_manager.initialize = initialize  # type: ignore[method-assign]


def taken_over(cluster: services.RedisCluster, replica: Node) -> None:
    """Wait until a replica, whose master was killed, has become the master."""
    wait_for(lambda: replica in cluster.masters, "the replica takes over", show=cluster.nodes)
    cluster.wait_until_ready()


class Acknowledged(BaseCheckpointSaver):
    """Hands on to a learner's saver, and notes what it has acknowledged by coming back without an error."""

    def __init__(self, inner: BaseCheckpointSaver):
        super().__init__(serde=inner.serde)
        self.inner = inner
        self.checkpoints: dict[tuple[str, str, str], bytes] = {}
        self.writes: dict[tuple[str, str, str], Counter[tuple[str, str]]] = {}

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        """As the learner's, and note it."""
        values = _as_bytes(checkpoint)
        stored = self.inner.put(config, checkpoint, metadata, new_versions)
        self.checkpoints[_names(stored)] = values
        return stored

    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        """As the learner's, and note it."""
        self.inner.put_writes(config, writes, task_id, task_path)
        noted = self.writes.setdefault(_names(config), Counter())
        for channel, _ in writes:
            noted[task_id, channel] = sum(name == channel for name, _ in writes)

    def get_tuple(self, config: Any) -> Any:
        """As the learner's."""
        return self.inner.get_tuple(config)

    def get_next_version(self, current: Any, channel: Any) -> Any:
        """As the learner's."""
        return self.inner.get_next_version(current, channel)

    def compare(self, saver: BaseCheckpointSaver, what_happened: str) -> None:
        """Everything that was acknowledged is there once, for another saver.

        Raises:
            Missed: if something is lost, changed or doubled.
        """
        for names, values in self.checkpoints.items():
            found = saver.get_tuple(thread(*names))
            if found is None or _as_bytes(found.checkpoint) != values:
                came = "nothing" if found is None else shorten(found.checkpoint["channel_values"])
                idea = (
                    f"{what_happened} This checkpoint had been acknowledged: `put` had returned. It may return only "
                    "when `WAIT`, on the same connection, has counted enough replicas."
                )
                raise Missed(expected=f"checkpoint {names[2]} as it was put", came=came, idea=idea)
            written = Counter((task_id, channel) for task_id, channel, _ in found.pending_writes or [])
            if wrong := {what: count for what, count in self.writes.get(names, {}).items() if written[what] != count}:
                idea = f"{what_happened} Each write of a task is there once: not lost, and not twice after a retry."
                came = f"{ {what: written[what] for what in wrong} }"
                raise Missed(expected=f"writes of checkpoint {names[2]}: {wrong}", came=came, idea=idea)


class Talk:
    """Agents that talk, each in a thread of its own and on a conversation of its own, whatever errors they get."""

    def __init__(self, saver: Acknowledged, customers: list[str]):
        self._saver = saver
        self._over = threading.Event()
        self.errors: list[Exception] = []
        self._threads = [threading.Thread(target=self._talk, args=(each,), daemon=True) for each in customers]
        for each in self._threads:
            each.start()

    def _talk(self, customer: str) -> None:
        agent = build_agent(self._saver)
        while not self._over.is_set():
            try:
                agent.invoke({"messages": [("user", "Where are 1001 and 1002?")]}, thread(customer), durability="sync")
            except Exception as error:
                self.errors.append(error)
                time.sleep(0.05)

    def until_more(self, count: int, customer: str, seconds: float, what: str) -> None:
        """Wait until so many more checkpoints of a customer are acknowledged.

        Raises:
            Missed: if that takes too long.
        """
        wanted = self._acknowledged(customer) + count
        deadline = time.monotonic() + seconds
        while self._acknowledged(customer) < wanted:
            if time.monotonic() > deadline:
                came = f"{type(self.errors[-1]).__name__}: {self.errors[-1]}" if self.errors else "it still waits"
                raise Missed(expected="an agent whose saver goes on", came=came, idea=f"{what} {AGAIN}")
            time.sleep(0.02)

    def without_errors(self, what: str) -> None:
        """See that no agent has got an error: a failover takes a second or two, and a saver has longer.

        Raises:
            Missed: if one has.
        """
        if self.errors:
            came = f"{len(self.errors)} errors; the first is {type(self.errors[0]).__name__}: {self.errors[0]}"
            idea = f"{what} {AGAIN} That took less than the saver's 8 seconds, so no agent should hear of it."
            raise Missed(expected="no error for any agent", came=came, idea=idea)

    def _acknowledged(self, customer: str) -> int:
        return sum(names[0] == customer for names in list(self._saver.checkpoints))

    def end(self) -> None:
        """Have all of them end their turn."""
        self._over.set()
        for each in self._threads:
            each.join(5)


def _names(config: Any) -> tuple[str, str, str]:
    named = config["configurable"]
    return named["thread_id"], named.get("checkpoint_ns", ""), named["checkpoint_id"]


def _as_bytes(checkpoint: Any) -> bytes:
    return JsonPlusSerializer().dumps_typed(checkpoint["channel_values"])[1]


def commands(redis: services.Redis, *names: str) -> int:
    """How often a Redis has performed these commands since it began."""
    stats = redis.client().info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in names)


# --- exact comparison -------------------------------------------------------------------------------------------------


def difference(came: Any, wanted: Any, path: str = "the value") -> str:
    """Where two values differ, in type or in value, at whatever depth; empty if they do not."""
    if type(came) is not type(wanted):
        return f"{path} is {shorten(came)}, a {type(came).__name__}, and not a {type(wanted).__name__}"
    if isinstance(wanted, numpy.ndarray | numpy.generic):
        same = (came.dtype, came.shape, came.tobytes()) == (wanted.dtype, wanted.shape, wanted.tobytes())
        return "" if same else f"{path} is {shorten(came)} of {came.dtype}, not {shorten(wanted)} of {wanted.dtype}"
    if isinstance(wanted, float) and math.isnan(wanted) and math.isnan(came):
        return ""
    parts, came_parts = _parts(wanted), _parts(came)
    if parts is not None and came_parts is not None:
        if len(parts) != len(came_parts):
            return f"{path} has {len(came_parts)} parts, not {len(parts)}"
        for (name, part), (came_name, came_part) in zip(parts, came_parts, strict=True):
            if difference(came_name, name):
                return f"{path} has {came_name!r} where {name!r} was"
            if found := difference(came_part, part, f"{path}[{name!r}]"):
                return found
        return ""
    if isinstance(wanted, datetime) and came.utcoffset() != wanted.utcoffset():
        return f"{path} has the offset {came.utcoffset()}, not {wanted.utcoffset()}"
    return "" if came == wanted else f"{path} is {shorten(came)}, not {shorten(wanted)}"


def _parts(value: Any) -> list[tuple[Any, Any]] | None:
    """What a value is made of, by name; None if it is not made of anything."""
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, deque):
        return [("maxlen", value.maxlen), *enumerate(value)]
    if isinstance(value, list | tuple):
        return list(enumerate(value))
    if isinstance(value, BaseModel):
        return list(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    return None
