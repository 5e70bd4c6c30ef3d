"""State outlives code: steps between versions of a state, for what is stored and what is read."""

from .checksum import ChecksumSerializer
from .convert import Conversion, convert
from .repair import Repair, repair, restore
from .rewriting import STAMP, rewritten, rewritten_writes, state_version
from .runner import Migration, amigrate, migrate
from .steps import Migrations, NoWay, Values
from .upcasting import UpcastingSaver
from .validate import Problem, validate
from .walk import Failure

__all__ = [
    "STAMP",
    "ChecksumSerializer",
    "Conversion",
    "Failure",
    "Migration",
    "Migrations",
    "NoWay",
    "Problem",
    "Repair",
    "UpcastingSaver",
    "Values",
    "amigrate",
    "convert",
    "migrate",
    "repair",
    "restore",
    "rewritten",
    "rewritten_writes",
    "state_version",
    "validate",
]
