"""One Redis or a cluster, as the engine sees it: calls go to the server that owns a slot, and are made again."""

import asyncio
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import redis
import redis.asyncio
from redis import exceptions
from redis.backoff import NoBackoff
from redis.crc import REDIS_CLUSTER_HASH_SLOTS

from ..errors import InvalidRequest, SaverError, StorageFull, Unavailable
from ..program import Program, pauses

Result = TypeVar("Result")

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
        self._pools: dict[str, redis.BlockingConnectionPool] = {}
        self._apools: dict[asyncio.AbstractEventLoop, dict[str, redis.asyncio.BlockingConnectionPool]] = {}

    def perform(self, step: Call | float) -> Any:
        """The answers to a call, of which some may be errors; or wait for so many seconds.

        A pipeline of redis-py's would do the same, with more work on our side.
        """
        if not isinstance(step, Call):
            return time.sleep(step)
        pool = self._pool(step.address, redis, self._pools)
        connection = pool.get_connection()
        try:
            connection.send_packed_command(connection.pack_commands(step.commands))
            answers = []
            for _ in step.commands:
                try:
                    answers.append(connection.read_response())
                except exceptions.ResponseError as error:
                    answers.append(error)
            return answers
        except BaseException:
            connection.disconnect()  # it may be in the middle of an answer
            raise
        finally:
            pool.release(connection)

    async def aperform(self, step: Call | float) -> Any:
        """The same, awaited. A connection works in one event loop only, so each has its own."""
        if not isinstance(step, Call):
            return await asyncio.sleep(step)
        for other in [each for each in list(self._apools) if each.is_closed()]:
            self._apools.pop(other, None)
        pool = self._pool(step.address, redis.asyncio, self._apools.setdefault(asyncio.get_running_loop(), {}))
        connection = await pool.get_connection()
        try:
            await connection.send_packed_command(connection.pack_commands(step.commands))
            answers = []
            for _ in step.commands:
                try:
                    answers.append(await connection.read_response())
                except exceptions.ResponseError as error:
                    answers.append(error)
            return answers
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            await pool.release(connection)

    def _pool(self, address: str, library: ModuleType, pools: dict[str, Any]) -> Any:
        if address not in pools:
            pools[address] = library.BlockingConnectionPool.from_url(
                address.join(self._url),
                timeout=self._timeout,
                socket_timeout=self._timeout,
                socket_connect_timeout=self._timeout,
                retry=library.retry.Retry(NoBackoff(), 0),  # `retried` does that
            )
        return pools[address]

    def close(self) -> None:
        """Close the connections that belong to no event loop."""
        while self._pools:
            self._pools.popitem()[1].disconnect()

    async def aclose(self) -> None:
        """Close these, and those of the running event loop."""
        self.close()
        for pool in self._apools.pop(asyncio.get_running_loop(), {}).values():
            await pool.disconnect()

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
            if isinstance(error, exceptions.OutOfMemoryError):
                raise StorageFull(f"Redis at {address or 'its socket'} has no memory left. {what}") from error
            raise SaverError(f"Redis at {address or 'its socket'} refused. {what}") from error

    def retried(self, attempt: Callable[[list[str | None]], Program[Result]]) -> Program[Result]:
        """The result of the first attempt that succeeds, each of which is given the owners of all slots.

        Raises:
            Unavailable: if none does in time.
        """
        deadline = time.monotonic() + 2 * self._timeout
        waits = pauses()
        while True:
            try:
                return (yield from attempt(self._owners or (yield from self._look_around())))
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
            if self._clustered:
                self._owners = []
            yield next(waits)

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
