"""How a listing asks an engine for its rows, a few at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .records import Row, Scan

PAGE = 100
"""How many checkpoints are read at once."""


@dataclass
class Listing:
    """How far a listing has come."""

    scan: Scan
    id: str | None
    filter: Mapping[str, Any]
    left: int | None
    """How many checkpoints it may still give, if not all."""

    def __post_init__(self) -> None:
        self.rows: Sequence[Row] = ()
        """What has been asked for and not been read yet."""
        self._more = True
        if self.left is not None and not self.filter and self.id is None:
            self.scan = replace(self.scan, count=min(self.scan.count, max(self.left, 1)))

    @property
    def done(self) -> bool:
        """Whether there is nothing more to give."""
        return not (self.rows or self._more) or (self.left is not None and self.left <= 0)

    def add(self, rows: Sequence[Row]) -> None:
        """The answer to the scan; the next one is for what comes after it."""
        self.rows = rows
        self._more = len(rows) == self.scan.count
        if self._more:
            self.scan = replace(self.scan, below=rows[-1].place)

    def page(self) -> Sequence[Row]:
        """The rows to read next."""
        page, self.rows = self.rows[:PAGE], self.rows[PAGE:]
        return page

    def give(self, count: int) -> None:
        """So many checkpoints are given to the caller."""
        if self.left is not None:
            self.left -= count
