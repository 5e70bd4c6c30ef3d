"""A serializer that can tell whether bytes are still those it wrote."""

from typing import Any
from zlib import crc32

from langgraph.checkpoint.serde.base import SerializerProtocol


class ChecksumSerializer:
    """Writes a checksum into the type of what another serializer gives: `msgpack` becomes `crc32-8a1b2c3d-msgpack`."""

    def __init__(self, inner: SerializerProtocol):
        self.inner = inner

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """The (type, bytes) to store."""
        kind, data = self.inner.dumps_typed(obj)
        return f"crc32-{crc32(data):08x}-{kind}", data

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """The value of such a pair.

        Raises:
            ValueError: if the bytes are not those that were written.
        """
        name, checksum, kind = data[0].split("-", 2)
        if (name, checksum) != ("crc32", f"{crc32(data[1]):08x}"):
            raise ValueError("The bytes are damaged: they do not have the checksum that was written with them.")
        return self.inner.loads_typed((kind, data[1]))
