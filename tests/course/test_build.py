"""Starters are built from masters, a learner's work is never lost, and what is wrong with a lesson is told."""

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from learning.course.build import build, check
from learning.course.starters import starter_source, untouched
from learning.course.tasks import ROOT, TASKS

LESSON = "01_memory.ipynb"
NAMES = [task.name for task in TASKS.values() if task.lesson == 1]


def code(source: str, cell_id: str, *tags: str, **learning: str) -> nbformat.NotebookNode:
    metadata = {"tags": list(tags)} | ({"learning": learning} if learning else {})
    return nbformat.v4.new_code_cell(source, id=cell_id, metadata=metadata)


def answer(name: str) -> str:
    return (
        f"def {name}(x):\n    ### BEGIN SOLUTION\n    secret = x + 1\n    return secret\n    ### END SOLUTION\n\n\n"
        "class Given:\n    def method(self):\n        ### BEGIN SOLUTION\n        return 'secret'\n        ### END SOLUTION"
    )


def master() -> nbformat.NotebookNode:
    """A small lesson 1 that has everything a lesson needs."""
    cells = [nbformat.v4.new_markdown_cell("# Lesson", id="title")]
    for name in NAMES:
        hint = "<details><summary>How?</summary>So.</details>"
        hints = nbformat.v4.new_markdown_cell(hint * 2, id=f"hint-{name}".replace("_", "-"))
        hints.metadata = nbformat.from_dict({"tags": ["hint"], "learning": {"task": name}})
        cells += [
            hints,
            code(answer(name), name.replace("_", "-"), "answer", task=name),
            code(f'check("{name}")', f"check-{name}".replace("_", "-"), "check"),
        ]
    cells.append(nbformat.v4.new_markdown_cell("About the answer.", id="notes", metadata={"tags": ["solution-only"]}))
    return nbformat.v4.new_notebook(cells=cells)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "solutions").mkdir()
    write(tmp_path, master())
    return tmp_path


def write(root: Path, notebook: nbformat.NotebookNode, folder: str = "solutions") -> None:
    nbformat.write(notebook, root / folder / LESSON)


def read(root: Path, folder: str = "notebooks") -> nbformat.NotebookNode:
    return nbformat.read(root / folder / LESSON, as_version=4)


def test_a_starter_has_no_solution_and_the_masters_ids(root: Path):
    build(root)

    starter = read(root)
    assert "secret" not in json.dumps(starter)
    assert [cell.id for cell in starter.cells] == [cell.id for cell in master().cells if cell.id != "notes"]
    source = starter.cells[2].source
    assert source.count("raise NotImplementedError  # custom_memory_lru: your code here") == 2
    exec(source, namespace := {})
    with pytest.raises(NotImplementedError):
        namespace["Given"]().method()


def test_a_second_build_changes_nothing_and_a_check_after_it_finds_nothing(root: Path):
    assert build(root) != []
    before = {path: path.read_bytes() for path in root.rglob("*.ipynb")}

    assert build(root) == []
    assert {path: path.read_bytes() for path in root.rglob("*.ipynb")} == before
    assert check(root) == []


def test_masters_are_cleaned_of_what_running_them_left(root: Path):
    notebook = master()
    notebook.cells[2].outputs = [nbformat.v4.new_output("stream", text="left over")]
    notebook.cells[2].execution_count = 7
    notebook.cells[2].metadata["collapsed"] = True
    notebook.metadata["widgets"] = {"left": "over"}
    write(root, notebook)

    build(root)

    cleaned = json.dumps(read(root, "solutions"))
    assert "left over" not in cleaned and "collapsed" not in cleaned and "widgets" not in cleaned


def test_work_in_a_notebook_is_kept_beside_the_new_one(root: Path):
    build(root)
    for turn in ("first", "second"):
        mine = read(root)
        mine.cells[2].source = f"# my {turn} answer"
        write(root, mine, "notebooks")

        done = build(root)

        assert any("kept notebooks/01_memory.kept-" in line for line in done)
        assert "raise NotImplementedError" in read(root).cells[2].source
    kept = sorted(path.read_text() for path in (root / "notebooks").glob("01_memory.kept-*.ipynb"))
    assert ["# my first answer" in kept[0], "# my second answer" in kept[1]] == [True, True]


def test_a_notebook_that_was_only_run_is_no_work(root: Path):
    build(root)
    ran = read(root)
    ran.cells[2].outputs = [nbformat.v4.new_output("stream", text="ran")]
    write(root, ran, "notebooks")

    build(root)

    assert not list((root / "notebooks").glob("*.kept-*"))
    assert read(root).cells[2].outputs == []


@pytest.mark.parametrize("content", ["", "not json", "[]", '{"cells": []}'])
def test_whatever_is_in_the_way_is_kept(root: Path, content: str):
    (root / "notebooks").mkdir()
    (root / "notebooks" / LESSON).write_text(content)

    build(root)

    assert (root / "notebooks" / "01_memory.kept-1.ipynb").read_text() == content


def change(cell: int, **fields) -> nbformat.NotebookNode:
    notebook = master()
    for key, value in fields.items():
        notebook.cells[cell][key] = value
    return notebook


def without(cell: int) -> nbformat.NotebookNode:
    notebook = master()
    del notebook.cells[cell]
    return notebook


def swapped() -> nbformat.NotebookNode:
    notebook = master()
    notebook.cells[2], notebook.cells[3] = notebook.cells[3], notebook.cells[2]
    return notebook


@pytest.mark.filterwarnings("ignore::nbformat.warnings.DuplicateCellId")
@pytest.mark.parametrize(
    ("notebook", "says"),
    [
        (change(2, source="def custom_memory_lru():\n    return 1"), "the starter is solved already"),
        (change(2, source="x = 1\n### BEGIN SOLUTION\ny = 2\n### END SOLUTION"), "is not inside a function"),
        (change(2, source="def f():\n    ### BEGIN SOLUTION\n    return 1"), "needs an ### END SOLUTION"),
        (
            change(2, source="def f():\n    ### BEGIN SOLUTION\n    pass\n    ### END SOLUTION"),
            "a solution region holds no solution",
        ),
        (change(2, source=answer("x") + "\ndef broken(:"), "is not Python"),
        (change(3, source='check("custom_memory_lur")'), 'has to be exactly check("<task>")'),
        (change(1, source="<details>only one</details>"), "has 1 hints of 2"),
        (without(3), "custom_memory_lru needs one answer cell, and one check cell"),
        (swapped(), "custom_memory_lru needs one answer cell, and one check cell"),
        (change(0, cell_type="code", outputs=[], execution_count=None, source="x = 1\n" * 19), "19 lines of code"),
        (change(0, id="notes"), "the id is missing or not unique"),
    ],
)
def test_a_master_that_cannot_be_handed_out_is_told(root: Path, notebook: nbformat.NotebookNode, says: str):
    build(root)
    (root / "solutions" / LESSON).write_text(json.dumps(notebook))

    problems = [str(problem) for problem in check(root)]

    assert any(says in problem for problem in problems), problems


def test_drift_is_told(root: Path):
    build(root)
    changed = master()
    changed.cells[0].source = "# Another title"
    write(root, changed)
    (root / "notebooks" / "09_extra.ipynb").write_text("{}")

    assert [str(problem) for problem in check(root)] == [
        "01_memory.ipynb: has outputs or stray metadata: run `learning build`",
        "notebooks/01_memory.ipynb: differs from its master: run `learning build`",
        "notebooks/09_extra.ipynb: has no master in solutions: remove it",
    ]


def test_work_in_a_starter_is_told_apart_from_drift(root: Path):
    build(root)
    mine = read(root)
    mine.cells[2].source = "# my answer"
    write(root, mine, "notebooks")

    assert [str(problem) for problem in check(root)] == [
        "notebooks/01_memory.ipynb: has been worked in: run `learning build`"
    ]


def test_a_starter_that_was_only_run_or_saved_is_told_apart_from_drift(root: Path):
    build(root)
    saved = read(root)
    saved.metadata.language_info.version = "3.12.1"
    saved.cells[2].outputs = [nbformat.v4.new_output("stream", text="a result")]
    write(root, saved, "notebooks")

    assert [str(problem) for problem in check(root)] == [
        "notebooks/01_memory.ipynb: has been run or saved: run `learning build`"
    ]


def test_untouched_looks_at_the_answers_only(root: Path):
    build(root)
    starter, solution = root / "notebooks" / LESSON, root / "solutions" / LESSON
    assert untouched(starter, solution)

    notebook = read(root)
    notebook.cells.insert(0, nbformat.v4.new_code_cell("an_experiment = 1"))
    write(root, notebook, "notebooks")
    assert untouched(starter, solution)

    notebook.cells[3].source += "\nmine = 1"
    write(root, notebook, "notebooks")
    assert not untouched(starter, solution)


def test_the_lessons_of_this_course_are_built_and_sound():
    problems = [str(problem) for problem in check(ROOT)]

    # A learner's own work in notebooks/ is no fault of the lessons.
    learners_own = ("has been worked in", "has been run or saved")
    assert [problem for problem in problems if not any(words in problem for words in learners_own)] == []


def test_starters_of_this_course_run_without_an_error_and_with_nothing_solved():
    for path in (ROOT / "solutions").glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            if "answer" in cell.metadata.get("tags", []):
                exec(compile(starter_source(cell.source, "task"), path.name, "exec"), {})


def test_nbgrader_accepts_a_built_lesson(root: Path):
    notebook = master()
    for cell in notebook.cells:
        if "check" in cell.metadata.get("tags", []):
            notebook.cells.insert(0, nbformat.v4.new_code_cell("def check(task):\n    assert task", id="check-stub"))
            break
    write(root, notebook)
    build(root)

    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", "validate", root / "solutions" / LESSON],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=root,
    )

    assert "Success! Your notebook passes all the tests." in done.stdout, done.stdout + done.stderr


def test_in_an_sql_script_the_learners_part_is_a_comment_of_sql():
    script = 'SCHEMA = """\nCREATE TABLE a (id int);\n-- ### BEGIN SOLUTION\nCREATE INDEX ON a (id);\n-- ### END SOLUTION\n"""'
    assert starter_source(script, "postgres_schema") == (
        'SCHEMA = """\nCREATE TABLE a (id int);\n-- postgres_schema: your SQL here\n"""'
    )
