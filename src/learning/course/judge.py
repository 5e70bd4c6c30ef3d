"""Run graded tests on a notebook, each in a process of its own, and say what came of it.

A learner's code may loop, exit or crash. So each test runs in a fork of a warm server that has imported everything and
connected to nothing: a verdict takes a fraction of a second, and whatever the code does, it costs one task.
"""

import ast
import json
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from multiprocessing import forkserver, util
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from .tasks import GRADED_TESTS, ROOT, Task
from .verdict import Behaviour, Verdict

TASK_SECONDS = 60
"""How long one task may take in all, whatever its behaviours do to outlive their own limit."""

_processes = multiprocessing.get_context("forkserver")


def warm_up() -> None:
    """Start the server that verdicts are forked from, without waiting for it."""
    os.environ["LEARNING_JUDGE_FOLDER"] = util.get_temp_dir()  # where the server's socket is
    _processes.set_forkserver_preload(["learning.survivor", "learning.course.preload"])
    forkserver.ensure_running()


def judge(task: Task, notebook: Path) -> Verdict:
    """The verdict of the task's graded test on the answers in `notebook`."""
    warm_up()
    receiver, sender = _processes.Pipe(duplex=False)
    process = _processes.Process(target=_run_test, args=(task, notebook, sender))
    process.start()
    sender.close()
    try:
        events = list(_events(receiver, process))
        process.join(1)
        exit_code = process.exitcode
    finally:
        _end(process)
    return _verdict(task, events, exit_code)


@cache
def behaviours(task: Task) -> list[str]:
    """What the task's test judges, in its order, read from the test itself."""
    tree = ast.parse(GRADED_TESTS.read_text(encoding="utf-8"))
    test = next(
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == f"test_{task.name}"
    )
    calls = (item.context_expr for node in ast.walk(test) if isinstance(node, ast.With) for item in node.items)
    named = [call for call in calls if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "behaviour"]
    return [call.args[0].value for call in sorted(named, key=lambda call: call.lineno)]


# --- in the process that asks -----------------------------------------------------------------------------------------


def _events(receiver: Connection, process: BaseProcess) -> Iterator[dict[str, Any]]:
    """What the process reports, until it is done, has ended, or is out of time."""
    deadline = time.monotonic() + TASK_SECONDS
    while receiver in wait([receiver, process.sentinel], max(0.0, deadline - time.monotonic())):
        try:
            event = json.loads(receiver.recv_bytes())
        except EOFError:
            return
        yield event
        if "outcome" in event:
            return


def _end(process: BaseProcess) -> None:
    """End the process and whatever it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


def _verdict(task: Task, events: list[dict[str, Any]], exit_code: int | None) -> Verdict:
    found = {event["behaviour"]["name"]: Behaviour(**event["behaviour"]) for event in events if "behaviour" in event}
    listed = [found.get(name, Behaviour(name, "not judged")) for name in behaviours(task)]
    if events and "outcome" in events[-1]:
        outcome, reason = events[-1]["outcome"], events[-1]["reason"]
        if outcome == "skipped":
            outcome = "not attempted" if reason.startswith("not attempted") else "not judged"
        elif any(behaviour.outcome != "passed" for behaviour in listed):
            outcome = "failed"
        return Verdict(task.name, outcome, reason, listed)
    during = next((each.name for each in listed if each.outcome == "not judged"), "")
    if exit_code is None:
        what = f"Your code was still running after {TASK_SECONDS} seconds, and was stopped"
    elif exit_code < 0:
        what = f"Your code crashed the Python process ({signal.Signals(-exit_code).name})"
    else:
        what = f"Your code ended the Python process (exit code {exit_code})"
    return Verdict(task.name, "failed", f"{what}. It was at: {during}", listed)


# --- in the process that judges ---------------------------------------------------------------------------------------


class _Reporter:
    """A pytest plugin that sends each outcome on as JSON, when it is known."""

    def __init__(self, sender: Connection):
        self._sender = sender

    def pytest_runtest_logreport(self, report: Any) -> None:
        told = getattr(report, "told", {})
        if hasattr(report, "context"):
            if not report.skipped:
                self.send({"behaviour": {"name": report.context.msg, "outcome": report.outcome, **told}})
        elif report.when == "call" or not report.passed:
            reason = report.longrepr[2].removeprefix("Skipped: ") if report.skipped else report.longreprtext
            self.send({"outcome": report.outcome, "reason": told.get("came", reason)})

    def send(self, event: dict[str, Any]) -> None:
        """Hand one event to the process that asked."""
        self._sender.send_bytes(json.dumps(event).encode())


def _run_test(task: Task, notebook: Path, sender: Connection) -> None:
    import pytest

    os.setsid()
    resource.setrlimit(resource.RLIMIT_CPU, (2 * TASK_SECONDS, 2 * TASK_SECONDS))  # even if nobody is left to end it
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silence, descriptor)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):  # whatever somebody likes for other tests
        os.environ.pop(name, None)
    arguments = [task.test_id, f"--work={notebook}", "-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider"]
    reporter = _Reporter(sender)
    code = pytest.main(arguments, plugins=[reporter])
    with suppress(BrokenPipeError):  # as it should be: the verdict is known, and nobody listens any more
        reporter.send({"outcome": "failed", "reason": f"Nothing was judged: pytest ended with exit code {int(code)}."})
    os._exit(0)  # at once, past the threads that a learner's code may have left
