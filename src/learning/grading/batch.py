"""Grade a folder of submissions: judge what has not been judged yet, then write all that comes out of it."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from learning import atomic
from learning.course.judge import JudgeError
from learning.course.tasks import LESSONS, TASKS

from .gradebook import as_csv, as_gradescope, as_junit
from .isolation import Isolation, isolation
from .marks import Marks, graded_tasks, marked, remarks_on
from .results import FOLDER, Results, digest, release
from .rules import Rules
from .runners import Job, Runner, on_this_machine
from .sandbox import Flag, Judged
from .submissions import GRADEBOOK, JUNIT, REPORT, GradingError, HandedIn, Submission, handed_in

HERE = Path(__file__).parent

NOT_ISOLATED = "was judged without isolation"

Watch = Callable[[str, int, str, int, int], None]
"""Called with a learner, a lesson, the task that is being judged (empty when the lesson is done), and how many
notebooks are done, of how many."""


@dataclass(frozen=True)
class Graded:
    """All that one learner handed in, by lesson."""

    learner: str
    rules: Rules
    lessons: dict[int, Marks] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    files: dict[int, dict[str, bytes]] = field(default_factory=dict)
    submissions: dict[int, Submission] = field(default_factory=dict)

    @property
    def judged(self) -> dict[str, Judged]:
        """All verdicts by task."""
        return {each.verdict.task: each for marks in self.lessons.values() for each in marks.judged}

    def points(self, task: str) -> float:
        """What a task earned."""
        marks = self.lessons.get(TASKS[task].lesson)
        judged = self.judged.get(task)
        return marks.points(judged) if marks and judged else 0.0


def grade(
    submissions: Path,
    out: Path,
    *,
    lessons: Collection[int] = (),
    again: Collection[str] = (),
    rules: Rules | None = None,
    runner: Runner | None = None,
    watch: Watch = lambda *_: None,
) -> Path:
    """Grade each learner's notebooks, write what comes of it below `out`, and return the gradebook's path.

    What was judged before and has not changed is not judged again; a batch that was ended goes on where it stopped.

    Args:
        submissions: has one folder for each learner, named after them; the notebooks lie in it at any depth.
        out: gets `gradebook.csv`, `junit.xml`, `report.html` and `similar`, and a folder for each learner with the
            marked notebooks, `feedback.html` and `results.json`.
        lessons: which lessons to grade, if not all that there are. The notebooks of others are left out.
        again: the tasks to judge anew, whatever was judged before. Then the other tasks keep their verdicts, even if
            the tests have changed.
        rules: weights, due dates and what lateness costs; no more than equal weights, unless said.
        runner: where the judging is done; on this machine, unless said.
        watch: told what is being judged.

    Raises:
        GradingError: if there are no submissions or no such lessons, or the grades cannot be written, or would be among
            the submissions, or the graded tests cannot run. A broken submission is no error: it is told in the
            gradebook.
    """
    there = [lesson for lesson in LESSONS if graded_tasks(lesson)]
    if missing := sorted(set(lessons) - set(there)):
        raise GradingError(f"There is no lesson {missing[0]} to grade: there are {', '.join(map(str, there))}.")
    wanted = [lesson for lesson in there if not lessons or lesson in lessons]
    if unknown := sorted(set(again) - {task.name for lesson in wanted for task in graded_tasks(lesson)}):
        raise GradingError(f"There is no task {unknown[0]} to grade in lessons {', '.join(map(str, wanted))}.")
    class_ = handed_in(submissions, wanted)
    if out.resolve().is_relative_to(submissions.resolve()):
        raise GradingError(f"{out} is inside {submissions}: choose a folder for the grades that is not among them.")
    try:
        graded = _judge(class_, out, set(again), rules or Rules(), runner or on_this_machine(), watch)
    except JudgeError as error:
        raise GradingError(f"The graded tests do not run, so nobody was graded. {error}") from error
    with _written_to(out):
        return _write(graded, out, wanted, submissions.resolve().name)


@contextmanager
def _written_to(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise GradingError(f"The grades cannot be written to {out}: {error.strerror}.") from error


def _judge(
    class_: list[HandedIn], out: Path, again: set[str], rules: Rules, runner: Runner, watch: Watch
) -> list[Graded]:
    with _written_to(out):
        out.mkdir(parents=True, exist_ok=True)
    results = Results(out)
    graded = [Graded(each.learner, rules, {}, list(each.remarks), {}, each.notebooks) for each in class_]
    found: dict[tuple[str, int], dict[str, Judged]] = {}
    work: dict[tuple[int, str, tuple[str, ...]], list[Job]] = {}  # what several have handed in is judged once
    for learner in graded:
        for lesson, submission in learner.submissions.items():
            try:
                files = learner.files[lesson] = submission.files()
            except OSError as error:
                learner.remarks.append(f"{submission.name}: cannot be read: {error.strerror}")
                files = learner.files[lesson] = {submission.path.name: b""}
            tasks = graded_tasks(lesson)
            known = found[learner.learner, lesson] = results.load(learner.learner, lesson, files, tasks, again)
            if waiting := [task.name for task in tasks if task.name not in known]:
                work.setdefault((lesson, digest(files), tuple(waiting)), []).append(Job(submission, files, waiting))
    done, of = len(found) - sum(map(len, work.values())), len(found)

    def tell(job: Job, task: str) -> None:
        watch(job.submission.learner, job.submission.lesson, task, done, of)

    watch("", 0, "", done, of)
    for first, judged in runner([jobs[0] for jobs in work.values()], tell) if work else ():
        if isolation() is Isolation.NONE:
            judged = [Judged(each.verdict, [*each.flags, Flag(NOT_ISOLATED)], each.seconds) for each in judged]
        for job in work[first.submission.lesson, digest(first.files), tuple(first.tasks)]:
            known = found[job.submission.learner, job.submission.lesson]
            known |= {each.verdict.task: each for each in judged}
            with _written_to(out):
                results.save(job.submission.learner, job.submission.lesson, job.files, list(known.values()))
            done += 1
    for learner in graded:
        for lesson, submission in learner.submissions.items():
            known = found[learner.learner, lesson]
            judged = [known[task.name] for task in graded_tasks(lesson) if task.name in known]
            late = rules.late_days(submission)
            learner.lessons[lesson] = Marks(judged, remarks_on(judged), rules, learner.learner, late)
            if late:
                cost = rules.late_percent(late)
                learner.lessons[lesson].remarks.append(f"{late} day{'s' * (late > 1)} late: {cost:g} % less")
    return graded


def _write(graded: list[Graded], out: Path, lessons: Collection[int], title: str) -> Path:
    """Write everything that comes of a class, if anything has changed or is missing since it was written last."""
    gradebook, stamp = out / GRADEBOOK, out / FOLDER / ".written.json"
    state = _state(graded, lessons, title)
    try:
        written = json.loads(stamp.read_text(encoding="utf-8"))
        if written["state"] == state and all((out / name).exists() for name in written["files"]):
            return gradebook
    except (OSError, ValueError, KeyError, TypeError):
        pass
    from .pages import feedback_page, report_page  # with Jinja2 and matplotlib, which take a second to import
    from .similarity import similar_answers, similarity_page

    pages: dict[str, bytes] = {}
    for learner in graded:
        for lesson, marks in learner.lessons.items():
            submission = learner.submissions[lesson]
            content = marked(submission.path.read_bytes() if submission.path.is_file() else b"", marks)
            pages[f"{learner.learner}/{LESSONS[lesson][0]}.ipynb"] = content
            learner.remarks.extend(f"{submission.name}: {remark}" for remark in marks.remarks)
        if learner.submissions:
            pages[f"{learner.learner}/feedback.html"] = feedback_page(learner, lessons).encode()
            pages[f"{learner.learner}/results.json"] = as_gradescope(learner, lessons)
    pages[JUNIT] = as_junit(graded, lessons)
    pages[GRADEBOOK] = as_csv(graded, lessons)
    for name, content in pages.items():
        atomic.write(out / name, content)
    similar = similar_answers(graded)
    for pair in similar:
        pages[pair.page] = similarity_page(pair).encode()
        atomic.write(out / pair.page, pages[pair.page])
    pages[REPORT] = report_page(graded, lessons, similar, title).encode()
    atomic.write(out / REPORT, pages[REPORT])
    names = [name for name in pages if name.isprintable() and name.encode(errors="replace").decode() == name]
    atomic.write(stamp, json.dumps({"state": state, "files": names}).encode())
    return gradebook


def _state(graded: list[Graded], lessons: Collection[int], title: str) -> str:
    """A hash of all that the written files depend on."""
    ours = [path.read_text(encoding="utf-8") for path in sorted(HERE.glob("*.py")) + sorted(HERE.glob("templates/*"))]
    whole: list = [title, list(lessons), release(), ours]
    for each in graded:
        marks = {n: [m.late_days, [j.to_json() for j in m.judged], asdict(m.rules)] for n, m in each.lessons.items()}
        files = {n: [hashlib.sha256(c).hexdigest() for c in files.values()] for n, files in each.files.items()}
        whole.append([each.learner, each.remarks, marks, files])
    return hashlib.sha256(json.dumps(whole, default=str).encode()).hexdigest()
