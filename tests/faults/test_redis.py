"""A cluster loses its masters while agents talk: with durability asked for, nothing acknowledged is lost."""

import pytest

from learning.savers import Unavailable, open_saver

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


def test_an_order_of_durability_that_nobody_can_fill_is_an_error(cluster, url: str):
    with open_saver(url, durable=2, timeout=0.5) as saver, talking(saver, agents=1) as (talks, recorded):
        while not talks.errors:
            pass
    assert all(isinstance(error, Unavailable) for error in talks.errors)
    assert recorded.checkpoints == {}
