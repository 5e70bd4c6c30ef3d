"""What a saver raises: few errors, and each says what failed, on which thread, and whether a retry is safe."""


class SaverError(Exception):
    """A saver could not do what it was asked.

    Attributes:
        thread_id: the thread that it was about, if it was about one.
        checkpoint_id: the checkpoint, if it was about one.
        retry_is_safe: whether the same call may be made again.
    """

    retry_is_safe = False

    def __init__(self, message: str, *, thread_id: str | None = None, checkpoint_id: str | None = None):
        about = f" (thread {thread_id!r}" if thread_id is not None else ""
        about += f", checkpoint {checkpoint_id!r})" if checkpoint_id is not None else ")" if about else ""
        super().__init__(f"{message}{about}")
        self.thread_id = thread_id
        self.checkpoint_id = checkpoint_id


class InvalidRequest(SaverError, ValueError):
    """The arguments cannot be right: a config without a thread, an id that is too long, an unknown strategy."""


class NotStorable(SaverError, TypeError):
    """A value has a type that cannot be stored, or may not be. The message has the path to it and the remedy."""


class Unreadable(SaverError):
    """What is stored does not give the value that was put: damaged, encrypted, or of a type that has changed."""


class Conflict(SaverError):
    """Another writer has moved the thread on, and the saver was asked to fence. Read again before writing."""


class ThreadDeleted(SaverError):
    """A late write to a thread that was deleted while it was on its way. Nothing was written."""


class StorageFull(SaverError):
    """The storage has no room. Nothing was written; the same call may be made again once there is room."""

    retry_is_safe = True


class Unavailable(SaverError):
    """The storage did not answer, or not in time. Writes are idempotent: the same call may be made again."""

    retry_is_safe = True
