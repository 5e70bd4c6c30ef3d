"""The names that callers give: checked, and as the few bytes by which engines know them."""

import hashlib
from typing import Any

from langchain_core.runnables import RunnableConfig

from .errors import InvalidRequest

LONGEST_ID = 255
"""The most bytes of a checkpoint's id or a task's."""


def configured(config: RunnableConfig) -> tuple[str, str, str | None]:
    """The thread, the namespace and the checkpoint that a config names."""
    named = config.get("configurable", {})
    if "thread_id" not in named:
        raise InvalidRequest('The config names no thread: {"configurable": {"thread_id": "…"}}.')
    checkpoint_id = named.get("checkpoint_id") or None
    ns = text_of(named.get("checkpoint_ns") or "", "checkpoint_ns")
    return text_of(named["thread_id"], "thread_id"), ns, checkpoint_id and text_of(checkpoint_id, "checkpoint_id")


def config_of(thread_id: str, ns: str, checkpoint_id: str | None) -> RunnableConfig:
    """The inverse of `configured`."""
    named = {"thread_id": thread_id, "checkpoint_ns": ns}
    return {"configurable": named | ({"checkpoint_id": checkpoint_id} if checkpoint_id else {})}


def text_of(name: Any, what: str) -> str:
    """A name as text; `what` says whose it is."""
    if not isinstance(name, str | int):
        raise InvalidRequest(f"{what} is a string, not {type(name).__name__}.")
    return str(name)


def each_of(names: Any, what: str) -> list[str]:
    """Names that a caller wants something removed for: none may be missing, and no string is a list of letters."""
    if isinstance(names, str | bytes):
        raise InvalidRequest(f"{what} is a list of strings, not one.")
    if not all(isinstance(each, str | int) and each != "" for each in names):
        raise InvalidRequest(f"{what} has something else than names in it: {list(names)!r}. Nothing was removed.")
    return [str(each) for each in names]


def require_short(name: str, what: str) -> None:
    """Refuse an id that is too long for some engine, or that none could store."""
    try:
        if len(name.encode()) > LONGEST_ID:
            raise InvalidRequest(f"{what} has {len(name.encode()):,} bytes; {LONGEST_ID} are allowed.")
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"{what} is no Unicode text: {error}.") from error


def key_of(size: int, kind: str, name: str) -> bytes:
    """A name of any length and any characters as a few bytes, which no other name shares."""
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=size, person=kind.encode()).digest()


def space_key(ns: str) -> bytes:
    """The key of a namespace of a thread."""
    return key_of(8, "namespace", ns)


def run_key(run_id: Any) -> bytes:
    """The key of a run; of no run it is empty."""
    return key_of(16, "run", str(run_id)) if run_id else b""
