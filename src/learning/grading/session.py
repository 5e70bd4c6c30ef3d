"""What runs inside the sandbox: a warm process that forks for each submission, and again for each of its tasks.

`python -m learning.grading.session FD` is started by `sandbox` and takes a connection for each submission through the
socket FD: a line of JSON with the notebook and its tasks comes in, lines of JSON go back. No two submissions are here
at the same time, and nothing is left of one when the next comes: neither process nor file nor server.
"""

import ast
import base64
import ctypes
import json
import os
import secrets
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from importlib.machinery import SourcelessFileLoader
from pathlib import Path
from typing import Any

import psutil
import pytest

from learning import services
from learning.course import expect, warm
from learning.course.answers import BROKEN, Answers, Unusable, read_ahead
from learning.course.judge import START_SECONDS, TASK_SECONDS
from learning.course.plugin import Source
from learning.course.reading import asked_for, shared_servers
from learning.course.starters import written_answer
from learning.course.tasks import ROOT, TASKS, Task
from learning.services import guard
from learning.services.server import Server
from learning.services.workspace import PREFIX

from . import events, hiding, watch
from .isolation import SWITCH, Isolation, isolate_this_process, limit_this_process, readable
from .limits import (
    CANARY_SECONDS,
    CPU_SECONDS,
    DISK_BYTES,
    MEMORY_BYTES,
    PROCESSES,
    TOLD_BYTES,
)

LOOK_SECONDS = 0.1
"""How often the processes of a task are counted."""

DUMPABLE, CHILD_SUBREAPER = 4, 36
"""Two options of `prctl`."""

WRONG = """class {name}:
    def __init__(self, *arguments, **options):
        raise RuntimeError("a known wrong answer")
"""
"""An answer that every test has to fail, whatever was judged before."""

Tell = Callable[[dict[str, Any]], None]


def serve(asking: socket.socket) -> None:
    """Judge the submissions that come through `asking`, one at a time, until the other side is closed."""
    libc = ctypes.CDLL(None)
    warm.warm_up()
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        read_ahead(notebook)  # most cells of a class are the lesson's own
    watch.remember()
    watch.changed()  # warm as well
    place = Path(tempfile.gettempdir())
    libc.prctl(DUMPABLE, 0, 0, 0, 0)  # no process of a submission may look into this one
    libc.prctl(CHILD_SUBREAPER, 1, 0, 0, 0)  # what loses its parent becomes our child
    while True:
        _, descriptors, _, _ = socket.recv_fds(asking, 1, 1)
        if not descriptors:
            return
        with socket.socket(fileno=descriptors[0]) as connection:
            request = json.loads(connection.makefile("rb").readline())
            session = os.fork()
            if session == 0:
                asking.close()
                _Session(connection, place).judge(request)
                os._exit(0)
            while os.wait()[0] != session:
                pass
            _end_everything()
            clean = _wipe(place, [])
            with suppress(OSError):
                connection.sendall(json.dumps({"over": True, "clean": clean}).encode() + b"\n")


class _Session:
    """One submission. Its servers serve all of its tasks."""

    def __init__(self, connection: socket.socket, place: Path):
        self._connection = connection
        self._place = place
        self._servers: dict[str, Server] = {}
        self._kept: set[int] = set()
        ctypes.CDLL(None).prctl(CHILD_SUBREAPER, 1, 0, 0, 0)
        isolate_this_process(place)

    def judge(self, request: dict[str, Any]) -> None:
        """Judge the tasks, in their order, and tell of each."""
        for name in request["tasks"]:
            task = TASKS[name]
            folder = Path(tempfile.mkdtemp(prefix="work-", dir=self._place))
            for filename, content in request["files"].items():
                (folder / filename).write_bytes(base64.b64decode(content))
            if written_answer((folder / request["notebook"]).read_bytes(), task):
                self._start_servers(task)
            self._judge_one(task, folder / request["notebook"])
            _wipe(self._place, [server.folder for server in self._servers.values() if server.folder])

    def _start_servers(self, task: Task) -> None:
        """Have the servers that a task shares with others, whole, whatever the task before has done to them."""
        for name in shared_servers(task):
            with suppress(services.ServiceError):  # else the test will say that there is none
                if name in self._servers and not _whole(self._servers[name]):
                    self._servers.pop(name).close()
                if name not in self._servers:
                    self._servers[name] = getattr(services, name)()
                os.environ.update(self._servers[name].environment)
        self._kept = {process.pid for process in psutil.Process().children(recursive=True)}

    def _tell(self, task: Task, event: dict[str, Any]) -> None:
        with suppress(OSError):
            self._connection.sendall(json.dumps(event | {"task": task.name}).encode() + b"\n")

    def _judge_one(self, task: Task, notebook: Path) -> None:
        began = time.monotonic()
        secret = secrets.token_hex(16).encode()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            self._connection.close()
            _judge_here(task, notebook, lambda event: _write(writing, secret, event))
        os.close(writing)
        self._tell(task, {"began": True})
        limit = self._follow(task, child, reading, secret)
        os.close(reading)
        if limit:
            self._tell(task, {"limit": limit, "seconds": time.monotonic() - began})
            os._exit(0)  # the first process ends everything that is left, at once
        _, status = os.waitpid(child, 0)
        left = self._end_others()
        ended = {"exit_code": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - began}
        self._tell(task, ended | {"left": left, "disk_full": _full(self._place)})

    def _follow(self, task: Task, child: int, reading: int, secret: bytes) -> str:
        """Pass on what a task's test tells, until its process ends. Says which limit was passed, if one was."""
        os.set_blocking(reading, False)
        deadline = time.monotonic() + START_SECONDS
        received, told, looked, started, judged = b"", 0, 0.0, False, False
        while True:
            select.select([reading], [], [], LOOK_SECONDS)
            ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT | os.WNOHANG)
            while chunk := _read(reading):
                told += len(chunk)
                if told > TOLD_BYTES:
                    return "told more than a test has to tell"
                *lines, received = (received + chunk).split(b"\n")
                for line in lines:
                    event = events.read(line, secret)
                    self._tell(task, event)
                    if "started" in event and not started:
                        started, deadline = True, time.monotonic() + TASK_SECONDS
                    if "outcome" in event and not judged:
                        judged, deadline = True, deadline + CANARY_SECONDS
            if ended:
                return ""
            if time.monotonic() > deadline:
                return "time"
            if time.monotonic() > looked + LOOK_SECONDS:
                looked = time.monotonic()
                if too_much := self._too_much():
                    return too_much

    def _others(self) -> list[psutil.Process]:
        """The processes of the task: all but the servers of the submission, and what those have started."""
        found = psutil.Process().children(recursive=True)
        kept = set(self._kept)
        for process in found:
            with suppress(psutil.Error):
                if process.ppid() in kept:
                    kept.add(process.pid)
        return [process for process in found if process.pid not in kept]

    def _too_much(self) -> str:
        # To look at each of very many takes long, while they become more.
        too_many = _own_namespace() and sum(name.isdigit() for name in os.listdir("/proc")) > 3 * PROCESSES
        others = [] if too_many else self._others()
        if too_many or len(others) > PROCESSES:
            return f"had more than {PROCESSES} processes"
        if _memory(others, "rss") > MEMORY_BYTES and _memory(others, "uss") > MEMORY_BYTES:
            return f"took more than {MEMORY_BYTES / 2**30:g} GiB of memory"
        return ""

    def _end_others(self) -> int:
        """End what a task has left behind; how many processes that were."""
        left = self._others()
        count = sum(_runs(process) and not _serves(process) for process in left)
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=2)
        return count


def _judge_here(task: Task, notebook: Path, tell: Tell) -> None:
    """Judge one task in this process, which may not survive it, then show the test a known wrong answer."""
    os.setsid()
    ctypes.CDLL(None).prctl(DUMPABLE, 1, 0, 0, 0)  # as any process is: its memory can be measured
    limit_this_process(CPU_SECONDS)
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silence, descriptor)
    sys.path.append(str(notebook.parent))
    SourcelessFileLoader.get_code = _no_code  # type: ignore[assignment,method-assign]
    wrong = _known_wrong(task)
    code, elsewhere = tuple(map(str, readable())), (tempfile.gettempdir(), "/dev/", "/proc/")
    watch.listen(partial(_flag, tell), code, elsewhere)
    said = warm.run_test(task.test, notebook, str(notebook.parent), _Canary(tell, wrong))
    for words, grave in watch.reaches(_code_of(notebook)):
        _flag(tell, words, grave)
    tell({"nothing_judged": said[-2000:], "done": True})
    os._exit(0)  # at once, past the threads that an answer may have left


def _flag(tell: Tell, words: str, grave: bool) -> None:
    tell({"flag": words, "grave": grave})


class _Canary(warm.Reporter):
    """Has a test run twice: on an answer, and then, unless that has earned nothing, on a wrong one."""

    def __init__(self, tell: Tell, wrong: Path):
        super().__init__(tell)
        self._judges = hiding.Judges()
        self._judges.hide()
        self._wrong = wrong
        self._earned = False
        self._answered = False
        self._outcomes: list[str] = []

    def arrived(self) -> None:
        """See `Reporter`."""
        self._judges.show()
        self._tell_of_changes()

    def pytest_collection_modifyitems(self, items: list[pytest.Function]) -> None:
        """See pytest, which itself has changed some functions by now."""
        watch.remember()
        for item in list(items):
            watch.remember_also(item.module)
            items.append(type(item).from_parent(item.parent, name=item.name))
        watch.look_at_each_word(partial(_flag, self.tell), expect, items[0].module)
        self._judges.hide()

    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        """See pytest: True means that there is nothing to run."""
        if not self._answered:
            return None
        self._tell_of_changes()
        Source.judged_by(item.config).path = self._wrong
        item.config.option.maxfail = 1  # one miss is enough
        return None if self._earned else True

    def _tell_of_changes(self) -> None:
        if found := watch.changed():
            _flag(self.tell, f"changed {', '.join(found[:3])}, which its judge uses", True)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """See pytest."""
        if not self._answered:
            super().pytest_runtest_logreport(report)
            self._earned |= hasattr(report, "context") and report.passed
        elif report.when == "call" or not report.passed:
            self._outcomes.append(report.outcome)

    def pytest_runtest_logfinish(self) -> None:
        """See pytest."""
        if self._answered:
            self.tell({"canary": self._outcomes})
        self._answered = True


def _known_wrong(task: Task) -> Path:
    """A notebook with a wrong answer. It is read at once, so that what becomes of the file makes no difference."""
    answers = [{"cell_type": "code", "source": WRONG.format(name=name)} for name in asked_for(task)]
    path = Path(tempfile.mkdtemp(prefix="known-")) / task.notebook
    path.write_text(json.dumps({"cells": answers}), encoding="utf-8")
    for name in asked_for(task):
        Answers.of(path).load(name)
    return path


def _code_of(notebook: Path) -> Iterator[ast.stmt]:
    """What was run of a notebook, and all modules beside it, as far as they can be read."""
    with suppress(Unusable):  # a broken notebook has been told already
        yield from Answers.of(notebook).executed
    for path in filter(Path.is_file, notebook.parent.rglob("*.py")):
        with suppress(OSError, *BROKEN):
            yield from ast.parse(path.read_bytes()).body


def _no_code(loader: SourcelessFileLoader, name: str) -> None:
    """Code that nobody can read may say that it is from anywhere."""
    raise ImportError(f"{name} has no source", name=name)


def _write(descriptor: int, secret: bytes, event: dict[str, Any]) -> None:
    line = secret + json.dumps(event).encode() + b"\n"
    while line:
        line = line[os.write(descriptor, line) :]


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except BlockingIOError:
        return b""


def _own_namespace() -> bool:
    """Whether no process can be seen here that is not in the sandbox."""
    return os.environ[SWITCH] == Isolation.BUBBLEWRAP


def _memory(processes: list[psutil.Process], kind: str) -> int:
    total = 0
    for process in processes:
        with suppress(psutil.Error):
            total += process.memory_info().rss if kind == "rss" else process.memory_full_info().uss
    return total


def _whole(server: Server) -> bool:
    try:
        server.heal()
    except Exception:  # an answer can have done anything to it
        return False
    return True


def _serves(process: psutil.Process) -> bool:
    """Whether a process belongs to a server that a test has started for itself."""
    with suppress(psutil.Error, IndexError):
        return PREFIX in process.cwd() or process.cmdline()[2] == guard.__file__
    return True


def _runs(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def _full(place: Path) -> bool:
    disk = os.statvfs(place)
    return disk.f_blocks * disk.f_frsize == DISK_BYTES and disk.f_bavail * disk.f_frsize < 2**16


def _end_everything() -> None:
    """End what a submission has left: all of this process namespace, if it is ours, else all that descends from us."""
    if os.getpid() == 1:
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
    else:
        while left := [each for each in psutil.Process().children(recursive=True) if _runs(each)]:
            for sign in (signal.SIGSTOP, signal.SIGKILL):
                for process in left:
                    with suppress(psutil.Error):
                        process.send_signal(sign)
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def _wipe(place: Path, keep: list[Path]) -> bool:
    """Remove all files that can be written, but for some folders. Says whether nothing else is left."""
    keep = [*keep, *readable()]  # the course may lie there too
    left = False
    for path in [*place.iterdir(), *(Path("/dev/shm").iterdir() if os.getpid() == 1 else ())]:
        if any(each.is_relative_to(path) for each in keep):
            continue
        with suppress(OSError):
            path.unlink()
        if path.is_dir():
            shutil.rmtree(path, onerror=_open_and_again)
        left |= os.path.lexists(path)
    return not left


def _open_and_again(function: Callable[[str], Any], path: str, _: Any) -> None:
    """Try once more where a folder was closed to its own owner."""
    with suppress(OSError):
        for each in (os.path.dirname(path), path):
            if not os.path.islink(each):
                os.chmod(each, 0o700)
        function(path)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
