"""The way through all that any saver has stored: a few checkpoints in memory at once, and nothing open between them.

Programs of steps (see `learning.savers.program`): `run` and `arun` go the same way, sync and async.
"""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psycopg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple

from ..savers import Saver, SaverError, Unreadable
from ..savers.inspection import Inspection, Seen
from ..savers.program import Program, arun, in_thread, run
from ..savers.records import Place

PAGE = 50
"""How many checkpoints of a thread are in memory at once."""

Name = tuple[str, str]
"""A thread and a namespace in it."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Failure:
    """A checkpoint that was left as it is, and why."""

    thread_id: str
    ns: str
    checkpoint_id: str
    reason: str

    def __str__(self) -> str:
        space = f", namespace {self.ns!r}" if self.ns else ""
        return f"thread {self.thread_id!r}{space}, checkpoint {self.checkpoint_id}: {self.reason}"


@dataclass
class Failures:
    """What could not be done, each checkpoint once."""

    found: dict[tuple[str, str, str], Failure] = field(default_factory=dict)

    def add(self, name: Name, checkpoint_id: str, error: Exception) -> None:
        """This checkpoint was left as it is."""
        reason = str(error) if isinstance(error, SaverError | ValueError) else f"{type(error).__name__}: {error}"
        self.found.setdefault((*name, checkpoint_id), Failure(*name, checkpoint_id, reason))

    def __iter__(self) -> Iterator[Failure]:
        return iter(self.found.values())

    def __len__(self) -> int:
        return len(self.found)


# --- steps ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Listing:
    """Some checkpoints, newest first."""

    saver: BaseCheckpointSaver
    config: RunnableConfig | None
    before: RunnableConfig | None
    limit: int

    def perform(self) -> list[CheckpointTuple]:
        """All of them, so that nothing is open when something is stored."""
        return list(self.saver.list(self.config, before=self.before, limit=self.limit))

    async def aperform(self) -> list[CheckpointTuple]:
        """The same, awaited."""
        return [found async for found in self.saver.alist(self.config, before=self.before, limit=self.limit)]


@dataclass(frozen=True)
class Names:
    """The names of all threads and namespaces, from a listing that gives one checkpoint after the other."""

    saver: BaseCheckpointSaver

    def perform(self) -> list[Name]:
        """Each once."""
        return list({name_of(found): None for found in self.saver.list(None)})

    async def aperform(self) -> list[Name]:
        """The same, awaited."""
        return list({name_of(found): None async for found in self.saver.alist(None)})


@dataclass(frozen=True)
class Ask:
    """A program for the engine of one of our savers."""

    saver: Saver
    program: Program[Any]

    def perform(self) -> Any:
        """Its result."""
        return run(self.program, self.saver.engine.perform)

    async def aperform(self) -> Any:
        """The same, awaited."""
        return await arun(self.program, self.saver.engine.aperform)


@dataclass(frozen=True)
class Work:
    """A function that takes time; beside the event loop, where there is one."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]

    def perform(self) -> Any:
        """Its result."""
        return self.function(*self.arguments)

    async def aperform(self) -> Any:
        """The same, in a thread."""
        return await in_thread(self.function, *self.arguments)


def perform(program: Program[Result]) -> Result:
    """The result of a program of steps."""
    return run(program, lambda step: step.perform())


async def aperform(program: Program[Result]) -> Result:
    """The same, awaited."""
    return await arun(program, lambda step: step.aperform())


def is_of_storage(error: Exception) -> bool:
    """Whether an error is about a storage, and not about what is stored: nothing else will do better then."""
    if isinstance(error, SaverError):
        return error.retry_is_safe
    return isinstance(error, OSError | psycopg.OperationalError | psycopg.InterfaceError | sqlite3.OperationalError)


# --- programs ---------------------------------------------------------------------------------------------------------


def name_of(found: CheckpointTuple) -> Name:
    """Where a checkpoint is."""
    named: dict[str, Any] = found.config["configurable"]
    return named["thread_id"], named.get("checkpoint_ns", "")


def id_of(found: CheckpointTuple) -> str:
    """Its id."""
    return found.config["configurable"]["checkpoint_id"]


def config_of(name: Name, checkpoint_id: str | None = None) -> RunnableConfig:
    """The config that names a checkpoint, or its namespace."""
    named = {"thread_id": name[0], "checkpoint_ns": name[1]}
    return {"configurable": named | ({"checkpoint_id": checkpoint_id} if checkpoint_id else {})}


def names(saver: BaseCheckpointSaver, failures: Failures) -> Program[list[Name]]:
    """All threads and their namespaces. These alone are held in memory as a whole."""
    if isinstance(saver, Saver):
        return (yield from _our_names(saver, failures))
    if not any(each.__module__.startswith("langgraph.checkpoint.postgres") for each in type(saver).__mro__):
        return (yield Names(saver))
    seen: dict[Name, None] = {}  # this one has the whole answer in memory before it gives the first: so in pages
    before, limit = None, PAGE
    while page := (yield Listing(saver, None, before, limit)):
        seen |= {name_of(found): None for found in page}
        if len(page) < limit:
            break
        whole = [found for found in page if id_of(found) != id_of(page[-1])]  # another thread may have the last id too
        before, limit = (whole[-1].config, PAGE) if whole else (before, 2 * limit)
    return list(seen)


def _our_names(saver: Saver, failures: Failures) -> Program[list[Name]]:
    seen: dict[Name, None] = {}
    named: set[tuple[bytes, bytes]] = set()
    damaged: list[tuple[Name, Place, Exception]] = []

    def visit(each: Seen) -> None:
        if each.error:
            damaged.append((each.name, each.row.place, each.error))
        else:
            seen[each.name] = None
            named.add((each.row.place.thread, each.row.place.space))

    inspection = Inspection(saver)
    try:
        yield Ask(saver, inspection.scan(None, visit))
    except Unreadable:  # a thread of which nothing can be read: the others by themselves
        for thread in (yield Ask(saver, inspection.threads())):
            try:
                yield Ask(saver, inspection.scan(thread, visit))
            except Unreadable as error:
                failures.add((thread.hex(), ""), "(all)", error)
    for name, place, why in damaged:
        if (place.thread, place.space) not in named:  # else it is found once more, under its own name
            failures.add(name, place.id, why)
    return list(seen)


def page_before(
    saver: BaseCheckpointSaver, name: Name, before: str | None, failures: Failures
) -> Program[tuple[list[CheckpointTuple], str | None]]:
    """The next checkpoints of a namespace, newest first, and the id before which to go on, or None at the end."""
    bound = config_of(name, before) if before else None
    try:
        page = yield Listing(saver, config_of(name), bound, PAGE)
        return page, id_of(page[-1]) if len(page) == PAGE else None
    except Exception as error:
        if is_of_storage(error):
            raise
        return (yield from _one_by_one(saver, name, before, failures))


def _one_by_one(
    saver: BaseCheckpointSaver, name: Name, before: str | None, failures: Failures
) -> Program[tuple[list[CheckpointTuple], str | None]]:
    """As `page_before`, where one of the checkpoints cannot be read."""
    page: list[CheckpointTuple] = []
    for _ in range(PAGE):
        try:
            found = yield Listing(saver, config_of(name), config_of(name, before) if before else None, 1)
        except Exception as error:
            if is_of_storage(error):
                raise
            id = getattr(error, "checkpoint_id", None)
            if id is None:  # a saver of others does not say which it was, and there is no way past it
                failures.add(name, f"before {before}" if before else "(the newest)", error)
                return page, None
            failures.add(name, id, error)
            before = id
        else:
            if not found:
                return page, None
            page += found
            before = id_of(found[0])
    return page, before
