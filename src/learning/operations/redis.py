"""Health and metrics of a Redis, alone or a cluster."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import redis
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.retry import Retry

GAUGES = {
    "used_memory": ("memory_used_bytes", "Memory that the server uses."),
    "maxmemory": ("memory_limit_bytes", "Memory that it may use; 0 if there is no limit."),
    "connected_clients": ("clients", "Connections of clients."),
    "connected_slaves": ("replicas", "Replicas that are connected."),
}

COUNTERS = {
    "total_commands_processed": ("commands", "Commands since the server began."),
    "expired_keys": ("expired_keys", "Keys that were removed because their time was up."),
    "evicted_keys": ("evicted_keys", "Keys that were removed because memory was full. A store must have none."),
    "rejected_connections": ("rejected_connections", "Connections that were refused."),
}

NO_ANSWER, REFUSED, MISSING = "no answer", "writes refused", "replicas missing"


def redis_health(
    client: redis.Redis | RedisCluster, *, replicas: int = 1, seconds: float = 1
) -> dict[str, str | list[str]]:
    """How a Redis is: whether each master stores a write, and its replicas confirm it.

    Args:
        replicas: how many have to confirm, for each master.
        seconds: how long each master may take.

    Returns:
        `{"status": "healthy", "degraded" or "down", "reasons": [...]}`; for a cluster, a reason begins with the
        address of the master, and "down" means that none of them answers.
    """
    reasons: dict[str, str] = {}
    masters = _masters(client)
    for address, (settings, key) in masters.items():
        if reason := _probed(settings, key, replicas, seconds):
            reasons[address] = reason
    down = masters.keys() == {address for address, reason in reasons.items() if reason == NO_ANSWER}
    return {
        "status": "down" if down else "degraded" if reasons else "healthy",
        "reasons": [f"{address}: {reason}" if address else reason for address, reason in reasons.items()],
    }


class RedisMetrics(Collector):
    """Metrics of each server, for Prometheus: `registry.register(RedisMetrics(client))`.

    Each is asked when Prometheus asks. One that does not answer has `redis_up` 0, and no other metric.
    """

    def __init__(self, client: redis.Redis | RedisCluster, *, seconds: float = 1):
        self._client = client
        self._seconds = seconds

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        up = GaugeMetricFamily("redis_up", "Whether the server answers.", labels=["server"])
        families = {
            name: GaugeMetricFamily(f"redis_{title}", text, labels=["server"]) for name, (title, text) in GAUGES.items()
        } | {
            name: CounterMetricFamily(f"redis_{title}", text, labels=["server"])
            for name, (title, text) in COUNTERS.items()
        }
        for address, (settings, _) in _masters(self._client).items():
            try:
                with _probe(settings, self._seconds) as probe:
                    about = probe.info("default")
            except redis.RedisError:
                about = {}
            up.add_metric([address], float(bool(about)))
            for name, family in families.items():
                if name in about:
                    family.add_metric([address], float(about[name]))
        yield up
        yield from families.values()


def _masters(client: redis.Redis | RedisCluster) -> dict[str, tuple[dict[str, Any], str]]:
    """How to reach each master, and a key that is its own; by address, or an empty one if there is one server."""
    key = "learning:health:{%d}"
    if not isinstance(client, RedisCluster):
        return {"": (client.get_connection_kwargs(), key % 0)}
    keys: dict[str, str] = {}
    nodes = {node.name: node for node in client.get_primaries()}
    for number in count():
        if keys.keys() >= nodes.keys():
            break
        keys.setdefault(client.get_node_from_key(key % number).name, key % number)
    login = client.get_connection_kwargs()
    return {name: ({**login, "host": node.host, "port": node.port}, keys[name]) for name, node in sorted(nodes.items())}


def _probed(settings: dict[str, Any], key: str, replicas: int, seconds: float) -> str:
    """What is wrong with a master; empty if nothing is."""
    try:
        with _probe(settings, seconds) as probe:
            probe.set(key, "check", px=10_000)
            confirmed = probe.wait(replicas, int(1000 * seconds)) if replicas else 0
    except (redis.ConnectionError, redis.TimeoutError):
        return NO_ANSWER
    except redis.ResponseError:
        return REFUSED
    return MISSING if confirmed < replicas else ""


def _probe(settings: dict[str, Any], seconds: float) -> redis.Redis:
    """A client with one connection, made now, that does not wait for long and asks once."""
    where: dict[str, Any] = {name: settings.get(name) for name in ("host", "port", "username", "password")}
    return redis.Redis(
        **where,
        socket_timeout=1.5 * seconds,
        socket_connect_timeout=seconds,
        retry=Retry(NoBackoff(), 0),
        single_connection_client=True,
    )
