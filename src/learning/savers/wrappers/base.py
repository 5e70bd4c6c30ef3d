"""What wrappers have in common: each is a saver around savers, and changes what it has to in one method.

A wrapper handles a call as a program (see `learning.savers.program`): it yields calls of the savers inside, or a pause,
and is sent what they return. So it works the same for the sync and the async methods, around any saver there is.
"""

import asyncio
import copy
import time
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from typing import Any, Self

from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple

from ..names import configured
from ..program import Program, arun, run


@dataclass(frozen=True)
class Call:
    """A call of a method of a saver; of the async twin, where everything is awaited."""

    saver: BaseCheckpointSaver
    method: str
    arguments: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def perform(self) -> Any:
        """What the method returns."""
        return getattr(self.saver, self.method)(*self.arguments, **self.options)

    async def aperform(self) -> Any:
        """The same, awaited."""
        return await getattr(self.saver, f"a{self.method}")(*self.arguments, **self.options)


@dataclass(frozen=True)
class Pause:
    """Some time that passes before a program goes on."""

    seconds: float

    def perform(self) -> None:
        """Wait."""
        time.sleep(self.seconds)

    async def aperform(self) -> None:
        """The same, awaited."""
        await asyncio.sleep(self.seconds)


class Wrapper(BaseCheckpointSaver):
    """A saver that does as the one inside does."""

    def __init__(self, inner: BaseCheckpointSaver):
        super().__init__(serde=inner.serde)
        self.inner = inner

    def handle(self, call: Call) -> Program[Any]:
        """What to do for a call, with `call.saver` the saver inside. This is for wrappers to change."""
        return (yield call)

    @property
    def savers(self) -> list[BaseCheckpointSaver]:
        """The savers inside."""
        return [self.inner]

    # --- sync and async -----------------------------------------------------------------------------------------------

    def _run(self, method: str, *arguments: Any, **options: Any) -> Any:
        return run(self.handle(Call(self.inner, method, arguments, options)), lambda step: step.perform())

    async def _arun(self, method: str, *arguments: Any, **options: Any) -> Any:
        return await arun(self.handle(Call(self.inner, method, arguments, options)), lambda step: step.aperform())

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        """As `BaseCheckpointSaver.put`."""
        return self._run("put", config, checkpoint, metadata, new_versions)

    async def aput(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        """As `BaseCheckpointSaver.aput`."""
        return await self._arun("put", config, checkpoint, metadata, new_versions)

    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        """As `BaseCheckpointSaver.put_writes`."""
        self._run("put_writes", config, writes, task_id, task_path)

    async def aput_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        """As `BaseCheckpointSaver.aput_writes`."""
        await self._arun("put_writes", config, writes, task_id, task_path)

    def get_tuple(self, config: Any) -> CheckpointTuple | None:
        """As `BaseCheckpointSaver.get_tuple`."""
        return self._run("get_tuple", config)

    async def aget_tuple(self, config: Any) -> CheckpointTuple | None:
        """As `BaseCheckpointSaver.aget_tuple`."""
        return await self._arun("get_tuple", config)

    def list(
        self, config: Any, *, filter: Any = None, before: Any = None, limit: int | None = None
    ) -> Iterator[CheckpointTuple]:
        """As `BaseCheckpointSaver.list`."""
        yield from self.inner.list(config, filter=filter, before=before, limit=limit)

    async def alist(
        self, config: Any, *, filter: Any = None, before: Any = None, limit: int | None = None
    ) -> AsyncIterator[CheckpointTuple]:
        """As `BaseCheckpointSaver.alist`."""
        async for found in self.inner.alist(config, filter=filter, before=before, limit=limit):
            yield found

    def delete_thread(self, thread_id: str) -> None:
        """As `BaseCheckpointSaver.delete_thread`."""
        self._run("delete_thread", thread_id)

    async def adelete_thread(self, thread_id: str) -> None:
        """As `BaseCheckpointSaver.adelete_thread`."""
        await self._arun("delete_thread", thread_id)

    def delete_for_runs(self, run_ids: Any) -> None:
        """As `BaseCheckpointSaver.delete_for_runs`."""
        self._run("delete_for_runs", run_ids)

    async def adelete_for_runs(self, run_ids: Any) -> None:
        """As `BaseCheckpointSaver.adelete_for_runs`."""
        await self._arun("delete_for_runs", run_ids)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """As `BaseCheckpointSaver.copy_thread`."""
        self._run("copy_thread", source_thread_id, target_thread_id)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """As `BaseCheckpointSaver.acopy_thread`."""
        await self._arun("copy_thread", source_thread_id, target_thread_id)

    def prune(self, thread_ids: Any, *, strategy: str = "keep_latest") -> None:
        """As `BaseCheckpointSaver.prune`."""
        self._run("prune", thread_ids, strategy=strategy)

    async def aprune(self, thread_ids: Any, *, strategy: str = "keep_latest") -> None:
        """As `BaseCheckpointSaver.aprune`."""
        await self._arun("prune", thread_ids, strategy=strategy)

    def retain(self, thread_id: str, **options: Any) -> int:
        """As `Saver.retain`."""
        return self._run("retain", thread_id, **options)

    async def aretain(self, thread_id: str, **options: Any) -> int:
        """As `Saver.aretain`."""
        return await self._arun("retain", thread_id, **options)

    def get_delta_channel_history(self, *, config: Any, channels: Any) -> Any:
        """As `BaseCheckpointSaver.get_delta_channel_history`."""
        return self._run("get_delta_channel_history", config=config, channels=channels)

    async def aget_delta_channel_history(self, *, config: Any, channels: Any) -> Any:
        """As `BaseCheckpointSaver.aget_delta_channel_history`."""
        return await self._arun("get_delta_channel_history", config=config, channels=channels)

    def get_next_version(self, current: Any, channel: Any) -> Any:
        """As the saver inside gives it."""
        return self.inner.get_next_version(current, channel)

    def with_allowlist(self, extra_allowlist: Collection[Any]) -> Self:
        """This wrapper, around a saver with more classes allowed in the state."""
        clone = copy.copy(self)
        clone.inner = self.inner.with_allowlist(extra_allowlist)
        clone.serde = clone.inner.serde
        return clone

    # --- savers inside that have to be set up and closed --------------------------------------------------------------

    def setup(self) -> None:
        """Set up the savers inside."""
        for saver in self.savers:
            if hasattr(saver, "setup"):
                saver.setup()

    def close(self) -> None:
        """Close the savers inside."""
        for saver in self.savers:
            if hasattr(saver, "close"):
                saver.close()

    # --- as a context manager -----------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for saver in self.savers:
                if isinstance(saver, AbstractContextManager):
                    stack.enter_context(saver)
            self._entered = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._entered.__exit__(*error)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for saver in self.savers:
                if isinstance(saver, AbstractAsyncContextManager):
                    await stack.enter_async_context(saver)
            self._aentered = stack.pop_all()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._aentered.__aexit__(*error)


def thread_of(call: Call) -> str:
    """The thread that a put or a get is about."""
    return configured(call.options["config"] if "config" in call.options else call.arguments[0])[0]


def threads_of(call: Call) -> list[str] | None:
    """The threads that a call may change; None for all there are."""
    match call.method:
        case "put" | "put_writes":
            return [thread_of(call)]
        case "delete_thread" | "retain":
            return [str(call.arguments[0])]
        case "copy_thread":
            return [str(call.arguments[1])]
        case "prune":
            return [str(each) for each in call.arguments[0]]
        case "delete_for_runs":
            return None
    return []
