"""What tests of grading share: one sandbox, as warm after one batch as before the next."""

from collections.abc import Iterator, Sequence

import pytest

from learning.course.tasks import TASKS
from learning.grading.runners import Job, Runner, Tell
from learning.grading.sandbox import Judged, Sandbox


@pytest.fixture(scope="session")
def sandbox(own_servers) -> Iterator[Sandbox]:
    with Sandbox() as found:
        yield found


@pytest.fixture(scope="session")
def runner(sandbox: Sandbox) -> Runner:
    """Judges one submission at a time, in that sandbox."""

    def run(work: Sequence[Job], tell: Tell) -> Iterator[tuple[Job, list[Judged]]]:
        for job in work:
            tasks = [TASKS[name] for name in job.tasks]
            yield job, sandbox.judge(job.submission.path.name, job.files, tasks)

    return run
