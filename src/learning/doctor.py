"""What this machine has of what the course needs: `learning doctor`. Each finding says how to mend what is wrong."""

import shutil
import sys
import time
import webbrowser
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from packaging.requirements import Requirement

from . import lab
from .course.tasks import LESSONS, ROOT
from .grading import isolation
from .services import ServiceError, containers
from .services.standing import STARTERS
from .services.workspace import NEEDED_BYTES, base

PYTHONS = ((3, 11), (3, 14))
"""The first Python that is supported, and the first that is no more."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. With a remedy something is wrong; it may be `optional`, and then nothing stops."""

    what: str
    found: str
    remedy: str = ""
    optional: bool = False


def examine() -> Iterator[Finding]:
    """Look at everything, and tell of each thing when it is known. Servers are really started."""
    yield _python()
    yield _packages()
    yield _disk()
    for name in STARTERS:
        yield _service(name)
    yield _lab()
    yield _browser()
    yield _docker()
    yield _isolation()


def _python() -> Finding:
    found = f"{sys.version.split()[0]} in {sys.prefix}"
    first, end = PYTHONS
    wrong = not first <= sys.version_info[:2] < end
    return Finding("Python", found, "make lab PYTHON=/path/to/python3.12, with one of 3.11 to 3.13" if wrong else "")


def _packages() -> Finding:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    pins = [pin for pin in pins if pin.marker is None or pin.marker.evaluate()]
    others = [f"{pin.name} {has}" for pin in pins if (has := _installed(pin.name)) and has not in pin.specifier]
    if others:
        return Finding("packages", f"other versions than were tested: {', '.join(others)}", "rm .venv/.ready; make lab")
    return Finding("packages", "those of constraints.txt")


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # of an extra that nobody asked for, say
        return ""


def _disk() -> Finding:
    folder = base()
    free = shutil.disk_usage(folder).free
    found = f"{free / 2**30:.1f} GB free in {folder}"
    wrong = free < NEEDED_BYTES
    return Finding("disk", found, "free some, or set TMPDIR to a folder on a larger disk" if wrong else "")


def _service(name: str) -> Finding:
    began = time.monotonic()
    try:
        with STARTERS[name]() as server:
            return Finding(server.title, f"answered after {time.monotonic() - began:.1f} s")
    except ServiceError as error:
        words = str(error)
        return Finding(name, words, "see what it says; LEARNING_SERVICES=embedded takes the server that pip installed")


def _lab() -> Finding:
    missing = [name for name, _ in LESSONS.values() if (ROOT / "solutions" / f"{name}.ipynb").exists()]
    missing = [name for name in missing if not (ROOT / "notebooks" / f"{name}.ipynb").exists()]
    if not lab.SETTINGS.is_dir() or missing:
        return Finding("JupyterLab", f"missing: {', '.join(missing) or lab.SETTINGS}", "learning build")
    return Finding("JupyterLab", version("jupyterlab"))


def _browser() -> Finding:
    try:
        return Finding("browser", webbrowser.get().name)
    except webbrowser.Error:
        return Finding(
            "browser", "none here", "open the address that `make lab` prints in one elsewhere", optional=True
        )


def _docker() -> Finding:
    if containers.engine() is None:
        return Finding("Docker", "no engine answers, and none is needed")
    absent = sorted({image for variable, image in containers.IMAGES.items() if not containers.has_image(variable)})
    if absent:
        pull = "; ".join(f"docker pull {image}" for image in absent)
        return Finding("Docker", "an engine answers, some images are not here", f"to use it: {pull}", optional=True)
    return Finding("Docker", "an engine answers, and has the images")


def _isolation() -> Finding:
    found = isolation.isolation()
    return Finding("grading", f"isolation: {isolation.WHAT[found]}", isolation.REMEDY[found], optional=True)
