"""A bound on how many threads there are: the one that was used longest ago goes."""

import logging
import threading
from collections import Counter, OrderedDict
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver

from ..errors import InvalidRequest
from ..program import Program
from .base import Call, Pause, Wrapper, thread_of

logger = logging.getLogger(__name__)


class LRUSaver(Wrapper):
    """Keeps the `max_threads` threads that were used last, and deletes the others.

    A put, a write and a get are a use; a listing is none. Threads that were there before the wrapper was made count
    from their first use on. No thread goes while it is used, and one that cannot be deleted is tried again later.
    """

    def __init__(self, inner: BaseCheckpointSaver, *, max_threads: int):
        super().__init__(inner)
        if max_threads < 1:
            raise InvalidRequest("An LRU saver keeps at least one thread.")
        self._max_threads = max_threads
        self._order: OrderedDict[str, None] = OrderedDict()
        self._under_way: Counter[str] = Counter()
        """How many calls use each thread now."""
        self._leaving: set[str] = set()
        self._lock = threading.Lock()

    def handle(self, call: Call) -> Program[Any]:
        """Do as asked, then delete what is too much."""
        used = _used(call)
        while not self._begin(used):
            yield Pause(0.01)
        result = None
        try:
            result = yield call
        finally:
            found = result is not None or call.method != "get_tuple"  # a put that failed may have been stored
            self._end(used, found)
        if call.method == "delete_thread":
            with self._lock:
                self._order.pop(str(call.arguments[0]), None)
        yield from self._make_room()
        return result

    def _make_room(self) -> Program[None]:
        while (victim := self._victim()) is not None:
            gone = False
            try:
                yield Call(self.inner, "delete_thread", (victim,))
                gone = True
            except Exception as error:
                logger.warning("Thread %r could not be deleted, and will be tried again: %r", victim, error)
                return
            finally:
                self._left(victim, gone)

    def _begin(self, thread_ids: list[str]) -> bool:
        """Whether the threads may be used: not while one of them is being deleted."""
        with self._lock:
            if not self._leaving.isdisjoint(thread_ids):
                return False
            self._under_way.update(thread_ids)
            return True

    def _end(self, thread_ids: list[str], found: bool) -> None:
        with self._lock:
            self._under_way -= Counter(thread_ids)
            for thread_id in thread_ids if found else ():
                self._order[thread_id] = None
                self._order.move_to_end(thread_id)

    def _victim(self) -> str | None:
        """The thread to delete: the one that was used longest ago, of those that nobody is using."""
        with self._lock:
            if len(self._order) <= self._max_threads:
                return None
            victim = next((thread_id for thread_id in self._order if thread_id not in self._under_way), None)
            if victim is not None:
                del self._order[victim]
                self._leaving.add(victim)
            return victim

    def _left(self, thread_id: str, gone: bool) -> None:
        with self._lock:
            self._leaving.discard(thread_id)
            if not gone:
                self._order[thread_id] = None
                self._order.move_to_end(thread_id, last=False)


def _used(call: Call) -> list[str]:
    """The threads that a call uses."""
    match call.method:
        case "put" | "put_writes" | "get_tuple":
            return [thread_of(call)]
        case "copy_thread":
            return [str(each) for each in call.arguments]
    return []
