"""Two savers as one: a fast one to read from, and a safe one that has everything."""

import logging
import threading
from typing import Any, Self

from langgraph.checkpoint.base import BaseCheckpointSaver

from ..program import Program
from .base import Call, Wrapper, thread_of, threads_of

logger = logging.getLogger(__name__)


class TieredSaver(Wrapper):
    """Writes to the cold saver, then to the hot one; reads from the hot one, else from the cold one.

    What is acknowledged is in the cold one. The hot one may lose what it likes, a whole thread at a time: let its
    threads end by themselves (`ttl`), and it is a cache that many processes share. Where it fails, it is not read for a
    thread until it has deleted what it has of it: this process reads no stale copy. (Another one may, until the hot
    saver's `ttl` ends.) Listings and deltas come from the cold one, which has them whole.
    """

    def __init__(self, hot: BaseCheckpointSaver, cold: BaseCheckpointSaver):
        super().__init__(cold)
        self.hot = hot
        self._distrusted: set[str] = set()
        self._lock = threading.Lock()
        self.hits = 0
        self.misses = 0

    @property
    def savers(self) -> list[BaseCheckpointSaver]:
        """The savers inside."""
        return [self.hot, self.inner]

    def with_allowlist(self, extra_allowlist: Any) -> Self:
        """This wrapper, around savers with more classes allowed in the state."""
        clone = super().with_allowlist(extra_allowlist)
        clone.hot = self.hot.with_allowlist(extra_allowlist)
        return clone

    def handle(self, call: Call) -> Program[Any]:
        """Read from the hot saver first, write to the cold one first."""
        match call.method:
            case "get_tuple":
                return (yield from self._get(call))
            case "put" | "put_writes":
                try:
                    result = yield call
                except BaseException as error:  # it may have been stored, or the thread is not as the hot saver has it
                    self._distrust(thread_of(call), error)
                    raise
                yield from self._also_hot(call)
                return result
            case "get_delta_channel_history":
                return (yield call)
            case "delete_for_runs":
                result = yield call
                yield Call(self.hot, call.method, call.arguments)  # it may be called again, if this fails
                return result
        try:
            return (yield call)
        finally:
            for thread_id in threads_of(call) or []:
                yield from self._drop_hot(thread_id, late=call.method != "delete_thread")

    def _get(self, call: Call) -> Program[Any]:
        thread_id = thread_of(call)
        found = None
        if (yield from self._trusted(thread_id)):
            try:
                found = yield Call(self.hot, "get_tuple", call.arguments)
            except Exception as error:
                self._distrust(thread_id, error)
        if found is not None:
            self.hits += 1
            return found
        self.misses += 1
        found = yield call
        newest = not call.arguments[0]["configurable"].get("checkpoint_id")
        if found is not None and newest and not found.pending_writes:  # whose paths a get does not tell
            yield from self._warm(found)
        return found

    def _warm(self, found: Any) -> Program[None]:
        """Give the hot saver the newest checkpoint of a thread."""
        named = found.config["configurable"]
        parent = found.parent_config or {"configurable": {**named, "checkpoint_id": None}}
        versions = found.checkpoint["channel_versions"]
        yield from self._also_hot(Call(self.hot, "put", (parent, found.checkpoint, found.metadata, versions)))

    def _also_hot(self, call: Call) -> Program[None]:
        thread_id = thread_of(call)
        if not (yield from self._trusted(thread_id)):
            return
        try:
            yield Call(self.hot, call.method, call.arguments, call.options)
        except BaseException as error:
            self._distrust(thread_id, error)
            if not isinstance(error, Exception):
                raise

    def _trusted(self, thread_id: str) -> Program[bool]:
        """Whether the hot saver may be read for a thread: at once, or after it has deleted what it has of it."""
        if thread_id in self._distrusted:
            yield from self._drop_hot(thread_id)
        return thread_id not in self._distrusted

    def _drop_hot(self, thread_id: str, *, late: bool = True) -> Program[None]:
        """Have the hot saver delete a thread. `late`: what was on its way there may still be stored."""
        try:
            if late:
                try:
                    yield Call(self.hot, "prune", ([thread_id],), {"strategy": "delete"})
                except NotImplementedError:
                    late = False
            if not late:
                yield Call(self.hot, "delete_thread", (thread_id,))
        except Exception as error:
            self._distrust(thread_id, error)
        else:
            with self._lock:
                self._distrusted.discard(thread_id)

    def _distrust(self, thread_id: str, error: BaseException) -> None:
        logger.warning("The hot saver is not read for thread %r before it has deleted it: %r", thread_id, error)
        with self._lock:
            self._distrusted.add(thread_id)
