"""The warm server: a process that has imported all that graded tests use, and forks for each verdict of a check cell.

Started and spoken to by `judge`. A verdict then takes a fraction of a second, and whatever a learner's code does to its
process, it costs one task. (multiprocessing has such a server too. It imports the program that asks once more, looks
for its own modules in the folder that it is called from, and leaves files behind when a kernel is killed.)

For each verdict there is a connection: one line of JSON with the request comes in, lines of JSON with what is found out
go back, and the last says how the process ended. When the other side hangs up, everything that runs for it is ended.
"""

import gc
import inspect
import io
import json
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib  # noqa: F401
import pytest

from learning.course.answers import Answers
from learning.course.plugin import BEHAVIOUR_SECONDS, REMARK, time_limit
from learning.course.reading import asked_for
from learning.course.tasks import GRADED_TESTS, ROOT, TASKS

CPU_SECONDS = 120
"""The CPU time that one task may use, even if nobody is left to end it."""

OPTIONS = (
    *(f"--rootdir={ROOT}", "-s", "--tb=line", "--assert=plain"),
    *("-p", "no:cacheprovider", "-p", "no:debugging"),
    *("-p", "no:unraisableexception"),  # it warns, which nobody would read, and collects garbage ten times for it
)


def warm_up() -> None:
    """Import all that graded tests import, by having pytest collect them. No test stays behind: answers come first."""
    only_ours()
    os.chdir(ROOT)  # pytest takes a bracket in an absolute path for a parameter's
    with redirect_stdout(io.StringIO()):
        pytest.main([GRADED_TESTS.name, "--collect-only", f"--work={GRADED_TESTS}", *OPTIONS])
    sys.modules.pop(GRADED_TESTS.stem, None)
    for task in TASKS.values():
        asked_for(task)
    inspect.getmodule(warm_up.__code__)  # it looks at all modules, once
    gc.collect()
    gc.freeze()  # what is here now is never garbage, and forks need not look at it


def only_ours() -> None:
    """Have pytest use no plugin and no option that somebody likes for other tests."""
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
        os.environ.pop(name, None)


def serve(asking: socket.socket) -> None:
    """Fork for every connection that comes through `asking`, until the other side is closed."""
    warm_up()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    while True:
        _, descriptors, _, _ = socket.recv_fds(asking, 1, 1)
        if not descriptors:
            return
        with socket.socket(fileno=descriptors[0]) as connection:
            if os.fork() == 0:
                asking.close()
                _attend(connection)
                os._exit(0)


def _attend(connection: socket.socket) -> None:
    """Run one test in a process of its own. End it with all that it started when it is done, or nobody listens."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request = json.loads(connection.makefile("rb").readline())
    child = os.fork()
    if child == 0:
        _run_test(connection, **request)

    def end(*_: Any) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)

    def end_when_nobody_listens() -> None:
        with suppress(OSError):
            connection.recv(1)
        end()

    threading.Thread(target=end_when_nobody_listens, daemon=True).start()
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # its number is its own until the group has ended too
    end()
    _, status = os.waitpid(child, 0)
    _send(connection, {"exit_code": os.waitstatus_to_exitcode(status)})


def _run_test(connection: socket.socket, test: str, notebook: str, folder: str, environment: dict[str, str]) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)  # a notebook may have started servers since, and tests use the same
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silence, descriptor)
    sys.path.append(folder)
    said = run_test(test, Path(notebook), folder, Reporter(lambda event: _send(connection, event)))
    _send(connection, {"nothing_judged": said[-2000:]})
    os._exit(0)  # at once, past the threads that a learner's code may have left


def run_test(test: str, notebook: Path, folder: str, *reporters: "Reporter") -> str:
    """Judge the answers of a notebook by one graded test, while the reporters tell what is found out. Returns what
    pytest printed before it ran the test.
    """
    only_ours()
    sys.stdout = sys.stderr = said = io.StringIO()
    os.chdir(folder)
    for reporter in reporters:
        reporter.tell({"arriving": True})
    ours, depth = WaysToImport.now(), sys.getrecursionlimit()
    arrive(test, notebook)
    theirs = WaysToImport.now()
    ours.restore()
    only_ours()
    sys.setrecursionlimit(max(depth, sys.getrecursionlimit()))
    for reporter in reporters:
        reporter.arrived()
    os.chdir(ROOT)
    pytest.main(
        [f"{GRADED_TESTS.name}::{test}", f"--work={notebook}", *OPTIONS], plugins=[Folder(folder, theirs), *reporters]
    )
    return said.getvalue()


def arrive(test: str, notebook: Path) -> None:
    """Load the answers that a test will ask for, while there is no test for their code to find."""
    task = next(task for task in TASKS.values() if task.test == test)
    for name in asked_for(task):
        with suppress(BaseException), time_limit(BEHAVIOUR_SECONDS):  # the test asks again, and is told the same
            Answers.of(notebook).load(name)


@dataclass(frozen=True)
class WaysToImport:
    """Where Python looks for modules. An answer may change that for itself, and not for pytest."""

    path: list[str]
    finders: list[Any]
    hooks: list[Any]

    @classmethod
    def now(cls) -> "WaysToImport":
        """Those in force."""
        return cls(*([*getattr(sys, name, ())] for name in ("path", "meta_path", "path_hooks")))

    def restore(self) -> None:
        """Have these in force again."""
        sys.path, sys.meta_path, sys.path_hooks = [*self.path], [*self.finders], [*self.hooks]


class Folder:
    """A pytest plugin that has a test run in a folder, unheard, and with an answer's own ways to import."""

    def __init__(self, folder: str, ways: WaysToImport):
        self._folder = folder
        self._ways = ways

    def pytest_runtest_logstart(self) -> None:
        """See pytest."""
        self._ways.restore()
        os.chdir(self._folder)
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - as long as the process lives


class Reporter:
    """A pytest plugin that tells each outcome when it is known."""

    def __init__(self, tell: Callable[[dict[str, Any]], None]):
        self.tell = tell

    def arrived(self) -> None:
        """Called when the answers are there, and the tests are not yet."""

    def pytest_runtest_logstart(self) -> None:
        """See pytest."""
        self.tell({"started": True})

    def pytest_runtest_logreport(self, report: Any) -> None:
        """See pytest."""
        told = getattr(report, "told", {})
        if hasattr(report, "context"):
            if not report.skipped:
                self.tell({"behaviour": {"name": report.context.msg, "outcome": report.outcome, **told}})
        elif report.when == "call" or not report.passed:
            reason = report.longrepr[2].removeprefix("Skipped: ") if report.skipped else report.longreprtext
            remark = dict(report.user_properties).get(REMARK, "")
            self.tell({"outcome": report.outcome, "reason": told.get("came", reason), "remark": remark})


def _send(connection: socket.socket, event: dict[str, Any]) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):  # nobody listens any more
        connection.sendall(json.dumps(event).encode() + b"\n")


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
