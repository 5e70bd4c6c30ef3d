"""A learner's round through each lesson, in a real browser: from the first run of all cells to a page that is handed in."""

import json
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest

from learning.course.starters import checked_task, has_tag
from learning.course.tasks import LESSONS, ROOT, TASKS

from ..course.test_bank import ALL_WRONG

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")

from .lab_page import LabPage, browsing, untrusted

pytestmark = pytest.mark.xdist_group("browser")

RED, GREEN, GREY = "rgb(217, 48, 37)", "rgb(46, 133, 64)", "rgb(95, 99, 104)"
NOTEBOOKS = [path.name for path in sorted((ROOT / "solutions").glob("*.ipynb"))]


@dataclass(frozen=True)
class FirstTask:
    """The first task of a lesson: where its cells are in the learner's notebook, and two answers to it."""

    name: str
    lesson: int
    hint: int
    answer: int
    check: int
    right: str
    wrong: str

    @classmethod
    def of(cls, notebook: Path) -> "FirstTask":
        lesson = next(number for number, (name, _) in LESSONS.items() if name == notebook.stem)
        task = next(task for task in TASKS.values() if task.lesson == lesson)
        cells = nbformat.read(notebook, as_version=4).cells

        def place(tag: str) -> int:
            about = [cell.metadata.get("learning", {}).get("task") or checked_task(cell.source) for cell in cells]
            return next(index for index, cell in enumerate(cells) if has_tag(cell, tag) and about[index] == task.name)

        master = nbformat.read(ROOT / "solutions" / notebook.name, as_version=4).cells
        right = next(
            cell.source for cell in master if has_tag(cell, "answer") and cell.metadata["learning"]["task"] == task.name
        )
        wrong = next(answer for answer in ALL_WRONG if answer.task == task.name).answer(right)
        return cls(task.name, lesson, place("hint"), place("answer"), place("check"), right, wrong)


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_a_learners_round(lab, browser, screenshots: Path, notebook: str):
    path = lab.course / "notebooks" / notebook
    task = FirstTask.of(path)
    stem = path.stem

    def picture(name: str) -> None:
        page.screenshot(path=screenshots / f"{stem}-{name}.png")

    with browsing(browser, lab.url) as (page, complaints):
        learner = LabPage(page, lab.url, lab.token)
        learner.open(f"notebooks/{notebook}")
        picture("1-opened")

        learner.run_all()
        assert badge(learner.card(task.check)) == ("○ not attempted yet", GREY)
        picture("2-not-attempted")

        learner.write(task.answer, task.wrong)
        learner.run(task.answer)
        learner.run(task.check)
        said, colour = badge(learner.card(task.check))
        assert said.startswith("✗ ") and said.endswith(" hold") and colour == RED
        assert learner.card(task.check).get_by_text("Why", exact=True).first.is_visible()
        picture("3-red")

        hint = learner.cell(task.hint).locator("details").first
        assert hint.locator("p").first.is_hidden()
        hint.locator("summary").click()
        assert hint.locator("p").first.is_visible()
        picture("4-hint")

        learner.write(task.answer, task.right)
        learner.run(task.answer)
        learner.run(task.check)
        assert badge(learner.card(task.check)) == ("✓ passed", GREEN)
        assert "1 of 5 tasks in this lesson" in learner.card(task.check).inner_text().replace("of 4", "of 5")
        kept = json.loads((lab.course / ".learning" / "progress.json").read_text())
        assert kept["tasks"][task.name] == "passed"
        assert kept["seconds"][stem] > 0
        picture("5-green")

        learner.save()
        green = learner.card(task.check).inner_text()
        learner.open(f"notebooks/{notebook}")
        assert learner.card(task.check).inner_text() == green
        assert badge(learner.card(task.check)) == ("✓ passed", GREEN)

        learner.open(f"notebooks/{untrusted(path).name}")
        assert not learner.trusts(task.check)
        assert learner.card(task.check).inner_text() == green
        assert badge(learner.card(task.check)) == ("✓ passed", GREEN)

        learner.use_theme("JupyterLab Dark")
        learner.card(task.check)
        picture("6-dark-untrusted")
        learner.use_theme("JupyterLab Light")
        learner.shut_down()
    assert complaints == []


def badge(card) -> tuple[str, str]:
    """What the badge of a card says, and its colour."""
    badge = card.locator("strong").first.locator("xpath=following-sibling::span")
    return badge.inner_text(), badge.evaluate("(badge) => getComputedStyle(badge).backgroundColor")
