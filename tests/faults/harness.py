"""An agent that talks while something breaks, and a record of what was acknowledged to it."""

import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver

from learning.agent import build_agent
from learning.savers import SaverError
from learning.savers.program import Program
from learning.savers.wrappers.base import Call, Wrapper

REQUESTS = ("Hello", "Where is 1001 and 1002?", "Please refund order 1002", "Where is 1003?")

Key = tuple[str, str, str]
"""A checkpoint's thread, namespace and id."""


class Record:
    """What was acknowledged."""

    def __init__(self):
        self.checkpoints: dict[Key, str] = {}
        self.writes: dict[Key, Counter[tuple[str, str]]] = {}
        """How many a task has written to a channel."""
        self._lock = threading.Lock()

    def note(self, key: Key, values: str | None = None, writes: Iterable[tuple[str, str]] = ()) -> None:
        """This was."""
        with self._lock:
            if values is not None:
                self.checkpoints[key] = values
            self.writes[key] = self.writes.get(key, Counter()) | Counter(writes)

    def verify(self, saver: BaseCheckpointSaver) -> None:
        """All of it is there, whole and once, for another saver."""
        assert self.checkpoints
        for (thread, ns, id), values in self.checkpoints.items():
            config = {"configurable": {"thread_id": thread, "checkpoint_ns": ns, "checkpoint_id": id}}
            found = saver.get_tuple(config)
            assert found is not None, f"checkpoint {id} of {thread} was acknowledged and is lost"
            assert repr(found.checkpoint["channel_values"]) == values
            written = Counter((task, channel) for task, channel, _ in found.pending_writes)
            wanted = self.writes[thread, ns, id]
            assert {each: written[each] for each in wanted} == wanted
        for thread in {thread for thread, _, _ in self.checkpoints}:
            listed = [found.checkpoint["id"] for found in saver.list({"configurable": {"thread_id": thread}})]
            assert len(listed) == len(set(listed))
            assert sorted(listed, reverse=True) == listed


class Recorded(Wrapper):
    """Notes each checkpoint and each write that the saver inside has acknowledged."""

    def __init__(self, inner: BaseCheckpointSaver, record: Record):
        super().__init__(inner)
        self._record = record

    def handle(self, call: Call) -> Program[Any]:
        result = yield call
        if call.method == "put":
            self._record.note(_key(result), repr(call.arguments[1]["channel_values"]))
        elif call.method == "put_writes":
            config, writes, task_id, *_ = call.arguments
            self._record.note(_key(config), None, [(task_id, channel) for channel, _ in writes])
        return result


def _key(config: Any) -> Key:
    named = config["configurable"]
    return named["thread_id"], named.get("checkpoint_ns", ""), named["checkpoint_id"]


class Talking:
    """Agents that talk on threads of their own until they are told to stop."""

    def __init__(self, saver: BaseCheckpointSaver, record: Record, agents: int):
        self._stop = threading.Event()
        self._saver = Recorded(saver, record)
        self._record = record
        self.errors: list[Exception] = []
        self._threads = [threading.Thread(target=self._talk, args=(f"customer {number}",)) for number in range(agents)]
        for thread in self._threads:
            thread.start()

    def _talk(self, thread_id: str) -> None:
        agent = build_agent(self._saver)
        turn = 0
        while not self._stop.is_set():
            config = {"configurable": {"thread_id": f"{thread_id}, {turn // 8}"}}
            try:
                agent.invoke({"messages": [("user", REQUESTS[turn % len(REQUESTS)])]}, config, durability="sync")
            except SaverError as error:
                self.errors.append(error)
                if not error.retry_is_safe:
                    return
            except Exception as error:
                self.errors.append(error)
                return
            turn += 1

    def until(self, checkpoints: int) -> None:
        """Wait for so many more acknowledged checkpoints."""
        wanted = len(self._record.checkpoints) + checkpoints
        wait_until(lambda: len(self._record.checkpoints) >= wanted or not self._alive)
        assert self._alive, self.errors

    @property
    def _alive(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """Let each end its turn."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


@contextmanager
def talking(saver: BaseCheckpointSaver, agents: int = 4) -> Iterator[tuple[Talking, Record]]:
    """Agents that talk as long as the block runs."""
    record = Record()
    talks = Talking(saver, record, agents)
    try:
        yield talks, record
    finally:
        talks.stop()


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Until something has happened."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Callable[[str], None]]:
    """A file system of its own in a folder, such as "24m"; call what this gives to make it another size."""
    mount = ["mount", "-t", "tmpfs", "tmpfs", str(folder), "-o"]
    if shutil.which("mount") is None or subprocess.run([*mount, f"size={size}"], capture_output=True).returncode:
        pytest.skip("Only root may mount a small file system.")
    try:
        yield lambda larger: subprocess.run([*mount, f"remount,size={larger}"], check=True)
    finally:
        subprocess.run(["umount", str(folder)], check=True)
