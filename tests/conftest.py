"""What all tests stand on: servers of their own in a place of their own, and nothing left of them.

One server of each kind serves all tests. A test that needs more, or has to see it start, starts its own.
"""

import os
import shutil
import tempfile
from contextlib import suppress
from multiprocessing import util
from pathlib import Path

import psycopg
import pytest

from learning import services
from learning.services.choice import KINDS, SWITCH
from learning.services.guard import programs
from learning.services.server import wait_for
from learning.services.workspace import PREFIX

GUARDS_SECONDS = 20
"""How long the guards of owners that were killed may take to clear up."""


@pytest.fixture(scope="session", autouse=True)
def own_servers(tmp_path_factory):
    """Whatever servers this machine or its environment has, tests start their own, and leave none."""
    for keep in (tmp_path_factory.getbasetemp, util.get_temp_dir):
        keep()  # what pytest and multiprocessing keep stays where it always is
    place = Path(tempfile.mkdtemp(prefix="lt-", dir="/tmp")).resolve()
    place.chmod(0o1777)
    with pytest.MonkeyPatch.context() as patch:
        for name in (*KINDS, *(companion for kind in KINDS.values() for companion in kind.companions)):
            patch.delenv(name, raising=False)
        patch.setenv(SWITCH, os.environ.get("LEARNING_TEST_SERVICES", "embedded"))
        patch.setenv("TMPDIR", str(place))
        patch.setattr(tempfile, "tempdir", None)
        yield

    def left() -> tuple[list, list]:
        return programs(place), list(place.glob(f"{PREFIX}*"))

    with suppress(services.ServiceError):
        wait_for(lambda: left() == ([], []), "nothing is left", GUARDS_SECONDS)
    running, folders = left()
    about = [each.as_dict(("pid", "cwd", "cmdline")) for each in running]
    shutil.rmtree(place, ignore_errors=True)
    assert (about, folders) == ([], [])


@pytest.fixture(scope="session")
def _redis():
    with services.redis(replicas=1) as server:
        yield server


@pytest.fixture(scope="session")
def _cluster():
    with services.redis_cluster(node_timeout=500) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def _postgres():
    with services.postgres(archive=True) as server:
        yield server


@pytest.fixture
def redis(_redis):
    """A Redis with a replica, whole again and empty."""
    _redis.heal()
    _redis.client().flushall()
    return _redis


@pytest.fixture
def cluster(_cluster):
    """A cluster of 3 masters and 3 replicas with a node timeout of 500 ms, whole again and empty."""
    _cluster.heal()
    with _cluster.client() as client:
        client.flushall()
    return _cluster


@pytest.fixture
def postgres(_postgres):
    """A PostgreSQL that archives, whole again and empty."""
    _postgres.heal()
    with psycopg.connect(_postgres.url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return _postgres


@pytest.fixture(scope="session")
def s3():
    """An S3 server with a bucket."""
    with services.s3() as server:
        yield server
