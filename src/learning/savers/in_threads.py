"""What a saver that is written sync needs for asyncio: each async method runs its sync one in a thread."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple


class InThreads(BaseCheckpointSaver):
    """A saver whose async methods do what its sync ones do: whoever overrides `get_tuple` has changed `aget_tuple`."""

    async def aput(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        """As `put`, in a thread of its own."""
        return await asyncio.to_thread(self.put, config, checkpoint, metadata, new_versions)

    async def aput_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        """As `put_writes`, in a thread of its own."""
        await asyncio.to_thread(self.put_writes, config, writes, task_id, task_path)

    async def aget_tuple(self, config: Any) -> CheckpointTuple | None:
        """As `get_tuple`, in a thread of its own."""
        return await asyncio.to_thread(self.get_tuple, config)

    async def alist(self, config: Any, **options: Any) -> AsyncIterator[CheckpointTuple]:
        """As `list`, in a thread of its own."""
        for found in await asyncio.to_thread(lambda: [*self.list(config, **options)]):
            yield found

    async def adelete_thread(self, thread_id: str) -> None:
        """As `delete_thread`, in a thread of its own."""
        await asyncio.to_thread(self.delete_thread, thread_id)
