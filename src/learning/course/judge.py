"""Run graded tests on a notebook, each in a process of its own, and say what came of it.

A learner's code may loop, exit or crash. So each test runs in a fork of a warm server (see `warm`): whatever the code
does, it costs one task.
"""

import compileall
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .reading import behaviours
from .tasks import GRADED_TESTS, ROOT, Task
from .verdict import Behaviour, Verdict

TASK_SECONDS = 60
"""How long one task may take in all, whatever its behaviours do to outlive their own limit."""

START_SECONDS = 60
"""How long a test may take to start: a busy machine is not the learner's fault."""


class JudgeError(Exception):
    """Nothing could be judged, and the learner's code is not the reason. The message says what went wrong."""


class Server:
    """A warm server. It ends by itself when this process does, or lets go of it.

    Args:
        command: starts it; a number is added, of the socket through which it takes connections.
        environment: that of this process unless said.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self._asking, served = socket.socketpair()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the server is
        compileall.compile_file(GRADED_TESTS, quiet=2)  # once if it has changed, rather than in each fork
        with served:
            # Not run from a folder of the learner's (-P), nor in the group of processes that Ctrl-C or Jupyter ends.
            self._process = subprocess.Popen(
                [*command, str(served.fileno())],
                pass_fds=[served.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                cwd=ROOT,
                env=environment,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    @property
    def trouble(self) -> str:
        """What it complained of last."""
        self._said.seek(0)
        return self._said.read()[-2000:].decode(errors="replace")

    def close(self) -> None:
        """End it, and wait until it has ended."""
        self._asking.close()
        self._process.kill()
        self._process.wait()

    def connect(self) -> socket.socket:
        """A connection on which to ask for one verdict."""
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._asking, [b"."], [theirs.fileno()])
        return ours


COMMAND = (sys.executable, "-P", "-m", "learning.course.warm")

_server: Server | None = None
_starting = threading.Lock()


def warm_up() -> Server:
    """The server that verdicts are forked from: started, without waiting for it, where it is not running."""
    global _server
    with _starting:
        if _server is None or not _server.running:
            _server = Server(COMMAND)
        return _server


def judge(task: Task, notebook: Path, folder: Path | None = None) -> Verdict:
    """The verdict of the task's graded test on the answers in `notebook`, in the environment that this process has now.

    Args:
        folder: where the answers run, among the files beside them; the notebook's own folder unless said.

    Raises:
        JudgeError: if the test could not be run at all.
    """
    server = warm_up()
    request = {
        "test": task.test,
        "notebook": str(notebook.resolve()),
        "folder": str(folder or notebook.parent.resolve()),
        "environment": dict(os.environ),
    }
    try:
        with server.connect() as connection:
            connection.sendall(json.dumps(request).encode() + b"\n")
            events = list(_events(connection))
    except (BrokenPipeError, ConnectionResetError) as error:
        raise JudgeError(f"The process that runs the tests has ended. {server.trouble}") from error
    return verdict_of(task, events, server.trouble)


def _events(connection: socket.socket) -> Iterator[dict[str, Any]]:
    """What is reported, until the test has an outcome or its process an end, or time is up."""
    deadline = time.monotonic() + START_SECONDS
    received = b""
    while True:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            chunk = connection.recv(65536)
        except TimeoutError:
            return
        *lines, received = (received + chunk).split(b"\n")
        for line in lines:
            event = json.loads(line)
            yield event
            if "started" in event:
                deadline = time.monotonic() + TASK_SECONDS
            if "outcome" in event or "exit_code" in event:
                return
        if not chunk:
            raise ConnectionResetError


def verdict_of(task: Task, events: list[dict[str, Any]], trouble: str = "") -> Verdict:
    """The verdict that the events of one test make.

    Args:
        trouble: what the warm server complained of, if it did.

    Raises:
        JudgeError: if the test was not run, for no fault of the answer.
    """
    told = {name: value for event in events for name, value in event.items()}
    if "started" not in told and ("arriving" not in told or "nothing_judged" in told):
        raise JudgeError(told.get("nothing_judged") or trouble or "The test did not start.")
    found = {event["behaviour"]["name"]: Behaviour(**event["behaviour"]) for event in events if "behaviour" in event}
    listed = [found.get(name, Behaviour(name, "not judged")) for name in behaviours(task)]
    remark = told.get("remark", "")
    if "outcome" in told:
        outcome, reason = told["outcome"], told["reason"]
        if outcome == "skipped":
            outcome = "not attempted" if reason.startswith("not attempted") else "not judged"
        elif outcome == "passed" and any(behaviour.outcome == "not judged" for behaviour in listed):
            outcome, reason = "not judged", "The test passed without all that it lists: it has changed meanwhile."
        elif any(behaviour.outcome != "passed" for behaviour in listed):
            outcome = "failed"
        return Verdict(task.name, outcome, reason, listed, remark)
    during = next((each.name for each in listed if each.outcome == "not judged"), "")
    if "started" not in told:
        during = "the definitions of your answer"
    exit_code = told.get("exit_code")
    if told.get("limit", "time") != "time":
        what = f"Your code {told['limit']}, and was stopped"
    elif exit_code is None:
        what = f"Your code was still running after {TASK_SECONDS} seconds, and was stopped"
    elif exit_code < 0:
        what = f"Your code crashed the Python process ({_signal(-exit_code)})"
    else:
        what = f"Your code ended the Python process (exit code {exit_code})"
    return Verdict(task.name, "failed", f"{what}. It was at: {during}", listed, remark)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # those of real time have no names
        return f"signal {number}"
