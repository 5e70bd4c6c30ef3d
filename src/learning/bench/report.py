"""What the measurements say: a table for each question, a file with all numbers, and a plot."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from operator import itemgetter
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
    "put_writes": "store what a task wrote (one message),",
    "get_tuple": "read the newest checkpoint",
    "list": "read the newest ten checkpoints",
}

RATIO = "A ratio is to the first line of the same group; a cluster is set beside one Redis."


@dataclass(frozen=True)
class Column:
    """A column of numbers, each made of what was measured of one saver; `compared`, with their ratios in one more."""

    title: str
    value: Any
    digits: int = 2
    compared: bool = False


def tables(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The tables: each with a sentence on what is compared with what, and a row of numbers for each saver."""
    plan = result["plan"]
    made = [
        _table(
            result,
            "stored",
            "Bytes stored",
            "What a storage holds of one conversation after so many supersteps, and how many times its messages "
            "serialised once. MB is, in memory: all bytes and texts held; files and SQLite: file sizes; PostgreSQL: "
            "pg_column_size of all rows, compressed; Redis: MEMORY USAGE of all keys; S3: object sizes. "
            f"On disk: pg_total_relation_size, with indexes. {RATIO}",
            [column for size in plan["sizes"][1:] for column in _bytes(result, str(size))],
        )
    ]
    for operation in OPERATIONS:
        about = f"Milliseconds to {WHAT[operation]} at so many messages, garbage collection apart. {RATIO}"
        columns = [column for size in plan["sizes"] for column in _times(operation, str(size))]
        made.append(_table(result, "seconds", f"{operation}: p50 and p95", about, columns))
    made += [
        _table(
            result,
            "trips",
            "Round trips",
            "How often an operation waits for an answer of the server, counted by a proxy before it; for S3, requests. "
            "The median of five, in a conversation that has begun.",
            [Column(operation, lambda saver, of=operation: saver["trips"][of], 0) for operation in OPERATIONS],
        ),
        _table(
            result,
            "puts_per_second",
            f"{POOL} threads on a pool of {POOL}",
            f"Each thread puts the {plan['each']} checkpoints of its own conversation of {plan['each']} messages. "
            f"More is better. {RATIO}",
            [Column("puts/s", lambda saver: median(saver["puts_per_second"]), 0, compared=True)],
        ),
        _table(
            result,
            "agent_seconds",
            "A whole agent run",
            f"Milliseconds of five requests to the course's support agent, with a subgraph and an approval. {RATIO}",
            [Column("p50", lambda saver: median(saver["agent_seconds"]) * 1e3, 1, compared=True)],
        ),
    ]
    return [table for table in made if table["rows"]]


def _bytes(result: dict[str, Any], size: str) -> Iterator[Column]:
    unique = result["unique_bytes"][size]
    yield Column(f"{size}\nMB", lambda saver: saver["stored"][size][0] / 1e6)
    yield Column(f"{size}\ntimes", lambda saver: saver["stored"][size][0] / unique, compared=True)
    on_disk = itemgetter(1)
    yield Column(
        f"{size}\non disk",
        lambda saver: on_disk(saver["stored"][size]) and on_disk(saver["stored"][size]) / 1e6,
        compared=True,
    )


def _times(operation: str, size: str) -> Iterator[Column]:
    def taken(saver: dict[str, Any]) -> list[float]:
        return [1e3 * seconds for seconds in saver["seconds"][size][operation]]

    yield Column(f"{size}\np50", lambda saver: median(taken(saver)), compared=True)
    yield Column(f"{size}\np95", lambda saver: percentile(taken(saver), 95))


def percentile(values: list[float], percent: int) -> float:
    """The least of the values that is not less than so many of a hundred of them."""
    return sorted(values)[ceil(len(values) * percent / 100) - 1]


def _table(result: dict[str, Any], measured: str, title: str, about: str, columns: list[Column]) -> dict[str, Any]:
    savers = {name: saver for name, saver in result["savers"].items() if measured in saver}
    yardsticks: dict[str, dict[str, Any]] = {}
    for saver in savers.values():
        if not saver["ours"]:
            yardsticks.setdefault(saver["group"], saver)
    heads: list[tuple[str, int]] = []
    rows: dict[str, list[float | None]] = {name: [] for name in savers}
    for column in columns:
        if all(column.value(saver) is None for saver in savers.values()):
            continue
        heads += [(column.title, column.digits)] + [("ratio", 2)] * column.compared
        for name, saver in savers.items():
            value = column.value(saver)
            rows[name].append(value)
            if column.compared:
                yardstick = yardsticks.get(saver["group"])
                than = column.value(yardstick) if yardstick else None
                rows[name].append(value / than if value is not None and than else None)
    return {"title": title, "about": about, "columns": heads, "rows": rows}


def show(result: dict[str, Any], console: Console) -> None:
    """Print the tables, and who is left out of them."""
    machine = result["machine"]
    console.print(
        f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_at_the_start'][0]:.1f} at the start"
    )
    for name, why in result["left_out"].items():
        console.print(f"Left out: {TITLES[name]}: {why}", markup=False)
    for table in result["tables"]:
        console.print(f"\n[bold]{table['title']}[/]\n{table['about']}", highlight=False)
        shown = Table("", box=None, pad_edge=False, header_style="dim")
        shown.columns[0].no_wrap = True
        sized = any("\n" in title for title, _ in table["columns"])
        for title, _ in table["columns"]:
            shown.add_column(f"\n{title}" if sized and "\n" not in title else title, justify="right")
        group = None
        for name, values in table["rows"].items():
            saver = result["savers"][name]
            if group not in (None, saver["group"]):
                shown.add_row()
            group = saver["group"]
            digits = [digits for _, digits in table["columns"]]
            shown.add_row(TITLES[name], *map(written, values, digits), style="bold" if saver["ours"] else "")
        console.print(shown)


def written(value: float | None, digits: int) -> str:
    """A number as tables have it: with so many digits after the point, and one more if it is small."""
    return "—" if value is None else f"{value:,.{digits + (0 < value < 0.1)}f}"


def save(result: dict[str, Any], folder: Path) -> None:
    """Write `benchmarks.md` with the tables, `bench-savers.png`, and `bench-savers.json` with all numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench-savers.json").write_text(json.dumps(result, indent=1))
    _plot(result, folder / "bench-savers.png")
    (folder / "benchmarks.md").write_text(as_markdown(result), encoding="utf-8")


def as_markdown(result: dict[str, Any]) -> str:
    """The tables as a page, with the machine, the servers and the versions they were measured with."""
    machine = result["machine"]
    used = [f"{name} {release}" for name, release in machine["packages"].items() if release]
    lines = [
        "# The savers, measured",
        "",
        f"Written by `learning bench savers` on {machine['cpu']}, {machine['cores']} cores, {machine['system']}, "
        f"Python {machine['python']}, load {machine['load_at_the_start'][0]:.1f} at the start and "
        f"{machine['load_at_the_end'][0]:.1f} at the end. Servers: {', '.join(machine['servers'].values())}. "
        f"Packages: {', '.join(used)}. The savers take turns, so that what else the machine does hits all alike.",
        "",
        "![How often each saver stores a message](bench-savers.png)",
    ]
    lines += [f"\nLeft out: {TITLES[name]}: {why}" for name, why in result["left_out"].items()]
    for table in result["tables"]:
        heads = [title.replace("\n", " ") for title, _ in table["columns"]]
        lines += ["", f"## {table['title']}", "", table["about"], ""]
        lines += [f"| | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
        for name, values in table["rows"].items():
            title = f"**{TITLES[name]}**" if result["savers"][name]["ours"] else TITLES[name]
            cells = [written(value, digits) for value, (_, digits) in zip(values, table["columns"], strict=True)]
            lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _plot(result: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    last: dict[bool, dict[Any, float]] = {True: {}, False: {}}
    for marker, (name, saver) in zip("os^Dv<>Pp*hX8", result["savers"].items(), strict=False):
        points = [int(point) for point in saver["stored"]]
        times = [stored / result["unique_bytes"][point] for point, (stored, _) in saver["stored"].items()]
        how = {"color": "black", "linewidth": 2} if saver["ours"] else {"color": "0.55", "linestyle": "--"}
        (line,) = axes.plot(points, times, marker=marker, markersize=5, label=TITLES[name], **how)
        last[saver["ours"]][line] = times[-1]
    ranges = [
        f"{who} {min(each.values()):.3g} to {max(each.values()):.3g}"
        for who, each in (("others", last[False]), ("learning's savers", last[True]))
        if each
    ]
    axes.set(
        yscale="log",
        xlabel="supersteps, each with one message more",
        ylabel="bytes stored / bytes of the messages, serialised once",
        title=f"After {points[-1]} supersteps, times that each message is stored:\n{'; '.join(ranges)}",
    )
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(axis="y", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    ends = last[False] | last[True]
    lines = sorted(ends, key=lambda line: ends[line], reverse=True)
    figure.legend(handles=lines, loc="outside right center", frameon=False)
    figure.savefig(path, dpi=150)
