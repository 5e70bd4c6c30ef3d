"""Health and metrics of a Redis, on servers that are really broken."""

import pytest
from prometheus_client import CollectorRegistry

from learning.operations import RedisMetrics, redis_health


def test_a_redis_with_its_replica_is_healthy_and_leaves_nothing_for_ever(redis):
    assert redis_health(redis.client()) == {"status": "healthy", "reasons": []}
    assert [key for key in redis.client().scan_iter() if redis.client().ttl(key) == -1] == []


@pytest.mark.parametrize("fault", ["kill", "pause"])
def test_a_replica_that_does_not_confirm_is_missing(redis, fault: str):
    getattr(redis.replicas[0], fault)()
    assert redis_health(redis.client()) == {"status": "degraded", "reasons": ["replicas missing"]}
    assert redis_health(redis.client(), replicas=0)["status"] == "healthy"


def test_a_full_memory_refuses_writes(redis):
    redis.fill_memory()
    assert redis_health(redis.client()) == {"status": "degraded", "reasons": ["writes refused"]}


@pytest.mark.parametrize("fault", ["kill", "pause"])
def test_a_server_that_does_not_answer_is_down_whatever_the_client_would_wait_for(redis, fault: str):
    client = redis.client()
    getattr(redis.node, fault)()
    assert redis_health(client, seconds=0.3) == {"status": "down", "reasons": ["no answer"]}


def test_a_cluster_tells_which_of_its_masters_is_not_well(cluster):
    with cluster.client(socket_timeout=1) as client:
        assert redis_health(client) == {"status": "healthy", "reasons": []}
        first, second, third = cluster.masters
        cluster.fill_memory(first)
        cluster.replicas_of(second)[0].pause()
        third.pause()
        told = redis_health(client, seconds=0.3)
    assert told["status"] == "degraded"
    reasons = {
        int(address.rpartition(":")[2]): why for address, _, why in (each.rpartition(": ") for each in told["reasons"])
    }
    assert reasons == {first.port: "writes refused", second.port: "replicas missing", third.port: "no answer"}


def test_a_cluster_of_which_nobody_answers_is_down(cluster):
    with cluster.client(socket_timeout=1) as client:
        for node in cluster.nodes:
            node.pause()
        assert redis_health(client, seconds=0.2)["status"] == "down"


def test_metrics_are_what_each_server_tells(cluster):
    registry = CollectorRegistry()
    with cluster.client(socket_timeout=1) as client:
        registry.register(RedisMetrics(client, seconds=0.3))
        gone, *there = cluster.masters
        gone.pause()

        def metric(name: str, node) -> float | None:
            return registry.get_sample_value(name, {"server": f"127.0.0.1:{node.port}"})

        assert [metric("redis_up", node) for node in (gone, *there)] == [0, 1, 1]
        assert metric("redis_memory_used_bytes", gone) is None
        for node in there:
            before = metric("redis_commands_total", node)
            cluster.node_client(node).ping()
            assert metric("redis_commands_total", node) > before
            assert metric("redis_replicas", node) == 1
            assert metric("redis_evicted_keys_total", node) == 0
