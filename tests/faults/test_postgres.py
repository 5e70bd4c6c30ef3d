"""PostgreSQL breaks in each way it knows while agents talk: nothing acknowledged is lost, and no error is silent."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest

from learning.agent import build_agent
from learning.savers import SaverError, StorageFull, Unavailable, open_saver

from ..contract.cases import config, conversation, put, values
from .harness import small_disk, talking, wait_until

TABLES = "lg_threads, lg_checkpoints, lg_items, lg_writes, lg_schema"


@pytest.fixture
def url(postgres) -> str:
    with open_saver(postgres.url):
        return postgres.url


def kill_backends(url: str) -> int:
    """End all sessions but our own in the middle of whatever they do."""
    with psycopg.connect(url, autocommit=True) as connection:
        ended = connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        return ended.fetchone()[0]


def test_sessions_that_are_ended_again_and_again_lose_nothing_and_are_not_noticed(url: str):
    with open_saver(url) as saver, talking(saver) as (talks, recorded):
        ended = 0
        for _ in range(20):
            talks.until(3)
            ended += kill_backends(url)
    assert ended >= 20
    assert talks.errors == []
    with open_saver(url) as other:
        recorded.verify(other)


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_server_that_restarts_loses_nothing(postgres, url: str, how: str):
    (node,) = postgres.nodes
    with open_saver(url) as saver, talking(saver) as (talks, recorded):
        talks.until(20)
        getattr(node, how)()
        node.start()
        talks.until(20)
    assert [error for error in talks.errors if not isinstance(error, Unavailable)] == []
    with open_saver(url) as other:
        recorded.verify(other)


def test_a_server_that_is_away_is_told_and_a_retry_is_said_to_be_safe(postgres, url: str):
    (node,) = postgres.nodes
    with open_saver(url, timeout=0.5) as saver:
        where = put(saver, config(), {"a": 1})
        node.stop()
        try:
            with pytest.raises(Unavailable) as raised:
                put(saver, where, {"a": 2}, {"a": 2})
            assert raised.value.retry_is_safe
        finally:
            node.start()
            postgres.wait_until_ready()
        assert values(saver, put(saver, where, {"a": 2}, {"a": 2})) == {"a": 2}


def test_what_postgres_refuses_for_good_is_said_at_once_in_its_words(url: str):
    with open_saver(url) as saver, psycopg.connect(url, autocommit=True) as connection:
        where = put(saver, config(), {"a": 1})
        connection.execute("ALTER TABLE lg_checkpoints RENAME COLUMN data TO moved")
        for ask in (lambda: put(saver, where, {"a": 2}), lambda: asyncio.run(saver.aget_tuple(where))):
            with pytest.raises(SaverError, match=r"PostgreSQL refused: column .*data.* does not exist") as raised:
                ask()
            assert not raised.value.retry_is_safe
        connection.execute("ALTER TABLE lg_checkpoints RENAME COLUMN moved TO data")
        assert values(saver, where) == {"a": 1}


def test_a_server_that_is_frozen_is_not_waited_for_without_end(postgres, url: str):
    (node,) = postgres.nodes
    with open_saver(url, timeout=0.5) as saver:
        where = put(saver, config(), {"a": 1})
        node.pause()
        try:
            for ask in (lambda: put(saver, where, {"a": 2}, {"a": 2}), lambda: saver.get_tuple(config())):
                with pytest.raises(Unavailable):
                    ask()
        finally:
            node.resume()
        assert values(saver, put(saver, where, {"a": 2}, {"a": 2})) == {"a": 2}


def test_requests_that_are_given_up_leave_no_session_behind(url: str):
    with open_saver(url, timeout=0.5, pool=2) as saver, psycopg.connect(url) as other:
        where = put(saver, config(), {"a": 1})
        other.execute("LOCK lg_threads")
        for _ in range(4):
            with pytest.raises(Unavailable):
                put(saver, where, {"a": 2}, {"a": 2})
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        with psycopg.connect(url, autocommit=True) as looking:
            wait_until(lambda: looking.execute(waiting).fetchone()[0] == 0)


def test_sessions_that_hang_are_not_waited_for_one_by_one(postgres, url: str):
    with ThreadPoolExecutor(1) as beside, open_saver(url, timeout=1, pool=4) as saver:
        put(saver, config(), {"a": 1})
        with ExitStack() as taken:
            sessions = [taken.enter_context(saver.engine._pool.connection()) for _ in range(4)]
            pids = [session.info.backend_pid for session in sessions]
        with psycopg.connect(url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s)", [pids[-1]])
        processes = [psutil.Process(pid) for pid in pids[:-1]]
        try:
            for process in processes:
                process.suspend()
            with suppress(Unavailable):
                beside.submit(saver.get_tuple, config()).result(30)  # whoever waits for one waits for ever
        finally:
            for process in processes:
                process.resume()
        wait_until(lambda: values(saver, config()) == {"a": 1})


def test_event_loops_that_end_without_closing_the_saver_leave_it_usable(url: str):
    with open_saver(url) as saver:
        agent = build_agent(saver)
        for _ in range(5):
            answer = asyncio.run(agent.ainvoke({"messages": [("user", "Hello")]}, config()))
        assert len(answer["messages"]) == 10


@contextmanager
def small_database(server: Any, size: str) -> Iterator[tuple[str, Path]]:
    """The URL of a database on a disk of its own, and the folder of that disk."""
    with tempfile.TemporaryDirectory() as place, small_disk(folder := Path(place), size):
        tables = folder / "tables"
        tables.mkdir()
        shutil.chown(tables, server.nodes[0].folder.stat().st_uid)
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"CREATE TABLESPACE small LOCATION '{tables}'")
            connection.execute("CREATE DATABASE small TABLESPACE small")
            try:
                yield urlsplit(server.url)._replace(path="/small").geturl(), folder
            finally:
                connection.execute("DROP DATABASE small WITH (FORCE)")
                connection.execute("DROP TABLESPACE small")


def test_a_disk_that_is_full_is_told_and_loses_nothing(postgres):
    with small_database(postgres, "24m") as (url, folder), open_saver(url) as saver:
        with talking(saver) as (talks, recorded):
            talks.until(20)
            with suppress(OSError), open(folder / "filler", "wb", buffering=0) as filler:
                while True:
                    filler.write(bytes(4096))
            wait_until(lambda: len(talks.errors) > 4)
            (folder / "filler").unlink()
            talks.until(20)
        assert {type(error) for error in talks.errors} == {StorageFull}
        with open_saver(url) as other:
            recorded.verify(other)


def test_a_pool_without_a_free_connection_is_told_in_time(url: str):
    with open_saver(url, pool=1, timeout=0.5) as saver:
        put(saver, config(), {"a": 1})
        with saver.engine._pool.connection(), pytest.raises(Unavailable, match="all of the pool are in use"):
            saver.get_tuple(config())
        assert values(saver, config()) == {"a": 1}


def test_twenty_four_callers_may_set_up_at_once(postgres, url: str):
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP TABLE {TABLES}")

    def set_up(number: int) -> None:
        saver = open_saver(url, pool=1)
        if number % 2:
            saver.setup()
            saver.close()
        else:
            asyncio.run(set_up_awaited(saver))

    async def set_up_awaited(saver) -> None:
        async with saver:
            pass

    with ThreadPoolExecutor(24) as pool:
        list(pool.map(set_up, range(24)))
    with open_saver(url) as saver:
        conversation(saver, turns=3)


def test_tables_of_a_newer_version_are_left_alone(url: str):
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE lg_schema SET version = 99")
    saver = open_saver(url)
    with pytest.raises(SaverError, match="version 99, and this library knows 1: update it"):
        saver.setup()
    saver.close()


def test_tables_that_are_missing_are_told(url: str):
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP TABLE {TABLES}")
    saver = open_saver(url)
    with pytest.raises(SaverError, match=r"call setup\(\) once"):
        saver.get_tuple(config())
    saver.close()


def test_two_threads_of_one_saver_put_and_prune_one_conversation_at_once(url: str):
    with open_saver(url) as saver, open_saver(url) as other, ThreadPoolExecutor(2) as pool:
        pruning = pool.submit(lambda: [other.prune(["ana"]) for _ in range(40)])
        configs = conversation(saver, turns=60)
        pruning.result()
        assert len(values(saver, configs[-1])["messages"]) == 60
        saver.prune(["ana"])
        assert len(values(other, config())["messages"]) == 60
