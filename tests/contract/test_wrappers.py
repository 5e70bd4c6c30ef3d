"""Each wrapper passes the contract of what it wraps, and does what it is for."""

import asyncio
import threading
from typing import Any

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint
from langgraph.checkpoint.conformance import validate
from langgraph.checkpoint.conformance.initializer import RegisteredCheckpointer
from langgraph.checkpoint.memory import InMemorySaver
from prometheus_client import CollectorRegistry

from learning.savers import InvalidRequest, Saver, Unavailable, open_saver
from learning.savers.engines.memory import MemoryEngine
from learning.savers.wrappers import CachedSaver, LRUSaver, MonitoredSaver, TenantSaver, TieredSaver, cached
from learning.savers.wrappers.base import Wrapper

from .cases import CASES, config, contents, conversation, ids, pending, put, values
from .test_cases import Async
from .test_official import CASES as OFFICIAL
from .test_official import Sync


class Counting(InMemorySaver):
    """An official saver that counts its gets, and may be out of order."""

    gets, broken = 0, False

    def get_tuple(self, config: Any) -> Any:
        self._work()
        self.gets += 1
        return super().get_tuple(config)

    def put(self, *arguments: Any) -> Any:
        self._work()
        return super().put(*arguments)

    def put_writes(self, *arguments: Any) -> Any:
        self._work()
        return super().put_writes(*arguments)

    def delete_thread(self, thread_id: str) -> None:
        self._work()
        super().delete_thread(thread_id)

    def _work(self) -> None:
        if self.broken:
            raise Unavailable("out of order")


def memory(**options: Any) -> Saver:
    return open_saver("memory://", **options)


WRAPPERS = {
    "bare": lambda: Wrapper(memory()),
    "lru": lambda: LRUSaver(memory(), max_threads=1000),
    "cached": lambda: CachedSaver(memory()),
    "tiered": lambda: TieredSaver(memory(), memory()),
    "monitored": lambda: MonitoredSaver(memory(), registry=CollectorRegistry()),
    "tenant": lambda: TenantSaver(memory(), "acme"),
    "all": lambda: MonitoredSaver(
        CachedSaver(TieredSaver(LRUSaver(memory(), max_threads=3), TenantSaver(memory(tenant="a"), "b"))),
        registry=CollectorRegistry(),
    ),
}


@pytest.fixture(params=WRAPPERS)
def wrapped(request: pytest.FixtureRequest) -> Any:
    return WRAPPERS[request.param]()


@pytest.mark.parametrize("through", [Sync, lambda saver: saver], ids=["sync", "async"])
def test_every_case_of_the_official_suite_passes(wrapped, through):
    async def one_saver():
        yield through(wrapped)

    report = asyncio.run(validate(RegisteredCheckpointer("wrapped", one_saver)))

    assert [failure for result in report.results.values() for failure in result.failures] == []
    assert sum(result.tests_passed for result in report.results.values()) == OFFICIAL


@pytest.mark.parametrize("through", ["sync", "async"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_case_holds(wrapped, case, through: str):
    if through == "sync":
        case(wrapped)
    else:
        with asyncio.Runner() as runner:
            case(Async(wrapped, runner))


@pytest.mark.parametrize("name", WRAPPERS)
def test_an_allowlist_goes_through_to_the_saver_inside(name: str):
    saver = WRAPPERS[name]()
    allowing = saver.with_allowlist([Unstorable])

    where = put(allowing, config(), {"a": Unstorable()})
    assert type(values(allowing, where)["a"]) is Unstorable
    with pytest.raises(TypeError, match="Unstorable is not allowed"):
        put(saver, config(), {"a": Unstorable()})


class Unstorable:
    """A class that nobody has allowed."""

    __slots__ = ()


@pytest.fixture(params=["sync", "async"])
def through(request: pytest.FixtureRequest) -> Any:
    """Makes a saver's sync methods run those, or the async ones."""
    if request.param == "sync":
        yield lambda saver: saver
    else:
        with asyncio.Runner() as runner:
            yield lambda saver: Async(saver, runner)


def test_retention_goes_through_to_the_saver_inside(wrapped, through):
    saver = through(wrapped)
    conversation(saver, turns=5)
    saver.get_tuple(config())

    assert saver.retain("ana", newest=2, dry_run=True) == 3
    assert len(ids(saver.list(config()))) == 5
    assert saver.retain("ana", newest=2) == 3
    assert [len(contents(each)) for each in saver.list(config())] == [5, 4]


def test_what_ancestors_wrote_goes_through_from_the_saver_inside(wrapped, through):
    saver, plain = through(wrapped), InMemorySaver()
    for each in (saver, plain):
        parent = put(each, config(), {"x": ["seed"]}, id="1")
        each.put_writes(parent, [("x", ["written"]), ("y", 1)], "task")
        put(each, parent, {}, {"x": 2}, id="2")
    found, expected = (
        each.get_delta_channel_history(config=config(checkpoint_id="2"), channels=["x"]) for each in (saver, plain)
    )

    assert expected["x"]["writes"] == [("task", "x", ["written"])]
    assert found == expected


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_config_that_names_no_thread_is_refused_with_what_is_missing(name: str, through):
    for named in ({}, {"configurable": {}}, {"configurable": {"checkpoint_ns": ""}}):
        with pytest.raises(InvalidRequest, match=r"names no thread:.*thread_id"):
            through(WRAPPERS[name]()).get_tuple(named)


# --- set up and closed ------------------------------------------------------------------------------------------------


class Noting(MemoryEngine):
    """An engine that notes when it is set up and closed, and may be out of order."""

    def __init__(self, name: str, told: list[str], broken: bool = False):
        super().__init__()
        self.name, self.told, self.broken = name, told, broken

    def setup(self) -> None:
        if self.broken:
            raise Unavailable("out of order")
        self.told.append(f"setup {self.name}")

    async def asetup(self) -> None:
        if self.broken:
            raise Unavailable("out of order")
        self.told.append(f"asetup {self.name}")

    def close(self) -> None:
        self.told.append(f"close {self.name}")

    async def aclose(self) -> None:
        self.told.append(f"aclose {self.name}")


def two_tiers(told: list[str], broken: bool = False) -> CachedSaver:
    """A wrapper around a wrapper around two savers."""
    return CachedSaver(TieredSaver(Saver(Noting("hot", told)), Saver(Noting("cold", told, broken))))


def test_a_wrapper_sets_up_and_closes_all_savers_inside():
    told: list[str] = []
    saver = two_tiers(told)
    saver.setup()
    assert told == ["setup hot", "setup cold"]
    told.clear()
    saver.close()
    assert told == ["close hot", "close cold"]


def test_as_a_context_manager_a_wrapper_enters_and_leaves_all_savers_inside():
    told: list[str] = []
    with two_tiers(told) as saver:
        assert told == ["setup hot", "setup cold"]
        assert values(saver, put(saver, config(), {"a": 1})) == {"a": 1}
    assert told == ["setup hot", "setup cold", "close cold", "close hot"]


def test_as_an_async_context_manager_a_wrapper_enters_and_leaves_all_savers_inside():
    told: list[str] = []

    async def use() -> None:
        async with two_tiers(told) as saver:
            assert told == ["asetup hot", "asetup cold"]
            assert isinstance(saver, CachedSaver)

    asyncio.run(use())
    assert told == ["asetup hot", "asetup cold", "aclose cold", "aclose hot"]


def test_where_one_saver_inside_cannot_be_set_up_those_before_it_are_closed():
    told: list[str] = []

    async def use() -> None:
        async with two_tiers(told, broken=True):
            raise AssertionError

    with pytest.raises(Unavailable), two_tiers(told, broken=True):
        raise AssertionError
    assert told == ["setup hot", "close hot"]
    told.clear()
    with pytest.raises(Unavailable):
        asyncio.run(use())
    assert told == ["asetup hot", "aclose hot"]


def test_a_saver_inside_that_needs_no_setup_is_left_alone():
    class Simple(BaseCheckpointSaver):
        pass

    async def use() -> None:
        async with Wrapper(Simple()) as saver:
            assert isinstance(saver.inner, Simple)

    saver = Wrapper(Simple())
    saver.setup()
    saver.close()
    with saver as entered:
        assert entered is saver
    asyncio.run(use())


# --- what each is for -------------------------------------------------------------------------------------------------


def test_of_more_threads_than_are_wanted_the_one_used_longest_ago_goes():
    saver = LRUSaver(memory(), max_threads=2)
    for thread in ("a", "b"):
        put(saver, config(thread), {"t": thread})
    saver.get_tuple(config("a"))
    put(saver, config("c"), {"t": "c"})

    assert {each.config["configurable"]["thread_id"] for each in saver.list(None)} == {"a", "c"}


def test_a_thread_that_is_used_again_while_it_goes_loses_nothing_that_was_put():
    inner = InMemorySaver()
    saver = LRUSaver(inner, max_threads=1)
    delete, late = inner.delete_thread, threading.Thread(target=lambda: put(saver, config("a"), {"t": "late"}))

    def slow_delete(thread_id: str) -> None:
        if thread_id == "a":
            late.start()
            late.join(0.1)  # what is put now waits, or else is lost
        delete(thread_id)

    inner.delete_thread = slow_delete
    for thread in ("a", "b"):
        put(saver, config(thread), {"t": thread})
    late.join()

    assert values(saver, config("a")) == {"t": "late"}


def test_who_awaits_a_thread_that_goes_lets_others_work_meanwhile():
    async def main() -> None:
        inner = InMemorySaver()
        saver = LRUSaver(inner, max_threads=1)
        begun, may_end, delete = asyncio.Event(), asyncio.Event(), inner.adelete_thread

        async def slow_delete(thread_id: str) -> None:
            if thread_id == "a":
                begun.set()
                await may_end.wait()
            await delete(thread_id)

        inner.adelete_thread = slow_delete
        checkpoint = {**empty_checkpoint(), "channel_values": {"t": "late"}, "channel_versions": {"t": 1}}
        arguments = checkpoint, {}, {"t": 1}
        await saver.aput(config("a"), {**checkpoint, "channel_values": {"t": "early"}}, {}, {"t": 1})
        going = asyncio.create_task(saver.aput(config("b"), *arguments))
        await begun.wait()
        late = asyncio.create_task(saver.aput(config("a"), *arguments))
        await asyncio.sleep(0)  # now it waits
        assert not late.done()
        may_end.set()
        await asyncio.gather(going, late)
        assert (await saver.aget_tuple(config("a"))).checkpoint["channel_values"] == {"t": "late"}

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_thread_is_not_deleted_while_it_is_read():
    inner = InMemorySaver()
    saver = LRUSaver(inner, max_threads=1)
    where = put(saver, config("a"), {"t": "a"})
    read = inner.get_tuple

    def slow_read(config: Any) -> Any:
        inner.get_tuple = read
        put(saver, {"configurable": {"thread_id": "b", "checkpoint_ns": ""}}, {"t": "b"})
        return read(config)

    inner.get_tuple = slow_read
    assert values(saver, where) == {"t": "a"}
    assert len(list(saver.list(None))) == 1


def test_a_thread_is_not_deleted_while_it_is_copied():
    inner = memory()
    saver = LRUSaver(inner, max_threads=2)
    conversation(saver, "a", turns=5)
    copy = inner.copy_thread

    def slow_copy(*threads: str) -> None:
        inner.copy_thread = copy
        for thread in ("b", "c"):
            put(saver, config(thread), {"t": thread})
        copy(*threads)

    inner.copy_thread = slow_copy
    saver.copy_thread("a", "d")

    assert len(contents(saver.get_tuple(config("d")))) == 5
    assert len({each.config["configurable"]["thread_id"] for each in saver.list(None)}) == 2


def test_a_thread_that_could_not_be_deleted_is_tried_again(caplog):
    inner = Counting()
    saver = LRUSaver(inner, max_threads=1)
    put(saver, config("a"), {"t": "a"})
    delete, inner.delete_thread = inner.delete_thread, lambda thread_id: inner.get_tuple(None)
    put(saver, config("b"), {"t": "b"})
    assert "Thread 'a' could not be deleted" in caplog.text

    inner.delete_thread = delete
    saver.get_tuple(config("b"))
    assert [each.config["configurable"]["thread_id"] for each in saver.list(None)] == ["b"]


def test_of_more_checkpoints_than_are_wanted_the_one_read_longest_ago_is_forgotten():
    inner = Counting()
    saver = CachedSaver(inner, max_checkpoints=2)
    for thread in ("a", "b", "c"):
        put(saver, config(thread), {"t": thread})
    for thread in ("a", "b", "a", "c"):
        saver.get_tuple(config(thread))
    assert (inner.gets, saver.hits) == (3, 1)

    saver.get_tuple(config("a"))
    assert (inner.gets, saver.hits) == (3, 2)
    saver.get_tuple(config("b"))
    assert (inner.gets, saver.hits) == (4, 2)


def test_what_changes_nothing_makes_a_cache_forget_nothing():
    inner = Counting()
    saver = CachedSaver(inner)
    where = put(saver, config(), {"a": 1})
    saver.get_tuple(where)
    saver.get_delta_channel_history(config=where, channels=[])
    gets = inner.gets
    saver.get_tuple(where)

    assert (inner.gets, saver.hits) == (gets, 1)


def after_a_read_that_a_write_overtook() -> CachedSaver:
    inner = Counting()
    saver = CachedSaver(inner)
    where = put(saver, config(), {"a": 1})
    late = inner.get_tuple

    def overtaken(config: Any) -> Any:
        found = late(config)
        saver.put_writes(where, [("a", 2)], "task")
        return found

    inner.get_tuple = overtaken
    saver.get_tuple(config())
    inner.get_tuple = late
    return saver


def test_a_cache_that_counts_the_changes_of_few_threads_is_not_stale_either(monkeypatch):
    monkeypatch.setattr(cached, "MOST_CHANGES", 0)
    saver = after_a_read_that_a_write_overtook()

    assert pending(saver, config()) == [("task", "a", 2)]
    assert len(saver._changes) == 1


def test_what_is_cached_is_read_once_and_never_stale():
    inner = Counting()
    saver = CachedSaver(inner)
    where = put(saver, config(), {"a": [1]})
    for _ in range(3):
        values(saver, config())["a"].append(2)
    assert (inner.gets, values(saver, config())) == (1, {"a": [1]})

    saver.put_writes(where, [("a", 2)], "task")
    assert pending(saver, config()) == [("task", "a", 2)]
    put(saver, where, {"a": [3]}, {"a": 2})
    assert values(saver, config()) == {"a": [3]}
    assert saver.get_tuple(config("nobody")) is None
    put(saver, config("nobody"), {"a": 1})
    assert values(saver, config("nobody")) == {"a": 1}


def test_a_read_that_a_write_overtook_is_not_remembered():
    assert pending(after_a_read_that_a_write_overtook(), config()) == [("task", "a", 2)]


def test_a_tier_reads_from_the_hot_saver_and_loses_nothing_with_it():
    hot, cold = Counting(), Counting()
    saver = TieredSaver(hot, cold)
    configs = conversation(saver, turns=5)
    saver.put_writes(configs[-1], [("x", 1)], "task")
    cold.gets = 0
    assert len(contents(saver.get_tuple(config()))) == 5
    assert cold.gets == 0

    hot.delete_thread("ana")
    assert len(contents(saver.get_tuple(config()))) == 5
    assert pending(saver, config()) == [("task", "x", 1)]
    assert [len(contents(each)) for each in saver.list(config())] == [5, 4, 3, 2, 1]


def test_after_an_outage_of_the_hot_saver_no_stale_copy_is_read(caplog):
    hot, cold = Counting(), Counting()
    saver = TieredSaver(hot, cold)
    first = put(saver, config(), {"a": 1})
    hot.broken = True
    second = put(saver, first, {"a": 2}, {"a": 2})
    assert values(saver, config()) == {"a": 2}
    hot.broken = False
    assert "The hot saver is not read for thread 'ana'" in caplog.text

    assert values(saver, config()) == {"a": 2}
    assert ids(hot.list(config())) in ([], [second["configurable"]["checkpoint_id"]])


def test_what_the_hot_saver_cannot_read_comes_from_the_cold_one(caplog):
    hot, cold = Counting(), Counting()
    saver = TieredSaver(hot, cold)
    put(saver, config(), {"a": 1})
    hot.broken = True

    assert values(saver, config()) == {"a": 1}
    assert (saver.hits, saver.misses, cold.gets) == (0, 1, 1)
    assert "The hot saver is not read for thread 'ana'" in caplog.text


def test_a_put_that_is_cancelled_on_its_way_to_the_hot_saver_ends_and_leaves_no_stale_copy():
    async def main() -> None:
        hot, cold = InMemorySaver(), InMemorySaver()
        saver, begun, store = TieredSaver(hot, cold), asyncio.Event(), hot.aput

        async def hanging(*arguments: Any) -> Any:
            begun.set()
            await asyncio.Event().wait()

        first = put(saver, config(), {"a": 1})
        hot.aput = hanging
        checkpoint = {**empty_checkpoint(), "channel_values": {"a": 2}, "channel_versions": {"a": 2}}
        putting = asyncio.create_task(saver.aput(first, checkpoint, {}, {"a": 2}))
        await begun.wait()
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        hot.aput = store
        assert (await saver.aget_tuple(config())).checkpoint["channel_values"] == {"a": 2}

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_put_whose_answer_is_lost_leaves_no_stale_copy():
    hot, cold = Counting(), Counting()
    saver = TieredSaver(hot, cold)
    first = put(saver, config(), {"a": 1})
    store = cold.put

    def lose_the_answer(*arguments: Any) -> Any:
        store(*arguments)
        raise Unavailable("it has it, and nobody hears of it")

    cold.put = lose_the_answer
    with pytest.raises(Unavailable):
        put(saver, first, {"a": 2}, {"a": 2})

    assert values(saver, config()) == {"a": 2}


def test_a_deleted_thread_does_not_come_back_from_the_hot_saver():
    hot, cold = memory(), memory()
    saver = TieredSaver(hot, cold)
    put(saver, config(), {"a": "secret"})
    warm = hot.put
    hot.prune(["ana"], strategy="delete")

    def late(*arguments: Any) -> Any:
        hot.put = warm
        saver.delete_thread("ana")
        return warm(*arguments)

    hot.put = late
    saver.get_tuple(config())

    assert saver.get_tuple(config()) is None


def test_what_the_cold_saver_does_not_take_is_an_error_and_not_read():
    hot, cold = Counting(), Counting()
    saver = TieredSaver(hot, cold)
    first = put(saver, config(), {"a": 1})
    cold.broken = True
    with pytest.raises(Unavailable):
        put(saver, first, {"a": 2}, {"a": 2})
    cold.broken = False

    assert values(saver, config()) == {"a": 1}


def test_metrics_count_calls_and_errors_by_method_and_name_no_thread():
    registry, inner = CollectorRegistry(), Counting()
    saver = MonitoredSaver(inner, name="shop", registry=registry)
    where = put(saver, config("thread-of-ana"))
    saver.get_tuple(where)
    next(iter(saver.list(None)))
    inner.broken = True
    with pytest.raises(Unavailable):
        saver.get_tuple(where)

    def sample(metric: str, **labels: str) -> float | None:
        return registry.get_sample_value(metric, {"saver": "shop", **labels})

    assert sample("checkpointer_seconds_count", method="put") == 1
    assert sample("checkpointer_seconds_count", method="get_tuple") == 2
    assert sample("checkpointer_seconds_count", method="list") == 1
    assert sample("checkpointer_errors_total", method="get_tuple", error="Unavailable") == 1
    assert sample("checkpointer_under_way", method="get_tuple") == 0
    text = repr([family.samples for family in registry.collect()])
    assert "thread-of-ana" not in text


def test_tenants_of_one_saver_see_nothing_of_each_other():
    shared = memory()
    acme, other = TenantSaver(shared, "acme"), TenantSaver(shared, "acme/x")
    put(acme, config("x/ana"), {"a": "acme"}, metadata={"run_id": "run"})
    put(other, config("ana"), {"a": "other"}, metadata={"run_id": "run"})
    acme.delete_for_runs(["run"])

    assert acme.get_tuple(config("x/ana")) is None
    assert [each.metadata["run_id"] for each in other.list(None, filter={"run_id": "run"})] == ["run"]
    assert [each.config["configurable"]["thread_id"] for each in other.list(None)] == ["ana"]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: LRUSaver(memory(), max_threads=0), "at least one thread"),
        (lambda: TenantSaver(memory(), ""), "A tenant has a name"),
    ],
    ids=["lru", "tenant"],
)
def test_a_wrapper_that_could_do_nothing_is_refused(make, says: str):
    with pytest.raises(InvalidRequest, match=says):
        make()
