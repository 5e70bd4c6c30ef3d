"""What goes through the serializer comes back as it was, or is refused with the way to it; and nothing runs."""

import importlib
import io
import math
import pathlib
import pickle
import re
import subprocess
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from ipaddress import ip_address, ip_interface, ip_network
from types import SimpleNamespace
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import numpy
import ormsgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, RemoveMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Command, Interrupt, Overwrite, Send
from pydantic import Field

from learning.savers import ExactSerializer, NotStorable, Unreadable
from learning.savers.serde import array_of

from . import shop

SHOP = [
    shop.Level, shop.Color, shop.Plain, shop.Rights, shop.Point, shop.Order, shop.Frozen, shop.Address, shop.Customer,
    shop.Outer.Inner,
]  # fmt: skip
SERDE = ExactSerializer(allow=SHOP)


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same types all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(a, b) for a, b in zip(one.items(), other.items(), strict=True))
    if isinstance(one, list | tuple | deque):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, numpy.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, Decimal):
        return str(one) == str(other)
    if isinstance(one, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if hasattr(one, "__dict__") and not isinstance(one, type):
        return same(vars(one), vars(other)) if not hasattr(one, "model_fields_set") else one == other
    return one == other


VALUES = [
    None, True, 0, -1, 2**63, 2**64, -(2**70), 1.5, -0.0, math.inf, -math.inf, math.nan, 1j, "", "a\0b", "\ud800x", b"", b"\xff",
    bytearray(b"ab"), (), (1, (2, [3])), [], [[]], {}, {"a": (1,)}, {1: "one", "1": "also", None: 0, (1, 2): [], 1.5: 2},
    {"\ud800": 1}, set(), {1, "a", None}, frozenset({(1,), (2,)}), range(3, 9, 2), deque([1, 2], maxlen=3), deque([1]),
    OrderedDict([("b", 1), ("a", 2)]), Counter("abca"), defaultdict(list, {"a": [1]}), defaultdict(None, a=1),
    Decimal("1.10"), Decimal("NaN"), Fraction(1, 3), Fraction(2**80, 3), uuid4(), pathlib.PurePosixPath("a/b"),
    pathlib.Path("/tmp"), pathlib.PureWindowsPath("c:/x"), ip_address("::1"), ip_network("10.0.0.0/8"), ip_interface("10.0.0.1/8"),
    datetime(2026, 1, 1, 12, 0, 0, 7), datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
    datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=30), "IST")), date(2026, 1, 1), time(1, 2, 3, 4, fold=1),
    time(1, tzinfo=UTC), timedelta(days=-1, microseconds=3), UTC, ZoneInfo("Asia/Tokyo"), re.compile(r"a+", re.I), re.compile(b"x"),
    numpy.int16(7), numpy.float64(1.5), numpy.bool_(True), numpy.datetime64("2026-01-01"), numpy.arange(6).reshape(2, 3),
    numpy.asfortranarray(numpy.arange(6.0).reshape(2, 3)), numpy.array("text"), numpy.zeros(2, dtype=[("a", "<i4"), ("b", "<f8")]),
    numpy.zeros(2, dtype=[("a", [("b", "i4", (2, 3))]), ("c", "u1")]),
    shop.Level.HIGH, shop.Color.RED, shop.Plain.ONE, shop.Rights.READ | shop.Rights.WRITE, shop.Rights(0), shop.Outer.Inner.A,
    shop.Point(1, 2), shop.Order(7, ["a"], shop.Level.HIGH), shop.Frozen("x"), {shop.Level.LOW: 1},
    shop.Customer(name="Ana", address=shop.Address(street="Elm", floor=1), tags=("a", "b")), shop.Address(street="Elm"),
    HumanMessage("hi", id="1", additional_kwargs={"a": (1, 2)}), SystemMessage("s"), AIMessageChunk("c"), RemoveMessage(id="1"),
    AIMessage("", tool_calls=[{"name": "f", "args": {"x": 1}, "id": "c", "type": "tool_call"}],
              usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}),
    ToolMessage("t", tool_call_id="c", artifact={"rows": (1, 2)}), Document("text", metadata={"page": 1}),
    Send("node", {"a": (1,)}), Interrupt(value={"q": 1}, id="i"), Command(goto="x", update={"a": 1}), Overwrite([1]),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=[f"{place}-{type(value).__name__}" for place, value in enumerate(VALUES)])
def test_a_value_comes_back_as_it_was_alone_and_inside(value: Any):
    assert same(SERDE.loads(SERDE.dumps(value)), value)
    nested = {"deep": [({"key": value},)]}
    assert same(SERDE.loads(SERDE.dumps(nested)), nested)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(categories=None)) | st.binary()
    | st.decimals() | st.fractions() | st.datetimes(timezones=st.none() | st.timezones()) | st.timedeltas() | st.uuids(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner)
    | st.builds(deque, st.lists(inner)) | st.sets(st.integers() | st.text()),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(plain)
def test_any_value_comes_back_as_it_was(value: Any):
    data = SERDE.dumps(value)

    assert same(SERDE.loads(data), value)
    assert SERDE.dumps(SERDE.loads(data)) == data


@settings(max_examples=300, deadline=None)
@given(
    st.binary()
    | plain.map(SERDE.dumps)
    .flatmap(lambda data: st.tuples(st.just(data), st.integers(0, len(data) - 1), st.integers(1, 255)))
    .map(lambda drawn: drawn[0][: drawn[1]] + bytes([drawn[0][drawn[1]] ^ drawn[2]]) + drawn[0][drawn[1] + 1 :])
)
def test_bytes_of_any_kind_give_a_value_or_a_clear_error(data: bytes):
    with suppress(Unreadable):
        SERDE.loads(data)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"a": [1, {"b": object()}]}, r"\['a'\]\[1\]\['b'\]: builtins.object is no type"),
        ([shop.Box[int](item=1)], r"\[0\]: .*Box.* is not allowed"),
        ({"f": len}, r"\['f'\]: builtins.builtin_function_or_method is no type"),
        (defaultdict(lambda: 1), "its factory is none of"),
        (numpy.array([object()]), "array of objects"),
        (numpy.str_(""), "cannot be stored exactly"),
        (numpy.add, "numpy.ufunc is no type"),
        (SimpleNamespace(a=1), "SimpleNamespace is no type"),
        (type("Sub", (dict,), {})(), "Sub is no type"),
        (type("Sub", (list,), {})(), "Sub is no type"),
        (type("Sub", (int,), {})(), "Sub is no type"),
        (datetime(2026, 1, 1, tzinfo=type("Zone", (type(UTC).__mro__[1],), {})()), "Zone is no type"),
    ],
)
def test_what_cannot_be_stored_exactly_is_refused_with_the_way_to_it(value: Any, says: str):
    with pytest.raises(NotStorable, match=says):
        SERDE.dumps(value)


def with_attribute() -> shop.Order:
    order = shop.Order(1)
    order.seen = True  # type: ignore[attr-defined]
    return order


def nameless() -> ZoneInfo:
    """A zone from a file: its offset, and nothing that says where it is."""
    head = b"TZif" + bytes(16) + b"".join(count.to_bytes(4) for count in (0, 0, 0, 0, 1, 4))
    return ZoneInfo.from_file(io.BytesIO(head + bytes(6) + b"UTC\0"))


def moved(module: str) -> object:
    """An instance of a class that is not where it says it is."""
    return dataclass(type("Moved", (), {"__module__": module}))()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (with_attribute(), "Order has an attribute 'seen' that is no field of it"),
        (shop.Address.model_construct(floor=1), "Address has no value for street"),
        (nameless(), "a time zone that has no name"),
        (datetime(2026, 1, 1, tzinfo=nameless()), "a time zone that has no name"),
        (moved("tests.nowhere"), r"tests\.nowhere\.Moved cannot be found again: define it at the top of a module"),
        (moved("tests.savers.shop"), r"tests\.savers\.shop\.Moved cannot be found again"),
    ],
)
def test_an_instance_that_would_not_come_back_whole_is_refused_with_why(value: Any, says: str):
    with pytest.raises(NotStorable, match=says):
        ExactSerializer(allow=True).dumps({"a": [value]})


def test_what_a_class_computes_and_keeps_is_not_stored_and_does_not_hinder():
    order, tower = shop.Order(1, ["a", "b"]), shop.Tower(floors=[1, 2, 3])
    assert (order.total, tower.height) == (2, 3)
    for value in (order, tower):
        came = ExactSerializer(allow=True).loads(ExactSerializer(allow=True).dumps(value))
        assert came == value
        assert not {"total", "height"} & vars(came).keys()


def test_a_model_gets_the_default_of_a_field_that_is_new(monkeypatch: pytest.MonkeyPatch):
    data = SERDE.dumps(shop.Address(street="Elm"))

    class Grown(shop.Address):
        country: str = "DE"
        tags: list = Field(default_factory=list)

    Grown.__module__, Grown.__qualname__ = shop.Address.__module__, shop.Address.__qualname__
    monkeypatch.setattr(shop, "Address", Grown)
    came = ExactSerializer(allow=[Grown]).loads(data)
    assert (type(came), came.street, came.country, came.tags) == (Grown, "Elm", "DE", [])


def test_a_list_of_very_many_values_comes_back():
    values = [*range(2**16), "end"]
    assert SERDE.loads(array_of(len(values), [ormsgpack.packb(each) for each in values])) == values


@pytest.mark.parametrize("content", ["\ud800", "half \udfff"])
def test_a_message_with_half_a_character_comes_back(content: str):
    message = HumanMessage(content)
    assert same(SERDE.loads(SERDE.dumps(message)), message)


def test_values_of_another_serializer_are_refused_with_both_names():
    kind, data = SERDE.dumps_typed([1])
    assert SERDE.loads_typed((kind, data)) == [1]
    with pytest.raises(Unreadable, match=f"has the format 'msgpack'; this serializer reads '{kind}'"):
        SERDE.loads_typed(("msgpack", data))


def test_a_class_whose_module_was_imported_anew_is_another_one(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path):
    (tmp_path / "wandering_shop.py").write_text("from dataclasses import dataclass\n@dataclass\nclass Cup: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    cup = importlib.import_module("wandering_shop").Cup
    monkeypatch.delitem(sys.modules, "wandering_shop")
    with pytest.raises(NotStorable, match=r"wandering_shop\.Cup cannot be found again"):
        ExactSerializer(allow=[cup]).dumps(cup())
    same_cup = sys.modules["wandering_shop"].Cup
    serde = ExactSerializer(allow=[same_cup])
    assert serde.loads(serde.dumps(same_cup())) == same_cup()


def test_what_is_nested_deeper_than_the_format_allows_is_refused_whatever_python_allows():
    deep: list = []
    for _ in range(1500):
        deep = [deep]
    allowed = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        with pytest.raises(NotStorable, match="The value cannot be stored"):
            SERDE.dumps(deep)
    finally:
        sys.setrecursionlimit(allowed)


def test_an_array_in_a_message_comes_back():
    message = ToolMessage("rows", tool_call_id="c", artifact=numpy.arange(6).reshape(2, 3))
    came = SERDE.loads(SERDE.dumps(message))

    assert same(came.artifact, message.artifact)
    assert came.content == "rows"
    came.seen = True  # a message takes what a node likes to add


def test_what_contains_itself_is_refused():
    loop: list = []
    loop.append(loop)
    with pytest.raises(NotStorable, match="contains itself"):
        SERDE.dumps(loop)


def test_only_what_is_allowed_may_be_stored_and_only_that_is_built():
    strict, allowing = ExactSerializer(), ExactSerializer(allow=[shop.Order, ("tests.savers.shop", "Level")])
    with pytest.raises(NotStorable, match=r"tests\.savers\.shop\.Order is not allowed: pass allow=\[Order\]"):
        strict.dumps(shop.Order(1))
    data = allowing.dumps(shop.Order(1))
    with pytest.raises(Unreadable, match=r"tests\.savers\.shop\.Level, which is not on the saver's allowlist"):
        strict.loads(data)
    assert strict.allowing([shop.Order, shop.Level]).loads(data) == shop.Order(1)
    assert ExactSerializer(allow=True).loads(data) == shop.Order(1)


def test_a_class_that_has_changed_is_told_and_nothing_is_made_up(monkeypatch: pytest.MonkeyPatch):
    order, level, customer = (
        SERDE.dumps(each)
        for each in (shop.Order(1), shop.Level.HIGH, shop.Customer(name="a", address=shop.Address(street="b")))
    )

    def changed(name: str, source: str) -> ExactSerializer:
        scope: dict[str, Any] = {"__name__": "tests.savers.shop"}
        exec(source, scope)
        monkeypatch.setattr(shop, name, scope[name])
        return ExactSerializer(allow=[("tests.savers.shop", each.__qualname__) for each in SHOP])

    head = "from dataclasses import dataclass\nfrom enum import IntEnum\nfrom pydantic import BaseModel\n"
    renamed = changed("Order", head + "@dataclass\nclass Order:\n    id: int\n    lines: list\n    level: int")
    with pytest.raises(
        Unreadable, match="another version: the class has no field 'number' any more, needs a field 'id'"
    ):
        renamed.loads(order)
    grown = changed(
        "Order", head + "@dataclass\nclass Order:\n    number: int\n    lines: list\n    level: int\n    new: int = 5"
    )
    assert grown.loads(order).new == 5
    with pytest.raises(Unreadable, match=r"Level\.HIGH, and Level has no such member any more"):
        changed("Level", head + "class Level(IntEnum):\n    LOW = 1").loads(level)
    with pytest.raises(Unreadable, match="needs a field 'email' that was not stored"):
        changed(
            "Customer",
            head + "class Customer(BaseModel):\n    name: str\n    address: object\n    tags: tuple\n    email: str",
        ).loads(customer)
    monkeypatch.delattr(shop, "Order")
    with pytest.raises(Unreadable, match="cannot be found any more"):
        ExactSerializer(allow=[("tests.savers.shop", each.__qualname__) for each in SHOP]).loads(order)


def test_equal_values_give_equal_bytes_in_every_process():
    program = (
        "from learning.savers import ExactSerializer as S; from langchain_core.messages import HumanMessage as M;"
        "print(S().dumps([{'b', 'a', 'c', 1, (2, 3)}, M('x', id='1', name='n'), frozenset('xyz')]).hex())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(seen) == 1


# --- hostile bytes: each would run code, or has in some saver ---------------------------------------------------------

RAN: list[str] = []


class Runs:
    """Leaves a trace when it is built, unpickled or called."""

    def __init__(self, *args: Any, **options: Any):
        RAN.append("built")

    def __reduce__(self) -> Any:
        return RAN.append, ("unpickled",)


HOSTILE = {
    "CVE-2025-64439: a constructor in JSON": b'{"lc": 2, "type": "constructor", "id": ["os", "system"], "args": ["true"]}',
    "CVE-2026-28277: msgpack that names a callable": JsonPlusSerializer().dumps_typed(shop.Point(1))[1],
    "CVE-2026-27794: a pickle": pickle.dumps(Runs()),
    "a function for a class": ormsgpack.packb(
        ormsgpack.Ext(60, ormsgpack.packb(["os", "system", {"command": "true"}]))
    ),
    "a class that is not allowed": ormsgpack.packb(ormsgpack.Ext(60, ormsgpack.packb([__name__, "Runs", {}]))),
    "a module to import": ormsgpack.packb(ormsgpack.Ext(61, ormsgpack.packb(["antigravity", "x", {}, [], None, None]))),
    "an attribute of an allowed class": ormsgpack.packb(
        ormsgpack.Ext(60, ormsgpack.packb(["tests.savers.shop", "Order.total", {}]))
    ),
    "an array of pickled objects": ormsgpack.packb(ormsgpack.Ext(4, ormsgpack.packb(["|O", [1], b"12345678", "C"]))),
    "a dunder for a field": ormsgpack.packb(
        ormsgpack.Ext(60, ormsgpack.packb(["tests.savers.shop", "Order", {"__class__": 1}]))
    ),
    "an unknown kind": ormsgpack.packb(ormsgpack.Ext(127, b"\xc0")),
    "a bomb of nested lists": b"\xdd\xff\xff\xff\xff" * 1000,
    "a deep nest": b"\x91" * 100_000,
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("allow", [SHOP, True], ids=["strict", "allow all"])
def test_hostile_bytes_are_an_error_and_run_nothing(name: str, allow: Any):
    RAN.clear()
    with pytest.raises(Unreadable):
        ExactSerializer(allow=allow).loads(HOSTILE[name])
    assert RAN == []
    assert "antigravity" not in sys.modules
