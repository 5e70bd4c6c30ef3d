"""A thread, or a part of one, as bytes that can be laid over what is there already."""

from bisect import insort
from dataclasses import replace

import ormsgpack

from ..records import Outcome, Place, Put, PutWrites, Record
from .memory import Shelf


def put(shelf: Shelf, request: Put | PutWrites) -> tuple[Outcome, bytes]:
    """Perform the request on a shelf; and what it has added, packed, or nothing if it was refused."""
    place = request.place
    part = Shelf(shelf.thread, name=b"" if shelf.name else request.name)
    part.items = {name: item for name, item in request.items.items() if name not in shelf.items}
    outcome = shelf.put(request)
    if outcome.kind != "stored":
        return outcome, b""
    if isinstance(request, Put):
        part.rows = {place: shelf.rows[place]}
    else:
        part.writes = {place: {task: shelf.writes[place][task] for task in request.writes}}
    return outcome, packed(replace(part, epoch=shelf.epoch, horizon=shelf.horizon, ends=shelf.ends))


def packed(shelf: Shelf) -> bytes:
    """All of a shelf."""
    rows = [(place.space, place.id, run, record.data, record.needs) for place, (record, run) in shelf.rows.items()]
    writes = [
        (place.space, place.id, [(*task, record.data, record.needs) for task, record in tasks.items()])
        for place, tasks in shelf.writes.items()
    ]
    items = [(name, item.data, item.needs) for name, item in shelf.items.items()]
    return ormsgpack.packb([shelf.name, shelf.epoch, shelf.horizon, shelf.ends, rows, writes, items])


def lay(shelf: Shelf, body: bytes) -> None:
    """Lay a packed part of a shelf over the shelf."""
    name, shelf.epoch, shelf.horizon, shelf.ends, rows, writes, items = ormsgpack.unpackb(body)
    shelf.name = name or shelf.name
    for space, id, run, data, needs in rows:
        place = Place(shelf.thread, space, id)
        if place not in shelf.rows:
            insort(shelf.order.setdefault(space, []), id)
        shelf.rows[place] = Record(data, tuple(needs)), run
    for space, id, tasks in writes:
        there = shelf.writes.setdefault(Place(shelf.thread, space, id), {})
        there |= {(task, index): Record(data, tuple(needs)) for task, index, data, needs in tasks}
    shelf.items |= {name: Record(data, tuple(needs)) for name, data, needs in items}
