"""One server program: start it, stop it, and everything that can go wrong with it in production."""

import json
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from .errors import ServiceError
from .ports import LOOPBACK

DESCRIPTION = "process.json"

STOP_SECONDS = 5
"""How long a server may take to stop by itself before it is killed."""


class Process:
    """A `Node`: a server program in a folder of its own, where its command and its pid are kept.

    So another process can take it over: `Process(folder)` is the same node there, with the same handles.
    """

    peer_name = peer_address = LOOPBACK

    def __init__(self, folder: Path):
        self.folder = folder
        self.name = folder.name
        self.port = self._description()["port"]
        self._child: subprocess.Popen | None = None

    @classmethod
    def create(
        cls,
        folder: Path,
        command: list[str],
        *,
        port: int = 0,
        user: str | None = None,
        environment: dict[str, str] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> "Process":
        """Describe a server in its folder, without starting it."""
        description = {"command": command, "port": port, "user": user, "stop_signal": stop_signal}
        (folder / DESCRIPTION).write_text(json.dumps(description | {"environment": environment or {}}))
        return cls(folder)

    @property
    def command(self) -> list[str]:
        """The program and its arguments."""
        return self._description()["command"]

    @property
    def log(self) -> Path:
        """What the server prints."""
        return self.folder / "log"

    @property
    def running(self) -> bool:
        """Whether the program is there, paused or not."""
        return self._process() is not None

    def start(self) -> None:
        """Start the program, unless it runs. It is not ready yet: `wait_until` tells."""
        if self.running:
            return
        description = self._description()
        with self.log.open("ab") as log:
            try:
                self._child = subprocess.Popen(
                    self.command,
                    cwd=self.folder,
                    env=os.environ | {"TMPDIR": str(self.folder)} | description["environment"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    **as_user(description["user"]),
                )
            except OSError as error:
                raise cannot_run(Path(self.command[0]), error) from error
        (self.folder / "pid").write_text(str(self._child.pid))

    def stop(self) -> None:
        """Ask the program to end, as at a planned restart, and wait for it."""
        if process := self._process():
            _signal([process], signal.Signals(self._description()["stop_signal"]))
            _wait_for_end([process])
        self.kill()

    def kill(self) -> None:
        """End the program with SIGKILL, and all it has started, as a crash of its machine does."""
        if process := self._process():
            _signal([process], signal.SIGSTOP)  # so that it starts nothing more while we look for what it has started
            _wait_until(lambda: _status(process) in (None, psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE))
        everything = self._everything()
        _signal(everything, signal.SIGKILL)
        _wait_for_end(everything)

    def pause(self) -> None:
        """Stop the program in its tracks: it keeps its connections and answers nobody."""
        _signal(self._everything(), signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused program go on."""
        _signal(self._everything(), signal.SIGCONT)

    def last_words(self, lines: int = 8) -> str:
        """The end of its log."""
        printed = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(f"    {line}" for line in printed[-lines:]) or "    (none)"

    def _description(self) -> dict:
        return json.loads((self.folder / DESCRIPTION).read_text())

    def _process(self) -> psutil.Process | None:
        """The running program, if there is one. Its pid may be another program's by now, so the folder has to agree."""
        if self._child:
            self._child.poll()  # of a child that has ended, something stays until somebody looks
        with suppress(OSError, ValueError, psutil.Error):
            process = psutil.Process(int((self.folder / "pid").read_text()))
            if Path(process.cwd()).is_relative_to(self.folder):
                return process
        return None

    def _everything(self) -> list[psutil.Process]:
        with suppress(psutil.Error):
            if process := self._process():
                return [process, *process.children(recursive=True)]
        return []


def as_user(name: str | None) -> dict:
    """What `subprocess` needs to run a program as another user; nothing where there is no name."""
    return {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []} if name else {}


def cannot_run(program: Path, error: OSError) -> ServiceError:
    """What to tell of a program that the system refuses to run."""
    if isinstance(error, PermissionError):
        return ServiceError(
            f"{program} may not be executed. Mend it with: chmod +x '{program}' "
            "(unless its disk is mounted noexec: then install the course on another)"
        )
    return ServiceError(f"{program} cannot be run: {error.strerror}.")


def _signal(processes: list[psutil.Process], sign: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(sign)


def _wait_for_end(processes: list[psutil.Process]) -> None:
    """Wait until none of them runs. What its parent has not yet asked for, a zombie, runs no more."""
    _wait_until(lambda: all(_status(process) in (None, psutil.STATUS_ZOMBIE) for process in processes))


def _wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    while not done() and time.monotonic() < deadline:
        time.sleep(0.005)


def _status(process: psutil.Process) -> str | None:
    """What a process does; None if it is gone."""
    with suppress(psutil.NoSuchProcess):
        return process.status()
    return None
