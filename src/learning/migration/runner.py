"""All that a saver has stored, taken to another version of its state, in place."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.serde.base import SerializerProtocol

from ..savers.program import Program
from ..savers.wrappers.base import Call, Pause
from .rewriting import rewritten, rewritten_writes, state_version
from .steps import Migrations, Values
from .walk import Failures, Name, Work, aperform, id_of, is_of_storage, names, page_before, perform

EXAMPLES = 3
"""How many changes are shown as examples."""


@dataclass(frozen=True)
class Example:
    """One checkpoint before and after: the channels that it had and has no more, and those that it has now."""

    thread_id: str
    ns: str
    checkpoint_id: str
    version: int
    removed: Values
    added: Values


@dataclass
class Migration:
    """What became of the checkpoints of a store, or would have become."""

    version: int
    dry_run: bool = False
    threads: int = 0
    """In how many threads and namespaces they are; known before the first is looked at."""
    threads_done: int = 0
    found: Counter[int] = field(default_factory=Counter)
    """How many were found in each version."""
    changed: int = 0
    failed: Failures = field(default_factory=Failures)
    added: Counter[str] = field(default_factory=Counter)
    """For each channel, how many checkpoints got it."""
    removed: Counter[str] = field(default_factory=Counter)
    """For each channel, how many checkpoints lost it."""
    examples: list[Example] = field(default_factory=list)


class SameName(ValueError):
    """A step changed a value under its old name."""


def migrate(
    saver: BaseCheckpointSaver,
    migrations: Migrations,
    version: int,
    *,
    dry_run: bool = False,
    on_progress: Callable[[Migration], None] = lambda report: None,
    pause: float = 0.0,
) -> Migration:
    """Take every checkpoint of any saver to a version of the state, in its own place.

    What has the stamp of that version is left as it is. So a second run finishes one that was stopped, and takes along
    what old workers have stored since. A checkpoint that cannot be read, or that a step fails on, stays as it was and
    is named in the report.

    What tasks have written is taken along too: the new names are added. The old ones stay, for no saver can remove one
    write; a graph that does not know them passes over them with a warning.

    Args:
        dry_run: change nothing, and tell what would change.
        on_progress: called with the report so far, after each few checkpoints.
        pause: how many seconds to leave the storage to others after each few checkpoints.

    Raises:
        SaverError, OSError, or what a driver raises: if a storage does not answer, or is full. Run it again then.
    """
    report = Migration(version, dry_run)
    for name in perform(_names(saver, report)):
        perform(_namespace(saver, migrations, name, report, on_progress, pause))
    return report


async def amigrate(
    saver: BaseCheckpointSaver,
    migrations: Migrations,
    version: int,
    *,
    limit: int = 4,
    dry_run: bool = False,
    on_progress: Callable[[Migration], None] = lambda report: None,
    pause: float = 0.0,
) -> Migration:
    """The same, with at most `limit` threads in work at once, and the steps beside the event loop.

    Once it is cancelled, it begins no other thread, and ends when those in work are done: none is left half in one
    version and half in another.
    """
    report = Migration(version, dry_run)
    threads: dict[str, list[Name]] = {}
    for name in await aperform(_names(saver, report)):
        threads.setdefault(name[0], []).append(name)

    async def work(spaces: list[Name]) -> None:
        for name in spaces:
            await aperform(_namespace(saver, migrations, name, report, on_progress, pause))

    waiting = list(reversed(threads.values()))
    working: set[asyncio.Task[None]] = set()
    stopped: BaseException | None = None
    while working or (waiting and not stopped):
        while waiting and not stopped and len(working) < limit:
            working.add(asyncio.create_task(work(waiting.pop())))
        try:
            done, working = await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError as cancelled:
            stopped = cancelled
        else:
            stopped = next((error for task in done if (error := task.exception())), stopped)
    if stopped:
        raise stopped
    return report


def _names(saver: BaseCheckpointSaver, report: Migration) -> Program[list[Name]]:
    found = yield from names(saver, report.failed)
    report.threads = len(found)
    return found


def _namespace(
    saver: BaseCheckpointSaver,
    migrations: Migrations,
    name: Name,
    report: Migration,
    on_progress: Callable[[Migration], None],
    pause: float,
) -> Program[None]:
    end: str | None = None
    while True:
        page, end = yield from page_before(saver, name, end, report.failed)
        for found in page:
            try:
                report.found[state_version(found)] += 1
                if state_version(found) != report.version:
                    yield from _checkpoint(saver, migrations, name, found, report)
            except Exception as error:  # a step is code of others: whatever it raises is no reason to leave the rest
                if is_of_storage(error):
                    raise
                report.failed.add(name, id_of(found), error)
        if end is None:
            report.threads_done += 1
        on_progress(report)
        if end is None:
            return
        yield Pause(pause)


def _checkpoint(
    saver: BaseCheckpointSaver, migrations: Migrations, name: Name, found: CheckpointTuple, report: Migration
) -> Program[None]:
    before = found.checkpoint["channel_values"]
    after, calls = yield Work(_prepared, (saver.serde, migrations, found, report.version))
    if not report.dry_run:
        for arguments in calls:  # the stamp comes last: what is stopped before it is done again
            yield Call(saver, "put_writes", arguments)
        yield Call(saver, "put", rewritten(found, after, report.version))
    added = {channel: value for channel, value in after.items() if channel not in before}
    removed = {channel: value for channel, value in before.items() if channel not in after}
    report.changed += 1
    report.added.update(added.keys())
    report.removed.update(removed.keys())
    if (added or removed) and len(report.examples) < EXAMPLES:
        report.examples.append(Example(*name, id_of(found), state_version(found), removed, added))


def _prepared(
    serde: SerializerProtocol, migrations: Migrations, found: CheckpointTuple, version: int
) -> tuple[Values, list[tuple[Any, ...]]]:
    """The values in this version, and the arguments of each `put_writes` that takes what tasks wrote along."""
    before = found.checkpoint["channel_values"]
    after = migrations.upcast(before, state_version(found), version)
    for channel, value in after.items():
        if channel in before and channel != "__start__" and not _same(serde, before[channel], value):
            raise SameName(f"a step changed the value of {channel!r} under this name, which checkpoints share: rename")
    return after, rewritten_writes(found, migrations, version)


def _same(serde: SerializerProtocol, before: Any, after: Any) -> bool:
    """Steps get copies. An object whose class does not define equality is the same if it is stored as the same."""
    try:
        if before == after:
            return True
    except Exception:  # arrays have no answer
        pass
    return serde.dumps_typed(before) == serde.dumps_typed(after)
