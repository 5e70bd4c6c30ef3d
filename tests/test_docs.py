"""What the pages beside the code say: links lead somewhere, commands exist, terms are explained where they say."""

import re
from pathlib import Path

import nbformat
import pytest
import typer

from learning.cli import app
from learning.course.tasks import LESSONS, ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TERM = re.compile(r"^\| (.+?) \| .+ \| \[\d\]\((.+?)\) \|$", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_what_there_is(page: Path):
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_their_options_exist(page: Path):
    unknown = []
    for line in re.findall(r"(?<!--engine )\blearning ((?:[a-z]+ ?)+[^`\n#|]*)", code(page)):
        command, words = typer.main.get_command(app), line.split()
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        options = {option for each in command.params for option in each.opts}
        if hasattr(command, "commands") or not set(filter(re.compile("--[a-z]").match, words)) <= options:
            unknown.append(line)
    assert unknown == []


def test_the_glossary_names_the_lesson_that_explains_a_term():
    page = ROOT / "docs" / "glossary.md"
    terms = TERM.findall(page.read_text(encoding="utf-8"))
    assert len(terms) > 60
    names = [term.casefold().replace("-", "") for term, _ in terms]
    assert names == sorted(names)
    for term, link in terms:
        cells = nbformat.read(ROOT / "solutions" / Path(link).name, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        assert re.search(rf"\*{re.escape(term)}\*", text, re.IGNORECASE), f"{link} does not explain {term}"


@pytest.mark.parametrize("lesson", [name for name, _ in LESSONS.values()])
def test_the_minutes_of_a_lesson_add_up(lesson: str):
    cells = nbformat.read(ROOT / "solutions" / f"{lesson}.ipynb", as_version=4).cells
    text = "\n".join(cell.source for cell in cells)
    tasks = dict(re.findall(r"^\| `(\w+)` \| .+ \| (\d+) \|$", text, re.MULTILINE))
    assert tasks == dict(re.findall(r"^## Task \d · `(\w+)`\n\n.* · (\d+) minutes\*$", text, re.MULTILINE))
    writing, [reading] = sum(map(int, tasks.values())), re.findall(r"takes about (\d+) minutes more", text)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    [told] = re.findall(rf"^\| \[{lesson}\].+ \| (.+) \|$", readme, re.MULTILINE)
    assert told == f"{writing + int(reading)} to {2 * writing + int(reading)}"


def code(page: Path) -> str:
    """What is set as code on a page."""
    text = page.read_text(encoding="utf-8")
    return "\n".join(re.findall(r"```\n(.*?)```", text, re.DOTALL) + re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text))
