"""State outlives code: steps between versions of a state, for what is stored and what is read."""

from .checksum import ChecksumSerializer
from .rewriting import STAMP, rewritten, state_version
from .steps import Migrations, NoWay, Values
from .upcasting import UpcastingSaver

__all__ = [
    "STAMP",
    "ChecksumSerializer",
    "Migrations",
    "NoWay",
    "UpcastingSaver",
    "Values",
    "rewritten",
    "state_version",
]
