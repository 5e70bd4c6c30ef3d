"""All of a saver taken to another version in place: whatever happens, each checkpoint is whole in one version."""

import asyncio
import multiprocessing
import os
import signal
import tracemalloc
from itertools import count
from pathlib import Path

import numpy
import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from learning.course.desk import build_desk
from learning.course.on_migration import build_office, desk_steps, old_office, to_2, values_in_version_3, values_of
from learning.migration import Migrations, amigrate, migrate, state_version
from learning.migration.official import opened
from learning.savers import Unavailable, open_saver
from learning.savers.wrappers.base import Wrapper

from ..contract.cases import put, values
from .conftest import sqlite_saver
from .shop_steps import migrations
from .test_convert import Stopping, content, named

THREADS, LENGTH = 100, 100
FORK = multiprocessing.get_context("fork")


def ask(saver, customers=("ana", "ben", "eve")):
    """Conversations of version 1 that wait for a person."""
    for customer in customers:
        build_desk(1, saver).invoke({"customer": customer, "total": 249.0}, named(customer))


def assert_answered(saver, customer="ana"):
    notes = build_desk(3, saver).invoke(Command(resume=True), named(customer))["notes"]
    assert notes[-1] == f"v3 says: {customer} gets 24900 cents in EUR"


def versions(saver):
    return {state_version(found) for found in saver.list(None)}


def test_a_step_leads_from_one_version_to_another_and_each_way_has_one():
    taken = Migrations()
    taken.step(1, 2)(dict)
    with pytest.raises(ValueError, match="from version 1 to 2 already"):
        taken.step(1, 2)
    with pytest.raises(ValueError, match="not from 2 to 2"):
        taken.step(2, 2)


def test_every_engine_is_migrated_in_place_and_every_thread_continues(saver):
    ask(saver)
    report = migrate(saver, migrations, 3)
    assert (report.changed, dict(report.found), list(report.failed)) == (9, {1: 9}, [])
    assert versions(saver) == {3}
    assert (report.added["currency"], report.removed["total"]) == (6, 6)
    assert_answered(saver)


@pytest.mark.parametrize("official", ["sqlite", "postgres"], indirect=True)
def test_the_tables_of_an_official_saver_are_migrated_in_place_and_every_thread_continues(official):
    with opened(official, make=True) as saver:
        ask(saver, ["ana"])
        old_office(saver, "olga")  # waits in a subgraph
        saver.put_writes(saver.get_tuple(named("ana")).config, [("total", 99.0), ("notes", ["said"])], "task")
        wanted = values_in_version_3(saver)
        report = migrate(saver, desk_steps(), 3)
        assert (report.changed, list(report.failed)) == (len(wanted), [])
        assert values_of(saver) == wanted
        assert migrate(saver, desk_steps(), 3).changed == 0
    with opened(official) as saver:
        assert_answered(saver)
        first = [*build_desk(3, saver).get_state_history(named("ana"))][-1]
        assert build_desk(3, saver).invoke(None, first.config)["notes"] == ["v3 asks: ana gets 24900 cents in EUR?"]
        notes = build_office(3, saver).invoke(Command(resume=True), named("olga"))["notes"]
        assert notes[-1] == "v3 says: Olga gets 1234 cents in EUR"


def test_a_dry_run_changes_nothing_and_tells_what_would_change():
    saver = InMemorySaver()
    ask(saver)
    before = content(saver)
    report = migrate(Stopping(saver, 0), migrations, 3, dry_run=True)
    assert content(saver) == before
    assert report.changed == 9
    example = report.examples[0]
    assert (example.removed["total"], example.added["cents"]) == (249.0, 24900)
    assert migrate(saver, migrations, 3).added == report.added


def test_a_checkpoint_that_a_step_fails_on_is_named_and_left_and_the_rest_goes_on():
    saver = InMemorySaver()
    ask(saver)

    broken = Migrations()

    @broken.step(1, 2)
    def step(values):
        if values.get("customer") == "ben":
            raise KeyError("total")
        return to_2(values)

    before = content(saver)
    report = migrate(saver, broken, 2)
    failed = {(each.thread_id, each.ns, each.checkpoint_id) for each in report.failed}
    assert {thread_id for thread_id, _, _ in failed} == {"ben"} and len(failed) == 3
    assert {key: content(saver)[key] for key in failed} == {key: before[key] for key in failed}
    assert report.changed == 6
    assert migrate(saver, migrations, 3).changed == 9
    assert_answered(saver, "ben")


def test_a_step_that_changes_a_value_under_its_old_name_is_refused():
    saver, wrong = InMemorySaver(), Migrations()
    ask(saver)
    wrong.step(1, 2)(lambda values: values | ({"total": 100 * values["total"]} if "total" in values else {}))
    before = content(saver)
    report = migrate(saver, wrong, 2)
    failed = {each.checkpoint_id for each in report.failed}
    assert len(failed) == 6 and "'total'" in str(next(iter(report.failed)))
    assert all(content(saver)[key] == value for key, value in before.items() if key[2] in failed)


def test_values_that_cannot_be_compared_are_the_same_if_they_are_stored_as_the_same():
    saver, kept, wrong = open_saver("memory://"), Migrations(), Migrations()
    put(saver, named("ana"), {"prices": numpy.arange(3.0), "total": 1.0})
    kept.step(1, 2)(to_2)
    wrong.step(1, 2)(lambda values: values | {"prices": values["prices"] + 1})
    report = migrate(saver, wrong, 2)
    assert report.changed == 0 and "'prices'" in str(next(iter(report.failed)))
    report = migrate(saver, kept, 2)
    assert (report.changed, list(report.failed)) == (1, [])
    assert values(saver, named("ana"))["prices"].tolist() == [0.0, 1.0, 2.0]


def test_what_a_task_has_written_is_taken_along(saver):
    ask(saver, ["ana"])
    saver.put_writes(saver.get_tuple(named("ana")).config, [("total", 99.0), ("notes", ["said"])], "task")
    for _ in range(2):
        migrate(saver, migrations, 3)
        writes = [write[1:] for write in saver.get_tuple(named("ana")).pending_writes if write[0] == "task"]
        assert sorted(writes) == [("cents", 9900), ("notes", ["said"]), ("total", 99.0)]
    assert_answered(saver)


def test_a_second_run_finishes_what_was_stopped_at_any_moment():
    whole = None
    for calls in count():
        saver = InMemorySaver()
        checkpoint = {**empty_checkpoint(), "id": "1", "ts": "", "channel_values": {"total": 1.0}}
        for thread_id in ("ana", "ben"):
            config = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
            config = saver.put(config, {**checkpoint, "channel_versions": {"total": "1"}}, {}, {"total": "1"})
            saver.put_writes(config, [("total", 2.0)], "task")
        if whole is None:
            migrate(saver, migrations, 3)
            whole = content(saver)
            continue
        try:
            migrate(Stopping(saver, calls - 1), migrations, 3)
        except Unavailable:
            migrate(saver, migrations, 3)
            assert content(saver) == whole
        else:
            break
    assert calls == 5


# --- ten thousand, and a process that is killed -----------------------------------------------------------------------


def fill(path: Path):
    """10,000 checkpoints of version 1, each with a value of its own of 2,000 bytes."""
    with sqlite_saver(path) as saver:
        saver.setup()
        commit, saver.conn.isolation_level = saver.conn.commit, None
        saver.conn.execute("BEGIN")
        for thread in range(THREADS):
            config = {"configurable": {"thread_id": f"customer {thread}", "checkpoint_ns": ""}}
            for step in range(LENGTH):
                values = {"total": float(step), "customer": f"{thread} {step}".ljust(2000)}
                checkpoint = {
                    **empty_checkpoint(),
                    "id": f"{thread:04}-{step:04}",
                    "ts": "",
                    "channel_values": values,
                    "channel_versions": dict.fromkeys(values, f"{step:032}.0"),
                }
                config = saver.put(config, checkpoint, {"step": step}, checkpoint["channel_versions"])
        commit()


def run_migration(path: Path, progress=None):
    with sqlite_saver(path) as saver:
        return migrate(saver, migrations, 3, on_progress=progress or (lambda report: None))


def test_ten_thousand_checkpoints_killed_halfway_and_finished_are_as_if_never_killed(tmp_path):
    killed, never = tmp_path / "killed.sqlite", tmp_path / "never.sqlite"
    fill(killed)
    never.write_bytes(killed.read_bytes())
    ours, theirs = FORK.Pipe()

    def told(report):
        theirs.send(report.changed)
        theirs.recv()

    child = FORK.Process(target=run_migration, args=(killed, told))
    child.start()
    try:
        while ours.poll(60) and ours.recv() <= THREADS * LENGTH // 2:
            ours.send("go on")
        ours.send("go on")
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.join()
    assert child.exitcode == -signal.SIGKILL
    second = run_migration(killed)
    assert second.found[1] and second.found[3] > THREADS * LENGTH // 2, "it was not killed halfway"
    assert second.changed == second.found[1]

    peaks = []

    def measure(report):  # a part of them, because it makes all several times slower
        if not peaks and not tracemalloc.is_tracing():
            tracemalloc.start()
        elif tracemalloc.is_tracing() and report.changed > 2000:
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()

    try:
        report = run_migration(never, measure)
    finally:
        tracemalloc.stop()
    assert report.changed == THREADS * LENGTH
    assert peaks[0] < 1_000_000, f"{peaks[0]:,} bytes in memory at once, of 4,000,000 that were read"
    assert rows(killed) == rows(never)


def rows(path):
    with sqlite_saver(path) as saver:
        saver.setup()
        query = "SELECT * FROM checkpoints ORDER BY thread_id, checkpoint_ns, checkpoint_id"
        return saver.conn.execute(query).fetchall(), saver.conn.execute("SELECT * FROM writes").fetchall()


# --- beside others ----------------------------------------------------------------------------------------------------


class Counting(Wrapper):
    """Holds each put until it is told to go on, and counts the threads that are in work."""

    def __init__(self, inner):
        super().__init__(inner)
        self.go_on = asyncio.Event()
        self.working, self.most = set(), 0

    async def aput(self, config, *arguments):
        thread_id = config["configurable"]["thread_id"]
        self.working.add(thread_id)
        self.most = max(self.most, len(self.working))
        await self.go_on.wait()
        await asyncio.sleep(0)
        result = await self.inner.aput(config, *arguments)
        self.working.discard(thread_id)
        return result


def test_at_most_so_many_threads_are_in_work():
    async def main():
        saver = Counting(InMemorySaver())
        ask(saver.inner, [f"customer {number}" for number in range(12)])
        migrating = asyncio.create_task(amigrate(saver, migrations, 3, limit=3))
        while len(saver.working) < 3:
            await asyncio.sleep(0)
        saver.go_on.set()
        assert (await migrating).changed == 36
        assert saver.most == 3

    asyncio.run(asyncio.wait_for(main(), 30))


def test_one_of_our_savers_is_migrated_in_an_event_loop_too(saver):
    async def main():
        report = await amigrate(saver, migrations, 3)
        assert (report.changed, report.threads, list(report.failed)) == (9, 3, [])
        assert versions(saver) == {3}
        assert_answered(saver)
        await saver.aclose()

    ask(saver)
    asyncio.run(main())


def test_a_cancelled_migration_ends_with_whole_threads():
    async def main():
        saver = Counting(InMemorySaver())
        customers = [f"customer {number}" for number in range(12)]
        ask(saver.inner, customers)
        migrating = asyncio.create_task(amigrate(saver, migrations, 3, limit=3))
        while len(saver.working) < 3:
            await asyncio.sleep(0)
        migrating.cancel()
        await asyncio.sleep(0)
        migrating.cancel()
        await asyncio.sleep(0)
        saver.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await migrating
        found = [{state_version(each) for each in saver.inner.list(named(customer))} for customer in customers]
        assert sorted(found, key=min) == [{1}] * 9 + [{3}] * 3

    asyncio.run(asyncio.wait_for(main(), 30))
