"""`papermill --engine learning` runs a notebook as far as it goes, and its marks do not depend on that."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import nbformat
import pytest

from learning.grading.isolation import SWITCH, Isolation

from .test_grading import LESSON, worked


def papermill(
    folder: Path,
    *experiments: str,
    name: str = LESSON,
    change: Callable[[nbformat.NotebookNode], None] = lambda notebook: None,
    options: Sequence[str] = (),
) -> nbformat.NotebookNode:
    """The worked lesson after papermill graded it, with experiments of the learner's at its top."""
    notebook = nbformat.from_dict(worked())
    kept = [cell for cell in notebook.cells if cell.metadata.get("tags") or cell.id == "setup"]
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in experiments] + kept
    change(notebook)
    (folder / name).write_text(json.dumps(notebook), encoding="utf-8")
    arguments = ["--engine", "learning", *options, folder / name, folder / "graded.ipynb"]
    done = subprocess.run(
        [sys.executable, "-m", "papermill", *arguments], capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    return nbformat.read(folder / "graded.ipynb", as_version=4)


def test_trouble_in_a_cell_is_a_remark_and_costs_nothing(tmp_path: Path):
    endless = "while True:\n    print('x' * 1000)"
    graded = papermill(tmp_path, "1 / 0", "import sys\nsys.exit(0)", endless, options=["--execution-timeout", "3"])

    marks = graded.metadata["learning"]["marks"]
    assert [remark for remark in marks["remarks"] if remark.startswith("cell")][:3] == [
        "cell 1 raised ZeroDivisionError",
        "cell 2 raised SystemExit",
        "cell 3 was still running after 3 seconds; the cells after it were not run",
    ]
    assert (marks["points"], marks["out_of"]) == (20.0, 40)
    assert (tmp_path / "graded.ipynb").stat().st_size < 3_000_000


def test_a_kernel_that_ends_is_a_remark_and_what_is_odd_about_a_notebook_costs_nothing(tmp_path: Path):
    def odd(notebook: nbformat.NotebookNode) -> None:
        notebook.metadata["kernelspec"] = {"name": "my-conda", "display_name": "mine", "language": "python"}
        notebook.metadata["learning"] = "mine"
        notebook.cells[0].source = "x = '\ud800'"

    marks = papermill(tmp_path, "", "import os\nos._exit(1)", change=odd).metadata["learning"]["marks"]

    assert marks["remarks"] == ["cell 2 ended the kernel; the cells after it were not run"]
    assert marks["points"] == 20.0


@pytest.mark.parametrize("chosen", [Isolation.BUBBLEWRAP, Isolation.LANDLOCK])
def test_a_notebook_runs_in_the_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: Isolation):
    monkeypatch.setenv(SWITCH, chosen)
    monkeypatch.setenv("COURSE_PASSWORD", "the-instructors-secret")
    (tmp_path / "gradebook.csv").write_text("everybody's marks")
    reads = f"open({str(tmp_path / 'gradebook.csv')!r}).read()"
    writes = f"open({str(tmp_path / 'was here')!r}, 'w')"
    connects = "import socket; socket.create_connection(('127.0.0.1', 22), 2)"
    graded = papermill(tmp_path, reads, writes, connects, "import os; print(dict(os.environ))", "bytearray(4 << 30)")

    raised = [remark for remark in graded.metadata["learning"]["marks"]["remarks"] if " raised " in remark]
    assert len(raised) == 4, raised
    assert "MemoryError" in raised[3]
    assert not (tmp_path / "was here").exists()
    assert "everybody's" not in json.dumps(graded) and "instructors-secret" not in json.dumps(graded)


def test_the_notebook_is_run_and_the_cards_are_the_graders(tmp_path: Path):
    forged = "from IPython.display import display\ncheck = lambda task: print('full marks, honest')"
    graded = papermill(tmp_path, "print('ran')", forged, name="handed in.ipynb")

    assert graded.cells[0].outputs[0].text == "ran\n"
    checks = [cell for cell in graded.cells if "check" in cell.metadata.get("tags", [])]
    assert [len(cell.outputs) for cell in checks] == [1] * 4
    assert "honest" not in json.dumps(checks)
    assert ["passed" in cell.outputs[0].data["text/plain"] for cell in checks] == [True, True, False, False]


def test_a_notebook_of_no_lesson_is_told(tmp_path: Path):
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x = 1")]), tmp_path / "other.ipynb")

    command = [sys.executable, "-m", "papermill", "--engine", "learning", "-k", "python3"]
    subprocess.run([*command, tmp_path / "other.ipynb", tmp_path / "out.ipynb"], check=True, capture_output=True)

    marks = nbformat.read(tmp_path / "out.ipynb", as_version=4).metadata["learning"]["marks"]
    assert marks["remarks"] == ["other.ipynb: no lesson of this course"]
