"""The engine on Redis answers what the one in memory answers, on real servers and through real faults."""

import asyncio
import hashlib
import os
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from redis.asyncio import Connection

from learning.savers.engines.memory import MemoryEngine
from learning.savers.engines.redis import RedisEngine
from learning.savers.engines.redis_servers import Servers
from learning.savers.errors import InvalidRequest, SaverError, StorageFull, Unavailable
from learning.savers.program import run
from learning.savers.records import Batch, Drop, Get, Place, Put, PutWrites, Read, Record, Remove, Scan

OWNERS = [b"owner--1", b"owner--2"]
THREADS = [owner + bytes(11) + bytes([number]) for owner in OWNERS for number in (1, 255)]
SPACES = [bytes(8), b"\0" * 7 + b"\xff", b"\xff" * 8]
IDS = ["a", "a\0", "a\0b", "ab", "b", "é", "\U0001f600", "z" * 255]
RUNS = [b"", b"r" * 16]
MOST = [Put, Put, Put, PutWrites, PutWrites, Get, Read, Scan, Scan]


@pytest.fixture(params=["redis", "cluster"])
def server(request):
    return request.getfixturevalue(request.param)


class Requests:
    """Random requests, such as a saver makes: what a put needs is in it, or in the thread's epoch that it names."""

    def __init__(self, seed, memory):
        self.random = random.Random(seed)
        self.memory = memory
        self.items = {}
        for number in range(30):
            needs = self.random.sample(list(self.items), min(number, self.random.choice([0, 0, 1, 2])))
            name = hashlib.blake2b(bytes([seed % 256, number]), digest_size=16).digest()
            name = name[:15] + bytes([name[15] | 1 if needs else name[15] & ~1])  # an even name needs nothing
            self.items[name] = Record(self.random.randbytes(number), tuple(needs))

    def next(self):
        kind = self.random.choice(MOST * 8 + [Remove] * 2 + [Drop])
        if kind in (Put, PutWrites):
            return self.store(kind)
        thread, choice = self.random.choice(THREADS), self.random.choice
        places = [self.place(thread) for _ in range(self.random.randrange(5))]
        if kind is Get:
            return Get(thread, choice(SPACES), choice([None, None, "", *IDS]))
        if kind is Read:
            return Read(thread, places)
        if kind is Remove:
            return Remove(thread, places, self.random.getrandbits(48))
        if kind is Drop:
            return Drop(thread, choice(IDS), choice([100, 0]))
        return Scan(
            owner=thread[:8] if choice([1, 1, 1, 0]) else choice(OWNERS),
            thread=choice([None, thread]),
            space=choice([None, None, *SPACES]),
            below=choice([None, None, self.place(thread), self.place(choice(THREADS))]),
            before=choice([None] * 8 + IDS),
            run=choice([None, None, *RUNS]),
            count=choice([1, 3, 100]),
        )

    def store(self, kind):
        choice = self.random.choice
        place = self.place(choice(THREADS))
        records = [self.record() for _ in range(1 if kind is Put else self.random.randrange(1, 4))]
        items = self.closure(records)
        shelf = self.memory._shelf(place.thread)
        epoch = choice([None, None, None, 12345])
        if shelf and shelf.name and self.random.random() < 0.7:
            epoch = shelf.epoch
            items = {name: item for name, item in items.items() if name not in shelf.items or choice([0, 0, 1])}
        common = {
            "place": place,
            "items": items,
            "name": b"name of " + place.thread,
            "epoch": epoch,
            "new_epoch": self.random.getrandbits(48),
            "lineage": choice([None] * 8 + IDS),
            "seconds": choice([None, 100] * 20 + [0]),
        }
        if kind is PutWrites:
            tasks = [(choice(["t1", "t2 ", "ü\0"]), choice([-3, -1, 0, 1, 10])) for _ in records]
            return PutWrites(writes=dict(zip(tasks, records, strict=True)), **common)
        extends = choice([None] * 6 + ["", (shelf and shelf.newest(place.space)) or "a"])
        return Put(record=records[0], run=choice(RUNS), extends=extends, **common)

    def place(self, thread):
        return Place(thread, self.random.choice(SPACES), self.random.choice(IDS))

    def record(self):
        needs = self.random.sample(list(self.items), self.random.randrange(4))
        return Record(self.random.randbytes(20), tuple(needs))

    def closure(self, records):
        items, names = {}, [name for record in records for name in record.needs]
        for name in names:
            items[name] = self.items[name]
            names += self.items[name].needs
        return items


def plain(answer):
    if isinstance(answer, Batch):  # a put that was refused leaves the engine in memory an empty shelf with an epoch
        return replace(answer, rows=list(answer.rows), epoch=answer.epoch if answer.rows else None)
    return answer


def test_it_answers_as_memory_does(server):
    memory, engine = MemoryEngine(), RedisEngine(server.url)
    requests = Requests(1, memory)
    for number in range(1500):
        request = requests.next()
        assert plain(engine.perform(request)) == plain(memory.perform(request)), f"step {number}: {request}"
    engine.close()


def test_async_answers_the_same_under_one_loop_after_the_other(server):
    memory, engine = MemoryEngine(), RedisEngine(server.url)
    requests = Requests(2, memory)

    async def steps():
        for number in range(50):
            request = requests.next()
            assert plain(await engine.aperform(request)) == plain(memory.perform(request)), f"step {number}: {request}"

    for _ in range(5):
        asyncio.run(steps())
    asyncio.run(engine.aclose())


def test_a_request_is_one_call(redis):
    engine, thread = RedisEngine(redis.url, durable=1), os.urandom(20)
    put = numbered(thread, 1)
    place, name = put.place, put.name
    requests = [
        put,
        PutWrites(place, {("t", 0): put.record}, {}, name, None, 1),
        Get(thread, bytes(8), None),
        Read(thread, [place]),
        Scan(thread[:8], thread),
        Remove(thread, [place], 2),
        Drop(thread, "", 1),
    ]
    for request in requests:  # now the server has the scripts
        engine.perform(request)
    for request in requests:
        redis.client().config_resetstat()
        engine.perform(request)
        calls = {name: redis.client().info("commandstats").get(f"cmdstat_{name}", {}) for name in ("evalsha", "eval")}
        assert (calls["evalsha"]["calls"], calls["eval"]) == (1, {}), request
    engine.close()


def test_a_thread_expires_as_a_whole(redis):
    engine, thread, client = RedisEngine(redis.url), os.urandom(20), redis.client()
    put = numbered(thread, 1)
    writes = PutWrites(put.place, {("t", 0): put.record}, {}, put.name, None, 1, seconds=50)
    for request, expire in [(put, False), (writes, True), (replace(put, seconds=70), True), (put, False)]:
        engine.perform(request)
        ends = {client.execute_command("PEXPIRETIME", key) for key in client.scan_iter()}
        assert len(ends) == 1
        assert (ends != {-1}) == expire
    engine.perform(Drop(thread, "x", 50))
    assert client.keys() == [f"lg:{{{thread.hex()}}}:about".encode()]
    assert 0 < client.pttl(client.keys()[0]) <= 50_000
    engine.close()


def test_with_memory_full_a_put_changes_nothing_and_deletion_works(redis):
    engine, thread = RedisEngine(redis.url), os.urandom(20)
    for number in range(3):
        engine.perform(numbered(thread, number))
    before = engine.perform(Scan(thread[:8], thread))
    redis.fill_memory()
    for put in (numbered(thread, 4), numbered(os.urandom(20), 4)):
        with pytest.raises(StorageFull, match="no memory left"):
            engine.perform(put)
    assert engine.perform(Scan(thread[:8], thread)) == before
    assert len(redis.client().keys()) == 5
    assert engine.perform(Remove(thread, [before[0].place], 2)) == 1
    engine.perform(Drop(thread, "x", 50))
    assert len(redis.client().keys()) == 1
    engine.close()


def test_an_item_that_a_failover_lost_is_asked_for_again(redis):
    engine, thread = RedisEngine(redis.url), os.urandom(20)
    put = numbered(thread, 1)
    epoch = engine.perform(put).epoch
    known = replace(put, items={}, epoch=epoch)
    assert engine.perform(known).kind == "stored"
    redis.client().delete(f"lg:{{{thread.hex()}}}:items")
    assert engine.perform(known).kind == "stale"
    engine.close()


def test_who_does_not_answer_is_unavailable_and_named(redis):
    engine = RedisEngine(redis.url, timeout=0.2)
    redis.node.pause()
    for perform in (engine.perform, lambda request: asyncio.run(engine.aperform(request))):
        with pytest.raises(Unavailable, match=f"127.0.0.1:{redis.node.port}"):
            perform(Get(bytes(20), bytes(8), None))
    redis.node.resume()
    assert engine.perform(Get(bytes(20), bytes(8), None)).rows == ()
    engine.close()


def test_what_redis_refuses_for_good_is_said_in_its_words_and_is_not_tried_again(redis):
    engine, thread = RedisEngine(redis.url), os.urandom(20)
    redis.client().set(f"lg:{{{thread.hex()}}}:about", "something else")
    for perform in (engine.perform, lambda request: asyncio.run(engine.aperform(request))):
        with pytest.raises(SaverError, match=rf"127\.0\.0\.1:{redis.node.port} refused\. .*WRONGTYPE") as error:
            perform(numbered(thread, 1))
        assert not error.value.retry_is_safe
    engine.close()


def test_an_answer_that_nobody_waits_for_any_more_is_not_given_to_another(redis, monkeypatch):
    engine, thread, read = RedisEngine(redis.url, timeout=20), os.urandom(20), Connection.read_response

    async def main():
        asked = asyncio.Event()

        async def telling(self, *arguments, **options):
            asked.set()
            return await read(self, *arguments, **options)

        await engine.aperform(numbered(thread, 0))
        monkeypatch.setattr(Connection, "read_response", telling)
        redis.node.pause()
        late = asyncio.create_task(engine.aperform(numbered(thread, 1)))
        await asked.wait()
        late.cancel()
        with pytest.raises(asyncio.CancelledError):
            await late
        asked.clear()
        scanning = asyncio.create_task(engine.aperform(Scan(thread[:8], thread)))
        await asked.wait()
        redis.node.resume()
        assert "000000" in {row.place.id for row in await scanning}
        await engine.aclose()

    asyncio.run(asyncio.wait_for(main(), 30))


@pytest.mark.parametrize(
    ("url", "options", "says"),
    [
        ("http://localhost:6379", {}, "has to begin with redis, rediss, unix, redis.cluster or rediss.cluster"),
        ("localhost:6379", {}, "has to begin with redis"),
        ("unix+cluster:///tmp/redis", {}, "has to begin with redis"),
        ("redis://localhost", {"prefix": "lg*"}, r"prefix 'lg\*' has other characters than letters, digits and _\.:-"),
        ("redis://localhost", {"prefix": ""}, "The prefix '' has other characters"),
        ("redis://localhost", {"prefix": "größe"}, "The prefix 'größe' has other characters"),
    ],
)
def test_a_url_or_a_prefix_that_cannot_be_is_told(url, options, says):
    with pytest.raises(InvalidRequest, match=says):
        RedisEngine(url, **options)


def test_of_a_cluster_any_node_that_answers_is_enough(cluster):
    nobody, thread = "127.0.0.1:1", os.urandom(20)
    scheme, _, rest = cluster.url.partition("://")
    login, _, places = rest.rpartition("@")
    url = f"{scheme}://{login}@" if login else f"{scheme}://"
    engine = RedisEngine(f"{url}{nobody},{places}", timeout=5)
    assert engine.perform(numbered(thread, 1)).kind == "stored"
    assert engine._servers._addresses[0] != nobody, "who did not answer is asked last"
    engine.close()

    lost = RedisEngine(f"{url}{nobody}", timeout=0.05)
    for perform in (lost.perform, lambda request: asyncio.run(lost.aperform(request))):
        with pytest.raises(Unavailable, match=r"No node of the cluster answers\. Redis at 127\.0\.0\.1:1 cannot"):
            perform(Get(thread, bytes(8), None))


def test_a_slot_that_nobody_owns_is_unavailable_and_asked_for_again():
    servers = Servers("redis+cluster://127.0.0.1:1", 0.05)
    with pytest.raises(Unavailable, match="No server of the cluster owns this thread now"):
        run(servers.call(None), servers.perform)


def test_a_write_that_no_replica_has_is_not_called_stored(redis):
    engine = RedisEngine(redis.url, durable=1, timeout=0.4)
    assert engine.perform(numbered(bytes(20), 1)).kind == "stored"
    redis.replicas[0].pause()
    with pytest.raises(Unavailable, match="0 of 1 replicas"):
        engine.perform(numbered(bytes(20), 1))
    redis.replicas[0].resume()
    assert engine.perform(numbered(bytes(20), 1)).kind == "stored"
    engine.close()


def test_killing_a_master_loses_nothing_that_was_stored(cluster):
    engine = RedisEngine(cluster.url, durable=1, timeout=2)
    threads = [os.urandom(20) for _ in range(6)]
    victim = cluster.master_of(f"lg:{{{threads[0].hex()}}}:about")

    def work(thread):
        stored = []
        for number in range(400):
            if number == 100 and thread == threads[0]:
                victim.kill()
            try:
                engine.perform(numbered(thread, number))
                stored.append(f"{number:06}")
            except Unavailable as error:  # the new master has no replica
                assert "0 of 1 replicas" in str(error)
                break
        return stored

    with ThreadPoolExecutor(len(threads)) as pool:
        stored = dict(zip(threads, pool.map(work, threads), strict=True))
    assert 100 <= len(stored[threads[0]]) < 400
    for thread in threads:
        found = {row.place.id for row in engine.perform(Scan(thread[:8], thread, count=1000))}
        assert found >= set(stored[thread])
    engine.close()


def numbered(thread, number):
    name = number.to_bytes(16)
    return Put(Place(thread, bytes(8), f"{number:06}"), Record(b"row", (name,)), {name: Record(b"item")}, b"n", None, 1)
