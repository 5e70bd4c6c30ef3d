"""Instances of allowed classes: what their state is, and how one is made of it again without a call of theirs.

Codes stand in what is stored. None ever changes its meaning.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from enum import Enum, Flag
from typing import Any

from pydantic import BaseModel

from .errors import NotStorable, Unreadable


@dataclasses.dataclass(frozen=True)
class ObjectKind:
    """How an instance of an allowed class gives its state, as a list, and is rebuilt from it."""

    state: Callable[[Any], list]
    rebuild: Callable[..., Any]


def _dataclass_state(value: Any) -> list:
    names = [field.name for field in dataclasses.fields(value)]
    for name in getattr(value, "__dict__", {}).keys() - set(names):
        if not name.startswith("__") and not isinstance(getattr(type(value), name, None), functools.cached_property):
            raise NotStorable(f"{type(value).__name__} has an attribute {name!r} that is no field of it")
    return [{name: getattr(value, name) for name in names if hasattr(value, name)}]


def _rebuild_dataclass(cls: type, state: dict[str, Any]) -> Any:
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for name in fields.keys() - state.keys():
        field = fields[name]
        if field.default is not dataclasses.MISSING:
            state[name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            state[name] = field.default_factory()
    _require_fields(cls, state.keys(), fields.keys())
    return _with_attributes(cls, state)


def model_state(value: BaseModel) -> list:
    """The fields of a pydantic model, the names of those that were set, what is beyond them, and what is private."""
    fields, state = type(value).__pydantic_fields__, value.__dict__
    if state.keys() != fields.keys():  # a cached property has a place there too
        state = {name: state[name] for name in fields if name in state}
        if len(state) != len(fields):
            raise NotStorable(f"{type(value).__name__} has no value for {', '.join(fields.keys() - state.keys())}")
    return [state, sorted(value.__pydantic_fields_set__), value.__pydantic_extra__, value.__pydantic_private__]


def _rebuild_model(
    cls: type[BaseModel], state: dict, fields_set: list, extra: dict | None, private: dict | None
) -> Any:
    fields = cls.__pydantic_fields__
    if state.keys() != fields.keys():
        for name in fields.keys() - state.keys():
            if not fields[name].is_required():
                state[name] = fields[name].get_default(call_default_factory=True)
        _require_fields(cls, state.keys(), fields.keys())
    model = cls.__new__(cls)
    put = object.__setattr__
    put(model, "__dict__", state)
    put(model, "__pydantic_fields_set__", set(fields_set))
    put(model, "__pydantic_extra__", extra)
    put(model, "__pydantic_private__", private)
    return model


def _enum_state(value: Enum) -> list:
    return [value.name] if value.name in type(value).__members__ else [None, value.value]


def _rebuild_enum(cls: type[Enum], name: str | None, *value: Any) -> Any:
    if name is None and issubclass(cls, Flag):
        return cls(*value)
    if name is None or name not in cls.__members__:
        raise Unreadable(f"The stored value is {cls.__name__}.{name}, and {cls.__name__} has no such member any more.")
    return cls[name]


def _named_tuple_state(value: Any) -> list:
    return [dict(zip(value._fields, value, strict=True))]


def _rebuild_named_tuple(cls: Any, state: dict[str, Any]) -> Any:
    state = cls._field_defaults | state
    _require_fields(cls, state.keys(), cls._fields)
    return tuple.__new__(cls, [state[name] for name in cls._fields])


def _slots_state(value: Any) -> list:
    return [{name: getattr(value, name) for name in type(value).__slots__ if hasattr(value, name)}]


def _rebuild_slots(cls: Any, state: dict[str, Any]) -> Any:
    _require_fields(cls, state.keys(), cls.__slots__)
    return _with_attributes(cls, state)


DATACLASS, MODEL, ENUM, NAMED_TUPLE, SLOTS = 60, 61, 62, 63, 64
OBJECTS = {
    DATACLASS: ObjectKind(_dataclass_state, _rebuild_dataclass),
    MODEL: ObjectKind(model_state, _rebuild_model),
    ENUM: ObjectKind(_enum_state, _rebuild_enum),
    NAMED_TUPLE: ObjectKind(_named_tuple_state, _rebuild_named_tuple),
    SLOTS: ObjectKind(_slots_state, _rebuild_slots),
}


@functools.cache
def object_kind(cls: type) -> int | None:
    """The code of a class's instances, or None if they cannot be stored."""
    if issubclass(cls, Enum):
        return ENUM
    if issubclass(cls, BaseModel):
        return MODEL
    if dataclasses.is_dataclass(cls):
        return DATACLASS
    if issubclass(cls, tuple):
        return NAMED_TUPLE if hasattr(cls, "_fields") and cls.__bases__ == (tuple,) else None
    if cls.__bases__ == (object,) and isinstance(cls.__dict__.get("__slots__"), tuple):
        return SLOTS
    return None


def _require_fields(cls: type, stored: Iterable[str], wanted: Iterable[str]) -> None:
    stored, wanted = set(stored), set(wanted)
    if stored != wanted:
        gone = [f"has no field {name!r} any more" for name in sorted(stored - wanted)]
        new = [f"needs a field {name!r} that was not stored" for name in sorted(wanted - stored)]
        raise Unreadable(f"A stored {cls.__qualname__} is of another version: the class {', '.join(gone + new)}.")


def _with_attributes(cls: Any, state: dict[str, Any]) -> Any:
    made = cls.__new__(cls)
    for name, value in state.items():
        object.__setattr__(made, name, value)
    return made
