"""A whole checkpointer over four methods of a storage: to learn from, and to begin with a storage of one's own."""

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import ormsgpack
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    CheckpointTuple,
    get_checkpoint_id,
    get_checkpoint_metadata,
)

from .in_threads import InThreads


class PlainSaver(InThreads):
    """LangGraph's rules, over a storage that keeps each thread as one piece of bytes.

    A subclass says where the bytes are: it writes `read`, `change`, `remove` and `threads`. Each change writes its
    whole thread anew, so this is for threads that stay short; `learning.savers.open_saver` has savers for others. It
    takes all values of a checkpoint from its put, as LangGraph gives them, whatever `new_versions` names.
    """

    # --- what a subclass writes ---------------------------------------------------------------------------------------

    def read(self, thread_id: str) -> bytes | None:
        """The bytes of a thread, or None if there is no such thread."""
        raise NotImplementedError

    def change(self, thread_id: str, edit: Callable[[bytes | None], bytes]) -> None:
        """Store what `edit` makes of the bytes of a thread, or of None if there is no such thread.

        When this returns, the change is stored for good. Nobody else's change may be lost by it. `edit` may be called
        more than once.
        """
        raise NotImplementedError

    def remove(self, thread_id: str) -> None:
        """Remove the bytes of a thread, if there are any."""
        raise NotImplementedError

    def threads(self) -> Iterable[str]:
        """The ids of all threads, in any order."""
        raise NotImplementedError

    # --- LangGraph's rules --------------------------------------------------------------------------------------------

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        """Store a checkpoint; the `checkpoint_id` in `config` is its parent's. Returns the config of the new one."""
        thread_id, namespace = _names(config)
        parent = get_checkpoint_id(config)
        packed = self._pack([checkpoint, get_checkpoint_metadata(config, metadata), parent])

        def add(checkpoints: dict, writes: dict) -> None:
            checkpoints[namespace, checkpoint["id"]] = packed

        self._edit(thread_id, add)
        return _config(thread_id, namespace, checkpoint["id"])

    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        """Store what a task has written. Of a result the first counts, of an error or an interrupt the last."""
        thread_id, namespace = _names(config)
        packed = [
            (WRITES_IDX_MAP.get(channel, place), self._pack([channel, value, task_path]))
            for place, (channel, value) in enumerate(writes)
        ]

        def add(checkpoints: dict, writes: dict) -> None:
            for index, data in packed:
                key = namespace, get_checkpoint_id(config), task_id, index
                if index < 0 or key not in writes:
                    writes[key] = data

        self._edit(thread_id, add)

    def get_tuple(self, config: Any) -> CheckpointTuple | None:
        """The checkpoint that `config` names, else the one with the greatest id; None if there is none."""
        thread_id, namespace = _names(config)
        checkpoints, writes = _opened(self.read(thread_id))
        ids: list[str] = [id for space, id in checkpoints if space == namespace]
        wanted = get_checkpoint_id(config) or max(ids, default=None)
        return self._tuple(thread_id, namespace, wanted, checkpoints, writes) if wanted in ids else None

    def list(
        self, config: Any, *, filter: Any = None, before: Any = None, limit: int | None = None
    ) -> Iterator[CheckpointTuple]:
        """Checkpoints from the greatest id to the smallest; of all threads if `config` is None."""
        named = config["configurable"] if config else {}
        below = get_checkpoint_id(before) if before else None
        there = []
        for thread_id in [str(named["thread_id"])] if "thread_id" in named else self.threads():
            checkpoints, writes = _opened(self.read(thread_id))
            there += [(id, thread_id, namespace, checkpoints, writes) for namespace, id in checkpoints]
        for id, thread_id, namespace, checkpoints, writes in sorted(there, key=lambda each: each[0], reverse=True):
            if named.get("checkpoint_ns", namespace) != namespace or named.get("checkpoint_id", id) != id:
                continue
            if below and id >= below:
                continue
            found = self._tuple(thread_id, namespace, id, checkpoints, writes)
            if any(found.metadata.get(name) != value for name, value in (filter or {}).items()):
                continue
            if limit is not None:
                if limit <= 0:
                    return
                limit -= 1
            yield found

    def delete_thread(self, thread_id: str) -> None:
        """Remove all checkpoints and writes of a thread."""
        self.remove(str(thread_id))

    def get_next_version(self, current: Any, channel: Any) -> str:
        """A version that no other branch of the conversation has: a number, which grows, and something random."""
        number = int(str(current).split(".")[0]) if current else 0
        return f"{number + 1:032}.{random.random():.16f}"

    def _edit(self, thread_id: str, add: Callable[[dict, dict], None]) -> None:
        def edit(stored: bytes | None) -> bytes:
            checkpoints, writes = _opened(stored)
            add(checkpoints, writes)
            return ormsgpack.packb([list(checkpoints.items()), list(writes.items())])

        self.change(thread_id, edit)

    def _tuple(self, thread_id: str, namespace: str, id: str, checkpoints: dict, writes: dict) -> CheckpointTuple:
        checkpoint, metadata, parent = self._unpack(checkpoints[namespace, id])
        found = []
        for (space, owner, task_id, index), data in writes.items():
            if (space, owner) == (namespace, id):
                channel, value, path = self._unpack(data)
                found.append(((path, task_id, index), (task_id, channel, value)))
        return CheckpointTuple(
            _config(thread_id, namespace, id),
            checkpoint,
            metadata,
            _config(thread_id, namespace, parent) if parent else None,
            [write for _, write in sorted(found, key=lambda each: each[0])],
        )

    def _pack(self, value: Any) -> tuple[str, bytes]:
        return self.serde.dumps_typed(value)

    def _unpack(self, packed: Any) -> Any:
        return self.serde.loads_typed(tuple(packed))


def _names(config: Any) -> tuple[str, str]:
    named = config["configurable"]
    return str(named["thread_id"]), named.get("checkpoint_ns", "")


def _config(thread_id: str, namespace: str, checkpoint_id: str) -> Any:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": namespace, "checkpoint_id": checkpoint_id}}


def _opened(stored: bytes | None) -> tuple[dict, dict]:
    """The checkpoints by namespace and id, and the writes by namespace, id, task and index, each still packed."""
    checkpoints, writes = ormsgpack.unpackb(stored) if stored is not None else ([], [])
    return {tuple(key): value for key, value in checkpoints}, {tuple(key): value for key, value in writes}
