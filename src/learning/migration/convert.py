"""From one saver into another: every thread as it is, so that it continues there."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby

from langgraph.checkpoint.base import WRITES_IDX_MAP, BaseCheckpointSaver, CheckpointTuple

from ..savers.program import Program
from ..savers.wrappers.base import Call
from .rewriting import by_task
from .walk import Failures, Name, config_of, id_of, is_of_storage, names, page_before, perform


@dataclass
class Conversion:
    """What became of the checkpoints of a store."""

    threads: int = 0
    """In how many threads and namespaces they are; known before the first is copied."""
    threads_done: int = 0
    copied: int = 0
    there: int = 0
    """How many the target had already."""
    failed: Failures = field(default_factory=Failures)


def convert(
    source: BaseCheckpointSaver,
    target: BaseCheckpointSaver,
    *,
    on_progress: Callable[[Conversion], None] = lambda report: None,
) -> Conversion:
    """Copy all threads of any saver into any other: checkpoints, parents, metadata, and what tasks wrote.

    What the target has already is left as it is, so a second run finishes one that was stopped, and takes along what
    has been stored since. A checkpoint that cannot be read, or that the target refuses, is named in the report.

    Writes keep their order. LangGraph does not tell the path of the task that wrote, and the target sorts by it: each
    task gets its number in place of it. (PostgresSaver sorts by the ids of tasks in any case.)

    Args:
        on_progress: called with the report so far, after each few checkpoints.

    Raises:
        SaverError, OSError, or what a driver raises: if a storage does not answer, or is full. Run it again then.
    """
    return perform(_convert(source, target, Conversion(), on_progress))


def _convert(
    source: BaseCheckpointSaver,
    target: BaseCheckpointSaver,
    report: Conversion,
    on_progress: Callable[[Conversion], None],
) -> Program[Conversion]:
    found = yield from names(source, report.failed)
    report.threads = len(found)
    for name in found:
        yield from _namespace(source, target, name, report, on_progress)
        report.threads_done += 1
        on_progress(report)
    return report


def _namespace(
    source: BaseCheckpointSaver,
    target: BaseCheckpointSaver,
    name: Name,
    report: Conversion,
    on_progress: Callable[[Conversion], None],
) -> Program[None]:
    """Oldest first, as they were made: where a run is stopped, no checkpoint is without its parent.

    Pages come newest first. So only their ends are noted, and all but the first one are read again from the last on.
    """
    newest, end = yield from page_before(source, name, None, report.failed)
    ends: list[str] = []
    while end:
        ends.append(end)
        _, end = yield from page_before(source, name, end, report.failed)
    for bound in reversed(ends):
        older, _ = yield from page_before(source, name, bound, report.failed)
        yield from _page(target, name, older, report)
        on_progress(report)
    yield from _page(target, name, newest, report)


def _page(target: BaseCheckpointSaver, name: Name, page: list[CheckpointTuple], report: Conversion) -> Program[None]:
    for each in reversed(page):
        try:
            copied = yield from _copy(target, name, each)
        except Exception as error:  # a value that the target does not take is no reason to leave the others
            if is_of_storage(error):
                raise
            report.failed.add(name, id_of(each), error)
        else:
            report.copied += copied
            report.there += not copied


def _copy(target: BaseCheckpointSaver, name: Name, found: CheckpointTuple) -> Program[bool]:
    """Whether there was something to copy."""
    here = config_of(name, id_of(found))
    there = yield Call(target, "get_tuple", (here,))
    if there is None:
        parent = found.parent_config["configurable"]["checkpoint_id"] if found.parent_config else None
        versions = found.checkpoint["channel_versions"]
        yield Call(target, "put", (config_of(name, parent), found.checkpoint, found.metadata, versions))
    written = Counter(each[:2] for each in there.pending_writes or ()) if there else Counter()
    copied = there is None
    for number, (task_id, writes) in enumerate(by_task(found).items()):
        if Counter((task_id, channel) for channel, _ in writes) <= written:
            continue
        copied = True
        for _, some in groupby(writes, key=lambda write: write[0] in WRITES_IDX_MAP):
            yield Call(target, "put_writes", (here, list(some), task_id, f"{number:08}"))
    return copied
