"""State outlives code: steps between versions of a state, for what is stored and what is read."""

from .rewriting import STAMP, rewritten, state_version
from .steps import Migrations, NoWay, Values

__all__ = ["STAMP", "Migrations", "NoWay", "Values", "rewritten", "state_version"]
