"""What a learner starts from: an answer cell without its solution, and whether anybody has begun yet."""

import json
import re
from pathlib import Path
from typing import Any

from .reading import asked_for
from .tasks import Task

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
UNWRITTEN = re.compile(r"^[ \t]*(raise NotImplementedError[ \t]*(#.*)?|-- \w+: your SQL here)$", re.MULTILINE)
"""The line that a learner has yet to replace."""

REGION = re.compile(rf"^([ \t]*)(-- )?{BEGIN}\n(.*?)^[ \t]*(?:-- )?{END}[ \t]*$", re.DOTALL | re.MULTILINE)
"""What a learner writes. In the text of an SQL script the two markers are comments of SQL."""


def starter_source(source: str, task: str) -> str:
    """An answer cell as a learner gets it: in place of each solution region a line that raises, or a comment of SQL."""

    def line(region: re.Match[str]) -> str:
        return region[1] + (
            f"-- {task}: your SQL here" if region[2] else f"raise NotImplementedError  # {task}: your code here"
        )

    return REGION.sub(line, source)


def untouched(notebook: Path, master: Path) -> bool:
    """Whether no answer in `notebook` differs from the starter that `master` gives."""
    try:
        theirs, ours = (json.loads(path.read_text(encoding="utf-8"))["cells"] for path in (notebook, master))
        answers = {cell["metadata"]["learning"]["task"]: cell for cell in ours if has_tag(cell, "answer")}
        begun = {cell["metadata"]["learning"]["task"]: _code(cell) for cell in theirs if has_tag(cell, "answer")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return not notebook.exists()
    starters = {task: _normal(starter_source(_code(cell), task)) for task, cell in answers.items()}
    return starters == {task: _normal(source) for task, source in begun.items()}


def written_answer(notebook: bytes, task: Task) -> str:
    """The cells of a notebook that define what a task asks for. Empty if nobody has written an answer there."""
    names = "|".join(asked_for(task)) or "(?!)"
    defines = re.compile(rf"^[ \t]*(?:class|(?:async[ \t]+)?def)[ \t]+({names})\b|^({names})[ \t]*=", re.MULTILINE)
    try:
        cells = [code_of(cell) for cell in json.loads(notebook.decode("utf-8-sig"))["cells"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return "\n\n".join(cell for cell in cells if defines.search(cell) and not UNWRITTEN.search(cell))


def checked_task(source: str) -> str:
    """The task that a check cell checks, or an empty string for any other cell."""
    found = re.fullmatch(r"""\s*check\(\s*["'](\w+)["']\s*\)\s*""", source)
    return found[1] if found else ""


def has_tag(cell: dict, tag: str) -> bool:
    """Whether a cell of a notebook has this tag."""
    return tag in cell["metadata"].get("tags", [])


def code_of(cell: Any) -> str:
    """The source of a code cell, however a notebook is broken: empty where there is none."""
    source = cell.get("source") if isinstance(cell, dict) and cell.get("cell_type") == "code" else None
    lines = source if isinstance(source, list) else [source]
    return "".join(line for line in lines if isinstance(line, str))


def _code(cell: dict) -> str:
    return "".join(cell["source"])


def _normal(source: str) -> list[str]:
    return [line.rstrip() for line in source.strip().splitlines()]
