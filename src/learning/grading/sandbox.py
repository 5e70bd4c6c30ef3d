"""Judge the tasks of a submission in a sandbox, and say what it tried beside answering them."""

import base64
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from learning.course.judge import TASK_SECONDS, JudgeError, Server, verdict_of
from learning.course.reading import behaviours, shared_servers
from learning.course.tasks import TASKS, Task
from learning.course.verdict import Behaviour, Verdict

from .isolation import Isolation, enclosed, environment, isolation
from .limits import CANARY_SECONDS

SILENT_SECONDS = TASK_SECONDS + CANARY_SECONDS + 60
"""After how long without a word the sandbox has been stopped by what runs in it."""

FATAL = "stopped the process that watches it"
PREVENTED = "kept its test from running"

NO_ANSWER = b'{"cells": []}'


@dataclass(frozen=True)
class Flag:
    """Something that a person should look at."""

    words: str
    grave: bool = False
    """Whether the verdict cannot be trusted, so that no points are given for it until a person has looked."""


@dataclass(frozen=True)
class Judged:
    """A verdict, what the answer did beside answering, and the seconds that it took."""

    verdict: Verdict
    flags: list[Flag] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def trusted(self) -> bool:
        """Whether nothing speaks against the verdict."""
        return not any(flag.grave for flag in self.flags)

    def to_json(self) -> dict[str, Any]:
        """As plain dicts and lists."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Judged":
        """The inverse of `to_json`."""
        flags = [Flag(**flag) for flag in data["flags"]]
        return cls(Verdict.from_json(data["verdict"]), flags, data["seconds"])


class Sandbox:
    """A place where submissions are judged, one at a time: a warm process in the strongest isolation there is here.

    It starts when it is first needed, and again after a submission has broken it. To be used by one thread.
    """

    def __init__(self) -> None:
        self._server: Server | None = None
        self._folder: Path | None = None
        self._trouble = ""
        self._closed = False

    def judge(
        self,
        notebook: str,
        files: Mapping[str, bytes],
        tasks: Sequence[Task],
        on_task: Callable[[str], None] = lambda name: None,
    ) -> list[Judged]:
        """The verdicts on the tasks, in their order.

        Args:
            notebook: the name of the notebook among the files.
            files: what the answers find in their folder.
            on_task: told the name of each task when its test begins.

        Raises:
            JudgeError: if no test can be run here, whatever is judged.
        """
        request = _request(notebook, files)
        judged: list[Judged] = []
        fruitless = 0
        while waiting := tasks[len(judged) :]:
            events = list(self._session(request | {"tasks": [task.name for task in waiting]}, on_task))
            found = list(self._judged(waiting, events))
            if self._closed:
                raise JudgeError("The grading was stopped.")
            fruitless = 0 if found else fruitless + 1
            if fruitless > 1:
                found, fruitless = [self._prevented(waiting[0])], 0
            judged += found
        return [self._once_more(request, each) for each in judged]

    def _prevented(self, task: Task) -> Judged:
        """The verdict on an answer that kept its test from running.

        Raises:
            JudgeError: if the test does not run here without an answer either.
        """
        nothing = _request(task.notebook, {task.notebook: NO_ANSWER})
        events = list(self._session(nothing | {"tasks": [task.name]}, lambda name: None))
        if not events:
            raise JudgeError(f"The sandbox ({isolation()}) does not work. {self._trouble}")
        verdict_of(task, events)
        listed = [Behaviour(name, "not judged") for name in behaviours(task)]
        return Judged(
            Verdict(task.name, "failed", "Your code kept the test from running", listed), [Flag(PREVENTED, True)]
        )

    def _once_more(self, request: dict[str, Any], judged: Judged) -> Judged:
        """The better of two verdicts, where it may have been a server that failed and not the answer.

        On a machine with too much to do, a server can be late or fail over by itself. Then already the first behaviour
        fails, which is the plainest. A wrong answer fails again, on other servers.
        """
        verdict = judged.verdict
        failed_at_once = verdict.outcome == "failed" and verdict.behaviours[0].outcome == "failed"
        if not (failed_at_once and shared_servers(TASKS[verdict.task])) or judged.flags:
            return judged
        events = list(self._session(request | {"tasks": [verdict.task]}, lambda name: None))
        again = next(self._judged([TASKS[verdict.task]], events), judged)
        return again if again.verdict.passed > verdict.passed else judged

    def close(self) -> None:
        """End it, with all that runs in it. It starts no more."""
        self._closed = True
        self._end()

    def _end(self) -> None:
        if self._server:
            self._server.close()
            self._server = None
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _running(self) -> Server:
        if self._server is None:
            if isolation() is Isolation.BUBBLEWRAP:
                temporary = Path("/tmp")  # one of its own
            else:
                self._folder = temporary = Path(tempfile.mkdtemp(prefix="grading-", dir="/tmp"))
                temporary.chmod(0o711)  # PostgreSQL may have to run as another user
            command = enclosed([sys.executable, "-P", "-m", "learning.grading.session"])
            self._server = Server(command, environment(temporary))
        return self._server

    def _session(self, request: dict[str, Any], on_task: Callable[[str], None]) -> Iterator[dict[str, Any]]:
        """What is told of a submission until it is over, or its sandbox is."""
        server = self._running()
        clean = False
        try:
            with server.connect() as connection, connection.makefile("rb") as lines:
                connection.settimeout(SILENT_SECONDS)
                connection.sendall(json.dumps(request).encode() + b"\n")
                for line in lines:
                    event = json.loads(line)
                    if "over" in event:
                        clean = event["clean"]
                        return
                    if "began" in event:
                        on_task(event["task"])
                    yield event
        except OSError:  # nobody is there any more, or nobody has said anything for too long
            return
        finally:
            if not clean:
                self._trouble = server.trouble
                self._end()

    def _judged(self, tasks: Sequence[Task], events: list[dict[str, Any]]) -> Iterator[Judged]:
        """The verdicts on those tasks whose tests began."""
        for task in tasks:
            told = [event for event in events if event["task"] == task.name]
            if not told:
                return
            try:
                verdict = verdict_of(task, [event for event in told if "flag" not in event])
            except JudgeError:
                yield self._prevented(task)
                continue
            merged = {name: value for event in told for name, value in event.items()}
            flags = list(dict.fromkeys(_flags(verdict, told, merged)))
            yield Judged(verdict, flags, round(merged.get("seconds", 0.0), 2))


def _request(notebook: str, files: Mapping[str, bytes]) -> dict[str, Any]:
    return {"notebook": notebook, "files": {name: base64.b64encode(data).decode() for name, data in files.items()}}


def _flags(verdict: Verdict, told: list[dict[str, Any]], merged: dict[str, Any]) -> Iterator[Flag]:
    for event in told:
        if "flag" in event:
            yield Flag(event["flag"], event["grave"])
    if "canary" in merged and "failed" not in merged["canary"]:
        yield Flag("had the test pass a known wrong answer afterwards", grave=True)
    if merged.get("limit"):
        yield Flag("ran out of time" if merged["limit"] == "time" else merged["limit"])
    elif "exit_code" not in merged:
        yield Flag(FATAL, grave=True)
    elif "done" not in merged and verdict.outcome == "passed":
        yield Flag("ended its process before the test could be shown a known wrong answer", grave=True)
    if merged.get("left"):
        yield Flag(f"left {merged['left']} running processes behind")
    if merged.get("disk_full"):
        yield Flag("filled its disk")
