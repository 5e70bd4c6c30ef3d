"""A batch judges what it has to and no more, survives its own end, follows the rules, and tells it in every form."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import psutil
import pytest

from learning.course.judge import JudgeError
from learning.course.verdict import Behaviour, Verdict
from learning.grading import batch, submissions
from learning.grading.limits import NOTEBOOK_BYTES
from learning.grading.marks import graded_tasks
from learning.grading.results import FOLDER
from learning.grading.rules import Rules, RulesError, read_rules
from learning.grading.runners import Job
from learning.grading.sandbox import Flag, Judged
from learning.grading.submissions import GRADEBOOK, JUNIT, REPORT, TAKEN

from .test_grading import LESSON, TASK_NAMES, answer_to, hand_in, rows, with_answer, worked


class Pretended:
    """A runner that judges nothing: each task earns what `share` says, and what it was asked for is noted."""

    def __init__(self, share: float = 1.0, flags: tuple[Flag, ...] = ()):
        self.share, self.flags = share, list(flags)
        self.asked: list[tuple[str, list[str]]] = []

    def __call__(self, work, tell):
        for job in work:
            self.asked.append((job.submission.learner, job.tasks))
            yield job, [Judged(self._verdict(task), self.flags, 1.0) for task in job.tasks]

    def _verdict(self, task: str) -> Verdict:
        passed = round(4 * self.share)
        outcomes = ["passed"] * passed + ["failed"] * (4 - passed)
        behaviours = [
            Behaviour(f"part {number}", outcome, idea="Think <b>again</b>.") for number, outcome in enumerate(outcomes)
        ]
        return Verdict(task, "passed" if passed == 4 else "failed", "", behaviours)


@pytest.fixture
def class_(tmp_path: Path) -> Path:
    """A class of two, with lesson 1."""
    hand_in(tmp_path / "class" / "ana")
    hand_in(tmp_path / "class" / "ben", notebook=with_answer("memory_monitoring", "self.level = level", "pass"))
    return tmp_path / "class"


def grade(class_: Path, runner: Pretended, **options) -> dict[str, dict[str, str]]:
    return rows(batch.grade(class_, class_.parent / "grades", lessons=[1], runner=runner, **options))


# --- what is judged ---------------------------------------------------------------------------------------------------


def test_what_has_not_changed_is_not_judged_again(class_: Path):
    first, second = Pretended(), Pretended(0)

    assert grade(class_, first) == grade(class_, second)
    assert [learner for learner, _ in first.asked] == ["ana", "ben"]
    assert second.asked == []


def test_a_notebook_that_has_changed_is_judged_again(class_: Path):
    grade(class_, Pretended())
    hand_in(class_ / "ben")
    (class_ / "ana" / "helper.py").write_text("x = 1")

    again = Pretended(0.5)
    graded = grade(class_, again)

    assert sorted(again.asked) == [("ana", TASK_NAMES), ("ben", TASK_NAMES)]
    assert {row["total"] for row in graded.values()} == {"20.0"}


def test_other_tests_judge_all_anew(class_: Path, monkeypatch: pytest.MonkeyPatch):
    grade(class_, Pretended())
    monkeypatch.setattr("learning.grading.results.release", lambda: "another")

    again = Pretended()
    grade(class_, again)

    assert [learner for learner, _ in again.asked] == ["ana", "ben"]


def test_one_task_can_be_judged_anew_for_all_and_the_others_stay(class_: Path, monkeypatch: pytest.MonkeyPatch):
    grade(class_, Pretended())
    monkeypatch.setattr("learning.grading.results.release", lambda: "a release with that test mended")

    again = Pretended(0)
    graded = grade(class_, again, again=["memory_analytics"])

    assert again.asked == [("ana", ["memory_analytics"]), ("ben", ["memory_analytics"])]
    assert [[row[task] for task in TASK_NAMES] for row in graded.values()] == [["10.0", "10.0", "10.0", "0.0"]] * 2


def test_a_task_that_there_is_not_is_told(class_: Path):
    with pytest.raises(batch.GradingError, match="There is no task redis_cluster to grade in lessons 1"):
        grade(class_, Pretended(), again=["redis_cluster"])


def test_what_could_not_be_judged_is_tried_again(class_: Path):
    class NotJudged(Pretended):
        def _verdict(self, task):
            return Verdict(task, "not judged", "there is no server to judge with")

    graded = grade(class_, NotJudged())
    again = Pretended()
    grade(class_, again)

    assert "there is no server to judge with" in graded["ana"]["remarks"]
    assert len(again.asked) == 2


def test_the_same_notebook_of_several_is_judged_once(class_: Path):
    hand_in(class_ / "cem")
    runner = Pretended(0.5)

    graded = grade(class_, runner)

    assert [learner for learner, _ in runner.asked] == ["ana", "ben"]
    assert graded["cem"]["total"] == "20.0"


def test_a_batch_that_is_killed_goes_on_where_it_stopped(tmp_path: Path):
    hand_in(tmp_path / "class" / "ana")
    loop = f"while True: {tmp_path.name!r}"
    hand_in(tmp_path / "class" / "ben", notebook=with_answer("memory_monitoring", "self.saver = saver", loop))
    out = tmp_path / "grades"
    command = [sys.executable, "-m", "learning.cli", "grade", tmp_path / "class", "--out", out, "--lesson", "1"]
    batch_ = subprocess.Popen([*command, "--jobs", "1"], start_new_session=True)
    deadline = time.monotonic() + 120
    while not (out / FOLDER / "ana" / "1.json").exists():
        assert batch_.poll() is None and time.monotonic() < deadline
    started = psutil.Process(batch_.pid).children(recursive=True)

    batch_.send_signal(signal.SIGKILL)
    batch_.wait()

    assert not (out / "gradebook.csv").exists()
    _, alive = psutil.wait_procs(started, timeout=30)
    assert alive == [], "what was judged still runs"
    runner = Pretended()
    rows(batch.grade(tmp_path / "class", out, lessons=[1], runner=runner))
    assert [learner for learner, _ in runner.asked] == ["ben"]


def test_a_notebook_that_can_no_longer_be_read_is_told_and_the_others_are_graded(class_: Path, monkeypatch):
    def handed_in(*arguments):
        found = submissions.handed_in(*arguments)
        (class_ / "ben" / LESSON).unlink()
        return found

    monkeypatch.setattr(batch, "handed_in", handed_in)
    graded = grade(class_, Pretended())
    assert f"{LESSON}: cannot be read: No such file or directory" in graded["ben"]["remarks"]
    assert (graded["ana"]["total"], graded["ana"]["remarks"]) == ("40.0", "")


def test_tests_that_cannot_be_run_grade_nobody(class_: Path):
    def broken(work, tell):
        raise JudgeError("There is no sandbox.")
        yield

    with pytest.raises(batch.GradingError, match=r"nobody was graded\. There is no sandbox\."):
        grade(class_, broken)
    assert not (class_.parent / "grades" / "gradebook.csv").exists()


@pytest.mark.parametrize(
    "content",
    ["no JSON", "[]", '{"cells": 3}', "[" * 100_000, json.dumps({"cells": [{"cell_type": "code", "source": "x = 1"}]})],
    ids=["text", "list", "number", "deep", "of no lesson"],
)
def test_a_notebook_that_tells_by_nothing_which_lesson_it_is_is_told(class_: Path, content: str):
    (class_ / "ana" / LESSON).unlink()
    (class_ / "ana" / "my work.ipynb").write_text(content)
    remarks = grade(class_, Pretended())["ana"]["remarks"]
    assert "my work.ipynb: cannot tell which lesson it is" in remarks
    assert f"{LESSON}: missing" in remarks


def test_of_a_big_notebook_the_outputs_are_left_out(class_: Path):
    notebook = worked()
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "x" * 2**20}]
    hand_in(class_ / "ana", notebook=notebook)
    [ana, _] = submissions.handed_in(class_, [1])
    slim = json.loads(ana.notebooks[1].files()[LESSON])
    assert all(cell["outputs"] == [] for cell in slim["cells"] if cell["cell_type"] == "code")
    assert [cell["source"] for cell in slim["cells"]] == [cell["source"] for cell in notebook["cells"]]


@pytest.mark.parametrize("content", [b"x", b'{"cells": 3, "more": "' + b"x" * 2**20 + b'"}'], ids=["text", "no cells"])
def test_a_big_file_that_is_no_notebook_is_cut(class_: Path, content: bytes):
    (class_ / "ana" / LESSON).write_bytes(content * (1 + 2 * NOTEBOOK_BYTES // len(content)))
    [ana, _] = submissions.handed_in(class_, [1])
    kept = ana.notebooks[1].files()[LESSON]
    assert len(kept) == NOTEBOOK_BYTES
    assert kept.startswith(content[:100])


# --- rules ------------------------------------------------------------------------------------------------------------

RULES = """
late_percent_per_day = 10
late_percent_at_most = 25

[due]
01_memory = 2026-12-01T23:59:00+01:00

[weights]
memory_analytics = 2
custom_memory_lru = 0.5

[accepted]
ana = ["memory_monitoring"]
"""

STAMPED = "timestamps = true\n" + RULES


def rules(folder: Path, text: str = RULES) -> Rules:
    (folder / "rules.toml").write_text(text)
    return read_rules(folder / "rules.toml")


def test_weights_and_lateness(class_: Path):
    due = datetime.fromisoformat("2026-12-01T23:59:00+01:00")
    for learner, late in (("ana", timedelta(minutes=-1)), ("ben", timedelta(hours=25))):
        (class_ / learner / "timestamp.txt").write_text((due + late).astimezone(UTC).isoformat())

    graded = grade(class_, Pretended(), rules=rules(class_.parent, STAMPED))

    assert [(row["total"], row["out of"], row["late days"]) for row in graded.values()] == [
        ("45.0", "45.0", "0"),
        ("36.0", "45.0", "2"),
    ]
    assert "2 days late: 20 % less" in graded["ben"]["remarks"]


def test_lateness_costs_no_more_than_it_may_and_the_time_is_the_files_own_where_none_is_told(class_: Path):
    for learner in ("ana", "ben"):
        os.utime(class_ / learner / LESSON, (2_000_000_000, 2_000_000_000))

    assert grade(class_, Pretended(), rules=rules(class_.parent))["ben"]["percent"] == "75.0"


def test_a_timestamp_of_the_learners_own_counts_only_where_the_rules_say_so(class_: Path):
    for learner in ("ana", "ben"):
        os.utime(class_ / learner / LESSON, (2_000_000_000, 2_000_000_000))
    (class_ / "ben" / "timestamp.txt").write_text("2019-01-01 00:00:00 UTC")

    assert grade(class_, Pretended(), rules=rules(class_.parent))["ben"]["percent"] == "75.0"
    assert grade(class_, Pretended(), rules=rules(class_.parent, STAMPED))["ben"]["late days"] == "0"


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("/dev/zero"), os.mkfifo, Path.mkdir])
def test_a_timestamp_that_is_no_file_is_none(class_: Path, make: Callable[[Path], None]):
    make(class_ / "ben" / "timestamp.txt")

    assert grade(class_, Pretended(), rules=rules(class_.parent, STAMPED))["ben"]["total"]


@pytest.mark.parametrize("name", [GRADEBOOK, JUNIT, REPORT])
def test_a_folder_in_the_place_of_what_the_grader_writes_is_told(class_: Path, name: str):
    (class_ / "ben").rename(class_ / name)

    graded = grade(class_, Pretended())

    assert graded["ana"]["total"] == "40.0"
    assert TAKEN in graded[name]["remarks"]


def test_rules_that_change_need_no_judging(class_: Path):
    grade(class_, Pretended())
    runner = Pretended()

    assert grade(class_, runner, rules=rules(class_.parent, "[weights]\nmemory_analytics = 3"))["ana"]["out of"] == "60"
    assert runner.asked == []


def test_flagged_points_wait_until_a_person_accepts(class_: Path):
    grave, odd = Flag("patched its judge", grave=True), Flag("left 3 processes")

    graded = grade(class_, Pretended(flags=(grave, odd)), rules=rules(class_.parent))

    assert [row[task] for row in graded.values() for task in TASK_NAMES[:2]] == ["0.0", "10.0", "0.0", "0.0"]
    assert grade(class_, Pretended())["ben"]["flags"] == "8"
    assert "the answer patched its judge; no points until a person has looked" in graded["ben"]["remarks"]
    page = (class_.parent / "grades" / "ben" / "feedback.html").read_text()
    assert page.count("These points wait until a person has looked") == 4
    assert "patched its judge" not in page


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("weights = 3", "weights has to be a table"),
        ("[weights]\nmemory_analitics = 2", "there is no weights.memory_analitics"),
        ("[weights]\nmemory_analytics = -1", "memory_analytics is -1, and has to be a number of 0 or more"),
        ("[due]\n01_memory = 'tomorrow'", "has to be a date and time"),
        ("late_penalty = 3", "there is no late_penalty"),
        ("accepted = {ana = 3}", "has to be a list of tasks"),
        ("[", "cannot be read"),
    ],
)
def test_rules_that_cannot_be_are_told(tmp_path: Path, text: str, says: str):
    with pytest.raises(RulesError, match=r"rules\.toml") as error:
        rules(tmp_path, text)
    assert says in str(error.value)


# --- what comes out ---------------------------------------------------------------------------------------------------


@pytest.fixture
def grades(class_: Path) -> Path:
    """What a class of two comes to that has three of four behaviours everywhere."""
    grade(class_, Pretended(0.75))
    return class_.parent / "grades"


def test_the_gradebook(grades: Path):
    with (grades / "gradebook.csv").open(newline="", encoding="utf-8") as file:
        first = next(csv.DictReader(file))

    assert list(first) == ["learner", *TASK_NAMES, "total", "out of", "percent", "late days", "flags", "remarks"]
    assert (first["memory_analytics"], first["total"], first["percent"]) == ("7.5", "30.0", "75.0")


def test_gradescopes_results(grades: Path):
    told = json.loads((grades / "ana" / "results.json").read_text())

    assert told["score"] == sum(test["score"] for test in told["tests"]) == 30.0
    assert [test["name"] for test in told["tests"]] == TASK_NAMES
    assert {test["max_score"] for test in told["tests"]} == {10}
    assert "✗ part 3\n    why: Think <b>again</b>." in told["tests"][0]["output"]


def test_junits_report(grades: Path):
    suites = ElementTree.parse(grades / "junit.xml").getroot()

    assert [suite.get("name") for suite in suites] == ["ana", "ben"]
    assert (suites[0].get("tests"), suites[0].get("failures")) == ("16", "4")
    assert suites[0][3].find("failure").get("message") == "Think <b>again</b>."


def test_pages_need_no_network_and_show_what_learners_wrote_as_text(grades: Path):
    for name in ("report.html", "ana/feedback.html"):
        page = (grades / name).read_text(encoding="utf-8")
        assert 'name="viewport"' in page and "prefers-color-scheme: dark" in page
        assert "<b>again</b>" not in page and "Think &lt;b&gt;again&lt;/b&gt;." in page
        without_names = page.replace("http://www.w3.org/", "").replace("url(#", "")
        assert not any(sign in without_names for sign in ("http://", "https://", "url(", "@import", "<script", "<link"))


def test_the_report_has_its_plots(grades: Path):
    page = (grades / "report.html").read_text(encoding="utf-8")

    titles = ("How many learners earned", "Which tasks were not solved", "What was missed most", "How long the judging")
    assert page.count("<svg") == 4
    assert all(title in page for title in titles)
    assert "currentColor" in page and "#010203" not in page


def test_what_somebody_has_removed_is_written_again(class_: Path, grades: Path):
    (grades / "ben" / "feedback.html").unlink()
    runner = Pretended()

    grade(class_, runner)

    assert (grades / "ben" / "feedback.html").exists()
    assert runner.asked == []


def test_progress_tells_who_is_judged_and_how_much_is_done(class_: Path):
    told = []

    class Slow(Pretended):
        def __call__(self, work: list[Job], tell):
            for job, judged in super().__call__(work, tell):
                tell(job, "memory_analytics")
                yield job, judged
                tell(job, "")

    grade(class_, Slow(), watch=lambda *seen: told.append(seen))

    assert told == [
        ("", 0, "", 0, 2),
        ("ana", 1, "memory_analytics", 0, 2),
        ("ana", 1, "", 1, 2),
        ("ben", 1, "memory_analytics", 1, 2),
        ("ben", 1, "", 2, 2),
    ]


# --- alike ------------------------------------------------------------------------------------------------------------

OWN = """
class MemoryMonitor:
    def __init__(self, saver, *, warn_bytes, critical_bytes):
        self.watched, self.limits, self.alerts, self.was = saver, (warn_bytes, critical_bytes), [], "fine"
    def sample(self):
        found = {}
        for who in list(self.watched.storage):  # each of them
            found[who] = sum(len(x) for ns in self.watched.storage[who].values() for c, m, _ in ns.values() for x in (c[1], m[1]))
        total = sum(found.values())
        for level, limit in zip(("critical", "warning"), reversed(self.limits)):
            if total >= limit and self.was != level:
                self.alerts.append((level, total))
                self.was = level
                break
        return found
"""


def test_an_answer_that_was_renamed_is_flagged_as_alike_and_shown_side_by_side(class_: Path):
    def handed_in(learner: str, source: str) -> None:
        notebook = worked()
        for cell in notebook["cells"]:
            if (
                cell["metadata"].get("learning", {}).get("task") == "memory_monitoring"
                and "answer" in cell["metadata"]["tags"]
            ):
                cell["source"] = source
        hand_in(class_ / learner, notebook=notebook)

    handed_in("dee", OWN)
    handed_in("eli", OWN.replace("found", "sizes").replace("who", "t").replace("# each of them", "# my own work!"))

    grade(class_, Pretended())

    page = (class_.parent / "grades" / "report.html").read_text()
    assert "dee and eli" in page
    assert "ana and" not in page, "both are the worked answer, which everybody may read"
    shown = next((class_.parent / "grades" / "similar").iterdir()).read_text()
    words = re.sub("<[^>]*>", "", shown).replace("&nbsp;", " ")
    assert "# each of them" in words and "# my own work!" in words


def test_alike_answers_that_are_very_long_are_shown_in_part_and_names_are_no_html(class_: Path):
    long = "\n".join(
        f"value_{n} = [{{'k{n}': ({n}, saver)}} for each in range({n})] if warn else {n}" for n in range(3000)
    )
    for learner in ("<h1>dee", "eli"):
        (class_ / learner).mkdir()
        notebook = worked()
        answer_to(notebook, "memory_monitoring")["source"] = f"{OWN}\n{long}\nme = '{learner}'"
        hand_in(class_ / learner, notebook=notebook)

    grade(class_, Pretended())

    [page] = (class_.parent / "grades" / "similar").glob("*memory_monitoring.html")
    shown = page.read_text()
    assert "&lt;h1&gt;dee" in shown and "<h1>dee" not in shown
    assert shown.count("<tr") < 1100


def test_every_task_that_is_graded_has_a_place_in_each_form():
    assert [task.name for task in graded_tasks(1)] == TASK_NAMES
