"""Build the notebooks that learners open from the worked lessons: one source for each lesson.

In a master (`solutions/*.ipynb`), the learner's part of an answer stands between `### BEGIN SOLUTION` and
`### END SOLUTION`. Tags say what a cell is: `answer`, `check`, `hint`, or `solution-only` for what learners do not get.
The metadata of nbgrader is written too, so that a course that runs it can use the notebooks.
"""

import ast
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from learning import atomic

from .answers import as_python
from .starters import BEGIN, END, REGION, checked_task, has_tag, starter_source
from .tasks import LESSONS, TASKS, Task

POINTS = 10
"""What each task is worth in nbgrader."""

MOST_LINES = 18
"""How long a code cell may be that is not an answer."""

HINTS = 2
"""How many hints each task has at the least."""


@dataclass(frozen=True)
class Problem:
    """Something that keeps a lesson from being handed out."""

    notebook: str
    cell: str
    what: str

    def __str__(self) -> str:
        return f"{self.notebook}{f', cell {self.cell}' if self.cell else ''}: {self.what}"


def build(root: Path) -> list[str]:
    """Clean each master and write its starter into `notebooks/`; say what was done, a line for each change.

    A starter that somebody has worked in is kept beside the new one.
    """
    done = []
    for path in _masters(root):
        master = _cleaned(_read(path))
        if atomic.write(path, _as_text(master).encode()):
            done.append(f"cleaned {path.relative_to(root)}")
        target, text = root / "notebooks" / path.name, _as_text(_starter(master))
        if target.exists() and _worked_in(target):
            done.append(f"kept {_put_aside(target).relative_to(root)}, because it has been worked in")
        if atomic.write(target, text.encode()):
            done.append(f"wrote {target.relative_to(root)}")
    return done


def reset(root: Path, lesson: str) -> Path | None:
    """Put a lesson's starter back into `notebooks/`; returns where what was there is kept, if it was anything else.

    Raises:
        FileNotFoundError: if the lesson has no master to make the starter from.
    """
    target = root / "notebooks" / f"{lesson}.ipynb"
    text = _as_text(_starter(_cleaned(_read(root / "solutions" / target.name))))
    kept = None
    if target.exists() and target.read_bytes() != text.encode():
        kept = _put_aside(target)
    atomic.write(target, text.encode())
    return kept


def check(root: Path) -> list[Problem]:
    """What is wrong with the lessons: drift between masters and starters, and masters that cannot be handed out."""
    problems = []
    for path in _masters(root):
        master = _read(path)
        faults = [*_id_faults(path), *_faults(master, path.stem)]
        problems += [Problem(path.name, cell, what) for cell, what in faults]
        if faults:
            continue
        if path.read_text(encoding="utf-8") != _as_text(_cleaned(master)):
            problems.append(Problem(path.name, "", "has outputs or stray metadata: run `learning build`"))
        if drift := _drift(root / "notebooks" / path.name, _starter(_cleaned(master))):
            problems.append(Problem(f"notebooks/{path.name}", "", f"{drift}: run `learning build`"))
    names = {path.name for path in _masters(root)}
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        if path.name not in names and ".kept-" not in path.name:
            problems.append(Problem(f"notebooks/{path.name}", "", "has no master in solutions: remove it"))
    return problems


def _drift(path: Path, starter: NotebookNode) -> str:
    """How a notebook differs from the starter that it should be, if it does."""
    if not path.exists():
        return "is missing"
    if path.read_text(encoding="utf-8") == _as_text(starter):
        return ""
    if _worked_in(path):
        return "has been worked in"
    built = _read(path).metadata.learning.built
    return "has been run or saved" if built == starter.metadata.learning.built else "differs from its master"


# --- from master to starter -------------------------------------------------------------------------------------------


def _cleaned(master: NotebookNode) -> NotebookNode:
    """The master without what running it left behind, and with the metadata that graders read."""
    cells = []
    for cell in master.cells:
        kept = {key: value for key, value in cell.metadata.items() if key in ("tags", "learning")}
        if has_tag(cell, "answer"):
            kept["nbgrader"] = _nbgrader(cell.metadata["learning"]["task"], solution=True)
        if has_tag(cell, "check"):
            kept |= {"editable": False, "deletable": False}
            kept["nbgrader"] = _nbgrader(f"check-{checked_task(cell.source)}", grade=True, locked=True) | {
                "points": POINTS
            }
        bare = {"cell_type": cell.cell_type, "id": cell.id, "metadata": kept, "source": cell.source.rstrip()}
        if cell.cell_type == "code":
            bare |= {"outputs": [], "execution_count": None}
        cells.append(bare)
    return nbformat.from_dict({"cells": cells, "metadata": _KERNEL, "nbformat": 4, "nbformat_minor": 5})


def _starter(master: NotebookNode) -> NotebookNode:
    cells = [dict(cell) for cell in master.cells if not has_tag(cell, "solution-only")]
    for cell in cells:
        if has_tag(cell, "answer"):
            cell["source"] = starter_source(cell["source"], cell["metadata"]["learning"]["task"])
    starter = nbformat.from_dict({**master, "cells": cells})
    starter.metadata = {**_KERNEL, "learning": {"built": _fingerprint(starter)}}
    return starter


_KERNEL = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def _nbgrader(grade_id: str, *, grade: bool = False, locked: bool = False, solution: bool = False) -> dict:
    return {
        "schema_version": 3,
        "grade_id": grade_id,
        "grade": grade,
        "locked": locked,
        "solution": solution,
        "task": False,
    }


# --- what can be wrong with a master ----------------------------------------------------------------------------------


def _faults(master: NotebookNode, lesson: str) -> Iterator[tuple[str, str]]:
    """The cell and what is wrong with it, for each fault."""
    for cell in master.cells:
        if cell.cell_type == "code":
            yield from ((cell.id, what) for what in _code_faults(cell))
    for task in (task for task in TASKS.values() if LESSONS[task.lesson][0] == lesson):
        yield from (("", what) for what in _task_faults(master, task))


def _id_faults(path: Path) -> Iterator[tuple[str, str]]:
    """Read from the file itself: nbformat mends ids in passing, at random."""
    ids = [cell.get("id", "") for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    for cell_id in sorted({each for each in ids if not each or ids.count(each) > 1}):
        yield cell_id, "the id is missing or not unique: give the cell one of its own"


def _code_faults(cell: NotebookNode) -> Iterator[str]:
    try:
        ast.parse(as_python(cell.source))
    except SyntaxError as error:
        yield f"line {error.lineno} is not Python: {error.msg}"
    lines = len(cell.source.splitlines())
    if lines > MOST_LINES and not has_tag(cell, "answer"):
        yield f"{lines} lines of code are more than {MOST_LINES}: split the cell"
    if has_tag(cell, "check") and checked_task(cell.source) not in TASKS:
        yield 'a cell tagged `check` has to be exactly check("<task>")'
    if has_tag(cell, "answer"):
        yield from _answer_faults(cell)


def _answer_faults(cell: NotebookNode) -> Iterator[str]:
    task = cell.metadata.get("learning", {}).get("task")
    if task not in TASKS:
        yield f"metadata.learning.task is {task!r}, which is no task of the course"
        return
    regions = REGION.findall(cell.source)
    if not len(regions) == cell.source.count(BEGIN) == cell.source.count(END):
        yield f"each {BEGIN} needs an {END} after it"
    if not regions:
        yield "the starter is solved already: nothing stands between solution markers"
    for _, _, answer in regions:
        if not answer.strip() or answer.strip().startswith(("raise NotImplementedError", "pass", "...")):
            yield "a solution region holds no solution"
    try:
        tree = ast.parse(starter_source(cell.source, task))
    except SyntaxError as error:
        yield f"line {error.lineno} of the starter is not Python: {error.msg}"
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef) and any(isinstance(each, ast.Raise) for each in node.body):
            yield "a solution region is not inside a function, so that running the starter would raise"


def _task_faults(master: NotebookNode, task: Task) -> Iterator[str]:
    places: dict[str, list[int]] = {"answer": [], "check": []}
    hints = 0
    for place, cell in enumerate(master.cells):
        about = cell.metadata.get("learning", {}).get("task")
        if has_tag(cell, "answer") and about == task.name:
            places["answer"].append(place)
        if has_tag(cell, "check") and checked_task(cell.source) == task.name:
            places["check"].append(place)
        if has_tag(cell, "hint") and about == task.name:
            hints += cell.source.count("<details>")
    if [len(found) for found in places.values()] != [1, 1] or places["answer"] > places["check"]:
        yield f"{task.name} needs one answer cell, and one check cell after it"
    if hints < HINTS:
        yield f"{task.name} has {hints} hints of {HINTS}: cells tagged `hint` with <details> and metadata.learning.task"


# --- files ------------------------------------------------------------------------------------------------------------


def _masters(root: Path) -> list[Path]:
    return sorted((root / "solutions").glob("*.ipynb"))


def _read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


def _as_text(notebook: NotebookNode) -> str:
    return nbformat.writes(notebook) + "\n"


def _fingerprint(notebook: NotebookNode) -> str:
    """What changes when somebody works in a notebook, and not when it is only run."""
    ours = ("tags", "learning", "nbgrader")
    cells = [
        [cell["id"], cell["cell_type"], cell["source"], {key: cell["metadata"].get(key) for key in ours}]
        for cell in notebook.cells
    ]
    return hashlib.sha256(json.dumps(cells, sort_keys=True).encode()).hexdigest()


def _worked_in(path: Path) -> bool:
    try:
        notebook = _read(path)
        return notebook.metadata.learning.built != _fingerprint(notebook)
    except Exception:  # whatever the file is, we did not write it
        return True


def _put_aside(path: Path) -> Path:
    """Rename a notebook to the first name beside it that is free, and return that."""
    names = (path.with_name(f"{path.stem}.kept-{number}.ipynb") for number in range(1, 10_000))
    kept = next(name for name in names if not name.exists())
    os.replace(path, kept)
    return kept
