"""Real servers on a laptop: `with redis() as server:` gives a Redis, and takes it away again.

Whoever asks gets the first that is there of: the server that the environment names (`REDIS_URL`, `REDIS_CLUSTER_URL`,
`DATABASE_URL`, `S3_ENDPOINT_URL`), a container (if a Docker engine answers and has the image, so that nothing is
downloaded in the middle of a lesson), an embedded server, from a program that pip installed. `LEARNING_SERVICES` forces
`external`, `docker` or `embedded`.

A server ends with its `with` block, at `close()`, or with this process, however that ends.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .binaries import postgres_program
from .choice import provide
from .errors import ServiceError
from .postgres_server import PostgreSQL, start_postgres
from .redis_servers import Redis, RedisCluster, start_redis, start_redis_cluster
from .s3_server import S3, start_s3
from .server import Node, S, Server

__all__ = [
    "S3",
    "Node",
    "PostgreSQL",
    "Redis",
    "RedisCluster",
    "Server",
    "ServiceError",
    "keep",
    "postgres",
    "postgres_program",
    "redis",
    "redis_cluster",
    "s3",
]


def redis(*, replicas: int = 0) -> Redis:
    """A Redis, alone or with replicas.

    Raises:
        ServiceError: as all four do, if there is none to be had. The message says why, and what to do.
    """
    return provide(Redis, lambda place: start_redis(place, replicas), default=not replicas)


def redis_cluster(*, replicas: int = 1, node_timeout: int = 1000) -> RedisCluster:
    """A Redis Cluster of three masters.

    Args:
        replicas: how many each master has.
        node_timeout: after how many milliseconds without an answer a node counts as gone. A replica takes over at
            about one and a half times that.
    """
    default = (replicas, node_timeout) == (1, 1000)
    return provide(RedisCluster, lambda place: start_redis_cluster(place, replicas, node_timeout), default=default)


def postgres(*, archive: bool = False, data: Path | None = None) -> PostgreSQL:
    """A PostgreSQL server.

    Args:
        archive: whether it keeps all of its write-ahead log in `server.archive`.
        data: start on a copy of this data folder, such as a restored backup, instead of an empty one. If it has a
            `recovery.signal`, the server is here when recovery is over, or has paused at its target.

    With one of them the server is an embedded one, unless `LEARNING_SERVICES` is `docker`: its files are within reach.
    """
    default = not archive and data is None
    return provide(PostgreSQL, lambda place: start_postgres(place, archive, data), default=default, files=not default)


def s3() -> S3:
    """An S3 server with a bucket: SeaweedFS where the extra `s3` is installed, else moto's simulation in memory."""
    return provide(S3, start_s3, default=True)


_kept: dict[Callable[[], Server], Any] = {}


def keep(kind: Callable[[], S]) -> S:
    """One server for all of this process and what it starts: `keep(redis)` starts it when it is first asked for.

    Processes that this one starts find it in their environment, so they get the same one, with its nodes.
    """
    there = _kept.get(kind)
    if there and there.folder and not there.folder.exists():  # somebody has closed it
        del _kept[kind]
        for name in there.environment:
            os.environ.pop(name, None)
    if kind not in _kept:
        _kept[kind] = kind()
        os.environ.update(_kept[kind].environment)
    return _kept[kind]
