"""The engine on S3 answers what the one in memory answers, in few requests, and through what may happen on the way."""

import asyncio
import itertools
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from langchain_core.messages import HumanMessage

from learning.faults.s3_proxy import PASSING, proxied
from learning.savers import Saver
from learning.savers.engines import s3, s3_bucket
from learning.savers.engines.memory import MemoryEngine
from learning.savers.engines.s3 import S3Engine
from learning.savers.engines.s3_turns import Turns
from learning.savers.errors import InvalidRequest, SaverError, Unavailable, Unreadable
from learning.savers.records import Batch, Drop, Get, Outcome, Place, Put, PutWrites, Read, Record, Remove, Scan, Sweep
from learning.services import binaries
from learning.services.server import wait_for
from tests.contract.cases import config, put

from .test_redis_engine import Requests

OWNER = b"owner--1"
THREAD = OWNER + bytes(12)
SPACE = bytes(8)
PLACE = Place(THREAD, SPACE, "1")


@pytest.fixture(scope="module")
def server(s3):
    return s3


@pytest.fixture
def opened(server, request):
    """Opens engines on one prefix of the bucket, each as if in a process of its own."""

    def open_engine(*, endpoint=None, bucket=server.bucket, **options):
        options = {
            "access_key_id": server.environment["AWS_ACCESS_KEY_ID"],
            "secret_access_key": server.environment["AWS_SECRET_ACCESS_KEY"],
            "timeout": 2,
        } | options
        url = f"s3://{bucket}/{hash(request.node.name) % 10**9}"
        return S3Engine(url, endpoint=endpoint or server.environment["S3_ENDPOINT_URL"], **options)

    return open_engine


@pytest.fixture
def objects(server, request):
    """The keys of the objects that the test has made, with their sizes."""

    def listed():
        prefix = f"{hash(request.node.name) % 10**9}/"
        pages = server.client().get_paginator("list_objects_v2").paginate(Bucket=server.bucket, Prefix=prefix)
        return {each["Key"]: each["Size"] for page in pages for each in page.get("Contents", ())}

    return listed


@pytest.fixture
def proxy(server):
    with proxied(server.environment["S3_ENDPOINT_URL"]) as proxy:
        yield proxy


def a_put(id="1", *, thread=THREAD, size=10, **more):
    common = {"name": b"name", "items": {}, "epoch": None, "new_epoch": 7}
    data = random.Random(f"{id}").randbytes(size)
    return Put(place=Place(thread, SPACE, id), record=Record(data), **common | more)


def some_writes(task="t", *, place=PLACE, **more):
    common = {"name": b"name", "items": {}, "epoch": None, "new_epoch": 7}
    return PutWrites(place=place, writes={(task, 0): Record(task.encode())}, **common | more)


def plain(answer):
    return replace(answer, rows=list(answer.rows)) if isinstance(answer, Batch) else answer


def ids(engine, thread=THREAD):
    rows = engine.perform(Scan(OWNER, thread, count=10_000))
    assert rows == sorted(rows, key=lambda row: row.place.id, reverse=True)
    return {row.place.id for row in rows}


# --- meaning ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("log", [300, 64 * 1024], ids=["segments", "heads"])
def test_two_processes_answer_as_memory_does(opened, monkeypatch, log):
    monkeypatch.setattr(s3, "LOG", log)
    memory, engines, chance = MemoryEngine(), [opened(), opened()], random.Random(log)
    requests = Requests(log, memory)
    with asyncio.Runner() as runner:
        for number in range(200):
            request, engine = requests.next(), chance.choice(engines)
            answer = runner.run(engine.aperform(request)) if chance.random() < 0.5 else engine.perform(request)
            assert plain(answer) == plain(memory.perform(request)), f"step {number}: {request}"


@pytest.mark.parametrize("log", [300, 64 * 1024], ids=["segments", "heads"])
def test_nothing_is_lost_where_processes_write_at_once(opened, monkeypatch, log):
    monkeypatch.setattr(s3, "LOG", log)

    def write(number):
        engine = opened()
        for count in range(15):
            assert engine.perform(a_put(f"{count:03} {number}")).kind == "stored"
            if count % 5 == 0:
                assert engine.perform(Remove(THREAD, [Place(THREAD, SPACE, f"{count:03} {number}")], count)) == 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))

    assert ids(opened()) == {f"{count:03} {number}" for count in range(15) for number in range(4) if count % 5}


def test_a_put_that_relies_on_what_another_process_removed_is_stale(opened):
    one, two = opened(), opened()
    item = {b"i" * 16: Record(b"item")}
    assert one.perform(a_put(items=item)) == Outcome("stored", 7)
    two.perform(Remove(THREAD, [PLACE], 8))

    assert one.perform(a_put("2", epoch=7)) == Outcome("stale")
    assert one.perform(a_put("2", epoch=8)) == Outcome("stored", 8)


# --- requests and bytes -----------------------------------------------------------------------------------------------


def test_a_short_thread_takes_few_requests(opened, proxy):
    saver, above = Saver(opened(endpoint=proxy.url)), config()
    saver.setup()
    messages, counts = [], []
    for number in range(20):
        messages = [*messages, HumanMessage(random.randbytes(250).hex(), id=str(number))]
        proxy.seen.clear()
        above = put(saver, above, {"messages": messages}, {"messages": number})
        counts.append(proxy.seen.total())
        saver.put_writes(above, [("messages", "x"), ("messages", "y")], "task")
        counts.append(proxy.seen.total() - counts[-1])
    assert counts == [2] + [1] * 39

    proxy.seen.clear()
    assert len(Saver(opened(endpoint=proxy.url)).get_tuple(config()).checkpoint["channel_values"]["messages"]) == 20
    assert proxy.seen == {"GET": 1}

    proxy.seen.clear()
    assert len(list(Saver(opened(endpoint=proxy.url)).list(config()))) == 20
    assert proxy.seen == {"GET": 2}


def test_writes_of_many_tasks_at_once_share_requests(opened, proxy):
    engine = opened(endpoint=proxy.url)
    engine.perform(a_put())
    proxy.seen.clear()
    writes = [some_writes(str(number)) for number in range(50)]

    async def together():
        return await asyncio.gather(*(engine.aperform(each) for each in writes[:25]))

    assert asyncio.run(together()) == [Outcome("stored", 7)] * 25
    assert proxy.seen == {"PUT": 2}
    with ThreadPoolExecutor(25) as pool:
        assert list(pool.map(engine.perform, writes[25:])) == [Outcome("stored", 7)] * 25
    assert proxy.seen.total() < 20
    assert len(opened().perform(Get(THREAD, SPACE, None)).writes[PLACE]) == 50


def test_a_long_thread_is_stored_once_and_read_in_few_requests(opened, proxy, objects):
    engine, size = opened(), 0
    for number in range(150):
        assert engine.perform(a_put(f"{number:04}", size=3000)).kind == "stored"
        size += 3000
        if number % 50 == 49:
            assert sum(objects().values()) < 1.2 * size
            assert len(objects()) <= 5
    proxy.seen.clear()

    assert len(ids(opened(endpoint=proxy.url))) == 150
    assert proxy.seen.total() <= 5


def test_all_threads_are_listed_with_one_request_each_and_then_with_one_in_all(opened, proxy):
    writer, engine = opened(), opened(endpoint=proxy.url)
    threads = [OWNER + bytes(11) + bytes([number]) for number in range(20)]
    for number, thread in enumerate(threads):
        writer.perform(a_put(f"{number:02}", thread=thread))
    writer.perform(a_put(thread=b"owner--2" + bytes(12)))

    rows = engine.perform(Scan(OWNER, count=7))
    assert [row.place.thread for row in rows] == threads[:-8:-1]
    assert proxy.seen == {"GET": 20, "LIST": 2}  # the second page is empty
    proxy.seen.clear()
    assert len(engine.perform(Scan(OWNER, below=rows[-1].place))) == 13
    assert proxy.seen == {"LIST": 2}


# --- what goes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [Drop(THREAD, "", 100), Remove(THREAD, [PLACE], 9)], ids=["drop", "remove"])
def test_what_was_removed_is_no_longer_in_the_bucket(opened, objects, request_):
    one, two = opened(), opened()
    one.perform(a_put(size=100_000))
    two.perform(a_put("1", size=100_000))

    opened().perform(request_)
    assert len(objects()) == 1
    assert sum(objects().values()) < 500
    assert not two.perform(Get(THREAD, SPACE, None)).rows


def test_a_thread_that_has_expired_leaves_the_bucket_when_all_are_listed(opened, objects, monkeypatch):
    engine = opened()
    engine.perform(a_put(size=100_000, seconds=60))
    assert engine.perform(Get(THREAD, SPACE, None)).rows
    later = time.time() + 60
    monkeypatch.setattr(time, "time", lambda: later)

    assert engine.perform(Get(THREAD, SPACE, None)).rows == ()
    assert engine.perform(Scan(OWNER)) == []
    assert sum(objects().values()) < 500
    assert engine.perform(a_put("2")).kind == "stored"
    assert ids(opened()) == {"2"}


def test_a_segment_that_nobody_used_is_swept_away(opened, objects, server, monkeypatch):
    engine = opened()
    engine.perform(a_put("1", size=100_000))
    _, segment = sorted(objects())
    server.client().put_object(Bucket=server.bucket, Key=segment[:-33] + "0" * 16 + "-dead", Body=b"x")
    engine.perform(a_put("2", size=100_000))

    assert len(objects()) == 2
    assert ids(opened()) == {"1", "2"}


def test_only_what_has_expired_is_swept(opened, objects, monkeypatch):
    engine, other = opened(), OWNER + bytes(11) + b"\x01"
    engine.perform(a_put(size=100_000, seconds=60))
    engine.perform(a_put(thread=other, size=100_000))
    assert engine.perform(Sweep()) == 0
    later = time.time() + 60
    monkeypatch.setattr(time, "time", lambda: later)

    assert opened().perform(Sweep()) == 1
    assert 100_000 < sum(objects().values()) < 101_000
    assert opened().perform(Sweep()) == 0
    assert ids(opened(), other) == {"1"}


def test_removing_from_a_thread_that_is_not_there_removes_nothing(opened, objects):
    engine = opened()
    assert engine.perform(Remove(THREAD, [PLACE], 8)) == 0
    assert objects() == {}


def test_threads_are_forgotten_in_turn_and_read_anew(opened, proxy):
    engine, threads = opened(endpoint=proxy.url, cached=2500), [OWNER + bytes(11) + bytes([n]) for n in range(3)]
    for thread in threads:
        engine.perform(a_put(thread=thread, size=1000))
    assert list(engine._known) == threads[1:]
    engine.perform(Get(threads[1], SPACE, None))
    engine.perform(a_put("2", thread=threads[0], size=1000))

    assert engine._size == sum(each.size for each in engine._known.values()) <= 2500
    assert [ids(engine, thread) for thread in threads] == [{"1", "2"}, {"1"}, {"1"}]
    engine.perform(a_put(thread=OWNER + bytes(11) + b"\xff", size=5000))
    assert len(engine._known) == 1, "one is known, however big it is"


def test_a_writer_whose_segments_another_has_removed_reads_the_thread_anew(opened, monkeypatch):
    monkeypatch.setattr(s3, "LOG", 300)
    one, two = opened(), opened()
    one.perform(a_put("1", size=100_000))
    one.perform(a_put("2", size=400))  # a segment that the next is merged with
    assert two.perform(Remove(THREAD, [PLACE], 8)) == 1  # and it is gone

    assert one.perform(a_put("3", size=400)).kind == "stored"
    assert ids(opened()) == ids(one) == {"2", "3"}


def test_a_reader_with_an_old_head_reads_the_new_one(opened, monkeypatch):
    one, two = opened(), opened()
    one.perform(a_put("1", size=100_000))
    get = two._bucket.get

    def slow(name, etag=None):
        found = yield from get(name, etag)
        if name.startswith("heads"):
            monkeypatch.setattr(two._bucket, "get", get)
            one.perform(a_put("2", size=100_000))
        return found

    monkeypatch.setattr(two._bucket, "get", slow)
    assert ids(two) == {"1", "2"}


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [*PASSING, "hang before", "hang after"])
def test_a_request_survives_a_fault(opened, proxy, fault):
    engine = opened(endpoint=proxy.url, timeout=0.25)
    both = itertools.cycle([engine.perform, lambda request: asyncio.run(engine.aperform(request))])

    def perform(request):
        return next(both)(request)

    assert perform(a_put("1")).kind == "stored"
    for number in range(2, 5):  # each on top of the one before, so that nothing is stored twice
        proxy.faults += [("PUT", fault)]
        assert perform(a_put(str(number), extends=str(number - 1))) == Outcome("stored", 7)
    proxy.faults += [("PUT", fault), ("GET", fault)]
    assert perform(a_put("5", size=100_000, extends="4")) == Outcome("stored", 7)
    proxy.faults += [("PUT", fault)]
    assert perform(Remove(THREAD, [PLACE], 8)) == 1
    proxy.faults[:] = [("GET", fault)]
    engine.close()
    assert len(perform(Read(THREAD, [Place(THREAD, SPACE, str(number)) for number in range(9)])).rows) == 4
    proxy.faults += [("LIST", fault)]
    assert len(perform(Scan(OWNER))) == 4


def test_an_answer_that_was_lost_is_found_though_others_have_written_since(opened, proxy):
    one, two = opened(endpoint=proxy.url), opened()
    one.perform(a_put("1"))
    put = one._bucket.put

    def overtaken(name, body, etag=None):
        yield from put(name, body, etag)
        two.perform(a_put("3", extends="2"))
        return (yield from put(name, body, etag))

    one._bucket.put = overtaken
    assert one.perform(a_put("2", extends="1")) == Outcome("stored", 7)
    assert ids(opened()) == {"1", "2", "3"}


def test_a_server_that_stays_away_is_unavailable_and_what_waits_is_told_as_well(opened, proxy, monkeypatch):
    engine = opened(endpoint=proxy.url, timeout=0.2)
    engine.perform(a_put())
    put = engine._bucket.put

    def when_four_wait(name, body, etag=None):
        wait_for(lambda: len(engine._turns._waiting[THREAD]) == 4, "four wait for the first")
        monkeypatch.setattr(engine._bucket, "put", put)
        return (yield from put(name, body, etag))

    monkeypatch.setattr(engine._bucket, "put", when_four_wait)
    with proxy.lasting("PUT", "503"), ThreadPoolExecutor(5) as pool:
        told = [pool.submit(engine.perform, some_writes(str(number))).exception for number in range(5)]
        errors = [each() for each in told]
    assert all(isinstance(error, Unavailable) and "SlowDown" in str(error) for error in errors)
    assert len(set(map(id, errors))) == 2, "the first failed, and one for all that had waited"

    assert engine.perform(some_writes()).kind == "stored"


def test_what_is_wrong_for_good_is_asked_once(opened, proxy):
    with pytest.raises(SaverError, match="no bucket 'another'"):
        opened(endpoint=proxy.url, bucket="another").setup()
    assert proxy.seen.total() == 1
    if binaries.seaweedfs():  # else it is moto's server, which takes any keys
        with pytest.raises(SaverError, match="SignatureDoesNotMatch"):
            opened(endpoint=proxy.url, secret_access_key="wrong").setup()
        with pytest.raises(SaverError, match="InvalidAccessKeyId"):
            opened(endpoint=proxy.url, access_key_id="wrong").perform(a_put())
        assert proxy.seen.total() == 3


def test_a_url_of_something_else_is_refused():
    for url in ("https://bucket", "s3://", "s3://key:secret@bucket", "s3://bucket?endpoint_url=http://there"):
        with pytest.raises(InvalidRequest):
            S3Engine(url)


@pytest.mark.parametrize("given", ["access_key_id", "secret_access_key"])
def test_half_of_a_key_is_no_key(given, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InvalidRequest, match="These are no settings for S3"):
        S3Engine("s3://bucket", **{given: "half of it"})


def test_a_head_that_others_replace_all_the_time_is_unavailable(opened, monkeypatch):
    one, two = opened(timeout=0.1), opened()
    put, numbers = one._bucket.put, itertools.count(2)

    def overtaken(name, body, etag=None):
        two.perform(a_put(str(next(numbers))))
        return (yield from put(name, body, etag))

    one.perform(a_put("1"))
    one._bucket.put = overtaken
    with pytest.raises(Unavailable, match="Others write to this thread all the time"):
        one.perform(a_put("never"))
    assert "never" not in ids(opened())


@pytest.mark.parametrize(
    ("text", "lasts"),
    [
        ("Received redirect without LOCATION, this normally indicates an incorrectly configured region", True),
        ("response with status code: 403 Forbidden", True),
        ("response with status code: 501 Not Implemented", True),
        ("response with status code: 429 Too Many Requests", False),
        ("response with status code: 503 Service Unavailable", False),
        ("status code: 400 Bad Request: <Code>RequestTimeout</Code>", False),
        ("connection reset by peer", False),
    ],
)
def test_what_a_server_says_lasts_or_passes(text, lasts):
    assert s3_bucket._lasts(text) == lasts


def test_setup_makes_nothing(opened, objects):
    opened().setup()
    asyncio.run(opened().asetup())
    assert objects() == {}


@pytest.mark.parametrize(
    ("kind", "damage"),
    [*itertools.product(["heads", "segments"], ["flipped", "cut", "empty"]), ("segments", "gone")],
)
def test_damage_is_found_and_only_dropping_the_thread_helps(opened, objects, server, kind, damage):
    engine, client = opened(), server.client()
    engine.perform(a_put("1", size=100_000))
    key = next(key for key in objects() if f"/{kind}/" in key)
    data = bytearray(client.get_object(Bucket=server.bucket, Key=key)["Body"].read())
    data[len(data) // 2] ^= 1
    if damage == "gone":
        client.delete_object(Bucket=server.bucket, Key=key)
    else:
        body = {"flipped": data, "cut": data[:-1], "empty": b""}[damage]
        client.put_object(Bucket=server.bucket, Key=key, Body=bytes(body))

    for request in (Get(THREAD, SPACE, None), Scan(OWNER), a_put("2"), Remove(THREAD, [PLACE], 8)):
        with pytest.raises(Unreadable):
            opened().perform(request)
    if kind == "segments":  # what is in memory is right
        assert engine.perform(Get(THREAD, SPACE, None)).rows
    opened().perform(Drop(THREAD, "", 100))
    assert engine.perform(a_put("2")).kind == "stored"
    assert ids(opened()) == {"2"}
    assert len(objects()) == 1


def test_a_damaged_thread_keeps_no_other_from_being_swept(opened, objects, server):
    engine = opened()
    engine.perform(a_put("1"))
    [key] = objects()
    server.client().put_object(Bucket=server.bucket, Key=key, Body=b"damaged")
    other = OWNER + b"1" * 12
    engine.perform(a_put("1", thread=other, seconds=0.001))
    wait_for(lambda: not engine.perform(Get(other, SPACE, None)).rows, "its time is up", 10)

    assert opened().perform(Sweep()) == 1
    assert key in objects()


# --- waiting ----------------------------------------------------------------------------------------------------------


def test_who_is_cancelled_keeps_nobody_from_writing(opened, proxy):
    engine = opened(endpoint=proxy.url, timeout=0.5)
    engine.perform(a_put())

    async def some_cancelled():
        proxy.faults += [("PUT", "hang before")]
        tasks = [asyncio.create_task(engine.aperform(some_writes(str(number)))) for number in range(20)]
        await asyncio.sleep(0.1)
        for task in tasks[:10:2]:  # the first leads
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = asyncio.run(some_cancelled())
    stored = [str(number) for number, answer in enumerate(answers) if answer == Outcome("stored", 7)]
    assert len(stored) == 15
    there = {task for task, _ in opened().perform(Get(THREAD, SPACE, None)).writes[PLACE]}
    assert there >= set(stored)


def test_a_call_within_a_loop_does_not_wait_for_what_needs_the_loop(opened, proxy):
    engine = opened(endpoint=proxy.url)
    engine.perform(a_put())

    async def both():
        waiting = asyncio.create_task(engine.aperform(some_writes("a")))
        await asyncio.sleep(0)
        engine.perform(some_writes("b"))
        await waiting

    asyncio.run(asyncio.wait_for(both(), 5))
    assert len(opened().perform(Get(THREAD, SPACE, None)).writes[PLACE]) == 2


def test_who_is_cancelled_as_it_is_to_lead_lets_the_next_one_lead():
    turns, written = Turns(), []

    def write(thread, requests, name):
        yield "write"
        written.append(requests)
        return [f"{request} is stored" for request in requests]

    def ended(program, answer):
        with pytest.raises(StopIteration) as end:
            program.send(answer)
        return end.value.value

    first, second, third = (turns.take(THREAD, name, write) for name in ("first", "second", "third"))
    assert next(first) == "write"
    waiting = next(second)
    assert ended(first, None) == "first is stored"
    assert waiting.result(timeout=0) is Turns.LEAD
    also_waiting = next(third)
    with pytest.raises(asyncio.CancelledError):
        second.throw(asyncio.CancelledError())
    assert also_waiting.result(timeout=0) is Turns.LEAD
    assert third.send(also_waiting.result()) == "write"
    assert ended(third, None) == "third is stored"
    assert written == [["first"], ["third"]]
    assert turns._waiting == {}
