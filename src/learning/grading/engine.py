"""The papermill engine `learning`: run a submitted notebook, judge its answers, and record the marks in it."""

import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.engines import Engine, NotebookExecutionManager

from learning.course.starters import checked_task

from .marks import Marks, lesson_of, mark, write_into

CELL_SECONDS = 60
"""How long one cell may run, unless papermill is told `--execution-timeout`."""


class LearningEngine(Engine):
    """`papermill --engine learning submission.ipynb graded.ipynb`.

    The marks come from the release's tests on the answers, not from the run. So a cell that fails, hangs or ends the
    kernel is named in the remarks, and costs nothing by itself.
    """

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: NotebookExecutionManager,
        kernel_name: str,
        input_path: str | None = None,
        execution_timeout: int | None = None,
        start_timeout: int = 60,
        **_: Any,
    ) -> None:
        name = Path(input_path or "").name or "submission.ipynb"
        with tempfile.TemporaryDirectory() as folder:
            submission = Path(folder) / name
            nbformat.write(nb_man.nb, submission)
            lesson = lesson_of(submission)
            remarks = _run(nb_man, kernel_name, execution_timeout or CELL_SECONDS, start_timeout)
            marks = mark(submission, lesson) if lesson else Marks(remarks=[f"{name}: no lesson of this course"])
        marks.remarks += remarks
        write_into(nb_man.nb, marks)


def _run(nb_man: NotebookExecutionManager, kernel_name: str, seconds: int, start_timeout: int) -> list[str]:
    """Run the notebook as far as it goes; remarks on what went wrong. Its own checks are not run: we judge."""
    client = NotebookClient(
        nb_man.nb, kernel_name=kernel_name, timeout=seconds, startup_timeout=start_timeout, allow_errors=True
    )
    trouble = []
    with client.setup_kernel():
        for place, cell in enumerate(nb_man.nb.cells):
            if cell.cell_type != "code" or checked_task(cell.source):
                continue
            nb_man.cell_start(cell, place)
            try:
                client.execute_cell(cell, place)
            except CellTimeoutError:
                trouble = [
                    f"cell {place + 1} was still running after {seconds} seconds; the cells after it were not run"
                ]
            except DeadKernelError:
                trouble = [f"cell {place + 1} ended the kernel; the cells after it were not run"]
            nb_man.cell_complete(cell, place)
            if trouble:
                break
    return _errors_as_text(nb_man.nb) + trouble


def _errors_as_text(notebook: nbformat.NotebookNode) -> list[str]:
    """Which cells raised what. Their tracebacks become plain text in the notebook: papermill would stop at an error."""
    raised = []
    for place, cell in enumerate(notebook.cells):
        for number, output in enumerate(cell.get("outputs", [])):
            if output.output_type == "error":
                raised.append(f"cell {place + 1} raised {output.ename}")
                text = "\n".join(output.traceback) + "\n"
                cell.outputs[number] = nbformat.v4.new_output("stream", name="stderr", text=text)
    return raised
