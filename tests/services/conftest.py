"""One server of each kind for all tests of this folder. A test that needs more, or has to see it start, starts its own."""

import pytest

from learning import services


@pytest.fixture(scope="session")
def _redis():
    with services.redis(replicas=1) as server:
        yield server


@pytest.fixture(scope="session")
def _cluster():
    with services.redis_cluster(node_timeout=500) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def _postgres():
    with services.postgres(archive=True) as server:
        yield server


@pytest.fixture
def redis(_redis):
    """A Redis with a replica, whole again and empty."""
    _redis.heal()
    _redis.client().flushall()
    return _redis


@pytest.fixture
def cluster(_cluster):
    """A cluster of 3 masters and 3 replicas with a node timeout of 500 ms, whole again and empty."""
    _cluster.heal()
    with _cluster.client() as client:
        client.flushall()
    return _cluster


@pytest.fixture
def postgres(_postgres):
    """A PostgreSQL that archives, whole again."""
    _postgres.heal()
    return _postgres
