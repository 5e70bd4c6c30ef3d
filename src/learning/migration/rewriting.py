"""A checkpoint in another version of its state: the same place in its thread, other values, and a stamp."""

from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata, CheckpointTuple

from .steps import Values

STAMP = "state_version"
"""The key in a checkpoint's metadata that tells the version of its values."""


def state_version(found: CheckpointTuple) -> int:
    """The version of a checkpoint's values: what its stamp says, and 1 without a stamp."""
    stamp: Any = found.metadata.get(STAMP, 1)
    return int(stamp)


def rewritten(
    found: CheckpointTuple, values: Values, version: int
) -> tuple[RunnableConfig, Checkpoint, CheckpointMetadata, ChannelVersions]:
    """The arguments of `put` that store a checkpoint in its own place again, with these values of this version.

    A channel that is new gets the newest version number that the checkpoint has, and one that is gone loses its own.
    All channels that have a value are named as changed: a saver that stores channels apart has none of the new ones.
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
    checkpoint: Checkpoint = {**before, "channel_values": values, "channel_versions": versions}
    parent = found.parent_config["configurable"]["checkpoint_id"] if found.parent_config else None
    place = {"thread_id": named["thread_id"], "checkpoint_ns": named.get("checkpoint_ns", "")}
    config: RunnableConfig = {"configurable": place | ({"checkpoint_id": parent} if parent else {})}
    metadata: CheckpointMetadata = {**found.metadata, STAMP: version}  # type: ignore[misc]  # any key may be in it
    return config, checkpoint, metadata, versions
