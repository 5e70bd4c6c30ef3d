"""Files that are written whole or not at all: a draft beside them takes their place when it is on the disk."""

import os
from contextlib import suppress
from pathlib import Path


def write(path: Path, content: bytes) -> bool:
    """Write a file whole or not at all, whatever ends us; returns whether it had other content before.

    Raises:
        OSError: if it cannot be written. What was there stays as it was.
    """
    with suppress(OSError):
        if path.stat().st_size == len(content) and path.read_bytes() == content:
            return False
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return True
