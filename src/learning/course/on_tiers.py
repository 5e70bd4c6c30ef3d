"""What the tests of lesson 4's wrappers stand on: savers in memory that fail, count and wait when they are told to."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver

METHODS = ("put", "put_writes", "get_tuple", "delete_thread")


class Gone(Exception):
    """The storage does not answer. Each storage has errors of its own: this one is nobody else's."""


class Tier(InMemorySaver):
    """A saver that counts what it is asked, and fails when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.reads: Counter[str] = Counter()
        """How often each thread was read."""
        self.before: Callable[[str], None] = lambda method: None
        """Called with the name of a method before it does anything."""
        self.gone = False
        """Whether it does not answer."""
        self.loses_answers = False
        """Whether it does as it is asked, and then seems not to answer."""
        self.reading = threading.Event()
        """Set when a read has begun."""
        self.may_read = threading.Event()
        """Cleared to have each read wait, after it has found what it will return."""
        self.may_read.set()
        self._counting = threading.Lock()

    def _answer(self, method: str, *arguments: Any) -> Any:
        with self._counting:
            self.calls[method] += 1
            if method == "get_tuple":
                self.reads[arguments[0]["configurable"]["thread_id"]] += 1
        self.before(method)
        if self.gone:
            raise Gone("the storage does not answer")
        result = getattr(InMemorySaver, method)(self, *arguments)
        if method == "get_tuple":
            self.reading.set()
            self.may_read.wait(30)
        if self.loses_answers:
            raise Gone("the answer of the storage was lost")
        return result

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        """As in memory."""
        return self._answer("put", config, checkpoint, metadata, new_versions)

    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        """As in memory."""
        self._answer("put_writes", config, writes, task_id, task_path)

    def get_tuple(self, config: Any) -> Any:
        """As in memory."""
        return self._answer("get_tuple", config)

    def delete_thread(self, thread_id: str) -> None:
        """As in memory."""
        self._answer("delete_thread", thread_id)

    def list(self, config: Any, **options: Any) -> Any:
        """As in memory."""
        with self._counting:
            self.calls["list"] += 1
        if self.gone:
            raise Gone("the storage does not answer")
        yield from super().list(config, **options)


@contextmanager
def held(tier: Tier) -> Iterator[None]:
    """Have no read of a saver return as long as the block runs."""
    tier.may_read.clear()
    try:
        yield
    finally:
        tier.may_read.set()


class Asking:
    """The same question, asked by several threads at the same time."""

    def __init__(self, count: int, ask: Callable[[], Any]):
        self._answers: list[Any] = []
        self._begun = threading.Semaphore(0)
        self._together = threading.Barrier(count)
        self._ask = ask
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(count)]
        for each in self._threads:
            each.start()

    def _run(self) -> None:
        self._together.wait()
        self._begun.release()
        try:
            self._answers.append(self._ask())
        except Exception as error:
            self._answers.append(f"{type(error).__name__}: {error}")

    def have_begun(self) -> None:
        """Come back when all are about to ask."""
        for _ in self._threads:
            self._begun.acquire(timeout=5)

    def wait(self, seconds: float) -> None:
        """Come back when all have their answers, or when the time is over."""
        deadline = time.monotonic() + seconds
        for each in self._threads:
            each.join(max(0, deadline - time.monotonic()))

    def answers(self) -> list[Any]:
        """What they got; of one who still waits after some seconds, "it still waits"."""
        self.wait(10)
        return self._answers + ["it still waits"] * sum(each.is_alive() for each in self._threads)


class Slow(InMemorySaver):
    """A saver whose `get_tuple`, and each step of whose `list`, takes this many seconds at the least."""

    def __init__(self, seconds: float):
        super().__init__()
        self.seconds = seconds

    def get_tuple(self, config: Any) -> Any:
        """As in memory, later."""
        time.sleep(self.seconds)
        return super().get_tuple(config)

    def list(self, config: Any, **options: Any) -> Any:
        """As in memory, later."""
        for found in super().list(config, **options):
            time.sleep(self.seconds)
            yield found


class OnlyAsync(InMemorySaver):
    """A saver whose sync methods are not to be called, as one that is made for asyncio alone."""

    async def aput(self, *arguments: Any, **options: Any) -> Any:
        """As in memory."""
        return InMemorySaver.put(self, *arguments, **options)

    async def aput_writes(self, *arguments: Any, **options: Any) -> None:
        """As in memory."""
        InMemorySaver.put_writes(self, *arguments, **options)

    async def aget_tuple(self, config: Any) -> Any:
        """As in memory."""
        return InMemorySaver.get_tuple(self, config)

    async def adelete_thread(self, thread_id: str) -> None:
        """As in memory."""
        InMemorySaver.delete_thread(self, thread_id)

    async def alist(self, config: Any, **options: Any) -> Any:
        """As in memory."""
        for found in InMemorySaver.list(self, config, **options):
            yield found

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("a sync method of a saver for asyncio was called")

    put = put_writes = get_tuple = delete_thread = list = _refuse


class Clock:
    """A clock that stands until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def samples(registry: Any) -> dict[tuple[str, ...], float]:
    """The values of a registry of Prometheus, by the sample's name and the values of its labels, by their names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if not sample.name.endswith("_created")
    }
