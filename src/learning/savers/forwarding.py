"""A saver that hands every call on to another one: to learn from, and to change a saver in one method.

The wrappers of `learning.savers.wrappers` await the async methods of the saver inside. This one is simpler: it runs its
sync methods in threads.
"""

import copy
from collections.abc import Iterator
from typing import Any, Self

from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple

from .in_threads import InThreads


class ForwardingSaver(InThreads):
    """A saver that does as `inner` does."""

    def __init__(self, inner: BaseCheckpointSaver):
        super().__init__(serde=inner.serde)
        self.inner = inner

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        """As `inner` puts."""
        return self.inner.put(config, checkpoint, metadata, new_versions)

    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        """As `inner` puts."""
        self.inner.put_writes(config, writes, task_id, task_path)

    def get_tuple(self, config: Any) -> CheckpointTuple | None:
        """As `inner` gets."""
        return self.inner.get_tuple(config)

    def list(self, config: Any, **options: Any) -> Iterator[CheckpointTuple]:
        """As `inner` lists; `options` are `filter`, `before` and `limit`."""
        yield from self.inner.list(config, **options)

    def delete_thread(self, thread_id: str) -> None:
        """As `inner` deletes."""
        self.inner.delete_thread(thread_id)

    def get_next_version(self, current: Any, channel: Any) -> Any:
        """As `inner` gives it: what is stored there has such versions."""
        return self.inner.get_next_version(current, channel)

    def with_allowlist(self, extra_allowlist: Any) -> Self:
        """This saver, around an `inner` with more classes allowed in the state."""
        clone = copy.copy(self)
        clone.inner = self.inner.with_allowlist(extra_allowlist)
        clone.serde = clone.inner.serde
        return clone
