"""A verdict comes back, and everything is cleaned up, whatever the judged code does to its process."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import nbformat
import pytest

from learning.course import judge
from learning.course.tasks import TASKS
from learning.course.verdict import Behaviour, Verdict

MONITORING = TASKS["memory_monitoring"]


def answer(folder: Path, body: str) -> Path:
    """A notebook whose MemoryMonitor does `body` when it is made."""
    source = f"import os, signal, subprocess, sys, time\nclass MemoryMonitor:\n    def __init__(self, *a, **k):\n        {body}"
    notebook = folder / MONITORING.notebook
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)]), notebook)
    return notebook


def wait_for_end(pid: int) -> None:
    """Until the process is gone, or a zombie that only waits for its parent to look."""
    deadline = time.monotonic() + 60
    with suppress(FileNotFoundError, ProcessLookupError):
        while Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
            assert time.monotonic() < deadline, "the program is still running"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("os._exit(0)", "ended the Python process (exit code 0)"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "crashed the Python process (SIGSEGV)"),
    ],
)
def test_code_that_takes_its_process_away_is_told_what_it_did(tmp_path: Path, body: str, says: str):
    verdict = judge.judge(MONITORING, answer(tmp_path, body))

    assert verdict.outcome == "failed"
    assert says in verdict.reason
    assert [each.name for each in verdict.behaviours] == judge.behaviours(MONITORING)


def test_answers_run_in_the_environment_that_their_notebook_has_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    judge.warm_up()
    monkeypatch.setenv("REDIS_URL", "redis://kept/0")

    verdict = judge.judge(MONITORING, answer(tmp_path, "raise ValueError(os.environ['REDIS_URL'])"))

    assert "redis://kept/0" in verdict.behaviours[0].came


def test_code_that_holds_off_every_alarm_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(judge, "TASK_SECONDS", 2)

    verdict = judge.judge(MONITORING, answer(tmp_path, "signal.pthread_sigmask(0, {signal.SIGALRM}); time.sleep(600)"))

    assert "still running after 2 seconds" in verdict.reason


def test_a_traceback_without_a_line_number_is_no_trouble(tmp_path: Path):
    # An alarm that comes at the start of a function leaves one, now and then; pytest cannot print it.
    nowhere = "type(sys.exc_info()[2])(None, sys._getframe(), 10**6, -1)"
    body = f"try: 1 / 0\n        except ZeroDivisionError: raise ValueError('mine').with_traceback({nowhere})"

    verdict = judge.judge(MONITORING, answer(tmp_path, body))

    assert [(each.outcome, each.came) for each in verdict.behaviours] == [("failed", "ValueError: mine")] * 5


def test_programs_that_the_code_started_end_with_it(tmp_path: Path):
    pid_file = tmp_path / "pid"
    body = f"open({str(pid_file)!r}, 'w').write(str(subprocess.Popen(['sleep', '600']).pid)); raise ValueError('done')"

    judge.judge(MONITORING, answer(tmp_path, body))

    wait_for_end(int(pid_file.read_text()))


def test_a_kernel_that_is_killed_leaves_no_server_and_no_folder(tmp_path: Path):
    code = "from learning.course import judge; print(judge.warm_up().pid, flush=True); input()"
    kernel = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        start_new_session=True,
    )
    with kernel:
        server = int(kernel.stdout.readline())
        os.killpg(kernel.pid, signal.SIGKILL)

    wait_for_end(server)
    assert list(tmp_path.iterdir()) == []


def test_what_the_code_prints_stays_out_of_sight(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    verdict = judge.judge(MONITORING, answer(tmp_path, "os.write(1, b'shout'); print('shout', file=sys.stderr); 1 / 0"))

    assert verdict.outcome == "failed"
    assert "ZeroDivisionError" in verdict.behaviours[0].came
    assert capfd.readouterr() == ("", "")


def test_a_verdict_survives_json():
    verdict = Verdict(
        "memory_analytics", "failed", "why", [Behaviour("one", "passed"), Behaviour("two", "failed", "a")]
    )

    assert Verdict.from_json(verdict.to_json()) == verdict
    assert verdict.share == 0.5
