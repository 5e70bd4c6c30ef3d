"""The papermill engine `learning`: run a submitted notebook, judge its answers, and record the marks in it."""

import json
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from papermill.engines import Engine, NotebookExecutionManager

from learning.course.starters import checked_task

from .isolation import Isolation, environment, isolation, limited
from .marks import Marks, graded_tasks, make_writable, remarks_on, write_into
from .sandbox import Sandbox
from .submissions import lesson_of

CELL_SECONDS = 60
"""How long one cell may run, unless papermill is told `--execution-timeout`."""

CELL_OUTPUTS = 1_000_000
"""About how many characters of output are kept of each cell."""


class LearningEngine(Engine):
    """`papermill --engine learning submission.ipynb graded.ipynb`.

    The marks come from the release's tests on the answers, not from the run. So a cell that fails, hangs or ends the
    kernel is named in the remarks, and costs nothing by itself.
    """

    @classmethod
    def nb_kernel_name(cls, nb: NotebookNode, name: str | None = None) -> str:
        """The course's kernel, rather than what a learner's machine called theirs."""
        return name or "python3"

    @classmethod
    def execute_notebook(cls, nb: NotebookNode, *arguments: Any, **options: Any) -> NotebookNode:
        """As papermill asks for it, which saves the notebook before the first cell has run."""
        make_writable(nb)
        return super().execute_notebook(nb, *arguments, **options)

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
            remarks = _run(nb_man, kernel_name, execution_timeout or CELL_SECONDS, start_timeout, Path(folder))
            marks = Marks(remarks=[f"{name}: no lesson of this course"])
            if lesson:
                with Sandbox() as sandbox:
                    judged = sandbox.judge(name, {name: submission.read_bytes()}, graded_tasks(lesson))
                marks = Marks(judged, remarks_on(judged))
        marks.remarks += remarks
        write_into(nb_man.nb, marks)
        nb_man.nb.cells = nbformat.from_dict(nb_man.nb.cells)  # the cards are plain dicts


def _run(
    nb_man: NotebookExecutionManager, kernel_name: str, seconds: int, start_timeout: int, folder: Path
) -> list[str]:
    """Run the notebook as far as it goes; remarks on what went wrong. Its own checks are not run: we judge."""
    client = _Client(
        nb_man.nb,
        kernel_name=kernel_name,
        kernel_manager_class=_EnclosedKernel,
        timeout=seconds,
        startup_timeout=start_timeout,
        allow_errors=True,
    )
    client.create_kernel_manager().connection_file = str(folder / "kernel.json")
    trouble = [] if isolation() is not Isolation.NONE else ["the notebook was run without isolation"]
    stopped = len(trouble)
    temporary = Path("/tmp") if isolation() is Isolation.BUBBLEWRAP else folder
    with client.setup_kernel(env=environment(temporary), cwd=str(folder)):
        for place, cell in enumerate(nb_man.nb.cells):
            if cell.cell_type != "code" or checked_task(cell.source):
                continue
            nb_man.cell_start(cell, place)
            try:
                client.execute_cell(cell, place)
            except CellTimeoutError:
                trouble += [
                    f"cell {place + 1} was still running after {seconds} seconds; the cells after it were not run"
                ]
            except DeadKernelError:
                trouble += [f"cell {place + 1} ended the kernel; the cells after it were not run"]
            nb_man.cell_complete(cell, place)
            if len(trouble) > stopped:
                break
    return _errors_as_text(nb_man.nb) + trouble


class _EnclosedKernel(AsyncKernelManager):
    """A kernel in the sandbox. It is spoken to through files, because there it has no network."""

    transport = "ipc"

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        """The kernel's own command, in the sandbox."""
        return limited(super().format_kernel_cmd(extra_arguments), Path(self.connection_file).parent)


class _Client(NotebookClient):
    """One that keeps a cell's outputs up to a size: an endless loop may print a gigabyte."""

    async def _async_poll_output_msg(self, parent_msg_id: str, cell: NotebookNode, cell_index: int) -> None:
        # Of a cell that was given up, this goes on until the channel is closed. Python would tell of it at any time,
        # with a traceback, for which 3.11 parses code, which it cannot do while it parses code.
        with suppress(AssertionError):
            await super()._async_poll_output_msg(parent_msg_id, cell, cell_index)

    def output(
        self, outs: list[NotebookNode], msg: dict, display_id: str | None, cell_index: int
    ) -> NotebookNode | None:
        if not outs:
            self._room = CELL_OUTPUTS
        if self._room <= 0:
            return None
        self._room -= len(json.dumps(msg["content"]))
        if self._room <= 0:
            msg = msg | {"msg_type": "stream", "content": {"name": "stderr", "text": "… too much output to keep …"}}
            msg["header"] = msg["header"] | {"msg_type": "stream"}
        return super().output(outs, msg, display_id, cell_index)


def _errors_as_text(notebook: NotebookNode) -> list[str]:
    """Which cells raised what. Their tracebacks become plain text in the notebook: papermill would stop at an error."""
    raised = []
    for place, cell in enumerate(notebook.cells):
        for number, output in enumerate(cell.get("outputs", [])):
            if output.output_type == "error":
                raised.append(f"cell {place + 1} raised {output.ename}")
                text = "\n".join(output.traceback)[-CELL_OUTPUTS:] + "\n"
                cell.outputs[number] = nbformat.v4.new_output("stream", name="stderr", text=text)
    return raised
