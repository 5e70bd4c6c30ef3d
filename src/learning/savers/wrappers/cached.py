"""A cache of checkpoints in this process, for where they are read more often than they are written."""

import threading
from collections import OrderedDict
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple

from ..program import Program
from .base import Call, Wrapper, thread_of, threads_of

MOST_CHANGES = 10_000
"""Of how many threads it is counted how often they have changed."""


class CachedSaver(Wrapper):
    """Remembers the checkpoints that were read last, and forgets those of a thread when it changes.

    It sees the changes that go through it. So it is for a thread that one process writes to, as an agent's worker does;
    what another process writes is seen when this one has forgotten the thread.

    Args:
        max_checkpoints: how many are remembered.
    """

    def __init__(self, inner: BaseCheckpointSaver, *, max_checkpoints: int = 1000):
        super().__init__(inner)
        self._max_checkpoints = max_checkpoints
        self._found: OrderedDict[tuple[str, str, str], tuple[str, bytes]] = OrderedDict()
        self._changes: dict[str, int] = {}
        self._lock = threading.Lock()
        self.hits = 0
        self.misses = 0

    def handle(self, call: Call) -> Program[Any]:
        """Answer a get from memory if possible; forget what another call changes, before it does and after."""
        if call.method != "get_tuple":
            self._forget(threads_of(call))
            try:
                return (yield call)
            finally:
                self._forget(threads_of(call))
        thread_id = thread_of(call)
        named = call.arguments[0]["configurable"]
        key = thread_id, named.get("checkpoint_ns") or "", named.get("checkpoint_id") or ""
        with self._lock:
            stored = self._found.get(key)
            change = self._change(thread_id)
            if stored is not None:
                self._found.move_to_end(key)
                self.hits += 1
                return CheckpointTuple(*self.serde.loads_typed(stored))
            self.misses += 1
        result = yield call
        if result is not None:  # as bytes, so that nobody changes what is remembered
            stored = self.serde.dumps_typed(list(result))
            with self._lock:
                if self._change(thread_id) == change:  # nothing has been written since it was read
                    self._found[key] = stored
                    while len(self._found) > self._max_checkpoints:
                        self._found.popitem(last=False)
        return result

    def _change(self, thread_id: str) -> tuple[int, int]:
        return self._changes.get(thread_id, 0), self._changes.get("", 0)

    def _forget(self, thread_ids: list[str] | None) -> None:
        with self._lock:
            for thread_id in [""] if thread_ids is None else thread_ids:
                self._changes[thread_id] = self._changes.get(thread_id, 0) + 1
            if len(self._changes) > MOST_CHANGES:  # as if all threads had changed once more
                self._changes = {"": self._changes.get("", 0) + 1}
            for key in [key for key in self._found if thread_ids is None or key[0] in thread_ids]:
                del self._found[key]
