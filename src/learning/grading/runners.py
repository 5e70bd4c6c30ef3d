"""Where submissions are judged: in sandboxes of this machine, or of a Dask cluster's workers, with the same result."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from learning.course.reading import shared_servers
from learning.course.tasks import TASKS

from .sandbox import Judged, Sandbox
from .submissions import GradingError, Submission

_here = threading.local()


@dataclass(frozen=True)
class Job:
    """A notebook with the files beside it, and the tasks to judge on it."""

    submission: Submission
    files: dict[str, bytes]
    tasks: list[str]


Tell = Callable[[Job, str], None]
"""Called with a job and the name of the task that is being judged; an empty one when the job is done."""

Runner = Callable[[Sequence[Job], Tell], Iterator[tuple[Job, list[Judged]]]]


def on_this_machine(jobs: int | None = None) -> Runner:
    """Judge so many submissions at a time; else one for each processor, or two if their tests wait for servers."""

    def run(work: Sequence[Job], tell: Tell) -> Iterator[tuple[Job, list[Judged]]]:
        waits = any(shared_servers(TASKS[task]) for job in work for task in job.tasks)
        most = jobs or (1 + waits) * (os.cpu_count() or 1)
        sandboxes: list[Sandbox] = []

        def judge(job: Job) -> list[Judged]:
            if not hasattr(_here, "sandbox"):
                _here.sandbox = Sandbox()
                sandboxes.append(_here.sandbox)
            tasks = [TASKS[name] for name in job.tasks]
            return _here.sandbox.judge(job.submission.path.name, job.files, tasks, lambda task: tell(job, task))

        pool = ThreadPoolExecutor(max(1, min(most, len(work))))
        try:
            futures = {pool.submit(judge, job): job for job in work}
            yield from _as_they_come(futures, as_completed(futures), tell)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for sandbox in sandboxes:
                sandbox.close()

    return run


def on_dask(address: str) -> Runner:
    """Judge on the workers of a cluster whose scheduler is at `address`, such as `tcp://10.0.0.5:8786`.

    Each worker needs this course, installed from the same release; each of its threads has a sandbox of its own.
    """
    try:
        from distributed import Client
        from distributed import as_completed as as_they_complete
    except ImportError:
        raise GradingError("--scheduler needs Dask: pip install -c constraints.txt -e '.[dask]'") from None

    def run(work: Sequence[Job], tell: Tell) -> Iterator[tuple[Job, list[Judged]]]:
        try:
            client = Client(address, timeout=10, set_as_default=False)
        except (OSError, ValueError) as error:
            raise GradingError(f"No Dask scheduler answers at {address}: {error}") from error
        with client:
            futures = {}
            for job in work:
                name = job.submission.path.name
                futures[client.submit(judge_on_worker, name, job.files, job.tasks, pure=False)] = job
            yield from _as_they_come(futures, as_they_complete(list(futures), loop=client.loop), tell)

    return run


def judge_on_worker(notebook: str, files: dict[str, bytes], tasks: list[str]) -> list[dict[str, Any]]:
    """Judge one submission in a sandbox of this thread; plain data in, plain data out."""
    if not hasattr(_here, "sandbox"):
        _here.sandbox = Sandbox()
    return [each.to_json() for each in _here.sandbox.judge(notebook, files, [TASKS[name] for name in tasks])]


def _as_they_come(futures: dict[Any, Job], done: Iterator[Any], tell: Tell) -> Iterator[tuple[Job, list[Judged]]]:
    for future in done:
        judged = [each if isinstance(each, Judged) else Judged.from_json(each) for each in future.result()]
        yield futures[future], judged
        tell(futures[future], "")
