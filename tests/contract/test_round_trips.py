"""One round trip for a put, for its writes and for a get, seen on the wire."""

import pytest

from learning.bench.contenders import counted
from learning.savers import open_saver

from .cases import config, put
from .test_storage import messages


@pytest.mark.parametrize("storage", ["postgres", "redis", "cluster"], indirect=True)
@pytest.mark.parametrize("options", [{}, {"fencing": True}, {"tenant": "acme"}], ids=["plain", "fencing", "tenant"])
def test_each_operation_takes_one_round_trip(storage, options: dict):
    with counted(storage.server) as (url, proxy), open_saver(url, **options) as saver:
        said, above = messages(20), config()
        for turn in range(12):  # the first few also prepare statements
            values, versions = {"messages": said[: turn + 1], "turns": turn}, {"messages": turn, "turns": turn}
            before = proxy.trips
            above = put(saver, above, values, versions)
            after_put = proxy.trips
            saver.put_writes(above, [("messages", said[turn + 1 : turn + 2]), ("x", 1)], f"task {turn}")
            after_writes = proxy.trips
            assert len(saver.get_tuple(config()).checkpoint["channel_values"]["messages"]) == turn + 1
            after_get = proxy.trips
            assert len(list(saver.list(config(), limit=20))) == turn + 1
            listed = proxy.trips - after_get
        assert (after_put - before, after_writes - after_put, after_get - after_writes) == (1, 1, 1)
        assert listed <= 2
