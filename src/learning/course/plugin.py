"""The pytest plugin behind `test_learning_03.py`: whose work is judged, what counts as an attempt, how it is told."""

import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from .answers import Answers, Unusable, where
from .expect import Missed, unwritten
from .starters import untouched
from .tasks import GRADED_TESTS, LESSONS, ROOT, TASKS, Task

BEHAVIOUR_SECONDS = 10
"""How long one behaviour may take before it counts as an endless loop."""

HURRIED_SECONDS = 1
"""The same for the rest of a task in which one behaviour has been endless already."""

MEND_FIRST = "Mend this first: nothing else of this task can be judged."

NOT_JUDGED = "not judged: an earlier call of your code is still running"
MEND_EARLIER = "Mend first what did not come back in time."

REMARK = "remark"
"""The property of a report that tells what to know about the judging."""

_judged = pytest.StashKey[list[str]]()
_source = pytest.StashKey["Source"]()
_stuck = pytest.StashKey[bool]()


class StillRunning(BaseException):
    """The learner's code did not come back in time. Not an Exception, so that it cannot be caught by accident."""


class Source:
    """Where the judged work comes from, and why there."""

    def __init__(self, chosen: str | None):
        self.fallback = False
        if chosen is not None:
            self.path = Path(chosen).resolve()
            if not self.path.exists():
                raise pytest.UsageError(f"--work {chosen}: there is no such folder or notebook")
            if self.path.is_dir() and not any(self.notebook(lesson).exists() for lesson in LESSONS):
                names = ", ".join(f"{name}.ipynb" for name, _ in LESSONS.values())
                raise pytest.UsageError(f"--work {chosen}: none of the lessons is in it ({names})")
        else:
            self.path = ROOT / "notebooks"
            self.fallback = _nothing_attempted()
            if self.fallback:
                self.path = ROOT / "solutions"

    @classmethod
    def judged_by(cls, config: pytest.Config) -> "Source":
        """The one that a run of pytest judges. Another `path` may be set between two tests."""
        return config.stash[_source]

    def notebook(self, lesson: int) -> Path:
        """The notebook that holds the answers of a lesson."""
        return self.path if self.path.is_file() else self.path / f"{LESSONS[lesson][0]}.ipynb"

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT)) if self.path.is_relative_to(ROOT) else str(self.path)


class Work:
    """A learner's answers to one task: `work.LRUMemorySaver` is what the notebook calls so."""

    def __init__(self, task: Task, notebook: Path, remarks: list[tuple[str, object]]):
        if not notebook.exists():
            pytest.skip(f"not attempted: there is no {notebook.name} in {notebook.parent.name}")
        self._task = task
        self._remarks = remarks
        self._notebook = notebook
        try:
            self._answers = Answers.of(notebook)
        except Unusable as error:
            raise Missed(came=str(error), idea=MEND_FIRST) from None

    def __getattr__(self, name: str) -> Any:
        later = self._answers.passed_over(name)
        if later:
            remark = f"the answer cell of {self._task.name} counts; {later} has another {name}, which does not"
            self._remarks.append((REMARK, remark))
        try:
            with time_limit(BEHAVIOUR_SECONDS):
                return self._answers.load(name)
        except NotImplementedError as error:
            if not unwritten(error):
                came = f"{where(error)} raised NotImplementedError: {error}"
                raise Missed(came=came, idea=MEND_FIRST) from None
            pytest.skip(unattempted(self._task, self._notebook))
        except KeyError:
            misspelt = self._answers.resembling(name)
            if misspelt is None:
                pytest.skip(f"not attempted yet: {name} is not defined")
            raise Missed(
                came=f"The test looks for {name}, and the notebook has {misspelt}: rename it.", idea=MEND_FIRST
            ) from None
        except (Unusable, StillRunning) as error:
            raise Missed(came=str(error), idea=MEND_FIRST, where=where(error)) from None


# --- fixtures ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def work(request: pytest.FixtureRequest) -> Work:
    """The answers to the task that this test judges."""
    task = TASKS[request.node.name.removeprefix("test_")]
    return Work(task, request.config.stash[_source].notebook(task.lesson), request.node.user_properties)


@pytest.fixture
def behaviour(
    request: pytest.FixtureRequest, subtests: pytest.Subtests
) -> Callable[[str], AbstractContextManager[None]]:
    """`with behaviour("a read counts as a use"):` judges one thing, whatever becomes of the others."""
    judged = request.node.stash.setdefault(_judged, [])

    @contextmanager
    def judge(name: str) -> Iterator[None]:
        first, not_attempted = not judged, None
        judged.append(name)
        hurried = request.node.stash.get(_stuck, False)
        with subtests.test(name):
            try:
                with time_limit(HURRIED_SECONDS if hurried else BEHAVIOUR_SECONDS):
                    yield
            except (Missed, KeyboardInterrupt):
                raise
            except BaseException as error:
                if isinstance(error, StillRunning):
                    request.node.stash[_stuck] = request.config.stash[_stuck] = True
                if hurried and (isinstance(error, StillRunning) or not where(error)):
                    raise Missed(came=NOT_JUDGED, idea=MEND_EARLIER) from (
                        error if request.config.option.fulltrace else None
                    )
                if not (first and unwritten(error)):
                    # A fresh error: pytest cannot print every traceback that an alarm cuts off.
                    raise _explained(error) from (error if request.config.option.fulltrace else None)
                task = TASKS[request.node.name.removeprefix("test_")]
                not_attempted = unattempted(task, request.config.stash[_source].notebook(task.lesson))
                pytest.skip(not_attempted)
        if not_attempted:
            pytest.skip(not_attempted)

    return judge


@pytest.fixture
def until_the_end() -> Iterator[ExitStack]:
    """What is entered here is left when the test is over."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Fresh data for each run; `--seed` draws the same again."""
    return random.Random(f"{request.config.option.seed} {request.node.name}")


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise StillRunning in the block when the time is up, and again every two seconds until it ends."""

    def stop(*_: Any) -> None:
        raise StillRunning(f"still running after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    # Again and again: the first alarm may only end one wait, of several, for a thread that loops.
    signal.setitimer(signal.ITIMER_REAL, seconds, 2)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# --- hooks ------------------------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("learning")
    group.addoption(
        "--work", metavar="DIR", help="whose work to judge: a folder with the five notebooks, or one notebook"
    )
    group.addoption("--seed", type=int, help="draw the data of an earlier run again")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.seed is None:
        config.option.seed = random.SystemRandom().randrange(10**6)
    config.stash[_source] = Source(config.option.work)
    if _judges(config) and config.option.reportchars == "fE":
        config.option.reportchars = ""  # each miss is told once, above; a list of failed subtests adds nothing


def pytest_report_header(config: pytest.Config) -> list[str]:
    if not _judges(config):
        return []
    source = config.stash[_source]
    whose = f"judging the work in {source}"
    if source.fallback:
        whose = "nothing in notebooks has been attempted yet: judging the worked solutions"
    return [whose, f"drawing data with --seed {config.option.seed}"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    report = yield
    if item.path != GRADED_TESTS:
        return report
    if call.excinfo is not None and isinstance(call.excinfo.value, Missed):
        report.told = call.excinfo.value.told
        if not item.config.option.fulltrace:
            report.longrepr = str(call.excinfo.value)
    elif report.when == "call" and report.passed and call.excinfo is None:
        report.told = {"came": ""}  # whatever is to tell, the behaviours have told
        if not item.stash.get(_judged, []):
            report.outcome = "failed"
            report.longrepr = report.told["came"] = "the test passed without having judged anything"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not _judges(config):
        return
    source = config.stash[_source]
    unsolved = [report for kind in ("failed", "skipped") for report in terminalreporter.getreports(kind)]
    for remark in sorted({dict(report.user_properties).get(REMARK, "") for report in unsolved} - {""}):
        terminalreporter.write_line(f"note: {remark}")
    outcomes = {name: _tasks(terminalreporter.getreports(name)) for name in ("passed", "failed", "skipped")}
    if source.fallback:
        line = (
            "worked solutions fail here: something is wrong with this environment, not with your work"
            if outcomes["failed"]
            else "worked solutions pass here: your environment is ready; "
            f"your own progress: 0 of {len(TASKS)}, start with notebooks/{LESSONS[1][0]}.ipynb"
        )
    else:
        line = f"{len(outcomes['passed'])} of {len(TASKS)} tasks passed"
        waiting = [task for name, task in TASKS.items() if name in outcomes["failed"] | outcomes["skipped"]]
        if waiting:
            line += f"; next: {waiting[0].name} in {source.notebook(waiting[0].lesson).name}"
    terminalreporter.write_line(line)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave at once where an endless loop of a learner's is left in a thread: Python would wait for it for ever."""
    if config.stash.get(_stuck, False) and threading.active_count() > 1:
        sys.stdout.flush()
        os._exit(pytest.ExitCode.TESTS_FAILED)


def _tasks(reports: list[pytest.TestReport]) -> set[str]:
    """The tasks whose tests these reports are about, but for those whose test is still to come."""
    graded = [report for report in reports if report.nodeid.startswith(GRADED_TESTS.name)]
    return {
        report.nodeid.rpartition("::test_")[2]
        for report in graded
        if not hasattr(report, "context") and not (report.skipped and "comes with lesson" in str(report.longrepr))
    }


def _judges(config: pytest.Config) -> bool:
    return any(Path(arg.partition("::")[0]).name == GRADED_TESTS.name for arg in config.args)


def unattempted(task: Task, notebook: Path) -> str:
    """What to say of a task that nobody has tried yet."""
    return f"not attempted yet: open {notebook.name}, task {task.name}"


def _nothing_attempted() -> bool:
    masters = sorted((ROOT / "solutions").glob("*.ipynb"))
    return bool(masters) and all(untouched(ROOT / "notebooks" / master.name, master) for master in masters)


def _explained(error: BaseException) -> Missed:
    """What to tell the learner of an error that ended a behaviour."""
    if unwritten(error):
        return Missed(came="NotImplementedError", idea="This part is not written yet.", where=where(error))
    if isinstance(error, StillRunning):
        idea = "Your code did not come back: look for a loop that never ends, or a lock that is never released."
        return Missed(came=str(error), idea=idea, where=where(error))
    place = where(error)
    idea = "Your code raised an error." if place else "The test could not use what your code returned: is it complete?"
    return Missed(came=f"{type(error).__name__}: {error}", idea=idea, where=place)
