"""JupyterLab on a lesson, with the course's own settings beside the learner's, never in their place."""

import json
import os
import sys
from pathlib import Path

from jupyterlab_server.workspaces_handler import WorkspacesManager

from .course.tasks import LESSONS, ROOT, lesson_called

SETTINGS = Path(__file__).parent / "lab_settings"
WORKSPACES = ROOT / ".learning" / "workspaces"

# No setting of Lab's opens a side panel: which one is open belongs to the layout that a workspace remembers.
CONTENTS_OPEN = {
    "metadata": {"id": "default"},
    "data": {
        "layout-restorer:data": {
            "left": {"collapsed": False, "visible": True, "current": "@jupyterlab/toc:plugin"},
            "right": {"collapsed": True, "visible": True},
            "relativeSizes": [0.22, 0.78, 0],
        }
    },
}


def notebook(lesson: str) -> Path:
    """The notebook of a lesson, as `lesson_called` takes it.

    Raises:
        LookupError: if there is no such lesson, or its notebook is missing; the message is for the learner.
    """
    name, _ = LESSONS[lesson_called(lesson)]
    path = ROOT / "notebooks" / f"{name}.ipynb"
    if not path.exists():
        raise LookupError(f"notebooks/{name}.ipynb is missing. {_remedy(name)}")
    return path


def command(path: Path, options: list[str]) -> list[str]:
    """The command line that opens Lab on a notebook of the course; `options` are Lab's own and win over ours."""
    return [
        *(sys.executable, "-m", "jupyterlab"),
        # As in a container. What a learner's cells may do is what the learner may do, with Lab or without.
        *(["--allow-root"] if os.geteuid() == 0 else []),
        "--log-level=WARN",  # what is left is the address
        f"--ServerApp.root_dir={ROOT}",
        # Not the notebook as an argument: this way the address that Lab prints leads to it as well.
        f"--LabApp.default_url=/lab/tree/{path.relative_to(ROOT).as_posix()}",
        *options,
    ]


def environment() -> dict[str, str]:
    """The environment that Lab runs in: this one, with the course's settings and workspaces."""
    paths = [str(SETTINGS), os.environ.get("JUPYTER_CONFIG_PATH", "")]
    own = {
        "JUPYTER_CONFIG_PATH": os.pathsep.join(filter(None, paths)),
        "JUPYTERLAB_WORKSPACES_DIR": str(WORKSPACES),
        # As an activated environment has it, so that `!pip` in a notebook and Lab's terminals use this one.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
    }
    # IPython would add the packages of another environment that is active.
    return {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"} | own


def open_contents() -> None:
    """Have Lab start with the contents panel open, unless the learner has a layout already."""
    workspaces = WorkspacesManager(str(WORKSPACES))
    if not workspaces.load("default")["data"]:
        workspaces.save("default", json.dumps(CONTENTS_OPEN))


def run(lesson: str, options: list[str]) -> None:
    """Become JupyterLab, opened on a lesson. Does not return.

    Raises:
        LookupError: as `notebook`.
    """
    path = notebook(lesson)
    open_contents()
    argv = command(path, options)
    print(f"JupyterLab opens {path.relative_to(ROOT)}. Ctrl+C here ends it; what is saved stays.", flush=True)
    os.execve(argv[0], argv, environment())


def _remedy(name: str) -> str:
    if (ROOT / "solutions" / f"{name}.ipynb").exists():
        return "Make it again with `learning build`."
    there = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    return f"This lesson is still to come; open {' or '.join(there) or 'another'}."
