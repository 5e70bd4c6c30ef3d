"""What `pytest test_learning_03.py` tells: whose work it judges, what was attempted, what is missing."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import nbformat
import numpy as np
import pytest

from learning.course import scenarios
from learning.course.expect import Missed, expect
from learning.course.judge import behaviours
from learning.course.scenarios import another_process, shorten
from learning.course.starters import starter_source
from learning.course.tasks import GRADED_TESTS, LESSONS, ROOT, TASKS

LESSON_1 = f"{LESSONS[1][0]}.ipynb"


def run_pytest(*arguments: str | Path, root: Path = ROOT, tests: Path = GRADED_TESTS) -> str:
    """What pytest prints, as if the course stood in `root` and the graded tests were `tests`."""
    script = (
        "import sys, pytest, learning.course.plugin as plugin; from pathlib import Path; "
        f"plugin.ROOT = Path({str(root)!r}); plugin.GRADED_TESTS = Path({str(tests)!r}); plugin.BEHAVIOUR_SECONDS = 3; "
        "sys.exit(pytest.main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tests, "-c", ROOT / "pyproject.toml", "-p", "no:cacheprovider", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "COLUMNS": "160"},
    )
    return done.stdout + done.stderr


def lesson(folder: Path, *, solved: tuple[str, ...] = (), changed: dict[str, str] | None = None) -> Path:
    """A folder with the starter of lesson 1, in which some tasks are solved or answered with a source of their own."""
    notebook = nbformat.read(ROOT / "solutions" / LESSON_1, as_version=4)
    for cell in notebook.cells:
        task = cell.metadata.get("learning", {}).get("task")
        if task and "answer" in cell.metadata.get("tags", []) and task not in solved:
            cell.source = (changed or {}).get(task) or starter_source(cell.source, task)
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / LESSON_1)
    return folder


def test_worked_solutions_pass_and_untouched_starters_are_not_attempted(tmp_path: Path):
    solved = run_pytest("--work", lesson(tmp_path / "solved", solved=tuple(TASKS)))
    untouched = run_pytest("--work", lesson(tmp_path / "untouched"), "-rs")

    assert "4 passed, 20 skipped" in solved
    assert "24 skipped" in untouched
    assert untouched.count("not attempted yet") >= 4


def test_while_nothing_is_attempted_the_worked_solutions_are_judged_and_it_says_so(tmp_path: Path):
    lesson(tmp_path / "notebooks")
    lesson(tmp_path / "solutions", solved=tuple(TASKS))

    output = run_pytest(root=tmp_path)

    assert "nothing in notebooks has been attempted yet: judging the worked solutions" in output
    assert "your environment is ready; your own progress: 0 of 24, start with notebooks/01_memory.ipynb" in output


def test_once_something_is_attempted_the_learners_own_work_is_judged(tmp_path: Path):
    lesson(tmp_path / "notebooks", solved=("memory_monitoring",))
    lesson(tmp_path / "solutions", solved=tuple(TASKS))

    output = run_pytest(root=tmp_path)

    assert "judging the work in notebooks" in output
    assert "1 of 24 tasks passed; next: custom_memory_lru in 01_memory.ipynb" in output


def test_a_part_that_is_not_written_yet_costs_only_itself(tmp_path: Path):
    half = """
class LRUMemorySaver(InMemorySaver):
    def __init__(self, max_threads, on_evict=None, **options):
        if max_threads < 1:
            raise ValueError("max_threads has to be 1 or more")
        super().__init__(**options)

    def put_writes(self, config, writes, task_id, task_path=""):
        raise NotImplementedError
"""
    output = run_pytest("--work", lesson(tmp_path, changed={"custom_memory_lru": half}), "-k", "lru")

    assert "This part is not written yet." in output
    assert "[a limit below one thread is refused]" not in output


@pytest.mark.parametrize(
    "place", ["NOW = {}", "class MemoryMonitor:\n    def __init__(self, *args, **limits):\n        {}"]
)
def test_what_a_library_has_not_implemented_is_an_error_like_any_other(tmp_path: Path, place: str):
    source = place.format("asyncio.AbstractEventLoop().time()")
    if "MemoryMonitor" not in source:
        source += "\nclass MemoryMonitor:\n    now = NOW"
    work = lesson(tmp_path, changed={"memory_monitoring": f"import asyncio\n{source}"})

    output = run_pytest("--work", work, "-k", "memory_monitoring", "-rs")

    assert "NotImplementedError" in output
    assert "asyncio.AbstractEventLoop().time()" in output
    assert "not attempted" not in output
    assert "not written yet" not in output


def test_an_endless_loop_in_a_thread_of_the_agent_does_not_hang_pytest(tmp_path: Path):
    loop = """
class LRUMemorySaver(InMemorySaver):
    def __init__(self, max_threads, on_evict=None, **options):
        super().__init__(**options)

    def put_writes(self, *args, **kwargs):
        while True:
            pass
"""
    output = run_pytest(
        "--work", lesson(tmp_path, changed={"custom_memory_lru": loop}), "-k", "lru or memory_monitoring"
    )

    assert "look for a loop that never ends" in output
    assert "not judged: an earlier call of your code is still running" in output
    assert "1 skipped, 22 deselected" in output.splitlines()[-1]


@pytest.mark.parametrize(
    ("work", "says"),
    [("no such folder", "there is no such folder"), ("empty", "none of the lessons is in it (01_memory.ipynb")],
)
def test_a_wrong_folder_of_work_is_told_without_a_traceback(tmp_path: Path, work: str, says: str):
    (tmp_path / "empty").mkdir()

    output = run_pytest("--work", tmp_path / work)

    assert says in output
    assert "Traceback" not in output


def test_a_test_that_judges_nothing_fails(tmp_path: Path):
    tests = tmp_path / GRADED_TESTS.name
    tests.write_text(
        "class TestMemoryStorage:\n    def test_memory_monitoring(self, work):\n        work.MemoryMonitor\n"
    )

    assert "without having judged anything" in run_pytest("--work", ROOT / "solutions", tests=tests)


def test_the_seed_of_a_run_draws_the_same_data_again(tmp_path: Path):
    one_off = (
        "class MemoryMonitor:\n    def __init__(self, *args, **limits):\n        self.alerts = list(limits.values())\n"
        "    def sample(self):\n        return {}\n"
    )
    work = lesson(tmp_path, changed={"memory_monitoring": one_off})

    first, same, other = (
        [
            line
            for line in run_pytest("--work", work, "-k", "monitoring", "--seed", seed).splitlines()
            if "came:" in line
        ]
        for seed in ("7", "7", "8")
    )

    assert first == same != other


def test_numbers_are_compared_whoever_made_them_and_booleans_are_no_numbers():
    expect({"ana": [np.int64(3), np.float32(0.5)]}, {"ana": [3, 0.5]}, "")

    for came in (True, np.int64(2), type("Always", (), {"__eq__": lambda self, other: True})()):
        with pytest.raises(Missed):
            expect(came, 1, "")


def test_a_text_that_is_cut_says_so():
    assert shorten("x" * 198) == repr("x" * 198)
    assert shorten("x" * 199) == "'" + "x" * 198 + "…"


def test_every_behaviour_is_named_once():
    for task in TASKS.values():
        names = behaviours(task)
        assert len(names) == len(set(names))
    assert all(behaviours(task) for task in TASKS.values() if task.lesson == 1)


def test_another_process_has_nothing_of_what_comes_later():
    table = {"before": 1}
    with another_process(table.get, expected="", idea="") as ask_there:
        table["later"] = 2

        assert [ask_there(name) for name in ("before", "later")] == [1, None]


def hang() -> None:
    threading.Event().wait()


@pytest.mark.parametrize(
    ("answer", "came"),
    [
        (lambda: 1 / 0, "in another process: ZeroDivisionError: division by zero"),
        (lambda: sys.exit(), "another process ended, and gave no answer"),
        (lambda: os._exit(0), "another process ended, and gave no answer"),
        (hang, "no answer from another process"),
    ],
)
def test_another_process_that_does_not_answer_is_a_miss(monkeypatch: pytest.MonkeyPatch, answer, came: str):
    if answer is hang:  # the others are waited for, however busy the machine is
        monkeypatch.setattr(scenarios, "PATIENCE", 0.2)
    miss = pytest.raises(Missed, match=f"expected: a state\n    came: {came}.*\n    idea: mend it")
    with miss, another_process(answer, expected="a state", idea="mend it") as ask_there:
        ask_there()
