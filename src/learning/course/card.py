"""The check card: a verdict as a learner reads it, in a notebook, on an exported page and in a terminal."""

import html
import re
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, replace
from typing import Any

from .look import COLOURS, MARKS, NO_MATHS, bar, block, prose, style
from .tasks import TASKS
from .verdict import Behaviour, Verdict

MIME = "application/vnd.learning.check+json"
"""The type under which a notebook keeps the verdict itself, for whoever reads notebooks by program."""

MOST_CHARACTERS = 600
MOST_LINES = 16
_LABELS = {"expected": "Expected", "came": "Came", "idea": "Why", "where": "Where"}

_TERMINAL_CODE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-_])")


@dataclass(frozen=True)
class Progress:
    """How far along a learner is, seen from one task."""

    lesson_passed: int
    lesson_tasks: int
    course_passed: int
    course_tasks: int
    next_task: str | None
    """The task to go on with: the first unsolved one after this, or else the first unsolved one before it."""
    next_notebook: str | None

    @classmethod
    def after(cls, name: str, solved: AbstractSet[str]) -> "Progress":
        """The progress of who has solved the tasks `solved` and has just checked the task `name`."""
        names = list(TASKS)
        here = names.index(name)
        lesson = [each for each in names if TASKS[each].lesson == TASKS[name].lesson]
        waiting = (each for each in names[here + 1 :] + names[:here] if each not in solved and TASKS[each].available)
        next_task = next(waiting, None)
        return cls(
            lesson_passed=len(solved & set(lesson)),
            lesson_tasks=len(lesson),
            course_passed=len(solved & TASKS.keys()),
            course_tasks=len(names),
            next_task=next_task,
            next_notebook=TASKS[next_task].notebook if next_task else None,
        )


@dataclass(frozen=True)
class Card:
    """What a check cell shows: a verdict, and how far along the learner is. Notebooks and IPython know how to show it.

    Args:
        verdict: on one task of the course.
        solved: the names of the tasks that the learner has solved so far.
    """

    verdict: Verdict
    solved: AbstractSet[str]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        verdict, progress = _tidy(self.verdict), Progress.after(self.verdict.task, self.solved)
        return {
            "text/html": _as_html(verdict, progress),
            "text/plain": _as_text(verdict, progress),
            MIME: {**verdict.to_json(), "progress": asdict(progress)},
        }


# --- what is said, whatever the form ----------------------------------------------------------------------------------


def _headline(verdict: Verdict) -> str:
    if verdict.outcome == "not attempted":
        return "not attempted yet"
    if verdict.outcome != "failed":
        return verdict.outcome
    judged = any(each.outcome in ("passed", "failed") for each in verdict.behaviours)
    if judged and verdict.share < 1:
        return f"{verdict.passed} of {len(verdict.behaviours)} hold"
    return "not passed"


def _opening(verdict: Verdict) -> str:
    """A sentence under the headline, if there is something to say that the list does not."""
    if verdict.outcome == "passed":
        return "Well done: every behaviour holds."
    if verdict.outcome == "not attempted":
        _, _, reason = verdict.reason.partition(": ")
        told = f" ({reason})" if reason and not reason.startswith("open ") else ""  # it is open
        return f"Write the answer, run its cell, and check again{told}."
    return verdict.reason if verdict.outcome == "not judged" else ""


def _report(verdict: Verdict) -> str:
    """Why a task failed as a whole: words of Python's own, to be shown as they stand."""
    return verdict.reason if verdict.outcome == "failed" else ""


def _heading(verdict: Verdict) -> str:
    """What the list is, where it has nothing to report yet."""
    nothing_judged = all(MARKS[each.outcome] == "○" for each in verdict.behaviours)
    return "What it needs to do:" if verdict.behaviours and nothing_judged else ""


def _misses(behaviours: list[Behaviour]) -> Iterator[tuple[Behaviour, dict[str, str]]]:
    """Each behaviour with what to say under it, by label. What the miss before it has said is not said again."""
    before = Behaviour("", "failed")
    for behaviour in behaviours:
        if behaviour.outcome != "failed":
            yield behaviour, {}
            continue
        brief = behaviour
        if behaviour.idea and behaviour.idea == before.idea:
            brief = replace(
                behaviour, idea="as above", where="" if behaviour.where == before.where else behaviour.where
            )
        yield behaviour, {label: text for field, label in _LABELS.items() if (text := getattr(brief, field))}
        before = behaviour


def _standing(progress: Progress) -> str:
    return (
        f"{progress.lesson_passed} of {progress.lesson_tasks} tasks in this lesson, "
        f"{progress.course_passed} of {progress.course_tasks} in the course"
    )


def _onward(verdict: Verdict, progress: Progress) -> tuple[str, str, str]:
    """Where to go on: words, a task's name, words."""
    passed = verdict.outcome == "passed"
    if progress.next_task is None:
        return (_last(), "", "") if passed else ("", "", "")
    here = progress.next_notebook == TASKS[verdict.task].notebook
    place = "this notebook" if here else progress.next_notebook
    return "Next task: " if passed else "After this one: ", progress.next_task, f", in {place}"


def _last() -> str:
    return (
        "That was the last one: the course is complete."
        if all(task.available for task in TASKS.values())
        else "All tasks that are here are solved. The next lessons are in preparation."
    )


# --- HTML -------------------------------------------------------------------------------------------------------------


def _as_html(verdict: Verdict, progress: Progress) -> str:
    colour = COLOURS[verdict.outcome]
    badge = html.escape(f"{MARKS[verdict.outcome]} {_headline(verdict)}")
    title = f"<strong {style('title')}>{html.escape(verdict.task)}</strong>"
    parts = [
        f"<div {style('head')}>{title} <span {style('badge', f'background-color:{colour}')}>{badge}</span></div>",
        _html_line(_opening(verdict)),
        f"<pre {style('code', 'margin-top:8px')}>{html.escape(_report(verdict))}</pre>" if _report(verdict) else "",
        _html_line(_heading(verdict)),
        _html_list(verdict.behaviours),
        _html_foot(verdict, progress),
    ]
    inside = "\n".join(part for part in parts if part)
    return f'<div class="{NO_MATHS}" {style("card", f"border-left-color:{colour}")}>\n{inside}\n</div>'


def _html_list(behaviours: list[Behaviour]) -> str:
    if not behaviours:
        return ""
    items = "\n".join(_html_item(behaviour, told) for behaviour, told in _misses(behaviours))
    return f"<ul {style('list')}>\n{items}\n</ul>"


def _html_item(behaviour: Behaviour, told: dict[str, str]) -> str:
    mark = MARKS[behaviour.outcome]
    look = f"color:#ffffff;background-color:{COLOURS[behaviour.outcome]}" if mark != "○" else ""
    rows = "".join(
        f"\n<div {style('row')}><span {style('label')}>{label}</span> {_html_told(label, text)}</div>"
        for label, text in told.items()
    )
    name = html.escape(behaviour.name)
    said = (
        f"<div {style('missed')}><strong>{name}</strong>{rows}</div>"
        if rows
        else f"<span {style('said')}>{name}</span>"
    )
    return f'<li {style("item")}><span title="{behaviour.outcome}" {style("mark", look)}>{mark}</span> {said}</li>'


def _html_told(label: str, text: str) -> str:
    if label == "Why":
        return f"<span {style('told')}>{prose(text)}</span>"
    return f"<div {style('told')}><code {style('code')}>{html.escape(text)}</code></div>"


def _html_line(sentence: str) -> str:
    return f"<div {style('line')}>{prose(sentence)}</div>" if sentence else ""


def _html_foot(verdict: Verdict, progress: Progress) -> str:
    before, task, after = _onward(verdict, progress)
    name = f"<strong>{task}</strong>" if task else ""
    done = bar(progress.lesson_passed, progress.lesson_tasks)
    onward = f"\n<div {style('line')}>{before}{name}{after}</div>" if before else ""
    return f"<div {style('foot')}>{done} <span>{_standing(progress)}</span></div>{onward}"


# --- plain text -------------------------------------------------------------------------------------------------------


def _as_text(verdict: Verdict, progress: Progress) -> str:
    blocks = [block(f"{verdict.task}: {_headline(verdict)}", f"{MARKS[verdict.outcome]} ")]
    blocks += [block(text, "  ") for text in (_opening(verdict), _report(verdict), _heading(verdict)) if text]
    if verdict.behaviours:
        blocks.append("\n".join(_text_item(behaviour, told) for behaviour, told in _misses(verdict.behaviours)))
    foot = [_standing(progress), "".join(_onward(verdict, progress))]
    return "\n\n".join([*blocks, "\n".join(block(text, "  ") for text in foot if text)])


def _text_item(behaviour: Behaviour, told: dict[str, str]) -> str:
    rows = [block(text, f"      {label.lower():<8}  ") for label, text in told.items()]
    return "\n".join([block(behaviour.name, f"  {MARKS[behaviour.outcome]} "), *rows])


# --- a learner's text, made harmless ----------------------------------------------------------------------------------


def _tidy(verdict: Verdict) -> Verdict:
    behaviours = []
    for each in verdict.behaviours:
        told: dict[str, Any] = {key: _printable(text) for key, text in asdict(each).items()}
        behaviours.append(Behaviour(**told))
    return replace(verdict, reason=_printable(verdict.reason), behaviours=behaviours)


def _printable(text: str) -> str:
    """Text without terminal codes, cut in the middle where it is long; what cannot be shown is spelt out: `\\x00`."""
    text = _TERMINAL_CODE.sub("", text).replace("\r\n", "\n").replace("\r", "\n").expandtabs(4).rstrip()
    text = _without_middle(text, "", MOST_CHARACTERS, "characters")
    text = _without_middle(text.split("\n"), "\n", MOST_LINES, "lines")
    return "".join(
        each if each.isprintable() or each == "\n" else each.encode("unicode_escape").decode() for each in text
    )


def _without_middle(parts: Sequence[str], joint: str, most: int, what: str) -> str:
    if len(parts) <= most:
        return joint.join(parts)
    head, tail = parts[: most * 3 // 4], parts[-(most // 4) :]
    note = f" … {len(parts) - len(head) - len(tail):,} {what} left out … "
    return joint.join([*head, note, *tail])
