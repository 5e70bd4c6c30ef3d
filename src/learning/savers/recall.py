"""What a saver remembers of what it stored or read: which items a thread has, and where a checkpoint's values are.

So a put sends what is new and nothing else. It is a cache: what is forgotten costs bytes on the way, and what is wrong
is found out, because an engine refuses a put that relies on a thread as it no longer is.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .records import Place
from .unchanged import Dumped

MOST_NAMES = 200_000
"""How many names of items are remembered in all: about 20 MB."""

MOST_ROWS = 1000

MOST_THREADS = 200
MOST_BYTES = 64 * 1024 * 1024
"""Of how many threads, and how much in all, the items themselves are remembered."""

OBJECT = 2000
"""About how many bytes a message takes as an object, beyond what it says."""


@dataclass(frozen=True, slots=True)
class Items:
    """The names of items that a thread has had since an epoch began; none where the epoch is None."""

    epoch: int | None = None
    names: set[bytes] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class KeptList:
    """A list as it was put: its values, the names of its items, and of each item after how many values it ends.

    The last item may have no end yet: it takes more values, where the list gets more. The size is in bytes, about.
    """

    values: Sequence[Dumped]
    names: Sequence[bytes]
    ends: Sequence[int]
    size: int


NO_LIST = KeptList((), (), (), 0)


class Plain:
    """Items of a thread as they were before they were sealed, by name, and the other way round.

    What an item is called and what it says never changes. So this saves asking for it, opening and hashing it again.
    """

    __slots__ = ("children", "data", "lists", "names", "nodes", "size")

    def __init__(self) -> None:
        self.data: dict[bytes, bytes] = {}
        self.names: dict[bytes, bytes] = {}
        self.children: dict[bytes, Sequence[bytes]] = {}
        """Of each node of a rope. The items that it stands for are here as well."""
        self.nodes: dict[bytes, bytes] = {}
        """The names of nodes, by those of their children in one string."""
        self.lists: dict[tuple[bytes, str], KeptList] = {}
        """Of each channel of a space, the list that was put last."""
        self.size = 0

    def add(self, name: bytes, data: bytes) -> None:
        """An item and its name."""
        if name not in self.data:
            self.data[name] = data
            self.names[data] = name
            self.size += len(data)

    def keep(self, place: tuple[bytes, str], kept: "KeptList") -> None:
        """A list that was put."""
        self.size += kept.size - self.lists.get(place, NO_LIST).size
        self.lists[place] = kept

    def add_node(self, name: bytes, children: Sequence[bytes]) -> None:
        """A node, whose children have been added."""
        if name not in self.children:
            joined = b"".join(children)
            self.children[name] = children
            self.nodes[joined] = name
            self.size += 2 * len(joined)


@dataclass(frozen=True, slots=True)
class Manifest:
    """Of one checkpoint: the versions of its channels, and for each value its pointer with the names that it uses.

    The thread had the items of that name in this epoch.
    """

    epoch: int | None
    versions: Mapping[str, Any]
    values: Mapping[str, tuple[Any, Sequence[bytes]]]

    @property
    def names(self) -> list[bytes]:
        """The names that the checkpoint itself needs, in the order of its values."""
        return [name for _, names in self.values.values() for name in names]


class Recall:
    """The memory of one saver. Its threads may share it."""

    def __init__(self) -> None:
        self._items: OrderedDict[bytes, Items] = OrderedDict()
        self._rows: OrderedDict[Place, Manifest] = OrderedDict()
        self._last: OrderedDict[tuple[bytes, bytes], Manifest] = OrderedDict()
        """Of each space of a thread, the manifest that was remembered last."""
        self._plain: OrderedDict[bytes, Plain] = OrderedDict()
        self._names = 0
        self._lock = threading.Lock()

    def items(self, thread: bytes) -> Items:
        """What is remembered of a thread's items."""
        return self._items.get(thread, Items())

    def row(self, place: Place) -> Manifest | None:
        """What is remembered of a checkpoint."""
        with self._lock:
            if place in self._rows:
                self._rows.move_to_end(place)
            return self._rows.get(place)

    def held(self, thread: bytes, space: bytes, plain: Plain) -> list[bytes]:
        """Of the names that the last checkpoint of a space needs, those that are known with all that they need."""
        last = self._last.get((thread, space))
        return [name for name in last.names if name in plain.data or name in plain.children] if last else []

    def plain(self, thread: bytes) -> Plain:
        """Items of a thread, to be read and added to."""
        with self._lock:
            found = self._plain.setdefault(thread, Plain())
            self._plain.move_to_end(thread)
            if found.size > MOST_BYTES // 2:
                found = self._plain[thread] = Plain()
            while len(self._plain) > MOST_THREADS or sum(each.size for each in self._plain.values()) > MOST_BYTES:
                self._plain.popitem(last=False)
            return found

    def remember_items(self, thread: bytes, epoch: int | None, names: Iterable[bytes]) -> None:
        """The thread has these items, and it is in this epoch."""
        with self._lock:
            known = self._items.pop(thread, Items())
            if known.epoch != epoch:
                self._names -= len(known.names)
                known = Items(epoch)
            before = len(known.names)
            known.names.update(names)
            self._names += len(known.names) - before
            self._items[thread] = known
            while self._names > MOST_NAMES and len(self._items) > 1:
                self._names -= len(self._items.popitem(last=False)[1].names)

    def remember_row(self, place: Place, manifest: Manifest) -> None:
        """The checkpoint at a place has this manifest."""
        with self._lock:
            self._rows[place] = manifest
            self._rows.move_to_end(place)
            self._last[place.thread, place.space] = manifest
            self._last.move_to_end((place.thread, place.space))
            for remembered in (self._rows, self._last):
                while len(remembered) > MOST_ROWS:
                    remembered.popitem(last=False)

    def forget(self, thread: bytes) -> None:
        """The thread is not as it was."""
        with self._lock:
            self._names -= len(self._items.pop(thread, Items()).names)
            self._plain.pop(thread, None)
            for place in [place for place in self._rows if place.thread == thread]:
                del self._rows[place]
                self._last.pop((thread, place.space), None)
