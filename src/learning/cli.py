"""The command `learning`. Each command imports what it needs itself, so that `learning --help` answers at once."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help="LangGraph persistence: a course in five notebooks.")


@app.callback()
def main() -> None:
    """Keeps the commands commands: Typer makes a single one the whole program."""


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
    out: Annotated[Path, typer.Option(help="Where the gradebook and the marked notebooks go.")],
) -> None:
    """Grade a class: marked notebooks and gradebook.csv."""
    from rich.console import Console
    from rich.progress import Progress

    from .grading.batch import GradingError, grade

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("grading", total=None)
        try:
            gradebook = grade(submissions, out, lambda learner, of: bar.update(task, advance=1, total=of))
        except GradingError as error:
            typer.echo(error, err=True)
            raise typer.Exit(2) from None
    typer.echo(f"The gradebook is {gradebook}.")


if __name__ == "__main__":
    app()
