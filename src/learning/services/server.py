"""What every server has: a URL, nodes that can break, and an end."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol, Self, TypeVar

from .errors import ServiceError
from .ports import PortTaken
from .workspace import Workspace

START_SECONDS = 30
"""How long a server may take until it answers."""

ATTEMPTS = 5
"""How often to start on other ports, where another program was faster."""


class Node(Protocol):
    """One server program, a process or a container, and what can happen to it in production."""

    name: str
    port: int
    """Where clients reach it on the loopback interface; 0 for a unix socket."""

    @property
    def peer_name(self) -> str:
        """Where the other nodes of its server reach it, now and after a restart."""

    @property
    def peer_address(self) -> str:
        """The same as an IP address, which may be another one after a restart."""

    @property
    def running(self) -> bool:
        """Whether it is there, paused or not."""

    def start(self) -> None:
        """Start it, unless it runs. `wait_until_ready` of its server tells when it answers."""

    def stop(self) -> None:
        """Let it end in good order, as at a planned restart."""

    def kill(self) -> None:
        """End it with SIGKILL, as a crash does."""

    def pause(self) -> None:
        """Stop it in its tracks: it keeps its connections and answers nobody."""

    def resume(self) -> None:
        """Let a paused one go on."""

    def last_words(self) -> str:
        """The end of its log."""


class Place(Protocol):
    """Where nodes are started: as processes, or in containers."""

    def valkey(self, name: str, settings: dict[str, str | int]) -> Node:
        """A server that speaks Redis, with these settings; `port` is one of them."""

    def postgres(self, settings: dict[str, str], archive_command: str, data: Path | None) -> tuple[Node, str]:
        """A PostgreSQL server with these settings, and its URL. `{archive}` in the command is where WAL is kept.

        It starts on a copy of the folder `data`, if there is one.
        """

    def s3(self, key: str, secret: str) -> tuple[Node, str]:
        """An S3 server for one pair of keys, and its endpoint's URL."""


class Server:
    """A running server, for `with` or for keeps: it ends at `close()`, or with this process, or with this object.

    Attributes:
        environment: the variables that lead another process to it; the one called `variable` has its URL.
        nodes: its programs. Empty for a server that is not ours: it can be used, and not broken.
        folder: where its programs keep their files, if it is ours.
    """

    title: ClassVar[str]
    """What people call it."""

    variable: ClassVar[str]
    """The environment variable that leads to one."""

    companions: ClassVar[tuple[str, ...]] = ()
    """More variables that its clients need, where they are set."""

    def __init__(self, environment: Mapping[str, str], nodes: Sequence[Node] = (), folder: Path | None = None):
        self.environment = dict(environment)
        self.nodes = list(nodes)
        self.folder = folder
        self._workspace: Workspace | None = None

    @property
    def url(self) -> str:
        """Where it is, for clients, with the password if it has one."""
        return self.environment[self.variable]

    @property
    def node(self) -> Node:
        """The first node, and for most servers the only one.

        Raises:
            ServiceError: if the server is not ours.
        """
        if not self.nodes:
            raise ServiceError(
                f"This {self.title} is not ours, so it can only be used. For one that can be stopped and killed, "
                "set LEARNING_SERVICES=embedded."
            )
        return self.nodes[0]

    def ready(self) -> bool:
        """Whether it answers now."""
        raise NotImplementedError

    def wait_until_ready(self, seconds: float = START_SECONDS) -> None:
        """Wait until it answers again, after a start or a fault.

        Raises:
            ServiceError: if that takes longer.
        """
        wait_for(self.ready, f"{self.title} answers", seconds, show=self.nodes)

    def restart(self, node: Node) -> None:
        """Stop one node in good order, start it, and wait until all is well again."""
        node.stop()
        node.start()
        self.wait_until_ready()

    def heal(self) -> None:
        """Undo every fault: start what has ended, resume what is paused, free what is full; wait until all is well."""
        for node in self.nodes:
            node.resume()
            node.start()
        self.wait_until_ready()

    def close(self) -> None:
        """End the server, if it was started here, and remove what it stored."""
        if self._workspace:
            self._workspace.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


S = TypeVar("S", bound=Server)


def launch(start: Callable[[Workspace], S]) -> S:
    """A server in a workspace of its own. Whatever interrupts the start, nothing is left of it."""
    for attempt in range(1, ATTEMPTS + 1):
        workspace = Workspace()
        try:
            server = start(workspace)
            server.folder, server._workspace = workspace.folder, workspace
            about = {"variable": server.variable, "environment": server.environment}
            workspace.describe(about | {"nodes": [node.name for node in server.nodes]})
        except PortTaken:
            workspace.close()
            if attempt == ATTEMPTS:
                raise
        except BaseException:
            workspace.close()
            raise
        else:
            return server
    raise AssertionError


def wait_for(
    condition: Callable[[], bool],
    what: str,
    seconds: float = START_SECONDS,
    *,
    starting: Sequence[Node] = (),
    show: Sequence[Node] = (),
) -> None:
    """Wait until a condition holds.

    Raises:
        ServiceError: if it does not in time, or one of the nodes that are `starting` ends before. The message has the
            last words of those, or of those to `show`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        for node in starting:
            if not node.running:
                words = node.last_words()
                kind = PortTaken if "already in use" in words.lower() else ServiceError
                raise kind(f"{node.name} ended while it started. The end of its log:\n{words}")
        if time.monotonic() > deadline:
            words = "".join(f"\nThe end of the log of {node.name}:\n{node.last_words()}" for node in starting or show)
            raise ServiceError(f"Waited {seconds:g} s, and it does not hold that {what}.{words}")
        time.sleep(0.01)
