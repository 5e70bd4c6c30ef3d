"""The guard of a workspace: when the owner is gone, however it went, it ends the servers and removes the folder.

Run as a program, `python -P guard.py FOLDER OWNER`, with nothing but psutil to import, so that it is there before the
first server. The folder is locked (flock) as long as the guard lives: an unlocked one is nobody's, and may be cleared.
"""

import ctypes
import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

LOOK_SECONDS = 0.25
"""How often the guard looks whether the owner is still there."""

STOP_SECONDS = 2
"""How long PostgreSQL may take to end by itself, and a killed program to be gone."""

ATTEMPTS = 10
"""How often to remove the folder, while another process that uses a server starts it again there."""

DOCKER = "docker"
"""The file that marks a workspace which may have containers, with the `DOCKER_HOST` they are on.

They carry the workspace's name as the value of `LABEL`.
"""

LABEL = "learning.workspace"

LEFTOVERS = "leftovers"
"""The file in a workspace with what its servers create elsewhere, a path in a line."""


def clear(folder: Path) -> None:
    """End whatever runs in the workspace, and remove it."""
    _end_all(folder)
    if (folder / DOCKER).exists():
        _remove_containers(folder.name, (folder / DOCKER).read_text())
    if (folder / LEFTOVERS).exists():
        for leftover in (folder / LEFTOVERS).read_text().splitlines():
            Path(leftover).unlink(missing_ok=True)
    for _ in range(ATTEMPTS):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists() and not programs(folder):
            return
        _end_all(folder)


def programs(folder: Path) -> list[psutil.Process]:
    """What works in a folder of the workspace, but for the shell of a person who looks at it."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            works_there = folder in Path(process.cwd()).parents
            if works_there and process.terminal() is None and process.pid != os.getpid():
                found.append(process)
    return found


def _end_all(folder: Path) -> None:
    for pid_file in folder.glob("*/data/postmaster.pid"):
        _end_postgres(pid_file)
    _end(programs(folder), signal.SIGKILL)


def _end(processes: list[psutil.Process], sign: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(sign)
            process.send_signal(signal.SIGCONT)  # a paused one hears nothing else
    psutil.wait_procs(processes, timeout=STOP_SECONDS)


def _end_postgres(pid_file: Path) -> None:
    """Ask a PostgreSQL to end at once, and free its shared memory, as nobody will do if it has been killed."""
    with suppress(OSError, IndexError, ValueError):  # a start that was interrupted leaves half a file
        lines = pid_file.read_text().splitlines()
        with suppress(psutil.Error):
            process = psutil.Process(abs(int(lines[0])))  # that of initdb is negative
            if Path(process.cwd()) == pid_file.parent:
                _end([process], signal.SIGQUIT)
        ctypes.CDLL(None).shmctl(int(lines[6].split()[1]), 0, None)  # 0 is IPC_RMID


def _remove_containers(workspace: str, host: str) -> None:
    """Remove them, or raise an OSError if no engine answers: then they are left for the next `clear`."""
    import docker

    try:
        engine = docker.from_env(environment=os.environ | ({"DOCKER_HOST": host} if host else {}))
    except docker.errors.DockerException as error:
        raise ConnectionError(f"No Docker engine answers that could remove the containers of {workspace}.") from error
    mine = {"label": f"{LABEL}={workspace}"}
    for container in engine.containers.list(all=True, filters=mine):
        with suppress(docker.errors.NotFound):
            container.remove(force=True, v=True)
    for network in engine.networks.list(filters=mine):
        with suppress(docker.errors.NotFound):
            network.remove()


def main() -> None:
    folder, owner = Path(sys.argv[1]), int(sys.argv[2])
    while os.getppid() == owner and folder.exists():
        time.sleep(LOOK_SECONDS)
    clear(folder)


if __name__ == "__main__":
    main()
