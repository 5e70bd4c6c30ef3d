"""Messages that are as they were when they were serialised last, so that it is not done again.

A conversation is put with all of its messages each time, and all but the last few are the objects of the time before.
That such an object has not changed since is seen in less time than serialising it takes.
"""

from collections.abc import Sequence
from itertools import zip_longest
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


WATCHED = PLAIN | {list, dict}
"""Fields of other types may change in ways that are not looked for."""


class Dumped:
    """A value, its bytes, and what tells that they are still its bytes."""

    __slots__ = ("_fields", "_nested", "_packed", "_set", "_value", "data")

    def __init__(self, value: Any, serde: ExactSerializer):
        self._value = value
        self._fields: tuple[Any, ...] | None = None
        if isinstance(value, BaseModel) and not value.__pydantic_extra__ and not value.__pydantic_private__:
            fields = tuple(value.__dict__.values())
            if WATCHED.issuperset(map(type, fields)):
                self._fields, self._set = fields, len(value.__pydantic_fields_set__)
                self._nested = [field for field in fields if type(field) not in PLAIN]
                self._packed = self._pack()
        self.data = serde.dumps(value)

    def holds_for(self, value: Any) -> bool:
        """Whether the value is the one that was dumped, and all in it is the same."""
        if self._value is not value or self._fields is None or self._packed is None:
            return False
        state = value.__dict__
        return (
            len(state) == len(self._fields)
            and all(map(is_, state.values(), self._fields))
            and len(value.__pydantic_fields_set__) == self._set
            and not value.__pydantic_extra__
            and not value.__pydantic_private__
            and self._pack() == self._packed
        )

    def _pack(self) -> bytes | None:
        """The fields that may change in place."""
        try:
            return ormsgpack.packb(self._nested, option=NATIVE) if any(self._nested) else b""
        except ormsgpack.MsgpackEncodeError:
            return None


def dump_each(values: Sequence[Any], before: Sequence[Dumped], serde: ExactSerializer) -> list[Dumped]:
    """Each value with its bytes; given what this has returned for an earlier version of the list.

    Raises:
        NotStorable: as `ExactSerializer.dumps`.
    """
    dumped: list[Dumped] = []
    for value, known in zip_longest(values, before[: len(values)]):
        if known is None or not known.holds_for(value):
            try:
                known = Dumped(value, serde)
            except NotStorable as error:
                raise inside(error, f"[{len(dumped)}]") from None
        dumped.append(known)
    return dumped
