"""What the server of verdicts imports when it starts. Nothing here connects or opens anything."""

import langgraph.checkpoint.conformance  # noqa: F401
import matplotlib  # noqa: F401
import nbformat  # noqa: F401
import numpy  # noqa: F401
import pytest  # noqa: F401
import zstandard  # noqa: F401

import learning.agent
import learning.course.plugin
import learning.course.scenarios  # noqa: F401
