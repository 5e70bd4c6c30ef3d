"""The official conformance suite, every case of every capability, through the async and through the sync methods."""

import asyncio
from typing import Any

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance import validate
from langgraph.checkpoint.conformance.initializer import RegisteredCheckpointer

CASES = 81
KEY = bytes(range(32))


class Sync(BaseCheckpointSaver):
    """A saver whose async methods call the sync ones: the official suite knows only those."""

    def __init__(self, inner: BaseCheckpointSaver):
        super().__init__(serde=inner.serde)
        self.inner = inner

    async def aput(self, *args: Any, **options: Any) -> Any:
        return self.inner.put(*args, **options)

    async def aput_writes(self, *args: Any, **options: Any) -> Any:
        return self.inner.put_writes(*args, **options)

    async def aget_tuple(self, *args: Any, **options: Any) -> Any:
        return self.inner.get_tuple(*args, **options)

    async def alist(self, *args: Any, **options: Any) -> Any:
        for found in self.inner.list(*args, **options):
            yield found

    async def adelete_thread(self, *args: Any, **options: Any) -> Any:
        return self.inner.delete_thread(*args, **options)

    async def adelete_for_runs(self, *args: Any, **options: Any) -> Any:
        return self.inner.delete_for_runs(*args, **options)

    async def acopy_thread(self, *args: Any, **options: Any) -> Any:
        return self.inner.copy_thread(*args, **options)

    async def aprune(self, *args: Any, **options: Any) -> Any:
        return self.inner.prune(*args, **options)


@pytest.mark.parametrize("through", [Sync, lambda saver: saver], ids=["sync", "async"])
@pytest.mark.parametrize(
    "options",
    [{}, {"keys": [KEY]}, {"tenant": "Acme", "fencing": False}],
    ids=["plain", "encrypted", "tenant"],
)
def test_every_case_of_the_official_suite_passes(storage, options: dict[str, Any], through):
    saver = through(storage.open(**options))

    async def one_saver():
        yield saver

    report = asyncio.run(validate(RegisteredCheckpointer("ours", one_saver)))

    failures = [failure for result in report.results.values() for failure in result.failures]
    assert failures == []
    assert report.passed_all()
    assert sum(result.tests_passed for result in report.results.values()) == CASES
