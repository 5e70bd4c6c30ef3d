"""An agent that talks while something breaks, and a record of what was acknowledged to it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver

from learning.agent import build_agent
from learning.savers import SaverError
from learning.savers.program import Program
from learning.savers.wrappers.base import Call, Wrapper

REQUESTS = ("Hello", "Where is 1001 and 1002?", "Please refund order 1002", "Where is 1003?")


class Recorded(Wrapper):
    """Notes each checkpoint and each write that the saver inside has acknowledged."""

    def __init__(self, inner: BaseCheckpointSaver):
        super().__init__(inner)
        self.checkpoints: dict[tuple[str, str, str], Any] = {}
        self.writes: dict[tuple[str, str, str], set[tuple[str, str]]] = {}

    def handle(self, call: Call) -> Program[Any]:
        result = yield call
        if call.method == "put":
            named = result["configurable"]
            key = named["thread_id"], named["checkpoint_ns"], named["checkpoint_id"]
            self.checkpoints[key] = repr(call.arguments[1]["channel_values"])
        elif call.method == "put_writes":
            config, writes, task_id, *_ = call.arguments
            named = config["configurable"]
            key = named["thread_id"], named.get("checkpoint_ns", ""), named["checkpoint_id"]
            self.writes.setdefault(key, set()).update((task_id, channel) for channel, _ in writes)
        return result

    def verify(self, saver: BaseCheckpointSaver) -> None:
        """Everything that was acknowledged is there, whole and once, for another saver."""
        assert self.checkpoints
        for (thread, ns, id), values in self.checkpoints.items():
            config = {"configurable": {"thread_id": thread, "checkpoint_ns": ns, "checkpoint_id": id}}
            found = saver.get_tuple(config)
            assert found is not None, f"checkpoint {id} of {thread} was acknowledged and is lost"
            assert repr(found.checkpoint["channel_values"]) == values
            written = {(task, channel) for task, channel, _ in found.pending_writes}
            assert self.writes.get((thread, ns, id), set()) <= written
        for thread in {thread for thread, _, _ in self.checkpoints}:
            listed = [found.checkpoint["id"] for found in saver.list({"configurable": {"thread_id": thread}})]
            assert len(listed) == len(set(listed))
            assert sorted(listed, reverse=True) == listed


class Talking:
    """Agents that talk on threads of their own until they are told to stop."""

    def __init__(self, recorded: Recorded, agents: int):
        self._stop = threading.Event()
        self._recorded = recorded
        self.errors: list[Exception] = []
        self._threads = [threading.Thread(target=self._talk, args=(f"customer {number}",)) for number in range(agents)]
        for thread in self._threads:
            thread.start()

    def _talk(self, thread_id: str) -> None:
        agent = build_agent(self._recorded)
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
        wanted = len(self._recorded.checkpoints) + checkpoints
        wait_until(lambda: len(self._recorded.checkpoints) >= wanted)

    def stop(self) -> None:
        """Let each end its turn."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


@contextmanager
def talking(saver: BaseCheckpointSaver, agents: int = 4) -> Iterator[tuple[Talking, Recorded]]:
    """Agents that talk as long as the block runs."""
    recorded = Recorded(saver)
    talks = Talking(recorded, agents)
    try:
        yield talks, recorded
    finally:
        talks.stop()


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Until something has happened."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
