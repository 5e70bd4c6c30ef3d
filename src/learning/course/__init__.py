"""The course: its tasks, the judging of answers, the check cards, and the building of notebooks."""

from .check import check
from .status import status

__all__ = ["check", "status"]
