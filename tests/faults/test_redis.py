"""A cluster loses its masters while agents talk: with durability asked for, nothing acknowledged is lost."""

import pytest

from learning.savers import Unavailable, open_saver

from ..contract.cases import config, put, values
from .harness import talking


@pytest.fixture
def url(cluster) -> str:
    return cluster.url


@pytest.mark.parametrize("fault", ["killed", "paused"])
def test_a_master_that_is_lost_takes_nothing_acknowledged_with_it(cluster, url: str, fault: str):
    with open_saver(url, durable=1, timeout=2) as saver, talking(saver) as (talks, recorded):
        for _ in range(2):
            talks.until(20)
            master = cluster.masters[0]
            if fault == "killed":
                master.kill()
                talks.until(10)
                master.start()
            else:
                master.pause()
                talks.until(10)
                master.resume()
            cluster.heal()
    assert [error for error in talks.errors if not isinstance(error, Unavailable)] == []
    with open_saver(url) as other:
        recorded.verify(other)


def test_what_only_a_lost_master_had_was_not_acknowledged(cluster, url: str):
    with open_saver(url, durable=1, timeout=0.5) as saver:
        first = put(saver, config(), {"a": 1})
        master = next(node for node in cluster.masters if cluster.node_client(node).dbsize())
        (replica,) = cluster.replicas_of(master)
        cluster.cut_off(replica)
        with pytest.raises(Unavailable, match="0 of 1 replicas"):
            put(saver, first, {"a": 2}, {"a": 2})
        master.kill()
        replica.resume()
        cluster.wait_until_ready()
    with open_saver(url) as other:
        assert values(other, config()) == {"a": 1}


def test_an_order_of_durability_that_nobody_can_fill_is_an_error(cluster, url: str):
    with open_saver(url, durable=2, timeout=0.5) as saver, talking(saver, agents=1) as (talks, recorded):
        while not talks.errors:
            pass
    assert all(isinstance(error, Unavailable) for error in talks.errors)
    assert recorded.checkpoints == {}
