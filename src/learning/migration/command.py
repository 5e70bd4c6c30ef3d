"""What `learning migrate`, `learning validate` and `learning convert` do, with messages for people."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from sqlite3 import Error as SqliteError
from typing import Any

from psycopg import Error as PostgresError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from ..savers import InvalidRequest, SaverError
from .convert import convert
from .official import opened
from .repair import repair
from .runner import Migration, migrate
from .steps import Migrations
from .validate import validate
from .walk import Failures

SHOWN = 20
"""How many failures are shown."""


class Mistake(Exception):
    """Nothing was done, or not all, for a reason that a person can mend."""


def run_migrate(url: str, steps: str, version: int, dry_run: bool, pause: float, trust: bool) -> bool:
    """Whether all checkpoints are in that version now, or would be.

    Raises:
        Mistake: if it could not begin, or was stopped.
    """
    migrations = found_at(steps, Migrations)
    if version not in {goal for _, goal in migrations.steps}:
        known = ", ".join(f"{start}→{goal}" for start, goal in sorted(migrations.steps)) or "none"
        raise Mistake(f"No step of {steps} leads to version {version}. Its steps: {known}.")
    with told(), opened(url, allow=trust or ()) as saver, progress("migrating") as tell:
        report = migrate(saver, migrations, version, dry_run=dry_run, pause=pause, on_progress=tell)
    console = Console(soft_wrap=True, highlight=False)
    found = ", ".join(f"{count} in version {each}" for each, count in sorted(report.found.items())) or "none"
    console.print(f"Checkpoints found: {found}.", markup=False)
    console.print(f"{'Would change' if dry_run else 'Changed'}: {report.changed}.", markup=False)
    _show_changes(report, console)
    return _show_failures(report.failed)


def run_convert(source: str, target: str, trust: bool) -> bool:
    """Whether the target has all checkpoints of the source now.

    Raises:
        Mistake: if it could not begin, or was stopped.
    """
    if source == target:
        raise Mistake("The source and the target are the same.")
    allow: Any = trust or ()
    with (
        told(),
        opened(source, allow=allow) as before,
        opened(target, make=True, allow=allow) as after,
        progress("converting") as tell,
    ):
        report = convert(before, after, on_progress=tell)
    print(f"Copied: {report.copied} checkpoints. There already: {report.there}.")
    return _show_failures(report.failed)


def run_validate(url: str, schema: str | None, file: Path | None, trust: bool) -> bool:
    """Whether nothing is wrong, or nothing is left that is.

    Raises:
        Mistake: if it could not begin, or was stopped.
    """
    state = found_at(schema, (type, dict)) if schema else None
    with told(), opened(url, allow=trust or ()) as saver:
        if file:
            report = repair(saver, file, state)
            for title, problems in (("mended", report.mended), ("set aside", report.aside), ("left", report.left)):
                for problem in problems:
                    print(f"{title:<9} {problem}")
            print(f"Mended: {len(report.mended)}. Set aside in {file}: {len(report.aside)}. Left: {len(report.left)}.")
            return not report.left
        count = 0
        for problem in validate(saver, state):
            print(problem)
            count += 1
    print(f"Problems: {count}." + (" `--repair FILE` mends them or sets them aside." if count else ""))
    return not count


def found_at(where: str, kind: Any) -> Any:
    """What a text such as "shop.steps:migrations" names, looked for from the current folder on.

    Raises:
        Mistake: if it is not there, or something else.
    """
    module, _, name = where.partition(":")
    if not module or not name:
        raise Mistake(f"{where!r} does not name anything: write module:name, such as shop.steps:migrations.")
    sys.path.insert(0, "")
    try:
        found = getattr(import_module(module), name)
    except ImportError as error:
        raise Mistake(f"{module} cannot be imported from here: {error}.") from error
    except AttributeError as error:
        raise Mistake(f"There is no {name!r} in {module}.") from error
    except Exception as error:  # code of others
        raise Mistake(f"{module} fails when it is imported: {type(error).__name__}: {error}.") from error
    finally:
        sys.path.remove("")
    if not isinstance(found, kind):
        raise Mistake(f"{where} is a {type(found).__name__}, and no {getattr(kind, '__name__', 'class or mapping')}.")
    return found


@contextmanager
def told() -> Iterator[None]:
    """Have what goes wrong with a storage said in a sentence."""
    try:
        yield
    except InvalidRequest as error:
        raise Mistake(str(error)) from error
    except ImportError as error:
        raise Mistake(f"{error}. Install langgraph-checkpoint-postgres or langgraph-checkpoint-sqlite.") from error
    except (SaverError, OSError, PostgresError, SqliteError) as error:
        said = " ".join(str(error).split())
        raise Mistake(f"The storage does not do its part: {said} What was done stays; run it again.") from error


@contextmanager
def progress(what: str) -> Iterator[Callable[[Any], None]]:
    """A bar for threads and namespaces, and what takes the reports that move it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("threads"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda report: bar.update(task, total=report.threads, completed=report.threads_done)


def _show_changes(report: Migration, console: Console) -> None:
    for sign, channels in (("+", report.added), ("-", report.removed)):
        for channel, count in sorted(channels.items()):
            console.print(f"  {sign} {channel}  in {count}", markup=False)
    for example in report.examples if report.dry_run else ():
        place = f"thread {example.thread_id!r}, checkpoint {example.checkpoint_id}"
        console.print(f"For example, {place}, version {example.version}:", markup=False)
        for sign, values in (("-", example.removed), ("+", example.added)):
            for channel, value in values.items():
                console.print(f"  {sign} {channel} = {_short(value)}", markup=False)


def _show_failures(failures: Failures) -> bool:
    """Whether there are none."""
    for failure in list(failures)[:SHOWN]:
        print(f"Left as it was: {failure}", file=sys.stderr)
    if len(failures) > SHOWN:
        print(f"… and {len(failures) - SHOWN} more.", file=sys.stderr)
    return not len(failures)


def _short(value: Any) -> str:
    said = repr(value)
    return said if len(said) <= 80 else f"{said[:79]}…"
