"""A bound on how many threads there are: the one that was used longest ago goes."""

import threading
from collections import OrderedDict
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver

from ..errors import InvalidRequest
from ..program import Program
from .base import Call, Wrapper, thread_of


class LRUSaver(Wrapper):
    """Keeps the `max_threads` threads that were used last, and deletes the others.

    A put, a write and a get are a use; a listing is none. Threads that were there before the wrapper was made count
    from their first use on.
    """

    def __init__(self, inner: BaseCheckpointSaver, *, max_threads: int):
        super().__init__(inner)
        if max_threads < 1:
            raise InvalidRequest("An LRU saver keeps at least one thread.")
        self._max_threads = max_threads
        self._order: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def handle(self, call: Call) -> Program[Any]:
        """Do as asked, then delete what is too much."""
        result = yield call
        match call.method:
            case "put" | "put_writes":
                self._use(thread_of(call))
            case "get_tuple" if result is not None:
                self._use(thread_of(call))
            case "copy_thread":
                self._use(str(call.arguments[1]))
            case "delete_thread":
                with self._lock:
                    self._order.pop(str(call.arguments[0]), None)
        while (victim := self._victim()) is not None:
            yield Call(self.inner, "delete_thread", (victim,))
        return result

    def _use(self, thread_id: str) -> None:
        with self._lock:
            self._order[thread_id] = None
            self._order.move_to_end(thread_id)

    def _victim(self) -> str | None:
        with self._lock:
            return self._order.popitem(last=False)[0] if len(self._order) > self._max_threads else None
