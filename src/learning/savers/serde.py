"""Values to bytes and back, with every type as it was.

The format is msgpack. What msgpack knows goes as it is (None, bool, int, float, str, bytes, list, and dict with string
keys); anything else is an extension: a code for its kind, and the parts that it is rebuilt from. Rebuilding never calls
what the bytes name, but for a class that is on the allowlist, and of that no more than `__new__`. Equal values give
equal bytes, in every process: that is what lets a saver store an item once. The kinds are in `values` and `instances`.
"""

import importlib
import re
import sys
from collections.abc import Iterable
from typing import Any, Literal

import ormsgpack
from langgraph.checkpoint.serde._msgpack import SAFE_MSGPACK_TYPES
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from ormsgpack import Ext
from pydantic import BaseModel

from .errors import NotStorable, Unreadable
from .instances import MODEL, OBJECTS, model_state, object_kind
from .values import BIG_INT, DELTA_SNAPSHOT, EXACT, KINDS, NUMPY, PAIRS, PATTERN, SETS, SURROGATES, numpy_parts

FORMAT = "learning.1"
"""The name of this format in the serializer protocol's `(type, bytes)`."""

PLAIN = frozenset({type(None), bool, int, float, str, bytes})
"""What msgpack knows, but for lists and dicts."""

EMPTY = frozenset({list, dict})
"""Of these, what has nothing in it is plain."""


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
            if not isinstance(found, type) or object_kind(found) is None:
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
        fields, fields_set, extra, private = model_state(value)
        if self._careful:
            fields = self._fields(fields)
        else:
            for item in fields.values():
                if type(item) not in PLAIN and (type(item) not in EMPTY or item):
                    fields = self._fields(fields)
                    break
        if extra or private:
            extra, private = self.lower(extra), self.lower(private)
        return Ext(MODEL, ormsgpack.packb((module, qualname, fields, fields_set, extra, private)))

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
                return Ext(PAIRS, self._packed([self._list(pair) for pair in value.items()]))
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
            return Ext(PAIRS, self._packed([self._list(pair) for pair in value.items()]))
        return lowered

    def _extension(self, kind: type, value: Any) -> Any:
        found = EXACT.get(kind)
        if found is not None:
            tag, parts = found
            return Ext(tag, self._packed(self.lower(parts(value))))
        if kind in (set, frozenset):  # in an order that is the same in every process
            return Ext(SETS[kind], self._packed(sorted((self.lower(item) for item in value), key=self._packed)))
        if isinstance(value, BaseException):
            return self.lower(repr(value))  # as LangGraph's serializer does
        if kind.__module__ == "numpy":
            return Ext(NUMPY, self._packed(numpy_parts(value)))
        if isinstance(value, re.Pattern):
            return Ext(PATTERN, self._packed([self.lower(value.pattern), value.flags]))
        if kind is _DeltaSnapshot:
            return Ext(DELTA_SNAPSHOT, self._packed(self.lower(value.value)))
        code = object_kind(kind)
        if code is None:
            raise NotStorable(f"{kind.__module__}.{kind.__qualname__} is no type that can be stored exactly")
        name = self._serializer.require_allowed(kind)
        state = [self.lower(part) for part in OBJECTS[code].state(value)]
        return Ext(code, self._packed([*name, *state]))

    def _packed(self, lowered: Any) -> bytes:
        return ormsgpack.packb(lowered)

    def _carefully(self, value: Any) -> Any:
        if type(value) is int and not -(2**63) <= value < 2**64:
            return Ext(BIG_INT, ormsgpack.packb(hex(value)))
        if type(value) is str and not _is_unicode(value):
            return Ext(SURROGATES, ormsgpack.packb(value.encode("utf-8", "surrogatepass")))
        return value


class _Rebuilding:
    """Extensions of one value on their way out of msgpack, which does not tell what its hook raises."""

    def __init__(self, serializer: ExactSerializer):
        self._serializer = serializer
        self.failed: Exception | None = None

    def __call__(self, code: int, data: bytes) -> Any:
        try:
            parts = ormsgpack.unpackb(data, ext_hook=self)
            if code in OBJECTS:
                module, qualname, *state = parts
                return OBJECTS[code].rebuild(self._serializer.allowed_class(module, qualname), *state)
            if code not in KINDS:
                raise Unreadable(f"The stored value has a part of kind {code}, which this version does not know.")
            return KINDS[code](parts)
        except Exception as error:
            self.failed = self.failed or error
            raise


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
