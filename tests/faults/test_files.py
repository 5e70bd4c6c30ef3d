"""Files while processes are killed, disks are full and others write: nothing acknowledged is lost, or there twice."""

import itertools
import multiprocessing
import random
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from learning.agent import build_agent
from learning.savers import StorageFull, open_saver

from ..contract.cases import config
from .harness import REQUESTS, Record, Recorded, small_disk, talking, wait_until

FORK = multiprocessing.get_context("fork")
"""A new process need not import anything, and its agent talks at once."""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return tmp_path.as_uri()


class Told:
    """A record that another process keeps: it is told of each acknowledgement, whatever may happen to this one."""

    def __init__(self, tell: Connection):
        self._tell, self._lock = tell, threading.Lock()

    def note(self, *noted: object) -> None:
        """Tell it now."""
        with self._lock:
            self._tell.send(noted)


class Apart:
    """An agent that talks in a process of its own until it is killed, each turn on one of these threads."""

    def __init__(self, url: str, threads: Iterable[str], recorded: Record):
        self._hear, tell = FORK.Pipe(duplex=False)
        self._record = recorded
        self._process = FORK.Process(target=self._talk, args=(url, threads, tell), daemon=True)
        self._process.start()
        tell.close()  # only the process has it now, so that what it tells has an end

    @staticmethod
    def _talk(url: str, threads: Iterable[str], tell: Connection) -> None:
        agent = build_agent(Recorded(open_saver(url), Told(tell)))
        for request, thread in zip(itertools.cycle(REQUESTS), threads, strict=False):
            agent.invoke({"messages": [("user", request)]}, config(thread), durability="sync")

    def until(self, acknowledgements: int) -> None:
        """Wait for so many more."""
        for _ in range(acknowledgements):
            assert self._hear.poll(30)
            self._record.note(*self._hear.recv())

    def kill(self) -> None:
        """End it with SIGKILL, and hear what it has still told."""
        self._process.kill()
        self._process.join()
        assert self._process.exitcode == -signal.SIGKILL
        with suppress(EOFError, OSError):  # the last may be half told
            while True:
                self.until(1)


def test_two_hundred_processes_that_are_killed_while_their_agents_talk_lose_nothing(url: str):
    def another(number: int) -> Apart:
        return Apart(url, (f"customer {number % 50}, {turn}" for turn in itertools.count()), recorded)

    recorded, chance = Record(), random.Random(1)
    agents = [another(number) for number in range(3)]
    for number in range(3, 203):  # later ones go on with the threads of those that were killed
        agent = agents.pop(0)
        agent.until(chance.randrange(1, 8))
        time.sleep(chance.uniform(0, 0.005))
        agent.kill()
        agents.append(another(number))
    for agent in agents:
        agent.kill()
    with open_saver(url) as other:
        recorded.verify(other)


def test_two_processes_whose_agents_share_a_thread_lose_nothing(url: str):
    recorded = Record()
    agents = [Apart(url, itertools.repeat("shared"), recorded) for _ in range(2)]
    for _ in range(60):
        for agent in agents:
            agent.until(1)
    for agent in agents:
        agent.kill()
    with open_saver(url) as other:
        recorded.verify(other)


@contextmanager
def limited(folder: Path) -> Iterator[Callable[[], None]]:
    """The kernel cuts off what this process writes to a file beyond 6 KB, until there is room."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, limits[1]))
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextmanager
def mounted(folder: Path) -> Iterator[Callable[[], None]]:
    """A file system of 100 KB, until there is room."""
    with small_disk(folder, "100k") as resize:
        yield lambda: resize("20m")


@pytest.mark.parametrize("full", [limited, mounted])
def test_a_full_disk_is_told_and_loses_nothing_and_agents_go_on_when_there_is_room(tmp_path: Path, url: str, full):
    with full(tmp_path) as make_room:
        with open_saver(url) as saver, talking(saver) as (talks, recorded):
            wait_until(lambda: len(talks.errors) >= 10)
            make_room()
            talks.until(50)
        assert {(type(error), error.retry_is_safe) for error in talks.errors} == {(StorageFull, True)}
        with open_saver(url) as other:
            recorded.verify(other)
            for number in range(4):
                build_agent(other).invoke({"messages": [("user", "Hello")]}, config(f"customer {number}, 0"))
