"""Programs: what to do, apart from how to wait for it.

A program is a generator. It yields requests, and is sent the answers; an error that a request ends with is raised where
it was yielded. `run` performs the requests one after the other, `arun` awaits them. (The pattern is known as sans-I/O.)
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import suppress
from typing import Any, TypeVar

Result = TypeVar("Result")
Program = Generator[Any, Any, Result]


def run(program: Program[Result], perform: Callable[[Any], Any]) -> Result:
    """The result of a program whose requests `perform` performs."""
    answer: Any = None
    failed: BaseException | None = None
    while True:
        try:
            request = program.throw(failed) if failed else program.send(answer)
        except StopIteration as done:
            return done.value
        answer = failed = None
        try:
            answer = perform(request)
        except BaseException as error:
            failed = error


async def arun(program: Program[Result], perform: Callable[[Any], Awaitable[Any]]) -> Result:
    """The result of a program whose requests `perform` awaits."""
    answer: Any = None
    failed: BaseException | None = None
    while True:
        try:
            request = program.throw(failed) if failed else program.send(answer)
        except StopIteration as done:
            return done.value
        answer = failed = None
        try:
            answer = await perform(request)
        except BaseException as error:
            failed = error


async def in_thread(function: Callable[..., Result], *arguments: Any) -> Result:
    """The result of a function that waits, called in a thread. Cancelled or not, this does not end before it has."""
    call = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        while not call.done():
            with suppress(asyncio.CancelledError):  # once more
                await asyncio.wait([call])
        raise


def pauses() -> Iterator[float]:
    """How many seconds to wait before each further attempt: longer each time, and at random, so that callers spread."""
    bound = 0.02
    while True:
        yield random.uniform(0, bound)
        bound = min(2 * bound, 0.5)
