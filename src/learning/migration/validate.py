"""What is wrong in a store: what cannot be read, does not hang together, or is not as its schema says."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NotRequired, Required, get_args, get_origin, get_type_hints

from langgraph.checkpoint.base import BaseCheckpointSaver
from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from ..savers import InvalidRequest, Saver, Unreadable
from ..savers.inspection import Inspection, Opened, Seen
from ..savers.program import run
from ..savers.records import Place

DAMAGED = "damaged"
NO_PARENT = "no parent"
CIRCLE = "circle"
WRONG_TYPE = "wrong type"
ORPHAN_WRITES = "orphan writes"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and where: names, or what is stored in place of one that cannot be read."""

    what: str
    thread_id: str
    ns: str
    checkpoint_id: str
    why: str = field(default="", compare=False)
    place: Place | None = field(default=None, compare=False, repr=False)
    """Where the engine has it; None for a whole thread that cannot be read."""

    def __str__(self) -> str:
        space = f", namespace {self.ns!r}" if self.ns else ""
        checkpoint = f", checkpoint {self.checkpoint_id}" if self.checkpoint_id else ""
        return f"{self.what}: thread {self.thread_id!r}{space}{checkpoint}{f': {self.why}' if self.why else ''}"


def our(saver: BaseCheckpointSaver) -> Saver:
    """The saver, if it is one of ours."""
    if not isinstance(saver, Saver):
        raise InvalidRequest(
            f"Only stores of learning.savers can be validated, not those of {type(saver).__name__}: convert it first."
        )
    return saver


def validate(saver: BaseCheckpointSaver, schema: Any = None) -> Iterator[Problem]:
    """Find what is wrong in one of our savers, thread by thread; in memory is what belongs to one thread.

        damaged         a checkpoint, or something that a task wrote, cannot be read
        no parent       the parent is not there; after `prune` and `retain` that is so for the oldest that were kept
        circle          a checkpoint is its own ancestor; of each circle one is named, whose parent is not older
        wrong type      a value is not as the schema says
        orphan writes   a task wrote after a checkpoint that is not there, and newer ones are

    Orphan writes are seen in memory and in files. The other engines cannot list writes by themselves; like these two,
    they remove them whenever checkpoints of the thread are removed.

    Args:
        schema: the class of the state, or a mapping of channels to types. A channel that has no value is no problem.

    Raises:
        InvalidRequest: if it is not one of our savers; a wrapper around one neither: give it what is inside.
    """
    saver = our(saver)
    types = adapters(schema)
    inspection = Inspection(saver)
    for thread in run(inspection.threads(), saver.engine.perform):
        seen: list[Seen] = []
        try:
            run(inspection.scan(thread, seen.append), saver.engine.perform)
        except Unreadable as error:
            yield Problem(DAMAGED, thread.hex(), "", "", str(error))
            continue
        parents = {each.row.place: each for each in seen}
        circles = _circles(parents)
        for each in seen:
            yield from _links(each, parents, circles)
            yield from _contents(each, run(inspection.open(each.row.place), saver.engine.perform), types)
        names = {each.row.place.space: each.name for each in reversed(seen)}
        for place in inspection.orphans(thread).writes:
            thread_id, ns = names[place.space]
            yield Problem(ORPHAN_WRITES, thread_id, ns, place.id, place=place)


def adapters(schema: Any) -> dict[str, TypeAdapter[Any]]:
    """What checks the values of each channel.

    Raises:
        InvalidRequest: if it is no schema.
    """
    if schema is None:
        return {}
    if isinstance(schema, Mapping):
        return {channel: _adapter(kind) for channel, kind in schema.items()}
    if not isinstance(schema, type):
        raise InvalidRequest(f"A schema is the class of a state or a mapping of channels to types, not {schema!r}.")
    return {channel: _adapter(kind) for channel, kind in get_type_hints(schema, include_extras=True).items()}


def _adapter(kind: Any) -> TypeAdapter[Any]:
    while get_origin(kind) in (Required, NotRequired):
        kind = get_args(kind)[0]
    try:
        return TypeAdapter(kind, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:  # some classes bring a config of their own
        return TypeAdapter(kind)


def _links(each: Seen, there: Mapping[Place, Seen], circles: set[Place]) -> Iterator[Problem]:
    place = each.row.place
    if place in circles:
        yield Problem(CIRCLE, *each.name, place.id, f"its parent is {each.parent}", place)
    elif each.parent and Place(place.thread, place.space, each.parent) not in there:
        yield Problem(NO_PARENT, *each.name, place.id, f"there is no {each.parent}", place)


def _contents(each: Seen, opened: Opened, types: Mapping[str, TypeAdapter[Any]]) -> Iterator[Problem]:
    place = each.row.place
    if error := each.error or opened.error:
        yield Problem(DAMAGED, *each.name, place.id, str(error) or type(error).__name__, place)
    elif opened.damaged_writes:
        tasks = ", ".join(sorted({task_id for task_id, _ in opened.damaged_writes}))
        yield Problem(DAMAGED, *each.name, place.id, f"something that was written by task {tasks}", place)
    if opened.found:
        for channel, value in opened.found.checkpoint["channel_values"].items():
            if channel in types and (wrong := _wrong(types[channel], value)):
                yield Problem(WRONG_TYPE, *each.name, place.id, f"{channel}: {wrong}", place)


def _wrong(adapter: TypeAdapter[Any], value: Any) -> str:
    try:
        adapter.validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"[{part!r}]" for part in first["loc"])
        return f"{where}{' ' if where else ''}{first['msg']}"
    return ""


def _circles(seen: Mapping[Place, Seen]) -> set[Place]:
    """Of each circle of parents, the oldest checkpoint: its parent is not older than itself."""
    done: set[Place] = set()
    found: set[Place] = set()
    for start in seen:
        way: dict[Place, None] = {}
        here = start
        while here in seen and here not in done and here not in way:
            way[here] = None
            here = Place(here.thread, here.space, seen[here].parent or "")
        if here in way:
            circle = list(way)[list(way).index(here) :]
            found.add(min(circle, key=lambda place: place.id))
        done |= way.keys()
    return found
