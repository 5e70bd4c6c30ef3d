"""What the server of verdicts does when it starts: imports only, nothing here connects or opens anything."""

import atexit
import os
import shutil

import langgraph.checkpoint.conformance  # noqa: F401
import matplotlib  # noqa: F401
import nbformat  # noqa: F401
import numpy  # noqa: F401
import pytest  # noqa: F401
import zstandard  # noqa: F401

import learning.agent
import learning.course.plugin
import learning.course.scenarios  # noqa: F401

from .judge import FOLDER

# Jupyter kills a kernel with all of its process group, and then nobody would remove the folder of the server's socket.
# In a group of its own the server outlives the kernel for a moment: it ends when the kernel's end of a pipe is closed.
os.setsid()
atexit.register(shutil.rmtree, os.environ[FOLDER], ignore_errors=True)
