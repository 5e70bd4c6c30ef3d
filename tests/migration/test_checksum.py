"""A checksum beside what another serializer writes: what comes back is what was written, or an error."""

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from learning.agent import build_agent
from learning.migration import ChecksumSerializer

from .test_convert import assert_continues, named, talk


def test_values_come_back_through_the_serializer_inside():
    serde, inner = ChecksumSerializer(JsonPlusSerializer()), JsonPlusSerializer()
    value = {"a": [1, "two", b"three"]}
    kind, data = serde.dumps_typed(value)
    assert (kind.split("-", 2)[2], data) == inner.dumps_typed(value)
    assert serde.loads_typed((kind, data)) == value


def test_a_changed_byte_and_another_checksum_are_found_out():
    serde = ChecksumSerializer(JsonPlusSerializer())
    kind, data = serde.dumps_typed("some text that was stored")
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(ValueError, match="bytes are damaged"):
            serde.loads_typed((kind, bytes(changed)))
    for other in ("crc32-00000000-msgpack", kind.replace("crc32", "crc64")):
        with pytest.raises(ValueError, match="bytes are damaged"):
            serde.loads_typed((other, data))


def test_a_graph_works_with_it():
    saver = InMemorySaver(serde=ChecksumSerializer(JsonPlusSerializer()))
    talk(saver)
    assert_continues(saver)
    assert build_agent(saver).get_state(named("done")).values["messages"]
