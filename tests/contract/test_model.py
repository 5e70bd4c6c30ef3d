"""Random sequences of operations on each engine, against a model of a few dicts."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.base.id import uuid6

from .cases import config, put

THREADS, SPACES = ("ana", "ben"), ("", "sub")

item = st.integers(0, 5).map(lambda n: f"{n} " * 40) | st.integers(0, 3) | st.none()
edit = st.tuples(st.sampled_from(["append", "prepend", "drop first", "drop last", "replace", "double", "empty"]), item)
step = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(THREADS), st.sampled_from(SPACES), st.integers(0, 9), edit, item),
    st.tuples(
        st.just("writes"),
        st.sampled_from(THREADS),
        st.sampled_from(SPACES),
        st.integers(0, 9),
        st.lists(item, max_size=3),
    ),
    st.tuples(st.just("prune"), st.sampled_from(THREADS)),
    st.tuples(st.just("delete"), st.sampled_from(THREADS)),
    st.tuples(st.just("copy"), st.sampled_from(THREADS)),
)


class Model:
    """Checkpoints by thread and namespace, oldest first: id, parent, values and writes."""

    def __init__(self) -> None:
        self.threads: dict[str, dict[str, list[dict[str, Any]]]] = {}

    def space(self, thread: str, ns: str) -> list[dict[str, Any]]:
        return self.threads.setdefault(thread, {}).setdefault(ns, [])

    def states(self) -> dict[tuple[str, str], list[dict[str, Any]]]:
        return {(thread, ns): found for thread, spaces in self.threads.items() for ns, found in spaces.items() if found}


def edited(value: list, how: str, item: Any) -> list:
    match how:
        case "append":
            return [*value, item]
        case "prepend":
            return [item, *value]
        case "drop first":
            return value[1:]
        case "drop last":
            return value[:-1]
        case "replace":
            return [*value[: len(value) // 2], item, *value[len(value) // 2 + 1 :]]
        case "double":
            return (value * 2)[:60]
    return []


def apply(saver: Any, model: Model, step: tuple) -> None:
    kind, thread, *rest = step
    match kind:
        case "put":
            ns, back, (how, new), note = rest
            space = model.space(thread, ns)
            parent = space[-1 - back % len(space)] if space else None
            values = {"list": edited(parent["values"]["list"] if parent else [], how, new), "note": note}
            version = len(space) + 1
            id = str(uuid6())
            above = config(thread, ns, parent and parent["id"])
            put(saver, above, values, {"list": version, "note": version}, id=id)
            space.append({"id": id, "parent": parent and parent["id"], "values": values, "writes": {}})
        case "writes":
            ns, back, items = rest
            space = model.space(thread, ns)
            if space:
                found = space[-1 - back % len(space)]
                task = f"task {back % 2}"
                saver.put_writes(config(thread, ns, found["id"]), [("x", each) for each in items], task)
                for index, each in enumerate(items):
                    found["writes"].setdefault((task, index), each)
        case "prune":
            saver.prune([thread])
            for space in model.threads.get(thread, {}).values():
                del space[:-1]
        case "delete":
            saver.delete_thread(thread)
            model.threads.pop(thread, None)
        case "copy":
            other = THREADS[1 - THREADS.index(thread)]
            saver.prune([other], strategy="delete")
            saver.copy_thread(thread, other)
            copied = {
                ns: [each | {"writes": dict(each["writes"])} for each in space]
                for ns, space in model.threads.get(thread, {}).items()
            }
            model.threads[other] = copied


def same_as(saver: Any, model: Model) -> None:
    expected = model.states()
    listed: dict[tuple[str, str], list] = {}
    for found in saver.list(None):
        named = found.config["configurable"]
        listed.setdefault((named["thread_id"], named["checkpoint_ns"]), []).append(found)
    assert listed.keys() == expected.keys()
    for (thread, ns), space in expected.items():
        assert [found.checkpoint["id"] for found in listed[thread, ns]] == [each["id"] for each in reversed(space)]
        for found, each in zip(listed[thread, ns], reversed(space), strict=True):
            again = saver.get_tuple(config(thread, ns, each["id"]))
            for tuple_ in (found, again):
                assert tuple_.checkpoint["channel_values"] == each["values"]
                writes = sorted(each["writes"].items())
                assert tuple_.pending_writes == [(task, "x", value) for (task, _), value in writes]
                parent = tuple_.parent_config and tuple_.parent_config["configurable"]["checkpoint_id"]
                assert parent == each["parent"]
        assert saver.get_tuple(config(thread, ns)).checkpoint["id"] == space[-1]["id"]


@pytest.mark.parametrize("how_long", [12, 40])
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_saver_does_what_the_model_does(storage, how_long: int, data: st.DataObject):
    saver, other = storage.open(), storage.open()
    for thread in THREADS:  # hypothesis runs many examples on one storage
        saver.prune([thread], strategy="delete")
    model = Model()
    for number, each in enumerate(data.draw(st.lists(step, min_size=how_long // 2, max_size=how_long))):
        apply(saver if number % 3 else other, model, each)
    same_as(saver, model)
    same_as(other, model)
