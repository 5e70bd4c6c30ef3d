"""A checkpoint in another version of its state: the same place in its thread, other values, and a stamp."""

from typing import Any, Protocol

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)

from .steps import Values, upcast_writes

STAMP = "state_version"
"""The key in a checkpoint's metadata that tells the version of its values."""


class Upcasts(Protocol):
    """What knows the way from one version to another, as `Migrations` does."""

    def upcast(self, values: Values, start: int, goal: int) -> Values:
        """Values of version `start` in version `goal`."""


def state_version(found: CheckpointTuple) -> int:
    """The version of a checkpoint's values: what its stamp says, and 1 without a stamp."""
    return int(found.metadata.get(STAMP, 1))


def rewritten(
    found: CheckpointTuple, values: Values, version: int
) -> tuple[RunnableConfig, Checkpoint, CheckpointMetadata, ChannelVersions]:
    """The arguments of `put` that store a checkpoint in its own place again, with these values of this version.

    A channel that is new gets the newest version number that the checkpoint has, and one that is gone loses its own.
    All channels that have a value are named as changed: a saver that stores channels apart has none of the new ones.
    Input that waits in `__start__` has other values under the same name, so it gets another number, just above its own:
    PostgresSaver never stores a number twice.
    """
    named: dict[str, Any] = found.config["configurable"]
    before = found.checkpoint
    newest = max(before["channel_versions"].values(), default=f"{1:032}.0")
    kept = {
        name: number
        for name, number in before["channel_versions"].items()
        if name in values or name not in before["channel_values"]
    }
    versions = kept | {name: newest for name in values if name not in kept}
    if "__start__" in values and isinstance(versions["__start__"], str):
        versions["__start__"] += f".{version}"
    checkpoint: Checkpoint = {**before, "channel_values": values, "channel_versions": versions}
    parent = found.parent_config["configurable"]["checkpoint_id"] if found.parent_config else None
    place = {"thread_id": named["thread_id"], "checkpoint_ns": named.get("checkpoint_ns", "")}
    config: RunnableConfig = {"configurable": place | ({"checkpoint_id": parent} if parent else {})}
    metadata: CheckpointMetadata = {**found.metadata, STAMP: version}  # type: ignore[typeddict-unknown-key]
    return config, checkpoint, metadata, versions


def rewritten_writes(
    found: CheckpointTuple, migrations: Upcasts, version: int
) -> list[tuple[RunnableConfig, list[tuple[str, Any]], str]]:
    """The arguments of each `put_writes` that stores what tasks wrote after a checkpoint under its names of a version.

    It adds what has another name. The old name stays, for no saver can remove one write; a graph that does not know it
    passes over it with a warning. Store these before the checkpoint, whose stamp says that all is done.
    """
    calls = []
    for task_id, written in by_task(found).items():
        plain = [write for write in written if write[0] not in WRITES_IDX_MAP]
        there = {channel for channel, _ in plain}
        upcast = upcast_writes(migrations.upcast, [(task_id, *write) for write in plain], state_version(found), version)
        if new := [(channel, value) for _, channel, value in upcast if channel not in there]:
            calls.append((found.config, plain + new, task_id))  # what is there keeps its index, and is not stored again
    return calls


def by_task(found: CheckpointTuple) -> dict[str, list[tuple[str, Any]]]:
    """What each task wrote after a checkpoint, in the order in which the saver tells it."""
    tasks: dict[str, list[tuple[str, Any]]] = {}
    for task_id, channel, value in found.pending_writes or ():
        tasks.setdefault(task_id, []).append((channel, value))
    return tasks
