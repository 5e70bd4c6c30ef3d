"""What the test of lesson 4's S3 stands on: a bucket behind a proxy that breaks requests, and watched clients."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from botocore.config import Config

from learning import services
from learning.faults.s3_proxy import Proxy, proxied
from learning.services.s3_server import keys

from .scenarios import thread

PATIENT = Config(retries={"total_max_attempts": 1}, connect_timeout=20, read_timeout=20)
"""A client that makes each request once."""

HASTY = PATIENT.merge(Config(read_timeout=0.3))
"""The same, which does not wait for long."""


TOLD = {
    "500": "the server said 500",
    "503": "the server said 503",
    "429": "the server said 429",
    "cut before": "the connection was cut before the server had done anything",
    "cut upload": "the connection was cut in the middle of the upload",
    "cut within": "the answer was cut in the middle",
    "cut after": "the server did it, and the connection was cut before the answer came",
    "500 after": "the server did it, and said 500",
    "hang before": "no answer came in time",
    "hang after": "the server did it, and no answer came in time",
}
"""The faults of `learning.faults.s3_proxy` in words."""


class Bucket:
    """A bucket of its own, behind a proxy that can do harm to requests; see `learning.faults.s3_proxy`.

    Attributes:
        client: a boto3 client that makes each request once.
        other: another one, to be watched.
        hasty: a third, which gives up after 0.3 seconds.
    """

    def __init__(self, server: services.S3, proxy: Proxy):
        self.name = f"lesson-{uuid4().hex}"
        self.proxy = proxy
        self.client, self.other, self.hasty = (
            server.client(endpoint_url=proxy.url, config=config) for config in (PATIENT, PATIENT, HASTY)
        )
        self.client.create_bucket(Bucket=self.name)

    def requests(self, *kinds: str) -> int:
        """How many requests of these kinds have come."""
        return sum(self.proxy.seen[kind] for kind in kinds)


@contextmanager
def bucket() -> Iterator[Bucket]:
    """A bucket as long as the block runs: on moto's server, which gives the same answers everywhere."""
    from moto.server import ThreadedMotoServer  # here, for it takes half a second that no other task has to wait

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it tells of every request
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    try:
        endpoint = "http://{}:{}".format(*moto.get_host_and_port())
        with proxied(endpoint, one_at_a_time=True) as proxy:  # moto looks at a condition, and then stores
            yield Bucket(services.S3({services.S3.variable: endpoint, **keys("shop", "secret")}), proxy)
    finally:
        moto.stop()


@contextmanager
def short_pages(client: Any, names: int) -> Iterator[None]:
    """Have a server give so few names a page, as it may, as long as the block runs."""

    def limit(params: dict[str, Any], **_: Any) -> None:
        params["MaxKeys"] = names

    events = [f"provide-client-params.s3.{operation}" for operation in ("ListObjectsV2", "ListObjects")]
    for event in events:
        client.meta.events.register(event, limit)
    try:
        yield
    finally:
        for event in events:
            client.meta.events.unregister(event, limit)


def before_first(client: Any, method: str, do: Callable[[], Any]) -> None:
    """Do something when a client is about to send its first request of a kind, such as PUT."""
    waiting = [do]

    def come_in(request: Any, **_: Any) -> None:
        if request.method == method and waiting:
            waiting.pop()()

    client.meta.events.register("before-send.s3", come_in)


def writes_of(saver: Any, customer: str) -> list[tuple[str, str, Any]]:
    """What tasks wrote after the newest checkpoint of a thread."""
    found = saver.get_tuple(thread(customer))
    return sorted((found and found.pending_writes) or [])
