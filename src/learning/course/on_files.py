"""What the test of lesson 4's files stands on: states to compare, kills and power cuts, and writers that meet."""

import errno
import itertools
import multiprocessing
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

from learning.faults.disk import Image, moments, restore

from .expect import Missed, unwritten
from .scenarios import a_checkpoint, shorten, thread

MOST_MOMENTS = 60
"""At how many moments of one write a process is killed at the most."""

PATIENCE = 0.15
"""Seconds that a writer is given to come in between. One that waits for a lock comes in after that."""

_FORK = multiprocessing.get_context("fork")


@contextmanager
def folder() -> Iterator[Path]:
    """A folder that is empty at first."""
    with TemporaryDirectory() as made:
        yield Path(made).resolve()


def names_of(cls: type) -> dict[str, Any]:
    """The names of the module that a learner's class is in."""
    return vars(cls)["__init__"].__globals__ if "__init__" in vars(cls) else {}


def newest(saver: Any, customer: str) -> Any:
    """The values of a thread's newest checkpoint, and what tasks wrote after it; None if there is no such thread."""
    found = saver.get_tuple(thread(customer))
    return found and (found.checkpoint["channel_values"], sorted(found.pending_writes or []))


def holds(cls: type, path: Path, customer: str, allowed: list[Any], idea: str) -> None:
    """See that a new saver on a folder finds one of the allowed states of a thread, as `newest` gives them.

    Raises:
        Missed: if it finds another, or raises an error.
    """
    expected = " or ".join(dict.fromkeys(_told(state) for state in allowed))
    try:
        came = newest(cls(path), customer)
    except Exception as error:
        if unwritten(error):
            raise
        raise Missed(expected=expected, came=f"{type(error).__name__}: {error}", idea=idea) from error
    if came not in allowed:
        raise Missed(expected=expected, came=_told(came), idea=idea)


def left_on_disk(cls: type, images: list[Image], scratch: Path, customer: str, allowed: list[Any], idea: str) -> None:
    """See what `holds` sees, for each image of what a power cut has left, restored below `scratch`."""
    for image in images:
        holds(cls, restore(image, Path(mkdtemp(dir=scratch))), customer, allowed, idea)


def _told(state: Any) -> str:
    """A state without what makes it long."""
    if state is None:
        return "no such thread"
    values, writes = state
    named = {name: value for name, value in values.items() if name != "letter"}
    return f"the state {shorten(named)}" + (f" with the writes {shorten(writes)}" if writes else "")


def letter(rng: random.Random, pages: int = 1) -> dict[str, Any]:
    """Values that take some sectors of a disk; with 0 pages so few that Python keeps them all until a flush."""
    return {"letter": rng.randbytes(600 + pages * rng.randint(2_000, 6_000)), "step": rng.randrange(10**6)}


def sizes_in(folder: Path) -> list[int]:
    """The sizes of all files in a folder."""
    return [path.stat().st_size for path in folder.rglob("*") if path.is_file()]


def damages(path: Path) -> Iterator[str]:
    """Change a file in each single bit, and cut it after each byte, one after the other; says what was done."""
    data = path.read_bytes()
    with open(path, "r+b", buffering=0) as file:  # not written anew: thousands of syncs take their time
        for place, bit in itertools.product(range(len(data)), range(8)):
            os.pwrite(file.fileno(), bytes([data[place] ^ 1 << bit]), place)
            yield f"changed in bit {bit} of byte {place} of {len(data)}"
            os.pwrite(file.fileno(), data[place : place + 1], place)
        for length in reversed(range(len(data))):
            file.truncate(length)
            yield f"cut after {length} of {len(data)} bytes"
        os.pwrite(file.fileno(), data, 0)


def noticed(ask: Callable[[], Any], right: Any, what: str, idea: str) -> None:
    """See that a question is answered rightly or with a ValueError.

    Raises:
        Missed: if there is another error, or another answer.
    """
    try:
        came = ask()
    except ValueError:
        return
    except Exception as error:
        if unwritten(error):
            raise
        came = f"{what}: {type(error).__name__}: {error}"
        raise Missed(expected="a ValueError", came=came, idea=idea) from error
    if came != right:
        came = f"{what} has {'nothing' if not came else shorten(came)}, and no error"
        raise Missed(expected="a ValueError", came=came, idea=idea)


def listed_in(saver: Any) -> list[str]:
    """The ids of all threads of a saver."""
    return sorted({found.config["configurable"]["thread_id"] for found in saver.list(None)})


@contextmanager
def fails_at(number: int, names: dict[str, Any]) -> Iterator[None]:
    """Have one call of the system, counted from 0, say that the disk is full; see `learning.faults.disk.moments`."""
    seen: list[str] = []

    def count(name: str, arguments: Any, done: bool) -> None:
        if not done:
            seen.append(name)
        if len(seen) == number + 1 and not done:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with moments(count, names):
        yield


def moments_of(work: Callable[[], Any], names: dict[str, Any]) -> int:
    """How many moments a piece of work has; see `learning.faults.disk.moments`."""
    seen: list[str] = []
    with moments(lambda name, *_: seen.append(name), names):
        work()
    return len(seen)


# --- two writers ------------------------------------------------------------------------------------------------------


def meeting(
    make: Callable[[], Any], customers: tuple[str, str], number: int, process: bool, names: dict[str, Any]
) -> list[tuple[Any, Any]]:
    """Have one writer put a checkpoint, another one put another in the middle of that, and the first go on at once.

    Args:
        make: makes a saver. Writers in two processes have one each, those in two threads share one.
        customers: the thread of each.
        number: the moment at which the other comes in; see `learning.faults.disk.moments`.
        process: whether the other is in a process of its own, else in a thread.

    Returns:
        The config and the values of each checkpoint that was put.
    """
    go = _FORK.Event()
    made = [a_checkpoint({"writer": writer, "moment": number}) for writer in ("one", "other", "one, again")]
    one = make()
    other = make() if process else one
    errors: list[Exception] = []

    def put_other() -> None:
        if go.wait(20):
            try:
                other.put(thread(customers[1]), *made[1])
            except Exception as error:
                errors.append(error)

    kind = _FORK.Process if process else threading.Thread
    meanwhile = kind(target=put_other, daemon=True)
    meanwhile.start()  # before the first has locked anything that a new process would have, too
    with _let_in(meanwhile, go, number, names):
        one.put(thread(customers[0]), *made[0])
    go.set()
    with _let_in(meanwhile, go, 0, names):  # who has waited may begin now, at the same time as this
        one.put(thread(customers[0]), *made[2])
    meanwhile.join(5)
    if meanwhile.is_alive():
        idea = "Another writer waits for ever: give the lock back when the change is stored, also after an error."
        raise Missed(expected="the other writer stores its checkpoint", came="it still waits", idea=idea)
    if errors:
        raise errors[0]
    return [
        (thread(customer, "", checkpoint["id"]), checkpoint["channel_values"])
        for customer, (checkpoint, *_) in zip((*customers, customers[0]), made, strict=True)
    ]


@contextmanager
def _let_in(meanwhile: Any, go: Any, number: int, names: dict[str, Any]) -> Iterator[None]:
    """Give another writer some time at one moment of what this thread does."""
    seen: list[str] = []

    def count(name: str, *_: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            seen.append(name)
            if len(seen) == number + 1:
                go.set()
                meanwhile.join(PATIENCE)

    with moments(count, names):
        yield


def all_there(saver: Any, stored: list[tuple[Any, Any]], who: str, idea: str) -> None:
    """See that these checkpoints are there, by their configs.

    Raises:
        Missed: if one is not.
    """
    for config, values in stored:
        found = saver.get_tuple(config)
        if found is None or found.checkpoint["channel_values"] != values:
            came = "nothing" if found is None else shorten(found.checkpoint["channel_values"])
            raise Missed(expected=f"{who}: the checkpoint {shorten(values)}", came=came, idea=idea)
