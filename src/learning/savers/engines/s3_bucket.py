"""A bucket as the engine sees it: objects with a checksum, and calls that are made again until the server answers."""

import asyncio
import hashlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import zstandard
from obstore.exceptions import AlreadyExistsError, BaseError, NotModifiedError, PreconditionError
from obstore.store import S3Store

from ..errors import InvalidRequest, SaverError, Unavailable, Unreadable
from ..program import Program, arun, pauses, run

Result = TypeVar("Result")

REFUSED = (AlreadyExistsError, PreconditionError)
"""What a put ends with if the object is not the expected one."""

FORMAT = b"LGS\x01"
DIGEST = 16


class Call(NamedTuple):
    """A call that waits, the same to be awaited, and what to call them with."""

    wait: Callable[..., Any]
    start: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = {}


class Damaged(Unreadable):
    def __init__(self, message: str, etag: str):
        super().__init__(message)
        self.etag = etag


class Bucket:
    """A bucket, in programs whose steps are calls, futures to wait for, programs to run side by side, and pauses."""

    def __init__(self, url: str, timeout: float, settings: dict[str, Any]):
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc or "@" in parts.netloc or parts.query:
            raise InvalidRequest("The URL has to be s3://bucket or s3://bucket/prefix, without keys or options.")
        self._name, self._timeout = parts.netloc, timeout
        try:
            self._store = S3Store(
                self._name,
                prefix=parts.path.strip("/") or None,
                client_options={
                    "allow_http": True,
                    "timeout": timedelta(seconds=timeout),
                    "connect_timeout": timedelta(seconds=min(timeout, 5)),
                },
                retry_config={"max_retries": 0},  # `_retried` does that
                **settings,
            )
        except (BaseError, ValueError) as error:
            raise InvalidRequest(f"These are no settings for S3. {_message(error)}") from error

    def perform(self, step: Any) -> Any:
        """The outcome of a step."""
        match step:
            case Call():
                return step.wait(*step.arguments, **step.options)
            case Future():
                return step.result()
            case [only]:
                return [run(only, self.perform)]
            case list():
                with ThreadPoolExecutor(len(step) or 1) as pool:
                    return list(pool.map(lambda program: run(program, self.perform), step))
        return time.sleep(step)

    async def aperform(self, step: Any) -> Any:
        """The same, awaited."""
        match step:
            case Call():
                return await step.start(*step.arguments, **step.options)
            case Future():
                return await asyncio.wrap_future(step)
            case list():
                return await asyncio.gather(*(arun(program, self.aperform) for program in step))
        return await asyncio.sleep(step)

    def get(self, name: str, etag: str | None = None) -> Program[tuple[str, bytes]]:
        """The ETag and the body of an object, unless it has this ETag.

        Raises:
            NotModifiedError, FileNotFoundError: if it has it, or is not there.
            Unreadable: if it is damaged.
        """

        def attempt() -> Program[tuple[str, bytes]]:
            options = {"options": {"if_none_match": etag} if etag else {}}
            found = yield Call(self._store.get, self._store.get_async, (name,), options)
            return found.meta["e_tag"], bytes((yield Call(found.bytes, found.bytes_async)))

        current, data = yield from self._retried(attempt)
        packed = data[len(FORMAT) + DIGEST :]
        if data != _labelled(name, packed):
            raise Damaged(f"{name} is damaged, or was written by another version of this library.", current)
        return current, zstandard.decompress(packed)

    def put(self, name: str, body: bytes, etag: str | None = None) -> Program[str]:
        """The ETag of a new object, in place of that which has an ETag, or else of none.

        Raises:
            AlreadyExistsError, PreconditionError, FileNotFoundError: if the other is not there, or one is.
        """
        options = {"mode": {"e_tag": etag} if etag else "create"}
        call = Call(self._store.put, self._store.put_async, (name, _labelled(name, zstandard.compress(body))), options)
        return (yield from self._retried(lambda: (yield call)))["e_tag"]

    def page(self, folder: str, after: str | None = None) -> Program[Sequence[Any]]:
        """At most 1,000 objects of a folder, in order, after one of them."""

        def attempt() -> Program[Sequence[Any]]:
            return (yield Call(next, anext, (self._store.list(folder, offset=after, chunk_size=1000), [])))

        return (yield from self._retried(attempt))

    def delete(self, names: Sequence[str]) -> Program[None]:
        """Delete objects, if they are there."""
        yield from self._retried(lambda: (yield Call(self._store.delete, self._store.delete_async, (names,))))

    def _retried(self, attempt: Callable[[], Program[Result]]) -> Program[Result]:
        """The result of the first attempt that the server answers."""
        deadline = time.monotonic() + 3 * self._timeout
        waits = pauses()
        while True:
            try:
                return (yield from attempt())
            except (FileNotFoundError, *REFUSED, NotModifiedError) as error:
                if "<Code>NoSuchBucket<" in str(error):
                    raise SaverError(f"There is no bucket {self._name!r}: make it first.") from error
                raise
            except BaseError as error:
                if _lasts(str(error)):
                    raise SaverError(f"S3 refused. {_message(error)}") from error
                if time.monotonic() > deadline:
                    raise Unavailable(f"S3 does not answer. {_message(error)}") from error
            yield next(waits)


def _lasts(text: str) -> bool:
    """Whether it is of no use to ask again."""
    status = re.search(r"status code: ([345]\d\d)", text)
    if "Received redirect" in text:  # to the bucket's region
        return True
    if status is None or status[1] in ("408", "409", "429") or "<Code>RequestTimeout</Code>" in text:
        return False
    return status[1] < "500" or status[1] == "501"


def _message(error: Exception) -> str:
    text = str(error).partition("\n\nDebug source")[0]
    told = re.search(r"<Code>(.*?)</Code>(?:.*?<Message>(.*?)</Message>)?", text, re.DOTALL)
    return ": ".join(filter(None, told.groups())) if told else text


def _labelled(name: str, packed: bytes) -> bytes:
    """What an object has in it: the format, a checksum over its name and the rest, and the rest."""
    return FORMAT + hashlib.blake2b(name.encode() + packed, digest_size=DIGEST).digest() + packed
