"""The check card: what it says in each form, and that nothing a learner's code gives can break it."""

import json
import re
from html.parser import HTMLParser

import nbformat
import pytest
from IPython.core.formatters import DisplayFormatter

from learning.course.card import MIME, Card, Progress
from learning.course.look import WIDTH
from learning.course.tasks import TASKS, Task
from learning.course.verdict import Behaviour, Verdict

TASK = "custom_memory_lru"
IDEA = "`get_tuple` is a use: move the thread to the end."
MISSED = Behaviour("a read counts as a use", "failed", "['ana', 'cleo']", "['ben', 'cleo']", IDEA)
RAISED = Behaviour(
    "a limit of 0 is refused", "failed", "", "KeyError: 0", "Your code raised an error.", "cell 3, line 9: x[0]"
)
HELD = Behaviour("a new thread pushes out the oldest", "passed")
OPEN = Behaviour("the async methods follow", "not judged")

PASSED = Verdict(TASK, "passed", "", [HELD])
PARTIAL = Verdict(TASK, "failed", "", [HELD, MISSED, RAISED, OPEN])
UNTOUCHED = Verdict(TASK, "not attempted", "not attempted yet: open 01_memory.ipynb", [OPEN])
BROKEN = Verdict(TASK, "failed", "cell 3, line 2: '(' was never closed\n    def put(", [OPEN])
UNJUDGED = Verdict(TASK, "not judged", "its test comes with lesson 2")

# What JupyterLab's sanitizer lets pass in an untrusted notebook, of what a card may need.
ALLOWED_TAGS = {"div", "span", "strong", "ul", "li", "code", "pre", "progress"}
ALLOWED_ATTRIBUTES = {"style", "title", "class", "value", "max"}
ALLOWED_PROPERTIES = {
    "align-items", "background", "background-color", "border", "border-left-color", "border-left-width",
    "border-radius", "border-top", "color", "display", "flex", "flex-wrap", "font-family", "font-size", "font-weight",
    "gap", "height", "line-height", "list-style-type", "margin", "margin-top", "max-width", "min-width", "opacity",
    "overflow-wrap", "padding", "padding-bottom", "padding-top", "text-align", "white-space", "width",
    "word-break",
}  # fmt: skip


class Page(HTMLParser):
    """The tags, attributes and text of some HTML, as a browser reads them."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.attributes, self.text, self.within, self._open = [], [], "", [], []
        self.feed(source)
        self.close()
        assert self._open == [], f"left open: {self._open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data
        self.within.append((self._open[-1] if self._open else "", data))

    @property
    def styles(self):
        return [value for name, value in self.attributes if name == "style"]


def shown(verdict, solved=frozenset()):
    """HTML, plain text and JSON, as a kernel sends them to a notebook."""
    data, _ = DisplayFormatter().format(Card(verdict, solved))
    return data["text/html"], data["text/plain"], data[MIME]


def with_value(text):
    return Verdict(TASK, "failed", text, [Behaviour(text, "failed", text, text, text, text)])


# --- what it says -----------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def every_lesson_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Task, "available", True)


@pytest.mark.parametrize(
    ("verdict", "headline"),
    [
        (PASSED, "passed"),
        (PARTIAL, "1 of 4 hold"),
        (UNTOUCHED, "not attempted yet"),
        (BROKEN, "not passed"),
        (UNJUDGED, "not judged"),
        (Verdict(TASK, "failed", "The test itself failed.", [HELD]), "not passed"),
    ],
)
def test_the_headline_names_the_task_and_its_outcome(verdict, headline):
    page, text, _ = shown(verdict)
    assert next(data for tag, data in Page(page).within if tag == "strong") == TASK
    assert Page(page).text.split("\n")[1].endswith(f" {headline}")
    assert text.split("\n")[0].endswith(f"{TASK}: {headline}")


def test_each_behaviour_is_marked_in_its_order():
    page, text, _ = shown(PARTIAL)
    marks = [("✓", HELD), ("✗", MISSED), ("✗", RAISED), ("○", OPEN)]
    assert [f"  {mark} {behaviour.name}" for mark, behaviour in marks] == re.findall(
        r"^  [✓✗○] .*$", text, re.MULTILINE
    )
    assert [mark for mark, _ in marks] == re.findall(r"<li [^>]*><span [^>]*>(.)</span>", page)
    assert re.findall(r'<span title="([^"]*)"', page) == ["passed", "failed", "failed", "not judged"]


def test_a_miss_tells_what_was_expected_what_came_the_idea_and_where():
    _, text, _ = shown(PARTIAL)
    assert (
        "  ✗ a read counts as a use\n"
        "      expected  ['ana', 'cleo']\n"
        "      came      ['ben', 'cleo']\n"
        f"      why       {IDEA}\n"
        "  ✗ a limit of 0 is refused\n"
        "      came      KeyError: 0\n"
        "      why       Your code raised an error.\n"
        "      where     cell 3, line 9: x[0]\n"
        "  ○ the async methods follow\n"
    ) in text


def test_the_page_tells_the_same_misses():
    page = Page(shown(PARTIAL)[0])
    monospaced = [data for tag, data in page.within if tag == "code"]
    assert monospaced == ["['ana', 'cleo']", "['ben', 'cleo']", "get_tuple", "KeyError: 0", "cell 3, line 9: x[0]"]
    assert "Why get_tuple is a use: move the thread to the end." in page.text
    assert page.text.count("Expected") == 1 and page.text.count("Came") == 2


def test_what_held_takes_one_line():
    _, text, _ = shown(Verdict(TASK, "failed", "", [HELD, OPEN, MISSED]))
    assert f"  ✓ {HELD.name}\n  ○ {OPEN.name}\n  ✗ {MISSED.name}\n" in text


def test_the_same_idea_and_line_are_told_once():
    twice = Behaviour("another", "failed", "", "KeyError: 1", RAISED.idea, RAISED.where)
    page, text, data = shown(Verdict(TASK, "failed", "", [RAISED, HELD, twice]))
    assert text.count(RAISED.idea) == text.count(RAISED.where) == 1
    assert "came      KeyError: 1\n      why       as above\n" in text
    assert page.count(RAISED.idea) == 1
    assert data["behaviours"][2]["idea"] == RAISED.idea


def test_another_line_or_another_idea_is_told():
    other_line = Behaviour("another", "failed", "", "KeyError: 1", RAISED.idea, "cell 4, line 1: y[1]")
    other_idea = Behaviour("a third", "failed", "", "KeyError: 1", IDEA, "cell 4, line 1: y[1]")
    _, text, _ = shown(Verdict(TASK, "failed", "", [RAISED, other_line, other_idea]))
    assert f"why       as above\n      where     {other_line.where}\n" in text
    assert f"why       {IDEA}\n      where     {other_idea.where}\n" in text


def test_a_full_pass_congratulates_and_names_the_next_task():
    page, text, _ = shown(PASSED, {TASK})
    for said in (Page(page).text, text):
        assert "Well done" in said
        assert "1 of 4 tasks in this lesson, 1 of 24 in the course" in said
        assert "Next task: memory_monitoring, in this notebook" in said
    assert ("value", "1") in Page(page).attributes and ("max", "4") in Page(page).attributes


def test_work_not_attempted_is_grey_and_lists_what_it_needs_to_do():
    page, text, _ = shown(UNTOUCHED)
    assert "#d93025" not in page and "#2e8540" not in page and "✗" not in page + text
    assert f"What it needs to do:\n\n  ○ {OPEN.name}" in text
    assert "check again." in text
    assert Page(page).text.count("not attempted yet") == 1


def test_the_reason_of_a_failure_keeps_its_layout():
    page, text, _ = shown(BROKEN)
    assert [BROKEN.reason] == [data for tag, data in Page(page).within if tag == "pre"]
    assert "  cell 3, line 2: '(' was never closed\n      def put(\n" in text


def test_a_verdict_without_behaviours_shows_its_reason():
    ended = Verdict(TASK, "failed", "Your code ended the Python process (exit code 0).")
    page, text, _ = shown(ended)
    assert ended.reason in Page(page).text and ended.reason in text
    assert "<ul" not in page and "What it needs" not in text
    assert "its test comes with lesson 2" in shown(UNJUDGED)[1]


# --- how far along ----------------------------------------------------------------------------------------------------


def test_progress_counts_the_lesson_and_the_course():
    progress = Progress.after("redis_cluster", {TASK, "redis_monitoring", "no task of ours"})
    assert (
        progress.lesson_passed,
        progress.lesson_tasks,
        progress.course_passed,
        progress.course_tasks,
    ) == (1, 5, 2, 24)


@pytest.mark.parametrize(
    ("name", "solved", "next_task", "notebook"),
    [
        (TASK, set(), "memory_monitoring", "01_memory.ipynb"),
        (TASK, {"memory_monitoring"}, "memory_compression", "01_memory.ipynb"),
        ("memory_analytics", {"memory_analytics"}, "redis_cluster", "02_redis.ipynb"),
        ("async_operations", set(TASKS) - {"file_storage"}, "file_storage", "04_custom_storage.ipynb"),
        ("async_operations", set(TASKS), None, None),
        (TASK, set(TASKS) - {TASK}, None, None),
    ],
)
def test_the_next_task_is_the_first_unsolved_one(name, solved, next_task, notebook):
    progress = Progress.after(name, solved)
    assert (next_task, notebook) == (progress.next_task, progress.next_notebook)


def test_the_way_on():
    assert "After this one: memory_monitoring, in this notebook" in shown(PARTIAL)[1]
    assert "Next task: redis_cluster, in 02_redis.ipynb" in shown(Verdict("memory_analytics", "passed", "", [HELD]))[1]
    assert "the course is complete" in shown(PASSED, set(TASKS))[1]
    assert shown(PARTIAL, set(TASKS) - {TASK})[1].endswith("23 of 24 in the course")


def test_the_end_of_what_is_here_is_not_the_end_of_the_course(monkeypatch):
    monkeypatch.setattr(Task, "available", property(lambda task: task.lesson == 1))
    first_lesson = {name for name, task in TASKS.items() if task.lesson == 1}
    assert "next lessons are in preparation" in shown(PASSED, first_lesson)[1]


# --- whatever a learner's code gives ----------------------------------------------------------------------------------

NASTY = [
    "</code></div></details><script>alert(1)</script><img src=x onerror=alert(1)>",
    "\" onmouseover='alert(1)' title=\"",
    "&lt;b&gt; &amp; <!-- <![CDATA[ ]]>",
    "# not a heading **not bold** $x^2$ | a | b |",
]


@pytest.mark.parametrize("nasty", NASTY)
def test_text_stays_text(nasty):
    page, text, data = shown(with_value(nasty))
    assert Page(page).tags == Page(shown(with_value("harmless"))[0]).tags
    assert Page(page).text.count(nasty) == 6
    assert nasty in text
    assert data["behaviours"][0]["came"] == nasty


def test_backticks_make_code_only_of_text_that_is_escaped():
    page = shown(Verdict(TASK, "failed", "", [Behaviour("x", "failed", idea="use `a<b>` and ` alone")]))[0]
    assert "use <code>a&lt;b&gt;</code> and ` alone" in page


@pytest.mark.parametrize(
    ("given", "came"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]8;;http://x.example\x1b\\link\x1b]8;;\x07", "link"),
        ("\x1b]8 unfinished", "8 unfinished"),
        ("a\x00b\x07\x1b", r"a\x00b\x07\x1b"),
        ("\ud800 lone", r"\ud800 lone"),
        ("\u202eturned", r"\u202eturned"),
        ("one\r\ntwo\rthree", "one\ntwo\nthree"),
        ("\tcolumn", "    column"),
        ("Grüße 价格 ☕", "Grüße 价格 ☕"),
    ],
)
def test_what_cannot_be_shown_is_spelt_out_or_left_out(given, came):
    page, text, data = shown(with_value(given))
    assert data["behaviours"][0]["came"] == data["reason"] == came
    everything = page + text + json.dumps(data, ensure_ascii=False)
    everything.encode()
    assert all(each.isprintable() or each == "\n" for each in everything)


def test_a_long_value_is_cut_in_the_middle_and_says_how_much_is_missing():
    long = "START" + "x" * 1_000_000 + "END"
    page, text, data = shown(with_value(long))
    came = data["behaviours"][0]["came"]
    assert came.startswith("STARTxxx") and came.endswith("xxxEND")
    assert re.search(r"x … 999,408 characters left out … x", came)
    assert len(page) < 10_000 and len(text) < 10_000 and len(json.dumps(data)) < 10_000


def test_a_value_of_many_lines_is_cut_in_the_middle():
    came = shown(with_value("\n".join(map(str, range(100)))))[2]["behaviours"][0]["came"]
    lines = came.split("\n")
    assert [lines[0], lines[-1]] == ["0", "99"] and len(lines) == 17
    assert " … 84 lines left out … " in lines


def test_a_value_that_just_fits_is_not_cut():
    assert shown(with_value("x" * 600))[2]["reason"] == "x" * 600


def test_a_terminal_s_lines_are_not_too_long():
    _, text, _ = shown(with_value("word " * 50 + "x" * 300))
    assert max(map(len, text.split("\n"))) <= WIDTH
    assert all(line == line.rstrip() for line in text.split("\n"))


# --- where it is shown ------------------------------------------------------------------------------------------------

EVERY_KIND = [PASSED, PARTIAL, UNTOUCHED, BROKEN, UNJUDGED, with_value("<b>"), with_value("x" * 5000)]


@pytest.mark.parametrize("verdict", EVERY_KIND)
def test_nothing_is_lost_in_an_untrusted_notebook(verdict):
    page = Page(shown(verdict, {TASK})[0])
    assert set(page.tags) <= ALLOWED_TAGS
    assert {name for name, _ in page.attributes} <= ALLOWED_ATTRIBUTES
    declarations = [each.partition(":") for style in page.styles for each in style.split(";")]
    assert {name for name, _, _ in declarations} <= ALLOWED_PROPERTIES
    assert not [value for _, _, value in declarations if "var(" in value or value in ("inherit", "break-all", "")]


def test_the_text_colour_is_the_page_s_own_but_for_white_on_a_badge():
    for verdict in EVERY_KIND:
        for style in Page(shown(verdict)[0]).styles:
            declared = dict(each.split(":") for each in style.split(";"))
            assert ("color" in declared) == ("background-color" in declared)
            assert declared.get("color", "#ffffff") == "#ffffff"
            assert declared.get("background-color", "#2e8540") in ("#2e8540", "#d93025", "#5f6368")


@pytest.mark.parametrize("verdict", EVERY_KIND)
def test_a_notebook_can_keep_it(verdict):
    data, _ = DisplayFormatter().format(Card(verdict, {TASK}))
    output = nbformat.v4.new_output("display_data", data=data)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=[output])])
    saved = nbformat.reads(nbformat.writes(notebook), as_version=4)
    nbformat.validate(saved)
    assert saved.cells[0].outputs[0].data == data


def test_the_verdict_can_be_read_back_from_its_json():
    data = json.loads(json.dumps(shown(PARTIAL, {TASK})[2]))
    progress = data.pop("progress")
    assert Verdict.from_json(data) == PARTIAL
    assert Progress.after(TASK, {TASK}) == Progress(**progress)


def test_a_card_is_small():
    nine = [Behaviour(f"{HELD.name} {number}", "passed") for number in range(9)]
    assert len(shown(Verdict(TASK, "passed", "", nine))[0]) < 5_000
