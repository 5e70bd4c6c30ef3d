"""Which answers are alike, whatever their names, texts and comments: a reason for a person to look, not a verdict."""

import builtins
import difflib
import io
import keyword
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations, zip_longest
from typing import TYPE_CHECKING

from learning.course.starters import written_answer
from learning.course.tasks import ROOT, TASKS, Task

if TYPE_CHECKING:
    from .batch import Graded

LENGTH = 8
"""How many tokens in a row are compared."""

ALIKE = 0.8
"""The share of the shorter answer that has to be in the other one too."""

ENOUGH = 30
"""How many rows of tokens of its own an answer needs, so that to be alike means something."""

COMMON = 0.25
"""What more than this part of the class has, and at least `FEW` learners, is no sign of anything."""

FEW = 5

SHOWN = 1000
"""How many lines of an answer are shown beside another."""

SKIPPED = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING}
SKIPPED |= {tokenize.ENDMARKER}


@dataclass(frozen=True)
class Pair:
    """Two answers to a task that are alike: whose, how much of the shorter one is in both, and where they are shown."""

    task: str
    one: str
    other: str
    share: float
    sources: tuple[str, str]
    page: str


def similar_answers(graded: "list[Graded]") -> list[Pair]:
    """The pairs of answers in a class that are alike, the most alike first."""
    found: list[tuple[Task, str, str, str, str, float]] = []
    for task in TASKS.values():
        sources = {}
        for learner in graded:
            for name, content in learner.files.get(task.lesson, {}).items():
                if name.endswith(".ipynb") and (source := written_answer(content, task)):
                    sources[learner.learner] = source
        if len(sources) > 1:
            found += _alike(task, sources)
    found.sort(key=lambda pair: -pair[-1])
    return [
        Pair(task.name, one, other, share, (first, second), f"similar/{number}-{task.name}.html")
        for number, (task, one, other, first, second, share) in enumerate(found, start=1)
    ]


def similarity_page(pair: Pair) -> str:
    """Two answers side by side."""
    from .pages import render

    rows = _side_by_side(*(source.splitlines()[:SHOWN] for source in pair.sources))
    return render("similar.html", title=f"{pair.one} and {pair.other}", pair=pair, rows=rows)


def rows_of_tokens(source: str) -> set[tuple[str, ...]]:
    """What is compared of an answer: each row of tokens, without its names, texts, numbers and comments."""
    tokens = list(_tokens(source))
    return {tuple(tokens[start : start + LENGTH]) for start in range(len(tokens) - LENGTH + 1)}


def _side_by_side(one: list[str], other: list[str]) -> Iterator[tuple[bool, str, str]]:
    """Whether two lines differ, and the lines; one is empty where nothing is like the other."""
    for kind, start, end, other_start, other_end in difflib.SequenceMatcher(None, one, other).get_opcodes():
        for pair in zip_longest(one[start:end], other[other_start:other_end], fillvalue=""):
            yield kind != "equal", *pair


def _alike(task: Task, sources: dict[str, str]) -> Iterable[tuple[Task, str, str, str, str, float]]:
    rows = {learner: rows_of_tokens(source) for learner, source in sources.items()}
    having = Counter(row for each in rows.values() for row in each)
    common = {row for row, count in having.items() if count >= max(FEW, COMMON * len(sources))}
    worked = _worked(task)
    own = {learner: each - common - worked for learner, each in rows.items()}
    for one, other in combinations(sorted(own), 2):
        shorter = min(len(own[one]), len(own[other]))
        if shorter >= ENOUGH and (share := len(own[one] & own[other]) / shorter) >= ALIKE:
            yield task, one, other, sources[one], sources[other], share


def _worked(task: Task) -> set[tuple[str, ...]]:
    """What the published worked answer has, and the starter with it: everybody may know that."""
    path = ROOT / "solutions" / task.notebook
    return rows_of_tokens(written_answer(path.read_bytes(), task)) if path.exists() else set()


def _tokens(source: str) -> Iterable[str]:
    before = ""
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type in SKIPPED:
                continue
            text = token.string
            if token.type == tokenize.NAME and not keyword.iskeyword(text):
                text = text if before == "." or hasattr(builtins, text) else "name"
            elif token.type in (tokenize.STRING, tokenize.NUMBER):
                text = tokenize.tok_name[token.type]
            before = token.string
            yield text
    except (tokenize.TokenError, SyntaxError):  # as far as it goes
        return
