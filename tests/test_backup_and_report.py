"""Backups that are verified, on servers that are really there, and reports of conversations that really happened."""

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from langgraph.types import Command
from typer.testing import CliRunner

from learning import services
from learning.agent import build_agent
from learning.cli import app
from learning.operations import BackupError, activity, back_up, backup, finish_archiving, prepare_restore, verify
from learning.savers import open_saver
from learning.services import binaries

from .services.test_servers import embedded_only


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@embedded_only
@pytest.mark.parametrize("afterwards", ["DROP TABLE refunds", "SELECT 'nothing is committed'"])
def test_what_was_committed_up_to_a_moment_comes_back_on_another_server(postgres, tmp_path: Path, afterwards: str):
    with postgres.client(autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS refunds; CREATE TABLE refunds (id int)")
        made = back_up(postgres.url, tmp_path / "backups")
        connection.execute("INSERT INTO refunds VALUES (1001)")
        moment = connection.execute("SELECT clock_timestamp()").fetchone()[0]
        connection.execute(afterwards)
    for _ in range(2):  # the second time nothing has been written since
        finish_archiving(postgres.url)
    data = prepare_restore(made, postgres.archive, tmp_path / "o'clock", moment=moment)
    with services.postgres(data=data) as restored, restored.client() as connection:
        assert connection.execute("SELECT id FROM refunds").fetchall() == [(1001,)]
    assert verify(made) == []


@embedded_only
def test_a_damaged_backup_is_not_restored_and_a_time_needs_its_zone(postgres, tmp_path: Path):
    made = back_up(postgres.url, tmp_path)
    with pytest.raises(BackupError, match="no time zone"):
        prepare_restore(made, postgres.archive, tmp_path / "data", moment=datetime(2026, 5, 1))
    flip_a_bit(made / "global" / "pg_control")
    assert any("pg_control" in line for line in verify(made))
    with pytest.raises(BackupError, match="damaged"):
        prepare_restore(made, postgres.archive, tmp_path / "data", moment=datetime.now(UTC))
    assert not (tmp_path / "data").exists()


@embedded_only
def test_old_backups_go_only_when_the_new_one_is_verified(postgres, tmp_path: Path):
    for name in ("2026-01-01T03-00-00Z", "2026-01-02T03-00-00Z", "notes", "2026-01-03T03-00-00Z.unfinished"):
        (tmp_path / name).mkdir()
        if name != "notes":
            (tmp_path / name / "backup_manifest").touch()
    with pytest.raises(BackupError, match="No backup was made"):
        back_up("postgresql://nobody@localhost:1/shop", tmp_path, keep=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2026-01-01T03-00-00Z", "2026-01-02T03-00-00Z", "notes"]
    told = CliRunner().invoke(app, ["backup", postgres.url, str(tmp_path), "--keep", "2"])
    assert told.exit_code == 0
    (made,) = (path for path in tmp_path.iterdir() if path.name > "2026-01-02T03-00-00Z" and path.name != "notes")
    assert f"Verified: {made}" in told.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2026-01-02T03-00-00Z", made.name, "notes"]


@embedded_only
def test_a_backup_that_is_damaged_as_it_is_made_takes_no_old_ones_place(postgres, tmp_path: Path, monkeypatch):
    run = backup._run

    def rotten(name: str, *arguments: object) -> tuple[int, str]:
        done = run(name, *arguments)
        if name == "pg_basebackup":
            flip_a_bit(Path(str(arguments[3])) / "global" / "pg_control")
        return done

    old = back_up(postgres.url, tmp_path, keep=1).rename(tmp_path / "2026-01-01T03-00-00Z")
    monkeypatch.setattr(backup, "_run", rotten)
    with pytest.raises(BackupError, match=r"The new backup is damaged: .*pg_control"):
        back_up(postgres.url, tmp_path, keep=1)
    assert verify(old) == []
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".unfinished")] == [old.name]


@embedded_only
def test_a_backup_is_not_restored_over_what_is_there(postgres, tmp_path: Path):
    made = back_up(postgres.url, tmp_path / "backups")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "precious").touch()
    with pytest.raises(BackupError, match=f"cannot be copied to {tmp_path}/data"):
        prepare_restore(made, postgres.archive, tmp_path / "data", moment=datetime.now(UTC))
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["precious"]


@pytest.mark.parametrize("keep", [0, -1])
def test_at_least_the_new_backup_is_kept(tmp_path: Path, keep: int):
    with pytest.raises(BackupError, match=f"keep is {keep}: at least one backup"):
        back_up("postgresql://nobody@localhost:1/shop", tmp_path / "backups", keep=keep)
    assert not (tmp_path / "backups").exists()


def test_a_place_for_backups_that_is_no_folder_is_told(tmp_path: Path):
    (tmp_path / "backups").touch()
    with pytest.raises(BackupError, match=f"No backup in {tmp_path}/backups"):
        back_up("postgresql://nobody@localhost:1/shop", tmp_path / "backups")


def test_programs_of_postgres_that_are_missing_are_told(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(backup, "postgres_program", lambda name: binaries.postgres_program(f"{name}-of-another-one"))
    with pytest.raises(BackupError, match=r"There is no pg_verifybackup-of-another-one in .*Install its tools"):
        verify(tmp_path)
    monkeypatch.setattr(backup, "postgres_program", lambda name: tmp_path / name)
    with pytest.raises(BackupError, match="No such file or directory"):
        verify(tmp_path)


def test_a_backup_of_no_server_is_a_plain_error(tmp_path: Path):
    told = CliRunner().invoke(app, ["backup", "postgresql://nobody@localhost:1/shop", str(tmp_path)])
    assert told.exit_code == 1
    assert "No backup was made." in told.output
    assert list(tmp_path.iterdir()) == []


def test_an_archive_that_does_not_get_on_is_told():
    with services.postgres(archive=True) as server:
        server.archive.rename(server.archive.with_name("gone"))
        with pytest.raises(BackupError, match="is not archived"):
            finish_archiving(server.url, seconds=0.3)


def a_shop(saver) -> None:
    agent = build_agent(saver)
    for customer in ("ana", "ben"):
        config = {"configurable": {"thread_id": customer}}
        agent.invoke({"messages": [("user", "Where are 1001 and 1002?")]}, config)
        agent.invoke({"messages": [("user", "Please refund order 1001")]}, config)
    agent.invoke(Command(resume=True), {"configurable": {"thread_id": "ana"}})


def test_a_report_counts_what_happened_and_lists_days_without_anything():
    today = datetime.now(UTC).date()
    with open_saver("memory://") as saver, open_saver("memory://") as idle:
        a_shop(saver)
        told = activity({"north": saver, "south": idle}, today - timedelta(days=1), today + timedelta(days=1))
    north = [row for row in told.sessions if row["tenant"] == "north"]
    assert sum(row["sessions"] for row in north) >= 2
    assert sum(row["checkpoints"] for row in north) == 2 * (5 + 2 + 1) + 2
    assert [row["sessions"] for row in told.sessions if row["tenant"] == "south"] == [0, 0, 0]
    assert {row["node"]: row["steps"] for row in told.step_times} == {"assistant": 7, "look_up": 2}
    (interrupts, none) = told.interrupts
    assert (interrupts["interrupts"], interrupts["resumed"]) == (2, 1)
    assert interrupts["median"] > 0
    assert none == {"tenant": "south", "interrupts": 0, "resumed": 0, "median": None}


def test_a_report_leaves_out_what_happened_on_other_days():
    today = datetime.now(UTC).date()
    with open_saver("memory://") as saver:
        a_shop(saver)
        told = activity({"north": saver}, today - timedelta(days=3), today - timedelta(days=2))
    assert [(row["sessions"], row["checkpoints"]) for row in told.sessions] == [(0, 0), (0, 0)]
    assert told.step_times == []
    assert [row["interrupts"] for row in told.interrupts] == [0]


def test_a_report_is_files_that_other_programs_read(tmp_path: Path):
    with open_saver(f"file://{tmp_path}/state", tenant="north") as saver:
        a_shop(saver)
    command = ["report", f"file://{tmp_path}/state", "--out", str(tmp_path / "out"), "--days", "2", "--tenant", "north"]
    told = CliRunner().invoke(app, command)
    assert told.exit_code == 0, told.output
    files = ["interrupts.csv", "report.png", "sessions.csv", "step_times.csv"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == files
    with (tmp_path / "out" / "step_times.csv").open() as file:
        assert {row["node"] for row in csv.DictReader(file)} == {"assistant", "look_up"}
