"""Servers that stay when the command that started them ends: `learning services up` and `down`.

A process of its own owns them, `python -m learning.services.standing NAME…`. It tells on its output, in a line of JSON
for each server, how the start went, and lives until it is told to end.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from typing import Any

import psutil

from . import postgres, redis, redis_cluster, s3
from .choice import KINDS, SWITCH, running
from .errors import ServiceError
from .server import Server

STARTERS: dict[str, Callable[[], Server]] = {
    "redis": redis,
    "redis-cluster": redis_cluster,
    "postgres": postgres,
    "s3": s3,
}

VARIABLES = dict(zip(STARTERS, KINDS, strict=True))
"""The environment variable that leads to each, by name."""

MODULE = "learning.services.standing"

END_SECONDS = 15
"""How long the owner may take to end its servers."""


def up(names: Sequence[str]) -> Generator[dict[str, Any], None, None]:
    """Start servers; tells of each, as it is ready: `{"name": …, "environment": …}` or `{"name": …, "error": …}`.

    Where it is interrupted, none of them stays.
    """
    owner = subprocess.Popen(
        [sys.executable, "-m", MODULE, *names],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd="/",
    )
    assert owner.stdout is not None  # it is a pipe
    try:
        yield from map(json.loads, owner.stdout)
    except BaseException:
        owner.terminate()
        owner.wait()
        raise
    finally:
        owner.stdout.close()


def standing() -> list[tuple[Server, psutil.Process]]:
    """The servers that `up` has started, each with the process that owns it."""
    found = []
    for server, owner in running():
        with suppress(psutil.Error):
            process = psutil.Process(owner)
            if MODULE in process.cmdline():
                found.append((server, process))
    return found


def down() -> list[Server]:
    """End the servers that `up` has started, and return them."""
    ended = standing()
    owners = {owner for _, owner in ended}
    for owner in owners:
        with suppress(psutil.NoSuchProcess):
            owner.terminate()
    psutil.wait_procs(owners, timeout=END_SECONDS)
    return sorted((server for server, _ in ended), key=lambda server: server.title)


def main() -> None:
    """Own servers until SIGTERM comes."""
    for name in KINDS:  # a standing server is always a new one
        os.environ.pop(name, None)
    if os.environ.get(SWITCH) == "external":
        del os.environ[SWITCH]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    servers: list[Server] = []
    for name in sys.argv[1:]:
        try:
            servers.append(STARTERS[name]())
            answer: dict[str, Any] = {"environment": servers[-1].environment}
        except ServiceError as error:
            answer = {"error": str(error)}
        print(json.dumps({"name": name, **answer}), flush=True)
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silence, descriptor)  # `up` waits for the end of the output, and its terminal may be gone soon
    while servers:
        signal.pause()


if __name__ == "__main__":
    main()
