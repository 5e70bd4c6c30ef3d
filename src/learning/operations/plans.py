"""PostgreSQL's plans, read out in words and drawn: which rows a query touches, and how it finds them."""

from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
from matplotlib.axes import Axes


class Plan:
    """What PostgreSQL did for a query: a tree of nodes, each of which hands its rows to the one above it.

    Attributes:
        milliseconds: how long it took, planning left out.
        rows_read: how many rows of tables it touched, those included that it then left out.
        entries_read: how many entries of indexes it listed before it touched a table.
        pages_read: how many pages of 8 KB it looked at, of tables and indexes, in memory or on disk.
    """

    def __init__(self, explained: dict[str, Any]):
        self._top = explained["Plan"]
        self.milliseconds: float = explained["Execution Time"]
        self.pages_read: int = self._top["Shared Hit Blocks"] + self._top["Shared Read Blocks"]
        self.rows_read = sum(_read(node) for _, node in self._nodes() if "Relation Name" in node)
        self.entries_read = sum(_read(node) for _, node in self._nodes() if _lists(node))

    def __str__(self) -> str:
        rows = f"{self.rows_read:,} rows" + (f" ({self.entries_read:,} index entries)" if self.entries_read else "")
        lines = [f"{self.milliseconds:.2f} ms, {rows} and {self.pages_read:,} pages read"]
        lines += [f"{'  ' * depth}- {_in_words(node)}" for depth, node in self._nodes()]
        return "\n".join(lines)

    def draw(self, axes: Axes, title: str) -> None:
        """A box for each node, the last one on top, and on each arrow how many rows went up."""
        nodes = list(self._nodes())
        for place, (_, node) in enumerate(nodes):
            style = {"boxstyle": "round", "facecolor": "lightgrey" if _reads(node) else "white"}
            axes.text(
                0.5, -place, _in_words(node).replace(", ", "\n"), ha="center", va="center", fontsize=8, bbox=style
            )
            rows = int(node["Actual Rows"] * node["Actual Loops"])
            axes.annotate("", (0.5, 0.7 - place), (0.5, 0.3 - place), arrowprops={"arrowstyle": "->"})
            axes.text(0.53, 0.5 - place, f"{rows:,} rows", va="center", fontsize=8)
        axes.set(xlim=(0, 1), ylim=(-len(nodes) + 0.4, 1), title=f"{title}: {self.milliseconds:.1f} ms")
        axes.axis("off")

    def _nodes(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each node with its depth, the top first."""
        waiting = [(0, self._top)]
        while waiting:
            depth, node = waiting.pop()
            yield depth, node
            waiting += [(depth + 1, below) for below in reversed(node.get("Plans", []))]


def explain(connection: psycopg.Connection, query: str, parameters: Sequence[Any] = ()) -> Plan:
    """Run a query and return its plan. An INSERT, an UPDATE or a DELETE is done, too."""
    statement = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + query
    ((explained,),) = connection.execute(statement, parameters or None)
    return Plan(explained[0])


def _reads(node: dict[str, Any]) -> bool:
    return "Relation Name" in node or _lists(node)


def _lists(node: dict[str, Any]) -> bool:
    return "Index Name" in node and "Relation Name" not in node


def _read(node: dict[str, Any]) -> int:
    left_out = sum(value for name, value in node.items() if name.startswith("Rows Removed"))
    return int((node["Actual Rows"] + left_out) * node["Actual Loops"])


def _in_words(node: dict[str, Any]) -> str:
    if not _reads(node):
        return node["Node Type"]
    name = node.get("Index Name") or node["Relation Name"]
    found = node.get("Index Cond") or node.get("Recheck Cond")
    how = f", found by {found}" if found else ", from the first to the last" if "Seq" in node["Node Type"] else ""
    left_out = sum(value for key, value in node.items() if key.startswith("Rows Removed"))
    dropped = f", {left_out:,.0f} of them left out" if left_out else ""
    return f"{node['Node Type']} of {name}{how}, {_read(node):,} {'entries' if _lists(node) else 'rows'} read{dropped}"
