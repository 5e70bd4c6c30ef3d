"""S3 throttles, fails, hangs and cuts off while agents talk: nothing acknowledged is lost or there twice."""

import socket
from collections.abc import Iterator
from uuid import uuid4

import pytest
from langgraph.checkpoint.base.id import uuid6

from learning.faults.s3_proxy import PASSING, Proxy, proxied
from learning.savers import SaverError, Unavailable, open_saver
from learning.savers.engines import s3 as engine

from ..contract.cases import config, ids, put, values
from .harness import talking, wait_until

KINDS = ("GET", "PUT", "LIST", "POST")


@pytest.fixture
def url(s3, monkeypatch) -> str:
    """A place of its own in the bucket, where threads have segments after few turns."""
    monkeypatch.setattr(engine, "LOG", 4096)
    return s3.url.replace("?", f"/{uuid4().hex}?")


@pytest.fixture
def proxy(s3) -> Iterator[Proxy]:
    with proxied(s3.environment["S3_ENDPOINT_URL"]) as proxy:
        yield proxy


@pytest.mark.parametrize("said", [b"", b"\r\n", b"what is this\r\n\r\n"], ids=["nothing", "a line", "nonsense"])
def test_who_connects_and_asks_for_nothing_disturbs_nobody(url: str, proxy: Proxy, said: bytes):
    proxy.faults[:] = [("PUT", "500")]
    with socket.create_connection(proxy.server_address) as visitor:
        visitor.sendall(said)
        visitor.shutdown(socket.SHUT_WR)
        while visitor.recv(1000):
            pass
    assert (proxy.seen, proxy.faults) == ({}, [("PUT", "500")])
    with open_saver(url, endpoint=proxy.url) as saver:
        assert values(saver, put(saver, config(), {"a": 1})) == {"a": 1}


@pytest.mark.parametrize("fault", PASSING)
def test_faults_that_pass_lose_nothing_and_are_not_noticed(url: str, proxy: Proxy, fault: str):
    with open_saver(url, endpoint=proxy.url) as saver, talking(saver) as (talks, recorded):
        for _ in range(20):
            talks.until(3)
            proxy.faults[:] = [(kind, fault) for kind in KINDS]
    assert talks.errors == []
    with open_saver(url, endpoint=proxy.url) as other:
        proxy.faults[:] = [("GET", fault)] * 5
        recorded.verify(other)


def test_two_savers_whose_agents_share_threads_lose_nothing_whatever_happens_to_their_requests(url: str, proxy: Proxy):
    with (
        open_saver(url, endpoint=proxy.url) as one,
        open_saver(url, endpoint=proxy.url) as other,
        talking(one, agents=2) as (talks, recorded),
        talking(other, agents=2) as (others, another),
    ):
        for fault in PASSING * 3:
            talks.until(3)
            others.until(3)
            proxy.faults[:] = [(kind, fault) for kind in KINDS]
    assert talks.errors == others.errors == []
    with open_saver(url) as third:
        recorded.verify(third)
        another.verify(third)


@pytest.mark.parametrize("fault", ["503", "500 after", "cut after", "hang before", "hang after"])
def test_a_fault_that_lasts_is_told_as_one_after_which_a_retry_is_safe(url: str, proxy: Proxy, fault: str):
    with open_saver(url, endpoint=proxy.url, timeout=0.25) as saver, talking(saver) as (talks, recorded):
        talks.until(20)
        with proxy.lasting("PUT", fault):
            wait_until(lambda: len(talks.errors) >= 4)
        talks.until(20)
    assert {(type(error), error.retry_is_safe) for error in talks.errors} == {(Unavailable, True)}
    with open_saver(url) as other:
        recorded.verify(other)


@pytest.mark.parametrize("fault", ["500 after", "cut after", "hang after"])
def test_a_put_of_which_no_answer_came_through_may_be_made_again_and_is_there_once(url: str, proxy: Proxy, fault: str):
    with open_saver(url) as patient:
        where, new = put(patient, config(), {"a": 1}), str(uuid6())
    with open_saver(url, endpoint=proxy.url, timeout=0.5) as saver:
        with proxy.lasting("PUT", fault), pytest.raises(Unavailable):
            put(saver, where, {"a": 2}, {"a": 2}, id=new)
        put(saver, where, {"a": 2}, {"a": 2}, id=new)
    with open_saver(url) as other:
        assert ids(other.list(config())) == [new, where["configurable"]["checkpoint_id"]]
        assert values(other, config()) == {"a": 2}


def test_a_refusal_is_told_at_once_and_not_as_safe_to_repeat(url: str, proxy: Proxy):
    with open_saver(url, endpoint=proxy.url) as saver, talking(saver) as (talks, recorded):
        talks.until(20)
        with proxy.lasting("PUT", "403"):
            wait_until(lambda: len(talks.errors) == 4)
    assert {(type(error), error.retry_is_safe) for error in talks.errors} == {(SaverError, False)}
    assert all("AccessDenied" in str(error) for error in talks.errors)
    with open_saver(url) as other:
        recorded.verify(other)
