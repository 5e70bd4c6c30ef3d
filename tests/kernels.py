"""Kernels for tests, on a machine where others open and close connections all the time.

They are spoken to through files: a port that was free could be taken before the kernel has it. `pytest -p tests.kernels`
has nbval do the same, so that it may run several notebooks at a time.
"""

import tempfile
from typing import Any
from uuid import uuid4

import nbval.kernel
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode

_folder = tempfile.TemporaryDirectory(prefix="kernels-", dir="/tmp")


def _connection_file() -> str:
    return f"{_folder.name}/{uuid4().hex}.json"


def client_for(notebook: NotebookNode, **options: Any) -> NotebookClient:
    """Runs a notebook in such a kernel."""
    client = NotebookClient(notebook, timeout=60, **options)
    kernel = client.create_kernel_manager()
    kernel.transport, kernel.connection_file = "ipc", _connection_file()
    return client


nbval.kernel.KernelManager = lambda **options: KernelManager(
    transport="ipc", connection_file=_connection_file(), **options
)
