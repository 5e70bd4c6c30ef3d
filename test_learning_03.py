#!/usr/bin/env python3
"""Test file for Learning Plan 3: State Stores and Persistence.

`pytest test_learning_03.py` judges your notebooks; `--work DIR` judges the notebooks in another folder. Each
`with behaviour(...)` is one thing that a task asks for, judged whatever becomes of the others.
"""

import asyncio
import gc
import gzip
import json
import lzma
import os
import pickle
import shutil
import threading
import time
import tracemalloc
import zlib
from collections import Counter, OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from copy import copy
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from functools import partial
from itertools import permutations
from numbers import Real
from pathlib import Path
from tempfile import mkdtemp

import numpy
import psycopg
import pytest
import zstandard
from langgraph.checkpoint.base import uuid6
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Command
from prometheus_client import CollectorRegistry, generate_latest
from psycopg_pool import ConnectionPool
from redis.crc import key_slot

from learning import services
from learning.agent import ORDERS, build_agent
from learning.bench.contenders import counted
from learning.course.desk import build_desk
from learning.course.expect import Missed, expect, no_error, refused
from learning.course.goods import (
    Address,
    Customer,
    Elsewhere,
    Namesake,
    Order,
    OrderHistory,
    Size,
    Status,
    Trap,
)
from learning.course.on_backups import DAMAGES, archiving_server, aside, changed, roomy_folder, slow_archive
from learning.course.on_files import (
    MOST_MOMENTS,
    all_there,
    damages,
    fails_at,
    folder,
    holds,
    left_on_disk,
    letter,
    listed_in,
    meeting,
    moments_of,
    names_of,
    newest,
    noticed,
    sizes_in,
)
from learning.course.on_migration import (
    Distant,
    Heart,
    Watched,
    WholeSaver,
    all_bytes,
    build_office,
    desk_steps,
    everything,
    in_version_3,
    missed_within,
    old_office,
    old_threads,
    stamp_of,
    to_2,
    to_3,
    values_in_version_3,
    values_of,
)
from learning.course.on_postgres import (
    HOT_QUERIES,
    Migration,
    closed_to_all,
    database,
    drop_tables,
    emptied,
    end_sessions,
    ended_while_it_waits,
    fill_tables,
    fragile,
    idle,
    migrations,
    noted,
    sessions,
    superuser,
    tables_of,
    tries_of,
    written,
)
from learning.course.on_redis import (
    Acknowledged,
    Talk,
    after_round_trips,
    another_connection_each_time,
    changed_keys,
    commands,
    counting,
    difference,
    fail_to_initialize,
    keys_of,
    limited,
    owner,
    quick_failover,
    taken_over,
)
from learning.course.on_reports import AWKWARD, DIGITS, a_history, where_they_differ
from learning.course.on_s3 import TOLD, before_first, bucket, short_pages, writes_of
from learning.course.on_servers import attempted, in_time, own_server, server, until
from learning.course.on_tiers import Asking, Clock, Gone, OnlyAsync, Slow, Tier, held, samples
from learning.course.scenarios import (
    LOADED_ELSEWHERE,
    History,
    Renamed,
    Weighed,
    a_checkpoint,
    another_process,
    ask,
    fill,
    passes_conformance,
    put,
    same,
    shorten,
    sizes,
    some_states,
    stored,
    thread,
    use,
)
from learning.faults.disk import Disk, killed, restore
from learning.faults.s3_proxy import PASSING
from learning.migration import STAMP, ChecksumSerializer, Migrations, UpcastingSaver, state_version
from learning.operations import explain, finish_archiving


class TestMemoryStorage:
    """Test memory storage patterns and optimizations."""

    def test_custom_memory_lru(self, work, behaviour, rng):
        """Test custom memory storage with LRU eviction."""
        LRUMemorySaver = work.LRUMemorySaver
        customers = ["ana", "ben", "cleo", "dan", "eve", "finn"]

        with behaviour("a new thread pushes out the one used longest ago"):
            for max_threads in (1, 2, 4):
                saver, model = LRUMemorySaver(max_threads=max_threads), OrderedDict()
                for step in range(60):
                    customer, namespace = rng.choice(customers), rng.choice(["", "refund:1"])
                    put(saver, customer, namespace, step=step)
                    use(model, customer, max_threads)
                    expect(
                        sorted(stored(saver)),
                        sorted(model),
                        f"With max_threads={max_threads}, these threads should be held after `put` on {customer!r}. "
                        "A thread is one conversation, whatever namespaces it has; each `put` makes it the newest.",
                    )

            one, other = LRUMemorySaver(max_threads=1), LRUMemorySaver(max_threads=1)
            for saver, customer in ((one, "ana"), (other, "ben"), (one, "cleo")):
                put(saver, customer, step=1)
            idea = (
                "Two savers with max_threads=1: 'ana' and then 'cleo' go into one, 'ben' into the other. Savers share "
                "nothing, so keep the order of uses in `self`, made in `__init__`, not in the class."
            )
            expect(sorted(stored(one)), ["cleo"], idea)

        with behaviour("a read counts as a use, a read that finds nothing does not"):
            saver, model, did = LRUMemorySaver(max_threads=3), OrderedDict(), deque(maxlen=4)
            for step in range(150):
                customer = rng.choice(customers)
                if rng.random() < 0.4:
                    put(saver, customer, step=step)
                    use(model, customer, 3)
                    did.append(f"`put` on {customer!r}")
                else:
                    found = saver.get_tuple(thread(customer))
                    expect(found is not None, customer in model, f"Does `get_tuple` find the thread {customer!r}?")
                    if customer in model:
                        use(model, customer, 3)
                    did.append(f"`get_tuple` on {customer!r}, which finds {'it' if customer in model else 'nothing'}")
                idea = (
                    f"These threads should be held, in whatever order, after {'; '.join(did)}. A conversation that is "
                    "read is in use; a read that finds nothing takes no place and pushes nobody out."
                )
                expect(sorted(stored(saver)), sorted(model), idea)

            for namespace in ("", "refund:1"):
                saver = LRUMemorySaver(max_threads=2)
                ana, _ = put(saver, "ana", namespace, step=1), put(saver, "ben", step=1)
                saver.get_tuple(thread("ana", namespace) if namespace else ana)
                put(saver, "cleo", step=1)
                how = f"in namespace {namespace!r}" if namespace else "by its checkpoint_id"
                idea = (
                    f"A checkpoint of 'ana' was read {how} after `put` on 'ben', so 'ben' goes when 'cleo' comes: a "
                    "read is a use, of the newest checkpoint or of an older one, in whatever namespace."
                )
                expect(sorted(stored(saver)), ["ana", "cleo"], idea)

        with behaviour("pending writes count as a use, and take a place of their own"):
            for namespace in ("refund:1", ""):
                saver = LRUMemorySaver(max_threads=2)
                ana, _ = put(saver, "ana", namespace, step=1), put(saver, "ben", step=1)
                saver.put_writes(ana, [("messages", "hello")], "task-1", "~pull")
                put(saver, "cleo", step=1)
                idea = (
                    f"`put_writes` on 'ana', in namespace {namespace!r}, came after `put` on 'ben': it is a use, so "
                    "'ben' goes when 'cleo' comes."
                )
                expect(sorted(stored(saver)), ["ana", "cleo"], idea)
            paths = [path for writes in saver.writes.values() for *_, path in writes.values()]
            expect(paths, ["~pull"], "`put_writes` stores the `task_path` that it is given: hand on every argument.")
            saver.put_writes(thread("dan", checkpoint_id=str(uuid6())), [("messages", "early")], "task-1")
            idea = "Writes may come before the first checkpoint of their thread ('dan'): they take memory all the same."
            expect(sorted(stored(saver)), ["cleo", "dan"], idea)

        with behaviour("the async methods follow the same rule"):
            asyncio.run(self.lru_in_async(LRUMemorySaver(max_threads=2)))

        with behaviour("nothing of an evicted thread stays behind"):
            saver = LRUMemorySaver(max_threads=1)
            agent = build_agent(saver)
            ask(agent, "ana", "Please refund order 1001")
            ask(agent, "ben", "Hello")
            left = {
                "checkpoints": sum(len(found) for found in saver.storage.get("ana", {}).values()),
                "blobs": sum(key[0] == "ana" for key in saver.blobs),
                "writes": sum(key[0] == "ana" for key in saver.writes),
            }
            idea = "A thread lives in `storage`, `blobs` and `writes`, in every namespace: all of it has to go."
            expect(left, {"checkpoints": 0, "blobs": 0, "writes": 0}, idea)
            saver = LRUMemorySaver(max_threads=2)
            for customer in ("ana", "ana-2", "ben"):
                put(saver, customer, ana="hello")
            found = saver.get_tuple(thread("ana-2"))
            idea = (
                "'ana' was evicted, and 'ana-2' was not: all it has stays, also in a channel that is called 'ana'. "
                "Compare the whole thread id, which is the first part of each key, and nothing else of the key."
            )
            expect(found and found.checkpoint["channel_values"], {"ana": "hello"}, idea)

        with behaviour("on_evict hears of each evicted thread once and in order, and of no deletion"):
            heard = []
            saver = LRUMemorySaver(max_threads=2, on_evict=heard.append)
            for customer in ("ana", "ben", "cleo", "ana"):
                put(saver, customer, step=1)
            expect(heard, ["ana", "ben"], "`on_evict(thread_id)` is called once for each thread that is pushed out.")
            there = []
            saver = LRUMemorySaver(max_threads=1, on_evict=lambda thread_id: there.append(thread_id in stored(saver)))
            put(saver, "ana", step=1)
            put(saver, "ben", step=1)
            expect(there, [False], "When `on_evict` is called, nothing of the thread is left in the saver.")
            told = []
            saver = LRUMemorySaver(max_threads=1, on_evict=told.append)
            put(saver, "ana", step=1)
            saver.put_writes(thread("ben", checkpoint_id=str(uuid6())), [("messages", "early")], "task-1")
            expect(told, ["ana"], "`on_evict` is called whatever pushed 'ana' out, here `put_writes` on 'ben'.")
            saver = LRUMemorySaver(max_threads=2, on_evict=heard.append)
            put(saver, "ana", step=1)
            put(saver, "cleo", step=1)
            saver.delete_thread("cleo")
            put(saver, "dan", step=1)
            idea = "'cleo' was deleted on request: that is no eviction, and it leaves a free place for 'dan'."
            expect(heard, ["ana", "ben"], idea)
            expect(sorted(stored(saver)), ["ana", "dan"], idea)
            idea = "As in InMemorySaver, deleting a thread that is not there does nothing; nobody is told of it."
            with no_error(expected="delete_thread('nobody') does nothing", idea=idea):
                saver.delete_thread("nobody")
            expect(sorted(stored(saver)), ["ana", "dan"], idea)
            expect(heard, ["ana", "ben"], idea)

        with behaviour("a limit below one thread is refused"):
            for limit in (0, -1):
                idea = "No conversation fits into such a saver: say so when it is made, with a ValueError."
                with refused(ValueError, what=f"LRUMemorySaver(max_threads={limit})", idea=idea):
                    LRUMemorySaver(max_threads=limit)

        with behaviour("a conversation that was kept goes on"):
            saver = LRUMemorySaver(max_threads=2)
            agent = build_agent(saver)
            ask(agent, "ana", "Please refund order 1001")
            for customer in ("ben", "cleo", "dan"):
                ask(agent, customer, "Where is order 1002?")
                agent.get_state(thread("ana"))
            idea = (
                "'ana' waited for an approval while others came and went; her thread was read in between, so it stays."
            )
            expect(sorted(stored(saver)), ["ana", "dan"], idea)
            result = agent.invoke(Command(resume=True), thread("ana"))
            expect(result.get("refunded"), ORDERS["1001"]["price"], idea)

        with behaviour("the official conformance suite still passes"):
            passes_conformance(lambda: LRUMemorySaver(max_threads=1000))
            serde = JsonPlusSerializer()
            idea = "Whatever else InMemorySaver takes when it is made, such as a serializer, goes on to it."
            expect(LRUMemorySaver(max_threads=1, serde=serde).serde is serde, True, idea)

    async def lru_in_async(self, saver):
        """The order of uses through `aput`, `aget_tuple` and `aput_writes` on a saver for two threads."""
        await saver.aput(thread("ana"), *a_checkpoint({"step": 1}))
        ben = await saver.aput(thread("ben"), *a_checkpoint({"step": 1}))
        await saver.aget_tuple(thread("ana"))
        await saver.aput(thread("cleo"), *a_checkpoint({"step": 1}))
        idea = "`aget_tuple` on 'ana' came after `aput` on 'ben': 'ben' goes when `aput` brings 'cleo'."
        expect(sorted(stored(saver)), ["ana", "cleo"], idea)
        await saver.aput_writes(ben, [("messages", "late")], "task-1")
        expect(sorted(stored(saver)), ["ben", "cleo"], "`aput_writes` is a use, as `put_writes` is.")

    def test_memory_monitoring(self, work, behaviour, rng):
        """Test memory usage monitoring and alerts."""
        MemoryMonitor = work.MemoryMonitor
        never = 10**12

        with behaviour("sample gives the bytes of each thread"):
            saver = InMemorySaver()
            agent = build_agent(saver)
            monitor = MemoryMonitor(saver, warn_bytes=never, critical_bytes=never)
            expect(monitor.sample(), {}, "An empty saver holds no thread.")
            for customer in ("ana", "ben", "cleo"):
                for _ in range(rng.randint(1, 3)):
                    ask(
                        agent,
                        customer,
                        f"Where are my orders {rng.choice(list(ORDERS))} and {rng.choice(list(ORDERS))}?",
                    )
            ask(agent, "ben", "Please refund order 1003")
            saver.put_writes(thread("eve", checkpoint_id=str(uuid6())), [("messages", "early")], "task-1")
            idea = (
                "Count the serialized bytes of every checkpoint, its metadata, every blob and every write, in all "
                "namespaces (the refund runs in one of its own), by thread. 'eve' has a write that came before its "
                "first checkpoint."
            )
            held = sizes(saver)
            expect(monitor.sample(), held, idea)
            expect(sizes(saver), held, "`sample` looks, and changes nothing of what the saver holds.")
            idea = (
                "Nothing has changed since the sample before, and another monitor watches an empty saver. Nothing may "
                "be shared between calls: a default argument, as a class attribute, is made once for all of them."
            )
            expect(monitor.sample(), sizes(saver), idea)
            expect(MemoryMonitor(InMemorySaver(), warn_bytes=never, critical_bytes=never).sample(), {}, idea)
            saver.delete_thread("ben")
            agent.get_state(thread("dan"))
            idea = "'ben' was deleted, and 'dan' was looked for but never stored: neither holds anything."
            expect(monitor.sample(), sizes(saver), idea)

        warn = 50 * rng.randint(100, 180)  # so that 90 % is the same number, however it is written
        critical = 3 * warn

        def alerts_after(*totals):
            saver = InMemorySaver()
            monitor = MemoryMonitor(saver, warn_bytes=warn, critical_bytes=critical)
            idea = "A new monitor has no alerts. Monitors share nothing: make `alerts` in `__init__`, not in the class."
            expect(list(monitor.alerts), [], idea)
            fill(saver, "ben", 1_000)
            for total in totals:
                fill(saver, "ana", total - 1_000)
                monitor.sample()
            return list(monitor.alerts)

        with behaviour("a limit that is reached gives one alert"):
            idea = (
                f"With limits of {warn} and {critical} bytes for all threads together: a level starts when the total "
                "reaches its limit (equal is enough), and says so once, as (level, total bytes)."
            )
            came = alerts_after(warn - 1, warn, warn + 1, critical - 1, critical, critical + 500)
            expect(came, [("warning", warn), ("critical", critical)], idea)

        with behaviour("a jump past both limits gives one alert"):
            expect(
                alerts_after(2_000, critical + 1, critical + 2),
                [("critical", critical + 1)],
                "The total went from far below the first limit past the second: one change of level, one alert.",
            )

        with behaviour("hovering at a limit gives no more alerts"):
            for level, limit, lower in (("warning", warn, "ok"), ("critical", critical, "warning")):
                below, above, edge = int(0.95 * limit), limit + 5, limit * 9 // 10
                idea = (
                    f"The total went up and down between {below} and {above}, around the {level} limit of {limit}. A "
                    "level ends only below 90 % of its limit, so it started once and never ended."
                )
                expect(alerts_after(above, below, above, below, above), [(level, above)], idea)
                expect(
                    alerts_after(limit, edge, edge - 1),
                    [(level, limit), (lower, edge - 1)],
                    f"{edge} is 90 % of the {level} limit of {limit}, and not below it: the level still holds there.",
                )

        with behaviour("recovery gives one alert"):
            low = int(0.85 * warn)
            expect(
                alerts_after(warn, low, low - 100),
                [("warning", warn), ("ok", low)],
                "Below 90 % of the limit the level ends, and the recovery is told once, as ('ok', total bytes).",
            )
            middle = int(0.85 * critical)
            expect(
                alerts_after(critical, middle, int(0.95 * warn), low),
                [("critical", critical), ("warning", middle), ("ok", low)],
                "On the way down from critical the warning level holds until it ends too: critical, warning, ok.",
            )
            held = int(0.95 * warn)
            expect(
                alerts_after(critical, held),
                [("critical", critical), ("warning", held)],
                "Critical ended, but the warning level had started on the way up, and ends below 90 % of its limit.",
            )
            expect(
                alerts_after(critical, low),
                [("critical", critical), ("ok", low)],
                "From critical straight to below both limits: one change of level, one alert.",
            )
            expect(
                alerts_after(warn, low, warn),
                [("warning", warn), ("ok", low), ("warning", warn)],
                "After a recovery the next rise is news again.",
            )

    def test_memory_compression(self, work, behaviour, rng):
        """Test memory compression for large states."""
        CompressedSerializer = work.CompressedSerializer
        inner = JsonPlusSerializer()
        long_text = " ".join(rng.choice(["order", "refund", "delivered", "coffee", "grinder"]) for _ in range(3_000))

        with behaviour("every state comes back as it was"):
            serde = CompressedSerializer(inner, threshold=200)
            states = [long_text, long_text, *some_states(rng), long_text.encode(), rng.randbytes(5_000)]
            for place, state in enumerate(states):
                kind = inner.dumps_typed(state)[0]
                idea = f"Loading undoes what dumping did: give the inner serializer its own type back, here {kind!r}."
                if place == 1:
                    idea = (
                        "One value comes back, and a second one does not: nothing may be kept between calls. Make each "
                        "packer and unpacker in the method that uses it."
                    )
                with no_error(expected=shorten(state), idea=idea):
                    came = serde.loads_typed(serde.dumps_typed(state))
                expected = inner.loads_typed(inner.dumps_typed(state))
                if not same(came, expected):
                    raise Missed(expected=shorten(expected), came=shorten(came), idea=idea)
            text = long_text[::-1]  # which nobody has seen yet

            def comes_back(typed):
                return same(CompressedSerializer(inner, threshold=200).loads_typed(typed), text)

            with another_process(comes_back, expected=shorten(text), idea=LOADED_ELSEWHERE) as ask_there:
                expect(ask_there(serde.dumps_typed(text)), True, LOADED_ELSEWHERE)
            for kind in ("msgpack+aes", "blobzlib"):
                serde = CompressedSerializer(Renamed(kind), threshold=200)
                idea = f"Other serializers may be inside, whatever they are called: the type of this one is {kind!r}."
                with no_error(expected=shorten(long_text), idea=idea):
                    came = serde.loads_typed(serde.dumps_typed(long_text))
                expect(same(came, long_text), True, idea)

        with behaviour("a small value is stored as it is"):
            serde = CompressedSerializer(inner, threshold=500)
            for value in ("x" * 400, None, b"", {"refunded": 0.0}):
                idea = (
                    "Below the threshold compression costs time and saves nothing: the inner serializer's bytes stay."
                )
                expect(serde.dumps_typed(value), inner.dumps_typed(value), idea)

            limit = len(inner.dumps_typed("x" * 400)[1])
            kinds = [CompressedSerializer(inner, threshold=limit + more).dumps_typed("x" * 400)[0] for more in (0, 1)]
            idea = f"A value of {limit} bytes is not shorter than a threshold of {limit}, and shorter than {limit + 1}."
            plain = inner.dumps_typed("x" * 400)[0]
            expect([kind == plain for kind in kinds], [False, True], idea)

        with behaviour("what does not shrink is stored as it is"):
            serde = CompressedSerializer(inner, threshold=100)
            noise = rng.randbytes(4_000)
            idea = "Random bytes (a picture, say) grow when compressed: keep the inner bytes when they are smaller."
            expect(serde.dumps_typed(noise), inner.dumps_typed(noise), idea)

        with behaviour("a real conversation takes a quarter of the space, or less"):
            weighed = Weighed(CompressedSerializer(inner, threshold=200))
            agent = build_agent(InMemorySaver(serde=weighed))
            for turn in range(15):
                ask(agent, "ana", f"Where are orders {1001 + turn % 4} and {1001 + turn % 3}?")
            question = ask(agent, "ana", "Please refund order 1001")
            expect(question, "Refund 249.00 EUR for order 1001?", "The agent should work with this serializer.")
            result = agent.invoke(Command(resume=True), thread("ana"))
            expect(result["refunded"], ORDERS["1001"]["price"], "The agent should resume with this serializer.")
            if weighed.weight * 4 > weighed.usual:
                raise Missed(
                    expected=f"at most {weighed.usual // 4} bytes (a quarter of {weighed.usual})",
                    came=f"{weighed.weight} bytes",
                    idea="A conversation repeats itself: compress the whole value that the inner serializer gives.",
                )
            upload = inner.dumps_typed(long_text.encode())
            packed = CompressedSerializer(inner, threshold=200).dumps_typed(long_text.encode())
            if len(packed[1]) * 4 > len(upload[1]):
                raise Missed(
                    expected=f"at most {len(upload[1]) // 4} bytes (a quarter of {len(upload[1])})",
                    came=f"{len(packed[1])} bytes",
                    idea=f"A long value that repeats itself is compressed whatever its type is, here {upload[0]!r}.",
                )

        with behaviour("bytes from before compression still load"):
            serde = CompressedSerializer(inner, threshold=200)
            upload = long_text.encode()
            packed = [zlib.compress(upload), gzip.compress(upload), lzma.compress(upload), zstandard.compress(upload)]
            for value in [*some_states(rng), long_text, *packed]:
                kind, data = inner.dumps_typed(value)
                idea = (
                    f"A {kind!r} value stored before compression came in must load as it is, even if its bytes look "
                    "compressed (an uploaded archive does): let the type, not the bytes, say what was done to it."
                )
                with no_error(expected=shorten(value), idea=idea):
                    came = serde.loads_typed((kind, data))
                if inner.dumps_typed(came) != (kind, data):
                    raise Missed(expected=shorten(value), came=shorten(came), idea=idea)
            for name in ("msgpack+aes", "blobzlib"):
                idea = (
                    f"{name!r} is a type of the inner serializer itself. Only a type that your `dumps_typed` has made "
                    "says that bytes are compressed: look at the whole mark that you put on it, and where you put it."
                )
                with no_error(expected=shorten(long_text), idea=idea):
                    came = CompressedSerializer(Renamed(name)).loads_typed(Renamed(name).dumps_typed(long_text))
                expect(same(came, long_text), True, idea)
            idea = "`max_bytes` limits what unpacking gives: of a plain value nothing is unpacked, however long it is."
            with no_error(expected=shorten(long_text), idea=idea):
                came = CompressedSerializer(inner, max_bytes=1_000).loads_typed(inner.dumps_typed(long_text))
            expect(same(came, long_text), True, idea)
            kind, data = serde.dumps_typed(long_text)
            if kind == inner.dumps_typed(long_text)[0]:
                idea = "Compressed and plain bytes need different types, or nobody can tell them apart later."
                raise Missed(expected=f"a type other than {kind!r} for compressed bytes", came=repr(kind), idea=idea)

        with behaviour("truncated and altered bytes raise a ValueError"):
            serde = CompressedSerializer(inner, threshold=200)
            kind, data = serde.dumps_typed(long_text)
            half = len(data) // 2
            damaged = {
                "cut in half": data[:half],
                "without its last byte": data[:-1],
                "nothing at all": b"",
                "with a byte too many": data + b"!",
                "with zero bytes after them": data + bytes(8),
                "twice, one after the other": data + data,
            }
            for place in sorted(rng.sample(range(len(data)), 40)):
                damaged[f"with byte {place} of {len(data)} altered"] = (
                    data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]
                )
            idea = (
                "Damage must be noticed here, as a ValueError; a wrong state, or another kind of error, helps nobody."
            )
            for how, wrong in damaged.items():
                with no_error(expected=f"bytes {how} raise a ValueError", idea=idea):
                    try:
                        came = serde.loads_typed((kind, wrong))
                    except ValueError:
                        continue
                harmless = "altered" in how and same(came, long_text)  # a bit that means nothing to the format
                if not harmless:
                    raise Missed(expected=f"bytes {how} raise a ValueError", came=shorten(came), idea=idea)

        with behaviour("a decompression bomb is refused before it fills the memory"):
            kind, bomb = CompressedSerializer(inner, threshold=200, max_bytes=10**9).dumps_typed("0" * 25_000_000)
            serde = CompressedSerializer(inner, threshold=200, max_bytes=1_000_000)
            idea = "A few bytes can unpack to gigabytes: unpack no more than `max_bytes`, and refuse what is longer."
            tracemalloc.start()
            try:
                with refused(ValueError, what=f"loading {len(bomb)} bytes that unpack to 25,000,000", idea=idea):
                    serde.loads_typed((kind, bomb))
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            if peak > 20_000_000:
                raise Missed(
                    expected="a refusal while at most 20,000,000 bytes are in use", came=f"{peak} bytes", idea=idea
                )
            text = "0" * 900_000
            size = len(inner.dumps_typed(text)[1])
            for limit in (1_000_000, size):
                serde = CompressedSerializer(inner, threshold=200, max_bytes=limit)
                idea = f"The limit is for the size after unpacking: {size} bytes are not more than {limit}, and load."
                with no_error(expected=shorten(text), idea=idea):
                    came = serde.loads_typed(serde.dumps_typed(text))
                expect(same(came, text), True, idea)
            serde = CompressedSerializer(inner, threshold=200, max_bytes=size - 1)
            idea = "One byte more than `max_bytes` is too much."
            with refused(ValueError, what=f"loading {size} bytes with max_bytes={size - 1}", idea=idea):
                serde.loads_typed(CompressedSerializer(inner, threshold=200).dumps_typed(text))

    def test_memory_analytics(self, work, behaviour, rng):
        """Test memory-based session analytics."""
        session_report = work.session_report

        with behaviour("a thread that holds nothing is not reported"):
            expect(session_report(InMemorySaver()), {}, "An empty saver has no sessions.")
            saver = InMemorySaver()
            put(saver, "ana", step=1)
            build_agent(saver).get_state(thread("nobody"))
            idea = "'nobody' was looked for but never spoke. An InMemorySaver makes an empty entry on such a look."
            expect(sorted(session_report(saver)), ["ana"], idea)

        saver = InMemorySaver()
        history = History(saver, rng)
        for customer in ("ana", "ben", "cleo"):
            for _ in range(rng.randint(2, 5)):
                history.a_turn(customer)
        history.every_kind_of_turn("dan")
        history.what_chance_may_leave_out("eve")

        def compare(key, idea):
            report = session_report(saver)
            for customer, told in history.told.items():
                came = report.get(customer, {}).get(key, "nothing")
                expect({customer: came}, {customer: told[key]}, f"{idea} What happened: {', '.join(told['log'])}.")

        with behaviour("turns: what the customer said"):
            compare(
                "turns",
                "Count source 'input' in namespace '': one for each message of a customer, none for an `update_state`.",
            )

        with behaviour("steps: the supersteps of the conversation itself"):
            compare(
                "steps", "Count source 'loop' in namespace '': one for each superstep, and none for an `update_state`."
            )

        with behaviour("bytes: what the whole thread takes"):
            report = session_report(saver)
            idea = "Checkpoints, metadata, blobs and writes, in every namespace, as in memory_monitoring."
            expect({customer: each.get("bytes") for customer, each in report.items()}, sizes(saver), idea)

        with behaviour("duration: seconds from the first checkpoint to the last"):
            long_ago = InMemorySaver()
            config = thread("finn")
            for stamp in ("2026-01-01T12:00:00.250000+00:00", "2026-01-03T12:00:01.500000+00:00"):
                checkpoint, *rest = a_checkpoint({"step": 1})
                config = long_ago.put(config, checkpoint | {"ts": stamp}, *rest)
            idea = (
                "Take the oldest and the newest `ts` of namespace '', and give the seconds between them, days and "
                "fractions included."
            )
            for where, customers in ((saver, history.told), (long_ago, ["finn"])):
                report = session_report(where)
                for customer in customers:
                    stamps = [datetime.fromisoformat(found.checkpoint["ts"]) for found in where.list(thread(customer))]
                    came = report.get(customer, {}).get("duration")
                    expected = (max(stamps) - min(stamps)).total_seconds()
                    if not isinstance(came, Real) or not abs(float(came) - expected) <= 1e-5:
                        raise Missed(expected=f"{expected} for {customer!r}", came=repr(came), idea=idea)

        with behaviour("nodes: the tasks that each node was given"):
            compare(
                "nodes",
                "A checkpoint in namespace '' plans the tasks of the next step: one for each `branch:to:<node>` among "
                "its `updated_channels`, and, if `__pregel_tasks` is among them, one for each Send in that channel.",
            )

        with behaviour("forks: how often the conversation branched"):
            compare("forks", "Each child of a checkpoint after its first one is a fork.")

        with behaviour("interrupted: whether a person is waited for now"):
            compare("interrupted", "Only the newest checkpoint tells: has it a pending write to `__interrupt__`?")
            for channel, what in (
                ("messages", "the result of a task that is done"),
                ("__error__", "the error of a task that failed"),
            ):
                half_done = InMemorySaver()
                half_done.put_writes(put(half_done, "finn", step=1), [(channel, "…")], "task-1")
                came = session_report(half_done).get("finn", {}).get("interrupted")
                expect(came, False, f"A pending write to `{channel}` is {what}, not a wait for a person.")


class TestRedisStorage:
    """Test Redis-based state persistence."""

    def test_redis_cluster(self, work, behaviour, rng):
        """Test Redis cluster for high availability."""
        ClusterSaver = work.ClusterSaver
        attempted("redis_cluster", lambda: ClusterSaver(None).key(thread("ana"), "checkpoints"))
        cluster = server(services.redis_cluster)
        token = f"{rng.getrandbits(40):010x}"

        def saver(seconds=2):
            return ClusterSaver(cluster.client(socket_timeout=1), seconds=seconds)

        with behaviour("a checkpoint comes back with its metadata, its parent and what tasks wrote"):
            writer, ana = saver(), f"{token} ana"
            idea = "`get_tuple` on a conversation that nobody has stored finds nothing: it returns None."
            expect(writer.get_tuple(thread(ana)), None, idea)
            idea = (
                "No server is down, so there is nothing to wait for. A MovedError says that a key is on another server "
                "than the first: all keys of a thread need the same hash tag."
            )
            with no_error(expected="put stores a checkpoint", idea=idea):
                first = put(writer, ana, step=1)
            checkpoint, metadata, versions = a_checkpoint({"step": 2})
            second = writer.put(first, checkpoint, metadata, versions)
            expect(second, thread(ana, "", checkpoint["id"]), "`put` returns the config of what it has stored.")
            writer.put_writes(second, [("messages", "hello"), ("step", 3)], "task-1")
            for config, how in ((thread(ana), "without an id"), (second, "by its id")):
                found = saver().get_tuple(config)
                idea = f"A new ClusterSaver on the same cluster reads the newest checkpoint, {how}."
                expect(found and found.config, second, idea)
                expect(found.checkpoint, checkpoint, idea)
                expect(found.metadata, metadata, f"{idea} Its metadata belong to it.")
                idea = f"{idea} The parent is the checkpoint that the config of `put` named: store its id as well."
                expect(found.parent_config, first, idea)
                writes = [("task-1", "messages", "hello"), ("task-1", "step", 3)]
                expect(
                    sorted(found.pending_writes or []), writes, f"{idea} What tasks wrote: (task id, channel, value)."
                )
            found = saver().get_tuple(first)
            idea = (
                "An older checkpoint, read by its id. It was the first, so it has no parent, and no task wrote after "
                "it."
            )
            expect(found and found.checkpoint["channel_values"], {"step": 1}, idea)
            expect((found.parent_config, found.pending_writes or []), (None, []), idea)
            idea = "There is no checkpoint with this id: None, and not another one."
            with no_error(expected="None", idea=idea):
                expect(writer.get_tuple(thread(ana, "", str(uuid6()))), None, idea)

        with behaviour("what is stored again is there once"):
            writer, dan, made = saver(), f"{token} dan", a_checkpoint({"step": 1})
            for _ in range(3):
                config = writer.put(thread(dan), *made)
                writer.put_writes(config, [("messages", "hello"), ("step", 3)], "task-1")
            found = writer.get_tuple(thread(dan))
            idea = (
                "The same checkpoint, and the same writes of a task, were stored three times, as after errors. "
                "Commands that are sent again have to be idempotent, the same after three times as after one: `HSET` "
                "and `HSETNX` are, and not `RPUSH`."
            )
            expect(found and found.checkpoint["channel_values"], {"step": 1}, idea)
            writes = [("task-1", "messages", "hello"), ("task-1", "step", 3)]
            expect(sorted(found.pending_writes or []), writes, idea)

        with behaviour("the newest id wins, in whatever order checkpoints arrive"):
            writer, ben = saver(), f"{token} ben"
            made = [a_checkpoint({"step": step}) for step in range(6)]
            late_last = [*made[1:], made[0]]
            for order in (late_last, made[::-1], rng.sample(made, len(made))):
                for checkpoint, metadata, versions in order:
                    writer.put(thread(ben), checkpoint, metadata, versions)
                came = writer.get_tuple(thread(ben))
                idea = (
                    "A put that was on its way for long may arrive after a newer one. Ids begin with the time: the "
                    "newest checkpoint is the one with the greatest id, not the one that came last."
                )
                expect(came and came.checkpoint["channel_values"], {"step": 5}, idea)

        with behaviour("conversations do not mix, whatever they are called"):
            writer = saver()
            names = ["ana", "ana:x", "{ana}", "a}n{a", "ana}", "{}ana", "ana x", "än*a", "an%3Aa", "an:a", "ana}:x"]
            namespaces = ["", "x", "x:1", "{x}", "x%3A1", "1", "x}:x"]
            names = [(f"{token}{name}", namespace) for name in names for namespace in namespaces]
            names += [("", token), ("", f"x{token}")]
            stored = {}
            for number, (name, namespace) in enumerate(names):
                idea = (
                    f"The thread {name!r} with the namespace {namespace!r}: both may have any characters, or none. A "
                    "MovedError says that its keys are in different slots: an empty tag, {}, is no tag at all."
                )
                with no_error(expected="a conversation of its own", idea=idea):
                    config = put(writer, name, namespace, number=number)
                    writer.put_writes(config, [("number", number)], "task-1")
                stored[name, namespace] = number, [("task-1", "number", number)]
            for (name, namespace), told in stored.items():
                found = writer.get_tuple(thread(name, namespace))
                came = found and (found.checkpoint["channel_values"].get("number"), found.pending_writes)
                idea = (
                    f"The thread {name!r} with the namespace {namespace!r} is a conversation of its own. No two pairs "
                    "of names may give the same key: quote what could be taken for a separator."
                )
                expect(came, told, idea)

        with behaviour("all keys of a thread are in one slot, and threads are spread over the slots"):
            used, before = {}, keys_of(cluster)
            for name in ("cleo", "dan", "eve{", "{finn}", "}gus{", "hal{}", "ida}", "jo"):
                writer = saver()
                idea = (
                    "A MovedError says that a key is in another slot than the first key of its commands. The tag, from "
                    "the first { to the first } after it, has to be the same in all keys of a thread, and not empty: "
                    "made of the thread id alone, without braces of its own."
                )
                with no_error(expected="one server that has all keys of a thread", idea=idea):
                    for namespace in ("", "refund:1"):
                        for step in (1, 2):
                            config = put(writer, f"{name}{token}", namespace, step=step)
                            writer.put_writes(config, [("step", step)], "task-1")
                new = keys_of(cluster) - before
                before |= new
                used[name] = {key_slot(key) for key in new}
                example = ", ".join(sorted(key.decode(errors="replace") for key in new)[:4])
                idea = (
                    f"The thread {name + token!r} has these keys: {example}. The tag, from the first {{ to the first "
                    "} after it, has to be the same in all of them, and not empty: made of the thread id alone, "
                    "without braces of its own."
                )
                expect(len(used[name]), 1, f"How many slots? {idea}")
            idea = (
                "Eight threads, and nearly as many slots: the tag names the thread. With one tag for all of them, one "
                "server would have all the work."
            )
            if len({slot for slots in used.values() for slot in slots}) < 5:
                raise Missed(expected="8 threads in about 8 slots", came=f"{used}", idea=idea)

        with behaviour("commands go to one server in one round trip"), counted(cluster) as (url, proxy):
            writer, kim = ClusterSaver(services.RedisCluster({"REDIS_CLUSTER_URL": url}).client()), f"{token} kim"
            config = put(writer, kim, step=1)
            trips = []
            for step in (2, 3, 4):
                before = proxy.trips
                writer.put(config, *a_checkpoint({"step": step}))
                trips.append(proxy.trips - before)
            idea = (
                "`put`, counted before the servers. Send all commands in one pipeline, `WAIT` too, to the master that "
                "has the key: a round trip for each command makes every step of an agent wait as often."
            )
            if min(trips) < 1:
                idea = "What was put was sent to the servers, and not by the client that the saver was given."
                raise Missed(expected="1 round trip", came=f"{min(trips)} round trips", idea=idea)
            if min(trips) > 2:  # 2 if `WAIT` comes by itself, which is as safe
                raise Missed(expected="1 round trip", came=f"{min(trips)} round trips", idea=idea)

        with behaviour("an agent goes on where it was, in another worker"):
            eve = f"{token} eve"
            request = {"messages": [("user", "Please refund order 1001")]}
            result = build_agent(saver()).invoke(request, thread(eve))
            idea = "One worker asks for an approval, and another, with a saver of its own, is told yes."
            expect("__interrupt__" in result, True, idea)
            result = build_agent(saver()).invoke(Command(resume=True), thread(eve))
            expect(result.get("refunded"), ORDERS["1001"]["price"], idea)

        with behaviour("a write that no replica has is not acknowledged"), quick_failover(cluster):
            finn, before = f"{token} finn", keys_of(cluster)
            config = put(saver(), finn, step=1)
            master, replica = owner(cluster, keys_of(cluster) - before)
            idea = (
                "The only replica is frozen, and has not got this checkpoint: if the master died now, it would be "
                "gone. `WAIT`, on the connection of the write itself, says how many replicas have it. Where that is "
                "less than `replicas`, `put` must not return: it raises when `seconds` have passed."
            )
            again = (
                "The replica is frozen. A first attempt left it on the master alone, and the next one, on another "
                "connection, changed nothing: `WAIT` had nothing to wait for, and said yes. A repeat has to write "
                "something, as `HSET` does and `HSETNX` does not; hence the `SET` in the `put_writes` that you were "
                "given."
            )
            made = a_checkpoint({"step": 2})
            frozen = {
                "`put` with a frozen replica and seconds=0.5": (idea, lambda: saver(0.5).put(config, *made)),
                "the same `put` again, by another worker,": (again, lambda: saver(0.5).put(config, *made)),
                "`put_writes` with a frozen replica and seconds=1": (
                    again,
                    lambda: saver(1).put_writes(config, [("step", 2)], "task-1"),
                ),
            }

            def refuse(what):
                idea, store = frozen[what]
                with refused(Exception, what=what, idea=idea):
                    store()

            replica.pause()
            try:
                with another_connection_each_time():
                    for what, (idea, _) in frozen.items():
                        in_time(5, what, idea, lambda what=what: refuse(what))
            finally:
                cluster.heal()
            writer, acknowledged = saver(seconds=0.5), None
            cluster.cut_off(replica)
            with suppress(Exception):
                acknowledged = writer.put(config, *a_checkpoint({"step": 3}))
            if acknowledged:
                master.kill()
                replica.resume()
                taken_over(cluster, replica)
                found = saver(seconds=4).get_tuple(acknowledged)
                idea = (
                    "`put` had returned. Then the master was killed, and its replica, which had been cut off, took "
                    "over."
                )
                expect(found and found.checkpoint["channel_values"], {"step": 3}, idea)
            cluster.heal()
            master, replica = owner(cluster, keys_of(cluster) - before)
            writer, runs, acknowledged = saver(seconds=0.5), [], None
            run = getattr(writer, "run", None)

            def cut_off_before_the_second(*args, **options):
                if len(runs) == 1:
                    cluster.cut_off(replica)
                runs.append(args)
                return run(*args, **options)

            writer.run = cut_off_before_the_second
            with suppress(Exception):
                acknowledged = writer.put(config, *a_checkpoint({"step": 4}))
            if acknowledged and len(runs) > 1:
                master.kill()
                replica.resume()
                taken_over(cluster, replica)
                found = saver(seconds=4).get_tuple(thread(finn))
                idea = (
                    "`put` called `run` more than once and returned, but not all that it had stored was safe: the "
                    "replica was cut off before the second call, and took over from a killed master. Send all of a "
                    "`put` in one safe `run`."
                )
                expect(found and found.checkpoint["channel_values"], {"step": 4}, idea)
            cluster.heal()
            idea = "The replica is back, so `put` works again, and what it stores is there."
            with no_error(expected="put stores a checkpoint", idea=idea):
                config = saver(seconds=4).put(config, *a_checkpoint({"step": 5}))
            found = saver().get_tuple(config)
            expect(found and found.checkpoint["channel_values"], {"step": 5}, idea)

        with behaviour("a master is killed while agents talk, and nothing is lost or doubled"), quick_failover(cluster):
            before, gus = keys_of(cluster), f"{token} gus"
            ask(build_agent(saver()), gus, "Hello")
            master, replica = owner(cluster, keys_of(cluster) - before)
            inner = saver(seconds=8)
            acknowledged = Acknowledged(inner)
            fail_to_initialize(inner.client)
            talk = Talk(acknowledged, [gus, f"{token} hal", f"{token} ida"])
            try:
                talk.until_more(6, gus, 4, "The agents have just begun.")
                master.kill()
                taken_over(cluster, replica)
                master.start()  # as a supervisor would; it comes back as a replica
                talk.until_more(6, gus, 5, "A master was killed, its replica took over, and it came back as a replica.")
            finally:
                talk.end()
            talk.without_errors("A master was killed, its replica took over, and it came back as a replica.")
            cluster.wait_until_ready()
            acknowledged.compare(saver(seconds=4), "A master was killed with -9, and its replica took over.")

    def test_redis_serialization(self, work, behaviour, rng):
        """Test custom serialization for complex states."""
        StateSerializer = work.StateSerializer
        allowed = [Status, Size, Order, Address, Customer]
        order = Order(rng.randint(1, 9999), Status.PAID, [(Decimal("1.50"), Size.SMALL), {"gift": True}])
        customer = Customer(name="Ana", address=Address(street="Main St"), sizes=(1, Size.LARGE, (2,)))

        def back(value, idea, allow=allowed):
            with no_error(expected=f"{shorten(value)} is stored and comes back", idea=idea):
                kind, data = StateSerializer(allow=allow).dumps_typed(value)
                came = StateSerializer(allow=allow).loads_typed((kind, data))
            if not (type(kind) is str and type(data) is bytes):
                raise Missed(
                    expected="(str, bytes)", came=f"({type(kind)}, {type(data)})", idea="`dumps_typed` gives both."
                )
            if wrong := difference(came, value):
                raise Missed(expected=shorten(value), came=wrong, idea=idea)

        with behaviour("plain values come back, and dicts with any keys"):
            idea = "What JSON knows comes back as it was."
            for value in (
                None,
                True,
                False,
                0,
                -1,
                2**70,
                1.5,
                float("inf"),
                float("nan"),
                "",
                "grüße ☕",
                [],
                [[1], []],
            ):
                back(value, idea)
            back({"a": [1, {"b": None}], "": {}}, idea)
            back(b"\x00\xff", "Bytes are no text: base64 turns any bytes into text and back.")
            for key in (1, True, None, 2.5, b"x", (1, "a")):
                back({key: 1}, "JSON makes text of every key of an object. Store a dict as a list of its pairs.")
            pairs = (
                {"dict": [["a", 1]]},
                {"tuple": [1]},
                {"type": "Decimal", "value": "1"},
                {"__type__": "set", "v": []},
            )
            for value in pairs:
                back(value, "This is a dict of the customer's own. It must not be taken for one of your tags.")
            with suppress(ValueError):  # where it is not JSON
                tag = json.loads(StateSerializer(allow=allowed).dumps_typed((1, 2))[1])
                back(tag, "A customer's dict that looks like the way you store a tuple is a dict all the same.")

        with behaviour("tuples, sets and deques stay what they are"):
            idea = "A tuple is no list, and a set is no list. A deque has a maxlen. All may be inside each other."
            for value in (
                (),
                (1,),
                [(1, 2), [3]],
                {1, "a", (2, 3)},
                set(),
                deque([1, 2], maxlen=5),
                deque([(1,)]),
                ({1}, [()]),
            ):
                back(value, idea)

        with behaviour("Decimal, datetime and timedelta stay exact"):
            for text in ("249.00", "0.1", "-0", "1E+30", "Infinity", "12345678901234567890.123456789"):
                back(Decimal(text), "A Decimal is exact, and `249.00` has two digits after the point: keep its text.")
            zones = (None, UTC, timezone(timedelta(hours=2)), timezone(-timedelta(hours=3, minutes=30)))
            for zone in zones:
                moment = datetime(
                    2026, rng.randint(1, 12), rng.randint(1, 28), 12, 30, 15, rng.randint(1, 999999), zone
                )
                back(moment, "A datetime keeps its microseconds and its offset, and one without an offset gets none.")
            for span in (
                timedelta(),
                timedelta(days=-2, seconds=5),
                timedelta(days=400, microseconds=rng.randint(1, 999999)),
                timedelta(days=900_000_000, microseconds=1),
            ):
                back(span, "A timedelta has days, seconds and microseconds: a float of seconds is not exact.")
            back({"at": [datetime(2026, 1, 1, tzinfo=UTC)], "price": (Decimal("1.10"), None)}, "They may be anywhere.")

        with behaviour("numpy arrays and scalars keep their dtype and shape"):
            draw = numpy.random.default_rng(rng.randrange(10**6))
            arrays = [
                draw.random((2, 3)),
                draw.integers(0, 9, 4, dtype=numpy.int16),
                numpy.zeros((0, 2), numpy.float32),
            ]
            arrays += [
                numpy.array(5),
                numpy.array(["ab", "c"]),
                draw.random((3, 4)).T,
                draw.random((4, 4))[::2, ::2] > 0.5,
            ]
            for array in arrays:
                back({"values": array}, "Store dtype, shape and bytes. `tolist()` forgets the dtype and empty shapes.")
            for scalar in (numpy.float32(0.1), numpy.int64(7), numpy.bool_(True), numpy.float64(2.5)):
                back(
                    scalar, "A numpy scalar is no float or int of Python, though numpy.float64 is a subclass of float."
                )
            kind, data = StateSerializer().dumps_typed(numpy.arange(3))
            loaded = StateSerializer().loads_typed((kind, data))
            with no_error(
                expected="an array that can be changed", idea="`frombuffer` gives an array that is read-only."
            ):
                loaded[0] = 9

        with behaviour("enums, dataclasses and pydantic models come back as themselves"):
            for value in (Status.PAID, [Status.SENT, 2], Size.LARGE, {Status.PAID: 1}):
                back(value, "An IntEnum is an int too: ask for its exact type before you take it for a number.")
            back(order, "A dataclass is made of fields, which may be anything that can be stored.")
            back(customer, "A pydantic model in a model is a model, and not a dict: `model_dump` turns it into one.")
            back({"orders": deque([order], maxlen=2), "who": (customer, {Status.SENT})}, "All of it, at any depth.")
            state = [1, "ana", b"x", {2: (rng.random(), {3})}, Decimal("1.50"), timedelta(1), datetime(2026, 1, 1)]
            state += [numpy.arange(3), numpy.float32(0.1), Status.PAID, Size.LARGE, deque([order]), customer]

            def differs(kind, data):
                return difference(StateSerializer(allow=allowed).loads_typed((kind, data)), state)

            with another_process(differs, expected=shorten(state), idea=LOADED_ELSEWHERE) as ask_there:
                if wrong := ask_there(*StateSerializer(allow=allowed).dumps_typed(state)):
                    raise Missed(expected=shorten(state), came=wrong, idea=LOADED_ELSEWHERE)

        with behaviour("what cannot come back as it was is refused when it is stored"):
            strange = {
                "an object": object(),
                "a function": len,
                "a class": Order,
                "an OrderedDict": OrderedDict(a=1),
                "a frozenset": frozenset([1]),
                "a complex number": 1j,
                "an array of objects": numpy.array([object()]),
                "a str of a subclass": type("Name", (str,), {})("ana"),
                "a class that is not allowed": OrderHistory(1),
            }
            for what, value in strange.items():
                idea = (
                    "What is not on your list would come back as something else, or not at all: a ValueError says so."
                )
                for where in (value, [1, {"deep": (value,)}]):
                    with refused(ValueError, what=f"storing {what}", idea=idea):
                        StateSerializer(allow=allowed).dumps_typed(where)
            idea = "Only classes in `allow` may be stored, and each serializer has a list of its own."
            for value in (Order(1), Status.PAID, customer):
                with refused(ValueError, what=f"storing a {type(value).__name__} without `allow`", idea=idea):
                    StateSerializer().dumps_typed(value)

        with behaviour("a class that is not allowed is refused when it is loaded"):
            cases = [(Order(7), [OrderHistory]), (OrderHistory(7), [Order]), (Elsewhere.Order(7), [Order])]
            cases += [(Status.PAID, [Order]), (customer, [Customer]), ([Order(7, Size.SMALL)], [Order])]
            cases += [(Namesake(7), [Order])]
            for value, allow in cases:
                more = [Namesake] if type(value) is Namesake else [*allowed, OrderHistory, Elsewhere.Order]
                stored = StateSerializer(allow=more).dumps_typed(value)
                names = ", ".join(f"{cls.__qualname__} of {cls.__module__}" for cls in allow)
                idea = (
                    f"It was stored by a serializer that allows others; this one allows {names}. Compare module and "
                    "full name (`__qualname__`): not how they begin or end, and look in `allow` and nowhere else."
                )
                with refused(ValueError, what=f"loading {shorten(value)}", idea=idea):
                    StateSerializer(allow=allow).loads_typed(stored)

        with behaviour("nothing is run that the bytes name"):
            kind, data = StateSerializer(allow=allowed).dumps_typed([Order(7), Status.PAID, customer])
            idea = "Pickle runs what the bytes tell it to run."
            if data[:1] == b"\x80" or b"cbuiltins" in data or "pickle" in kind:
                raise Missed(expected="a format without pickle", came=shorten(data), idea=idea)
            hostile = [("pickle", pickle.dumps(Trap())), (kind, pickle.dumps(Trap())), (f"not {kind}", data), ("", b"")]
            for old in (b"Order", b"Status", b"Customer"):
                for new in (b"Trap", b"Trap.model_construct"):
                    hostile.append((kind, data.replace(old, new)))
            for module in (b"os", b"builtins"):
                hostile.append((kind, data.replace(b"learning.course.goods", module).replace(b"Order", b"system")))
            Trap.touched.clear()
            for pair in hostile:
                what = f"loading {shorten(pair)}"
                idea = "Not yours, or a class that nobody allowed: a ValueError, before anything is imported or called."
                with refused(ValueError, what=what, idea=idea):
                    StateSerializer(allow=allowed).loads_typed(pair)
                expect(Trap.touched, [], f"{what} called something. {idea}")

        with behaviour("damaged bytes raise a ValueError"):
            kind, data = StateSerializer(allow=allowed).dumps_typed({"order": order, "sizes": (1, 2)})
            for cut in sorted(rng.sample(range(len(data)), 20)):
                with refused(
                    ValueError, what=f"loading the first {cut} of {len(data)} bytes", idea="Half is not whole."
                ):
                    StateSerializer(allow=allowed).loads_typed((kind, data[:cut]))
            for value in (rng.randint(10_000, 99_999), 1.25, "ana", [1, 2]):
                kind, data = StateSerializer().dumps_typed(value)
                idea = (
                    f"They are part of {value!r}, and another value. Half of a number is a number as well: have "
                    "something around the whole that is missing where the end is missing, such as a list or an object."
                )
                for cut in range(len(data)):
                    with refused(ValueError, what=f"loading {data[:cut]!r}, the first {cut} bytes,", idea=idea):
                        StateSerializer().loads_typed((kind, data[:cut]))

    def test_redis_session_management(self, work, behaviour, rng):
        """Test Redis-based session management."""
        SessionManager, TooManySessions = work.SessionManager, work.TooManySessions
        attempted("redis_session_management", lambda: SessionManager(None, 1, 1).sessions("ana"))
        redis = server(services.redis)
        client = redis.client()

        def users():  # others for each behaviour: what one leaves behind is nothing to the next
            return (f"{name} {rng.getrandbits(40):010x}" for name in ("ana", "ben"))

        def manager(ttl=60, max_per_user=3):
            return SessionManager(redis.client(), ttl=ttl, max_per_user=max_per_user)

        def store(user, session):
            client.hset(manager().state_key(user, session), "a checkpoint", "its state")

        def stored(user, session):
            return bool(client.exists(manager().state_key(user, session)))

        with behaviour("a session begins, is found, and ends with its state"):
            ana, _ = users()
            expect(manager().sessions(ana), [], "A user who has begun no session has none.")
            one, two = manager().create(ana), manager().create(ana)
            idea = "`create` returns a new id each time, as text, and `sessions` finds both, in another worker too."
            expect(sorted(manager().sessions(ana)), sorted([one, two]), idea)
            expect(one != two and type(one) is str, True, idea)
            store(ana, one), store(ana, two)
            expect(manager().end(ana, one), True, "There was such a session, so `end` returns True.")
            idea = "One session was ended: it is gone with its state, and the other one has all it had."
            expect((manager().sessions(ana), stored(ana, one), stored(ana, two)), ([two], False, True), idea)
            idea = "It has ended already, so there is nothing to end or to touch: False."
            expect((manager().end(ana, one), manager().touch(ana, one)), (False, False), idea)
            store(ana, one)
            idea = (
                "The checkpointer wrote one more checkpoint when the session had ended, and then called `touch`. That "
                "is the last chance to remove this state: nobody else would, for it has no TTL."
            )
            expect((manager().touch(ana, one), stored(ana, one)), (False, False), idea)
            expect(manager().sessions(ana), [two], f"{idea} The session is not begun anew.")
            manager().end(ana, two)

        with behaviour("a touch starts the time anew, for the session and its state"):
            ana, _ = users()
            one = manager(ttl=100).create(ana)
            store(ana, one)
            expect(manager(ttl=100).touch(ana, one), True, "The session is alive: `touch` returns True.")
            for key, what in ((manager().state_key(ana, one), "its state"), (manager().index_key(ana), "the index")):
                idea = (
                    f"`touch` gives {what} {100} seconds to live: `PEXPIRE` on that key too, each time. A key that is "
                    "written after the session began has no TTL before somebody gives it one."
                )
                left = client.pttl(key)
                if not 95_000 < left <= 100_000:
                    raise Missed(
                        expected="about 100000 milliseconds to live", came=f"{left} (-1 is for ever)", idea=idea
                    )
            client.pexpire(manager().state_key(ana, one), 5_000)
            manager(ttl=100).touch(ana, one)
            left = client.pttl(manager().state_key(ana, one))
            expect(left > 95_000, True, f"It had 5 seconds left when it was touched, and has {left} milliseconds now.")
            manager().end(ana, one)

        with behaviour("a session that nobody touches is gone, with its state"):
            ana, ben = users()
            ttl = 0.4
            alive, over, touched, ended, renewed = self.touched_for(1.2, manager(ttl=ttl, max_per_user=2), ana)
            idea = (
                f"It was touched again and again within its ttl of {ttl} seconds, so it is alive after three times "
                "that."
            )
            expect(alive, True, idea)
            idea = (
                f"The user began two sessions. One was touched all the time, so the index lives on; nobody touched the "
                f"other for three times its ttl of {ttl} seconds. So it is over: its score in the index tells."
            )
            expect(over, True, f"{idea} `sessions` does not list it.")
            expect(touched, False, f"{idea} It cannot be touched back to life.")
            expect(ended, False, f"{idea} It cannot be ended.")
            expect(
                renewed, True, f"{idea} It does not count: two sessions are allowed, so there is room for a new one."
            )
            one = manager(ttl=ttl).create(ben)
            store(ben, one)
            manager(ttl=ttl).touch(ben, one)
            idea = f"Nobody touched it for {ttl} seconds, so it is gone from `sessions`, and its state is gone too."
            gone = f"no session, and no state, after {ttl} seconds"
            until(lambda: not manager().sessions(ben) and not stored(ben, one), 3, idea, gone)

        with behaviour("a session that is ended in the middle of a touch has ended"):
            ana, _ = users()
            idea = (
                "`touch` asked whether there is such a session; then another worker ended it; then `touch` wrote it "
                "into the index again. Asking and writing have to happen in one script in the server."
            )
            for trips in range(6):
                one, touching = manager().create(ana), manager()
                store(ana, one)
                with after_round_trips(touching.client, trips, lambda one=one: manager().end(ana, one)) as ended:
                    touching.touch(ana, one)
                if not ended and not trips:
                    told = "`touch` asks by `self.client`, and by no other: whoever watches that one has to see it."
                    raise Missed(expected="a round trip of `self.client`", came="none", idea=told)
                if not ended:
                    break  # all is done after so many
                expect((manager().sessions(ana), stored(ana, one)), ([], False), idea)
            manager().end(ana, one)

        with behaviour("fifty requests at the same time never get more sessions than are allowed"):
            ana, ben = users()
            limit = rng.randint(3, 6)
            barrier = threading.Barrier(50)

            def request(number):
                mine = manager(max_per_user=limit)
                mine.sessions(ana)  # so that it is connected
                barrier.wait()
                try:
                    return mine.create(ana)
                except TooManySessions:
                    return None

            for _ in range(3):
                with ThreadPoolExecutor(50) as requests:
                    made = [session for session in requests.map(request, range(50)) if session]
                idea = (
                    "Between counting and adding, others have counted too. Both have to happen in one script in the "
                    "server (or in a transaction that WATCHes the index)."
                )
                expect(len(made), limit, f"How many of 50 requests got a session, where {limit} are allowed? {idea}")
                expect(
                    sorted(manager().sessions(ana)), sorted(made), "What `create` returned is what `sessions` finds."
                )
                with refused(TooManySessions, what=f"a session more than the {limit} allowed", idea=idea):
                    manager(max_per_user=limit).create(ana)
                idea = "The limit is for each user: Ben has none yet."
                with no_error(expected="a session for Ben", idea=idea):
                    other = manager(max_per_user=limit).create(ben)
                expect(manager().sessions(ben), [other], idea)
                for user, session in [(ben, other), *((ana, session) for session in made)]:
                    manager().end(user, session)

        with behaviour("one user cannot reach another's session"):
            ana, ben = users()
            one = manager(ttl=100).create(ana)
            store(ana, one)
            manager(ttl=100).touch(ana, one)
            client.pexpire(manager().state_key(ana, one), 50_000)
            idea = "Ben knows the id of Ana's session. It is not his: False, and nothing happens to it."
            expect((manager().touch(ben, one), manager().end(ben, one)), (False, False), idea)
            expect((manager().sessions(ana), manager().sessions(ben), stored(ana, one)), ([one], [], True), idea)
            expect(client.pttl(manager().state_key(ana, one)) <= 50_000, True, f"{idea} Its time does not start anew.")
            manager().end(ana, one)

        with behaviour("nobody looks through all keys of the server"):
            ana, _ = users()
            client.ping()
            before, pings = commands(redis, "keys", "scan"), commands(redis, "ping")
            one = manager().create(ana)
            manager().touch(ana, one), manager().sessions(ana), manager().end(ana, one)
            idea = (
                "`KEYS` and `SCAN` go through the keys of all users, and `KEYS` lets everybody else wait meanwhile. "
                "The index has a user's sessions."
            )
            reset = "The server's counters were reset meanwhile. They are not yours: others look at them as well."
            expect(commands(redis, "ping") >= pings, True, reset)
            expect(commands(redis, "keys", "scan") - before, 0, idea)

    def touched_for(self, seconds, manager, user):
        """What becomes of two sessions of which one is touched all the time. If this machine dozes off: once more.

        Returns whether that one is alive, and of the other: whether it is over, can be touched, can be ended, and has
        made room for a new one.
        """
        for _ in range(3):
            begin = last = time.monotonic()
            left, session = manager.create(user), manager.create(user)
            alive, longest = True, 0.0
            while alive and last < begin + seconds:
                alive = manager.touch(user, session) and session in manager.sessions(user)
                longest, last = max(longest, time.monotonic() - last), time.monotonic()
                time.sleep(0.05)
            over, touched, ended = (
                left not in manager.sessions(user),
                manager.touch(user, left),
                manager.end(user, left),
            )
            renewed = True
            try:
                manager.end(user, manager.create(user))
            except Exception:
                renewed = False
            manager.end(user, session)
            if longest < 0.3:
                break
        return alive, over, touched, ended, renewed

    def test_redis_monitoring(self, work, behaviour):
        """Test Redis monitoring and health checks."""
        check_health = work.check_health
        attempted("redis_monitoring", lambda: check_health(None))
        with own_server(lambda: services.redis(replicas=1)) as pair:
            replica = pair.replicas[0]

            def health(what, idea, client=None, **options):
                client = client or pair.client()  # as people make them: without timeouts, and with retries
                options = {"seconds": 0.4} | options
                seconds = 2 * options["seconds"] + 2
                late = f"{idea} Set deadlines of your own, and do not try again: the client may wait for ever."
                with no_error(expected="a status", idea=f"{idea} That is something to tell, and no error."):
                    came = in_time(
                        seconds, f"check_health, with {what},", late, lambda: check_health(client, **options)
                    )
                if not (isinstance(came, dict) and {"status", "reasons"} <= came.keys()):
                    raise Missed(expected="{'status': …, 'reasons': […]}", came=shorten(came), idea=idea)
                return came["status"], list(came["reasons"])

            with behaviour("a server and its replica that are well are healthy"):
                idea = "A write is stored, and the replica confirms it."
                for seconds in (1, 0.4, 0.4):
                    expect(health("all well", idea, seconds=seconds), ("healthy", []), idea)

            with behaviour("a replica that is gone, or frozen, is missing"):
                up = "The server itself answers, so it is not down."
                for fault in ("kill", "pause"):
                    getattr(replica, fault)()
                    idea = {
                        "kill": "The replica was killed. A second copy of what is stored does not exist now.",
                        "pause": (
                            "The replica is frozen: still in the list of INFO, and it confirms nothing. `WAIT` tells."
                        ),
                    }[fault]
                    try:
                        if fault == "kill":  # INFO drops it a moment later, when the end of its connection is heard of
                            info = partial(pair.client().info, "replication")
                            until(lambda info=info: not info()["connected_slaves"], 5, idea, "INFO counts no replica")
                        came = health(f"replica: {fault}", idea)
                        expect(came, ("degraded", ["replicas missing"]), f"{idea} {up}")
                    finally:
                        pair.heal()

            with behaviour("a server that is meant to have no replica is healthy without one"):
                replica.pause()
                try:
                    idea = "With `replicas=0` nobody has to confirm anything."
                    expect(health("replicas=0", idea, replicas=0), ("healthy", []), idea)
                finally:
                    pair.heal()
                idea = "Two replicas are wanted, and there is one."
                expect(health("replicas=2", idea, replicas=2), ("degraded", ["replicas missing"]), idea)

            with behaviour("a server that takes no writes is degraded"):
                try:
                    pair.fill_memory()
                    idea = "Its memory is full: it answers PING, serves reads, and refuses every write. So try a write."
                    expect(health("a full memory", idea), ("degraded", ["writes refused"]), idea)
                finally:
                    pair.heal()
                as_replica = pair.node_client(replica)
                idea = (
                    "This server is a replica, and takes no writes: a client that still thinks it is the master finds "
                    "out."
                )
                expect(health("a replica", idea, as_replica), ("degraded", ["writes refused"]), idea)

            with behaviour("a server that does not answer is down, and is not waited for"):
                for fault in ("pause", "kill"):
                    getattr(pair.node, fault)()
                    idea = {
                        "pause": "The server is frozen: it takes the connection, and nothing comes back.",
                        "kill": "The server was killed: nobody takes the connection.",
                    }[fault]
                    try:
                        expect(health(f"server: {fault}", idea), ("down", ["no answer"]), idea)
                    finally:
                        pair.heal()
                idea = "The server is back, and all is well."
                expect(health("all well again", idea), ("healthy", []), idea)

            with behaviour("no key of anybody else is touched"):
                client = pair.client()
                idea = "The check writes a key. Give it a name that nobody else can have, such as one with a uuid4."
                with changed_keys(client) as names:
                    health("all well", idea)
                if not names:
                    expected = "a key that the check writes"
                    raise Missed(expected=expected, came="none", idea=f"A replica confirms what is written. {idea}")
                for name in names:
                    client.set(name, "somebody else's")
                health("all well", idea)
                expect([client.get(name) for name in names], [b"somebody else's"] * len(names), idea)
                for name in names:
                    client.delete(name)

            with behaviour("nothing of the check stays in the server"):
                health("all well", "A check leaves nothing behind.")
                client = pair.client()
                forever = [key for key in client.scan_iter() if client.ttl(key) == -1]
                expect(forever, [], "These keys have no TTL: delete what the check wrote, or let it end by itself.")

                def connections():
                    gc.collect()  # closes what nobody refers to any more
                    return len(client.client_list())

                before = connections()
                for _ in range(10):
                    health("all well", "A check leaves nothing behind.")
                idea = "Ten checks made connections, and did not close them: a server has room for some thousands."
                until(lambda: connections() < before + 5, 3, idea, "no more connections than before")


class TestPostgreSQLStorage:
    """Test PostgreSQL-based state persistence."""

    def test_postgres_schema(self, work, behaviour, rng, until_the_end):
        """Test PostgreSQL schema for state storage."""
        SCHEMA, put_checkpoint = work.SCHEMA, work.put_checkpoint
        written("postgres_schema", SCHEMA)
        postgres = server(services.postgres)
        url = until_the_end.enter_context(database(postgres))

        @contextmanager
        def shop():
            """Connections to a database with the learner's tables alone: its ordinary owner's, and a superuser's."""
            with emptied(url) as conn:
                with no_error(expected="SCHEMA is SQL that makes the tables", idea="This is PostgreSQL's own message."):
                    conn.execute(SCHEMA)
                with superuser(postgres, conn) as admin:
                    yield conn, admin

        def row(thread_id="ana", checkpoint_id="id-1", namespace="", parent=None, **metadata):
            place = {"thread_id": thread_id, "checkpoint_ns": namespace, "checkpoint_id": checkpoint_id}
            return place | {"parent_id": parent, "checkpoint": rng.randbytes(20), "metadata": {"step": 1} | metadata}

        def insert(conn, tenant="north", metadata="{}", **row):
            """Store a checkpoint with SQL alone, as another program would."""
            place = {"thread_id": "ana", "checkpoint_ns": "", "checkpoint_id": "id-1", "parent_id": None} | row
            insertion = (
                "INSERT INTO checkpoints"
                " (tenant, thread_id, checkpoint_ns, checkpoint_id, parent_id, checkpoint, metadata)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s)"
            )
            conn.execute(insertion, [tenant, *place.values(), b"state", metadata])

        def insert_write(
            conn, tenant="north", thread_id="ana", namespace="", checkpoint_id="id-1", task_id="task", idx=0
        ):
            insertion = (
                "INSERT INTO writes (tenant, thread_id, checkpoint_ns, checkpoint_id, task_id, idx, channel, value)"
                " VALUES (%s, %s, %s, %s, %s, %s, 'messages', 'hello')"
            )
            conn.execute(insertion, [tenant, thread_id, namespace, checkpoint_id, task_id, idx])

        def rows_of(conn):
            query = "SELECT checkpoints::text FROM checkpoints UNION ALL SELECT writes::text FROM writes ORDER BY 1"
            return [row for (row,) in conn.execute(query)]

        def keep(conn, tenant, row, writes, idea):
            try:
                with no_error(expected="it is stored", idea=idea):
                    put_checkpoint(conn, tenant, row, writes)
            except Missed as missed:
                if isinstance(missed.__cause__, psycopg.errors.SyntaxError) and "$1" in missed.told["came"]:
                    told = "Some statements take no parameters, `SET` for one: `SELECT set_config(…, %s, true)` does."
                    raise Missed(**missed.told | {"idea": told}) from missed.__cause__
                raise

        def counts(conn):
            return [conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("checkpoints", "writes")]

        with behaviour("rows that cannot be right are refused"), shop() as (_, admin):
            bad = {
                "the same checkpoint twice": {},
                "an empty thread id": {"thread_id": "", "checkpoint_id": "id-2"},
                "an empty tenant": {"tenant": "", "checkpoint_id": "id-2"},
                "a checkpoint that is its own parent": {"checkpoint_id": "id-2", "parent_id": "id-2"},
                "metadata that are a list": {"checkpoint_id": "id-2", "metadata": "[]"},
                "metadata that are JSON's null": {"checkpoint_id": "id-2", "metadata": "null"},
            }
            insert(admin)
            for what, values in bad.items():
                idea = "A PRIMARY KEY or a CHECK keeps it out, whichever program writes it."
                with refused(psycopg.errors.IntegrityError, what=f"inserting {what}", idea=idea):
                    insert(admin, **values)
            insert_write(admin)
            idea = "The key of a write: tenant, thread, namespace, checkpoint, task and idx."
            with refused(psycopg.errors.IntegrityError, what="inserting the same write of a task twice", idea=idea):
                insert_write(admin)
            idea = "An empty tenant or thread id is refused in both tables: `writes` needs a CHECK of its own."
            for name in ("tenant", "thread_id"):
                with refused(psycopg.errors.IntegrityError, what=f"inserting a write with an empty {name}", idea=idea):
                    insert_write(admin, **{name: ""})

        with behaviour("rows that are right are taken"), shop() as (_, admin):
            good = {
                "a first checkpoint": {},
                "a second one, and its parent": {"checkpoint_id": "id-2", "parent_id": "id-1"},
                "another child of the same parent, a fork": {"checkpoint_id": "id-3", "parent_id": "id-1"},
                "the same id in another namespace": {"checkpoint_ns": "refund:1"},
                "the same id in another thread": {"thread_id": "ben"},
                "the same id of another tenant": {"tenant": "south"},
            }
            for what, values in good.items():
                idea = f"This is right: {what}. A checkpoint is known by tenant, thread, namespace and id together."
                with no_error(expected="it is stored", idea=idea):
                    insert(admin, **values)
            idea = "LangGraph may store what a task wrote before the checkpoint itself: so no foreign key between them."
            with no_error(expected="a write whose checkpoint is still to come is stored", idea=idea):
                insert_write(admin, checkpoint_id="id-9")
            idea = "Writes differ in their namespace, task or idx, which is negative for some channels of LangGraph."
            for values in ({}, {"idx": 1}, {"idx": -3}, {"task_id": "b"}, {"namespace": "x"}, {"tenant": "south"}):
                with no_error(expected=f"a write with {values or 'nothing special'} is stored", idea=idea):
                    insert_write(admin, **values)

        with behaviour("a tenant sees and changes its own rows only"), shop() as (conn, admin):
            for tenant in ("north", "south"):
                insert(admin, tenant)
                insert_write(admin, tenant)
            conn.execute("SELECT set_config('shop.tenant', 'north', false)")
            forced = (
                "The connection belongs to the owner of the tables, as that of most applications does: a policy binds "
                "the owner only after FORCE ROW LEVEL SECURITY."
            )
            for table in ("checkpoints", "writes"):
                came = conn.execute(f"SELECT tenant FROM {table}").fetchall()
                expect(came, [("north",)], f"`shop.tenant` is 'north', and this is all of {table}. {forced}")
                idea = f"An UPDATE by 'north' of all rows of {table} whose tenant is 'south'. {forced}"
                changed = conn.execute(f"UPDATE {table} SET thread_id = 'stolen' WHERE tenant = 'south'").rowcount
                expect(changed, 0, idea)
                own = conn.execute(f"UPDATE {table} SET checkpoint_ns = 'refund:1'").rowcount
                expect(
                    own, 1, f"A tenant changes its own row of {table}: a policy for SELECT and INSERT is not enough."
                )
                idea = f"A row of 'north' in {table} cannot be given to 'south'."
                with refused(psycopg.errors.InsufficientPrivilege, what=f"UPDATE {table} SET tenant", idea=idea):
                    conn.execute(f"UPDATE {table} SET tenant = 'south', thread_id = 'given'")
                gone = conn.execute(f"DELETE FROM {table} WHERE tenant = 'south'").rowcount
                expect(gone, 0, f"A DELETE by 'north' of the rows of 'south' in {table}. {forced}")
            idea = f"'north' inserts a row of 'south'. {forced}"
            for store in (insert, insert_write):
                with refused(psycopg.errors.InsufficientPrivilege, what="inserting a row of another tenant", idea=idea):
                    store(conn, "south", checkpoint_id="id-2")

        with behaviour("without a tenant nothing is seen, and nothing fails"), shop() as (conn, admin):
            for tenant in ("north", "south"):
                insert(admin, tenant)
                insert_write(admin, tenant)
            for what, setting in (
                ("In a session in which nobody has ever set `shop.tenant`", "SELECT 1"),
                ("After RESET shop.tenant, in a session that had one", "SET shop.tenant = 'north'; RESET shop.tenant"),
                ("With `shop.tenant` set to ''", "SET shop.tenant = ''"),
            ):
                conn.execute(setting)
                idea = (
                    f"{what}, no rows are seen. `current_setting('shop.tenant', true)` is NULL where it was never set; "
                    "without `true` it is an error."
                )
                for table in ("checkpoints", "writes"):
                    with no_error(expected=f"no rows of {table}", idea=idea):
                        came = conn.execute(f"SELECT tenant FROM {table}").fetchall()
                    expect(came, [], idea)

        with behaviour("a checkpoint is stored with its writes, and again without harm"), shop() as (conn, admin):
            nasty = "'); DROP TABLE writes; -- %s"
            made = row(nasty, "id-2", "refund:1", "id-1", run_id="run-7", who="Müller's")
            writes = [
                ("task", 0, "messages", b"hello"),
                ("task", 1, nasty, b"\x00"),
                ("task", -3, "__interrupt__", b"?"),
            ]
            idea = "`put_checkpoint` stores each value as it is: give values as parameters, apart from the SQL."
            retry = "The same call a second time is a retry: no error, and nothing changes."
            for tenant in ("north", "south"):
                keep(conn, tenant, made, writes, idea)
                before = rows_of(admin)
                keep(conn, tenant, made, writes, retry)
                expect(rows_of(admin), before, retry)
            columns = "thread_id, checkpoint_id, checkpoint_ns, parent_id, checkpoint, metadata, run_id"
            for tenant in ("north", "south"):
                found = admin.execute(f"SELECT {columns} FROM checkpoints WHERE tenant = %s", [tenant]).fetchall()
                metadata = made["metadata"]
                expect(found, [(nasty, "id-2", "refund:1", "id-1", made["checkpoint"], metadata, "run-7")], idea)
                columns_of_write = "checkpoint_ns, checkpoint_id, task_id, idx, channel, value"
                query = f"SELECT {columns_of_write} FROM writes WHERE tenant = %s ORDER BY idx DESC"
                found = admin.execute(query, [tenant]).fetchall()
                wanted = [("refund:1", "id-2", *write) for write in (writes[1], writes[0], writes[2])]
                expect(found, wanted, idea)
            idea = "A checkpoint after which no task wrote."
            with no_error(expected="it is stored", idea=idea):
                put_checkpoint(conn, "north", row("ben"))
            expect(counts(admin), [3, 6], idea)

        with behaviour("it is committed, and the connection is as it was"), shop() as (conn, admin):
            for number, autocommit in enumerate((True, False)):
                conn.autocommit = autocommit
                idea = f"With autocommit={autocommit}: `with conn.transaction()` commits at its end, in either mode."
                keep(conn, "north", row(f"ana-{number}"), [("task", 0, "messages", b"hello")], idea)
                expect(counts(admin), [number + 1, number + 1], f"Another connection sees what is committed. {idea}")
                idle(conn, idea)
                came = conn.execute("SELECT current_setting('shop.tenant', true)").fetchone()[0] or ""
                idea = (
                    "The next user of this connection may work for another tenant: set the tenant for this transaction "
                    "only, with `set_config(…, …, true)`."
                )
                expect(came, "", idea)
                conn.rollback()

        with behaviour("a session that is killed in the middle leaves nothing half-written"):
            for table in ("writes", "checkpoints"):
                for autocommit in (True, False):
                    with shop() as (conn, admin), superuser(postgres, conn) as blocker:
                        conn.autocommit = autocommit
                        writes = [("task", place, "messages", b"hello") for place in range(3)]
                        with blocker.transaction():
                            blocker.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE")
                            idea = (
                                f"`put_checkpoint` (autocommit={autocommit}) waited to insert into {table}, and its "
                                "session was killed there. A checkpoint and its writes are one transaction: all or "
                                "nothing."
                            )
                            waited = ended_while_it_waits(
                                admin,
                                conn,
                                lambda conn=conn, writes=writes, idea=idea: keep(conn, "north", row(), writes, idea),
                            )
                        expect(waited, True, f"Does `put_checkpoint` insert into {table}?")
                        expect(counts(admin), [0, 0], f"How many rows in checkpoints and writes? {idea}")

        with ExitStack() as many:
            try:  # before the behaviour, whose time is for the queries
                conn, admin = many.enter_context(shop())
                trouble = fill_tables(admin)
            except Missed as error:
                trouble = error
            with behaviour("each hot query reads few of 100,000 checkpoints"):
                if trouble:
                    raise trouble
                conn.execute("SELECT set_config('shop.tenant', 'shop-3', false)")
                for (what, query), most in HOT_QUERIES.items():
                    plan = explain(conn, query)
                    idea = (
                        f"{what}: {query} - asked by the owner of the tables, under the policy. An index helps whose "
                        "first columns the query compares for equality, and whose next one it orders by or limits."
                    )
                    if plan.rows_read + plan.entries_read > most or plan.pages_read > 100:
                        expected = f"at most {most:,} rows and 100 pages read"
                        raise Missed(expected=expected, came=str(plan), idea=idea)

    def test_postgres_versioning(self, work, behaviour, rng, until_the_end):
        """Test state versioning and migration."""
        migrate = work.migrate
        attempted("postgres_versioning", lambda: migrate(None, []))
        MigrationError = work.MigrationError
        url = until_the_end.enter_context(database(server(services.postgres)))

        @contextmanager
        def shop(autocommit=True):
            with emptied(url) as conn:
                conn.autocommit = autocommit
                yield conn, url

        def ups(*numbers):
            return sorted(f"up {number}" for number in numbers)

        with behaviour("migrations run in the order of their numbers, each once"), shop() as (conn, _):
            some = migrations(11)
            shuffled = rng.sample(some[:5], 5)
            idea = "It returns the numbers of what it did, in order, and sorts what it is given."
            expect(migrate(conn, shuffled), [1, 2, 3, 4, 5], idea)
            expect(tables_of(conn), ["log", *(f"orders_{number}" for number in range(2, 6))], idea)
            expect(migrate(conn, shuffled), [], "Everything is done already, so nothing is left to do.")
            idea = "Six new ones: only those run. Numbers are numbers: 10 comes after 9, not after 1."
            expect(migrate(conn, rng.sample(some, 11)), [6, 7, 8, 9, 10, 11], idea)
            expect(noted(conn), ups(*range(1, 12)), idea)
            expect(migrate(conn, some[:0] + some), [], "Nothing is left to do.")

        with behaviour("the SQL is run as it stands, and the connection is left as it was"):
            for autocommit in (True, False):
                with shop(autocommit=autocommit) as (conn, url), psycopg.connect(url, autocommit=True) as other:
                    special = Migration(2, "special", "INSERT INTO log VALUES ('100%s; %(x)s -- {}')", "SELECT 1")
                    idea = f"With autocommit={autocommit}. Its text may have % and {{}} in it, and several statements."
                    with no_error(expected="it runs", idea=idea):
                        migrate(conn, [*migrations(1), special])
                    came = noted(other)
                    if not came:
                        idea += (
                            " Nothing was committed. Did a statement before `with conn.transaction():` open a "
                            "transaction already? Then that block is only a part of it, and commits nothing."
                        )
                    expect(came, ["100%s; %(x)s -- {}", "up 1"], f"Another connection sees it. {idea}")
                    idle(conn, f"With autocommit={autocommit}, everything is committed at the end.")
                    held = other.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()[0]
                    expect(held, 0, "How many advisory locks are still held? `pg_advisory_xact_lock` ends by itself.")

        with behaviour("24 at once apply each migration once, and nobody gets an error"), shop() as (conn, url):
            some, barrier = migrations(4), threading.Barrier(24)

            def start_up():
                with psycopg.connect(url, autocommit=True) as own:
                    barrier.wait(5)
                    done = migrate(own, some)
                    return done, tables_of(own)

            with ThreadPoolExecutor(24) as pool:
                idea = (
                    "24 processes start at the same time, and each migrates first. `IF NOT EXISTS` is no lock: two "
                    "find nothing, and both create. Take a lock before you look, and look again when you have it."
                )
                with no_error(expected="no error for anybody", idea=idea):
                    results = list(pool.map(lambda _: start_up(), range(24)))
            expect(noted(conn), ups(1, 2, 3, 4), idea)
            expect(sorted(number for done, _ in results for number in done), [1, 2, 3, 4], f"All that they did. {idea}")
            expect([there for _, there in results], [tables_of(conn)] * 24, f"Each may start when all is done. {idea}")

        with behaviour("a step that fails leaves no trace, and those before it stay"), shop() as (conn, _):
            some = migrations(4)
            broken = Migration(
                3, "half", "CREATE TABLE half (id int); INSERT INTO log VALUES ('half'); SELECT 1 / 0", ""
            )
            idea = "Migration 3 divides by zero after it has made a table. Its error gets out."
            with refused(psycopg.errors.DivisionByZero, what="a migration that fails", idea=idea):
                migrate(conn, [some[0], some[1], broken, some[3]])
            idea = (
                "Migrations 1 and 2 are done, 3 failed, 4 was never begun. Each migration is a transaction of its own, "
                "with the record that it is done in it."
            )
            expect((tables_of(conn), noted(conn)), (["log", "orders_2"], ups(1, 2)), idea)
            with no_error(expected="[3, 4], once number 3 is mended", idea=idea):
                expect(migrate(conn, some), [3, 4], f"Then number 3 is mended, and all goes on. {idea}")
            expect(noted(conn), ups(1, 2, 3, 4), idea)

        with behaviour("killed at any statement, up or down, the next run finishes the work"), shop() as (conn, url):
            some, statement, broken = migrations(2), 0, True
            idea = (
                "The session was killed before statement {} of `migrate`, and then `migrate` was called again. A "
                "migration and its record are one transaction: both are there, or neither."
            )
            with suppress(psycopg.Error), psycopg.connect(url, autocommit=True) as dead:
                end_sessions(conn)
                migrate(dead, some)
            told = "Its session had ended before. `migrate` works on the connection that it was given, and on no other."
            expect(noted(conn), [], told)
            while broken and statement < 60:
                drop_tables(conn)
                cut = fragile(url, statement)
                with suppress(psycopg.Error), cut:
                    migrate(cut, some)
                broken = cut.broken
                told = idea.format(statement)
                with no_error(expected="the second call finishes", idea=told):
                    migrate(conn, some)
                expect(noted(conn), ups(1, 2), told)
                cut = fragile(url, statement)
                with suppress(psycopg.Error), cut:
                    migrate(cut, some, target=1)
                broken = broken or cut.broken
                with no_error(expected="the second call finishes, down to 1", idea=told):
                    migrate(conn, some, target=1)
                expect((tables_of(conn), noted(conn)), (["log"], ["down 2", *ups(1, 2)]), told)
                statement += 1

        with behaviour("a migration that was edited, or is unknown, is refused"), shop() as (conn, _):
            some = migrations(4)
            migrate(conn, some[:3])
            edited = Migration(2, some[1].name, some[1].up.replace("id int", "id bigint"), some[1].down)
            idea = (
                "The SQL of migration 2 is not what this database was made with. Keep a checksum of `up` with the "
                "record, and compare before anything is changed."
            )
            with refused(MigrationError, what="a list in which an applied migration was edited", idea=idea):
                migrate(conn, [some[0], edited, some[2], some[3]])
            expect(noted(conn), ups(1, 2, 3), f"Nothing more was done. {idea}")
            idea = "This database has migration 3, and the list ends with 2: the program is older than the database."
            with refused(MigrationError, what="a list that lacks an applied migration", idea=idea):
                migrate(conn, some[:2])
            expect(noted(conn), ups(1, 2, 3), f"Nothing more was done. {idea}")
            idea = "With the right list all goes on. (Its `name` may change: that is no edit of what it does.)"
            renamed = Migration(3, "a better name", some[2].up, some[2].down)
            with no_error(expected="[4]", idea=idea):
                expect(migrate(conn, [*some[:2], renamed, some[3]]), [4], idea)

        with behaviour("back down to a target, newest first"), shop() as (conn, _):
            some = migrations(5)
            idea = "target=3 of five: 4 and 5 are not wanted yet."
            expect(migrate(conn, some, target=3), [1, 2, 3], idea)
            expect(migrate(conn, some, target=5), [4, 5], "target=5: the other two.")
            idea = "target=2: what is above is undone with its `down`, the newest first."
            expect(migrate(conn, rng.sample(some, 5), target=2), [5, 4, 3], idea)
            expect(tables_of(conn), ["log", "orders_2"], idea)
            expect(migrate(conn, some, target=2), [], "It is at 2 already.")
            broken = Migration(2, some[1].name, some[1].up, "DROP TABLE orders_2; SELECT 1 / 0")
            idea = "The `down` of migration 2 fails after it has dropped the table: all of it is taken back."
            with refused(psycopg.errors.DivisionByZero, what="a `down` that fails", idea=idea):
                migrate(conn, [some[0], broken, *some[2:]], target=1)
            expect(tables_of(conn), ["log", "orders_2"], idea)
            expect(migrate(conn, some), [3, 4, 5], "Up again to the highest, with the records of 1 and 2 in place.")
            expect(migrate(conn, some, target=0), [5, 4, 3, 2, 1], "target=0 undoes all.")
            expect(tables_of(conn), [], "target=0 undoes all.")
            expect(migrate(conn, some, target=1), [1], "And from nothing, up to 1.")

    def test_postgres_analytics(self, work, behaviour, rng):
        """Test state analytics and reporting."""
        names = ("sessions_per_day", "step_times", "cost_by_tenant", "interrupted_to_resumed")
        queries = {name: getattr(work, name) for name in names}
        day = date(2026, 1, 1)
        arguments = {"sessions_per_day": ("", day, day), "cost_by_tenant": (day, day)}
        attempted(
            "postgres_analytics",
            *(lambda name=name: queries[name](None, *arguments.get(name, ("",))) for name in names),
        )
        postgres = server(services.postgres)
        with database(postgres) as url, psycopg.connect(url, autocommit=True) as conn:
            history = a_history(rng, ["north", "south", "west", "east"], idle=["new", "closed'"])
            history.store(conn, rng)
            first, last = history.first, history.last
            conn.execute(f"SET TIME ZONE '{rng.choice(['Pacific/Auckland', 'America/Los_Angeles'])}'")

            def ask(name, *given, idea="The tables are there, as the text has them."):
                with no_error(expected="an answer", idea=f"`{name}{given}`. {idea}"):
                    return getattr(work, name)(conn, *given)

            def rounded(value):
                return None if value is None else round(float(value), DIGITS)

            with behaviour("sessions of each day, also of days without any"):
                for tenant in ("north", "new", "nobody"):
                    idea = (
                        f"Sessions of {tenant!r}: different conversations that had a step on that day. A day is one of "
                        "UTC, whatever time zone the connection has, and a day without a step counts 0."
                    )
                    whole = first - timedelta(days=2), last + timedelta(days=1)
                    for begin, end in (whole, (first, first), (first + timedelta(days=2), last - timedelta(days=2))):
                        came = [(str(day), count) for day, count in ask("sessions_per_day", tenant, begin, end)]
                        expect(came, history.per_day(tenant, begin, end), idea)

            with behaviour("p50 and p95 of each node's steps"):
                for tenant in ("north", "south", "new"):
                    rows = ask("step_times", tenant)
                    idea = (
                        f"Steps of {tenant!r}. A step is a row of the kind 'loop', and took the time since the row "
                        "before it in its conversation, of whatever kind: `lag` first, choose the rows after. (Two "
                        "tenants may have threads of the same id: a thread is known by both.) Half of "
                        "the steps were faster than p50, 95 % faster than p95 (`percentile_cont`); a mean is neither."
                    )
                    came = [(node, count, rounded(p50), rounded(p95)) for node, count, p50, p95 in rows]
                    expect(came, history.times(tenant), idea)

            with behaviour("cost of each tenant, also of those without any"):
                for begin, end in ((first, last), (first + timedelta(days=3), first + timedelta(days=4))):
                    rows = ask("cost_by_tenant", begin, end)
                    wanted = {tenant: history.cost(tenant, begin, end) for tenant in history.tenants}
                    total = sum(wanted.values())
                    idea = (
                        "The cost of each tenant on these days of UTC, to the last digit. One that has no step, or "
                        "whose steps all cost NULL, costs 0, and is in the list."
                    )
                    costs = {tenant: f"{cost:.4f}" for tenant, cost, share in rows}
                    expect(*where_they_differ(costs, {tenant: f"{cost:.4f}" for tenant, cost in wanted.items()}), idea)
                    idea = "Each tenant once, the dearest first."
                    expect([f"{row[1]:.4f}" for row in rows], sorted(costs.values(), key=float, reverse=True), idea)
                    shares = {tenant: rounded(share) for tenant, cost, share in rows}
                    idea = "The share of a tenant is its part of the sum of all: 1 for one that has all of it."
                    wanted_shares = {tenant: rounded(cost / total) for tenant, cost in wanted.items()}
                    expect(*where_they_differ(shares, wanted_shares), idea)
                before = first - timedelta(days=30)
                rows = ask("cost_by_tenant", before, before)
                idea = "On a day on which nothing cost anything each share is 0, and nothing is divided by 0."
                came = sorted((tenant, float(cost), rounded(share)) for tenant, cost, share in rows)
                expect(came, sorted((tenant, 0.0, 0.0) for tenant in history.tenants), idea)

            with behaviour("interrupts, how many were answered, and how soon"):
                for tenant in ("north", "south", "new"):
                    came = ask("interrupted_to_resumed", tenant)
                    idea = (
                        f"Interrupts of {tenant!r} alone. One is resumed if the next row of its conversation is of the "
                        "kind 'resume'. (Two tenants may have threads of the same id.) If a new message comes instead, "
                        "or nothing, nobody has answered. The median is over those that were resumed, and None if "
                        "there are none."
                    )
                    with no_error(expected="(interrupts, resumed, median)", idea=idea):
                        interrupts, resumed, median = came
                    expect((interrupts, resumed, rounded(median)), history.waited(tenant), idea)

            with behaviour("a tenant's name is data, whatever it looks like"):

                def told_of(tenant, idea):
                    return [
                        [(str(day), count) for day, count in ask("sessions_per_day", tenant, first, last, idea=idea)],
                        [(node, count) for node, count, *_ in ask("step_times", tenant, idea=idea)],
                        list(ask("interrupted_to_resumed", tenant, idea=idea)[:2]),
                    ]

                known = told_of("north", "The plain name 'north': if lines above fail too, mend those first.")
                name = "north"
                for strange in AWKWARD:
                    conn.execute("UPDATE steps SET tenant = %s WHERE tenant = %s", [strange, name])
                    name = strange
                    idea = f"'north' is called {name!r} now. A name is a parameter, never a part of the SQL."
                    expect(told_of(name, idea), known, idea)
                name = "x' OR 'a' = 'a"
                idea = (
                    f"There is no tenant {name!r}, so it has nothing. A name is a parameter, never a part of the SQL."
                )
                expect(told_of(name, idea), told_of("nobody", idea), idea)
                left = conn.execute("SELECT count(*) FROM steps").fetchone()[0]
                expect(left, len(history.steps), "Reports change nothing: as many steps as before.")

    def test_postgres_backup(self, work, behaviour, rng, tmp_path):
        """Test backup and recovery procedures."""
        backup, verify, restore_to = work.backup, work.verify, work.restore_to
        attempted(
            "postgres_backup",
            lambda: backup(None, tmp_path),
            lambda: verify(tmp_path),
            lambda: restore_to(None, tmp_path, None),
        )
        with (
            roomy_folder(tmp_path) as tmp_path,
            own_server(archiving_server) as postgres,
            postgres.client(autocommit=True) as conn,
        ):
            conn.execute("ALTER SYSTEM SET autovacuum = off")  # no commits but those of the shop
            conn.execute("SELECT pg_reload_conf()")
            conn.execute("CREATE TABLE refunds (id int PRIMARY KEY, note text); CREATE TABLE orders (id int)")
            conn.execute("INSERT INTO refunds SELECT n, repeat('refund ', 20) FROM generate_series(1, 2000) AS n")
            made = tmp_path / "backup"

            def now():
                return conn.execute("SELECT clock_timestamp()").fetchone()[0]

            def approve(*ids):
                for each in ids:
                    conn.execute("INSERT INTO refunds VALUES (%s, 'approved')", [each])

            def restored(moment, idea):
                with no_error(expected="a server that has recovered", idea=idea):
                    return in_time(9, "`restore_to`", idea, lambda: restore_to(postgres, made, moment))

            with behaviour("a backup is made while the shop works, and verified"):
                idea = "`pg_basebackup` copies all files of a running server; the connection is `server.url`."
                with no_error(expected="a backup", idea=idea):
                    in_time(9, "`backup`", idea, lambda: backup(postgres, made))
                there = {path.name for path in made.iterdir()} if made.is_dir() else set()
                idea = f"{idea} (A dump of the tables is not enough: WAL cannot be replayed on it.)"
                expect({"PG_VERSION", "base", "backup_manifest"} <= there, True, idea)
                expect(list(verify(made)), [], "Nothing is wrong with it: an empty list.")
                if restoring := changed(made):
                    raise Missed(expected="a backup as it was made", came=restoring, idea="Verifying changes nothing.")

            with behaviour("a backup that could not be made is an error"):
                idea = "`pg_basebackup` says with its exit code that it failed: look at it, and raise a BackupError."
                occupied = tmp_path / "occupied"
                occupied.mkdir()
                (occupied / "yesterday").write_text("the only backup")
                with refused(Exception, what="a backup into a folder that has files in it", idea=idea):
                    backup(postgres, occupied)
                expect([path.name for path in occupied.iterdir()], ["yesterday"], "What was there is left alone.")
                nobody = services.PostgreSQL({"DATABASE_URL": f"postgresql://learning@/postgres?host={tmp_path}"})
                with refused(Exception, what="a backup of a server that is not there", idea=idea):
                    in_time(5, "`backup`", idea, lambda: backup(nobody, tmp_path / "nothing"))

            with behaviour("damage is found by verify, whatever it is"), aside(made) as whole:
                relation = conn.execute("SELECT pg_relation_filepath('refunds')").fetchone()[0]
                for what, damage in DAMAGES.items():
                    shutil.copytree(whole, made, copy_function=os.link)
                    damage(made, relation)
                    idea = (
                        f"Damage: {what}. `pg_verifybackup` compares every byte with the manifest that was written "
                        "when the backup was made, and says so with its exit code."
                    )
                    with no_error(expected="a list with what is wrong", idea=idea):
                        came = list(verify(made))
                    if not came:
                        raise Missed(expected="a list with what is wrong", came="[]", idea=idea)
                    shutil.rmtree(made)
                expect(list(verify(whole)), [], "Nothing is wrong with this one, whatever its folder is called.")
                idea = "There is no backup at all: a list that says so."
                with no_error(expected="a list with what is wrong", idea=idea):
                    expect(list(verify(tmp_path / "nothing")) != [], True, idea)

            with behaviour("a dropped table comes back as of the moment before, with all that was acknowledged"):
                approve(*range(3001, 3051))
                finish_archiving(postgres.url)
                approve(*range(3051, 3101))  # these are in a piece of the log that is not archived yet
                moment = now()
                approve(4000)
                conn.execute("DROP TABLE refunds")
                conn.execute("INSERT INTO orders VALUES (1001)")
                idea = (
                    "The table was dropped just after `moment`, and the newest commits before it were still in the "
                    "piece of the log that the server was writing. `pg_switch_wal()` finishes that piece; wait until "
                    "the archive has it (look again and again, its disk may be slow), and restore from base backup and "
                    "archive up to `recovery_target_time`, which is exact to the microsecond."
                )
                with slow_archive(conn, postgres.archive, idea):
                    other = restored(moment, idea)
                with other, other.client(autocommit=True) as there:
                    with no_error(expected="the table refunds", idea=idea):
                        count = there.execute("SELECT count(*) FROM refunds").fetchone()[0]
                    missing = [
                        each
                        for each in range(3001, 3101)
                        if not there.execute("SELECT 1 FROM refunds WHERE id = %s", [each]).fetchone()
                    ]
                    expect(missing, [], f"Acknowledged refunds that are not there. {idea}")
                    expect(count, 2100, f"How many refunds? What came after `moment` is not wanted. {idea}")
                    idea = "The shop works on with it: `recovery_target_action = 'promote'` ends the recovery."
                    with no_error(expected="a server that takes writes", idea=idea):
                        there.execute("INSERT INTO refunds VALUES (5000, 'approved')")

            with behaviour("the live server, the backup and the archive are left alone"):
                idea = "Restore beside the live server, never over it: other customers go on working there."
                with no_error(expected="the live server goes on", idea=idea):
                    expect(conn.execute("SELECT id FROM orders").fetchall(), [(1001,)], idea)
                expect(conn.execute("SELECT to_regclass('refunds')").fetchone()[0], None, idea)
                idea = "The same backup may be needed once more: restore a copy of it."
                expect(changed(made) or "as it was", "as it was", idea)
                expect(list(verify(made)), [], idea)

            with behaviour("restored again, to a moment after which nothing was committed"):
                conn.execute("CREATE TABLE refunds (id int PRIMARY KEY, note text)")
                approve(1)
                finish_archiving(postgres.url)
                moment = now()
                idea = (
                    "Nothing was written or committed after `moment`. Recovery stops at the first commit after it, and "
                    "the server does not start if there is none; and `pg_switch_wal()` has nothing to finish, so the "
                    "piece that it names never comes. Commit something first: `SELECT pg_current_xact_id()` in "
                    "autocommit does. And `moment` is a time with its zone: give it whole."
                )
                with restored(moment.astimezone(timezone(timedelta(hours=rng.choice([-9, 7])))), idea) as other:
                    with other.client() as there, no_error(expected="the table refunds", idea=idea):
                        came = there.execute("SELECT id FROM refunds").fetchall()
                    expect(came, [(1,)], idea)


class TestCustomStorage:
    """Test custom storage backends."""

    def test_file_storage(self, work, behaviour, rng):
        """Test file-based storage system."""
        FileSaver = work.FileSaver
        names = names_of(FileSaver)

        with behaviour("a conversation goes on in another process"), folder() as path:
            first = put(FileSaver(path), "ana", step=1)
            checkpoint, metadata, versions = a_checkpoint({"step": 2})
            second = FileSaver(path).put(first, checkpoint, metadata, versions)
            FileSaver(path).put_writes(second, [("messages", "hello"), ("step", 3)], "task-1", "~pull")
            found = FileSaver(path).get_tuple(thread("ana"))
            idea = "A new FileSaver on the same folder finds the newest checkpoint, with all that belongs to it."
            expect(found and found.config, second, idea)
            expect((found.checkpoint, found.metadata), (checkpoint, metadata), idea)
            expect(found.parent_config, first, f"{idea} Its parent is the one that the config of `put` named.")
            written = [("task-1", "messages", "hello"), ("task-1", "step", 3)]
            expect(list(found.pending_writes or []), written, f"{idea} What a task wrote belongs to it.")
            question = ask(build_agent(FileSaver(path)), "ben", "Please refund order 1001")
            expect(question, "Refund 249.00 EUR for order 1001?", "An agent talks, and asks a person.")
            result = build_agent(FileSaver(path)).invoke(Command(resume=True), thread("ben"))
            idea = "Another worker, with a FileSaver of its own on the folder, is told yes."
            expect(result.get("refunded"), ORDERS["1001"]["price"], idea)
            FileSaver(path).delete_thread("ana")
            idea = "'ana' was deleted, and 'ben' was not. Deleting a thread that is not there does nothing."
            expect([newest(FileSaver(path), name) is None for name in ("ana", "ben")], [True, False], idea)
            with no_error(expected="delete_thread('nobody') does nothing", idea=idea):
                FileSaver(path).delete_thread("nobody")

        with behaviour("the official conformance suite passes"), folder() as path:
            passes_conformance(lambda: FileSaver(mkdtemp(dir=path)))
            saver = FileSaver(path)
            before = saver.get_next_version(None, None)
            one, other = (saver.get_next_version(before, None) for _ in range(2))
            idea = (
                "Two branches of a conversation go on from the same version. A plain number would give both the same "
                "one, and whatever keeps values by their version (an InMemorySaver in front, say) would mix them up. "
                "PlainSaver's `get_next_version` adds something random: leave it as it is."
            )
            expect(one == other, False, idea)
            expect(before < min(one, other), True, f"{idea} The next version is the greater one.")

        with behaviour("whatever a thread is called, its files stay in the folder"), folder() as outer:
            path = outer / "deep" / "er" / "store"
            path.mkdir(parents=True)
            called = ["ana", "Ana", "../../x", "../ana", f"{outer}/absolute", "", ".", ".."]
            called += ["a/b", "a_b", "a\\b", "a\nb", "nul\0nul", "%61na", "*", "~", "-"]
            called += ["x" * 1000, "x" * 999, "价格" * 150, "ana.lock", "ana.new", "ana.tmp"]
            put(FileSaver(path), called[0], number=0)
            called += sorted({each.name for each in path.rglob("*")} - set(called))[:4]
            for number, name in enumerate(called):
                idea = (
                    f"A thread may be called {shorten(name)}: a path that leads elsewhere, a name that is too long for "
                    "a file or that a file of yours has already. Never make a file's name of the id as it is: a hash "
                    "of it has a fixed length and harmless letters."
                )
                with no_error(expected="the thread is stored", idea=idea):
                    put(FileSaver(path), name, number=number)
            for number, name in enumerate(called):
                idea = f"The thread {shorten(name)} is a conversation of its own: no two ids may lead to the same file."
                came = newest(FileSaver(path), name)
                expect(came and came[0], {"number": number}, idea)
            outside = sorted(str(each.relative_to(outer)) for each in outer.rglob("*") if path not in each.parents)
            idea = "Only the folder that the saver was given may change. These are all files and folders around it."
            expect(outside, ["deep", "deep/er", "deep/er/store"], idea)
            idea = "`list(None)` names each thread as it was called. A hash cannot be undone: the file has to say it."
            with no_error(expected="a listing of all threads", idea=idea):
                listed = {found.config["configurable"]["thread_id"] for found in FileSaver(path).list(None)}
            expect(sorted(map(shorten, set(called) - listed)), [], f"These threads are left out. {idea}")
            expect(sorted(map(shorten, listed - set(called)))[:3], [], f"There are no such threads. {idea}")

        with behaviour("a process that is killed in a write leaves the old state or the new"), folder() as path:
            state = letter(rng), []
            put(FileSaver(path), "ana", **state[0])
            size = max(sizes_in(path), default=0)
            ways = [{"at_moment": moment} for moment in range(MOST_MOMENTS)]
            ways += [{"at_byte": int(part * size)} for part in (0, 0.01, 0.3, 0.6, 0.9)]
            ended = False
            for way in ways:
                if "at_moment" in way and ended:
                    continue
                values = letter(rng)
                was_killed = killed(partial(put, FileSaver(path), "ana", **values), **way, namespace=names)
                how = "when it wrote to a file" if "at_byte" in way else "between two calls of the system"
                idea = (
                    f"The process was killed with -9 {how}. Where a file is written in place, its old content is gone "
                    "before the new one is whole. Write a new file beside it, and give that the old one's name when it "
                    "is whole: `os.replace` does so at once."
                )
                if "at_byte" in way:
                    idea = f"{idea} (`os.write` may write less than it was given; it returns how much.)"
                allowed = [state, (values, [])] if was_killed else [(values, [])]
                holds(FileSaver, path, "ana", allowed, idea)
                ended = "at_moment" in way and not was_killed
                state = letter(rng), []
                idea = f"{idea} What the killed process has left behind must not stand in the way of the next one."
                with no_error(expected="the next put after a kill", idea=idea):
                    put(FileSaver(path), "ana", **state[0])
                holds(FileSaver, path, "ana", [state], idea)

        unsynced = "What the kernel has taken is in memory, and not yet on the disk."
        during = (
            f"The power was cut in the middle of a call. {unsynced} A new name may get to the disk before its file's "
            "content: so sync the file (`flush`, then `os.fsync`) before you rename it."
        )
        after = (
            f"The power was cut after the call had returned. {unsynced} `os.fsync` of a file brings its content there; "
            "a name that is new, or gone, gets there with `os.fsync` of the folder."
        )

        with behaviour("what was acknowledged survives a power cut"), folder() as path, folder() as scratch:
            saver, old = FileSaver(path), None
            with Disk(path, seed=rng.random(), namespace=names) as disk:
                for step in range(2):
                    values, writes = letter(rng, pages=step), [("task-1", "messages", f"hello {step}")]
                    for call, new in (
                        (lambda values=values: put(saver, "ana", **values), (values, [])),
                        (lambda step=step: self.say_hello(saver, step), (values, writes)),
                    ):
                        begin = len(disk.images)
                        call()
                        left_on_disk(FileSaver, disk.images[begin:], scratch, "ana", [old, new], during)
                        left_on_disk(FileSaver, disk.now(), scratch, "ana", [new], after)
                        old = new
            for image in rng.sample(disk.images, 5):
                idea = "After a power cut the store goes on with what is there, whatever half of a write it finds."
                place, values = restore(image, Path(mkdtemp(dir=scratch))), letter(rng)
                with no_error(expected="put after a power cut", idea=idea):
                    put(FileSaver(place), "ana", **values)
                holds(FileSaver, place, "ana", [(values, [])], idea)

        with behaviour("what was deleted stays deleted after a power cut"), folder() as path, folder() as scratch:
            saver, values = FileSaver(path), letter(rng)
            put(saver, "ana", **values)
            with Disk(path, seed=rng.random(), namespace=names) as disk:
                saver.delete_thread("ana")
                left_on_disk(FileSaver, disk.images, scratch, "ana", [(values, []), None], during)
                left_on_disk(FileSaver, disk.now(), scratch, "ana", [None], after)

        with behaviour("a bit that is not as it was is noticed"), folder() as path:
            put(FileSaver(path), "ana", step=1)
            for each in [each for each in path.rglob("*") if each.is_file()]:
                for how in damages(each):
                    idea = (
                        f"A file of the thread 'ana' was {how}. Disks do that. Store a checksum of all that is "
                        "there, the thread's id too, compare it before you use any of that, and raise a ValueError: a "
                        "wrong state or a wrong id is worse than none, and 'no such thread' would begin the "
                        "conversation anew."
                    )
                    noticed(lambda: newest(FileSaver(path), "ana"), ({"step": 1}, []), "the state", idea)
                    noticed(lambda: listed_in(FileSaver(path)), ["ana"], "the listing of all threads", idea)

        with behaviour("an error leaves the lock open, and the thread whole"), folder() as path:
            state = None
            for what, change in (
                ("put", lambda saver, values: put(saver, "ana", **values)),
                ("delete_thread", lambda saver, values: saver.delete_thread("ana")),
            ):
                put(FileSaver(path), "ana", step=0)
                count = moments_of(lambda change=change: change(FileSaver(path), {"step": 1}), names)
                for number in range(min(count // 2, MOST_MOMENTS)):
                    state = letter(rng), []
                    idea = (
                        f"An earlier `{what}` of the same saver has failed: the disk was full. Give the lock back "
                        "after an error too: close the file of the lock in a `finally`, or open it in a `with`."
                    )
                    saver = FileSaver(path)
                    with suppress(Exception), fails_at(number, names):
                        change(saver, letter(rng))
                    with no_error(expected="the next put", idea=idea):
                        in_time(
                            5, "the next `put`", idea, lambda saver=saver, state=state: put(saver, "ana", **state[0])
                        )
                    holds(FileSaver, path, "ana", [state], idea)

        with behaviour("two writers at the same time lose nothing"), folder() as path:
            for process, customers in ((True, ("ana", "ana")), (False, ("ana", "ana")), (False, ("ana", "ben"))):
                who = "two processes" if process else "two threads of one process, with one saver"
                where = "the same thread" if customers == ("ana", "ana") else "two threads"
                idea = (
                    f"{who.capitalize()} put a checkpoint each into {where}, one in the middle of the other's `put`. "
                    "Whoever reads a file, changes it and writes it anew has to keep others out meanwhile: "
                    "`fcntl.flock` on a file that is never replaced, opened anew each time. And no two threads share a "
                    "file, not even one for what is not yet whole."
                )
                count = moments_of(lambda: put(FileSaver(path), "ana", step=1), names)
                for number in {0, *rng.sample(range(max(count - 1, 1)), min(2, max(count - 1, 1)))}:
                    with no_error(expected="both checkpoints are stored", idea=idea):
                        stored = meeting(lambda: FileSaver(path), customers, number, process, names)
                        all_there(FileSaver(path), stored, who, idea)

    def say_hello(self, saver, step):
        """Have a task write something after the newest checkpoint of 'ana'."""
        saver.put_writes(saver.get_tuple(thread("ana")).config, [("messages", f"hello {step}")], "task-1")

    def test_s3_storage(self, work, behaviour, rng):
        """Test S3-based state storage."""
        S3Saver = work.S3Saver
        attempted("s3_storage", lambda: S3Saver(None, "shop").change("ana", bytes))
        with bucket() as store:
            proxy, pauses = store.proxy, []

            def saver(client=store.client, **options):
                return S3Saver(client, store.name, **{"sleep": pauses.append} | options)

            with behaviour("a conversation goes on in another worker"):
                first = put(saver(), "ana", step=1)
                second = saver().put(first, *a_checkpoint({"step": 2}))
                saver().put_writes(second, [("messages", "hello")], "task-1")
                found = saver().get_tuple(thread("ana"))
                idea = "A new S3Saver on the same bucket finds the newest checkpoint, and what tasks wrote after it."
                expect(found and found.config, second, idea)
                came = found.checkpoint["channel_values"], found.parent_config, found.pending_writes
                expect(came, ({"step": 2}, first, [("task-1", "messages", "hello")]), idea)
                idea = "Nobody has stored a thread 'nobody': there is no such object, so the answer is None."
                with no_error(expected="None", idea=idea):
                    expect(saver().get_tuple(thread("nobody")), None, idea)
                expect(pauses, [], "Not to be there is no error, and nothing to wait for.")
                ask(build_agent(saver()), "ben", "Please refund order 1001")
                result = build_agent(saver()).invoke(Command(resume=True), thread("ben"))
                idea = "One worker asks for an approval, and another, with a saver of its own, is told yes."
                expect(result.get("refunded"), ORDERS["1001"]["price"], idea)
                saver().delete_thread("ana")
                idea = "'ana' was deleted, and 'ben' was not."
                expect([saver().get_tuple(thread(name)) is None for name in ("ana", "ben")], [True, False], idea)

            with behaviour("a listing is read to its last page"):
                called = {found.config["configurable"]["thread_id"] for found in saver().list(None)}
                more = [f"customer {rng.random()}" for _ in range(12)] + ["a/b c?&%+ü"]
                for name in more:
                    put(saver(), name, step=1)
                idea = (
                    "This server gives 5 names a page, as it may: S3 itself gives 1,000 at the most, so it is the "
                    "same from the 1,001st thread on. `NextContinuationToken` leads to the next page, until there is "
                    "none."
                )
                with short_pages(store.other, 5):
                    listed = [found.config["configurable"]["thread_id"] for found in saver(store.other).list(None)]
                expect(sorted(set(listed)), sorted([*called, *more]), idea)
                idea = (
                    "Every second request for a page was throttled, and the saver has attempts=2. Each page is a "
                    "request of its own: ask for each one patiently. A listing that begins anew after each fault never "
                    "ends."
                )
                every_other = [("LIST", "503"), ("LIST", "")] * 100
                with short_pages(store.other, 5), no_error(expected="all names", idea=idea):
                    proxy.faults[:] = every_other
                    try:
                        listed = [
                            each.config["configurable"]["thread_id"]
                            for each in saver(store.other, attempts=2).list(None)
                        ]
                    finally:
                        proxy.faults.clear()
                expect(sorted(set(listed)), sorted([*called, *more]), idea)
                for name in more:
                    saver().delete_thread(name)

            with behaviour("a fault that passes is not noticed"):
                for fault in (*PASSING, "hang before", "429"):
                    name = f"customer {fault}"
                    working = saver(store.hasty if fault == "hang before" else store.client)
                    idea = (
                        f"Of each kind of request one went wrong. This time: {TOLD[fault]}. It passes: wait a little, "
                        "and make the same request again. Reading the body is a part of it. (Other faults that pass: "
                        "500, 503 and 429, a connection that is cut at another moment, no answer in time.)"
                    )
                    if fault == "cut within":
                        idea = f"{idea} Of a 404 that was cut only the status is left: the code was in the body."
                    proxy.faults[:] = [("GET", fault), ("PUT", fault)]
                    with no_error(expected="no error", idea=idea):
                        config = put(working, name, step=1)
                        proxy.faults[:] = [("GET", fault)]
                        found = working.get_tuple(thread(name))
                        expect(found and found.config, config, idea)
                        if fault != "cut upload":
                            proxy.faults[:] = [("LIST", fault)]
                            expect(next(iter(working.list(None)), None) is None, False, f"Listing: {idea}")
                            proxy.faults[:] = [("DELETE", fault)]
                            working.delete_thread(name)
                            expect(working.get_tuple(thread(name)), None, f"Deleting: {idea}")
                    proxy.faults.clear()

            with behaviour("pauses grow, and no two workers make the same ones"):
                seen = []
                for _ in range(6):
                    pauses.clear()
                    proxy.faults[:] = [("GET", "503")] * 4
                    with suppress(Exception):
                        saver().get_tuple(thread("ben"))
                    proxy.faults.clear()
                    seen.append(list(pauses))
                idea = (
                    "Four requests in a row were throttled. The pause after the first is between 0.05 and 0.1 seconds, "
                    "and each one after it up to twice as long: a server that has too much to do gets room. It is "
                    "drawn at random, else all workers come back at the same moment."
                )
                for waited in seen:
                    shown = [round(float(pause), 4) for pause in waited]
                    within = [0.05 * 2**n <= pause <= 0.1 * 2**n + 1e-9 for n, pause in enumerate(waited)]
                    if within != [True] * 4:
                        expected = "4 pauses: 0.05 to 0.1 s, 0.1 to 0.2 s, 0.2 to 0.4 s and 0.4 to 0.8 s"
                        raise Missed(expected=expected, came=f"{shown}", idea=idea)
                if len({tuple(waited) for waited in seen}) < 6:
                    raise Missed(expected="other pauses in each of 6 calls", came=f"{seen[0]} twice or more", idea=idea)

            with behaviour("a fault that lasts is reported after a few attempts"):
                for attempts in (1, 3, 5):
                    for kind, call, what in (
                        ("GET", lambda each: each.get_tuple(thread("ben")), "`get_tuple`"),
                        ("PUT", lambda each: put(each, "cleo", step=1), "`put`"),
                        ("LIST", lambda each: list(each.list(None)), "`list`"),
                    ):
                        idea = (
                            f"Each request was throttled, and the saver has attempts={attempts}: so many are made, and "
                            "then the error is raised. An answer such as None would be taken for 'there is nothing', "
                            "and a saver that tries for ever holds up its worker and the server."
                        )
                        before = store.requests(kind)
                        pauses.clear()
                        with proxy.lasting(kind, "503"):
                            with refused(Exception, what=f"{what} while S3 throttles", idea=idea):
                                in_time(5, what, idea, partial(call, saver(attempts=attempts)))
                            expect(store.requests(kind) - before, attempts, f"How many requests? {idea}")
                        idea = (
                            "A pause is before a repeat. After the last attempt there is none: raise the error at once."
                        )
                        expect(len(pauses), attempts - 1, f"How many pauses, with attempts={attempts}? {idea}")

            with behaviour("an error that stays is reported at once"):
                calls = {"GET": lambda: newest(saver(), "ben"), "PUT": lambda: put(saver(), "dan", step=1)}
                for kind, call in calls.items():
                    idea = (
                        "The server said 403: access denied. It will say so again. Only what may pass is worth another "
                        "attempt: no answer at all, too many requests (429), and errors of the server (500 and above)."
                    )
                    before = store.requests(kind)
                    with proxy.lasting(kind, "403"):
                        with refused(Exception, what=f"a {kind} without permission", idea=idea):
                            in_time(5, "an error", idea, call)
                        expect(store.requests(kind) - before, 1, f"How many requests? {idea}")

            with behaviour("two writers on one thread lose nothing"):
                for there in (True, False):
                    name = f"shared {there}"
                    made = a_checkpoint({"step": 1})
                    config = thread(name, "", made[0]["id"])
                    if there:
                        saver().put(thread(name), *made)
                    before_first(
                        store.other,
                        "PUT",
                        lambda config=config: saver().put_writes(config, [("messages", "other")], "task-2"),
                    )
                    saver(store.other).put_writes(config, [("messages", "one")], "task-1")
                    if not there:
                        saver().put(thread(name), *made)
                    idea = (
                        "Between the moment when a saver had read a thread and the moment when it stored it, another "
                        f"saver stored something in it (a thread that was {'there' if there else 'not there yet'}). S3 "
                        "has no lock. A put with a condition (`IfMatch` with the ETag that was read, `IfNoneMatch` "
                        "with '*' where nothing was) is refused then: read again, and try again."
                    )
                    written = [("task-1", "messages", "one"), ("task-2", "messages", "other")]
                    expect(writes_of(saver(), name), written, idea)
                config = put(saver(), "shared", step=1)
                before_first(store.other, "PUT", lambda: saver().put_writes(config, [("messages", "first")], "task-1"))
                saver(store.other).put_writes(config, [("messages", "second")], "task-1")
                idea = "Two workers ran the same task, and of its results the first counts, as soon as it is stored."
                expect(writes_of(saver(), "shared"), [("task-1", "messages", "first")], idea)

                for status, why in (
                    ("409", "somebody was changing it right then"),
                    ("404", "it had just been deleted"),
                ):
                    config = put(saver(), f"refused {status}", step=1)
                    idea = (
                        f"S3 refused a put under a condition with {status}: {why}. That is no error, and not worth the "
                        "same request again: the condition was not met, as with 412. Read again, and try again."
                    )
                    proxy.faults[:] = [("PUT", status)]
                    with no_error(expected="the write is stored", idea=idea):
                        saver().put_writes(config, [("messages", "one")], "task-1")
                    proxy.faults.clear()
                    expect(writes_of(saver(), f"refused {status}"), [("task-1", "messages", "one")], idea)

            with behaviour("a repeat is harmless"):
                for fault in ("500 after", "cut after", "hang after"):
                    config = put(saver(), f"repeat {fault}", step=1)
                    others = [lambda config=config: saver().put_writes(config, [("messages", "other")], "task-2")]

                    def meanwhile(seconds, others=others):
                        if others:
                            others.pop()()

                    proxy.faults[:] = [("PUT", fault)]
                    idea = (
                        f"A put was stored, but its answer got lost: {TOLD[fault]}. Before it was made again, another "
                        "saver stored something in the same thread. The repeat must not undo that: it has to have the "
                        "same condition, and if that is refused, the thread is read again."
                    )
                    with no_error(expected="no error", idea=idea):
                        saver(store.hasty, sleep=meanwhile).put_writes(config, [("messages", "one")], "task-1")
                    proxy.faults.clear()
                    written = [("task-1", "messages", "one"), ("task-2", "messages", "other")]
                    expect(writes_of(saver(), f"repeat {fault}"), written, idea)

    def test_hybrid_storage(self, work, behaviour, rng):
        """Test hybrid storage system."""
        HybridSaver = work.HybridSaver

        def tiers():
            hot, cold = Tier(), Tier()
            return HybridSaver(hot, cold), hot, cold

        def steps(*savers):
            found = [saver.get_tuple(thread("ana")) for saver in savers]
            return [each and each.checkpoint["channel_values"].get("step") for each in found]

        def next_put(saver, above, step):
            return saver.put(above, *a_checkpoint({"step": step}))

        with behaviour("what is put is in both"):
            saver, hot, cold = tiers()
            first = put(saver, "ana", step=1)
            second = next_put(saver, first, 2)
            saver.put_writes(second, [("messages", "hello")], "task-1", "~pull")
            idea = "Both savers are told of each `put` and each `put_writes`, with all that belongs to it."
            for name, tier in (("hot", hot), ("cold", cold)):
                found = tier.get_tuple(thread("ana"))
                expect(found and found.config, second, f"The {name} saver: {idea}")
                came = found.parent_config, found.checkpoint["channel_values"], found.pending_writes
                expect(came, (first, {"step": 2}, [("task-1", "messages", "hello")]), f"The {name} saver: {idea}")
                paths = [path for writes in tier.writes.values() for *_, path in writes.values()]
                expect(paths, ["~pull"], f"The {name} saver: hand on the `task_path` as well.")
            saver.delete_thread("ana")
            expect(steps(hot, cold), [None, None], "A thread that is deleted is deleted in both.")
            asked = []
            hot.before = lambda method: asked.append(f"hot {method}")
            cold.before = lambda method: asked.append(f"cold {method}")
            saver.put_writes(put(saver, "ben", step=1), [("messages", "hello")], "task-1")
            idea = (
                "The cold saver first, and then the hot one: else another worker finds in the hot saver what the cold "
                "one does not have yet, and may never have."
            )
            order = [call for call in asked if call.endswith((" put", " put_writes"))]
            expect(order, ["cold put", "hot put", "cold put_writes", "hot put_writes"], idea)

        with behaviour("a read goes to the cold saver only if it has to"):
            saver, hot, cold = tiers()
            config = put(saver, "ana", step=1)
            for where in (thread("ana"), config, thread("ana")):
                idea = "The hot saver has what was put, so the slow and expensive cold one need not be asked."
                expect(saver.get_tuple(where) is not None, True, idea)
                expect(cold.calls["get_tuple"], 0, f"How many reads of the cold saver? {idea}")

        with behaviour("a cold read warms the hot saver"):
            saver, hot, cold = tiers()
            first = put(saver, "ana", step=1)
            second = next_put(saver, first, 2)
            hot.delete_thread("ana")
            idea = "The hot saver has lost the thread (it has a limit, or a TTL). The cold one has it."
            expect(steps(saver), [2], idea)
            before = cold.calls["get_tuple"]
            idea = "The newest checkpoint was read from the cold saver: put it into the hot one, for the next read."
            expect(steps(saver, saver), [2, 2], idea)
            expect(cold.calls["get_tuple"] - before, 0, f"How many more reads of the cold saver? {idea}")
            found = saver.get_tuple(thread("ana"))
            idea = "The checkpoint that the hot saver was given is the same one: id, parent, metadata, values."
            expect((found.config, found.parent_config), (second, first), idea)
            expect(found.metadata, cold.get_tuple(thread("ana")).metadata, idea)
            found = saver.get_tuple(first)
            idea = "An older checkpoint, which the hot saver does not have, is in the cold one."
            expect(found and found.checkpoint["channel_values"], {"step": 1}, idea)
            hot.delete_thread("ana")
            saver.get_tuple(first)
            idea = (
                "An older checkpoint was read by its id. The hot saver, with that alone, would take it for the newest."
            )
            expect(steps(saver), [2], f"{idea} So what is warmed is the newest.")
            idea = "The hot saver may have lost older checkpoints. A listing has to come from the one that has all."
            expect([each.checkpoint["channel_values"]["step"] for each in saver.list(thread("ana"))], [2, 1], idea)
            saver.put_writes(second, [("messages", "hello"), ("step", 3)], "task-1", "~pull")
            for lost in (True, False):
                if lost:
                    hot.delete_thread("ana")
                found = saver.get_tuple(thread("ana"))
                idea = "What tasks wrote after a checkpoint belongs to it, wherever it is read from."
                written = [("task-1", "messages", "hello"), ("task-1", "step", 3)]
                expect(sorted(found.pending_writes), written, idea)

        with behaviour("the hot saver is gone: everything works, from the cold one"):
            saver, hot, cold = tiers()
            first = put(saver, "ana", step=1)
            hot.gone = True
            idea = "The hot saver is a help, and nothing more: its errors, of whatever class, are not the customer's."
            with no_error(expected="no error", idea=idea):
                expect(steps(saver), [1], idea)
                second = next_put(saver, first, 2)
                saver.put_writes(second, [("messages", "hello")], "task-1")
                expect(steps(saver, cold), [2, 2], idea)
                question = ask(build_agent(saver), "ben", "Please refund order 1001")
                expect(question, "Refund 249.00 EUR for order 1001?", idea)
                saver.delete_thread("ben")
            expect(cold.get_tuple(thread("ben")), None, "The thread was deleted while the hot saver was gone.")

        with behaviour("the hot saver is back: no stale answer"):
            saver, hot, cold = tiers()
            first = put(saver, "ana", step=1)
            put(saver, "ben", step=1)
            hot.gone = True
            second = next_put(saver, first, 2)
            hot.gone = False
            idea = (
                "While the hot saver was gone, a checkpoint was put. It is back, with what it had before: the "
                "checkpoint of step 1. Remember for which threads it failed, and have it delete those before it is "
                "read or written again."
            )
            expect(steps(saver, saver), [2, 2], idea)
            before = cold.calls["get_tuple"]
            idea_again = (
                "The hot saver is back, has deleted its old copy, and was given the newest checkpoint by a read. From "
                "then on it is used again: a thread is not stale for ever."
            )
            expect(steps(saver), [2], idea_again)
            expect(cold.calls["get_tuple"] - before, 0, f"How many reads of the cold saver? {idea_again}")
            hot.gone = True
            with suppress(Gone):
                saver.put_writes(second, [("messages", "hello")], "task-1")
            hot.gone = False
            found = saver.get_tuple(thread("ana"))
            expect(found.pending_writes, [("task-1", "messages", "hello")], f"The same with `put_writes`. {idea}")
            hot.gone = True
            third = next_put(saver, second, 3)
            hot.gone = False
            saver.put_writes(third, [("messages", "later")], "task-2")
            expect(steps(saver), [3], f"The first call after it is back is a write. {idea}")
            hot.gone = True
            saver.delete_thread("ben")
            hot.gone = False
            came = saver.get_tuple(thread("ben"))
            idea = "A thread was deleted while the hot saver was gone. It must not come back with it."
            expect(came and came.checkpoint["channel_values"], None, idea)

        policy = getattr(HybridSaver, "cold_gone", None)

        with behaviour("the cold saver is gone: as declared, and never in silence"):
            expect(policy in ("refuse", "accept"), True, "`HybridSaver.cold_gone` says 'refuse' or 'accept'.")
            saver, hot, cold = tiers()
            first = put(saver, "ana", step=1)
            put(saver, "ben", step=1)
            hot.delete_thread("ben")
            cold.gone = True
            idea = "The hot saver has this thread, and nobody has tried to write to it: it can be read."
            with no_error(expected="the checkpoint of step 1", idea=idea):
                expect(steps(saver), [1], idea)
            idea = (
                "The hot saver does not have this thread, and the cold one does not answer. That is an error. None "
                "would say that there is no such conversation, and the agent would begin it anew."
            )
            with refused(Exception, what="`get_tuple` of a thread that only the cold saver has", idea=idea):
                saver.get_tuple(thread("ben"))
            if policy == "accept":
                idea = "With 'accept' a put is taken by the hot saver alone, until the cold one is back."
                with no_error(expected="put returns", idea=idea):
                    second = next_put(saver, first, 2)
                    saver.put_writes(second, [("messages", "hello")], "task-1")
                expect(steps(saver), [2], idea)
                cold.gone = False
                saver.get_tuple(thread("ana"))
                idea = "The cold saver is back, and the thread was used: what it has missed is brought to it first."
                found = cold.get_tuple(thread("ana"))
                expect(found and found.config, second, idea)
                expect((found.parent_config, found.pending_writes), (first, [("task-1", "messages", "hello")]), idea)
            else:
                idea = "With 'refuse' a put raises: what is acknowledged has to be in the cold saver."
                with refused(Exception, what="`put` while the cold saver is gone", idea=idea):
                    next_put(saver, first, 2)
                with refused(Exception, what="`put_writes` while the cold saver is gone", idea=idea):
                    saver.put_writes(first, [("messages", "hello")], "task-1")
                with refused(Exception, what="`delete_thread` while the cold saver is gone", idea=idea):
                    saver.delete_thread("ben")
                cold.gone = False
                idea = "What was refused must not be found later: tell the cold saver first, and then the hot one."
                expect(steps(saver, cold), [1, 1], idea)
                found = saver.get_tuple(thread("ana"))
                expect(found.pending_writes or [], [], idea)

        with behaviour("a change whose answer got lost leaves no stale copy"):
            changes = {
                "put": lambda saver, first: next_put(saver, first, 2),
                "put_writes": lambda saver, first: saver.put_writes(first, [("messages", "hello")], "task-1"),
                "delete_thread": lambda saver, first: saver.delete_thread("ana"),
            }
            wanted = {"put": (2, 0), "put_writes": (1, 1), "delete_thread": None}
            for method, change in changes.items():
                saver, hot, cold = tiers()
                first = put(saver, "ana", step=1)
                cold.loses_answers = True
                with suppress(Gone):
                    change(saver, first)
                cold.loses_answers = False
                idea = (
                    f"The cold saver raised an error at `{method}`, and had done it all the same: its answer got lost. "
                    "So after an error of the cold saver at a write or a deletion the hot one may be behind, and is "
                    "not to be read for this thread before it has deleted what it has."
                )
                found = saver.get_tuple(thread("ana"))
                came = found and (found.checkpoint["channel_values"]["step"], len(found.pending_writes or []))
                expect(came, wanted[method], f"The step, and the number of pending writes: {idea}")

        with behaviour("the official conformance suite passes"):
            passes_conformance(lambda: HybridSaver(InMemorySaver(), InMemorySaver()))

    def test_custom_monitoring(self, work, behaviour, rng):
        """Test custom storage monitoring."""
        MonitoredSaver = work.MonitoredSaver

        def monitored(inner=None):
            registry = CollectorRegistry()
            return MonitoredSaver(InMemorySaver() if inner is None else inner, registry), registry

        def several_calls(saver):
            counts = Counter()
            for number in range(rng.randint(2, 5)):
                config = put(saver, f"customer-{number}", step=number)
                for _ in range(rng.randint(1, 3)):
                    saver.put_writes(config, [("messages", "hello")], "task-1")
                    counts["put_writes"] += 1
                for _ in range(rng.randint(1, 3)):
                    saver.get_tuple(config)
                    counts["get_tuple"] += 1
                counts["put"] += 1
            list(saver.list(None))
            saver.delete_thread("customer-0")
            return counts | {"list": 1, "delete_thread": 1}

        with behaviour("each call is counted, by its method"):
            saver, registry = monitored()
            counts, found = several_calls(saver), samples(registry)
            idea = "The histogram `saver_seconds` has the label `method`; its `_count` is how often it was called."
            expect({method: found.get(("saver_seconds_count", method), 0) for method in counts}, dict(counts), idea)
            text = generate_latest(registry).decode()
            idea = "Prometheus reads this text. It finds a histogram in it, with buckets from fast to slow."
            expect("# TYPE saver_seconds histogram" in text, True, idea)
            bounds = {name[1] for name in found if name[0] == "saver_seconds_bucket"}
            if len(bounds) < 5:
                raise Missed(expected="a histogram with several buckets", came=f"{sorted(bounds)}", idea=idea)

        with behaviour("an error is counted, and goes on to the caller"):
            inner = Tier()
            saver, registry = monitored(inner)
            config = put(saver, "ana", step=1)
            inner.gone = True
            idea = "The saver inside raised this error. Whoever called has to hear of it, as if nobody had listened."
            calls = {
                "put": lambda: saver.put(config, *a_checkpoint({"step": 2})),
                "put_writes": lambda: saver.put_writes(config, [("messages", "hello")], "task-1"),
                "get_tuple": lambda: saver.get_tuple(config),
                "list": lambda: list(saver.list(thread("ana"))),
                "delete_thread": lambda: saver.delete_thread("ana"),
            }
            for method, call in calls.items():
                with refused(Gone, what=f"`{method}`", idea=idea):
                    call()
            found = samples(registry)
            came = {method: found.get(("saver_errors_total", "Gone", method), 0) for method in calls}
            idea = "The counter `saver_errors` has the labels `method` and `error`: the name of the error's class."
            expect(came, dict.fromkeys(calls, 1), idea)
            came = {method: found.get(("saver_seconds_count", method), 0) for method in calls}
            idea = "A call that raised is a call, and took its time: `saver_seconds` counts it as well."
            expect(came, dict.fromkeys(calls, 1) | {"put": 2}, idea)
            inner.gone = False
            listing = saver.list(thread("ana"))
            next(listing)
            listing.close()
            came = [value for name, value in samples(registry).items() if name[0] == "saver_errors_total"]
            idea = "A caller read one checkpoint of a listing and needed no more. That is no error."
            expect(sum(came), len(calls), idea)

        with behaviour("the time of the saver inside is what is measured"):
            saver, registry = monitored(Slow(0.03))
            above = thread("ana")
            for step in range(3):
                above = saver.put(above, *a_checkpoint({"step": step}))
            waited, begin = {}, time.perf_counter()
            saver.get_tuple(above)
            waited["get_tuple"], begin = time.perf_counter() - begin, time.perf_counter()
            expect(len(list(saver.list(thread("ana")))), 3, "`list` lists what the saver inside lists.")
            waited["list"] = time.perf_counter() - begin
            for method, least in (("get_tuple", 0.03), ("list", 0.09)):
                came = samples(registry).get(("saver_seconds_sum", method), 0)
                idea = (
                    f"The saver inside took {least} seconds for one `{method}`. Stop the clock when it has answered; a "
                    "listing is not done when it has been asked for, but when its last checkpoint has come."
                )
                if came < least * 0.99:
                    raise Missed(expected=f"at least {least} seconds for {method}", came=f"{came:.5f}", idea=idea)
                most = waited[method] * 1.01 + 0.01  # clocks differ a little
                if came > most:
                    idea = "What is told is the time that was measured: no call took longer than its caller waited."
                    raise Missed(expected=f"at most {most:.5f} seconds for {method}", came=f"{came:.5f}", idea=idea)

        with behaviour("bytes are counted, as they are stored"):
            inner = InMemorySaver()
            saver, registry = monitored(inner)
            checkpoint, metadata, versions = a_checkpoint({"letter": "x" * rng.randint(100, 3_000)})
            config = saver.put(thread("ana"), checkpoint, metadata, versions)
            for _ in range(2):
                saver.get_tuple(config)
            saver.get_tuple(thread("nobody"))
            size = len(inner.serde.dumps_typed(checkpoint)[1])
            idea = (
                "The counter `saver_bytes` has the label `method`: the bytes of each checkpoint that was put, and of "
                "each that was found, as the `serde` of the saver inside gives them. Nothing found is no bytes."
            )
            found = samples(registry)
            came = {method: found.get(("saver_bytes_total", method), 0) for method in ("put", "get_tuple")}
            expect(came, {"put": size, "get_tuple": 2 * size}, idea)

        with behaviour("what customers do makes no new time series"):
            inner = Tier()
            saver, registry = monitored(inner)

            def a_round(customer):
                config = put(saver, customer, step=1)
                saver.get_tuple(config)
                inner.gone = True
                with suppress(Gone):
                    saver.get_tuple(config)
                inner.gone = False

            a_round("ana")
            before = set(samples(registry))
            for _ in range(10):
                a_round(f"customer {rng.random()}")
            more = [name for name in samples(registry) if name not in before]
            idea = (
                "Ten more customers, and there are more time series: one for each value of each label, kept for ever. "
                "A label has few values. A thread's id is none."
            )
            expect(more, [], idea)

        with behaviour("to LangGraph it is the saver inside"):

            class Inside(InMemorySaver):
                """A saver with versions and an allowlist of its own."""

                def get_next_version(self, current, channel):
                    return f"{int((current or 'v0').strip('v')) + 1}".rjust(9, "v")

                def with_allowlist(self, extra_allowlist):
                    clone = copy(self)
                    clone.serde = Renamed("allowing")
                    return clone

            inner = Inside()
            saver, registry = monitored(inner)
            idea = (
                "The saver inside has versions of its own. BaseCheckpointSaver would give plain numbers, so "
                "`get_next_version` has to be handed on too."
            )
            with no_error(expected="the version that the saver inside gives", idea=idea):
                expect(saver.get_next_version(None, None), inner.get_next_version(None, None), idea)
            expect(saver.serde is inner.serde, True, "Its `serde` is that of the saver inside.")
            allowed = [("shop", "Order")]
            idea = (
                "LangGraph calls `with_allowlist` to allow the classes of a graph's state. The result is a "
                "MonitoredSaver with the same metrics, around what the saver inside gives for it."
            )
            with no_error(expected="a saver", idea=idea):
                clone = saver.with_allowlist(allowed)
                put(clone, "ana", step=1)
            expect(isinstance(clone, MonitoredSaver), True, idea)
            expect(type(clone.serde).__name__, "Renamed", f"{idea} Its `serde` is the new one as well.")
            counted = samples(registry).get(("saver_seconds_count", "put"), 0)
            expect(counted, 1, f"How many puts are counted in the registry? {idea}")
            expect("ana" in inner.storage, True, f"Is it stored inside? {idea}")
            kinds = {data[0][0] for found in inner.storage["ana"].values() for data in found.values()}
            expect(kinds, {"allowing"}, f"Which serializer stored it? {idea}")
            with no_error(expected="the original is as it was", idea=idea):
                put(saver, "ben", step=1)
            kinds = {data[0][0] for found in inner.storage["ben"].values() for data in found.values()}
            expect(kinds, {"msgpack"}, f"The saver that `with_allowlist` was called on is as it was. {idea}")
            passes_conformance(lambda: monitored()[0])

        with behaviour("awaited calls are awaited inside, and measured as well"):
            asyncio.run(self.monitored_in_async(*monitored(OnlyAsync())))

    async def monitored_in_async(self, saver, registry):
        """An agent that is awaited, on a saver that has only async methods."""
        idea = "This saver inside is for asyncio alone: await its async methods. Sync ones would hold up all others."
        with no_error(expected="an agent that is awaited", idea=idea):
            agent = build_agent(saver)
            result = await agent.ainvoke({"messages": [("user", "Where is order 1002?")]}, thread("ana"))
            listed = [found async for found in saver.alist(thread("ana"))]
        expect("coffee grinder" in result["messages"][-1].text, True, idea)
        idea = "An awaited call is counted under the name of its method without the `a`."
        found = samples(registry)
        expect(found.get(("saver_seconds_count", "put"), 0), len(listed), idea)
        expect(found.get(("saver_seconds_count", "list"), 0), 1, f"`alist`: {idea}")
        expect(sorted({name[1] for name in found if name[0] == "saver_seconds_count"} & {"aput", "alist"}), [], idea)


class TestStateMigration:
    """Test state migration and versioning."""

    def test_state_versioning(self, work, behaviour, rng):
        """Test state versioning strategies."""
        VersionedSerializer = work.VersionedSerializer
        plain = JsonPlusSerializer()

        def same(came, wanted, idea):
            expect(plain.dumps_typed(came), plain.dumps_typed(wanted), idea)

        with behaviour("a value comes back, and everybody can tell its version"):
            for number, value in enumerate(some_states(rng)):
                version = rng.randint(1, 9) if number % 2 else rng.randint(10, 99)
                pair = VersionedSerializer(plain, version).dumps_typed(value)
                if not (type(pair[0]) is str and type(pair[1]) is bytes):
                    idea = "`dumps_typed` gives a text and bytes, as every saver expects."
                    raise Missed(expected="(str, bytes)", came=shorten(pair), idea=idea)
                idea = f"It wrote the type {pair[0]!r}, and a serializer of the same version, {version}, reads that."
                with no_error(expected="the value", idea=idea):
                    came = VersionedSerializer(plain, version).loads_typed(pair)
                same(came, value, idea)
                idea = (
                    "Another process, with code of another version, asks for the version of this pair. It can only be "
                    "in the pair itself: put it into the type."
                )
                expect(VersionedSerializer(plain, 100).version_of(pair), version, idea)

        with behaviour("newer code reads what older code wrote"):
            for value in some_states(rng):
                pair = VersionedSerializer(plain, 3).dumps_typed(value)
                idea = "Version 7 may read version 3: refuse only what is newer than the code."
                with no_error(expected="the value", idea=idea):
                    came = VersionedSerializer(plain, 7).loads_typed(pair)
                same(came, value, idea)

        with behaviour("what was written without a stamp is version 1"):
            values = [*some_states(rng), VersionedSerializer(plain, 9).dumps_typed(b"")[1] + b"text"]
            values += [VersionedSerializer(plain, 9).dumps_typed("x")[1], b"v9:", b"9", b"2|x", b"\x02\x00\x00\x00"]
            idea = (
                "Yesterday's code had no stamps: what the inner serializer wrote by itself is version 1, whatever its "
                "bytes begin with. A stamp in the type cannot be mistaken for data."
            )
            for value in values:
                for reader in (1, 4):
                    pair = plain.dumps_typed(value)
                    with no_error(expected=f"{shorten(value)}, of version 1", idea=idea):
                        version = VersionedSerializer(plain, reader).version_of(pair)
                        came = VersionedSerializer(plain, reader).loads_typed(pair)
                    expect(version, 1, idea)
                    same(came, value, idea)

        with behaviour("the inner serializer gets its own type back"):
            for kind in ("msgpack", "json", "v2", "7", "a:b", "v2:msgpack", "x|y", "a@3", "", "lz4-msgpack"):
                writer, reader = (VersionedSerializer(Renamed(kind), version) for version in (5, 12))
                idea = f"The inner serializer calls its type {kind!r}. Take off your stamp, once, and nothing else."
                with no_error(expected="the value", idea=idea):
                    came = reader.loads_typed(writer.dumps_typed(["order", 1001]))
                expect(came, ["order", 1001], idea)
                expect(reader.version_of(writer.dumps_typed(None)), 5, f"{idea} The version stays readable.")

        with behaviour("a state from the future is refused, and the message says why"):
            for reader, writer in ((1, 2), (2, 3), (9, 10), (3, 200)):
                pair = VersionedSerializer(plain, writer).dumps_typed({"cents": 24900})
                for inner in (plain, Renamed("nobody's")):
                    idea = (
                        f"Code of version {reader} gets a state of version {writer}. It would misread it: "
                        "refuse, before the inner serializer sees it. (As numbers: 9 is less than 10.)"
                    )
                    with refused(ValueError, what=f"loading version {writer} in version {reader}", idea=idea):
                        try:
                            VersionedSerializer(inner, reader).loads_typed(pair)
                        except ValueError as error:
                            message = str(error)
                            raise
                    told = [str(writer) in message, str(reader) in message]
                    idea = f"{idea} Whoever reads the message at night wants both versions, the state's and the code's."
                    if not all(told):
                        raise Missed(expected=f"a message with {writer} and {reader}", came=message, idea=idea)

        with behaviour("every value of a thread tells its version, and an old worker is stopped"):
            saver = InMemorySaver(serde=VersionedSerializer(plain, 1))
            build_desk(1, saver).invoke({"customer": "Ana", "total": 249.0}, thread("ana"))
            pairs = [pair for pair in saver.blobs.values() if pair[0] != "empty"]
            pairs += [pair for entry in saver.storage["ana"][""].values() for pair in entry[:2]]
            idea = "A saver with this serializer has stored a conversation: all that it holds is of version 1."
            expect({VersionedSerializer(plain, 8).version_of(pair) for pair in pairs}, {1}, idea)
            saver.serde = VersionedSerializer(plain, 3)
            idea = "Code of version 3 goes on with a thread of version 1."
            with no_error(expected="the conversation goes on", idea=idea):
                build_desk(1, saver).invoke(Command(resume=True), thread("ana"))
            saver.serde = VersionedSerializer(plain, 2)
            idea = "Then a worker that still has version 2 reads the thread, which has states of version 3 now."
            with refused(ValueError, what="reading the thread", idea=idea):
                saver.get_tuple(thread("ana"))

        with behaviour("a version that is none is refused"):
            for version in (0, -1, 1.5, "2", None, True):
                idea = "A version is a whole number from 1 on. (`True` is an int for `isinstance`, and no version.)"
                with refused(ValueError, TypeError, what=f"a version of {version!r}", idea=idea):
                    VersionedSerializer(plain, version)

    def test_migration_tools(self, work, behaviour, rng):
        """Test state migration between versions."""
        Migrations = work.Migrations
        customers = ["ana", "ben", "cleo", "dan"]

        def tools():
            migrations = Migrations()
            migrations.step(1, 2)(to_2)
            migrations.step(2, 3)(to_3)
            return migrations

        def old():
            saver = Watched()
            old_threads(saver, rng, customers)
            saver.puts.clear()
            return saver

        def how_it_fails(run, what, idea):
            with refused(work.StepFailed, what=what, idea=idea):
                try:
                    run()
                except work.StepFailed as error:
                    message = str(error)
                    raise
            return message

        with behaviour("the plan is the shortest way"):
            migrations = Migrations()
            for start, goal in ((1, 2), (2, 3), (3, 4), (4, 5), (1, 3), (3, 1), (5, 2), (2, 1)):
                migrations.step(start, goal)(dict)
            wanted = {
                (1, 5): [(1, 3), (3, 4), (4, 5)],
                (5, 3): [(5, 2), (2, 3)],
                (4, 1): [(4, 5), (5, 2), (2, 1)],
                (1, 2): [(1, 2)],
                (3, 3): [],
            }
            for (start, goal), way in wanted.items():
                idea = f"From {start} to {goal}, with these steps: {list(migrations.steps)}. The fewest steps win."
                expect([tuple(step) for step in migrations.plan(start, goal)], way, idea)

            for steps in ([(1, 2), (2, 7), (1, 6), (6, 5), (5, 7)], [(1, 6), (6, 5), (5, 7), (1, 2), (2, 7)]):
                migrations = Migrations()
                for start, goal in steps:
                    migrations.step(start, goal)(dict)
                idea = f"From 1 to 7, with these steps: {steps}. The fewest steps win, whichever was defined first."
                expect([tuple(step) for step in migrations.plan(1, 7)], [(1, 2), (2, 7)], idea)

            for _ in range(30):
                steps = rng.sample(list(permutations(range(1, 8), 2)), 12)
                migrations, reached = Migrations(), [{1}]
                for start, goal in steps:
                    migrations.step(start, goal)(dict)
                while 7 not in reached[-1] and len(reached) < 7:
                    reached.append({goal for start, goal in steps if start in reached[-1]})
                if 7 in reached[-1]:
                    way = [tuple(step) for step in migrations.plan(1, 7)]
                    idea = f"From 1 to 7, with these steps: {steps}. The fewest steps win."
                    expect(len(way), len(reached) - 1, idea)
                    idea = f"{idea} Each begins where the one before it ends."
                    expect([1, *(goal for _, goal in way)], [*(start for start, _ in way), 7], idea)

        with behaviour("where no way leads, the plan says so"):
            migrations = Migrations()
            for start, goal in ((1, 2), (2, 1), (2, 3), (4, 5)):
                migrations.step(start, goal)(dict)
            for start, goal in ((1, 5), (3, 1), (7, 8)):
                idea = f"There are {list(migrations.steps)}. 1 and 2 lead to each other: do not go round for ever."
                with refused(ValueError, what=f"a plan from {start} to {goal}", idea=idea):
                    in_time(3, "`plan`", idea, lambda start=start, goal=goal: migrations.plan(start, goal))

        with behaviour("a run takes every checkpoint of every thread along"):
            saver = old()
            old_office(saver, "olga")
            before = values_of(saver)
            changed = tools().run(saver, 3)
            after = values_of(saver)
            idea = "`run` returns the ids of all checkpoints that it changed, each once."
            expect(sorted(changed or []), sorted(before), idea)
            idea = "No checkpoint is added or removed: each is stored again under its own id."
            expect(sorted(after), sorted(before), idea)
            for checkpoint_id, (_, values, parent, writes) in before.items():
                version, came, its_parent, its_writes = after[checkpoint_id]
                idea = (
                    "The history too, and the states of subgraphs: somebody may go back to them. And each is stamped "
                    "with the version that it has now."
                )
                expect(version, 3, idea)
                expect(came, in_version_3(values), f"A checkpoint of version 1 had {values}. {idea}")
                expect(its_parent, parent, "Each keeps its parent: `rewritten` gives all arguments of `put`.")
                idea = "What tasks wrote, and a question to a person, stays with its checkpoint."
                expect([each for each in writes if each not in its_writes], [], idea)

        with behaviour("what tasks wrote is taken along, before its checkpoint"):

            def one_that_waits():
                saver = Watched()
                build_desk(1, saver).invoke({"customer": "Ana", "total": 249.0}, thread("ana"))
                saver.put_writes(saver.get_tuple(thread("ana")).config, [("total", 5.0), ("notes", ["late"])], "task")
                return saver

            def written_in(saver):
                found = saver.get_tuple(thread("ana"))
                return sorted(write[1:] for write in found.pending_writes if write[0] == "task")

            wanted = [("cents", 500), ("notes", ["late"]), ("total", 5.0)]
            saver = one_that_waits()
            tools().run(saver, 3)
            idea = (
                "A task had finished, and one beside it had not: its writes wait with the checkpoint. Nobody knows "
                "`total` any more: `rewritten_writes` says what to store with `put_writes`."
            )
            expect(written_in(saver), wanted, idea)
            for moment in range(20):
                saver = one_that_waits()
                saver.left = moment
                with suppress(Exception):
                    tools().run(saver, 3)
                saver.left = None
                idea = "The process ended, and a second run finishes."
                with no_error(expected="the second run finishes", idea=idea):
                    tools().run(saver, 3)
                idea = (
                    f"{idea} It passes over what has the stamp of the new version. So the stamp comes last: first "
                    "`put_writes`, then `put`. And what the first run has added is not added again."
                )
                expect(written_in(saver), wanted, idea)

        with behaviour("what has the version already is left alone"):
            saver = old()
            tools().run(saver, 2)
            saver.puts.clear()
            seen = []
            migrations = Migrations()
            migrations.step(1, 2)(lambda values: seen.append(1) or to_2(values))
            migrations.step(2, 3)(lambda values: seen.append(2) or to_3(values))
            migrations.run(saver, 3)
            idea = "All were of version 2 already: the step from 1 to 2 has nothing to do. Look at the stamp of each."
            expect(1 in seen, False, idea)
            saver.puts.clear()
            idea = "All have version 3 now. A second run finds nothing to do, and writes nothing."
            expect(migrations.run(saver, 3), [], idea)
            expect(sum(saver.puts.values()), 0, idea)

        with behaviour("a dry run tells the same and writes nothing"):
            saver = old()
            before = everything(saver)
            told = tools().run(saver, 3, dry_run=True)
            idea = "A dry run does all but the writing: nothing in the saver may differ afterwards."
            expect(sum(saver.puts.values()), 0, idea)
            expect(everything(saver) == before, True, idea)
            expect(sorted(told or []), sorted(tools().run(saver, 3)), "And it tells what the real run then does.")

        with behaviour("a run that was stopped goes on where it stopped"):
            saver = old()
            wanted = {name: in_version_3(values) for name, (_, values, _, _) in values_of(saver).items()}
            saver.left = rng.randint(3, len(wanted) - 3)
            with suppress(Exception):
                tools().run(saver, 3)
            first, saver.left = len(saver.puts), None
            idea = "The process ended in the middle of the first run. The second run does what is left."
            with no_error(expected="the second run finishes", idea=idea):
                changed = tools().run(saver, 3)
            came = {name: values for name, (_, values, _, _) in values_of(saver).items()}
            expect(came, wanted, f"{idea} In the end all is as if it had never stopped.")
            idea = f"{first} of {len(wanted)} had been stored: they are not done again. The stamp tells which they are."
            expect(len(changed), len(wanted) - first, idea)
            expect(max(saver.puts.values()), 1, idea)

        with behaviour("a step that fails names the checkpoint and leaves it as it was"):
            saver = old()
            bad = rng.choice(sorted(values_of(saver)))
            name = next(each for each in customers if bad in saver.storage[each][""])
            values = values_of(saver)[bad][1]

            def fragile(given):
                if given == values:
                    given.clear()
                    raise KeyError("discount")
                return to_2(given)

            before = everything(saver)
            migrations = Migrations()
            migrations.step(1, 2)(fragile)
            idea = "The step cannot deal with one checkpoint: StepFailed says so, after which nobody has to search."
            message = how_it_fails(lambda: migrations.run(saver, 2), "a run with a step that fails", idea)
            ids = [each for each, (_, held, _, _) in values_of(saver).items() if held == values]
            if not (name in message and any(each in message for each in ids)):
                idea = "Say on which thread and which checkpoint it failed: with 10,000 of them nobody finds it else."
                raise Missed(expected=f"a message with {name!r} and {bad}", came=message, idea=idea)
            failed = next(each for each in ids if each in message)
            idea = "The step had changed what it was given before it failed. What is stored is as it was."
            expect(saver.storage[name][""][failed] == before[0][name][""][failed], True, idea)
            idea = "The step has been mended: a new run finishes."
            with no_error(expected="no error", idea=idea):
                tools().run(saver, 2)
            expect({version for version, *_ in values_of(saver).values()}, {2}, idea)

        with behaviour("a version that no step leads from is named, not skipped"):
            saver = Watched()
            build_desk(3, UpcastingSaver(saver, Migrations(), 9)).invoke({"name": "Ana", "cents": 100}, thread("ana"))
            idea = (
                "This thread is of version 9, from a deploy that was taken back. Leaving it out in silence hides it, "
                "and an error of `plan` does not say which it is: StepFailed does."
            )
            message = how_it_fails(lambda: tools().run(saver, 3), "a run to version 3", idea)
            if not ("ana" in message and any(each in message for each in saver.storage["ana"][""])):
                raise Missed(expected="a message with 'ana' and the id of a checkpoint", came=message, idea=idea)

        with behaviour("a conversation that waited for a person goes on after the run"):
            saver = InMemorySaver()
            build_desk(1, saver).invoke({"customer": "Eve", "total": 12.34}, thread("eve"))
            tools().run(saver, 3)
            idea = "It was interrupted in version 1, taken to version 3, and is answered there."
            with no_error(expected="the desk goes on", idea=idea):
                result = build_desk(3, saver).invoke(Command(resume=True), thread("eve"))
            expect(result["notes"][-1], "v3 says: Eve gets 1234 cents in EUR", idea)
            old_office(saver, "olga")
            tools().run(saver, 3)
            idea = "This one was interrupted in a subgraph, whose states are in a namespace of their own."
            with no_error(expected="the office goes on", idea=idea):
                result = build_office(3, saver).invoke(Command(resume=True), thread("olga"))
            expect(result["notes"][-1], "v3 says: Olga gets 1234 cents in EUR", idea)

    def test_backward_compatibility(self, work, behaviour, rng):
        """Test backward compatibility of states."""
        CompatibleSaver = work.CompatibleSaver
        steps = desk_steps()
        euros = rng.randint(1, 99_999) / 100
        cents = round(100 * euros)
        words = f"Ana gets {cents} cents in EUR"
        kinds = {"a saver that stores values apart": InMemorySaver, "a saver that stores checkpoints whole": WholeSaver}

        def old(kind):
            saver = kind()
            build_desk(1, saver).invoke({"customer": "Ana", "total": euros}, thread("ana"))
            return saver

        with behaviour("new code sees an old thread in its own version"):
            for what, kind in kinds.items():
                saver = old(kind)
                before = repr(list(saver.list(None)))
                seen = build_desk(3, CompatibleSaver(saver, steps, 3)).get_state(thread("ana"))
                wanted = {
                    "notes": [f"v1 asks: Ana gets {euros} EUR?"],
                    "name": "Ana",
                    "cents": cents,
                    "currency": "EUR",
                }
                idea = (
                    f"The thread was stored by version 1, in {what}. Take its values along the steps when it is read."
                )
                expect(dict(seen.values), wanted, idea)
                found = CompatibleSaver(saver, steps, 3).get_tuple(thread("ana"))
                expect(found.metadata.get(STAMP), 3, "What you hand on is of version 3 now, and its stamp says so.")
                expect(repr(list(saver.list(None))), before, "Reading writes nothing.")
                idea = "Nothing is stored about this thread: `found` is None, and stays None."
                with no_error(expected="None", idea=idea):
                    nobody = CompatibleSaver(saver, steps, 3).get_tuple(thread("nobody"))
                expect(nobody, None, idea)

        with behaviour("a thread interrupted under version 1 resumes under version 3"):
            for what, kind in kinds.items():
                saver = old(kind)
                desk = build_desk(3, CompatibleSaver(saver, steps, 3))
                asked = [each.value for each in desk.get_state(thread("ana")).interrupts]
                idea = (
                    f"{what.capitalize()}. The question of version 1 is among the pending writes, so that whoever "
                    "answers can still see it: hand them on."
                )
                expect(asked, [f"Ana gets {euros} EUR?"], idea)
                idea = f"It waited in version 1, and is answered in version 3. ({what.capitalize()}.)"
                with no_error(expected="the desk goes on", idea=idea):
                    result = desk.invoke(Command(resume=True), thread("ana"))
                expect(result["notes"][-2:], ["yes", f"v3 says: {words}"], idea)

        with behaviour("what it went on with is stored, and is there the next time"):
            for what, kind in kinds.items():
                saver = old(kind)
                build_desk(3, CompatibleSaver(saver, steps, 3)).invoke(Command(resume=True), thread("ana"))
                idea = (
                    f"{what.capitalize()}. `put` names as changed only what the graph has changed. But the new names "
                    "came from your steps: nobody has stored their values yet. Name every channel that has a value, "
                    "with its number (which `upcast` has from `rewritten`)."
                )
                seen = build_desk(3, CompatibleSaver(saver, steps, 3)).get_state(thread("ana")).values
                expect({name: seen.get(name) for name in ("name", "cents")}, {"name": "Ana", "cents": cents}, idea)
                idea = f"{what.capitalize()}. The checkpoints that version 3 stores are stamped with 3."
                expect(stamp_of(saver, "ana"), 3, idea)

        with behaviour("one can go back to an old checkpoint, and fork it"):
            for what, kind in kinds.items():
                saver = old(kind)
                build_desk(1, saver).invoke(Command(resume=False), thread("ana"))
                desk = build_desk(3, CompatibleSaver(saver, steps, 3))
                for place, seen in enumerate(desk.get_state_history(thread("ana"))):
                    wrong = {"customer", "total"} & set(seen.values)
                    if wrong or ("name" not in seen.values and seen.metadata["step"] >= 0):
                        idea = f"{what.capitalize()}. Older checkpoints are listed too: all in this code's version."
                        raise Missed(expected="name and cents", came=f"number {place}: {seen.values}", idea=idea)
                history = list(desk.get_state_history(thread("ana")))
                for seen in (history[-1], history[-2]):
                    asked = desk.invoke(None, seen.config)["__interrupt__"][0].value
                    idea = (
                        f"{what.capitalize()}. Step {seen.metadata['step']} of version 1 is run again by version 3. "
                        "(Before the first node, the input waits in `__start__`; `migrations.upcast` takes it along.)"
                    )
                    expect(asked, f"{words}?", idea)

        with behaviour("what a task wrote in version 1 is joined in version 3"):
            for what, kind in kinds.items():
                saver = old(kind)
                head = saver.get_tuple(thread("ana"))
                saver.put_writes(head.config, [("total", 5.0), ("notes", ["late"])], "another-task")
                found = CompatibleSaver(saver, steps, 3).get_tuple(thread("ana"))
                came = [write[1:] for write in found.pending_writes if write[0] == "another-task"]
                idea = (
                    f"{what.capitalize()}. A task had finished and written `total`, and its step had not. No channel "
                    "has that name any more: `migrations.upcast_writes` says what the writes are now."
                )
                expect(sorted(came), [("cents", 500), ("notes", ["late"])], idea)

        with behaviour("what an old worker does not know survives its write"):
            for what, kind in kinds.items():
                saver = kind()
                new = build_desk(3, CompatibleSaver(saver, steps, 3))
                new.invoke({"name": "Ben", "cents": cents, "currency": "CHF"}, thread("ben"))
                worker = build_desk(2, CompatibleSaver(saver, steps, 2))
                idea = f"{what.capitalize()}. In a rolling deploy a worker of version 2 gets a thread of version 3."
                with no_error(expected="the old worker goes on", idea=f"{idea} It reads what it knows."):
                    result = worker.invoke(Command(resume=True), thread("ben"))
                expect(result["notes"][-1], f"v2 says: Ben gets {cents} cents", idea)
                seen = new.get_state(thread("ben")).values
                idea = (
                    f"{idea} It does not know `currency`, so it puts a checkpoint without it, and the next worker of "
                    "version 3 needs it: carry along what the parent had and nobody has changed."
                )
                expect(seen.get("currency"), "CHF", idea)
                idea = (
                    "What the old worker stored still has everything of version 3. Stamped with 2, it would be taken "
                    "through the step from 2 to 3 once more: the stamp is the greater of its own and its parent's."
                )
                expect(stamp_of(saver, "ben"), 3, idea)

        with behaviour("what was removed does not come back"):
            for what, kind in kinds.items():
                inner = kind()
                saver = CompatibleSaver(inner, steps, 3)
                config = put(inner, "dan", draft="a refund?", name="Dan")
                checkpoint, metadata, versions = a_checkpoint({"name": "Dan"})
                gone = {"draft": f"{2:032}.1"}
                checkpoint["channel_versions"] = versions | gone
                saver.put(config, checkpoint, metadata, gone)
                idea = (
                    f"{what.capitalize()}. `draft` is among the changed channels and has no value any more: the graph "
                    "has removed it. Carry along only what did not change."
                )
                expect("draft" in saver.get_tuple(thread("dan")).checkpoint["channel_values"], False, idea)

        with behaviour("a thread of this version costs nothing more"):
            saver = old(InMemorySaver)
            build_desk(3, CompatibleSaver(saver, steps, 3)).invoke(Command(resume=True), thread("ana"))
            broken = Migrations()
            with no_error(expected="no step is needed", idea="It has the version of the code: no way has to be found."):
                found = CompatibleSaver(saver, broken, 3).get_tuple(thread("ana"))
            expect(found.checkpoint["channel_values"].get("name"), "Ana", "It comes as it is stored.")

    def test_state_validation(self, work, behaviour, rng):
        """Test state validation and schema enforcement."""
        validate, repair = work.validate, work.repair
        schema = {"name": str, "cents": int, "currency": str, "notes": list}

        def store():
            saver = InMemorySaver(serde=ChecksumSerializer(JsonPlusSerializer()))
            desk = build_desk(3, saver)
            for name in ("ana", "ben", "cleo"):
                desk.invoke({"name": name.title(), "cents": rng.randint(1, 9999), "currency": "EUR"}, thread(name))
                desk.invoke(Command(resume=True), thread(name))
            desk.invoke({"name": "Dan", "cents": 5, "currency": "EUR"}, thread("dan"))
            build_agent(saver).invoke({"messages": [("user", "Please refund order 1001")]}, thread("eve"))
            return saver

        def ids(saver, name):
            return sorted(saver.storage[name][""])

        def damaged(pair):
            place = rng.randrange(len(pair[1]))
            return pair[0], pair[1][:place] + bytes([pair[1][place] ^ 1]) + pair[1][place + 1 :]

        def damage_checkpoint(saver):
            which = rng.choice(ids(saver, "ana")[1:-1])
            stored, metadata, parent = saver.storage["ana"][""][which]
            saver.storage["ana"][""][which] = (damaged(stored), metadata, parent)
            return ("damaged", "ana", "", which)

        def damage_metadata(saver):
            which = rng.choice(ids(saver, "ben"))
            stored, metadata, parent = saver.storage["ben"][""][which]
            saver.storage["ben"][""][which] = (stored, damaged(metadata), parent)
            return ("damaged", "ben", "", which)

        def last_value(saver, name):
            head = saver.get_tuple(thread(name))
            return (name, "", "notes", head.checkpoint["channel_versions"]["notes"])

        def damage_value(saver):
            key = last_value(saver, "cleo")
            saver.blobs[key] = damaged(saver.blobs[key])
            return ("damaged", "cleo", "", ids(saver, "cleo")[-1])

        def damage_writes(saver):
            which = ids(saver, "dan")[-1]
            held = saver.writes["dan", "", which]
            key = next(iter(held))
            held[key] = (*held[key][:2], damaged(held[key][2]), held[key][3])
            return ("damaged", "dan", "", which)

        def lose_value(saver):
            del saver.blobs[last_value(saver, "ana")]
            return ("missing value", "ana", "", ids(saver, "ana")[-1])

        def orphan(saver, name="ben"):
            which = str(uuid6())
            saver.put_writes(thread(name, "", which), [("notes", ["late"])], "task-1")
            return ("orphan writes", name, "", which)

        def lose_parent(saver):
            which = ids(saver, "ben")[2]
            stored, metadata, _ = saver.storage["ben"][""][which]
            saver.storage["ben"][""][which] = (stored, metadata, f"00000000{which[8:]}")  # an id of long ago
            return ("no parent", "ben", "", which)

        def cycle(saver):
            first, *_, last = ids(saver, "cleo")[:4]
            stored, metadata, _ = saver.storage["cleo"][""][first]
            saver.storage["cleo"][""][first] = (stored, metadata, last)
            return ("cycle", "cleo", "", first)

        def wrong_type(saver):
            head = saver.get_tuple(thread("dan"))
            key = ("dan", "", "cents", head.checkpoint["channel_versions"]["cents"])
            saver.blobs[key] = saver.serde.dumps_typed("5.00")
            return [
                ("wrong type", "dan", "", which)
                for which in ids(saver, "dan")
                if "cents" in saver.get_tuple(thread("dan", "", which)).checkpoint["channel_values"]
            ]

        mendable = [lose_parent, cycle]
        faults = [wrong_type, lose_value, damage_value, damage_writes, damage_checkpoint, damage_metadata, orphan]
        faults += mendable  # those that read first come first

        def problems(found):
            return sorted(tuple(each) for each in found)

        with behaviour("a healthy store has no problems, and is left alone"):
            saver = store()
            before = everything(saver)
            idea = (
                "Nothing is wrong here: five threads, one with a subgraph in namespaces of its own, and two that wait "
                "for a person. A first checkpoint has no parent, and a channel may have no value (`empty`)."
            )
            with no_error(expected="no problems", idea=idea):
                came = validate(saver, schema)
            expect(problems(came), [], idea)
            mended, aside = repair(saver, schema)
            expect((list(mended), list(aside)), ([], []), f"{idea} So there is nothing to repair.")
            idea = "Looking changes nothing. (`saver.storage[…]` makes what is not there: it is a defaultdict.)"
            expect(everything(saver) == before, True, idea)

        def is_found(harm, what):
            saver = store()
            wanted = harm(saver)
            wanted = wanted if isinstance(wanted, list) else [wanted]
            before = everything(saver)
            idea = f"{what} Nothing else is wrong. Say what it is, and where: all four parts."
            with no_error(expected=f"{wanted}", idea=f"{idea} Validation finds trouble, and never stops at it."):
                came = validate(saver, schema)
            expect(problems(came), problems(wanted), idea)
            idea = "Validation looks, and changes nothing. (`saver.storage[…]` makes what is not there: use `.get`.)"
            expect(everything(saver) == before, True, idea)

        with behaviour("damaged bytes of a checkpoint or its metadata are found"):
            is_found(damage_checkpoint, "A bit of a checkpoint has flipped.")
            is_found(damage_metadata, "A bit of a checkpoint's metadata has flipped.")

        with behaviour("damaged bytes of a value, or of what a task wrote, are found"):
            is_found(damage_value, "A bit of a channel's value, in `blobs`, has flipped.")
            is_found(damage_writes, "A bit of what a task wrote, in `writes`, has flipped.")

        with behaviour("a value that is gone is found"):
            is_found(lose_value, "A checkpoint's `channel_versions` names a blob that is not there.")

        with behaviour("a value of the wrong type is found"):
            is_found(wrong_type, "`cents` is text, and the schema says int.")

        with behaviour("writes without their checkpoint are found"):
            is_found(orphan, "There are writes of a checkpoint that is not there.")
            is_found(partial(orphan, name="nobody"), "There are writes of a thread of which nothing else is there.")

        with behaviour("a parent that is gone is found"):
            is_found(lose_parent, "A checkpoint names a parent that is not in the store.")

        with behaviour("a circle of parents is found"):
            is_found(cycle, "A checkpoint names a younger one as its parent, so who walks up walks for ever.")

        with behaviour("several problems are all found in one look"):
            saver = store()
            wanted = [damage_checkpoint(saver), damage_metadata(saver), orphan(saver), cycle(saver)]
            idea = "Four things are wrong in three threads: all of them, not the first."
            expect(set(problems(validate(saver, schema))) >= set(wanted), True, idea)

        with behaviour("several problems of one checkpoint are several entries"):
            saver = store()
            wanted = [
                ("missing value", "ana", "", which)
                for which in ids(saver, "ana")
                if "cents" in saver.get_tuple(thread("ana", "", which)).checkpoint["channel_values"]
            ]
            for key in [key for key in saver.blobs if key[0] == "ana" and key[2] in ("cents", "name")]:
                del saver.blobs[key]
            idea = "`cents` and `name` of this thread are gone. Each checkpoint that had them has one entry for that."
            expect(problems(validate(saver, schema)), problems(wanted), idea)
            saver = store()
            head = ids(saver, "dan")[-1]
            wanted = [*wrong_type(saver), ("cycle", "dan", "", head)]
            stored, metadata, _ = saver.storage["dan"][""][head]
            saver.storage["dan"][""][head] = (stored, metadata, head)
            idea = "This thread's newest checkpoint has a value of the wrong type, and is its own parent: two entries."
            expect(problems(validate(saver, schema)), problems(wanted), idea)

        with behaviour("what can be mended is mended"):
            for harm in mendable:
                saver = store()
                harmed = harm(saver)
                count = sum(len(held) for spaces in saver.storage.values() for held in spaces.values())
                mended, aside = repair(saver, schema)
                idea = f"There is a {harmed[0]!r}. Nothing is lost if it becomes a first checkpoint, without a parent."
                expect(problems(mended), [harmed], idea)
                expect(list(aside), [], idea)
                found = saver.get_tuple(thread(harmed[1], "", harmed[3]))
                expect(found and found.parent_config, None, idea)
                now = sum(len(held) for spaces in saver.storage.values() for held in spaces.values())
                expect(now, count, f"{idea} All checkpoints are still there.")

        with behaviour("what cannot be mended is set aside, and its children keep an ancestor"):
            saver = store()
            harmed = damage_checkpoint(saver)
            _, _, parent = saver.storage["ana"][""][harmed[3]]
            child = next(each for each, held in saver.storage["ana"][""].items() if held[2] == harmed[3])
            mended, aside = repair(saver, schema)
            idea = (
                "One checkpoint cannot be read. It is taken out of the store, with its writes and nothing else, and "
                "given back to who asked."
            )
            expect(problems(aside), [harmed], idea)
            expect(harmed[3] in saver.storage["ana"][""], False, idea)
            idea = "Its child had it as a parent. The parent's parent is there: the history is shorter, and not cut."
            expect(saver.storage["ana"][""][child][2], parent, idea)

        with behaviour("after a repair all is well, nothing is lost, and conversations go on"):
            for _ in range(3):
                saver = store()
                chosen = sorted(rng.sample(faults, 5), key=faults.index)
                for harm in chosen:
                    harm(saver)
                before = everything(saver)
                idea = f"These were done to it: {', '.join(harm.__name__ for harm in chosen)}."
                with no_error(expected="a repair", idea=idea):
                    mended, aside = in_time(10, "`repair`", idea, lambda saver=saver: repair(saver, schema))
                idea = f"{idea} One repair may uncover the next problem: look again until there is none."
                expect(problems(validate(saver, schema)), [], idea)
                kept = all_bytes([everything(saver), list(aside.values())])
                lost = all_bytes(before) - kept
                if lost:
                    idea = "Set aside is not thrown away: whatever was stored is in the store, or in what you return."
                    raise Missed(expected="every byte that was there", came=f"{len(lost)} pieces are gone", idea=idea)
                for name in ("ana", "ben", "cleo"):
                    idea = f"The thread {name!r} has lost at most its newest steps: it goes on from what is left."
                    with no_error(expected="a conversation that goes on", idea=idea):
                        build_desk(3, saver).invoke({"name": name, "cents": 1, "currency": "EUR"}, thread(name))


class TestPerformanceOptimization:
    """Test performance optimization for state operations."""

    def test_batch_operations(self, work, behaviour, rng):
        """Test batch state operations."""
        put_many, get_many = work.put_many, work.get_many
        attempted("batch_operations", lambda: put_many(None, []))
        redis = server(services.redis)
        client, token = redis.client(), f"{rng.getrandbits(40):010x}"

        def states(count, name):
            return [(f"{token}:{name}:{n}", {"order": n, "lines": [None, rng.random(), "grüße"]}) for n in range(count)]

        with behaviour("states are stored, and come back in order"):
            for count in (0, 1, 7, 120):
                items = states(count, f"order {count}")
                rng.shuffle(items)
                idea = "One entry for each item, in the order of the items: None where it was stored."
                expect(put_many(client, items, chunk=50), [None] * count, idea)
                asked = [key for key, _ in items] + [f"{token}:nobody"]
                idea = "One entry for each key, in the order of the keys, and None where nothing is stored."
                expect(list(get_many(client, asked, chunk=50)), [*(state for _, state in items), None], idea)
            items = [(f"{token}:falsy:{place}", state) for place, state in enumerate((0, False, "", [], {}))]
            items += [(f"{token}:twice", 1), (f"{token}:twice", 2)]
            idea = "One entry for each item, also where a key comes twice. (The later one stays.)"
            expect(put_many(client, items), [None] * len(items), idea)
            asked = [key for key, _ in items] + [items[0][0]]
            idea = "One entry for each key, also where it comes twice. And a state may be 0, False or empty."
            expect(list(get_many(client, asked)), [0, False, "", [], {}, 2, 2, 0], idea)
            key, state = states(1, "json")[0]
            put_many(client, [(key, state)])
            with no_error(expected="JSON", idea="Each state is stored as JSON, under its own key, for others to read."):
                expect(json.loads(client.get(key)), state, "Each state is stored as JSON, under its own key.")

        with behaviour("a chunk takes one round trip, however much is in it"), counting(redis) as (through, trips):
            for count, chunk in ((20, 100), (100, 100), (300, 100), (400, 500)):
                items = states(count, "trips")
                for what, given in (("put_many", items), ("get_many", [key for key, _ in items])):
                    through.ping()
                    before = trips()
                    list(getattr(work, what)(through, given, chunk=chunk))
                    came, wanted = trips() - before, -(-count // chunk)
                    idea = (
                        f"`{what}` with {count} items and chunk={chunk} has {wanted} chunks, and each is one pipeline. "
                        "A round trip for each item would cost a hundred times as much. (Counted before the server.)"
                    )
                    if came < wanted:
                        idea = (
                            f"`{what}` with {count} items and chunk={chunk} has {wanted} chunks. Each has a round trip "
                            "of its own, and is sent by the client that it was given, to the server of that client."
                        )
                        raise Missed(expected=f"{wanted} round trips", came=f"{came} round trips", idea=idea)
                    if came > 2 * wanted + 1:
                        raise Missed(expected=f"{wanted} round trips", came=f"{came} round trips", idea=idea)

        with behaviour("no more than a chunk is taken from a generator"):
            taken = []

            def endless(items):
                for item in items:
                    taken.append(item)
                    yield item

            items = states(400, "lazy")

            def watched():
                for place, item in enumerate(endless(items)):
                    if place >= 100 and not client.exists(items[place - 100][0]):
                        idea = (
                            f"Item {place} is taken, and item {place - 100} is not stored yet, with chunk=50: a list "
                            "of all items may not fit into memory. Take a chunk, store it, take the next."
                        )
                        raise Missed(expected="at most 50 items in memory", came=f"{place} of them", idea=idea)
                    yield item

            put_many(client, watched(), chunk=50)
            taken.clear()
            answers = get_many(client, endless([key for key, _ in items]), chunk=50)
            idea = "Make `get_many` a generator: it yields what it has before it asks for more."
            with no_error(expected="an iterator", idea=idea):
                first = next(answers)
            expect(first, items[0][1], idea)
            if len(taken) > 100:
                raise Missed(expected="50 keys taken for the first answer", came=f"{len(taken)}", idea=idea)
            expect(list(answers), [state for _, state in items[1:]], "And all the others follow.")

        with behaviour("one bad item is one exception in its place"):
            items = states(9, "bad")
            itself: list = []
            itself.append(itself)
            bad = {2: object(), 5: {"deep": {1, 2}}, 7: itself}
            mixed = [(key, bad.get(place, state)) for place, (key, state) in enumerate(items)]
            idea = (
                "Items 2, 5 and 7 are no JSON (7 is a list that holds itself, for which `json.dumps` has another "
                "exception). Their entries are the exceptions, and all others are stored."
            )
            for chunk in (1, 4, 100):
                client.delete(*(key for key, _ in items))
                with no_error(expected="a result for each item", idea=idea):
                    came = put_many(client, mixed, chunk=chunk)
                shown = ["an exception" if isinstance(each, Exception) else each for each in came]
                expect(shown, ["an exception" if place in bad else None for place in range(9)], idea)
                there = [bool(client.exists(key)) for key, _ in items]
                expect(there, [place not in bad for place in range(9)], idea)
            put_many(client, items)
            client.set(items[1][0], b"")
            client.set(items[3][0], b"\xff{ no json")
            client.delete(items[6][0], items[7][0])
            client.rpush(items[6][0], "a list")
            client.set(items[8][0], "[" * 200_000)
            idea = (
                "Keys 1 and 3 have bytes that are no JSON (key 1 has none), key 6 has a list where text should be, and "
                "key 8 is nested so deep that `json.loads` gives up: their entries are exceptions. Key 7 has nothing: "
                "None. All others are read. Nothing is there is another answer than nobody can read it."
            )
            for chunk in (1, 4, 100):
                with no_error(expected="a result for each key", idea=idea):
                    came = list(get_many(client, [key for key, _ in items], chunk=chunk))
                shown = ["an exception" if isinstance(each, Exception) else each for each in came]
                wanted = [
                    None if place == 7 else "an exception" if place in (1, 3, 6, 8) else state
                    for place, (_, state) in enumerate(items)
                ]
                expect(shown, wanted, idea)

        with behaviour("what the server refuses is one exception in its place"), limited(client, token) as narrow:
            items = states(5, "mine")
            items.insert(2, (f"not-{token}", {"order": 2}))
            idea = (
                f"This login may write keys that begin with {token}. The server refuses one item of six: its answer is "
                "the entry of that item, and the others are stored. (In a transaction, which `pipeline()` makes "
                "without `transaction=False`, or with MSET, one refusal is a refusal of all.)"
            )
            for chunk in (1, 4, 100):
                with no_error(expected="a result for each item", idea=idea):
                    came = put_many(narrow, items, chunk=chunk)
                shown = ["an exception" if isinstance(each, Exception) else each for each in came]
                expect(shown, [None, None, "an exception", None, None, None], idea)
                there = [bool(client.exists(key)) for key, _ in items]
                expect(there, [True, True, False, True, True, True], idea)
                client.delete(*(key for key, _ in items))

    def test_caching_strategies(self, work, behaviour, rng):
        """Test caching strategies for state access."""
        CachedSaver = work.CachedSaver

        def cached(size=100, ttl=60):
            inner, clock = Tier(), Clock()
            return CachedSaver(inner, size, ttl, clock=clock), inner, clock

        def step(saver, where):
            found = saver.get_tuple(where)
            return found and found.checkpoint["channel_values"].get("step")

        changes = {
            "put": lambda saver, config: saver.put(config, *a_checkpoint({"step": 2})),
            "put_writes": lambda saver, config: saver.put_writes(config, [("messages", "hello")], "task-1"),
            "delete_thread": lambda saver, config: saver.delete_thread("ana"),
        }
        changed = {"put": (2, 0), "put_writes": (1, 1), "delete_thread": None}

        def seen(saver):
            found = saver.get_tuple(thread("ana"))
            return found and (found.checkpoint["channel_values"]["step"], len(found.pending_writes or []))

        with behaviour("what was read is answered from memory, and counted"):
            saver, inner, _ = cached()
            first = put(inner, "ana", step=1)
            second = inner.put(first, *a_checkpoint({"step": 2}))
            put(inner, "ana", "refund:1", step=3)
            put(inner, "ben", step=4)
            inner.put_writes(second, [("messages", "hello")], "task-1")
            wanted = [
                (thread("ana"), 2),
                (first, 1),
                (second, 2),
                (thread("ana", "refund:1"), 3),
                (thread("ben"), 4),
            ]
            repeats = rng.randint(2, 5)
            for _ in range(1 + repeats):
                for where, value in rng.sample(wanted, len(wanted)):
                    idea = f"{where['configurable']} is a question of its own: thread, namespace and checkpoint id."
                    expect(step(saver, where), value, idea)
            found = saver.get_tuple(thread("ana"))
            writes = [tuple(write) for write in found.pending_writes]
            expect(writes, [("task-1", "messages", "hello")], "All that was found is remembered.")
            expect((found.config, found.parent_config), (second, first), "All that was found is remembered.")
            idea = "Each question was asked of the saver inside once, and answered from memory after that."
            expect(inner.calls["get_tuple"], len(wanted), f"How many reads inside? {idea}")
            came = {"hits": saver.hits, "misses": saver.misses}
            expect(came, {"hits": len(wanted) * repeats + 1, "misses": len(wanted)}, idea)

        with behaviour("the checkpoint used longest ago is forgotten first"):
            customers = ["ana", "ben", "cleo"]
            for size in (1, 3):
                (saver, inner, _), model, questions = cached(size=size), OrderedDict(), {}
                for customer in customers:
                    config = put(inner, customer, step=customer)
                    questions |= {customer: thread(customer), f"{customer}, by its checkpoint's id": config}
                for _ in range(60):
                    question, before = rng.choice(list(questions)), inner.calls["get_tuple"]
                    idea = "Each thread has a checkpoint of its own."
                    expect(step(saver, questions[question]), question.partition(",")[0], idea)
                    idea = (
                        f"How many reads inside, for {question!r} with size={size}? So many checkpoints are "
                        "remembered, of whatever threads; a hit is a use too, and the one that was used longest ago "
                        "goes."
                    )
                    expect(inner.calls["get_tuple"] - before, int(question not in model), idea)
                    use(model, question, size)
            saver, inner, clock = cached(size=2, ttl=10)
            for customer in customers:
                put(inner, customer, step=customer)
            step(saver, thread("ana")), step(saver, thread("ben"))
            clock.now += 11
            step(saver, thread("ana")), step(saver, thread("cleo"))
            before = inner.calls["get_tuple"]
            step(saver, thread("ana"))
            idea = (
                "'ana' and 'ben' were read, their time passed, and 'ana' was read anew. Then 'cleo' took a place, with "
                "size=2. 'ben' was used longest ago, not 'ana': what is read anew has been used just now."
            )
            expect(inner.calls["get_tuple"] - before, 0, f"How many more reads of 'ana' inside? {idea}")

        with behaviour("put, put_writes and delete_thread invalidate"):
            saver, inner, _ = cached()
            above = put(saver, "ana", step=1)
            other = put(saver, "ben", step=1)
            for number in range(2, 5):
                expect((step(saver, thread("ana")), step(saver, other)), (number - 1, 1), "What was put is found.")
                above = saver.put(above, *a_checkpoint({"step": number}))
                idea = "A checkpoint was put: what was read of its thread before is old."
                expect(step(saver, thread("ana")), number, idea)
                saver.get_tuple(above)
                saver.put_writes(above, [("messages", "hello")], "task-1")
                idea = (
                    "A task wrote something after the newest checkpoint. It belongs to what `get_tuple` finds: without "
                    "it, an agent that starts again runs a task twice that was done."
                )
                for where in (thread("ana"), above):
                    writes = [tuple(write) for write in saver.get_tuple(where).pending_writes]
                    expect(writes, [("task-1", "messages", "hello")], idea)
            before = inner.calls["get_tuple"]
            step(saver, other)
            idea = "Of the thread 'ben' nothing has changed: what was read of it stays."
            expect(inner.calls["get_tuple"] - before, 0, f"How many reads inside? {idea}")
            saver.delete_thread("ana")
            idea = "The thread was deleted: nothing of it is found any more, whatever was read before."
            expect([step(saver, thread("ana")), step(saver, above)], [None, None], idea)
            for method, change in changes.items():
                saver, inner, _ = cached()
                config = put(inner, "ana", step=1)
                seen(saver)
                inner.loses_answers = True
                with suppress(Gone):
                    change(saver, config)
                inner.loses_answers = False
                idea = (
                    f"`{method}` raised, and may have been done all the same: its answer got lost. What was read "
                    "before may be old. Forget it in a `finally`."
                )
                expect(seen(saver), changed[method], f"The step, and the number of pending writes: {idea}")

        with behaviour("another writer's newer checkpoint is seen when ttl has passed"):
            saver, inner, clock = cached(ttl=10)
            config = put(inner, "ana", step=1)
            expect(step(saver, thread("ana")), 1, "What was stored is found.")
            inner.put(config, *a_checkpoint({"step": 2}))
            for _ in range(9):
                clock.now += 1.1
                step(saver, thread("ana"))
            clock.now += 0.2
            idea = (
                "Another process put a checkpoint, directly into the saver inside. This cache was asked again and "
                "again, and 10.1 seconds after it had read the old one it still had that, with ttl=10. The time counts "
                "from the read, and a hit does not start it anew."
            )
            expect(step(saver, thread("ana")), 2, idea)
            before = inner.calls["get_tuple"]
            clock.now += 9.9
            idea = "Before `ttl` seconds have passed, what was read is used."
            expect(step(saver, thread("ana")), 2, idea)
            expect(inner.calls["get_tuple"] - before, 0, f"How many reads inside? {idea}")

        with behaviour("that there is nothing is not remembered"):
            saver, inner, _ = cached()
            expect(step(saver, thread("ana")), None, "There is no such thread yet.")
            put(inner, "ana", step=1)
            idea = (
                "There was no such thread; then another worker began it. To remember the None would mean to begin the "
                "conversation again. What is there may be remembered, what is not there may come at any time."
            )
            expect(step(saver, thread("ana")), 1, idea)

        with behaviour("a caller that changes its result harms nobody"):
            saver, inner, _ = cached()
            config = put(inner, "ana", messages=["hello"], order={"lines": [1]})
            inner.put_writes(config, [("messages", ["late"])], "task-1")
            for reader in range(3):
                found = saver.get_tuple(thread("ana"))
                idea = (
                    f"Caller number {reader + 1} should see what was stored. The one before it changed what it had "
                    "got, which is its own: hand out copies (deep ones), also for a miss."
                )
                writes = [tuple(write) for write in found.pending_writes]
                came = found.checkpoint["channel_values"], found.metadata["step"], writes
                stored = {"messages": ["hello"], "order": {"lines": [1]}}
                expect(came, (stored, -1, [("task-1", "messages", ["late"])]), idea)
                found.checkpoint["channel_values"]["messages"].append("changed")
                found.checkpoint["channel_values"]["order"]["lines"].clear()
                found.metadata["step"] = 99
                found.pending_writes[0][2].append("changed")
                found.pending_writes.append(("task-9", "messages", "changed"))
                found.config["configurable"]["thread_id"] = "changed"

        with behaviour("50 simultaneous misses make one read"):
            for there in (True, False):
                saver, inner, _ = cached()
                put(inner, "ben", step=2)
                if there:
                    put(inner, "ana", step=1)
                idea = (
                    f"50 threads asked for the same checkpoint at the same moment ({'it' if there else 'nothing'} was "
                    "there), and it was not remembered. The first reads, and the others wait for what it finds, even "
                    "if that is nothing. Else a popular thread hits the storage 50 times: a stampede."
                )
                with held(inner):
                    readers = Asking(50, lambda saver=saver: step(saver, thread("ana")))
                    readers.have_begun()
                    other = Asking(1, lambda saver=saver: step(saver, thread("ben")))
                    with suppress(Missed):
                        until(lambda inner=inner: inner.reads["ben"] > 0, 5, "", "")
                    at_once = inner.reads["ben"]
                expect(readers.answers(), [1 if there else None] * 50, f"What they got: {idea}")
                expect(other.answers(), [2], "What somebody who asked for 'ben' got.")
                if there:
                    expect(inner.reads["ana"], 1, f"How many reads inside? {idea}")
                elif inner.reads["ana"] > 25:  # one, or a few more: some may have asked when the first had its answer
                    raise Missed(expected="one read inside", came=f"{inner.reads['ana']} reads inside", idea=idea)
                idea = "While 'ana' is being read, somebody asked for 'ben': a wait for one thread holds up no other."
                expect(at_once, 1, f"How many reads of 'ben' have begun? {idea}")

        with behaviour("what was being read when a put came is not remembered"):
            for method, change in changes.items():
                saver, inner, _ = cached()
                config = put(inner, "ana", step=1)
                late = f"`{method}` waits for a read to end. A read that hangs would hold up every change."
                with held(inner):
                    before = Asking(1, lambda saver=saver: seen(saver))
                    inner.reading.wait(5)
                    in_time(5, f"`{method}`", late, partial(change, saver, config))
                    after = Asking(1, lambda saver=saver: seen(saver))
                    after.have_begun()
                    with suppress(Missed):
                        until(lambda inner=inner: inner.reads["ana"] > 1, 0.3, "", "")
                before.answers()
                idea = (
                    f"`{method}` had returned, and then somebody asked. A read that began before the change was still "
                    "under way: what it finds may be old, so who asks after the change must not be given that."
                )
                expect(after.answers(), [changed[method]], f"The step, and the number of pending writes: {idea}")
                idea = (
                    f"A read had found a checkpoint, and had not returned yet. Then `{method}` came, and returned. "
                    "Then the read returned, with what was there before. Remember how often a thread has changed, and "
                    "drop what was read if that is not the same afterwards."
                )
                expect(seen(saver), changed[method], f"The step, and the number of pending writes: {idea}")

        with behaviour("what is read while a put is under way is not remembered"):
            for method, change in changes.items():
                for ends in ("before it", "after it"):
                    saver, inner, _ = cached()
                    config = put(inner, "ana", step=1)
                    readers = []

                    def read_meanwhile(asked, saver=saver, inner=inner, method=method, ends=ends, readers=readers):
                        if asked == method:
                            if ends == "after it":
                                inner.may_read.clear()
                            readers.append(Asking(1, lambda: seen(saver)))
                            (inner.reading if ends == "after it" else readers[0]).wait(2)

                    inner.before = read_meanwhile
                    change(saver, config)
                    inner.may_read.set()
                    for reader in readers:
                        reader.answers()
                    idea = (
                        f"While `{method}` was under way, a read began; it ended {ends}. It may have seen the old "
                        "state. Forget the thread, and count the change, when the saver inside has *returned*, not "
                        "before it is asked: else what such a read has found is remembered."
                    )
                    expect(seen(saver), changed[method], f"The step, and the number of pending writes: {idea}")

        with behaviour("an error is told to the caller, and not remembered"):
            saver, inner, _ = cached()
            put(inner, "ana", step=1)
            inner.gone = True
            idea = "The saver inside raised an error. None would mean that there is no such conversation."
            with refused(Gone, what="`get_tuple` while the storage is gone", idea=idea):
                in_time(2, "`get_tuple`", idea, lambda: saver.get_tuple(thread("ana")))
            inner.gone = False
            idea = "The storage is back. Give back each lock also after an error, leave nobody waiting, and ask again."
            expect(in_time(2, "`get_tuple`", idea, lambda: step(saver, thread("ana"))), 1, idea)

        with behaviour("the official conformance suite passes, and agents talk"):
            passes_conformance(lambda: CachedSaver(InMemorySaver(), 100, 60))
            agent = build_agent(CachedSaver(InMemorySaver(), 2, 60))
            ask(agent, "ana", "Please refund order 1001")
            ask(agent, "ben", "Where are 1001 and 1002?")
            idea = "A person is waited for, and says yes."
            expect(agent.invoke(Command(resume=True), thread("ana")).get("refunded"), ORDERS["1001"]["price"], idea)

    def test_connection_pooling(self, work, behaviour, until_the_end):
        """Test connection pooling for database operations."""
        PooledSaver = work.PooledSaver
        attempted("connection_pooling", lambda: PooledSaver(None).run("SELECT 1"))
        postgres = server(services.postgres)
        url = until_the_end.enter_context(database(postgres))

        @contextmanager
        def shop(seconds=5):
            """A saver on a pool of an empty database, that database for a superuser, and the pool."""
            with emptied(url) as conn, superuser(postgres, conn) as admin:
                conn.close()
                with ConnectionPool(url, min_size=5, max_size=5, reconnect_timeout=60) as pool:
                    pool.wait()
                    saver = PooledSaver(pool, seconds=seconds)
                    saver.setup()
                    yield saver, admin, pool

        def talks(saver, customers, turns):
            """Agents that talk at the same time; the errors that they got."""

            def talk(customer):
                agent = build_agent(saver)
                for _ in range(turns):
                    agent.invoke({"messages": [("user", "Where is my order 1002?")]}, thread(customer))

            with ThreadPoolExecutor(len(customers)) as threads:
                told = [threads.submit(talk, customer) for customer in customers]
                return [each.exception() for each in told if each.exception()]

        def all_there(saver, customers, turns, idea):
            for customer in customers:
                found = saver.get_tuple(thread(customer))
                messages = found.checkpoint["channel_values"]["messages"] if found else []
                expect(len(messages), 4 * turns, f"How many messages of {customer!r} are stored? {idea}")

        def all_back(pool, admin, idea):
            """Every connection is in the pool again, without a transaction that is still open."""
            until(
                lambda: pool.get_stats().get("pool_available") == 5, 3, idea, "all 5 connections are back in the pool"
            )
            expect(sessions(admin, "state LIKE 'idle in transaction%'"), 0, f"Transactions left open. {idea}")

        with behaviour("`run` commits, and gives the rows"), shop() as (saver, admin, pool):
            idea = "A statement without rows gives an empty list, and is committed when `run` comes back."
            with no_error(expected="a table, and a row in it", idea=idea):
                expect(list(saver.run("CREATE TABLE orders (id int, note text)")), [], idea)
                expect(list(saver.run("INSERT INTO orders VALUES (%s, %s)", [1001, "100% 'sure'"])), [], idea)
            expect(admin.execute("SELECT * FROM orders").fetchall(), [(1001, "100% 'sure'")], idea)
            idea = "The rows of a statement, as a list of tuples. Parameters are given apart, and may be left out."
            expect(list(saver.run("SELECT * FROM orders WHERE id = %s", [1001])), [(1001, "100% 'sure'")], idea)
            expect(list(saver.run("SELECT id FROM orders")), [(1001,)], idea)
            request = {"messages": [("user", "Please refund order 1001")]}
            idea = "An agent on one saver asks for an approval, and another on a saver of its own is told yes."
            expect("__interrupt__" in build_agent(saver).invoke(request, thread("eve")), True, idea)
            result = build_agent(PooledSaver(pool)).invoke(Command(resume=True), thread("eve"))
            expect(result.get("refunded"), ORDERS["1001"]["price"], idea)

        with behaviour("50 agents on 5 connections all finish"), shop() as (saver, admin, pool):
            customers = [f"customer-{number}" for number in range(50)]
            idea = "50 agents take turns on 5 connections: each gives its connection back after each statement."
            errors = in_time(9, "50 agents with a turn each", idea, lambda: talks(saver, customers, 1))
            expect([f"{type(error).__name__}: {error}" for error in errors], [], f"Their errors. {idea}")
            all_there(saver, customers, 1, idea)
            all_back(pool, admin, idea)

        with behaviour("five statements run at the same time"), shop() as (saver, admin, pool):
            saver.run("CREATE TABLE orders (id int)")
            with superuser(postgres, admin) as holder, holder.transaction():
                holder.execute("LOCK TABLE orders")
                asking = [
                    threading.Thread(target=saver.run, args=["SELECT * FROM orders"], daemon=True) for _ in range(8)
                ]
                for each in asking:
                    each.start()
                idea = "Five threads ask, and there are five connections: a lock around the pool would let one ask."
                until(lambda: sessions(admin, "wait_event_type = 'Lock'") >= 5, 3, idea, "5 statements run at once")
                idea = "How many sessions, with 8 threads? At most 5: connections come from the pool, and nowhere else."
                expect(sessions(admin), 5, idea)
            for each in asking:
                each.join(2)

        with (
            behaviour("sessions that are ended are replaced, and no agent hears of it"),
            shop(seconds=3) as (saver, admin, pool),
        ):
            customers, over = [f"customer-{number}" for number in range(8)], threading.Event()

            def end_them():
                stored = 0
                while not over.wait(0.02):
                    (count,) = admin.execute("SELECT count(*) FROM states").fetchone()
                    if count >= stored + 8:  # after some progress, on however slow a machine
                        stored = count
                        end_sessions(admin)

            ending = threading.Thread(target=end_them, daemon=True)
            ending.start()
            idea = (
                "Sessions were ended again and again, as in a restart. That is a psycopg.OperationalError: take "
                "another connection and send the statement again, for as long as there is time. (All statements here "
                "do the same twice as once.)"
            )
            try:
                errors = in_time(9, "8 agents with 3 turns each", idea, lambda: talks(saver, customers, 3))
            finally:
                over.set()
                ending.join(5)
            expect([f"{type(error).__name__}: {error}" for error in errors[:1]], [], idea)
            all_there(saver, customers, 3, idea)
            end_sessions(admin)
            with no_error(expected="an answer", idea=f"All five connections in the pool were ended. {idea}"):
                expect(saver.get_tuple(thread("nobody")), None, idea)
            all_back(pool, admin, idea)

        with behaviour("an exhausted pool gives a clear error in time"), shop(seconds=0.6) as (saver, admin, pool):
            idea = (
                "All five connections are in use, and stay so. After `seconds` (0.6) comes a PoolExhausted. The pool's "
                "own PoolTimeout is an OperationalError too: catch it first."
            )
            with ExitStack() as taken:
                for _ in range(5):
                    taken.enter_context(pool.connection())
                for call in (lambda: saver.get_tuple(thread("ana")), lambda: put(saver, "ana", step=1)):
                    with refused(work.PoolExhausted, what="a call with an exhausted pool", idea=idea):
                        in_time(4, "a call with an exhausted pool", idea, call)
            idea = "The connections are back, so the saver works again."
            with no_error(expected="put stores a checkpoint", idea=idea):
                put(saver, "ana", step=1)
            expect(pool.get_stats().get("requests_waiting", 0), 0, "Nobody waits in the queue of the pool any more.")

        with behaviour("all tries of one call share its time"), shop() as (saver, admin, pool):
            idea = "For 0.8 of 6 seconds each connection was lost. There was time enough: try again until it is over."
            with tries_of(pool, lost_for=0.8) as tries, no_error(expected="[(1,)]", idea=idea):
                expect(list(PooledSaver(pool, seconds=6).run("SELECT 1")), [(1,)], idea)
            waits, gone = tries[-1]
            idea = (
                f"{gone:.2f} of 6 seconds were gone before the last try: it has what was left. Compute one deadline "
                "when `run` begins, and from it how long the pool may wait."
            )
            if waits > 6 - gone:
                expected = f"the pool may wait {6 - gone:.2f} seconds at most in the last try"
                raise Missed(expected=expected, came=f"it was told {waits:g}", idea=idea)

        with behaviour("a database that stays away is an error in time"), shop(seconds=0.6) as (saver, admin, pool):
            idea = (
                "The database ended all sessions and takes no new ones. After `seconds` (0.6) an error has to get out."
            )
            with closed_to_all(postgres, admin), refused(Exception, what="a call without a database", idea=idea):
                in_time(5, "a call without a database", idea, lambda: put(saver, "ana", step=1))

        with behaviour("an error of the statement itself is raised at once"), shop(seconds=30) as (saver, admin, pool):
            idea = "What is wrong with the statement itself is wrong the second time too: raise it, at once."
            for statement, error in (
                ("SELECT 1 / 0", "DivisionByZero"),
                ("SELECT * FROM nothing", "UndefinedTable"),
            ):
                for _ in range(2):
                    with refused(getattr(psycopg.errors, error), what=statement, idea=idea):
                        in_time(3, statement, idea, lambda statement=statement: saver.run(statement))
            idea = "Four statements failed on five connections. Each goes back into the pool, also after an error."
            all_back(pool, admin, idea)
            with no_error(expected="put stores a checkpoint", idea=idea):
                put(saver, "ana", step=1)

    def test_async_operations(self, work, behaviour, rng):
        """Test async state operations."""
        migrate_live = work.migrate_live
        customers = [f"customer-{number}" for number in range(12)]

        def old(count=12):
            saver = Distant()
            old_threads(saver, rng, customers[:count])
            return saver

        def run(*tasks):
            async def together():
                return await asyncio.gather(*(task() for task in tasks))

            idea = "It has not come back. A task that waits for a slot which nobody gives back waits for ever."
            with missed_within():
                return in_time(7, "`migrate_live`", idea, lambda: asyncio.run(together()))[0]

        with behaviour("every checkpoint of every thread has the new version"):
            saver = old()
            wanted = values_in_version_3(saver)
            changed = run(lambda: migrate_live(saver, desk_steps(), 3, limit=3))
            idea = "As `run` of task 2 does it, and awaited: values, stamp, parent, and what tasks wrote."
            expect(values_of(saver), wanted, idea)
            expect(changed, len(wanted), "It returns how many checkpoints it has changed.")
            changed = run(lambda: migrate_live(saver, desk_steps(), 3, limit=3))
            expect(changed, 0, "All have the version: nothing is left to do.")

        with behaviour("the states of subgraphs are taken along too"):
            saver = Distant()
            old_office(saver, "olga")
            run(lambda: migrate_live(saver, desk_steps(), 3, limit=3))
            idea = "This thread waits in a subgraph. A config with a thread_id alone lists all of its namespaces."
            expect({version for version, *_ in values_of(saver).values()}, {3}, idea)
            with no_error(expected="the office goes on", idea=idea):
                result = build_office(3, saver).invoke(Command(resume=True), thread("olga"))
            expect(result["notes"][-1], "v3 says: Olga gets 1234 cents in EUR", idea)

        with behaviour("at most `limit` at the same time, and not one after the other"):
            for limit in (1, 2, 5):
                saver = old()
                run(lambda saver=saver, limit=limit: migrate_live(saver, desk_steps(), 3, limit=limit))
                idea = f"limit={limit}: the storage has other work too. A semaphore lets so many in, and no more."
                if saver.most > limit:
                    raise Missed(expected=f"at most {limit} puts at once", came=f"{saver.most}", idea=idea)
                idea = f"limit={limit}, and 12 threads to work on: while one waits for the storage, others can go on."
                if limit > 1 and saver.most < 2:
                    raise Missed(expected="several puts at once", came="one after the other", idea=idea)

        with behaviour("the event loop is never blocked"):
            saver, heart, slow, stood = old(3), Heart(), Migrations(), []

            def patient(values):
                if stood or not heart.is_beating():  # once is enough: no thread waits again
                    stood.append(True)
                    idea = (
                        "A step took its time, and nothing else ran on the event loop meanwhile: no customer was "
                        "served. `await asyncio.to_thread(…)` runs it beside the loop."
                    )
                    raise Missed(expected="a loop that turns while a step works", came="it stands still", idea=idea)
                return to_2(values)

            slow.step(1, 2)(patient)

            async def with_a_heart():
                beating = asyncio.create_task(heart.beats())
                try:
                    return await migrate_live(saver, slow, 2, limit=2)
                finally:
                    beating.cancel()

            run(with_a_heart)

        def cancelled_at(*moments):
            """Cancel it when so many puts have begun. The saver, what there was before, and how much was left to do."""
            saver = old()
            before = values_of(saver)

            async def cancelled():
                task = asyncio.create_task(migrate_live(saver, desk_steps(), 3, limit=3))
                saver.at = dict.fromkeys(moments, task.cancel)
                with suppress(asyncio.CancelledError):
                    await task
                    return "it came back as if it had finished", saver.at_work
                at_work, begun = saver.at_work, saver.begun
                for _ in range(50):
                    await asyncio.sleep(0.001)
                return "cancelled", at_work or saver.begun - begun

            how, left = run(cancelled)
            expect(how, "cancelled", "Who is cancelled ends with CancelledError, once everything is in order.")
            idea = "`migrate_live` has ended, and some of its puts are still going on: wait for what was begun."
            expect(left, 0, idea)
            saver.at = {}
            return saver, before

        def threads_are_whole(saver, idea):
            for name in customers:
                versions = {state_version(found) for found in saver.list(thread(name))}
                expect(len(versions), 1, f"The thread {name!r} is half of version 1 and half of version 3. {idea}")

        with behaviour("cancelled midway, no thread is half done, and a second run finishes"):
            for moment in (1, rng.randint(5, 20)):
                saver, before = cancelled_at(moment)
                idea = "What was begun is finished before the cancellation goes on, and nothing new is begun."
                threads_are_whole(saver, idea)
                done = sum(version == 3 for version, *_ in values_of(saver).values())
                if done == len(before):
                    idea = "It was cancelled, and did all threads to the end. Only those at work are finished."
                    raise Missed(expected="threads that were not begun stay as they were", came="all done", idea=idea)
                changed = run(lambda saver=saver: migrate_live(saver, desk_steps(), 3, limit=3))
                expect(changed, len(before) - done, "A second run does what was left, and no more.")
                wanted = {name: in_version_3(held[1]) for name, held in before.items()}
                came = {name: held[1] for name, held in values_of(saver).items()}
                expect(came, wanted, "All is as if never stopped.")

        with behaviour("cancelled once more while it ends, no thread is half done either"):
            for moments in ((1, 4), (1, 3, 5, 7)):
                saver, _ = cancelled_at(*moments)
                idea = (
                    "It was cancelled while it waited for what was begun. `gather` hands a cancellation on to all it "
                    "waits for, `asyncio.wait` does not: wait again, until all are done."
                )
                threads_are_whole(saver, idea)

        with behaviour("an error of one thread is not swallowed"):
            saver, fragile = old(4), Migrations()
            unlucky = saver.get_tuple(thread(customers[2])).checkpoint["channel_values"]["customer"]

            def step(values):
                if values.get("customer") == unlucky:
                    raise KeyError("discount")
                return to_2(values)

            fragile.step(1, 2)(step)
            idea = "A step fails for one customer. An operator has to know: the error comes out of `migrate_live`."
            with refused(Exception, what="a migration with a step that fails", idea=idea):
                run(lambda: migrate_live(saver, fragile, 2, limit=2))

        with behaviour("an agent goes on talking meanwhile"):
            saver = old()
            desk = build_desk(3, UpcastingSaver(saver, desk_steps(), 3))
            head = saver.get_tuple(thread(customers[1])).checkpoint["channel_values"]
            answers = []

            async def talk():
                for _ in range(3):
                    await asyncio.to_thread(
                        desk.invoke, {"name": "Ana", "cents": 7, "currency": "CHF"}, thread(customers[1])
                    )
                    result = await asyncio.to_thread(desk.invoke, Command(resume=True), thread(customers[1]))
                    answers.append(result["notes"][-1])

            run(lambda: migrate_live(saver, desk_steps(), 3, limit=3), talk)
            idea = "The desk of version 3 talks on a thread while its history is migrated: no turn is lost or undone."
            expect(answers, ["v3 says: Ana gets 7 cents in CHF"] * 3, idea)
            notes = saver.get_tuple(thread(customers[1])).checkpoint["channel_values"]["notes"]
            expect(notes[: len(head["notes"])], head["notes"], f"{idea} What was said before is still there.")
            expect(len(notes), len(head["notes"]) + 9, idea)
            expect({state_version(found) for found in saver.list(None)}, {3}, idea)


if __name__ == "__main__":
    pytest.main([__file__, "-v"])
