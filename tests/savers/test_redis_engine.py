"""The engine on Redis answers what the one in memory answers, on real servers and through real faults."""

import asyncio
import hashlib
import random
import threading
from dataclasses import replace

import pytest

from learning import services
from learning.savers.engines.memory import MemoryEngine
from learning.savers.engines.redis import RedisEngine
from learning.savers.errors import SaverError, Unavailable
from learning.savers.records import Batch, Drop, Get, Place, Put, PutWrites, Read, Record, Remove, Scan

OWNERS = [b"owner--1", b"owner--2"]
THREADS = [owner + bytes(11) + bytes([number]) for owner in OWNERS for number in (1, 255)]
SPACES = [bytes(8), b"\0" * 7 + b"\xff", b"\xff" * 8]
IDS = ["a", "a\0", "a\0b", "ab", "b", "é", "\U0001f600", "z" * 255]
RUNS = [b"", b"r" * 16]
MOST = [Put, Put, Put, PutWrites, PutWrites, Get, Read, Scan, Scan]


@pytest.fixture(scope="module", params=[services.redis, services.redis_cluster], ids=["alone", "cluster"])
def server(request):
    with request.param() as server:
        yield server


class Requests:
    """Random requests, such as a saver makes: what a put needs is in it, or in the thread's epoch that it names."""

    def __init__(self, seed, memory):
        self.random = random.Random(seed)
        self.memory = memory
        self.items = {}
        for number in range(30):
            needs = self.random.sample(list(self.items), min(number, self.random.choice([0, 0, 1, 2])))
            name = hashlib.blake2b(bytes([seed % 256, number]), digest_size=16).digest()
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
    memory, engine = MemoryEngine(), RedisEngine(server.url, prefix="lg-same")
    requests = Requests(1, memory)
    for number in range(1500):
        request = requests.next()
        assert plain(engine.perform(request)) == plain(memory.perform(request)), f"step {number}: {request}"
    engine.close()


def test_async_answers_the_same_under_one_loop_after_the_other(server):
    memory, engine = MemoryEngine(), RedisEngine(server.url, prefix="lg-async")
    requests = Requests(2, memory)

    async def steps():
        for number in range(50):
            request = requests.next()
            assert plain(await engine.aperform(request)) == plain(memory.perform(request)), f"step {number}: {request}"

    for _ in range(5):
        asyncio.run(steps())
    asyncio.run(engine.aclose())
