"""Values to bytes and back, with every type as it was.

The format is msgpack. What msgpack knows goes as it is (None, bool, int, float, str, bytes, list, and dict with string
keys); anything else is an extension: a code for its kind, and the parts that it is rebuilt from. Rebuilding never calls
what the bytes name, but for a class that is on the allowlist, and of that no more than `__new__`. Equal values give
equal bytes, in every process: that is what lets a saver store an item once.
"""

import dataclasses
import functools
import importlib
import pathlib
import re
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag
from fractions import Fraction
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Any, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

import ormsgpack
from langchain_core.runnables import AddableDict
from langgraph.checkpoint.serde._msgpack import SAFE_MSGPACK_TYPES
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from ormsgpack import Ext
from pydantic import BaseModel

from .errors import NotStorable, Unreadable

FORMAT = "learning.1"
"""The name of this format in the serializer protocol's `(type, bytes)`."""

PLAIN = frozenset({type(None), bool, int, float, str, bytes})
"""What msgpack knows, but for lists and dicts."""

EMPTY = frozenset({list, dict})
"""Of these, what has nothing in it is plain."""

_FACTORIES = {each.__name__: each for each in (list, dict, set, int, float, str, tuple, bool)}
_PATHS = {
    each.__name__: each
    for each in (pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.PosixPath, pathlib.WindowsPath)
}
_ADDRESSES = {
    each.__name__: each for each in (IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network)
}


class ExactSerializer:
    """Turns values into bytes and back.

    Args:
        allow: classes of yours that may be stored: dataclasses, pydantic models, enums, named tuples, each as the class
            or as `("module", "Name")`. LangChain's messages and LangGraph's own types always may. `True` allows every
            such class of the modules that the program has imported: for a store that nobody else can write to.
    """

    def __init__(self, allow: Iterable[type | tuple[str, ...]] | Literal[True] = ()):
        self._all_allowed = allow is True
        named = () if allow is True else [_name_of(each) if isinstance(each, type) else tuple(each) for each in allow]
        self._allowed = frozenset({name for name in SAFE_MSGPACK_TYPES if len(name) == 2} | set(named))
        self._classes: dict[tuple[str, str], type] = {}
        self.names: dict[type, tuple[str, str]] = {}
        """Of classes that were found to be allowed."""
        self._lowering = _Lowering(self)

    def allowing(self, more: Iterable[type | tuple[str, ...]]) -> "ExactSerializer":
        """The same serializer with more classes allowed."""
        return self if self._all_allowed else ExactSerializer([*self._allowed, *more])

    def dumps(self, value: Any) -> bytes:
        """The value as bytes.

        Raises:
            NotStorable: if there is something in it that cannot be rebuilt exactly, or is not allowed.
        """
        try:
            try:
                return ormsgpack.packb(self._lowering.lower(value))
            except NotStorable:
                raise
            except ormsgpack.MsgpackEncodeError:  # an int of more than 64 bits, or a string with half a character
                return ormsgpack.packb(_Lowering(self, careful=True).lower(value))
        except NotStorable:
            raise
        except ormsgpack.MsgpackEncodeError as error:
            raise NotStorable(f"The value cannot be stored: {error}.") from error
        except RecursionError as error:
            raise NotStorable("The value contains itself, or is nested too deep.") from error

    def loads(self, data: bytes) -> Any:
        """The value of such bytes.

        Raises:
            Unreadable: if they are damaged, or name a class that is not allowed or has changed.
        """
        rebuilding = _Rebuilding(self)
        try:  # with something behind it, because msgpack does not mind bytes that are left over
            value, end = ormsgpack.unpackb(b"".join([b"\x92", data, b"\xc3"]), ext_hook=rebuilding)
        except Exception as error:
            cause = rebuilding.failed or error
            if isinstance(cause, Unreadable):
                raise cause from None
            raise Unreadable(f"The stored value is damaged: {type(cause).__name__}: {cause}.") from cause
        if end is not True:
            raise Unreadable("The stored value is damaged: there are bytes left over.")
        return value

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """As LangGraph's serializer protocol has it."""
        return FORMAT, self.dumps(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """The inverse of `dumps_typed`."""
        if data[0] != FORMAT:
            raise Unreadable(f"The stored value has the format {data[0]!r}; this serializer reads {FORMAT!r}.")
        return self.loads(data[1])

    def require_allowed(self, cls: type) -> tuple[str, str]:
        """Where to find the class again.

        Raises:
            NotStorable: if it is not on the allowlist, or cannot be found again.
        """
        if cls in self.names:
            return self.names[cls]
        name = _name_of(cls)
        if not self._all_allowed and name not in self._allowed:
            raise NotStorable(f"{'.'.join(name)} is not allowed: pass allow=[{cls.__name__}] to the saver")
        try:
            found = _find(*name)
        except (ImportError, AttributeError):
            found = None
        if found is not cls:
            raise NotStorable(f"{'.'.join(name)} cannot be found again: define it at the top of a module")
        self._classes[name] = cls
        self.names[cls] = name
        return name

    def allowed_class(self, module: str, qualname: str) -> type:
        """The class of that name, if it may be rebuilt.

        Raises:
            Unreadable: if it is not allowed, is gone, or is no class whose instances could be stored.
        """
        name = (module, qualname)
        found = self._classes.get(name)
        if found is None:
            if not self._all_allowed and name not in self._allowed:
                raise Unreadable(f"The stored value has a {'.'.join(name)}, which is not on the saver's allowlist.")
            try:
                found = _find(module, qualname, may_import=name in self._allowed)
            except (ImportError, AttributeError) as error:
                raise Unreadable(f"The stored value has a {'.'.join(name)}, which cannot be found any more.") from error
            if not isinstance(found, type) or _object_kind(found) is None:
                raise Unreadable(f"The stored value names {'.'.join(name)}, which is no class that could be stored.")
            self._classes[name] = found
        return found


def array_of(count: int, parts: Iterable[bytes]) -> bytes:
    """The bytes of a list of `count` items, from the bytes of the items, one or several in a part."""
    if count < 16:
        head = bytes([0x90 | count])
    elif count < 2**16:
        head = b"\xdc" + count.to_bytes(2)
    else:
        head = b"\xdd" + count.to_bytes(4)
    return b"".join([head, *parts])


class _Lowering:
    """One value on its way into msgpack. Careful: also with what msgpack itself would refuse."""

    def __init__(self, serializer: ExactSerializer, careful: bool = False):
        self._serializer = serializer
        self._careful = careful

    def lower(self, value: Any) -> Any:
        kind = type(value)
        if kind in PLAIN:
            return self._carefully(value) if self._careful else value
        if kind is list:
            return self._list(value)
        if kind is dict:
            return self._dict(value)
        if issubclass(kind, BaseModel):
            return self._model(kind, value)
        return self._extension(kind, value)

    def _model(self, kind: type[BaseModel], value: BaseModel) -> Ext:
        """A pydantic model. Most of what is stored is messages, so what is plain in them is not looked at twice."""
        module, qualname = self._serializer.names.get(kind) or self._serializer.require_allowed(kind)
        fields, fields_set, extra, private = _model_state(value)
        if self._careful:
            fields = self._fields(fields)
        else:
            for item in fields.values():
                if type(item) not in PLAIN and (type(item) not in EMPTY or item):
                    fields = self._fields(fields)
                    break
        if extra or private:
            extra, private = self.lower(extra), self.lower(private)
        return Ext(_MODEL, ormsgpack.packb((module, qualname, fields, fields_set, extra, private)))

    def _list(self, value: Iterable[Any]) -> list[Any]:
        lowered = []
        for item in value:
            try:
                lowered.append(self.lower(item))
            except NotStorable as error:
                raise inside(error, f"[{len(lowered)}]") from None
        return lowered

    def _dict(self, value: dict) -> Any:
        for key in value:
            if type(key) is not str:
                return Ext(_PAIRS, self._packed([self._list(pair) for pair in value.items()]))
        return self._fields(value)

    def _fields(self, value: dict[str, Any]) -> dict[str, Any] | Ext:
        lowered = {}
        for key, item in value.items():
            if type(item) in PLAIN and not self._careful:
                lowered[key] = item
                continue
            try:
                lowered[key] = self.lower(item)
            except NotStorable as error:
                raise inside(error, f"[{key!r}]") from None
        if self._careful and not all(_is_unicode(key) for key in value):
            return Ext(_PAIRS, self._packed([self._list(pair) for pair in value.items()]))
        return lowered

    def _extension(self, kind: type, value: Any) -> Any:
        found = _EXACT.get(kind)
        if found is not None:
            tag, parts = found
            return Ext(tag, self._packed(self.lower(parts(value))))
        if kind in (set, frozenset):  # in an order that is the same in every process
            return Ext(_SETS[kind], self._packed(sorted((self.lower(item) for item in value), key=self._packed)))
        if isinstance(value, BaseException):
            return self.lower(repr(value))  # as LangGraph's serializer does
        if kind.__module__ == "numpy":
            return Ext(_NUMPY, self._packed(_numpy_parts(value)))
        if isinstance(value, re.Pattern):
            return Ext(_PATTERN, self._packed([self.lower(value.pattern), value.flags]))
        if kind is _DeltaSnapshot:
            return Ext(_DELTA_SNAPSHOT, self._packed(self.lower(value.value)))
        code = _object_kind(kind)
        if code is None:
            raise NotStorable(f"{kind.__module__}.{kind.__qualname__} is no type that can be stored exactly")
        name = self._serializer.require_allowed(kind)
        state = [self.lower(part) for part in _OBJECTS[code].state(value)]
        return Ext(code, self._packed([*name, *state]))

    def _packed(self, lowered: Any) -> bytes:
        return ormsgpack.packb(lowered)

    def _carefully(self, value: Any) -> Any:
        if type(value) is int and not -(2**63) <= value < 2**64:
            return Ext(_BIG_INT, ormsgpack.packb(hex(value)))
        if type(value) is str and not _is_unicode(value):
            return Ext(_SURROGATES, ormsgpack.packb(value.encode("utf-8", "surrogatepass")))
        return value


class _Rebuilding:
    """Extensions of one value on their way out of msgpack, which does not tell what its hook raises."""

    def __init__(self, serializer: ExactSerializer):
        self._serializer = serializer
        self.failed: Exception | None = None

    def __call__(self, code: int, data: bytes) -> Any:
        try:
            parts = ormsgpack.unpackb(data, ext_hook=self)
            if code in _OBJECTS:
                module, qualname, *state = parts
                return _OBJECTS[code].rebuild(self._serializer.allowed_class(module, qualname), *state)
            if code not in _KINDS:
                raise Unreadable(f"The stored value has a part of kind {code}, which this version does not know.")
            return _KINDS[code](parts)
        except Exception as error:
            self.failed = self.failed or error
            raise


# --- kinds of values --------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _ObjectKind:
    """How an instance of an allowed class gives its state, as a list, and is rebuilt from it."""

    state: Callable[[Any], list]
    rebuild: Callable[..., Any]


def _numpy_parts(value: Any) -> list:
    import numpy

    if not (type(value) is numpy.ndarray or isinstance(value, numpy.generic)):
        raise NotStorable(f"numpy.{type(value).__name__} is no type that can be stored exactly")
    if value.dtype.hasobject:
        raise NotStorable("a numpy array of objects cannot be stored exactly")
    dtype = value.dtype.str if value.dtype.names is None else [list(each) for each in value.dtype.descr]
    rebuilt = None
    with suppress(TypeError, ValueError):
        rebuilt = _dtype(dtype)
    if rebuilt != value.dtype or not value.dtype.itemsize:
        raise NotStorable(f"a numpy value of type {value.dtype} cannot be stored exactly")
    if isinstance(value, numpy.generic):
        return [dtype, None, value.tobytes()]
    order: Literal["C", "F"] = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
    return [dtype, [*value.shape], value.tobytes(order=order), order]


def _numpy(parts: list) -> Any:
    import numpy

    dtype, shape, data, *order = parts
    dtype = _dtype(dtype)
    if dtype.hasobject:
        raise Unreadable("The stored value has a numpy array of objects.")
    if shape is None:
        return numpy.frombuffer(data, dtype)[0]
    return numpy.frombuffer(bytearray(data), dtype).reshape(shape, order=order[0])


def _dtype(told: str | list) -> Any:
    import numpy

    if isinstance(told, str):
        return numpy.dtype(told)
    return numpy.dtype([(name, _dtype(kind), *map(tuple, shape)) for name, kind, *shape in told])


def _zone_key(zone: ZoneInfo) -> str:
    if zone.key is None:
        raise NotStorable("a time zone that has no name cannot be stored")
    return zone.key


def _datetime_parts(value: datetime) -> list:
    return [value.replace(tzinfo=None, fold=0).isoformat(), value.fold, value.tzinfo]


def _datetime(parts: list) -> datetime:
    return datetime.fromisoformat(parts[0]).replace(fold=parts[1], tzinfo=parts[2])


def _time_parts(value: time) -> list:
    return [value.replace(tzinfo=None, fold=0).isoformat(), value.fold, value.tzinfo]


def _timezone(parts: list) -> timezone:
    offset, name = parts
    return UTC if (offset, name) == (timedelta(0), None) else timezone(offset, *([name] if name else []))


def _timezone_parts(value: timezone) -> list:
    offset, *name = value.__getinitargs__()  # type: ignore[attr-defined]  # typeshed leaves out what is for pickle
    return [offset, *(name or [None])]


def _factory_name(value: defaultdict) -> str | None:
    factory = value.default_factory
    if factory is None or _FACTORIES.get(getattr(factory, "__name__", "")) is factory:
        return factory and factory.__name__
    raise NotStorable(f"a defaultdict of {factory!r} cannot be stored: its factory is none of {', '.join(_FACTORIES)}")


_PAIRS, _BIG_INT, _SURROGATES, _NUMPY, _PATTERN, _DELTA_SNAPSHOT = 1, 2, 3, 4, 5, 6
_SETS = {set: 7, frozenset: 8}

_KINDS: dict[int, Callable[[Any], Any]] = {
    _PAIRS: lambda pairs: {key: value for key, value in pairs},
    _BIG_INT: lambda digits: int(digits, 16),
    _SURROGATES: lambda data: data.decode("utf-8", "surrogatepass"),
    _NUMPY: _numpy,
    _PATTERN: lambda parts: re.compile(*parts),
    _DELTA_SNAPSHOT: _DeltaSnapshot,
    _SETS[set]: set,
    _SETS[frozenset]: frozenset,
}

_EXACT: dict[type, tuple[int, Callable[[Any], Any]]] = {}


def _kind(code: int, types: Iterable[type], parts: Callable[[Any], Any], rebuild: Callable[[Any], Any]) -> None:
    _KINDS[code] = rebuild
    _EXACT.update(dict.fromkeys(types, (code, parts)))


_kind(20, [tuple], list, tuple)
_kind(21, [deque], lambda each: [each.maxlen, list(each)], lambda parts: deque(parts[1], parts[0]))
_kind(22, [bytearray], bytes, bytearray)
_kind(23, [complex], lambda each: [each.real, each.imag], lambda parts: complex(*parts))
_kind(24, [range], lambda each: [each.start, each.stop, each.step], lambda parts: range(*parts))
_kind(25, [OrderedDict], lambda each: [list(pair) for pair in each.items()], OrderedDict)
_kind(26, [Counter], lambda each: [list(pair) for pair in each.items()], lambda pairs: Counter(dict(pairs)))
_kind(
    27,
    [defaultdict],
    lambda each: [_factory_name(each), [list(pair) for pair in each.items()]],
    lambda parts: defaultdict(parts[0] and _FACTORIES[parts[0]], parts[1]),
)
_kind(28, [Decimal], str, Decimal)
_kind(29, [Fraction], lambda each: [each.numerator, each.denominator], lambda parts: Fraction(*parts))
_kind(30, [UUID], lambda each: each.bytes, lambda data: UUID(bytes=data))
_kind(31, _PATHS.values(), lambda each: [type(each).__name__, str(each)], lambda parts: _PATHS[parts[0]](parts[1]))
_kind(
    32, _ADDRESSES.values(), lambda each: [type(each).__name__, str(each)], lambda parts: _ADDRESSES[parts[0]](parts[1])
)
_kind(33, [datetime], _datetime_parts, _datetime)
_kind(34, [date], date.isoformat, date.fromisoformat)
_kind(35, [time], _time_parts, lambda parts: time.fromisoformat(parts[0]).replace(fold=parts[1], tzinfo=parts[2]))
_kind(36, [timedelta], lambda each: [each.days, each.seconds, each.microseconds], lambda parts: timedelta(*parts))
_kind(37, [timezone], _timezone_parts, _timezone)
_kind(38, [ZoneInfo], _zone_key, ZoneInfo)
_kind(39, [AddableDict], lambda each: [list(pair) for pair in each.items()], AddableDict)


# --- instances of allowed classes -------------------------------------------------------------------------------------


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


def _model_state(value: BaseModel) -> list:
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


_DATACLASS, _MODEL, _ENUM, _NAMED_TUPLE, _SLOTS = 60, 61, 62, 63, 64
_OBJECTS = {
    _DATACLASS: _ObjectKind(_dataclass_state, _rebuild_dataclass),
    _MODEL: _ObjectKind(_model_state, _rebuild_model),
    _ENUM: _ObjectKind(_enum_state, _rebuild_enum),
    _NAMED_TUPLE: _ObjectKind(_named_tuple_state, _rebuild_named_tuple),
    _SLOTS: _ObjectKind(_slots_state, _rebuild_slots),
}


@functools.cache
def _object_kind(cls: type) -> int | None:
    if issubclass(cls, Enum):
        return _ENUM
    if issubclass(cls, BaseModel):
        return _MODEL
    if dataclasses.is_dataclass(cls):
        return _DATACLASS
    if issubclass(cls, tuple):
        return _NAMED_TUPLE if hasattr(cls, "_fields") and cls.__bases__ == (tuple,) else None
    if cls.__bases__ == (object,) and isinstance(cls.__dict__.get("__slots__"), tuple):
        return _SLOTS
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


def _name_of(cls: type) -> tuple[str, str]:
    return cls.__module__, cls.__qualname__


def _find(module: str, qualname: str, may_import: bool = True) -> Any:
    found = sys.modules.get(module)
    if found is None:
        if not may_import:
            raise ImportError(f"the program has not imported {module}")
        found = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


def inside(error: NotStorable, place: str) -> NotStorable:
    """The same error, seen from what the value is in."""
    message = str(error)
    path, separator, what = message.partition(": ") if message.startswith("[") else ("", "", message)
    return NotStorable(f"{place}{path}: {what}" if separator or not path else message)


def _is_unicode(text: Any) -> bool:
    try:
        return type(text) is not str or bool(text.encode()) or True
    except UnicodeEncodeError:
        return False
