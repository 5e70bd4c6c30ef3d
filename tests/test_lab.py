"""Lab opens on the lesson asked for, with the course's settings, and leaves the learner's own alone."""

import json
import os
import subprocess
import sys

import pytest
from jupyterlab_server.workspaces_handler import WorkspacesManager
from typer.testing import CliRunner

from learning import lab
from learning.cli import app
from learning.course.tasks import ROOT

RESOLVE = """
import json
from pathlib import Path
from jupyter_core.paths import jupyter_config_path
from jupyter_server.extension.config import ExtensionConfigManager
from jupyterlab.commands import get_app_dir, get_user_settings_dir, get_workspaces_dir
from jupyterlab_server.config import get_page_config
from jupyterlab_server.settings_utils import get_settings

app = Path(get_app_dir())
labextensions = [str(app.parent / "labextensions")]
def settings(name):
    found, _ = get_settings(str(app / "settings"), str(app / "schemas"), get_user_settings_dir(), name,
                            labextensions_path=labextensions)
    defaults = {key: each.get("default") for key, each in found["schema"]["properties"].items()}
    return defaults | found["settings"]
servers = {}
for path in reversed(jupyter_config_path()):
    servers |= ExtensionConfigManager(read_config_path=[path]).get_jpserver_extensions()
print(json.dumps({
    "news": settings("@jupyterlab/apputils-extension:notification"),
    "notebook": settings("@jupyterlab/notebook-extension:tracker"),
    "disabled": get_page_config(labextensions)["disabledExtensions"],
    "servers": [name for name, enabled in servers.items() if enabled],
    "workspaces": get_workspaces_dir(),
}))
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A course in a folder of its own, with two notebooks."""
    for folder, name in [("notebooks", "01_memory"), ("notebooks", "02_redis"), ("solutions", "03_postgresql")]:
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"{name}.ipynb").write_text("{}")
    monkeypatch.setattr(lab, "ROOT", tmp_path)
    monkeypatch.setattr(lab, "WORKSPACES", tmp_path / ".learning" / "workspaces")
    return tmp_path


@pytest.fixture
def started(project, monkeypatch):
    """The program that a command became, with its arguments and its environment."""
    calls = []
    monkeypatch.setattr(os, "execve", lambda *call: calls.append(call))
    return calls


def resolved(home):
    """What Lab itself makes of the settings, for a user whose home is this folder."""
    environment = {**lab.environment(), "HOME": str(home)}
    done = subprocess.run([sys.executable, "-c", RESOLVE], env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    return resolved(tmp_path_factory.mktemp("home"))


def test_lab_asks_nobody_for_news_and_updates(fresh):
    assert (fresh["news"]["fetchNews"], fresh["news"]["checkForUpdates"]) == ("false", False)


def test_lab_wraps_long_lines_of_code(fresh):
    assert fresh["notebook"]["codeCellConfig"]["lineWrap"] is True


def test_lab_shows_nothing_of_nbgrader(fresh):
    assert "@jupyter/nbgrader" in fresh["disabled"]
    assert [name for name in fresh["servers"] if "nbgrader" in name] == []
    assert "jupyterlab" in fresh["servers"]


def test_a_setting_that_the_learner_made_wins(tmp_path):
    own = tmp_path / ".jupyter/lab/user-settings/@jupyterlab/notebook-extension/tracker.jupyterlab-settings"
    own.parent.mkdir(parents=True)
    own.write_text('{"codeCellConfig": {"lineWrap": false}}')
    assert resolved(tmp_path)["notebook"]["codeCellConfig"]["lineWrap"] is False


def test_lab_keeps_its_layout_in_the_project(fresh):
    assert fresh["workspaces"] == str(ROOT / ".learning" / "workspaces")


def test_the_contents_panel_is_open_at_first(project):
    lab.open_contents()
    layout = WorkspacesManager(str(lab.WORKSPACES)).load("default")["data"]["layout-restorer:data"]
    assert layout["left"] == {"collapsed": False, "visible": True, "current": "@jupyterlab/toc:plugin"}


def test_a_layout_that_the_learner_made_stays(project):
    workspaces = WorkspacesManager(str(lab.WORKSPACES))
    workspaces.save("default", '{"metadata": {"id": "default"}, "data": {"mine": 1}}')
    lab.open_contents()
    assert workspaces.load("default")["data"] == {"mine": 1}


def test_other_settings_folders_stay_in_force(monkeypatch):
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "/of/the/class")
    assert lab.environment()["JUPYTER_CONFIG_PATH"] == f"{lab.SETTINGS}{os.pathsep}/of/the/class"


def test_another_environment_that_is_active_is_left_out(monkeypatch):
    monkeypatch.setenv("VIRTUAL_ENV", "/of/another/project")
    assert "VIRTUAL_ENV" not in lab.environment()
    assert lab.environment()["PATH"].split(os.pathsep)[0] == os.path.dirname(sys.executable)


@pytest.mark.parametrize(
    ("arguments", "lesson", "passed_on"),
    [
        ([], "01_memory", []),
        (["2"], "02_redis", []),
        (["02_redis"], "02_redis", []),
        (["notebooks/02_redis.ipynb"], "02_redis", []),
        (["--no-browser", "--port", "9999"], "01_memory", ["--no-browser", "--port", "9999"]),
        (["2", "--port=9999"], "02_redis", ["--port=9999"]),
    ],
)
def test_lab_opens_on_the_lesson_and_takes_jupyters_options(project, started, arguments, lesson, passed_on):
    result = CliRunner().invoke(app, ["lab", *arguments])
    assert result.exit_code == 0, result.output
    [(program, argv, _)] = started
    assert program == sys.executable
    assert f"--LabApp.default_url=/lab/tree/notebooks/{lesson}.ipynb" in argv
    assert argv[argv.index(f"--LabApp.default_url=/lab/tree/notebooks/{lesson}.ipynb") + 1 :] == passed_on


@pytest.mark.parametrize(("user", "allowed"), [(0, True), (1000, False)])
def test_lab_opens_for_root_as_well_which_one_is_in_a_container(project, started, monkeypatch, user, allowed):
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert CliRunner().invoke(app, ["lab"]).exit_code == 0
    [(_, argv, _)] = started
    assert ("--allow-root" in argv) is allowed


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("7", "There is no lesson '7'. The lessons are 01_memory, 02_redis"),
        ("redis", "There is no lesson 'redis'"),
        ("3", "notebooks/03_postgresql.ipynb is missing. Make it again with `learning build`."),
        ("5", "notebooks/05_migration.ipynb is missing. This lesson is still to come; open 01_memory or 02_redis."),
    ],
)
def test_a_lesson_that_cannot_be_opened_is_an_error_that_helps(project, started, asked, says):
    result = CliRunner().invoke(app, ["lab", asked])
    assert (result.exit_code, started) == (2, [])
    assert says in result.stderr


def test_help_answers_without_loading_the_libraries():
    code = "import sys, learning.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"jupyterlab_server", "langgraph", "nbformat", "pytest"}.isdisjoint(loaded)
