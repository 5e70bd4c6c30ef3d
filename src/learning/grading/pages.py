"""The pages for people: feedback for each learner, and a report on the class. Each is a file that needs no network."""

import io
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import jinja2
from matplotlib.figure import Figure

from learning.course.card import Card
from learning.course.tasks import LESSONS

from .gradebook import tasks_of
from .isolation import WHAT, isolation
from .marks import graded_tasks
from .similarity import Pair

if TYPE_CHECKING:
    from .batch import Graded

INK = "#010203"
"""The colour of all that is drawn. On the page it is the text's, light or dark."""

SHADES = {"passed": 0.85, "in part": 0.5, "failed": 0.2, "not attempted": 0.0}
"""How dark each outcome is drawn: told apart without colours, on paper too."""

MOST_MISSED = 12


@cache
def templates() -> jinja2.Environment:
    """The templates, in which what comes from learners is text and never HTML."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["number"] = lambda value: f"{value:.2f}".rstrip("0").rstrip(".")
    return environment


def render(template: str, **values: Any) -> str:
    """A page. Half a character, which no file can hold, becomes a question mark."""
    return templates().get_template(template).render(**values).encode(errors="replace").decode()


def feedback_page(learner: "Graded", lessons: Collection[int]) -> str:
    """What a learner gets back: what held and what did not, and why."""
    solved = {name for name, judged in learner.judged.items() if judged.verdict.outcome == "passed"}
    shown = []
    for lesson in lessons:
        rows = [_row(learner, task.name, solved) for task in graded_tasks(lesson)]
        marks = learner.lessons.get(lesson)
        told = tuple(f"{start}{row['task']}" for row in rows for start in ("", "FLAG "))  # the cards tell that
        remarks = [remark for remark in marks.remarks if not remark.startswith(told)] if marks else []
        shown.append(
            {"title": LESSONS[lesson][1], "rows": rows, "remarks": remarks, "handed_in": lesson in learner.lessons}
        )
    total = sum(row["points"] for lesson in shown for row in lesson["rows"])
    out_of = sum(row["out_of"] for lesson in shown for row in lesson["rows"])
    return render(
        "feedback.html",
        title=f"Feedback for {learner.learner}",
        learner=learner.learner,
        lessons=shown,
        total=total,
        out_of=out_of,
    )


def _row(learner: "Graded", task: str, solved: set[str]) -> dict[str, Any]:
    judged = learner.judged.get(task)
    card = Card(judged.verdict, solved)._repr_mimebundle_()["text/html"] if judged else ""
    held = f"{judged.verdict.passed} of {len(judged.verdict.behaviours)}" if judged else "not handed in"
    points, out_of = learner.points(task), learner.rules.out_of(task)
    doubt = bool(judged and not judged.trusted and points == 0)
    return {"task": task, "card": card, "held": held, "points": points, "out_of": out_of, "doubt": doubt}


def report_page(graded: "list[Graded]", lessons: Collection[int], similar: list[Pair], title: str) -> str:
    """What an instructor reads about the class."""
    tasks = tasks_of(lessons)
    totals = [sum(each.points(task) for task in tasks) for each in graded if each.lessons]
    out_of = sum(graded[0].rules.out_of(task) for task in tasks)
    misses = _misses(graded)
    plots = [
        _plot(_draw_scores, totals, out_of),
        _plot(_draw_tasks, graded, tasks),
        _plot(_draw_misses, misses[:MOST_MISSED]) if misses else "",
        _plot(_draw_seconds, graded, tasks),
    ]
    everybody = [
        {
            "learner": each.learner,
            "points": sum(each.points(task) for task in tasks),
            "remarks": each.remarks,
            "page": f"{quote(each.learner, errors='surrogateescape')}/feedback.html" if each.submissions else "",
        }
        for each in graded
    ]
    return render(
        "report.html",
        title=title,
        learners=len(graded),
        median=statistics.median(totals or [0]),
        out_of=out_of,
        isolation=WHAT[isolation()],
        plots=plots,
        flags=list(_flags(graded)),
        similar=similar,
        misses=misses,
        everybody=everybody,
    )


def _flags(graded: "list[Graded]") -> Iterator[dict[str, Any]]:
    for each in graded:
        for task, judged in each.judged.items():
            for flag in judged.flags:
                yield {"learner": each.learner, "task": task, "words": flag.words, "grave": flag.grave}


def _misses(graded: "list[Graded]") -> list[dict[str, Any]]:
    """What did not hold, the most frequent first, and what the test said of it most often."""
    said: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for each in graded:
        for task, judged in each.judged.items():
            for behaviour in judged.verdict.behaviours:
                if behaviour.outcome == "failed":
                    raised = not behaviour.idea or behaviour.idea.startswith("Your code raised")
                    said[task, behaviour.name][behaviour.came if raised else behaviour.idea] += 1
    return [
        {"task": task, "name": name, "count": words.total(), "says": words.most_common(1)[0][0][:300]}
        for (task, name), words in sorted(said.items(), key=lambda item: -item[1].total())
    ]


# --- plots ------------------------------------------------------------------------------------------------------------


def _plot(draw: Any, *data: Any) -> str:
    """An SVG picture in the colour of the page's text."""
    import matplotlib

    style = {"svg.fonttype": "none", "font.size": 10, "svg.hashsalt": "learning"}
    style |= dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
    with matplotlib.rc_context(style), io.StringIO() as file:
        figure = Figure(figsize=(7.5, 3.2), layout="constrained")
        axes = figure.add_subplot()
        draw(axes, *data)
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        picture = file.getvalue()
    picture = re.sub(r"<metadata>.*?</metadata>", "", picture[picture.index("<svg") :], flags=re.DOTALL)
    return picture.replace(INK, "currentColor")


def _draw_scores(axes: Any, totals: list[float], out_of: float) -> None:
    steps = [out_of * edge / 10 for edge in range(11)]
    axes.hist(totals, bins=steps, color=INK, alpha=0.6, edgecolor=INK)
    axes.set(title="How many learners earned how much", xlabel=f"points of {out_of:g}", ylabel="learners")
    axes.yaxis.get_major_locator().set_params(integer=True)


def _draw_tasks(axes: Any, graded: "list[Graded]", tasks: list[str]) -> None:
    _make_room(axes, len(tasks))
    outcomes = {task: Counter(_outcome(each, task) for each in graded if each.lessons) for task in tasks}
    before = dict.fromkeys(tasks, 0)
    for outcome, shade in SHADES.items():
        counts = [outcomes[task][outcome] for task in tasks]
        axes.barh(
            tasks, counts, left=list(before.values()), color=(INK, shade), edgecolor=INK, label=outcome, height=0.7
        )
        before = {task: before[task] + count for task, count in zip(tasks, counts, strict=True)}
    axes.invert_yaxis()
    axes.set(title="Which tasks were not solved", xlabel="learners")
    axes.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.12 - 0.3 / max(len(tasks), 1)), frameon=False)


def _outcome(learner: "Graded", task: str) -> str:
    judged = learner.judged.get(task)
    if not judged or judged.verdict.outcome in ("not attempted", "not judged"):
        return "not attempted"
    if judged.verdict.outcome == "passed":
        return "passed"
    return "in part" if judged.verdict.passed else "failed"


def _draw_misses(axes: Any, misses: list[dict[str, Any]]) -> None:
    _make_room(axes, len(misses))
    names = [f"{miss['name']}\n{miss['task']}" for miss in misses]
    axes.barh(names, [miss["count"] for miss in misses], color=(INK, 0.6), edgecolor=INK, height=0.7)
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=8)
    axes.set(title="What was missed most", xlabel="learners")
    axes.xaxis.get_major_locator().set_params(integer=True)


def _draw_seconds(axes: Any, graded: "list[Graded]", tasks: list[str]) -> None:
    _make_room(axes, len(tasks))
    seconds = [[each.judged[task].seconds for each in graded if task in each.judged] or [0.0] for task in tasks]
    lines = {"color": INK}
    axes.boxplot(
        seconds,
        orientation="horizontal",
        tick_labels=tasks,
        boxprops=lines,
        whiskerprops=lines,
        capprops=lines,
        medianprops=lines | {"linewidth": 2.5},
        flierprops={"markeredgecolor": INK},
    )
    axes.invert_yaxis()
    axes.set(title="How long the judging of each task took", xlabel="seconds", xlim=(0, None))


def _make_room(axes: Any, rows: int) -> None:
    axes.figure.set_size_inches(7.5, 1.5 + 0.34 * rows)
