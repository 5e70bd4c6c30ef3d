"""`learning bench savers`, with little to measure. Nothing here depends on how long anything takes."""

import json
import sys
from statistics import median

import pytest
from typer.testing import CliRunner

from learning.bench import measure, report
from learning.bench.contenders import CONTENDERS, counted
from learning.cli import app

TINY = measure.Plan(sizes=(6, 12), points=(6, 12), repeats=4, rounds=1, each=3)


@pytest.fixture
def bench(monkeypatch, tmp_path):
    """Run the command with these savers, and read its file."""
    monkeypatch.setattr(measure, "QUICK", TINY)

    def run(*names):
        only = [word for name in names for word in ("--only", name)]
        done = CliRunner().invoke(app, ["bench", "savers", "--quick", "--out", str(tmp_path), *only])
        file = tmp_path / "bench-savers.json"
        return done, json.loads(file.read_text()) if file.exists() else None

    return run


def test_the_tables_and_the_file_say_the_same_and_ratios_are_of_this_run(bench, tmp_path):
    done, found = bench("PostgresSaver+pool", "postgresql")
    assert done.exit_code == 0, done.output
    assert max(map(len, done.stdout.splitlines()[:-1])) <= 100
    page = (tmp_path / "benchmarks.md").read_text()
    assert (tmp_path / "bench-savers.png").stat().st_size > 10_000

    theirs, ours = found["savers"]["PostgresSaver+pool"], found["savers"]["postgresql"]
    tables = {table["title"]: table["rows"] for table in found["tables"]}
    for table in found["tables"]:
        assert all(len(row) == len(table["columns"]) for row in table["rows"].values())
        digits = [digits for _, digits in table["columns"]]
        for name, row in table["rows"].items():
            line = f"{report.TITLES[name]} {' '.join(map(report.written, row, digits))}"
            assert line in [" ".join(line.split()) for line in done.stdout.splitlines()]
            assert line in [" ".join(line.replace("|", " ").replace("**", "").split()) for line in page.splitlines()]

    bytes_stored = ours["stored"]["12"][0]
    times = bytes_stored / found["unique_bytes"]["12"]
    ratio = bytes_stored / theirs["stored"]["12"][0]
    assert tables["Bytes stored"]["postgresql"][:3] == [bytes_stored / 1e6, times, pytest.approx(ratio)]
    p50 = [median(saver["seconds"]["6"]["put"]) for saver in (ours, theirs)]
    assert tables["put: p50 and p95"]["postgresql"][:2] == pytest.approx([p50[0] * 1e3, p50[0] / p50[1]])
    rates = [median(saver["puts_per_second"]) for saver in (ours, theirs)]
    assert tables["8 threads on a pool of 8"]["postgresql"] == pytest.approx([rates[0], rates[0] / rates[1]])
    assert [ours["trips"][each] for each in ("put", "put_writes", "get_tuple")] == [1, 1, 1]
    assert found["machine"]["servers"]["postgresql"].startswith("PostgreSQL ")
    assert found["machine"]["servers"]["postgresql"] in page and found["machine"]["cpu"] in page


@pytest.mark.parametrize(
    ("name", "module", "why"),
    [
        ("SqliteSaver", "langgraph.checkpoint.sqlite", "langgraph-checkpoint-sqlite is not installed"),
        ("RedisSaver", "langgraph.checkpoint.redis", "langgraph-checkpoint-redis is not installed"),
    ],
)
def test_who_is_not_installed_is_left_out_with_a_line(bench, monkeypatch, name, module, why):
    monkeypatch.setitem(sys.modules, module, None)
    done, found = bench("memory", name)
    assert done.exit_code == 0, done.output
    assert f"Left out: {name}: {why}" in done.stdout
    assert [*found["savers"]] == ["memory"]
    assert found["left_out"] == {name: why}


def test_where_there_is_no_server_those_that_need_it_are_left_out(bench, monkeypatch):
    monkeypatch.setenv("LEARNING_SERVICES", "external")
    done, found = bench("redis", "plainredis")
    assert (done.exit_code, found) == (1, None)
    assert done.stdout.count("REDIS_URL is not set") == 2


def test_a_name_that_nobody_has_is_told(bench):
    done, _ = bench("rediss")
    assert done.exit_code == 2
    assert "There is no rediss. There are: InMemorySaver, memory, " in done.stderr


def test_round_trips_are_counted_on_a_cluster_too(cluster):
    contender = next(each for each in CONTENDERS if each.name == "redis+cluster")
    trips = measure._trips(contender, cluster, measure.messages(40))
    assert [trips[each] for each in ("put", "put_writes", "get_tuple")] == [1, 1, 1]
    with counted(cluster) as (url, proxy):
        assert all(f":{port}" in url for _, port in proxy.addresses)
    assert not [*cluster.client().scan_iter("*bench*")]
