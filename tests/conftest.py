"""What all tests stand on: servers of their own, and nothing left of them."""

import os

import pytest

from learning.services.choice import KINDS, SWITCH
from learning.services.guard import programs
from learning.services.workspace import PREFIX, base


def guards_and_servers() -> set[int]:
    """The processes that work in a workspace of any kind, by pid."""
    folders = base().glob(f"{PREFIX}*")
    return {process.pid for folder in folders for process in programs(folder)}


@pytest.fixture(scope="session", autouse=True)
def own_servers():
    """Whatever servers this machine or its environment has, tests start their own, and leave none."""
    before = guards_and_servers()
    folders = set(base().glob(f"{PREFIX}*"))
    with pytest.MonkeyPatch.context() as patch:
        for name in (*KINDS, *(companion for kind in KINDS.values() for companion in kind.companions)):
            patch.delenv(name, raising=False)
        patch.setenv(SWITCH, os.environ.get("LEARNING_TEST_SERVICES", "embedded"))
        yield
    assert guards_and_servers() - before == set()
    assert set(base().glob(f"{PREFIX}*")) - folders == set()
