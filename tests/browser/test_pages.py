"""The pages that grading writes, in a real browser: anybody can read them, on a phone and in the dark too."""

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from learning.course.starters import has_tag, starter_source
from learning.course.tasks import LESSONS, ROOT

from ..course.bank import RIGHT

pytest.importorskip("axe_playwright_python", reason="axe is not installed: pip install axe-playwright-python")

from axe_playwright_python.sync_playwright import Axe

pytestmark = pytest.mark.xdist_group("browser")

NOTEBOOK = f"{LESSONS[1][0]}.ipynb"
PAGES = ["report.html", "ana/feedback.html", "ben/feedback.html", "similar"]
SIZES = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 360, "height": 740}}
TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def grades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small class, graded: Ana is right, Ben has not begun one task and is wrong in another, Cleo and Dan are alike."""
    folder = tmp_path_factory.mktemp("class")
    for learner in ("ana", "ben", "cleo", "dan"):
        notebook = nbformat.read(ROOT / "solutions" / NOTEBOOK, as_version=4)
        answers = [cell for cell in notebook.cells if has_tag(cell, "answer")]
        if learner == "ben":
            answers[0].source = starter_source(answers[0].source, answers[0].metadata["learning"]["task"])
            answers[1].source = answers[1].source.replace("return", "return None  #", 1)
        if learner in ("cleo", "dan"):
            answers[0].source = RIGHT[0].source
        answers[-1].source += f"\n# by {learner}"
        (folder / "submissions" / learner).mkdir(parents=True)
        nbformat.write(notebook, folder / "submissions" / learner / NOTEBOOK)
    command = [sys.executable, "-m", "learning.cli", "grade", "submissions", "--out", "grades", "--lesson", "1"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "grades"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_can_be_read_by_anybody(browser, grades: Path, screenshots: Path, name: str, scheme: str):
    path = next((grades / name).iterdir()) if name == "similar" else grades / name
    asked, complaints = [], []
    with browser.new_context(color_scheme=scheme) as context:
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path.as_uri())
        for device, size in SIZES.items():
            page.set_viewport_size(size)
            page.screenshot(path=screenshots / f"{name.replace('/', '-')}-{scheme}-{device}.png", full_page=True)
            found = [
                [each["id"], each["help"], each["nodes"][0]["html"]] for each in Axe().run(page).response["violations"]
            ]
            assert found == [], json.dumps(found, indent=1)
            assert page.evaluate(TOO_WIDE) == 0
    assert asked == [path.as_uri()], "a page that is handed out has everything in itself"
    assert complaints == []
