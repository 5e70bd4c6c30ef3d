"""What a crash leaves in a folder: of a process that is killed, and of a machine whose power is cut."""

import os
import random
import resource
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

CHANGES = ("rename", "replace", "link", "unlink", "remove", "mkdir", "rmdir", "write", "truncate", "ftruncate")
SYNCS = ("fsync", "fdatasync", "sync")

Image = dict[str, bytes | None]
"""What is in a folder: the content of each file by its path below it, and None for each folder."""


@contextmanager
def moments(
    happens: Callable[[str, tuple[Any, ...], bool], None], namespace: dict[str, Any] | None = None
) -> Iterator[None]:
    """Call `happens(name, arguments, done)` before and after each change or sync that this process asks of the system.

    Calls of functions in `os` are seen, by whatever module. What a file object writes is not, but the sync after it is.

    Args:
        namespace: the names of a module that may have imported these functions from `os`.
    """

    def watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            happens(name, arguments, False)
            result = function(*arguments, **options)
            happens(name, arguments, True)
            return result

        return call

    originals = {name: getattr(os, name) for name in (*CHANGES, *SYNCS) if hasattr(os, name)}
    with ExitStack() as patches:
        for name, function in originals.items():
            replacement = watched(name, function)
            patches.enter_context(patch.object(os, name, replacement))
            for known in [known for known, value in (namespace or {}).items() if value is function]:
                patches.enter_context(patch.dict(namespace, {known: replacement}))
        yield


# --- kills ------------------------------------------------------------------------------------------------------------


def killed(
    work: Callable[[], Any],
    *,
    at_moment: int | None = None,
    at_byte: int | None = None,
    namespace: dict[str, Any] | None = None,
) -> bool:
    """Do something in a process of its own that is killed on the way; whether it was, or came to its end before.

    Args:
        at_moment: the process kills itself (-9) at this moment, counted from 0; see `moments`.
        at_byte: the kernel kills it when it writes to a file beyond this place.

    Raises:
        RuntimeError: if the work raised an error. The message tells it.
    """
    told, tell = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child touches no other thread's work
        process = os.fork()
    if process == 0:
        try:
            os.close(told)
            _work_until_killed(work, at_moment, at_byte, namespace)
            os._exit(0)
        except BaseException as error:
            os.write(tell, f"{type(error).__name__}: {error}".encode()[:4000])
        finally:
            os._exit(1)
    os.close(tell)
    with open(told, errors="replace") as listening:
        trouble = listening.read()
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if code in (-signal.SIGKILL, -signal.SIGXFSZ):
        return True
    if code:
        raise RuntimeError(trouble or f"the process ended with {code}")
    return False


def _work_until_killed(work: Callable[[], Any], at_moment: int | None, at_byte: int | None, namespace: Any) -> None:
    seen = 0

    def count(*_: Any) -> None:
        nonlocal seen
        if seen == at_moment:
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1

    if at_byte is not None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it, to raise an error instead
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)  # there may be a limit already, and nobody can raise it
        resource.setrlimit(resource.RLIMIT_FSIZE, (at_byte, most))
    with moments(count, namespace):
        work()


# --- power cuts -------------------------------------------------------------------------------------------------------


class Disk:
    """Notes what becomes of a folder, and what of it a power cut would leave at each moment.

    The rules are those of POSIX. A file has what it had when it was synced last, and perhaps some sectors of what was
    written since. A folder has the names it had when it was synced last, and perhaps the first of the changes since.
    One does not wait for the other: a new name may be there before the content is. What the folder has at the start
    is taken to be synced.

    Use it as a context manager: moments are noted inside the block.

    Args:
        images: how many images of each moment are made by chance, besides the two that show most faults.
        sector: bytes that the disk writes whole or not at all.
        forgets: of which paths a sync has no effect, to see whether that is noticed.
        namespace: see `moments`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        seed: Any = 0,
        images: int = 1,
        sector: int = 512,
        forgets: Callable[[Path], bool] = lambda path: False,
        namespace: dict[str, Any] | None = None,
    ):
        self.folder = Path(folder)
        self.sector = sector
        self.images: list[Image] = []
        """What a power cut would leave, for each moment so far; several for each, and none of them twice in a row."""
        self._chance = random.Random(seed)
        self._more = images
        self._forgets = forgets
        self._namespace = namespace
        self._numbers: dict[int, int] = {}  # from inode to a number of our own, which is never used again
        self._count = 0
        self._names: dict[str, list[dict[str, int | None]]] = {}  # of each folder, from its last sync to now
        self._contents: dict[int, list[bytes]] = {}  # of each file: the same
        self._open = ExitStack()

    def __enter__(self) -> "Disk":
        self._look()
        for history in [*self._names.values(), *self._contents.values()]:
            del history[:-1]
        self._open.enter_context(moments(self.happens, self._namespace))
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def now(self) -> list[Image]:
        """What a power cut would leave at this moment."""
        self._look()
        images: list[Image] = []
        for names, contents in [(_first, _first), (_last, _first), *[(self._chance.choice, self._torn)] * self._more]:
            images.append({})
            self._leave("", names, contents, images[-1])
        return images

    def happens(self, name: str, arguments: tuple[Any, ...], done: bool) -> None:
        """Note what a call of the system does; see `moments`."""
        if done and name in SYNCS:
            self._look()
            self._synced(os.fstat(_descriptor(arguments[0])) if arguments else None)
        self.moment()

    def moment(self) -> None:
        """Note what a power cut would leave now. It is called before and after each change and each sync."""
        self.images += [image for image in self.now() if image not in self.images[-3:]]

    def _look(self) -> None:
        """Add what is there now to what is known of each file and folder."""
        there = set()
        for path, folders, files in os.walk(self.folder):
            place = os.path.relpath(path, self.folder)
            names: dict[str, int | None] = dict.fromkeys(folders)
            for name in files:
                try:
                    found, data = os.lstat(os.path.join(path, name)), Path(path, name).read_bytes()
                except FileNotFoundError:  # another process has removed it
                    continue
                there.add(found.st_ino)
                if found.st_ino not in self._numbers:
                    self._count += 1
                    self._numbers[found.st_ino] = self._count
                names[name] = number = self._numbers[found.st_ino]
                _add(self._contents.setdefault(number, [b""]), data)
            _add(self._names.setdefault("" if place == "." else place, [{}]), names)
        self._numbers = {inode: number for inode, number in self._numbers.items() if inode in there}

    def _synced(self, what: os.stat_result | None) -> None:
        for place, history in self._names.items():
            path = self.folder / place
            same = what is None or (path.exists() and os.stat(path).st_ino == what.st_ino)
            if same and not self._forgets(path):
                del history[:-1]
            for name, number in history[-1].items():
                same = number is not None and (what is None or self._numbers.get(what.st_ino) == number)
                if same and not self._forgets(path / name):
                    del self._contents[number][:-1]

    def _leave(self, place: str, choose_names: Any, choose_content: Any, image: Image) -> None:
        for name, number in choose_names(self._names.get(place, [{}])).items():
            path = os.path.join(place, name)
            if number is None:
                image[path] = None
                self._leave(path, choose_names, choose_content, image)
            else:
                image[path] = choose_content(self._contents[number])

    def _torn(self, versions: list[bytes]) -> bytes:
        """Some sectors of one of the versions, and the rest of what was synced."""
        old, new = versions[0], self._chance.choice(versions)
        sectors = [
            self._chance.choice([old[at : at + self.sector].ljust(self.sector, b"\0"), new[at : at + self.sector]])
            for at in range(0, len(new), self.sector)
        ]
        return new if old == new else b"".join(sectors)[: len(new)]


def restore(image: Image, folder: Path) -> Path:
    """Make in a folder what an image has; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in image.items():
        if content is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(content)
    return folder


def _first(history: list[Any]) -> Any:
    return history[0]


def _last(history: list[Any]) -> Any:
    return history[-1]


def _add(history: list[Any], now: Any) -> None:
    if history[-1] != now:
        history.append(now)


def _descriptor(file: Any) -> int:
    return file if isinstance(file, int) else file.fileno()
