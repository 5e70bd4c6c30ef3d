"""The command `learning`. Each command imports what it needs itself, so that `learning --help` answers at once."""

import os
from collections.abc import Callable
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help="LangGraph persistence: a course in five notebooks.")


@app.command(context_settings={"ignore_unknown_options": True})
def lab(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="LESSON|OPTION_OF_JUPYTER_LAB",
            help="A lesson by number or name (1, 01_memory), then whatever `jupyter lab` takes.",
        ),
    ] = None,
) -> None:
    """Open JupyterLab on a lesson, the first unless said, with the course's own Lab settings."""
    from . import lab

    options = list(arguments or [])
    lesson = options.pop(0) if options and not options[0].startswith("-") else "1"
    try:
        lab.run(lesson, options)
    except LookupError as error:
        typer.echo(error, err=True)
        raise typer.Exit(2) from None


@app.command("status")
def show_status() -> None:
    """Tell how far you are: the lessons, their tasks, the time spent, and what comes next."""
    from .course import progress
    from .course.status import StatusCard

    typer.echo(StatusCard(progress.load()))


@app.command()
def reset(
    lesson: Annotated[str, typer.Argument(help="A lesson by number or name (1, 01_memory).")],
) -> None:
    """Start a lesson afresh: put its notebook back as it was, and keep a copy of yours."""
    from .course import build, progress
    from .course.tasks import LESSONS, ROOT, lesson_called

    try:
        number = lesson_called(lesson)
        name, _ = LESSONS[number]
        kept = build.reset(ROOT, name)
    except LookupError as error:
        typer.echo(error, err=True)
        raise typer.Exit(2) from None
    except FileNotFoundError:
        typer.echo(f"solutions/{name}.ipynb is missing: the notebook is made from it.", err=True)
        raise typer.Exit(2) from None
    progress.forget(number)
    if kept:
        typer.echo(f"Your notebook is kept as {kept.relative_to(ROOT)}.")
    typer.echo(f"notebooks/{name}.ipynb is as it was at first, and its tasks count as not tried.")
    typer.echo("If it is open in Lab, take `Reload Notebook from Disk` in Lab's File menu, and restart its kernel.")


@app.command()
def build(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; tell what is wrong, and fail if anything is.")
    ] = False,
) -> None:
    """Make notebooks/ from solutions/. A notebook that somebody has worked in is kept beside the new one."""
    from .course import build as lessons
    from .course.tasks import ROOT

    if not check:
        for line in lessons.build(ROOT):
            typer.echo(line)
    problems = lessons.check(ROOT)
    for problem in problems:
        typer.echo(problem, err=True)
    if problems:
        raise typer.Exit(1)


@app.command()
def grade(
    submissions: Annotated[Path, typer.Argument(help="A folder with one folder for each learner.")],
    out: Annotated[Path, typer.Option(help="Where the gradebook, the feedback and the report go.")],
    lesson: Annotated[list[int] | None, typer.Option(help="One lesson; may be given again. All, if none.")] = None,
    again: Annotated[
        list[str] | None, typer.Option(metavar="TASK", help="Judge this task anew, for all; may be given again.")
    ] = None,
    rules: Annotated[
        Path | None, typer.Option(help="A TOML file with weights, due dates and what lateness costs.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="How many submissions to judge at a time; else what suits this machine."),
    ] = None,
    scheduler: Annotated[str | None, typer.Option(help="Judge on a Dask cluster instead: tcp://host:8786")] = None,
) -> None:
    """Grade a class: gradebook.csv, report.html, and for each learner feedback and marked notebooks."""
    from .grading import batch, runners
    from .grading.isolation import Isolation, isolation
    from .grading.progress import progress
    from .grading.rules import Rules, RulesError, read_rules

    if isolation() is Isolation.NONE and not scheduler:
        typer.echo("Submissions are NOT isolated here: they can read and change whatever you can.", err=True)
    try:
        runner = runners.on_dask(scheduler) if scheduler else runners.on_this_machine(jobs)
        with progress() as watch:
            gradebook = batch.grade(
                submissions,
                out,
                lessons=lesson or (),
                again=again or (),
                rules=read_rules(rules) if rules else Rules(),
                runner=runner,
                watch=watch,
            )
    except (batch.GradingError, RulesError) as error:
        typer.echo(error, err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo("Stopped. The gradebook is as it was; the same command goes on from here.", err=True)
        os._exit(130)  # what still runs is ended with us, and need not be waited for
    typer.echo(f"The gradebook is {gradebook}. The report is {gradebook.with_name('report.html')}.")


@app.command()
def doctor() -> None:
    """Look at what the course needs on this machine, start each server once, and say how to mend what is wrong."""
    from rich.console import Console

    from .doctor import examine

    console = Console(soft_wrap=True)
    broken = False
    with console.status("looking"):
        for finding in examine():
            broken |= bool(finding.remedy) and not finding.optional
            mark = "[green]ok[/]" if not finding.remedy else "[yellow]? [/]" if finding.optional else "[red]✗[/] "
            console.print(f"{mark} [bold]{finding.what:<14}[/]", end="")
            console.print(finding.found, markup=False, highlight=False)
            if finding.remedy:
                console.print(f"{'':<17}→ {finding.remedy}", markup=False, highlight=False)
    if broken:
        raise typer.Exit(1)


@app.command()
def backup(
    url: Annotated[str, typer.Argument(help="Of the PostgreSQL server, for a user who may replicate.")],
    folder: Annotated[Path, typer.Argument(help="Where backups are: each gets a folder of its own in it.")],
    keep: Annotated[int, typer.Option(min=1, help="How many backups to keep.")] = 7,
) -> None:
    """Back up a PostgreSQL server, and verify the backup. Older ones go only when the new one is sound."""
    from .operations import BackupError, back_up

    try:
        typer.echo(f"Verified: {back_up(url, folder, keep=keep)}")
    except BackupError as error:
        typer.echo(error, err=True)
        raise typer.Exit(1) from None


@app.command()
def report(
    url: Annotated[str, typer.Argument(help="Of the storage, as `open_saver` takes it.")],
    out: Annotated[Path, typer.Option(help="Where the CSV files and the plot go.")],
    days: Annotated[int, typer.Option(min=1, help="How many days of UTC, up to today.")] = 30,
    tenant: Annotated[list[str] | None, typer.Option(help="One tenant; may be given again.")] = None,
) -> None:
    """Write what agents did as CSV files and a plot: sessions a day, step times, interrupts."""
    from contextlib import ExitStack
    from datetime import UTC, datetime, timedelta

    from .operations import activity
    from .savers import SaverError, open_saver

    today = datetime.now(UTC).date()
    try:
        with ExitStack() as opened:
            savers = {name: opened.enter_context(open_saver(url, tenant=name)) for name in tenant or [""]}
            files = activity(savers, today - timedelta(days=days - 1), today).save(out)
    except (SaverError, OSError) as error:
        typer.echo(error, err=True)
        raise typer.Exit(1) from None
    for path in files:
        typer.echo(path)


Trust = Annotated[
    bool, typer.Option("--trust", help="Load objects of any class that the store names: only where you trust it.")
]
URL = (
    "redis://…, redis+cluster://…, postgresql://…, file:///folder, s3://…; for the tables of the official savers "
    "postgresql+official://… or sqlite+official:///file."
)


@app.command()
def migrate(
    url: Annotated[str, typer.Argument(metavar="URL", help=URL)],
    steps: Annotated[str, typer.Option(help="Where the Migrations are, such as shop.steps:migrations.")],
    to: Annotated[int, typer.Option(help="The version of the state to take all checkpoints to.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; tell what would change.")] = False,
    pause: Annotated[float, typer.Option(min=0, help="Seconds to leave to others after each 50 checkpoints.")] = 0,
    trust: Trust = False,
) -> None:
    """Take all checkpoints of a store to a version of the state, in place. Run it again to finish what was stopped."""
    from .migration import command

    _done(lambda: command.run_migrate(url, steps, to, dry_run, pause, trust))


@app.command()
def validate(
    url: Annotated[str, typer.Argument(metavar="URL", help="A store of ours, as for `learning migrate`.")],
    schema: Annotated[str | None, typer.Option(help="The class of the state, such as shop.graph:State.")] = None,
    repair: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Mend what can be mended, and move the rest to this file.")
    ] = None,
    trust: Trust = False,
) -> None:
    """Tell what is wrong in a store: what is damaged, lacks its parent, or is not as its schema says."""
    from .migration import command

    _done(lambda: command.run_validate(url, schema, repair, trust))


@app.command()
def convert(
    source: Annotated[str, typer.Argument(metavar="FROM", help=URL)],
    target: Annotated[str, typer.Argument(metavar="TO", help="The same.")],
    trust: Trust = False,
) -> None:
    """Copy all threads of a store into another. What is there stays; run it again to finish what was stopped."""
    from .migration import command

    _done(lambda: command.run_convert(source, target, trust))


def _done(work: Callable[[], bool]) -> None:
    """Exit with 1 if something is left to do, and with 2 if a person has to mend something first."""
    from .migration.command import Mistake

    try:
        whole = work()
    except Mistake as error:
        typer.echo(error, err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo("Stopped. What was done stays; run it again to finish.", err=True)
        raise typer.Exit(130) from None
    if not whole:
        raise typer.Exit(1)


bench = typer.Typer(no_args_is_help=True, help="Measurements that anybody can repeat.")
app.add_typer(bench, name="bench")


@bench.command()
def savers(
    quick: Annotated[
        bool, typer.Option("--quick", help="Shorter conversations, fewer repeats: under a minute.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Where benchmarks.md, its plot and all numbers go.")] = Path(),
    only: Annotated[list[str] | None, typer.Option(help="One saver, by name; may be given again.")] = None,
) -> None:
    """Measure the savers beside those that others have published, in one run and on the same servers."""
    from rich.console import Console
    from rich.progress import Progress

    from .bench import report
    from .bench.measure import FULL, QUICK, measure

    unknown = set(only or ()) - report.TITLES.keys()
    if unknown:
        typer.echo(f"There is no {', '.join(sorted(unknown))}. There are: {', '.join(report.TITLES)}.", err=True)
        raise typer.Exit(2)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        tasks = {}

        def tell(what: str, of: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=of)
            bar.advance(tasks[what])

        try:
            result = measure(only or [], QUICK if quick else FULL, tell)
        except KeyboardInterrupt:
            bar.stop()
            typer.echo("Stopped. Nothing was written, and no server is left.", err=True)
            raise typer.Exit(130) from None
    result["tables"] = report.tables(result)
    report.show(result, Console(width=100))
    if not result["savers"]:
        raise typer.Exit(1)
    report.save(result, out)
    typer.echo(f"\nThe same as a page: {out / 'benchmarks.md'}. All numbers: {out / 'bench-savers.json'}.")


@bench.command()
def grading(
    submissions: Annotated[int, typer.Option(min=1, help="How many to grade.")] = 10,
    jobs: Annotated[int, typer.Option(min=1, help="How many at a time, in ours.")] = os.cpu_count() or 1,
) -> None:
    """Grade the same submissions of lesson 1 with `learning grade` and with nbgrader, and compare the seconds."""
    from rich.console import Console

    from .bench.grading import BenchError, measure

    console = Console(stderr=True)
    try:
        with console.status("grading"):
            seconds = measure(submissions, jobs)
    except BenchError as error:
        typer.echo(error, err=True)
        raise typer.Exit(2) from None
    for name, took in seconds.items():
        typer.echo(f"{name:<30}{took:7.1f} s for {submissions} submissions of lesson 1")
    ours, theirs, again = seconds.values()
    typer.echo(f"{theirs / ours:.1f} times faster than nbgrader; graded again, with nothing changed: {again:.1f} s")


services = typer.Typer(no_args_is_help=True, help="Real servers that stay until you take them down.")
app.add_typer(services, name="services")


class ServiceName(StrEnum):
    """What can be started, as `learning.services.standing` calls it."""

    redis = "redis"
    redis_cluster = "redis-cluster"
    postgres = "postgres"
    s3 = "s3"


@services.command()
def up(
    names: Annotated[list[ServiceName] | None, typer.Argument(help="Which servers; all four unless said.")] = None,
) -> None:
    """Start servers that stay. `learning services env` says where they are."""
    from .services import standing

    there = {server.variable for server, _ in standing.standing()}
    wanted = [name for name in dict.fromkeys(names or ServiceName) if standing.VARIABLES[name] not in there]
    if not wanted:
        typer.echo("They are up already.")
        return
    failed = False
    with closing(standing.up(wanted)) as answers:  # at once, when a Ctrl-C comes between two of them
        for answer in answers:
            failed |= "error" in answer
            typer.echo(f"{answer['name']}: {answer.get('error', 'up')}", err="error" in answer)
    if failed:
        raise typer.Exit(1)


@services.command()
def status() -> None:
    """List the servers that run: those that stay, and those of a process, a notebook's kernel, say."""
    from .services.choice import running
    from .services.standing import standing

    stay = {server.folder for server, _ in standing()}
    found = running()
    for server, owner in found:
        whose = "until `learning services down`" if server.folder in stay else f"as long as process {owner}"
        typer.echo(f"{server.title}: {'answers' if server.ready() else 'does not answer'}, stays {whose}")
    if not found:
        typer.echo("No server runs. Start them with: learning services up")


@services.command()
def down() -> None:
    """End the servers that `up` has started, and remove what they stored."""
    from .services import standing

    ended = standing.down()
    typer.echo(f"Ended: {', '.join(server.title for server in ended)}." if ended else "There was nothing to end.")


@services.command()
def env() -> None:
    """Print the variables that lead to the servers that are up: `learning services env > .env`, or export them."""
    from .services import compose, standing

    environments = [server.environment for server, _ in standing.standing()] or [compose.environment()]
    for environment in environments:
        for name, value in environment.items():
            typer.echo(f"{name}={value}")
    if not any(environments):
        typer.echo("No server is up. Start them with `learning services up` or `docker compose up --wait`.", err=True)
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
