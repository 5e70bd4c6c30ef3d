"""What tests on servers stand on: a server to judge with, and answers that have to come in time."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from learning import services
from learning.services.server import S

from .expect import Missed, unwritten
from .plugin import unattempted
from .tasks import TASKS

Result = TypeVar("Result")


def attempted(task: str, *calls: Callable[[], Any]) -> None:
    """Skip a test where none of some first calls finds anything written yet: no server has to start to say so."""
    for call in calls:
        try:
            call()
        except Exception as error:  # whatever else is wrong, behaviours tell
            if unwritten(error):
                continue
        return
    pytest.skip(unattempted(TASKS[task], Path(TASKS[task].notebook)))


def own_server(kind: Callable[[], S]) -> S:
    """A server for one test alone, which may break it. Where there is none to be had, nothing can be judged."""
    try:
        return kind()
    except services.ServiceError as error:
        pytest.skip(f"there is no server to judge with: {error}")


def server(kind: Callable[[], S]) -> S:
    """The one server of a kind that this process uses, whole."""
    return own_server(lambda: services.keep(kind))


def in_time(seconds: float, what: str, idea: str, ask: Callable[[], Result]) -> Result:
    """The result of a call that has to come back in time.

    Raises:
        Missed: if it does not. The call goes on in a thread of its own.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def call() -> None:
        try:
            results.append(ask())
        except BaseException as error:
            errors.append(error)

    asking = threading.Thread(target=call, daemon=True)
    asking.start()
    asking.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise Missed(expected=f"{what} comes back within {seconds:g} seconds", came="it is still waiting", idea=idea)
    return results[0]


def until(condition: Callable[[], bool], seconds: float, idea: str, expected: str) -> None:
    """Wait until something is so; `expected` says what.

    Raises:
        Missed: if it is not so in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Missed(expected=expected, came=f"it is not so after {seconds:g} seconds more", idea=idea)
        time.sleep(0.02)
