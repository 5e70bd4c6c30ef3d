"""Servers in containers, where a Docker engine answers and has the images; and docker-compose.yml."""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from learning import services
from learning.services import ServiceError, choice, compose, containers, guard
from learning.services.choice import KINDS, SWITCH
from learning.services.server import wait_for

from .test_lifetime import ENDS_WITHIN, guard_of, python

STANDARD_PORTS = {5432, 6379, 7000, 8333, 9000, 16379, 26379}

HEALTHY_SECONDS = 90

STARTERS = {
    "redis": lambda: services.redis(replicas=2),
    "redis_cluster": services.redis_cluster,
    "postgres": lambda: services.postgres(archive=True),
    "s3": services.s3,
}


@pytest.fixture
def engine():
    if containers.engine() is None:
        pytest.skip("no Docker engine answers")
    if missing := {image for name, image in containers.IMAGES.items() if not containers.has_image(name)}:
        pytest.skip(f"Docker has not: {', '.join(sorted(missing))}")
    return containers.engine()


@pytest.fixture
def docker(engine, monkeypatch):
    monkeypatch.setenv(SWITCH, "docker")
    return engine


@pytest.fixture(params=STARTERS)
def server(request, docker):
    with STARTERS[request.param]() as server:
        yield server


def remains(engine, workspace: str) -> list[str]:
    """What Docker has of a workspace."""
    mine = {"label": f"{guard.LABEL}={workspace}"}
    found = [*engine.containers.list(all=True, filters=mine), *engine.networks.list(filters=mine)]
    return [each.name for each in found]


def volumes(engine, workspace: str) -> set[str]:
    """The volumes that the containers of a workspace use."""
    mine = engine.containers.list(all=True, filters={"label": f"{guard.LABEL}={workspace}"})
    return {mount["Name"] for each in mine for mount in each.attrs["Mounts"] if mount["Type"] == "volume"}


def existing(engine) -> set[str]:
    return {volume.name for volume in engine.volumes.list()}


def test_containers_listen_on_the_loopback_interface_only(server, docker):
    for node in server.nodes:
        published = docker.containers.get(node.peer_name).attrs["HostConfig"]["PortBindings"].values()
        assert {binding["HostIp"] for bindings in published for binding in bindings} == {"127.0.0.1"}
    assert server.ready()


@pytest.mark.parametrize("fault", ["kill", "stop", "pause"])
def test_a_container_breaks_and_heals(server, fault):
    node = server.nodes[0]
    getattr(node, fault)()
    assert node.running == (fault == "pause")
    if len(server.nodes) < 6:  # of a cluster the rest may have taken over
        assert not server.ready()
    server.heal()
    assert node.running
    assert server.ready()


def test_nothing_is_left_of_a_container(server, docker):
    folder, used = server.folder, volumes(docker, server.folder.name)
    assert len(remains(docker, folder.name)) >= len(server.nodes)
    server.close()
    assert remains(docker, folder.name) == []
    assert used & existing(docker) == set()
    assert not folder.exists()


def test_replicas_in_containers_follow_a_primary_that_comes_back(docker):
    with services.redis(replicas=2) as server:
        server.node.kill()
        server.heal()
        server.client().set("order", "1001")
        assert server.client().wait(2, 5000) == 2


def test_a_replica_in_a_container_takes_over(docker):
    with services.redis_cluster() as cluster:
        with cluster.client() as client:
            client.set("order", "1001")
            client.wait(1, 1000, target_nodes=client.get_node_from_key("order"))
        master = cluster.master_of("order")
        master.kill()
        wait_for(lambda: len(cluster.masters) == 3, "a replica takes over")
        with cluster.client() as client:
            assert client.get("order") == b"1001"
        cluster.heal()
        assert master in cluster.replicas


def test_a_cluster_heals_whose_nodes_come_back_with_each_others_addresses(docker):
    with services.redis_cluster() as cluster:
        with cluster.client() as client:
            client.set("order", "1001")
        before = [node.peer_address for node in cluster.nodes]
        for node in cluster.nodes:
            node.stop()
        for node in reversed(cluster.nodes):
            node.start()
        assert [node.peer_address for node in cluster.nodes] != before
        cluster.heal()
        with cluster.client() as client:
            assert client.get("order") == b"1001"


def test_the_host_reads_what_postgres_archives_in_its_container(docker):
    with services.postgres(archive=True) as server:
        with server.client(autocommit=True) as connection:
            piece = connection.execute("SELECT pg_walfile_name(pg_current_wal_lsn())").fetchone()[0]
            connection.execute("CREATE TABLE orders (id int)")
            connection.execute("SELECT pg_switch_wal()")
        wait_for((server.archive / piece).exists, "the piece is archived")
        assert len((server.archive / piece).read_bytes()) == 16 * 2**20


def test_an_owner_that_is_killed_takes_its_containers_along(docker):
    owner = python(
        """
        import time
        from learning import services
        servers = [services.redis(replicas=1), services.postgres(), services.s3()]
        print(*(server.folder for server in servers), flush=True)
        time.sleep(600)
        """
    )
    mine = [Path(word) for word in owner.stdout.readline().split()]
    used = {name for folder in mine for name in volumes(docker, folder.name)}
    assert [len(remains(docker, folder.name)) for folder in mine] == [3, 1, 1]
    owner.kill()
    owner.wait()
    deadline = time.monotonic() + ENDS_WITHIN
    for folder in mine:
        wait_for(lambda folder=folder: not folder.exists(), "the folder is gone", deadline - time.monotonic())
        assert remains(docker, folder.name) == []
    assert used & existing(docker) == set()


def test_containers_wait_for_the_next_start_while_no_engine_answers(docker, monkeypatch, tmp_path):
    owner = python(
        """
        import time
        from learning import services
        server = services.redis()
        print(server.folder, flush=True)
        time.sleep(600)
        """
    )
    folder = Path(owner.stdout.readline().strip())
    for process in guard_of(owner.pid):
        process.kill()
    owner.kill()
    owner.wait()
    host = (folder / guard.DOCKER).read_text()
    (folder / guard.DOCKER).write_text(f"unix://{tmp_path}/none.sock")
    monkeypatch.setenv(SWITCH, "embedded")
    services.redis().close()
    assert len(remains(docker, folder.name)) == 2

    (folder / guard.DOCKER).write_text(host)
    services.redis().close()
    assert remains(docker, folder.name) == []
    assert not folder.exists()


def test_another_process_finds_the_containers_and_breaks_them(docker, monkeypatch):
    code = """
        from learning import services
        with services.redis_cluster() as cluster:
            with cluster.client() as client:
                print(cluster.folder.name, client.incr("visits"), len(cluster.nodes), flush=True)
            cluster.master_of("visits").kill()
    """
    with services.redis_cluster() as cluster:
        for name, value in cluster.environment.items():
            monkeypatch.setenv(name, value)
        for visit in (1, 2):
            found, _ = python(code).communicate()
            assert found.split() == [cluster.folder.name, str(visit), "6"]


def test_docker_is_chosen_where_the_image_is_there(engine, monkeypatch, capsys):
    monkeypatch.delenv(SWITCH)
    monkeypatch.setattr(choice, "_told", set())
    services.redis().close()
    monkeypatch.setitem(containers.IMAGES, "REDIS_URL", "learning/none:0")
    services.redis().close()
    told = capsys.readouterr()
    assert told.out + told.err == "Redis: valkey/valkey:9.1.2 in Docker\nRedis: embedded valkey-server\n"


def test_an_image_that_cannot_be_had(docker, monkeypatch):
    monkeypatch.setitem(containers.IMAGES, "REDIS_URL", "127.0.0.1:1/learning/none:0")
    with pytest.raises(ServiceError, match=r"Docker could not run 127.0.0.1:1/learning/none:0"):
        services.redis()


# --- docker-compose.yml -----------------------------------------------------------------------------------------------


def test_docker_compose_offers_the_same_servers_out_of_the_way_of_others():
    everything = yaml.safe_load(compose.FILE.read_text())
    offered = everything["services"].values()
    assert {each["image"] for each in offered} == set(containers.IMAGES.values())
    assert [each["image"] for each in offered if "healthcheck" not in each] == []
    used = {volume.partition(":")[0] for each in offered for volume in each.get("volumes", [])}
    assert used == set(everything["volumes"])

    published = [port.split(":") for each in offered for port in each.get("ports", [])]
    assert {host for host, _, _ in published} == {"127.0.0.1"}
    ports = {int(port) for _, port, _ in published}
    assert len(ports) == len(published)
    assert ports & STANDARD_PORTS == set()

    environment = everything["x-environment"]
    assert set(environment) == {name for kind in KINDS.values() for name in (kind.variable, *kind.companions)}
    named = [port for name in KINDS for port in re.findall(r"127\.0\.0\.1:(\d+)", environment[name])]
    assert sorted(map(int, named)) == sorted(ports)


@pytest.fixture
def project(engine):
    """A command that has the servers of docker-compose.yml as a project of their own."""
    if shutil.which("docker-compose"):
        program = ["docker-compose"]
    elif subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0:
        program = ["docker", "compose"]
    else:
        pytest.skip("Docker Compose is not installed")
    if compose.environment():
        pytest.skip("the servers of docker-compose.yml are up, or their ports are taken")
    name = f"learning-test-{os.getpid()}"

    def run(*words: str) -> None:
        command = [*program, "-p", name, "-f", compose.FILE, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    run.label = {"label": f"com.docker.compose.project={name}"}
    yield run
    run("down", "-v")


def healthy(engine, project) -> bool:
    found = engine.containers.list(all=True, filters=project.label)
    return {each.attrs["State"].get("Health", {}).get("Status") for each in found} == {"healthy"}


def test_the_servers_of_docker_compose_serve_and_keep_what_they_have_and_go(engine, project, monkeypatch):
    monkeypatch.setenv(SWITCH, "external")
    for visit in (b"1", b"2"):
        project("up", "-d")
        wait_for(lambda: healthy(engine, project), "all services are healthy", HEALTHY_SECONDS)
        for name, value in compose.environment().items():
            monkeypatch.setenv(name, value)
        with services.redis() as server:
            assert server.client().incr("visits") == int(visit)
        with services.redis_cluster() as server, server.client() as client:
            assert client.incr("visits") == int(visit)
            assert [client.set(f"order-{number}", number) for number in range(100)] == [True] * 100
        with services.postgres() as server, server.client() as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS visits (id int)")
            connection.execute("INSERT INTO visits VALUES (1)")
            assert connection.execute("SELECT count(*) FROM visits").fetchone() == (int(visit),)
        with services.s3() as server:
            server.client().put_object(Bucket=server.bucket, Key=f"visit-{int(visit)}")
            assert server.client().list_objects_v2(Bucket=server.bucket)["KeyCount"] == int(visit)
        project("down")  # and without -v everything stays
    project("down", "-v")
    assert engine.containers.list(all=True, filters=project.label) == []
    assert engine.volumes.list(filters=project.label) == engine.networks.list(filters=project.label) == []
