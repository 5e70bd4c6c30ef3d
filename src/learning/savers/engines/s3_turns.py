"""Writes to one thread that come at the same time are made as one."""

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from ..program import Program
from ..records import Request

NAME = 8
"""How many bytes the name of a writer has."""


class Turns:
    """Has writes to a thread wait for each other, within this process. Those that wait are made together.

    One of them leads: it makes its own and the others', and then lets the next one lead.
    """

    LEAD = object()

    def __init__(self) -> None:
        self._name = os.urandom(NAME)
        self._waiting: dict[bytes, deque[tuple[Request, Future]]] = {}
        """Who waits for a leader, for each thread that has one."""
        self._lock = threading.Lock()

    def take(
        self, thread: bytes, request: Request, write: Callable[[bytes, list[Request], bytes], Program[list[Any]]]
    ) -> Program[Any]:
        """The answer to a request, made with others by `write`."""
        turn: Future = Future()
        with self._lock:
            leads = thread not in self._waiting
            queue = self._waiting.setdefault(thread, deque())
            if not leads:
                queue.append((request, turn))
        if not leads:
            try:
                answer = yield turn
            except BaseException:
                if not turn.cancel() and not turn.exception() and turn.result() is self.LEAD:
                    self._pass_on(thread)
                raise
            if answer is not self.LEAD:
                return answer
        with self._lock:
            taken = list(queue)
            queue.clear()
        try:
            answer, *others = yield from write(thread, [request, *(each for each, _ in taken)], self._name)
            for (_, waiter), other in zip(taken, others, strict=True):
                if waiter.set_running_or_notify_cancel():
                    waiter.set_result(other)
            return answer
        except Exception as error:
            for _, waiter in taken:
                if waiter.set_running_or_notify_cancel():
                    waiter.set_exception(error)
            raise
        except BaseException:  # we were cancelled, and the others were not
            with self._lock:
                queue.extendleft(reversed(taken))
            raise
        finally:
            self._pass_on(thread)

    def _pass_on(self, thread: bytes) -> None:
        with self._lock:
            queue = self._waiting[thread]
            while queue:
                _, turn = queue.popleft()
                if turn.set_running_or_notify_cancel():
                    turn.set_result(self.LEAD)
                    return
            del self._waiting[thread]
