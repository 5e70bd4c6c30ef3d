"""Which server somebody gets who asks for one: the environment's, a container, or an embedded one."""

import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from . import containers, guard
from .embedded import Embedded
from .errors import ServiceError
from .postgres_server import PostgreSQL
from .process import Process
from .redis_servers import Redis, RedisCluster
from .s3_server import S3
from .server import Node, Place, S, Server, launch
from .workspace import described

SWITCH = "LEARNING_SERVICES"
"""The environment variable that forces one of the choices."""

CHOICES = ("external", "docker", "embedded")

KINDS: dict[str, type[Server]] = {kind.variable: kind for kind in (Redis, RedisCluster, PostgreSQL, S3)}

_told: set[str] = set()


def provide(kind: type[S], start: Callable[[Place], S], *, default: bool, files: bool = False) -> S:
    """A server of this kind.

    Args:
        kind: what it is.
        start: starts one, in whatever place.
        default: whether any such server will do. The environment's cannot be told how many replicas to have.
        files: whether its files have to be within reach, so that a container is only taken where that is forced.

    Raises:
        ServiceError: if there is none to be had; the message says what to do.
    """
    forced = os.environ.get(SWITCH, "")
    if forced and forced not in CHOICES:
        raise ServiceError(f"{SWITCH} is {forced!r}, and has to be one of {', '.join(CHOICES)}, or unset.")
    if default and (server := _ours(kind)):
        server.heal()  # whoever had it before may have broken it
        _tell(f"{kind.title}: one that runs already")
        return server
    given = bool(os.environ.get(kind.variable))
    if forced == "external" and not (given and default):
        why = "and the environment's server takes no options" if given else f"and {kind.variable} is not set"
        raise ServiceError(f"{SWITCH} is 'external', {why}. Set {kind.variable}, or {SWITCH} to 'embedded'.")
    if given and default and forced in ("", "external"):
        return _from_environment(kind)
    in_container = forced == "docker" or (not forced and not files and containers.has_image(kind.variable))
    place = containers.Containers if in_container else Embedded
    server = launch(lambda workspace: start(place(workspace)))
    node = server.node
    how = f"embedded {_program(node)}" if isinstance(node, Process) else f"{containers.IMAGES[kind.variable]} in Docker"
    _tell(f"{kind.title}: {how}")
    return server


def running() -> list[tuple[Server, int]]:
    """The servers of this user that run on this machine, each with the pid of the process that owns it."""
    found = []
    for folder, description in described():
        with suppress(LookupError, OSError, TypeError):  # it may end at this very moment
            kind = KINDS[description["variable"]]
            nodes = [_node(folder, name) for name in description["nodes"]]
            found.append((kind(description["environment"], nodes, folder), description["owner"]))
    return found


def _ours(kind: type[S]) -> S | None:
    """The server that the environment leads to, if we have started it: with its nodes, so that it can be broken."""
    url = os.environ.get(kind.variable)
    found = (server for server, _ in running() if isinstance(server, kind)) if url else ()
    return next((server for server in found if server.environment[kind.variable] == url), None)


def _from_environment(kind: type[S]) -> S:
    """The server that the environment leads to, and somebody else has started."""
    url = os.environ[kind.variable]
    names = (kind.variable, *kind.companions)
    server = kind({name: os.environ[name] for name in names if name in os.environ})
    try:
        ready = server.ready()
    except Exception as error:  # whatever a client thinks of a URL that is none
        raise ServiceError(f"{kind.variable} is no URL of a {kind.title}: {error}") from error
    if not ready:
        raise ServiceError(
            f"{kind.variable} leads to {_without_password(url)}, and no {kind.title} answers there. Start it, or unset "
            f"{kind.variable}: then one is started for you."
        )
    _tell(f"{kind.title}: {_without_password(url)}, from {kind.variable}")
    return server


def _node(folder: Path, name: str) -> Node:
    in_container = (folder / guard.DOCKER).exists()
    return containers.Container.find(name, folder.name) if in_container else Process(folder / name)


def _program(process: Process) -> str:
    program, *arguments = process.command
    name = arguments[1] if arguments[0] == "-m" else Path(program).name
    return "SeaweedFS" if name == "weed" else name


def _without_password(url: str) -> str:
    return re.sub(r"(?<=:)[^:@/]*(?=@)|(?<=password=)[^&\s]*", "…", url)


def _tell(line: str) -> None:
    """Say what was chosen, once. In a notebook what goes to stderr looks like an error."""
    if line not in _told:
        _told.add(line)
        print(line, file=sys.stdout if "ipykernel" in sys.modules else sys.stderr)
