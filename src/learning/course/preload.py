"""What the warm server imports, so that no verdict has to wait for it. Imports only: nothing here connects or starts."""

import langgraph.checkpoint.conformance  # noqa: F401
import matplotlib  # noqa: F401
import numpy  # noqa: F401
import pytest  # noqa: F401
import zstandard  # noqa: F401

import learning.agent  # noqa: F401
import learning.course.judge  # noqa: F401
import learning.course.plugin  # noqa: F401
