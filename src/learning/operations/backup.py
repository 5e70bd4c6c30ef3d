"""Base backups of a PostgreSQL server that are verified when they are made, and the way back to a point in time."""

import os
import shutil
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from learning.services import ServiceError, postgres_program

UNFINISHED = ".unfinished"
"""How the name of a backup ends until it is verified."""


class BackupError(Exception):
    """A backup could not be made or found sound, or the archive does not get on. The message has PostgreSQL's words."""


def back_up(url: str, folder: Path, *, keep: int = 7) -> Path:
    """Make a base backup of a running server in a new folder below `folder`, verify it, and then drop the oldest.

    A backup has a name like `2026-05-01T03-00-00Z`, and has it only when it is verified.

    Args:
        url: of a user who may replicate, such as a superuser.
        keep: how many backups there may be in `folder`. An older one goes only when the new one is verified.

    Raises:
        BackupError: if there is no new backup now. All older ones are still there.
    """
    if keep < 1:
        raise BackupError(f"keep is {keep}: at least one backup, the new one, has to be kept.")
    made = folder / f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}"
    draft = made.with_name(made.name + UNFINISHED)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f"*{UNFINISHED}"):
            shutil.rmtree(left)
        code, said = _run("pg_basebackup", "-d", url, "-D", draft, "--checkpoint=fast", "--no-password")
        if code:
            raise BackupError(f"No backup was made. {said}")
        if problems := verify(draft):
            raise BackupError("The new backup is damaged: " + " ".join(problems))
        os.rename(draft, made)
        for old in sorted(path for path in folder.iterdir() if (path / "backup_manifest").exists())[:-keep]:
            shutil.rmtree(old)
    except OSError as error:
        raise BackupError(f"No backup in {folder}: {error}") from error
    return made


def verify(backup: Path) -> list[str]:
    """What is wrong with a backup, line by line: an empty list if every byte is as it was when it was made."""
    code, said = _run("pg_verifybackup", backup)
    return said.splitlines() if code else []


def finish_archiving(url: str, seconds: float = 30) -> str:
    """Have all that is committed by now archived, and return the name of the last piece of the write-ahead log.

    It ends with a commit of its own, so a recovery to any moment before the call has a place to stop.

    Raises:
        BackupError: if the archive does not have it in time; the message says what the server tried last.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        # A commit, even of nothing: without one there may be no piece to finish, and no place for a recovery to stop.
        connection.execute("SELECT pg_current_xact_id()")
        ((piece,),) = connection.execute("SELECT pg_walfile_name(pg_switch_wal())")
        deadline = time.monotonic() + seconds
        while True:
            query = "SELECT last_archived_wal, last_failed_wal FROM pg_stat_archiver"
            ((archived, failed),) = connection.execute(query)
            if archived and archived >= piece:
                return piece
            if time.monotonic() > deadline:
                raise BackupError(
                    f"{piece} is not archived; the last that was is {archived}, the last to fail {failed}."
                )
            time.sleep(0.05)


def prepare_restore(backup: Path, archive: Path, target: Path, *, moment: datetime) -> Path:
    """Write a data folder `target` on which a server, when it starts, recovers to `moment` and goes on from there.

    The backup is copied, and stays as it is. Nothing is done to a running server.

    Args:
        moment: with a time zone. It has to be after the end of the backup, and before a call of `finish_archiving`:
            recovery stops at the first commit after it, and fails if the archive has none.

    Raises:
        BackupError: if the backup is damaged, `moment` has no time zone, or `target` is there already.
    """
    if moment.tzinfo is None:
        raise BackupError(f"{moment} has no time zone, so nobody knows which moment it is.")
    if problems := verify(backup):
        raise BackupError("The backup is damaged: " + " ".join(problems))
    try:
        shutil.copytree(backup, target, symlinks=True)
        target.chmod(0o700)
    except OSError as error:
        raise BackupError(f"{backup} cannot be copied to {target}: {error}") from error
    settings = {
        "restore_command": f'cp "{archive}/%f" "%p"',
        "recovery_target_time": moment.isoformat(),
        "recovery_target_action": "promote",
    }
    with (target / "postgresql.auto.conf").open("a") as file:
        file.writelines(f"{name} = '{_quoted(value)}'\n" for name, value in settings.items())
    (target / "recovery.signal").touch()
    return target


def _quoted(value: str) -> str:
    return value.replace("'", "''")


def _run(name: str, *arguments: object) -> tuple[int, str]:
    """The exit code of one of PostgreSQL's programs, and what it said."""
    try:
        command = [str(postgres_program(name)), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    except (ServiceError, OSError) as error:
        raise BackupError(str(error)) from error
    return done.returncode, (done.stderr or done.stdout).strip()
