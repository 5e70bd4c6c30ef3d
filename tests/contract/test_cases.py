"""Every case of `cases` and `extended` holds for every engine, through the sync and through the async methods."""

import asyncio
from typing import Any

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver

from . import extended
from .cases import CASES


class Async(BaseCheckpointSaver):
    """A saver whose sync methods run the async ones, in one event loop."""

    def __init__(self, inner: BaseCheckpointSaver, runner: asyncio.Runner):
        super().__init__(serde=inner.serde)
        self._inner = inner
        self._runner = runner

    def list(self, *args: Any, **options: Any) -> Any:
        async def listed() -> list:
            return [each async for each in self._inner.alist(*args, **options)]

        return self._runner.run(listed())

    def get_next_version(self, *args: Any) -> Any:
        return self._inner.get_next_version(*args)


def _awaited(name: str) -> Any:
    def method(self: Async, *args: Any, **options: Any) -> Any:
        return self._runner.run(getattr(self._inner, name)(*args, **options))

    return method


for _name in (
    "put",
    "put_writes",
    "get_tuple",
    "delete_thread",
    "delete_for_runs",
    "copy_thread",
    "prune",
    "retain",
    "get_delta_channel_history",
):
    setattr(Async, _name, _awaited(f"a{_name}"))


@pytest.mark.parametrize("through", ["sync", "async"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_case_holds(storage, case, through: str):
    saver = storage.open()
    if through == "sync":
        case(saver)
    else:
        with asyncio.Runner() as runner:
            try:
                case(Async(saver, runner))
            finally:
                runner.run(saver.aclose())


@pytest.mark.parametrize("case", extended.CASES, ids=lambda case: case.__name__)
def test_an_extended_case_holds(storage, case):
    case(storage)
