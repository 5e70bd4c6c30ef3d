"""What the test of lesson 4's S3 stands on: a bucket behind a proxy that breaks requests, and watched clients."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from learning import services
from learning.faults.s3_proxy import Proxy, proxied

from .scenarios import thread

ONCE = Config(retries={"total_max_attempts": 1}, connect_timeout=1, read_timeout=0.4)
"""A client that makes each request once, and waits for less than half a second."""


class Bucket:
    """A bucket of its own, behind a proxy that can do harm to requests; see `learning.faults.s3_proxy`."""

    def __init__(self, server: services.S3, proxy: Proxy):
        self.name = f"lesson-{uuid4().hex}"
        self.proxy = proxy
        self._server = server
        self._direct = server.client()
        self._direct.create_bucket(Bucket=self.name)

    def client(self) -> Any:
        """A client that goes through the proxy, and does not try again by itself."""
        return self._server.client(endpoint_url=self.proxy.url, config=ONCE)

    def requests(self, *kinds: str) -> int:
        """How many requests of these kinds have come."""
        return sum(self.proxy.seen[kind] for kind in kinds)

    def remove(self) -> None:
        """Take it away, with all that is in it."""
        with suppress(BotoCoreError, ClientError):
            pages = self._direct.get_paginator("list_objects_v2").paginate(Bucket=self.name)
            for key in [found["Key"] for page in pages for found in page.get("Contents", [])]:
                self._direct.delete_object(Bucket=self.name, Key=key)
            self._direct.delete_bucket(Bucket=self.name)


@contextmanager
def bucket(server: services.S3) -> Iterator[Bucket]:
    """A bucket, as long as the block runs."""
    with proxied(server.environment["S3_ENDPOINT_URL"]) as proxy:
        made = Bucket(server, proxy)
        try:
            yield made
        finally:
            made.remove()


def short_pages(client: Any, names: int) -> None:
    """Have a server give so few names a page, as it may."""

    def limit(params: dict[str, Any], **_: Any) -> None:
        params["MaxKeys"] = names

    for operation in ("ListObjectsV2", "ListObjects"):
        client.meta.events.register(f"provide-client-params.s3.{operation}", limit)


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
