"""What agents did, read from their checkpoints: sessions, step times and interrupts as tables, CSV files and plots."""

import csv
import io
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from matplotlib.figure import Figure

from learning import atomic


@dataclass(frozen=True)
class Activity:
    """Tables of what happened on some days of UTC. Each is a list of rows, dicts with the same keys.

    Attributes:
        sessions: tenant, day, sessions (conversations with a checkpoint on that day), checkpoints.
        step_times: tenant, node, steps, p50, p95 (seconds from one checkpoint to the next, waits for people left out).
        interrupts: tenant, interrupts, resumed, median (seconds until a person's answer, or None).
    """

    sessions: list[dict[str, Any]]
    step_times: list[dict[str, Any]]
    interrupts: list[dict[str, Any]]

    def save(self, folder: Path) -> list[Path]:
        """Write each table as a CSV file, and a plot of all of them; return the files. Each is replaced whole."""
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for table in fields(self):
            rows = getattr(self, table.name)
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, COLUMNS[table.name])
            writer.writeheader()
            writer.writerows(rows)
            written.append(folder / f"{table.name}.csv")
            atomic.write(written[-1], text.getvalue().encode())
        self.plot().savefig(folder / "report.png", dpi=120)
        return [*written, folder / "report.png"]

    def plot(self) -> Figure:
        """Sessions a day, and how long the steps of each node take."""
        figure = Figure(figsize=(10, 3.5), layout="constrained")
        left, right = figure.subplots(1, 2)
        for place, tenant in enumerate(dict.fromkeys(row["tenant"] for row in self.sessions)):
            rows = [row for row in self.sessions if row["tenant"] == tenant]
            days, counts = [row["day"] for row in rows], [row["sessions"] for row in rows]
            left.plot(days, counts, marker="os^Dv"[place % 5], color="black", label=tenant or "all")
        left.set(title="Sessions a day", ylim=(0, None))
        left.tick_params(axis="x", rotation=45)
        left.legend()
        names = [" ".join(filter(None, (row["tenant"], row["node"]))) for row in self.step_times]
        right.barh(names, [row["p95"] for row in self.step_times], color="lightgrey", label="p95")
        right.barh(names, [row["p50"] for row in self.step_times], height=0.4, color="black", label="p50")
        right.set(title="Seconds a step takes")
        right.legend()
        return figure


COLUMNS = {
    "sessions": ["tenant", "day", "sessions", "checkpoints"],
    "step_times": ["tenant", "node", "steps", "p50", "p95"],
    "interrupts": ["tenant", "interrupts", "resumed", "median"],
}


def activity(savers: Mapping[str, BaseCheckpointSaver], first: date, last: date) -> Activity:
    """What happened from `first` to `last`, for each tenant's saver; days and tenants without anything are in it too.

    All checkpoints of a saver are read, one after the other: for a large store, run it where the store is idle.
    """
    report = Activity([], [], [])
    for tenant, saver in savers.items():
        threads: dict[date, set[str]] = defaultdict(set)
        checkpoints: dict[date, int] = defaultdict(int)
        times: dict[str, list[float]] = defaultdict(list)
        interrupts, waits = 0, []
        for found, parent, answered in _with_parents(saver):
            day = _time(found).date()
            if not first <= day <= last:
                continue
            threads[day].add(found.config["configurable"]["thread_id"])
            checkpoints[day] += 1
            if parent and found.metadata.get("source") == "loop" and not _interrupted(parent):
                for node in _nodes(parent, found):
                    times[node].append((_time(found) - _time(parent)).total_seconds())
            if _interrupted(found):
                interrupts += 1
                waits += [(_time(answered) - _time(found)).total_seconds()] if answered else []
        for number in range((last - first).days + 1):
            day = first + timedelta(days=number)
            report.sessions.append(_row("sessions", tenant, day, len(threads[day]), checkpoints[day]))
        for node, seconds in sorted(times.items()):
            p50, p95 = (float(value) for value in numpy.percentile(seconds, [50, 95]))
            report.step_times.append(_row("step_times", tenant, node, len(seconds), p50, p95))
        median = statistics.median(waits) if waits else None
        report.interrupts.append(_row("interrupts", tenant, interrupts, len(waits), median))
    return report


def _row(table: str, *values: Any) -> dict[str, Any]:
    return dict(zip(COLUMNS[table], values, strict=True))


Found = tuple[CheckpointTuple, CheckpointTuple | None, CheckpointTuple | None]


def _with_parents(saver: BaseCheckpointSaver) -> Iterator[Found]:
    """Each checkpoint of a conversation itself (no subgraph's), its parent, and the one after a person's answer."""
    conversations: dict[str, dict[str, CheckpointTuple]] = defaultdict(dict)
    for found in saver.list(None):
        named = found.config["configurable"]
        if not named.get("checkpoint_ns"):
            slim = found.checkpoint | {"channel_values": {}}  # the values are the bulk of it, and nobody looks at them
            conversations[named["thread_id"]][named["checkpoint_id"]] = found._replace(checkpoint=slim)
    for checkpoints in conversations.values():
        answers: dict[str, CheckpointTuple] = {}
        parents = {}
        for id, found in sorted(checkpoints.items()):
            above = found.parent_config["configurable"].get("checkpoint_id", "") if found.parent_config else ""
            parents[id] = parent = checkpoints.get(above)
            if parent and found.metadata.get("source") == "loop" and _resumed(parent):
                answers.setdefault(above, found)
        for id, found in checkpoints.items():
            yield found, parents[id], answers.get(id)


def _channels(found: CheckpointTuple) -> set[str]:
    return {channel for _, channel, _ in found.pending_writes or ()}


def _interrupted(found: CheckpointTuple) -> bool:
    return "__interrupt__" in _channels(found)


def _resumed(found: CheckpointTuple) -> bool:
    return {"__interrupt__", "__resume__"} <= _channels(found)


def _nodes(parent: CheckpointTuple, found: CheckpointTuple) -> list[str]:
    """The nodes that ran between two checkpoints: they have seen other versions of their channels since."""
    before, after = parent.checkpoint["versions_seen"], found.checkpoint["versions_seen"]
    return [name for name in after if not name.startswith("__") and after[name] != before.get(name)]


def _time(found: CheckpointTuple) -> datetime:
    return datetime.fromisoformat(found.checkpoint["ts"]).astimezone(UTC)
