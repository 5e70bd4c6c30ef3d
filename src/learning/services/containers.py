"""Servers in containers, where a Docker engine answers."""

import os
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import guard
from .errors import ServiceError
from .ports import LOOPBACK, PortTaken, free_ports
from .s3_server import keys
from .workspace import Workspace

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container as DockerContainer

IMAGES = {
    "REDIS_URL": "valkey/valkey:9.1.2",
    "REDIS_CLUSTER_URL": "valkey/valkey:9.1.2",
    "DATABASE_URL": "postgres:18.6",
    "S3_ENDPOINT_URL": "chrislusf/seaweedfs:4.48",
}
"""What each kind of server runs in, by the variable that leads to it: the images of docker-compose.yml."""

SOCKETS = (
    "/var/run/docker.sock",
    "~/.docker/run/docker.sock",
    "~/.docker/desktop/docker.sock",
    "~/.colima/docker.sock",
)
"""Where engines listen. Looking for one of them first saves half a second of imports where there is none."""

STOP_SECONDS = 5


@cache
def engine() -> "DockerClient | None":
    """The Docker engine, if one answers."""
    if not os.environ.get("DOCKER_HOST") and not any(Path(each).expanduser().exists() for each in SOCKETS):
        return None
    from docker.errors import DockerException
    from testcontainers.core.docker_client import DockerClient

    try:
        client = DockerClient(timeout=STOP_SECONDS).client
        client.ping()
    except (DockerException, OSError):
        return None
    return client


def has_image(variable: str) -> bool:
    """Whether a kind of server can run in a container with nothing to download first."""
    client = engine()
    if client is None:
        return False
    from docker.errors import DockerException

    try:
        client.images.get(IMAGES[variable])
    except (DockerException, OSError):  # an OSError: the engine has ended since
        return False
    return True


class Container:
    """A `Node`: a server program in a container, known by the container's name."""

    def __init__(self, name: str, container: "DockerContainer", port: int):
        self.name, self.port = name, port
        self._container = container

    @classmethod
    def find(cls, name: str, workspace: str) -> "Container":
        """A node of another process's server. A LookupError if it is gone."""
        from docker.errors import DockerException

        full_name = f"{workspace}-{name}"
        client = engine()
        if client is None:
            raise LookupError(f"no Docker engine answers, so there is no {full_name}")
        try:
            container = client.containers.get(full_name)
        except DockerException as error:
            raise LookupError(f"there is no container {full_name}") from error
        return cls(name, container, int(container.labels["learning.port"]))

    @property
    def peer_name(self) -> str:
        """See `Node`."""
        return self._container.name

    @property
    def peer_address(self) -> str:
        """See `Node`."""
        self._container.reload()
        networks = self._container.attrs["NetworkSettings"]["Networks"]
        return next(iter(networks.values()))["IPAddress"]

    @property
    def running(self) -> bool:
        """See `Node`."""
        self._container.reload()
        return self._container.status in ("running", "paused")

    def start(self) -> None:
        """See `Node`."""
        self._container.start()

    def stop(self) -> None:
        """See `Node`."""
        self._container.stop(timeout=STOP_SECONDS)

    def kill(self) -> None:
        """See `Node`."""
        if self.running:
            self._container.kill()

    def pause(self) -> None:
        """See `Node`."""
        self._container.pause()

    def resume(self) -> None:
        """See `Node`."""
        self._container.reload()
        if self._container.status == "paused":
            self._container.unpause()

    def last_words(self, lines: int = 8) -> str:
        """See `Node`."""
        printed = self._container.logs(tail=lines).decode(errors="replace")
        return "\n".join(f"    {line}" for line in printed.splitlines()) or "    (none)"


class Containers:
    """A `Place`: servers as containers that go with a workspace. Each has its ports on the loopback interface only."""

    def __init__(self, workspace: Workspace):
        if engine() is None:
            raise ServiceError(
                "No Docker engine answers. Start one, or use the servers that need none: LEARNING_SERVICES=embedded."
            )
        self.workspace = workspace
        self._labels = {guard.LABEL: workspace.folder.name}
        (workspace.folder / guard.DOCKER).write_text(os.environ.get("DOCKER_HOST", ""))  # `engine` sets what it found

    def valkey(self, name: str, settings: dict[str, str | int]) -> Container:
        """See `Place`."""
        if "cluster-enabled" in settings:  # clients, which are outside, get the name; the nodes use the addresses
            settings = settings | {
                "cluster-announce-hostname": "localhost",
                "cluster-preferred-endpoint-type": "hostname",
            }
        words = [word for key, value in settings.items() for word in (f"--{key}", str(value).strip('"'))]
        port = int(settings["port"])
        return self._run(name, "REDIS_URL", port, port, command=["valkey-server", *words], network=self._network)

    def postgres(self, settings: dict[str, str], archive_command: str, data: Path | None) -> tuple[Container, str]:
        """See `Place`. The database takes a password, since a port on the loopback interface is open to all users."""
        if data:
            raise ServiceError(
                "A data folder of this machine cannot be started in a container, whose PostgreSQL may be built in "
                "another way. Use the embedded one: LEARNING_SERVICES=embedded."
            )
        (port,) = free_ports(1)
        password = os.urandom(8).hex()
        archive = self.workspace.make("archive")
        archive.chmod(0o777)  # the user in the container is not ours
        self.workspace.folder.chmod(0o711)
        settings = settings | {"archive_command": archive_command.format(archive="/archive")}
        words = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        node = self._run(
            "postgres",
            "DATABASE_URL",
            port,
            5432,
            command=["postgres", *words],
            env={"POSTGRES_USER": "learning", "POSTGRES_DB": "postgres", "POSTGRES_PASSWORD": password},
            volumes=[(str(archive), "/archive", "rw")],
        )
        return node, f"postgresql://learning:{password}@{LOOPBACK}:{port}/postgres"

    def s3(self, key: str, secret: str) -> tuple[Container, str]:
        """See `Place`."""
        (port,) = free_ports(1)
        options = [
            "-volume.max=200",
            "-master.volumeSizeLimitMB=64",
            "-master.electionTimeout=1s",
            "-master.telemetry=false",
        ]
        node = self._run(
            "s3",
            "S3_ENDPOINT_URL",
            port,
            8333,
            command=["server", "-s3", "-dir=/data", *options],
            env=keys(key, secret),
            stop_signal="SIGKILL",  # see `Embedded`
        )
        return node, f"http://{LOOPBACK}:{port}"

    @cached_property
    def _network(self) -> Any:
        from testcontainers.core.network import Network

        return Network(docker_network_kw={"labels": self._labels}).create()

    def _run(self, name: str, variable: str, port: int, inside: int, **how: Any) -> Container:
        from docker.errors import DockerException
        from testcontainers.core.config import testcontainers_config
        from testcontainers.core.container import DockerContainer

        testcontainers_config.ryuk_disabled = True  # the guard of the workspace removes what is left
        full_name = f"{self.workspace.folder.name}-{name}"
        labels = self._labels | {"learning.port": str(port)}
        container = DockerContainer(IMAGES[variable], name=full_name, labels=labels, **how)
        # with_bind_ports takes no address, and would open it to all; Docker's client, which gets this, takes one.
        container.ports[str(inside)] = (LOOPBACK, port)  # type: ignore[assignment]
        try:
            container.start()
        except (DockerException, OSError) as error:  # an OSError: the engine has ended, or is too slow
            kind = PortTaken if "already" in str(error) or "in use" in str(error) else ServiceError
            why = getattr(error, "explanation", None) or error
            raise kind(f"Docker could not run {IMAGES[variable]}: {why}") from error
        return Container(name, container.get_wrapped_container(), port)
