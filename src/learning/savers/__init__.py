"""Checkpointers for LangGraph: one set of rules, and a thin engine for each storage.

from learning.savers import open_saver

with open_saver("postgresql://localhost/shop") as saver:
    agent = graph.compile(checkpointer=saver)
"""

from datetime import timedelta
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from .errors import (
    Conflict,
    InvalidRequest,
    NotStorable,
    SaverError,
    StorageFull,
    ThreadDeleted,
    Unavailable,
    Unreadable,
)
from .saver import Engine, Saver
from .serde import ExactSerializer

__all__ = [
    "Conflict",
    "Engine",
    "ExactSerializer",
    "InvalidRequest",
    "NotStorable",
    "Saver",
    "SaverError",
    "StorageFull",
    "ThreadDeleted",
    "Unavailable",
    "Unreadable",
    "open_saver",
]


def open_saver(
    url: str,
    *,
    allow: "tuple[type, ...] | list[type] | Literal[True]" = (),
    keys: tuple[bytes, ...] | list[bytes] = (),
    tenant: str = "",
    ttl: timedelta | None = None,
    fencing: bool = False,
    **engine_options: Any,
) -> Saver:
    """A saver for the storage at a URL, to be used as a context manager (sync or async) or after `setup()`.

    Args:
        url: `memory://`, `postgresql://…`, `redis://…`, `redis+cluster://host:port,…`, `file:///folder` or
            `s3://bucket/prefix`, and whatever `learning.services` gives.
        engine_options: what the engine takes; see the classes in `learning.savers.engines`.

    The other arguments are those of `Saver`.

    Raises:
        InvalidRequest: if there is no engine for such a URL.
    """
    engine = _engine(url, engine_options)
    return Saver(engine, allow=allow, keys=keys, tenant=tenant, ttl=ttl, fencing=fencing)


def _engine(url: str, options: dict[str, Any]) -> Engine:
    """Each engine is imported when it is asked for: nobody needs all of their libraries."""
    scheme = urlsplit(url).scheme
    match scheme:
        case "memory":
            from .engines.memory import MemoryEngine

            return MemoryEngine(**options)
        case "postgresql" | "postgres":
            from .engines.postgres import PostgresEngine

            return PostgresEngine(url, **options)
        case "redis" | "rediss" | "unix" | "redis+cluster" | "rediss+cluster":
            from .engines.redis import RedisEngine

            return RedisEngine(url, **options)
        case "file":
            from .engines.files import FilesEngine

            return FilesEngine(Path(unquote(urlsplit(url).path)), **options)
        case "s3":
            from .engines.s3 import S3Engine

            parts = urlsplit(url)  # as `learning.services` writes it, with keys and ?endpoint_url=…
            in_url = {
                "access_key_id": unquote(parts.username or ""),
                "secret_access_key": unquote(parts.password or ""),
                "endpoint": parse_qs(parts.query).get("endpoint_url", [""])[0],
            }
            bucket = f"s3://{parts.netloc.rpartition('@')[2]}{parts.path}"
            return S3Engine(bucket, **({name: value for name, value in in_url.items() if value} | options))
    raise InvalidRequest(
        f"There is no saver for {scheme or url!r}: "
        "use memory://, postgresql://, redis://, redis+cluster://, file:/// or s3://."
    )
