"""What every saver is measured on: a conversation that grows by a message of about 500 bytes with each superstep."""

import random
import time
import uuid
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint, CheckpointMetadata
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Command

from ..agent import build_agent

LETTERS = "eeeeeeeeeeeeetttttttttaaaaaaaaooooooooiiiiiiinnnnnnnssssssrrrrrrhhhhhhddddlllluuucccmmmffwwggyyppbbvk"
"""A hundred letters, each as often as English has it."""

REQUESTS = ("Hello", "Where are 1001, 1002 and 1003?", "Please refund order 1001", "I want a refund for 1002", "1004?")


def messages(count: int) -> list[AnyMessage]:
    """The same conversation each time: made-up words of English letters, by a person and an assistant in turn."""
    chance = random.Random(7)
    words = ["".join(chance.choices(LETTERS, k=chance.randint(2, 9))) for _ in range(2000)]

    def message(place: int) -> AnyMessage:
        text = " ".join(chance.choices(words, k=77))
        return (AIMessage if place % 2 else HumanMessage)(text, id=str(uuid.UUID(int=chance.getrandbits(128))))

    return [message(place) for place in range(count)]


def unique_bytes(said: list[AnyMessage]) -> int:
    """How many bytes the messages are, serialised once."""
    return len(JsonPlusSerializer().dumps_typed(said)[1])


class Conversation:
    """A thread, as LangGraph would have it stored while an agent runs."""

    def __init__(self, saver: BaseCheckpointSaver, thread: str, said: list[AnyMessage]):
        self.saver = saver
        self.thread: RunnableConfig = {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}
        self.length = 0
        self._said = said
        self._config = self.thread
        self._version: Any = None
        self._start: Any = None

    def put(self) -> float:
        """Store the checkpoint with one message more; how many seconds that took."""
        seen, self._version = self._version, self.saver.get_next_version(self._version, None)
        self._start = self._start or self._version
        self.length += 1
        checkpoint: Checkpoint = {
            "v": 4,
            "id": str(uuid6(clock_seq=self.length)),
            "ts": f"2026-11-25T14:{self.length // 60 % 60:02}:{self.length % 60:02}.123456+00:00",
            "channel_values": {
                "messages": self._said[: self.length],
                "turns": self.length,
                "branch:to:assistant": None,
            },
            "channel_versions": {"__start__": self._start} | self._changed(),
            "versions_seen": {
                "__input__": {},
                "__start__": {"__start__": self._start},
                "assistant": {"branch:to:assistant": seen or self._start},
            },
            "updated_channels": [*self._changed()],
        }
        metadata: CheckpointMetadata = {"source": "loop", "step": self.length, "parents": {}}
        begin = time.perf_counter()
        self._config = self.saver.put(self._config, checkpoint, metadata, self._changed())
        return time.perf_counter() - begin

    def put_writes(self) -> float:
        """Store what the next task wrote, the next message; how many seconds that took."""
        writes = [("messages", [self._said[self.length]]), ("turns", self.length + 1), ("branch:to:assistant", None)]
        task = str(uuid.UUID(int=self.length))
        begin = time.perf_counter()
        self.saver.put_writes(self._config, writes, task)
        return time.perf_counter() - begin

    def get_tuple(self) -> float:
        """Read the newest checkpoint; how many seconds that took."""
        begin = time.perf_counter()
        found = self.saver.get_tuple(self.thread)
        seconds = time.perf_counter() - begin
        if found is None or found.checkpoint["channel_values"]["messages"] != self._said[: self.length]:
            raise ValueError("it gives back other messages than were stored")
        return seconds

    def list(self) -> float:
        """Read the newest ten checkpoints; how many seconds that took."""
        begin = time.perf_counter()
        found = list(self.saver.list(self.thread, limit=10))
        seconds = time.perf_counter() - begin
        if len(found) != min(10, self.length):
            raise ValueError(f"it lists {len(found)} checkpoints of {self.length}")
        return seconds

    def _changed(self) -> dict[str, Any]:
        return dict.fromkeys(("messages", "turns", "branch:to:assistant"), self._version)


def agent_run(saver: BaseCheckpointSaver, thread: str) -> float:
    """Have a whole conversation with the course's support agent; how many seconds that took."""
    agent = build_agent(saver)
    config: RunnableConfig = {"configurable": {"thread_id": thread}}
    begin = time.perf_counter()
    for request in REQUESTS:
        answer = agent.invoke({"messages": [("user", request)]}, config)
        if "__interrupt__" in answer:
            agent.invoke(Command(resume=True), config)
    return time.perf_counter() - begin
