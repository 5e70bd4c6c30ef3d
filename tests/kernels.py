"""Kernels for tests, on a machine where other tests open and close connections all the time."""

import tempfile
from typing import Any

from nbclient import NotebookClient
from nbformat import NotebookNode


def client_for(notebook: NotebookNode, **options: Any) -> NotebookClient:
    """Runs a notebook in a kernel that is spoken to through files: a port could be taken before the kernel has it."""
    client = NotebookClient(notebook, timeout=60, **options)
    kernel = client.create_kernel_manager()
    kernel.transport, kernel.connection_file = "ipc", f"{tempfile.mkdtemp()}/kernel.json"
    return client
