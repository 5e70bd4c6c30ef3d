"""The commands: what they do, and what they say where a person has to mend something."""

import sys

import pytest
from langgraph.types import Command
from typer.testing import CliRunner

from learning.cli import app
from learning.course.desk import build_desk
from learning.migration import command
from learning.migration.official import opened

ANA = {"configurable": {"thread_id": "ana"}}
STEPS = ["--steps", "tests.migration.shop_steps:migrations"]


def run(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.fixture
def desk(tmp_path):
    """The file of an official saver with a conversation of version 1 that waits for a person."""
    url = f"sqlite+official://{tmp_path}/desk.sqlite"
    with opened(url, make=True) as saver:
        build_desk(1, saver).invoke({"customer": "Ana", "total": 249.0}, ANA)
    return url


def test_convert_then_migrate_then_validate(desk, tmp_path):
    ours = f"file://{tmp_path}/ours"
    code, said = run("convert", desk, ours)
    assert code == 0 and "Copied: 3 checkpoints" in said, said
    assert "There already: 3" in run("convert", desk, ours)[1]
    code, said = run("migrate", ours, *STEPS, "--to", 3, "--dry-run")
    assert code == 0 and "Would change: 3" in said and "- total = 249.0" in said and "+ cents = 24900" in said, said
    code, said = run("migrate", ours, *STEPS, "--to", 3)
    assert code == 0 and "3 in version 1" in said and "Changed: 3" in said, said
    assert "3 in version 3" in run("migrate", ours, *STEPS, "--to", 3)[1]
    assert run("validate", ours, "--schema", "learning.course.desk:State3") == (0, "Problems: 0.\n")
    with opened(ours) as saver:
        notes = build_desk(3, saver).invoke(Command(resume=True), ANA)["notes"]
        assert notes[-1] == "v3 says: Ana gets 24900 cents in EUR"
        saver.put(ANA | {"configurable": ANA["configurable"] | {"checkpoint_id": "0"}}, *lonely(saver))
    code, said = run("validate", ours)
    assert code == 1 and "no parent: thread 'ana', checkpoint" in said, said
    code, said = run("validate", ours, "--repair", tmp_path / "aside.jsonl")
    assert code == 0 and "Mended: 1." in said and (tmp_path / "aside.jsonl").exists(), said
    assert run("validate", ours)[0] == 0


def lonely(saver):
    found = saver.get_tuple(ANA)
    checkpoint = {**found.checkpoint, "id": f"f{found.checkpoint['id'][1:]}"}
    return checkpoint, found.metadata, checkpoint["channel_versions"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["migrate", "mysql://shop", *STEPS, "--to", 2], ["no saver for 'mysql'", "postgresql://"]),
        (
            ["migrate", "postgresql+official://127.0.0.1:1/shop", *STEPS, "--to", 2],
            ["The storage does not do its part", "run it again"],
        ),
        (["migrate", "{desk}", "--steps", "shop.nowhere:steps", "--to", 2], ["shop.nowhere cannot be imported"]),
        (["migrate", "{desk}", *STEPS, "--to", 9], ["leads to version 9", "1→2, 2→3"]),
        (["validate", "{desk}"], ["Only stores of learning.savers", "convert it first"]),
        (["convert", "sqlite+official:///no/such/file", "memory://"], ["no file /no/such/file"]),
        (["convert", "{desk}", "memory://"], ["gone with the process"]),
        (["convert", "{desk}", "{desk}"], ["source and the target are the same"]),
        (["migrate", "{desk}", "--steps", "shop.steps", "--to", 2], ["'shop.steps' does not name", "module:name"]),
        (["migrate", "{desk}", "--steps", ":steps", "--to", 2], ["':steps' does not name", "module:name"]),
        (
            ["migrate", "{desk}", "--steps", "tests.migration.shop_steps:nothing", "--to", 2],
            ["no 'nothing' in tests.migration.shop_steps"],
        ),
        (
            ["migrate", "{desk}", "--steps", "tests.migration.shop_steps:to_3", "--to", 2],
            ["shop_steps:to_3 is a function, and no Migrations"],
        ),
        (
            ["validate", "memory://", "--schema", "tests.migration.shop_steps:migrations"],
            ["shop_steps:migrations is a Migrations, and no class or mapping"],
        ),
    ],
)
def test_a_mistake_is_answered_with_what_to_do(words, says, desk):
    code, said = run(*(str(word).format(desk=desk) for word in words))
    assert code == 2
    assert all(each in said for each in says), said
    assert len(said.strip().splitlines()) == 1, said


def test_steps_that_fail_when_they_are_imported_are_told(desk, tmp_path, monkeypatch):
    (tmp_path / "half_edited_steps.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    code, said = run("migrate", desk, "--steps", "half_edited_steps:migrations", "--to", 2)
    assert code == 2 and "half_edited_steps fails when it is imported: ZeroDivisionError: division by zero." in said
    assert "" not in sys.path


def test_a_package_of_an_official_saver_that_is_missing_is_told_with_what_to_install(desk, monkeypatch):
    monkeypatch.setitem(sys.modules, "langgraph.checkpoint.sqlite", None)
    code, said = run("migrate", desk, *STEPS, "--to", 2)
    assert code == 2 and "Install langgraph-checkpoint-postgres or langgraph-checkpoint-sqlite." in said, said


def test_what_was_left_is_told_but_not_more_of_it_than_a_person_reads(desk, tmp_path, monkeypatch):
    (tmp_path / "refusing_steps.py").write_text(
        "from learning.migration import Migrations\n"
        "migrations = Migrations()\n"
        "@migrations.step(1, 2)\n"
        "def refuse(values):\n"
        "    raise ValueError('never seen such values')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "SHOWN", 2)
    code, said = run("migrate", desk, "--steps", "refusing_steps:migrations", "--to", 2)
    assert code == 1
    assert said.count("Left as it was: thread 'ana', checkpoint ") == said.count("never seen such values") == 2, said
    assert "… and 1 more." in said
