"""Messages that are as they were when they were serialised last, so that it is not done again.

A conversation is put with all of its messages each time, and all but the last few are the objects of the time before.
That such an object has not changed since is seen in less time than serialising it takes.
"""

import re
from collections.abc import Sequence
from itertools import chain, repeat
from operator import is_
from typing import Any

import ormsgpack
from pydantic import BaseModel

from .errors import NotStorable
from .serde import PLAIN, ExactSerializer, inside

NATIVE = (
    ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_UUID
)
"""Has msgpack refuse what it would take for something else."""


AMBIGUOUS = re.compile(rb"[\xc4-\xc9\xd4-\xd8]")
"""What begins bytes or an extension, which may stand for several types. (In text it may mean something else.)"""

WATCHED = PLAIN | {list, dict}
"""Fields of other types may change in ways that are not looked for."""


class Dumped:
    """A value, its bytes, and what tells that they are still its bytes."""

    __slots__ = ("_class", "_extra", "_fields", "_names", "_nested", "_packed", "_serde", "_set", "_value", "data")

    def __init__(self, value: Any, serde: ExactSerializer):
        self._value = value
        self._serde = serde
        self._packed: bytes | None = None
        if isinstance(value, BaseModel) and not value.__pydantic_extra__ and value.__pydantic_private__ is None:
            state = value.__dict__
            self._names, self._fields = (*state,), (*state.values(),)
            if WATCHED.issuperset(map(type, self._fields)):
                self._class, self._extra, self._set = type(value), value.__pydantic_extra__, {*value.model_fields_set}
                self._nested = [field for field in self._fields if type(field) not in PLAIN]
                self._packed = self._pack()
        self.data = serde.dumps(value)

    def holds_for(self, value: Any, serde: ExactSerializer) -> bool:
        """Whether the value is the one that was dumped, and all in it is the same."""
        if self._packed is None or self._value is not value or self._serde is not serde:
            return False
        state = value.__dict__
        return (
            type(value) is self._class
            and (*state,) == self._names
            and all(map(is_, state.values(), self._fields))
            and value.__pydantic_fields_set__ == self._set
            and value.__pydantic_extra__ is self._extra
            and not self._extra
            and value.__pydantic_private__ is None
            and self._pack() == self._packed
        )

    def _pack(self) -> bytes | None:
        """The fields that may change in place; None if a change of type might not be seen."""
        if not any(self._nested):
            return b""
        try:
            packed = ormsgpack.packb(self._nested, option=NATIVE)
        except ormsgpack.MsgpackEncodeError:
            return None
        return None if AMBIGUOUS.search(packed) else packed


def dump_each(values: Sequence[Any], before: Sequence[Dumped], serde: ExactSerializer) -> tuple[list[Dumped], int]:
    """Each value with its bytes, given those of an earlier version of the list; and how many at the front are the same.

    Raises:
        NotStorable: as `ExactSerializer.dumps`.
    """
    dumped: list[Dumped] = []
    same = None
    for value, known in zip([*values], chain(before, repeat(None))):  # noqa: B905 - the second has no end
        if known is None or not known.holds_for(value, serde):
            same = len(dumped) if same is None else same
            try:
                known = Dumped(value, serde)
            except NotStorable as error:
                raise inside(error, f"[{len(dumped)}]") from None
        dumped.append(known)
    return dumped, len(dumped) if same is None else same
