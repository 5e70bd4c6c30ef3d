"""Grading a folder of submissions, sound and broken: each loses only what it must, and the gradebook says why."""

import copy
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import nbformat
import psutil
import pytest

from learning.course.starters import has_tag, starter_source
from learning.course.tasks import ROOT, TASKS
from learning.grading import batch
from learning.grading.batch import GradingError
from learning.grading.runners import Runner

pytestmark = pytest.mark.xdist_group("class")  # what is graded once serves them all

grade = partial(batch.grade, lessons=[1])
"""Lesson 1 is enough to see how a class is graded, and needs no server."""


LESSON = "01_memory.ipynb"
TASK_NAMES = [task.name for task in TASKS.values() if task.lesson == 1]


SOLVED = ["custom_memory_lru", "memory_monitoring"]


def worked() -> dict:
    """The worked lesson, but for the two tasks whose judging takes longest."""
    notebook = json.loads((ROOT / "solutions" / LESSON).read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if has_tag(cell, "answer") and (task := cell["metadata"]["learning"]["task"]) not in SOLVED:
            cell["source"] = starter_source("".join(cell["source"]), task)
    return notebook


def answer_to(notebook: dict, task: str) -> dict:
    """The answer cell of a task."""
    return next(
        cell for cell in notebook["cells"] if has_tag(cell, "answer") and cell["metadata"]["learning"]["task"] == task
    )


def hand_in(folder: Path, name: str = LESSON, notebook: dict | None = None) -> None:
    """Put a notebook, the worked one unless said, where a learner's are."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(notebook or worked()), encoding="utf-8")


def rows(gradebook: Path) -> dict[str, dict[str, str]]:
    """A gradebook's rows by learner."""
    with gradebook.open(newline="", encoding="utf-8") as file:
        return {row["learner"]: row for row in csv.DictReader(file)}


def experiment(source: str) -> dict:
    return {"cell_type": "code", "id": "mine", "metadata": {}, "source": source, "outputs": [], "execution_count": None}


def with_answer(task: str, old: str, new: str) -> dict:
    """The worked lesson, with a change in one answer."""
    notebook = worked()
    cell = answer_to(notebook, task)
    source = "".join(cell["source"])
    assert old in source
    cell["source"] = source.replace(old, new)
    return notebook


def with_experiment(source: str) -> dict:
    notebook = worked()
    notebook["cells"].insert(2, experiment(source))
    return notebook


def copied() -> dict:
    notebook = worked()
    cell = answer_to(notebook, "memory_monitoring")
    notebook["cells"].insert(notebook["cells"].index(cell), copy.deepcopy(cell))
    return notebook


def turned_round() -> dict:
    notebook = worked()
    notebook["cells"].reverse()
    return notebook


def old_format() -> dict:
    notebook = worked() | {"nbformat_minor": 2}
    for cell in notebook["cells"]:
        del cell["id"]
    return notebook


def below_the_starters() -> dict:
    notebook = worked()
    for cell in list(notebook["cells"]):
        if has_tag(cell, "answer"):
            notebook["cells"].append(experiment("".join(cell["source"])))
            cell["source"] = starter_source("".join(cell["source"]), cell["metadata"]["learning"]["task"])
    return notebook


def below_a_wrong_one() -> dict:
    notebook = with_answer("memory_monitoring", "self.level = level", "pass")
    notebook["cells"].append(experiment("".join(answer_to(worked(), "memory_monitoring")["source"])))
    return notebook


def odd_metadata() -> dict:
    notebook = worked()
    notebook["cells"][1]["metadata"] = []
    return notebook


SHOUT = "'a' * 10_000_000"

FULL_MARKS = {
    "sound": worked(),
    "one answer copied, with its id": copied(),
    "cells in reverse order": turned_round(),
    "cells without ids, in an older format": old_format(),
    "metadata of a wrong type": odd_metadata(),
    "answers in new cells below the starters": below_the_starters(),
    "half a character outside the answers": with_experiment("x = '\ud800'"),
    "an error that shouts, above an answer": with_answer(
        "memory_monitoring", "class MemoryMonitor", f"raise ValueError({SHOUT})\n\n\nclass MemoryMonitor"
    ),
    "an endless loop outside the answers": with_experiment("while True:\n    pass"),
    "an exit outside the answers": with_experiment("import sys\nsys.exit(0)"),
    "a syntax error outside the answers": with_experiment("def broken(:"),
}

ONE_TASK_LOST = {
    "an endless loop in an answer": (
        with_answer("memory_monitoring", "self.saver = saver", "import time\n        while True: time.sleep(0.1)"),
        "memory_monitoring",
        "memory_monitoring: still running after 10 s, the answer cell of memory_monitoring, line",
    ),
    "an exit in an answer": (
        with_answer("memory_monitoring", "self.saver = saver", "import sys; sys.exit(0)"),
        "memory_monitoring",
        "memory_monitoring: SystemExit: 0, the answer cell of memory_monitoring, line",
    ),
    "an answer below a wrong one": (
        below_a_wrong_one(),
        "memory_monitoring",
        "the answer cell of memory_monitoring counts; 01_memory.ipynb, cell",
    ),
    "half a character in an error": (
        with_answer("memory_monitoring", "self.saver = saver", r"raise ValueError('\ud800')"),
        "memory_monitoring",
        "",
    ),
    "an error that shouts": (
        with_answer("memory_monitoring", "self.saver = saver", f"raise ValueError({SHOUT})"),
        "memory_monitoring",
        "",
    ),
    "a mistake": (with_answer("memory_monitoring", "self.level = level", "pass"), "memory_monitoring", ""),
    "a process that goes away": (
        with_answer("memory_monitoring", "self.saver = saver", "import os; os._exit(0)"),
        "memory_monitoring",
        "memory_monitoring: Your code ended the Python process",
    ),
    "a syntax error in an answer": (
        with_answer("custom_memory_lru", "def put(", "def put(("),
        "custom_memory_lru",
        ", line 32: ",
    ),
}

NOT_UTF8 = os.fsdecode(b"ana \xff")

NOTHING_LEFT = {
    "not json": ("nope", "cannot be read as a notebook"),
    "cut in half": (json.dumps(worked())[:5000], "cannot be read as a notebook"),
    "empty": ("", "cannot be read as a notebook"),
    "a notebook of format 3": (json.dumps({"worksheets": [], "nbformat": 3}), "cannot be read as a notebook"),
}


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, str]]]:
    """Everything above graded in one batch: where, and the rows of the gradebook by learner."""
    submissions = tmp_path_factory.mktemp("class")
    contents = {learner: json.dumps(notebook) for learner, notebook in FULL_MARKS.items()}
    contents |= {learner: json.dumps(notebook) for learner, (notebook, _, _) in ONE_TASK_LOST.items()}
    contents |= {learner: text for learner, (text, _) in NOTHING_LEFT.items()}
    contents["with a byte order mark"] = "\ufeff" + json.dumps(worked())
    contents["=1+1"] = json.dumps(worked())
    for learner, text in contents.items():
        (submissions / learner).mkdir()
        (submissions / learner / LESSON).write_text(text, encoding="utf-8")
    (submissions / "nothing handed in").mkdir()
    hand_in(submissions / "renamed and deep" / "work", "Ana 01_memory (1).ipynb")
    hand_in(submissions / "renamed beyond recognition", "final FINAL.ipynb")
    without_checks = worked() | {"cells": [cell for cell in worked()["cells"] if not has_tag(cell, "check")]}
    hand_in(submissions / "renamed, without check cells", "final.ipynb", without_checks)
    checks = experiment("check('custom_memory_lru')\ncheck('memory_analytics')")
    hand_in(submissions / "renamed, with check cells only", "final.ipynb", worked() | {"cells": [checks]})
    hand_in(submissions / "in capitals", LESSON.upper().replace("_MEMORY", "_memory"))
    hand_in(submissions / "with copies")
    for copy_name in ("01_memory-Copy1.ipynb", "01_memory (1).ipynb"):
        shutil.copy(ROOT / "notebooks" / LESSON, submissions / "with copies" / copy_name)
    hand_in(submissions, "loose_01_memory.ipynb")
    (submissions / "packed").mkdir()
    (submissions / "packed" / "work.zip").touch()
    (submissions / "a folder as notebook" / LESSON).mkdir(parents=True)
    (submissions / "a link as notebook").mkdir()
    os.symlink(submissions / "sound" / LESSON, submissions / "a link as notebook" / LESSON)
    hand_in(submissions / "starter" / ".ipynb_checkpoints")
    starter = worked()
    for cell in starter["cells"]:
        if has_tag(cell, "answer"):
            cell["source"] = "raise NotImplementedError"
    (submissions / "starter" / LESSON).write_text(json.dumps(starter))
    hand_in(submissions / NOT_UTF8)
    out = submissions.with_name("grades")

    return out, rows(grade(submissions, out))


def lost(row: dict[str, str]) -> list[str]:
    return [task for task in SOLVED if float(row[task]) < 10]


@pytest.mark.parametrize(
    "learner",
    [
        *FULL_MARKS,
        "with a byte order mark",
        "renamed and deep",
        "renamed beyond recognition",
        "renamed, without check cells",
        "in capitals",
        "with copies",
    ],
)
def test_accidents_cost_nothing(graded, learner: str):
    row = graded[1][learner]

    assert (row["total"], row["out of"]) == ("20.0", "40"), row["remarks"]


@pytest.mark.parametrize("learner", ONE_TASK_LOST)
def test_a_broken_answer_costs_its_task_only(graded, learner: str):
    _, task, remark = ONE_TASK_LOST[learner]

    assert lost(graded[1][learner]) == [task]
    assert remark in graded[1][learner]["remarks"]
    assert remark or not graded[1][learner]["remarks"]


@pytest.mark.parametrize("learner", NOTHING_LEFT)
def test_a_file_that_is_no_notebook_is_told_and_given_back_as_it_came(graded, learner: str):
    out, rows = graded
    text, remark = NOTHING_LEFT[learner]

    assert (rows[learner]["total"], lost(rows[learner])) == ("0.0", SOLVED)
    assert remark in rows[learner]["remarks"]
    assert (out / learner / LESSON).read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("learner", "remark"),
    [
        ("nothing handed in", "01_memory.ipynb: missing"),
        ("a folder as notebook", "not a regular file"),
        ("a link as notebook", "not a regular file"),
        ("starter", ""),
        ("renamed, with check cells only", ""),
        ("loose_01_memory.ipynb", "not in a folder of its own"),
        ("packed", "01_memory.ipynb: missing; there is only work.zip"),
    ],
)
def test_what_is_not_there_earns_nothing(graded, learner: str, remark: str):
    assert graded[1][learner]["total"] == "0.0"
    assert remark in graded[1][learner]["remarks"]


def test_the_notebook_with_the_lessons_own_name_is_graded_and_not_a_copy_beside_it(graded):
    assert graded[1]["with copies"]["remarks"].count("another notebook of lesson 1 was graded in its place") == 2


def test_an_answer_that_shouts_makes_no_big_gradebook(graded):
    for path in graded[0].rglob("*.*"):
        assert path.stat().st_size < 500_000, path


def test_a_name_that_a_spreadsheet_would_calculate_is_text(graded):
    assert "'=1+1" in graded[1]


def test_a_name_that_is_no_utf8_is_told_as_well_as_it_can_be(graded):
    assert graded[1]["ana \\udcff"]["total"] == "20.0"


@pytest.mark.parametrize("place", [".", "ana", "grades"])
def test_grades_do_not_go_among_the_submissions(tmp_path: Path, place: str):
    (tmp_path / "ana").mkdir()
    (tmp_path / "ana" / LESSON).write_text("as it was")

    with pytest.raises(GradingError, match="choose a folder for the grades"):
        grade(tmp_path, tmp_path / place)
    assert [path.name for path in tmp_path.rglob("*")] == ["ana", LESSON]


def test_a_gradebook_that_finds_no_room_leaves_the_last_one_as_it_was(tmp_path: Path):
    (tmp_path / "class" / "ana").mkdir(parents=True)
    (tmp_path / "grades").mkdir()
    (tmp_path / "grades" / "gradebook.csv").write_text("last week's")

    done = in_a_program(
        tmp_path,
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
        "try: grade(Path('class'), Path('grades'))\n"
        "except GradingError as error: print(error)",
    )

    assert "The grades cannot be written to grades: File too large." in done
    assert not [path.name for path in (tmp_path / "grades").rglob("*") if "draft" in path.name]
    assert (tmp_path / "grades" / "gradebook.csv").read_text() == "last week's"


def test_the_marked_notebook_has_its_cards_and_marks(graded):
    marked = nbformat.read(graded[0] / "an exit in an answer" / LESSON, as_version=4)

    marks = marked.metadata["learning"]["marks"]
    assert (marks["points"], marks["out_of"]) == (10.0, 40)
    cards = [cell.outputs[0].data for cell in marked.cells if "check" in cell.metadata.get("tags", [])]
    assert ["passed" in card["text/plain"].split("\n")[0] for card in cards] == [True, False, False, False]


def test_a_place_for_the_grades_that_cannot_be_written_is_told(tmp_path: Path):
    (tmp_path / "class" / "ana").mkdir(parents=True)
    (tmp_path / "grades").touch()

    with pytest.raises(GradingError, match=r"cannot be written to .*grades: "):
        grade(tmp_path / "class", tmp_path / "grades")


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir, Path.touch])
def test_no_submissions_are_told_without_a_traceback(tmp_path: Path, make):
    make(tmp_path / "class")

    with pytest.raises(GradingError, match=r"There is no folder|has no folders in it"):
        grade(tmp_path / "class", tmp_path / "grades")
    done = subprocess.run(
        [sys.executable, "-m", "learning.cli", "grade", tmp_path / "class", "--out", tmp_path / "grades"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def in_a_program(folder: Path, body: str) -> str:
    """What a script of an instructor's prints that grades in `folder`, without a guard around its main part."""
    (folder / "script.py").write_text(
        f"from pathlib import Path\nfrom learning.grading.batch import GradingError, grade\n{body}\n"
    )
    done = subprocess.run([sys.executable, "script.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def a_copy_of_the_course(folder: Path) -> dict[str, str]:
    """Copy the course into a folder. Returns the environment in which that copy is the one that is used."""
    folder.mkdir()
    for part in ("src", "solutions", "notebooks", "test_learning_03.py", "pyproject.toml"):
        kind = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        kind(ROOT / part, folder / part)
    return os.environ | {"PYTHONPATH": str(folder / "src")}


GRADE = "from pathlib import Path; from learning.grading.batch import grade; grade(Path('class'), Path('grades'), lessons=[1])"


def test_a_course_in_a_folder_with_brackets_grades_as_well(tmp_path: Path):
    environment = a_copy_of_the_course(tmp_path / "course [2024]")
    hand_in(tmp_path / "class" / "ana")

    subprocess.run([sys.executable, "-c", GRADE], cwd=tmp_path, env=environment, check=True)

    assert rows(tmp_path / "grades" / "gradebook.csv")["ana"]["total"] == "20.0"


def test_tests_that_do_not_run_stop_the_grading_and_give_nobody_nothing(tmp_path: Path):
    environment = a_copy_of_the_course(tmp_path / "course")
    with (tmp_path / "course" / "test_learning_03.py").open("a") as tests:
        tests.write("raise RuntimeError('half edited')\n")
    hand_in(tmp_path / "class" / "ana")

    done = subprocess.run(
        [sys.executable, "-c", GRADE], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )

    assert "The graded tests do not run, so nobody was graded." in done.stderr
    assert "half edited" in done.stderr
    assert not (tmp_path / "grades" / "gradebook.csv").exists()


def test_a_stopped_grading_leaves_the_gradebook_and_nothing_that_runs(tmp_path: Path):
    mark = f"60.{random.SystemRandom().randrange(10**9):09}"
    loop = f"import subprocess; subprocess.Popen(['sleep', '{mark}'])\n        while True: pass"
    hand_in(tmp_path / "class" / "ana", notebook=with_answer("memory_monitoring", "self.saver = saver", loop))
    grading = subprocess.Popen(
        [sys.executable, "-m", "learning.cli", "grade", tmp_path / "class", "--out", tmp_path / "grades"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell has jobs in its background ignore it
    )
    deadline = time.monotonic() + 60
    while not running(mark):
        assert grading.poll() is None and time.monotonic() < deadline

    grading.send_signal(signal.SIGINT)
    _, said = grading.communicate(timeout=5)

    assert grading.returncode == 130
    assert said.strip() == "Stopped. The gradebook is as it was; the same command goes on from here."
    assert not (tmp_path / "grades" / "gradebook.csv").exists()
    while running(mark):
        assert time.monotonic() < deadline, "the learner's program still runs"


def running(argument: str) -> list[int]:
    """The programs on this machine that were started with this argument."""
    return [each.pid for each in psutil.process_iter(["cmdline"]) if argument in (each.info["cmdline"] or ())]


def test_where_and_from_what_grading_is_called_and_what_is_liked_for_other_tests_changes_no_mark(tmp_path: Path):
    hand_in(tmp_path / "class" / "-ana")
    for module in ("json", "token", "pytest", "learning"):
        (tmp_path / "class" / f"{module}.py").write_text("raise RuntimeError('not this one')")

    done = subprocess.run(
        [Path(sys.executable).with_name("learning"), "grade", ".", "--out", "../grades", "--lesson", "1"],
        cwd=tmp_path / "class",
        env=os.environ | {"PYTEST_ADDOPTS": "-k nothing"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "grades" / "gradebook.csv")["'-ana"]["total"] == "20.0"


def test_only_the_lessons_that_are_asked_for_are_graded(tmp_path: Path, runner: Runner):
    ana = tmp_path / "class" / "ana"
    ana.mkdir(parents=True)
    for name in (LESSON, "02_redis.ipynb"):
        shutil.copy(ROOT / "notebooks" / name, ana)

    row = rows(grade(tmp_path / "class", tmp_path / "grades", runner=runner))["ana"]
    assert (row["out of"], row["remarks"]) == ("40", "")
    assert [path.name for path in (tmp_path / "grades" / "ana").glob("*.ipynb")] == [LESSON]

    row = rows(grade(tmp_path / "class", tmp_path / "grades", lessons=[], runner=runner))["ana"]
    assert row["out of"] == str(10 * len(TASKS))

    with pytest.raises(GradingError, match=r"There is no lesson 9 to grade: there are 1, 2, 3, 4, 5\."):
        grade(tmp_path / "class", tmp_path / "grades", lessons=[9])
