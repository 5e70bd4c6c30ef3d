"""Bugs that the official suite does not see, each put into a working saver: our contract sees it.

Most are bugs of savers that people use; see FACTS.md of the project, "What the official conformance suite misses".
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver

from learning.savers import Saver, Unreadable
from learning.savers.engines.memory import MemoryEngine, Shelf
from learning.savers.program import run
from learning.savers.records import Get, Place, Put, PutWrites, Request

from . import cases, extended
from .conftest import Storage


class Engine(MemoryEngine):
    """A sound engine, for bugs to change what it is asked and what it answers."""

    def perform(self, request: Request) -> Any:
        return self.answered(request, super().perform(self.asked(request)))

    def asked(self, request: Request) -> Request:
        return request

    def answered(self, request: Request, answer: Any) -> Any:
        return answer


class LiveObjects(Saver):
    """Keeps the objects that it is handed."""

    def put(self, config: Any, checkpoint: Any, *rest: Any) -> Any:
        self.__dict__.setdefault("live", {})[checkpoint["id"]] = checkpoint["channel_values"]
        return super().put(config, checkpoint, *rest)

    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        if found:
            found.checkpoint["channel_values"] = self.live[found.checkpoint["id"]]
        return found


class IntegerVersions(Saver):
    """Takes a number for the version, and finds a value by channel and version."""

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        blobs = self.__dict__.setdefault("blobs", {})
        blobs |= {(name, version): checkpoint["channel_values"].get(name) for name, version in new_versions.items()}
        return super().put(config, checkpoint, metadata, new_versions)

    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        if found:
            versions = found.checkpoint["channel_versions"]
            values = {name: self.blobs[name, versions[name]] for name in found.checkpoint["channel_values"]}
            found.checkpoint["channel_values"] = values
        return found

    def get_next_version(self, current: Any, channel: Any) -> Any:
        return (current or 0) + 1


class MetadataNotMerged(Saver):
    """Stores the metadata that it is handed, and nothing of the config."""

    def put(self, config: Any, *rest: Any) -> Any:
        named = config["configurable"]
        kept = {key: named[key] for key in ("thread_id", "checkpoint_ns", "checkpoint_id") if key in named}
        return super().put({"configurable": kept}, *rest)


class PathDropped(Saver):
    """Forgets the path of a task."""

    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        super().put_writes(config, writes, task_id)


class ForeignKey(Saver):
    """Refuses writes whose checkpoint is not there yet."""

    def put_writes(self, config: Any, *rest: Any) -> None:
        if self.get_tuple(config) is None:
            raise KeyError("violates foreign key constraint")
        super().put_writes(config, *rest)


class InsertionOrder(Saver):
    """Gives writes in the order in which they came."""

    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        came = self.__dict__.setdefault("came", [])
        came.append(task_id)
        super().put_writes(config, writes, task_id, task_path)

    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        return found and found._replace(
            pending_writes=sorted(found.pending_writes, key=lambda write: self.came.index(write[0]))
        )


class RetryOverwrites(Engine):
    """Takes what a task writes again in place of what it wrote first."""

    def asked(self, request: Request) -> Request:
        if isinstance(request, PutWrites) and (shelf := self._shelf(request.place.thread)):
            for task in request.writes:
                shelf.writes.get(request.place, {}).pop(task, None)
        return request


class IndexMapIgnored(Saver):
    """Numbers an interrupt as any other write."""

    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        indexed = [(index, *write) for index, write in enumerate(writes)]
        run(self._core._put_writes(config, indexed, task_id, task_path, None), self.engine.perform)


class LatestInserted(Engine):
    """Takes the checkpoint that was put last for the newest."""

    last: Place | None = None

    def asked(self, request: Request) -> Request:
        if isinstance(request, Put):
            self.last = request.place
        if isinstance(request, Get) and request.id is None and self.last:
            return replace(request, id=self.last.id)
        return request


class DeletesByPrefix(Saver):
    """Deletes each thread whose id begins with that of the one to delete."""

    def delete_thread(self, thread_id: str) -> None:
        found = {each.config["configurable"]["thread_id"] for each in self.list(None)}
        for each in found:
            if each.startswith(thread_id):
                super().delete_thread(each)


class WritesLeftBehind(Saver):
    """Leaves the writes of a thread that is deleted."""

    def delete_thread(self, thread_id: str) -> None:
        for shelf in self.engine._shelves.values():
            shelf.rows.clear()
            shelf.order.clear()


class ItemsLeaked(Shelf):
    """Leaves the items that nothing needs any more."""

    def remove(self, places: Any) -> int:
        before = self.items
        removed = super().remove(places)
        self.items = before
        return removed


class SharedItemsRemoved(Shelf):
    """Takes what a removed checkpoint needed, whoever else needs it."""

    def remove(self, places: Any) -> int:
        gone = self.batch(list(places)).items
        removed = super().remove(places)
        self.items = {name: item for name, item in self.items.items() if name not in gone}
        return removed


def with_saver(kind: type[Saver]) -> Callable[[], BaseCheckpointSaver]:
    return lambda: kind(MemoryEngine())


def with_engine(kind: type[MemoryEngine]) -> Callable[[], BaseCheckpointSaver]:
    return lambda: Saver(kind())


BUGS = {
    LiveObjects: (with_saver, cases.what_is_changed_after_a_put_stays_as_it_was_put),
    WritesLeftBehind: (with_saver, cases.a_checkpoint_that_comes_back_after_a_deletion_has_no_old_writes),
    DeletesByPrefix: (with_saver, cases.a_deleted_thread_is_gone_with_its_writes_and_no_other_is),
    RetryOverwrites: (with_engine, cases.a_write_that_is_made_again_keeps_what_was_written_first),
    IndexMapIgnored: (with_saver, cases.an_error_an_interrupt_and_an_answer_to_it_are_the_last_that_were_written),
    IntegerVersions: (with_saver, cases.a_fork_leaves_the_branch_that_it_left_alone),
    PathDropped: (with_saver, cases.writes_come_in_the_order_of_their_paths_tasks_and_indexes),
    InsertionOrder: (with_saver, cases.writes_come_in_the_order_of_their_paths_tasks_and_indexes),
    ForeignKey: (with_saver, cases.writes_may_come_before_their_checkpoint),
    LatestInserted: (with_engine, cases.the_newest_is_the_one_with_the_greatest_id),
    MetadataNotMerged: (with_saver, cases.metadata_takes_what_the_config_has),
}


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_known_bug_is_seen_by_name(bug: type):
    with_bug, case = BUGS[bug]

    case(Saver(MemoryEngine()))
    with pytest.raises((AssertionError, KeyError)):
        case(with_bug(bug)())


@pytest.mark.parametrize("shelf", [ItemsLeaked, SharedItemsRemoved])
def test_a_bug_of_removal_is_seen(shelf: type[Shelf], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("learning.savers.engines.memory.Shelf", shelf)

    with pytest.raises((AssertionError, Unreadable)):
        extended.pruning_keeps_the_newest_whole_and_its_items_only(Storage("memory", "", memory=MemoryEngine()))
