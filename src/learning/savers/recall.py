"""What a saver remembers of what it stored or read: which items a thread has, and where a checkpoint's values are.

So a put sends what is new and nothing else. It is a cache: what is forgotten costs bytes on the way, and what is wrong
is found out, because an engine refuses a put that relies on a thread as it no longer is.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .records import Place

MOST_NAMES = 200_000
"""How many names of items are remembered in all: about 20 MB."""

MOST_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Items:
    """The names of items that a thread has had since an epoch began; none where the epoch is None."""

    epoch: int | None
    names: frozenset[bytes] | set[bytes]


@dataclass(frozen=True, slots=True)
class Manifest:
    """Of one checkpoint: the versions of its channels, and for each value its pointer with the names that it uses.

    The thread had the items of that name in this epoch.
    """

    epoch: int | None
    versions: Mapping[str, Any]
    values: Mapping[str, tuple[Any, Sequence[bytes]]]


NOTHING = Items(None, frozenset())


class Recall:
    """The memory of one saver. Its threads may share it."""

    def __init__(self) -> None:
        self._items: OrderedDict[bytes, Items] = OrderedDict()
        self._rows: OrderedDict[Place, Manifest] = OrderedDict()
        self._names = 0
        self._lock = threading.Lock()

    def items(self, thread: bytes) -> Items:
        """What is remembered of a thread's items."""
        return self._items.get(thread, NOTHING)

    def row(self, place: Place) -> Manifest | None:
        """What is remembered of a checkpoint."""
        return self._rows.get(place)

    def remember_items(self, thread: bytes, epoch: int | None, names: Iterable[bytes]) -> None:
        """The thread has these items, and it is in this epoch."""
        with self._lock:
            known = self._items.pop(thread, NOTHING)
            if known.epoch != epoch:
                self._names -= len(known.names)
                known = Items(epoch, set())
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
            while len(self._rows) > MOST_ROWS:
                self._rows.popitem(last=False)

    def forget(self, thread: bytes) -> None:
        """The thread is not as it was."""
        with self._lock:
            self._names -= len(self._items.pop(thread, NOTHING).names)
            for place in [place for place in self._rows if place.thread == thread]:
                del self._rows[place]
