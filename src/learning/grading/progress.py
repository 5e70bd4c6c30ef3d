"""The progress of a batch on a terminal: how much is done, and what is being judged."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .batch import Watch

SHOWN = 3
"""How many of those that are being judged fit on a line."""


@contextmanager
def progress() -> Iterator[Watch]:
    """A bar, and what to call to have it follow the batch."""
    columns = (BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        line = bar.add_task("", total=None)
        running: dict[tuple[str, int], tuple[str, float]] = {}

        def watch(learner: str, lesson: int, task: str, done: int, of: int) -> None:
            if task:
                running[learner, lesson] = task, monotonic()
            else:
                running.pop((learner, lesson), None)
            oldest = sorted(running.items(), key=lambda item: item[1][1])[:SHOWN]
            shown = ", ".join(f"{learner}: {task}" for (learner, _), (task, _) in oldest)
            shown = shown.encode(errors="replace").decode()
            bar.update(line, completed=done, total=of, description=shown + (" …" if len(running) > SHOWN else ""))

        yield watch
