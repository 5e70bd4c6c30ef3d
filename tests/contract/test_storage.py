"""What a conversation costs: bytes that grow with it and not with its square, and a listing that is read as it is used."""

import random
import string
import tracemalloc

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from .cases import config, put


def messages(count: int) -> list:
    """Messages of about 500 bytes each that have nothing in common."""
    rng = random.Random(count)
    return [
        (HumanMessage, AIMessage)[n % 2]("".join(rng.choices(string.ascii_letters, k=450)), id=f"{n:08}")
        for n in range(count)
    ]


@pytest.mark.parametrize("supersteps", [200, 1000])
def test_what_is_stored_is_at_most_three_times_what_is_unique(storage, supersteps: int):
    saver, said, above = storage.open(), messages(supersteps), config()
    version = None
    for step in range(supersteps):
        version = saver.get_next_version(version, None)
        values = {"messages": said[: step + 1], "turns": step}
        above = put(saver, above, values, dict.fromkeys(values, version))
        saver.put_writes(above, [("messages", said[step + 1 : step + 2])], f"task-{step}")

    assert len(saver.get_tuple(config()).checkpoint["channel_values"]["messages"]) == supersteps
    unique = len(JsonPlusSerializer().dumps_typed(said)[1])
    assert storage.bytes() <= 3 * unique


def test_a_listing_is_read_in_pages_and_forgotten(storage):
    saver, above = storage.open(), config()
    for step in range(3000):
        above = put(saver, above, {"note": f"{step} " * 100}, {"note": step})
    asked = []
    perform = saver.engine.perform
    saver.engine.perform = lambda request: asked.append(request) or perform(request)
    listed = saver.list(config())
    next(listed)
    assert len(asked) <= 2

    tracemalloc.start()
    try:
        for _ in range(100):
            next(listed)
        after_one_page = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        assert sum(1 for _ in listed) == 2899
        assert tracemalloc.get_traced_memory()[1] < 2 * after_one_page + 1_000_000
    finally:
        tracemalloc.stop()
