"""Mends what is wrong in a store, or sets it aside in a file, from which it can be put back."""

import json
import os
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver

from ..savers import Saver, SaverError
from ..savers.core import _new_epoch
from ..savers.inspection import Inspection, Opened, Seen
from ..savers.program import run
from ..savers.records import Batch, Place, Put, PutWrites, Record
from .validate import CIRCLE, NO_PARENT, Problem, our, validate
from .walk import config_of, is_of_storage

MOVED = "parent set aside"
"""Why there is a line in the file for a checkpoint that was healthy itself."""


@dataclass
class Repair:
    """What became of each problem."""

    mended: list[Problem] = field(default_factory=list)
    aside: list[Problem] = field(default_factory=list)
    left: list[Problem] = field(default_factory=list)
    """Only a copy helps: nothing of the thread can be read, or the saver refused."""


def repair(saver: BaseCheckpointSaver, file: Path, schema: Any = None) -> Repair:
    """Mend the problems that `validate` finds, or set what has them aside. What is healthy is not touched.

    A checkpoint whose parent is missing, or that closes a circle, becomes a first one. What is damaged or of a wrong
    type goes into the file with all that belongs to it, and its children get its parent, if that can be read. In the
    file is also what each checkpoint that gets another parent had before. It is on disk before anything is changed,
    and it grows: a repair that was stopped may be run again. `restore` puts back what was set aside.

    Raises:
        InvalidRequest: as `validate`.
        OSError: if the file cannot be written. Nothing was changed then.
    """
    saver = our(saver)
    problems = list(validate(saver, schema))
    report = Repair(left=[problem for problem in problems if problem.place is None])
    gone = {each.place: each for each in problems if each.place and each.what not in (NO_PARENT, CIRCLE)}
    broken = {each.place for each in problems if each.place} - gone.keys()
    inspection = Inspection(saver)
    parents: dict[Place, str | None] = {}
    names: dict[Place, tuple[str, str]] = {}
    for thread in dict.fromkeys(problem.place.thread for problem in problems if problem.place):
        seen: list[Seen] = []
        run(inspection.scan(thread, seen.append), saver.engine.perform)
        parents |= {each.row.place: each.parent for each in seen}
        names |= {each.row.place: each.name for each in seen}
    moved = {
        place: above
        for place, parent in parents.items()
        if place not in gone and (above := _above(place, parents, gone, broken)) != parent
    }
    children = [Problem(MOVED, *names[place], place.id, place=place) for place in moved if place not in broken]
    with open(file, "a", encoding="utf-8") as out:
        for problem in [*problems, *children]:
            if place := problem.place:
                opened = run(inspection.open(place), saver.engine.perform)
                out.write(json.dumps(_line(problem, place, opened, inspection, parents, place in gone)) + "\n")
        out.flush()
        os.fsync(out.fileno())
    refused: set[Place] = set()
    for place, above in moved.items():
        try:
            found = run(inspection.open(place), saver.engine.perform).found
            if found is None:  # somebody has removed it since
                continue
            config, versions = config_of(names[place], above), found.checkpoint["channel_versions"]
            saver.put(config, found.checkpoint, found.metadata, versions)
        except SaverError as error:
            if is_of_storage(error):
                raise
            refused.add(place)
    for thread in dict.fromkeys(place.thread for place in gone):
        run(inspection.remove([place for place in gone if place.thread == thread]), saver.engine.perform)
    for problem in problems:
        if problem.place in refused:
            report.left.append(problem)
        elif problem.place:
            (report.aside if problem.place in gone else report.mended).append(problem)
    return report


def _above(
    place: Place, parents: Mapping[Place, str | None], gone: Mapping[Place, Problem], broken: set[Place]
) -> str | None:
    """The parent that a checkpoint has in the end: the next of its ancestors that stays, if its line leads there."""
    seen = set()
    while place not in broken and place not in seen and parents[place]:
        seen.add(place)
        above = Place(place.thread, place.space, parents[place] or "")
        if above not in gone:
            return above.id
        if above not in parents:
            return None
        place = above
    return None


def restore(saver: Saver, file: Path) -> int:
    """Put back what `repair` has set aside, as it was, where nothing has taken its place; how many records it was."""
    count = 0
    for line in file.read_text(encoding="utf-8").splitlines():
        kept = json.loads(line)
        if not kept["aside"]:
            continue
        place = Place(_bytes(kept["place"][0]), _bytes(kept["place"][1]), kept["place"][2])
        name = saver._core._codec.name(place.thread, kept["thread_id"]) if not kept["name"] else _bytes(kept["name"])
        items = {_bytes(each): _record(record) for each, record in kept["items"]}
        if kept["record"]:
            saver.engine.perform(Put(place, _record(kept["record"]), items, name, None, _new_epoch()))
        writes = {(task_id, index): _record(record) for task_id, index, record in kept["writes"]}
        if writes:
            saver.engine.perform(PutWrites(place, writes, items, name, None, _new_epoch()))
        count += 1
    return count


def _line(
    problem: Problem,
    place: Place,
    opened: Opened,
    inspection: Inspection,
    parents: Mapping[Place, str | None],
    aside: bool,
) -> dict[str, Any]:
    batch: Batch = opened.batch if opened.batch.rows else inspection.orphans(place.thread)
    row = batch.rows[0] if batch.rows else None
    return {
        "what": problem.what,
        "why": problem.why,
        "thread_id": problem.thread_id,
        "checkpoint_ns": problem.ns,
        "checkpoint_id": problem.checkpoint_id,
        "parent": parents.get(place),
        "aside": aside,
        "place": [_text(place.thread), _text(place.space), place.id],
        "name": _text(row.name) if row else "",
        "record": _parts(row.record) if row else None,
        "writes": [[*task, _parts(record)] for task, record in batch.writes.get(place, {}).items()],
        "items": [[_text(name), _parts(record)] for name, record in batch.items.items()],
    }


def _parts(record: Record) -> list[Any]:
    return [_text(record.data), [_text(name) for name in record.needs]]


def _record(parts: list[Any]) -> Record:
    return Record(_bytes(parts[0]), tuple(_bytes(name) for name in parts[1]))


def _text(data: bytes) -> str:
    return b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return b64decode(text)
