"""Values and records: how a checkpoint becomes bytes that share what they can, and how it comes back.

A value is pointed to. A small one is the pointer itself, as bytes. A bigger one is an item of its own, and its pointer
is 0. A list is a rope of items (see `rope`): its pointer tells how many values it has, and how many names are on each
level. The names stand in the record that needs them, in the order of the pointers.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from .errors import NotStorable, Unreadable
from .recall import NO_LIST, OBJECT, KeptList, Plain
from .records import Batch, Place, Record, Row, Task
from .rope import twist, untwist
from .seal import Sealer
from .serde import ExactSerializer, array_of
from .unchanged import Dumped, dump_each

INLINE = 100
"""A value of fewer bytes than this is its own pointer."""

ITEM = 128
"""Neighbours in a list share an item until they are this many bytes: as good as every message has one of its own."""

ROW = ("namespace", "parent", "checkpoint", "metadata", "pointers")
"""The parts of a checkpoint's record."""

EVEN = [bytes([byte & 0xFE]) for byte in range(256)]
ODD = [bytes([byte | 0x01]) for byte in range(256)]

Pointer = bytes | Literal[0] | list[int]


class Codec:
    """Makes records of values and values of records."""

    def __init__(self, serde: ExactSerializer, sealer: Sealer):
        self.serde = serde
        self.sealer = sealer

    # --- to records ---------------------------------------------------------------------------------------------------

    def row(self, place: Place, parts: Sequence[Any], needs: Sequence[bytes]) -> Record:
        """The record of a checkpoint.

        Raises:
            NotStorable: as `ExactSerializer.dumps`, with the name of the part.
        """
        try:
            data = self.serde.dumps(parts)
        except NotStorable as error:
            part = re.match(r"\[(\d)\]", str(error))
            if part is None:  # it is too deep to say where
                raise
            raise NotStorable(f"{ROW[int(part[1])]}{str(error)[part.end() :]}") from None
        return Record(self.sealer.seal(data, _about(place, needs)), tuple(needs))

    def write(self, place: Place, task: Task, parts: Sequence[Any], needs: Sequence[bytes]) -> Record:
        """The record of a write."""
        return Record(self.sealer.seal(self.serde.dumps(parts), _about(place, needs, task)), tuple(needs))

    def name(self, thread: bytes, thread_id: str) -> bytes:
        """The sealed name of a thread."""
        return self.sealer.seal(thread_id.encode("utf-8", "surrogatepass"), thread)

    # --- from records -------------------------------------------------------------------------------------------------

    def opened_row(self, row: Row) -> list[Any]:
        """The parts of a checkpoint's record."""
        return self.serde.loads(self.sealer.open(row.record.data, _about(row.place, row.record.needs)))

    def opened_name(self, row: Row) -> str:
        """The name of a row's thread."""
        return self.sealer.open(row.name, row.place.thread).decode("utf-8", "surrogatepass")

    def opened_write(self, place: Place, task: Task, record: Record) -> list[Any]:
        """The parts of a write's record."""
        return self.serde.loads(self.sealer.open(record.data, _about(place, record.needs, task)))

    def value(self, batch: Batch, thread: bytes, pointer: Pointer, names: Sequence[bytes], plain: Plain) -> Any:
        """The value that a pointer points to."""
        if isinstance(pointer, bytes):
            return self.serde.loads(pointer)
        if pointer == 0:
            return self.serde.loads(self._item(batch, thread, names[0], plain))
        length, *counts = pointer
        rest = iter(names)
        levels = [[next(rest) for _ in range(count)] for count in counts]
        nodes: dict[bytes, Sequence[bytes]] = {}

        def children(name: bytes) -> Sequence[bytes]:
            known = plain.children.get(name)
            if known is None:
                known = nodes[name] = self._record(batch, thread, name)[1]
            return known

        known = plain.data
        parts = [known.get(name) or self._item(batch, thread, name, plain) for name in untwist(levels, children)]
        for name, below in reversed(nodes.items()):  # what others find there is there with all that it needs
            plain.add_node(name, below)
        return self.serde.loads(array_of(length, parts))

    def name_of_item(self, data: bytes, thread: bytes) -> bytes:
        """The name of an item that needs no other: its last byte is even."""
        digest = self.sealer.digest(data, thread)
        return digest[:15] + EVEN[digest[15]]

    def name_of_node(self, data: bytes, thread: bytes) -> bytes:
        """The name of a node of a rope: its last byte is odd."""
        digest = self.sealer.digest(data, thread)
        return digest[:15] + ODD[digest[15]]

    def _item(self, batch: Batch, thread: bytes, name: bytes, plain: Plain) -> bytes:
        data = plain.data.get(name)
        if data is None:
            data = self._record(batch, thread, name)[0]
            plain.add(name, data)
        return data

    def _record(self, batch: Batch, thread: bytes, name: bytes) -> tuple[bytes, Sequence[bytes]]:
        """The data of an item, and the names that it needs."""
        record = batch.items.get(name)
        if record is None:
            raise Unreadable("A part of what is stored is missing.")
        return self.sealer.open(record.data, thread + name + b"".join(record.needs)), record.needs


class Writer:
    """Points to values, and gathers the items that a thread does not have yet."""

    def __init__(self, codec: Codec, thread: bytes, known: set[bytes], plain: Plain):
        self._codec = codec
        self._plain = plain
        self._thread = thread
        self._known = known
        self._new: dict[bytes, tuple[bytes, tuple[bytes, ...]]] = {}

    @property
    def names(self) -> Iterable[bytes]:
        """The names of the new items."""
        return self._new.keys()

    def pointer(self, value: Any, place: tuple[bytes, str] | None = None) -> tuple[Pointer, list[bytes]]:
        """The pointer to a value, and the names that it uses; faster for a list that comes again in the same place."""
        if type(value) is list:
            return self._list(value, place)
        data = self._codec.serde.dumps(value)
        return (data, []) if len(data) < INLINE else (0, [self._named(data)])

    def items(self) -> dict[bytes, Record]:
        """The new items, sealed."""
        seal = self._codec.sealer.seal
        return {
            name: Record(seal(data, self._thread + name + b"".join(children)), children)
            for name, (data, children) in self._new.items()
        }

    def _list(self, value: list[Any], place: tuple[bytes, str] | None) -> tuple[Pointer, list[bytes]]:
        before = self._plain.lists.get(place, NO_LIST) if place else NO_LIST
        values, same = dump_each(value, before.values, self._codec.serde)
        if len(values) < INLINE and sum(len(each.data) for each in values) < INLINE:
            return array_of(len(values), [each.data for each in values]), []
        names, ends = self._items(values, before, same)
        if place:
            grown = same == len(before.values)
            size = sum(OBJECT + 2 * len(each.data) for each in values[same if grown else 0 :])
            self._plain.keep(place, KeptList(values, names, ends, size + before.size * grown))
        levels, nodes = twist(names, self._node)
        for name, children in nodes.items():
            self._plain.add_node(name, children)
            if name not in self._known:
                self._new[name] = b"", tuple(children)
        return [len(values), *map(len, levels)], [name for level in levels for name in level]

    def _items(self, values: Sequence[Dumped], before: KeptList, same: int) -> tuple[list[bytes], list[int]]:
        """The names of the items of a list, and where they end, given a version whose first values are the same."""
        count = bisect_right(before.ends, same)
        names = list(before.names[:count])
        if not self._known.issuperset(names):
            count, names = 0, []
        ends = list(before.ends[:count])
        begin = ends[-1] if ends else 0
        gathered: list[bytes] = []
        size = 0
        for end, value in enumerate(values[begin:], start=begin + 1):
            gathered.append(value.data)
            size += len(value.data)
            if size >= ITEM:
                names.append(self._named(gathered[0] if len(gathered) == 1 else b"".join(gathered)))
                ends.append(end)
                gathered, size = [], 0
        if gathered:
            names.append(self._named(b"".join(gathered)))
        return names, ends

    def _named(self, data: bytes) -> bytes:
        name = self._plain.names.get(data)
        if name is None:
            name = self._codec.name_of_item(data, self._thread)
            self._plain.add(name, data)
        if name not in self._known:
            self._new[name] = data, ()
        return name

    def _node(self, data: bytes) -> bytes:
        return self._plain.nodes.get(data) or self._codec.name_of_node(data, self._thread)


def split(pointers: Mapping[str, Pointer], needs: Sequence[bytes]) -> dict[str, tuple[Pointer, list[bytes]]]:
    """For each channel its pointer and the names that it uses."""
    rest = iter(needs)
    return {channel: (pointer, _taken(pointer, rest)) for channel, pointer in pointers.items()}


def _taken(pointer: Pointer, names: Iterator[bytes]) -> list[bytes]:
    count = 0 if isinstance(pointer, bytes) else 1 if pointer == 0 else sum(pointer[1:])
    try:
        return [next(names) for _ in range(count)]
    except StopIteration:
        raise Unreadable("A record points to more than it needs.") from None


def _about(place: Place, needs: Sequence[bytes], task: Task | None = None) -> bytes:
    written = f"\0{task[1]}\0{task[0]}".encode() if task else b""
    return b"".join([bytes(place), written, b"\0", *needs])
