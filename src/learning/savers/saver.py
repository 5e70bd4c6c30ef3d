"""The saver: LangGraph's interface, where each method runs a program of the core on an engine."""

import copy
import random
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)

from .codec import Codec
from .core import Core
from .errors import InvalidRequest
from .program import arun, run
from .records import Request
from .seal import Sealer
from .serde import ExactSerializer


class Engine(Protocol):
    """A storage: it performs the requests of `records`, and waits or awaits."""

    def perform(self, request: Request) -> Any:
        """The answer to a request."""

    async def aperform(self, request: Request) -> Any:
        """The answer to a request."""

    def setup(self) -> None:
        """Make what the engine needs before its first request. Any number of callers may do so, at the same time."""

    async def asetup(self) -> None:
        """The same."""

    def close(self) -> None:
        """Let go of connections and files."""

    async def aclose(self) -> None:
        """The same."""


class Saver(BaseCheckpointSaver[str]):
    """A checkpointer for LangGraph on any engine.

    Args:
        engine: where records are stored.
        allow: classes of yours that may be in the state; see `ExactSerializer`.
        keys: AES keys of 32 bytes to encrypt with; see `Sealer`.
        tenant: whose threads these are. Those of another tenant cannot be read, listed or changed, whatever their name.
        ttl: how long a thread lives after its last write, if not for ever.
        fencing: refuse a checkpoint that does not follow the newest of its thread (`Conflict`): for two workers that
            may run one thread. An `update_state` may still start from an older one.

    It may be used by any number of threads and tasks at once. As a context manager, sync or async, it sets itself up
    and closes itself.
    """

    serde: ExactSerializer

    def __init__(
        self,
        engine: Engine,
        *,
        allow: Iterable[type | tuple[str, ...]] | Literal[True] = (),
        keys: Sequence[bytes] = (),
        tenant: str = "",
        ttl: timedelta | None = None,
        fencing: bool = False,
    ):
        if ttl is not None and (not isinstance(ttl, timedelta) or ttl <= timedelta()):
            raise InvalidRequest(f"ttl is a timedelta of more than nothing, such as timedelta(days=7), not {ttl!r}.")
        if not isinstance(tenant, str):
            raise InvalidRequest(f"tenant is a string, not {tenant!r}.")
        super().__init__(serde=ExactSerializer(allow))
        self.engine = engine
        seconds = ttl.total_seconds() if ttl else None
        self._core = Core(Codec(self.serde, Sealer(keys)), tenant=tenant, fencing=fencing, seconds=seconds)

    # --- sync ---------------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Make the tables, folders or buckets that are missing. It may be called again, and by many at once."""
        self.engine.setup()

    def close(self) -> None:
        """Let go of connections and files."""
        self.engine.close()

    def __enter__(self) -> Self:
        self.setup()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint, and return the config that names it."""
        return run(self._core.put(config, checkpoint, metadata, new_versions), self.engine.perform)

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store what a task wrote after a checkpoint."""
        run(self._core.put_writes(config, writes, task_id, task_path), self.engine.perform)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that a config names, or the newest of its thread and namespace, or None."""
        return run(self._core.get_tuple(config), self.engine.perform)

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """The checkpoints of a thread, or of all, newest first, read in pages as they are asked for."""
        for page in self._core.pages(config, filter, before, limit):
            yield from run(page, self.engine.perform)

    def delete_thread(self, thread_id: str) -> None:
        """Remove a thread. What was on its way to it is refused (`ThreadDeleted`)."""
        run(self._core.delete_thread(thread_id), self.engine.perform)

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove what these runs stored."""
        run(self._core.delete_for_runs(run_ids), self.engine.perform)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all checkpoints of a thread to another."""
        run(self._core.copy_thread(source_thread_id, target_thread_id), self.engine.perform)

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Remove all checkpoints of threads but the newest ("keep_latest"), or all ("delete")."""
        run(self._core.prune(thread_ids, strategy=strategy), self.engine.perform)

    def retain(
        self, thread_id: str, *, newest: int = 1, younger_than: timedelta | None = None, dry_run: bool = False
    ) -> int:
        """Keep in each namespace the newest checkpoints and the young ones; return how many went, or would go."""
        return run(
            self._core.retain(thread_id, newest=newest, younger_than=younger_than, dry_run=dry_run), self.engine.perform
        )

    def sweep(self) -> int:
        """Make room: remove the threads whose time is up (`ttl`), of all tenants, and return how many."""
        return run(self._core.sweep(), self.engine.perform)

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """What the ancestors of a checkpoint wrote to channels, back to a stored value."""
        return run(self._core.get_delta_channel_history(config=config, channels=channels), self.engine.perform)

    # --- async --------------------------------------------------------------------------------------------------------

    async def asetup(self) -> None:
        """The same, awaited."""
        await self.engine.asetup()

    async def aclose(self) -> None:
        """The same, awaited."""
        await self.engine.aclose()

    async def __aenter__(self) -> Self:
        await self.asetup()
        return self

    async def __aexit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """The same, awaited."""
        return await arun(self._core.put(config, checkpoint, metadata, new_versions), self.engine.aperform)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """The same, awaited."""
        await arun(self._core.put_writes(config, writes, task_id, task_path), self.engine.aperform)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The same, awaited."""
        return await arun(self._core.get_tuple(config), self.engine.aperform)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """The same, awaited."""
        for page in self._core.pages(config, filter, before, limit):
            for found in await arun(page, self.engine.aperform):
                yield found

    async def adelete_thread(self, thread_id: str) -> None:
        """The same, awaited."""
        await arun(self._core.delete_thread(thread_id), self.engine.aperform)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """The same, awaited."""
        await arun(self._core.delete_for_runs(run_ids), self.engine.aperform)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """The same, awaited."""
        await arun(self._core.copy_thread(source_thread_id, target_thread_id), self.engine.aperform)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """The same, awaited."""
        await arun(self._core.prune(thread_ids, strategy=strategy), self.engine.aperform)

    async def aretain(
        self, thread_id: str, *, newest: int = 1, younger_than: timedelta | None = None, dry_run: bool = False
    ) -> int:
        """The same, awaited."""
        return await arun(
            self._core.retain(thread_id, newest=newest, younger_than=younger_than, dry_run=dry_run),
            self.engine.aperform,
        )

    async def asweep(self) -> int:
        """The same, awaited."""
        return await arun(self._core.sweep(), self.engine.aperform)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """The same, awaited."""
        return await arun(self._core.get_delta_channel_history(config=config, channels=channels), self.engine.aperform)

    # --- both ---------------------------------------------------------------------------------------------------------

    def get_next_version(self, current: str | None, channel: None) -> str:
        """The version after `current`: greater than it, and unlike that of another branch."""
        number = 0 if current is None else current if isinstance(current, int) else int(str(current).split(".")[0])
        return f"{number + 1:032}.{random.getrandbits(24):06x}"

    def with_allowlist(self, extra_allowlist: Collection[tuple[str, ...] | type]) -> "Saver":
        """This saver, with more classes allowed in the state."""
        clone = copy.copy(self)
        clone.serde = self.serde.allowing(extra_allowlist)
        clone._core = self._core.reading(clone.serde)
        return clone
