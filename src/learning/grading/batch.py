"""Grade a folder of submissions: one folder for each learner, their notebooks in it, and a gradebook out of it."""

import csv
import json
import os
import tempfile
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import nbformat

from learning.course.judge import JudgeError
from learning.course.tasks import LESSONS

from .marks import POINTS, Marks, graded_tasks, lesson_of, mark, points, write_into

# A learner's name may be no UTF-8.
AS_TEXT: dict[str, Any] = {"newline": "", "encoding": "utf-8", "errors": "backslashreplace"}

LOOSE = "not in a folder of its own, named after the learner, so it was not graded"


class GradingError(Exception):
    """Nothing can be graded as asked. The message is for the instructor."""


@dataclass(frozen=True)
class Graded:
    """All that one learner handed in, by lesson."""

    learner: str
    lessons: dict[int, Marks] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def grade(
    submissions: Path,
    out: Path,
    on_progress: Callable[[str, int], None] = lambda learner, of: None,
    *,
    lessons: Collection[int] = (),
) -> Path:
    """Grade each learner's notebooks, write them with their marks below `out`, and return the gradebook's path.

    Args:
        submissions: has one folder for each learner, named after them; the notebooks lie in it at any depth.
        out: gets `gradebook.csv`, and for each learner a folder with the marked notebooks.
        on_progress: called with each learner who is done, and the number of learners.
        lessons: which lessons to grade, if not all that there are. The notebooks of others are left out.

    Raises:
        GradingError: if there are no submissions or no such lessons, or the grades cannot be written, or would be among
            the submissions, or the graded tests cannot run. A broken submission is no error: it is told in the
            gradebook.
    """
    folders, loose = _learners(submissions)
    if out.resolve().is_relative_to(submissions.resolve()):
        raise GradingError(f"{out} is inside {submissions}: choose a folder for the grades that is not among them.")

    there = [lesson for lesson in LESSONS if graded_tasks(lesson)]
    if missing := sorted(set(lessons) - set(there)):
        raise GradingError(f"There is no lesson {missing[0]} to grade: there are {', '.join(map(str, there))}.")
    wanted = [lesson for lesson in there if not lessons or lesson in lessons]

    def one(folder: Path) -> Graded:
        graded = _grade_learner(folder, out / folder.name, wanted)
        on_progress(folder.name, len(folders))
        return graded

    with _written_to(out):
        out.mkdir(parents=True, exist_ok=True)
        draft = tempfile.NamedTemporaryFile("w", dir=out, prefix=".gradebook-", delete=False, **AS_TEXT)  # noqa: SIM115
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        graded = [*pool.map(one, folders), *(Graded(name, remarks=[LOOSE]) for name in loose)]
        with _written_to(out):
            with draft:
                _write_gradebook(draft, graded, wanted)
            os.replace(draft.name, out / "gradebook.csv")
        return out / "gradebook.csv"
    except JudgeError as error:
        raise GradingError(f"The graded tests do not run, so nobody was graded. {error}") from error
    finally:
        Path(draft.name).unlink(missing_ok=True)
        pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _written_to(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise GradingError(f"The grades cannot be written to {out}: {error.strerror}.") from error


def _learners(submissions: Path) -> tuple[list[Path], list[str]]:
    """The learners' folders, and the names of notebooks and archives that lie beside them."""
    if not submissions.is_dir():
        raise GradingError(f"There is no folder {submissions}.")
    try:
        inside = sorted(path for path in submissions.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise GradingError(f"{submissions} cannot be read: {error.strerror}.") from error
    folders = [path for path in inside if path.is_dir()]
    if not folders:
        raise GradingError(
            f"{submissions} has no folders in it. Each learner's notebooks go into a folder of their own."
        )
    return folders, [path.name for path in inside if path.is_file() and path.suffix.lower() in (".ipynb", ".zip")]


def _grade_learner(folder: Path, out: Path, wanted: Collection[int]) -> Graded:
    lessons: dict[int, Marks] = {}
    files, remarks = _files(folder)
    notebooks = [path for path in files if path.suffix.lower() == ".ipynb"]
    for notebook in sorted(notebooks, key=_rank):
        name = str(notebook.relative_to(folder))
        if notebook.is_symlink() or not notebook.is_file():
            remarks.append(f"{name}: not a regular file, so it was left out")
            continue
        lesson = lesson_of(notebook)
        if lesson is None:
            remarks.append(f"{name}: cannot tell which lesson it is")
        elif lesson in lessons:
            remarks.append(f"{name}: another notebook of lesson {lesson} was graded in its place")
        elif lesson in wanted:
            lessons[lesson] = mark(notebook, lesson)
            _write_marked(notebook, lessons[lesson], out / f"{LESSONS[lesson][0]}.ipynb")
            remarks += [f"{name}: {remark}" for remark in lessons[lesson].remarks]
    others = ", ".join(str(path.relative_to(folder)) for path in files)
    missing = "missing" if notebooks or not others else f"missing; there is only {others}"
    remarks += [f"{LESSONS[lesson][0]}.ipynb: {missing}" for lesson in wanted if lesson not in lessons]
    return Graded(folder.name, lessons, remarks)


def _files(folder: Path) -> tuple[list[Path], list[str]]:
    """All that is in a folder but for hidden things, and remarks on what cannot be read."""
    errors: list[OSError] = []
    files = []
    for parent, folders, names in os.walk(folder, onerror=errors.append):
        found = [name for name in folders if name.endswith(".ipynb")] + names  # a folder called so is told
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(parent) / name for name in found if not name.startswith(".")]
    return sorted(files), [f"{error.filename}: cannot be read: {error.strerror}" for error in errors]


def _rank(path: Path) -> tuple[bool, int, Path]:
    """Which of several notebooks of a lesson is graded: rather the one with the lesson's own name than a copy of it."""
    return path.stem not in {name for name, _ in LESSONS.values()}, len(path.parts), path


def _write_marked(notebook: Path, marks: Marks, target: Path) -> None:
    try:
        content = notebook.read_bytes()
    except OSError:  # the marks have a remark that says so
        return
    try:
        marked = nbformat.from_dict(json.loads(content.decode("utf-8-sig")))
        write_into(marked, marks)
        content = (json.dumps(marked, indent=1, ensure_ascii=False) + "\n").encode()
    except Exception as error:  # a notebook can be broken in any way, and goes back as it came
        marks.remarks.append(f"returned without marks in it: {type(error).__name__}")
    with _written_to(target.parent.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def _write_gradebook(file: IO[str], graded: list[Graded], lessons: Collection[int]) -> None:
    tasks = [task.name for lesson in lessons for task in graded_tasks(lesson)]
    out_of = POINTS * len(tasks)
    table = csv.writer(file)
    table.writerow(["learner", *tasks, "total", "out of", "percent", "remarks"])
    for each in graded:
        verdicts = {verdict.task: verdict for marks in each.lessons.values() for verdict in marks.verdicts}
        earned = [points(verdicts[task]) if task in verdicts else 0.0 for task in tasks]
        totals = [round(sum(earned), 2), out_of, round(100 * sum(earned) / out_of, 1)]
        table.writerow([_as_cell(each.learner), *earned, *totals, _as_cell("; ".join(each.remarks))])


def _as_cell(text: str) -> str:
    """Text that a spreadsheet shows and does not calculate."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
