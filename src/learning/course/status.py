"""How far a learner is in the whole course: a card in a notebook, and the same in a terminal."""

from dataclasses import dataclass
from typing import Any

from IPython.display import display

from . import progress
from .look import MARKS, NO_MATHS, bar, block, prose, style
from .progress import Journal
from .tasks import LESSONS, TASKS, Task

_MEANINGS = {"passed": "solved", "failed": "tried, not solved yet", "not attempted": "to do"}
_LEGEND = ", ".join(f"{MARKS[outcome]} {meaning}" for outcome, meaning in _MEANINGS.items())


@dataclass(frozen=True)
class StatusCard:
    """Five lessons and their tasks, the time spent, and what comes next. Notebooks and IPython know how to show it."""

    journal: Journal

    def __str__(self) -> str:
        return _as_text(self.journal)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": _as_html(self.journal), "text/plain": str(self)}


def status() -> None:
    """Show how far you are: what is solved, what comes next, and how long it took.

    Time counts from one cell to the next. More than 20 minutes without running one are a break, and do not count.
    """
    display(StatusCard(progress.load()))


# --- what is said, whatever the form ----------------------------------------------------------------------------------


def _headline(journal: Journal) -> str:
    return f"{len(journal.passed)} of {len(TASKS)} tasks solved, {_duration(sum(journal.seconds.values()))} spent"


def _lesson(journal: Journal, lesson: int) -> tuple[list[Task], str]:
    """The tasks of a lesson, and how far they are."""
    tasks = [task for task in TASKS.values() if task.lesson == lesson]
    solved = sum(task.name in journal.passed for task in tasks)
    return tasks, f"{solved} of {len(tasks)}, {_duration(journal.seconds[lesson])}"


def _next(journal: Journal) -> str:
    if journal.passed == TASKS.keys():
        return "All tasks are solved: the course is complete."
    waiting = next((task for task in TASKS.values() if task.available and task.name not in journal.passed), None)
    if waiting is None:
        return "All tasks that are here are solved."
    return f"Next: `{waiting.name}`, in notebooks/{waiting.notebook}"


def _outcome(journal: Journal, task: Task) -> str:
    return journal.tasks.get(task.name, "not attempted")


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


# --- the forms --------------------------------------------------------------------------------------------------------


def _as_html(journal: Journal) -> str:
    head = (
        f"<div {style('head')}><strong {style('title')}>Your progress</strong> <span>{_headline(journal)}</span></div>"
    )
    lessons = "\n".join(_html_lesson(journal, lesson) for lesson in LESSONS)
    foot = f"<div {style('foot')}>{prose(_next(journal))}</div>\n<div {style('small')}>{_LEGEND}</div>"
    return f'<div class="{NO_MATHS}" {style("card")}>\n{head}\n{lessons}\n{foot}\n</div>'


def _html_lesson(journal: Journal, lesson: int) -> str:
    tasks, standing = _lesson(journal, lesson)
    done = bar(sum(task.name in journal.passed for task in tasks), len(tasks))
    names = "".join(
        f'<span title="{_MEANINGS[_outcome(journal, task)]}">{MARKS[_outcome(journal, task)]} {task.name}</span> '
        for task in tasks
    )
    title = f"<strong {style('lesson')}>{lesson} · {LESSONS[lesson][1]}</strong>"
    return (
        f"<div {style('line')}><div {style('head')}>{title} {done} <span>{standing}</span></div>"
        f"<div {style('names')}>{names}</div></div>"
    )


def _as_text(journal: Journal) -> str:
    parts = [f"Your progress: {_headline(journal)}"]
    for lesson, (_, title) in LESSONS.items():
        tasks, standing = _lesson(journal, lesson)
        names = "  ".join(f"{MARKS[_outcome(journal, task)]}\N{NO-BREAK SPACE}{task.name}" for task in tasks)
        parts.append(f"  {f'{lesson} · {title}':<20} {standing}\n{block(names, '      ')}")
    parts.append(f"{_next(journal).replace('`', '')}\n{_LEGEND}")
    return "\n\n".join(parts).replace("\N{NO-BREAK SPACE}", " ")
