"""Values that are stored by their parts: for each type a code, and the way to its parts and back.

Codes stand in what is stored. None ever changes its meaning.
"""

import pathlib
import re
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Any, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

from langchain_core.runnables import AddableDict
from langgraph.checkpoint.serde.types import _DeltaSnapshot

from .errors import NotStorable, Unreadable

_FACTORIES = {each.__name__: each for each in (list, dict, set, int, float, str, tuple, bool)}
_PATHS = {
    each.__name__: each
    for each in (pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.PosixPath, pathlib.WindowsPath)
}
_ADDRESSES = {
    each.__name__: each for each in (IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network)
}


def numpy_parts(value: Any) -> list:
    """The parts of an array, or of a number of numpy's.

    Raises:
        NotStorable: if its bytes do not say all of it.
    """
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


PAIRS, BIG_INT, SURROGATES, NUMPY, PATTERN, DELTA_SNAPSHOT = 1, 2, 3, 4, 5, 6
SETS = {set: 7, frozenset: 8}

KINDS: dict[int, Callable[[Any], Any]] = {
    PAIRS: lambda pairs: {key: value for key, value in pairs},
    BIG_INT: lambda digits: int(digits, 16),
    SURROGATES: lambda data: data.decode("utf-8", "surrogatepass"),
    NUMPY: _numpy,
    PATTERN: lambda parts: re.compile(*parts),
    DELTA_SNAPSHOT: _DeltaSnapshot,
    SETS[set]: set,
    SETS[frozenset]: frozenset,
}

EXACT: dict[type, tuple[int, Callable[[Any], Any]]] = {}


def _kind(code: int, types: Iterable[type], parts: Callable[[Any], Any], rebuild: Callable[[Any], Any]) -> None:
    KINDS[code] = rebuild
    EXACT.update(dict.fromkeys(types, (code, parts)))


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
