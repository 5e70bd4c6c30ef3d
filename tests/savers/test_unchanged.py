"""Messages are put again and again, and what is known of them saves work: but never hides that one has changed."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from pydantic import BaseModel

from learning.savers import NotStorable, Saver, open_saver
from learning.savers import unchanged as module
from learning.savers.engines.memory import MemoryEngine
from learning.savers.recall import Plain

from ..contract.cases import config, conversation, put, values


class Note(BaseModel):
    text: str


CHANGES: dict[str, Callable[[Any], object]] = {
    "content": lambda message: setattr(message, "content", "changed"),
    "name": lambda message: setattr(message, "name", "ana"),
    "what is in a dict": lambda message: message.additional_kwargs.update(a=1),
    "deep inside": lambda message: message.response_metadata["deep"][0].update(b=2),
    "a type": lambda message: message.response_metadata.update(flag=True),
    "an order": lambda message: message.response_metadata.update(flag=message.response_metadata.pop("flag")),
    "list to tuple": lambda message: message.response_metadata.update(deep=tuple(message.response_metadata["deep"])),
    "bytes to bytearray": lambda message: message.response_metadata.update(raw=bytearray(b"x")),
    "a tool call": lambda message: message.tool_calls.append({"name": "refund", "args": {}, "id": "1"}),
    "an extra field": lambda message: setattr(message, "extra", 1),
    "which fields are set": lambda message: message.model_fields_set.symmetric_difference_update({"id", "name"}),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_message_that_was_changed_in_place_is_stored_as_it_is(what: str):
    engine = MemoryEngine()
    saver, reader = Saver(engine), Saver(engine)
    metadata = {"deep": [{"a": 1}], "flag": 1, "raw": b"x", "rest": "text"}
    message = AIMessage("hello " * 50, id="1", response_metadata=metadata)
    where = put(saver, config(), {"messages": [message]})
    CHANGES[what](message)
    put(saver, where, {"messages": [message]}, {"messages": 2})

    (found,) = values(reader, config())["messages"]
    assert type(found) is type(message)
    assert repr(found.__dict__) == repr(message.__dict__)
    assert found.model_fields_set == message.model_fields_set
    assert found.model_extra == message.model_extra


def test_messages_that_are_the_same_are_serialised_once(monkeypatch):
    saver = open_saver("memory://")
    dumped = []
    dumps = type(saver.serde).dumps
    monkeypatch.setattr(type(saver.serde), "dumps", lambda self, value: dumped.append(value) or dumps(self, value))
    conversation(saver, turns=20)

    messages = [each for each in dumped if isinstance(each, BaseModel)]
    assert len(messages) == 20


def test_an_allowlist_holds_for_what_another_saver_has_stored():
    saver = open_saver("memory://")
    notes = [Note(text="hello " * 50)]
    put(saver.with_allowlist([Note]), config(), {"notes": notes})
    with pytest.raises(NotStorable, match="Note is not allowed"):
        put(saver, config(), {"notes": notes})


def test_a_list_that_shrinks_meanwhile_gets_nothing_that_was_not_in_it():
    engine, said = MemoryEngine(), [HumanMessage(f"{n} " * 50) for n in range(100)]
    saver = Saver(engine)
    before, _ = module.dump_each(said, (), saver.serde)

    class Shrinking(list):
        def __len__(self) -> int:
            while super().__len__() > 5:
                self.pop()
            return super().__len__()

    after, _ = module.dump_each(Shrinking(said), before, saver.serde)
    assert all(each._value is not None for each in after)


def test_what_one_thread_promises_to_know_another_finds_whole(monkeypatch):
    engine = MemoryEngine()
    conversation(Saver(engine), turns=200)
    saver, found = Saver(engine), []
    values(saver, config())
    saver._core._recall._plain.clear()  # as where there are many threads
    add_node = Plain.add_node

    def watched(self: Plain, name: bytes, children: Any) -> None:
        add_node(self, name, children)
        if not found:
            found.append(None)
            other = threading.Thread(target=lambda: found.append(len(values(saver, config())["messages"])))
            other.start()
            other.join()

    monkeypatch.setattr(Plain, "add_node", watched)
    assert len(values(saver, config())["messages"]) == 200
    assert found == [None, 200]


def test_a_value_is_inherited_from_the_parent_as_it_is_now():
    engine = MemoryEngine()
    saver, other = Saver(engine), Saver(engine)
    parent = put(saver, config(), {"note": "old" * 99}, {"note": 1})
    id = parent["configurable"]["checkpoint_id"]
    put(other, config(), {"note": "new" * 99}, {"note": 2}, id=id)
    child = put(saver, parent, {"turn": 1}, {"note": 2, "turn": 1}, new={"turn": 1})

    assert values(saver, child) == {"note": "new" * 99, "turn": 1}
