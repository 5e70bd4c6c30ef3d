"""Metrics of a saver, for Prometheus."""

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, Self

from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from ..program import Program
from .base import Call, Wrapper

BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class MonitoredSaver(Wrapper):
    """Counts and times the calls of the saver inside: how many, how long, how many under way, which errors.

    No label has a thread's id: there are as many time series as there are methods and kinds of errors.

    Args:
        name: tells savers apart, in the label `saver`.
        registry: where the metrics are registered; Prometheus' own unless said. Savers may share one.
    """

    def __init__(self, inner: BaseCheckpointSaver, *, name: str = "", registry: CollectorRegistry = REGISTRY):
        super().__init__(inner)
        self._name = name or type(inner).__name__
        self._seconds, self._errors, self._under_way = _metrics(registry)

    def handle(self, call: Call) -> Program[Any]:
        """Do as asked, and measure."""
        with _Watch(self, call.method):
            return (yield call)

    def list(self, *arguments: Any, **options: Any) -> Iterator[CheckpointTuple]:
        """As the saver inside lists; the time between two checkpoints is the caller's, and does not count."""
        listed = self.inner.list(*arguments, **options)
        with _Watch(self, "list") as watch:
            for found in listed:
                watch.pause()
                yield found
                watch.go_on()

    async def alist(self, *arguments: Any, **options: Any) -> AsyncIterator[CheckpointTuple]:
        """The same, awaited."""
        listed = self.inner.alist(*arguments, **options)
        with _Watch(self, "list") as watch:
            async for found in listed:
                watch.pause()
                yield found
                watch.go_on()


class _Watch:
    """Measures one call."""

    def __init__(self, saver: MonitoredSaver, method: str):
        self._saver = saver
        self._method = method
        self._seconds = 0.0
        self._under_way = saver._under_way.labels(saver._name, method)
        self._under_way.inc()
        self._since: float | None = time.perf_counter()

    def pause(self) -> None:
        if self._since is not None:
            self._seconds += time.perf_counter() - self._since
            self._since = None

    def go_on(self) -> None:
        self._since = time.perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind not in (None, GeneratorExit):  # a caller who has read enough of a listing is no error
            self._saver._errors.labels(self._saver._name, self._method, kind.__name__).inc()
        self.pause()
        self._under_way.dec()
        self._saver._seconds.labels(self._saver._name, self._method).observe(self._seconds)


_registered: dict[CollectorRegistry, tuple[Histogram, Counter, Gauge]] = {}


def _metrics(registry: CollectorRegistry) -> tuple[Histogram, Counter, Gauge]:
    if registry not in _registered:
        labels = ["saver", "method"]
        _registered[registry] = (
            Histogram("checkpointer_seconds", "Time of a call.", labels, buckets=BUCKETS, registry=registry),
            Counter("checkpointer_errors", "Calls that raised, by error.", [*labels, "error"], registry=registry),
            Gauge("checkpointer_under_way", "Calls that have not returned.", labels, registry=registry),
        )
    return _registered[registry]
