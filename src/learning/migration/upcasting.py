"""A saver that shows code of one version what code of any version has stored: nothing has to be migrated first."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple

from ..savers.program import Program
from ..savers.wrappers.base import Call, Wrapper
from .rewriting import STAMP, rewritten, state_version
from .steps import Migrations


class UpcastingSaver(Wrapper):
    """Takes what is read along the steps to this code's version, and stamps what is stored.

    What is newer than this code is handed on as it is. What this code does not know of its parent's values is carried
    along when it stores the next checkpoint, and so is the stamp: an old worker can stand beside new ones, as long as
    these have only added to the state.

    Args:
        inner: where states of all versions are.
        migrations: the steps from older versions to this one.
        version: the version of this code's state.
    """

    def __init__(self, inner: BaseCheckpointSaver, migrations: Migrations, version: int):
        super().__init__(inner)
        self.migrations = migrations
        self.version = version

    def upcast(self, found: CheckpointTuple) -> CheckpointTuple:
        """A checkpoint, with what tasks wrote, as this code's version has it.

        Raises:
            NoWay: if no steps lead there.
        """
        stored = state_version(found)
        if stored >= self.version:
            return found
        values = self.migrations.upcast(found.checkpoint["channel_values"], stored, self.version)
        _, checkpoint, metadata, _ = rewritten(found, values, self.version)
        writes = self.migrations.upcast_writes(found.pending_writes or [], stored, self.version)
        return found._replace(checkpoint=checkpoint, metadata=metadata, pending_writes=writes)

    def handle(self, call: Call) -> Program[Any]:
        """As `Wrapper.handle`."""
        if call.method == "put":
            return (yield from self._put(call))
        answer = yield call
        return self.upcast(answer) if call.method == "get_tuple" and answer else answer

    def _put(self, call: Call) -> Program[Any]:
        config, checkpoint, metadata, changed = call.arguments
        version, values, numbers = self.version, checkpoint["channel_values"], checkpoint["channel_versions"]
        if config["configurable"].get("checkpoint_id"):
            parent = yield Call(call.saver, "get_tuple", (config,))
            if parent:
                parent = self.upcast(parent)
                version = max(version, state_version(parent))
                before = parent.checkpoint["channel_values"].items()
                unknown = {name: value for name, value in before if name in numbers and name not in changed}
                values = unknown | values
        stored = {name: numbers[name] for name in values if name in numbers}
        arguments = (config, {**checkpoint, "channel_values": values}, {**metadata, STAMP: version}, stored | changed)
        return (yield Call(call.saver, "put", arguments))

    def list(self, config: Any, **options: Any) -> Iterator[CheckpointTuple]:
        """As `BaseCheckpointSaver.list`."""
        for found in self.inner.list(config, **options):
            yield self.upcast(found)

    async def alist(self, config: Any, **options: Any) -> AsyncIterator[CheckpointTuple]:
        """As `BaseCheckpointSaver.alist`."""
        async for found in self.inner.alist(config, **options):
            yield self.upcast(found)
