"""The threads of one tenant, in a saver that several share."""

from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import quote

from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple, get_checkpoint_metadata

from ..errors import InvalidRequest
from ..names import configured
from ..program import Program
from .base import Call, Wrapper


class TenantSaver(Wrapper):
    """Gives threads and runs names of the tenant's own, whatever saver is inside, and takes them away again.

    (A `Saver` of this library does the same by itself, with `tenant=`, and lists a tenant's threads without reading
    those of the others.)
    """

    def __init__(self, inner: BaseCheckpointSaver, tenant: str):
        super().__init__(inner)
        if not tenant:
            raise InvalidRequest("A tenant has a name.")
        self._prefix = f"{quote(tenant, safe='')}/"  # so that no tenant's prefix is the beginning of another's

    def handle(self, call: Call) -> Program[Any]:
        """Ask under the tenant's names, and answer under the caller's."""
        arguments, options = list(call.arguments), dict(call.options)
        match call.method:
            case "put":
                config, checkpoint, metadata, versions = arguments
                metadata = dict(get_checkpoint_metadata(config, metadata))
                if metadata.get("run_id"):
                    metadata["run_id"] = self._ours(metadata["run_id"])
                arguments = [self._config(config), checkpoint, metadata, versions]
            case "put_writes" | "get_tuple":
                arguments[0] = self._config(arguments[0])
            case "get_delta_channel_history":
                options["config"] = self._config(options["config"])
            case "delete_for_runs" | "prune":
                arguments[0] = [self._ours(each) for each in arguments[0]]
            case "delete_thread" | "retain":
                arguments[0] = self._ours(arguments[0])
            case "copy_thread":
                arguments = [self._ours(each) for each in arguments]
        result = yield Call(call.saver, call.method, tuple(arguments), options)
        match call.method:
            case "put":
                return self._theirs(result)
            case "get_tuple" if result is not None:
                return self._found(result)
        return result

    def list(
        self, config: Any, *, filter: Any = None, before: Any = None, limit: int | None = None
    ) -> Iterator[CheckpointTuple]:
        """The tenant's checkpoints."""
        if limit is not None and limit <= 0:
            return
        config, filter = config and self._config(config), self._filter(filter)
        for found in self.inner.list(config, filter=filter, before=before):
            if self._is_ours(found):
                yield self._found(found)
                limit = limit and limit - 1
                if limit == 0:
                    return

    async def alist(
        self, config: Any, *, filter: Any = None, before: Any = None, limit: int | None = None
    ) -> AsyncIterator[CheckpointTuple]:
        """The same, awaited."""
        if limit is not None and limit <= 0:
            return
        config, filter = config and self._config(config), self._filter(filter)
        async for found in self.inner.alist(config, filter=filter, before=before):
            if self._is_ours(found):
                yield self._found(found)
                limit = limit and limit - 1
                if limit == 0:
                    return

    def _ours(self, name: Any) -> str:
        return f"{self._prefix}{name}"

    def _config(self, config: Any) -> Any:
        thread_id, _, _ = configured(config)
        return {**config, "configurable": config["configurable"] | {"thread_id": self._ours(thread_id)}}

    def _filter(self, filter: dict[str, Any] | None) -> dict[str, Any] | None:
        return filter | {"run_id": self._ours(filter["run_id"])} if filter and "run_id" in filter else filter

    def _is_ours(self, found: CheckpointTuple) -> bool:
        return str(found.config["configurable"]["thread_id"]).startswith(self._prefix)

    def _theirs(self, config: Any) -> Any:
        named = config["configurable"]
        return {**config, "configurable": named | {"thread_id": named["thread_id"].removeprefix(self._prefix)}}

    def _found(self, found: CheckpointTuple) -> CheckpointTuple:
        metadata = found.metadata
        if metadata.get("run_id"):
            metadata = metadata | {"run_id": str(metadata["run_id"]).removeprefix(self._prefix)}
        parent = found.parent_config and self._theirs(found.parent_config)
        return found._replace(config=self._theirs(found.config), parent_config=parent, metadata=metadata)
