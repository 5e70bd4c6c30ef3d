"""One JupyterLab and one browser for all tests, on a copy of the course: the learner's own is not touched."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from learning.course.tasks import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMIUM_OPTIONS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
COURSE = ("src", "notebooks", "solutions", "test_learning_03.py", "pyproject.toml")
START_SECONDS = 120


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab, and the folder of the course that it serves."""

    url: str
    token: str
    course: Path


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """Where pictures go, for a person to look at."""
    folder = ROOT / ".learning" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


# Not for the session: while Playwright runs, its event loop keeps other tests from running one of their own.
@pytest.fixture(scope="package")
def browser():
    """Debian's Chromium, or whichever is there."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="Playwright is not installed: pip install playwright"
    )
    if CHROMIUM is None:
        pytest.skip("There is no Chromium here: apt-get install chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The course as a learner finds it who has not begun."""
    folder = tmp_path_factory.mktemp("course")
    for part in COURSE:
        kind = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        kind(ROOT / part, folder / part)
    for notebook in (folder / "notebooks").iterdir():
        notebook.unlink()
    subprocess.run([sys.executable, "-m", "learning.cli", "build"], env=of_course(folder), check=True)
    return folder


@pytest.fixture(scope="package")
def lab(browser, course: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """`learning lab`, of a user who has never used it."""
    home = tmp_path_factory.mktemp("home")
    options = ("--no-browser", "--port=0", "--expose-app-in-browser")
    environment = of_course(course) | {"HOME": str(home), "JUPYTER_RUNTIME_DIR": str(home / "runtime")}
    environment = {name: value for name, value in environment.items() if not name.startswith(("XDG_", "JUPYTERLAB_"))}
    with open(home / "log", "w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "learning.cli", "lab", "1", *options], env=environment, stdout=log, stderr=log
        )
    try:
        told = home / "runtime" / f"jpserver-{server.pid}.json"
        deadline = time.monotonic() + START_SECONDS
        while not told.exists() or not told.read_text():
            assert server.poll() is None and time.monotonic() < deadline, (home / "log").read_text()
            time.sleep(0.05)
        found = json.loads(told.read_text())
        yield Lab(found["url"], found["token"], course)
    finally:
        server.terminate()
        server.wait(START_SECONDS)


def of_course(folder: Path) -> dict[str, str]:
    """The environment in which `learning` is the one in this folder."""
    return os.environ | {"PYTHONPATH": str(folder / "src")}
