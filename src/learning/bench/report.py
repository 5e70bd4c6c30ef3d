"""What the measurements say: a table for each question, and a plot."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from .contenders import CONTENDERS, POOL
from .measure import OPERATIONS

TITLES = {each.name: each.title for each in CONTENDERS}

WHAT = {
    "put": "store a checkpoint",
    "put_writes": "store what a task wrote, one message",
    "get_tuple": "read the newest checkpoint",
    "list": "read the newest ten checkpoints",
}


def tables(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The tables: each with a title, a sentence on what is compared, columns, and a row of numbers for each saver."""
    plan = result["plan"]
    found = [_stored(result)]
    for operation in OPERATIONS:
        found.append(_times(result, operation))
    trips = lambda saver: [saver["trips"][operation] for operation in OPERATIONS]  # noqa: E731
    found.append(
        {
            "title": "Round trips",
            "about": "How often each operation waits for an answer of the server, counted by a proxy before it (for S3: "
            "HTTP requests).",
            "columns": list(OPERATIONS),
            "rows": {name: trips(saver) for name, saver in result["savers"].items() if "trips" in saver},
        }
    )
    found.append(
        _compared(
            result,
            "puts_per_second",
            f"{POOL} threads on a pool of {POOL}",
            f"Puts in a second, where each thread puts the {plan['each']} checkpoints of a conversation of its own; "
            "the median of the rounds. The ratio is to PostgresSaver on a pool of as many connections.",
            lambda rates: median(rates),
            "puts/s",
        )
    )
    found.append(
        _compared(
            result,
            "agent_seconds",
            "A whole agent run",
            "The course's support agent in a conversation of five requests, one of which a person has to approve: "
            f"milliseconds in all, the median of the rounds. {YARDSTICK}",
            lambda seconds: median(seconds) * 1e3,
            "ms",
        )
    )
    return [table for table in found if table["rows"]]
