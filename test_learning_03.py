#!/usr/bin/env python3
"""Test file for Learning Plan 3: State Stores and Persistence.

`pytest test_learning_03.py` judges your notebooks; `--work DIR` judges the notebooks in another folder. Each
`with behaviour(...)` is one thing that a task asks for, judged whatever becomes of the others.
"""

import asyncio
import gzip
import lzma
import tracemalloc
import zlib
from collections import OrderedDict
from datetime import datetime
from numbers import Real

import pytest
import zstandard
from langgraph.checkpoint.base import uuid6
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Command

from learning.agent import ORDERS, build_agent
from learning.course.expect import Missed, expect, no_error, refused
from learning.course.scenarios import (
    History,
    Renamed,
    a_checkpoint,
    ask,
    fill,
    passes_conformance,
    put,
    shorten,
    sizes,
    some_states,
    stored,
    thread,
    use,
)


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
            saver, model = LRUMemorySaver(max_threads=3), OrderedDict()
            for step in range(150):
                customer = rng.choice(customers)
                if rng.random() < 0.4:
                    put(saver, customer, step=step)
                    use(model, customer, 3)
                    did = "put"
                else:
                    found = saver.get_tuple(thread(customer))
                    expect(found is not None, customer in model, f"Does `get_tuple` find the thread {customer!r}?")
                    if customer in model:
                        use(model, customer, 3)
                    did = "get_tuple"
                expect(
                    sorted(stored(saver)),
                    sorted(model),
                    f"These threads should be held after `{did}` on {customer!r}. A conversation that is read is in "
                    "use; a read that finds nothing takes no place and pushes nobody out.",
                )

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

        with behaviour("on_evict hears of each evicted thread, once and in order"):
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
            with no_error(expected="`delete_thread('nobody')` does nothing", idea=idea):
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
            expect(monitor.sample(), sizes(saver), idea)
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
                if inner.dumps_typed(came) != inner.dumps_typed(expected):
                    raise Missed(expected=shorten(expected), came=shorten(came), idea=idea)
            for kind in ("msgpack+aes", "blobzlib"):
                serde = CompressedSerializer(Renamed(kind), threshold=200)
                idea = f"Other serializers may be inside, whatever they are called: the type of this one is {kind!r}."
                with no_error(expected=shorten(long_text), idea=idea):
                    came = serde.loads_typed(serde.dumps_typed(long_text))
                expect(came == long_text, True, idea)

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
            held = {}
            for name, serde in (("plain", inner), ("compressed", CompressedSerializer(inner, threshold=200))):
                saver = InMemorySaver(serde=serde)
                agent = build_agent(saver)
                for turn in range(25):
                    ask(agent, "ana", f"Where are orders {1001 + turn % 4} and {1001 + turn % 3}?")
                question = ask(agent, "ana", "Please refund order 1001")
                expect(question, "Refund 249.00 EUR for order 1001?", "The agent should work with this serializer.")
                result = agent.invoke(Command(resume=True), thread("ana"))
                expect(result["refunded"], ORDERS["1001"]["price"], "The agent should resume with this serializer.")
                held[name] = sum(sizes(saver).values())
            if held["compressed"] * 4 > held["plain"]:
                raise Missed(
                    expected=f"at most {held['plain'] // 4} bytes (a quarter of {held['plain']})",
                    came=f"{held['compressed']} bytes",
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
                expect(came == long_text, True, idea)
            idea = "`max_bytes` limits what unpacking gives: of a plain value nothing is unpacked, however long it is."
            with no_error(expected=shorten(long_text), idea=idea):
                came = CompressedSerializer(inner, max_bytes=1_000).loads_typed(inner.dumps_typed(long_text))
            expect(came == long_text, True, idea)
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
                harmless = "altered" in how and came == long_text  # a bit that means nothing to the format
                if not harmless:
                    raise Missed(expected=f"bytes {how} raise a ValueError", came=shorten(came), idea=idea)

        with behaviour("a decompression bomb is refused before it fills the memory"):
            kind, bomb = CompressedSerializer(inner, threshold=200, max_bytes=10**9).dumps_typed("0" * 50_000_000)
            serde = CompressedSerializer(inner, threshold=200, max_bytes=1_000_000)
            idea = "A few bytes can unpack to gigabytes: unpack no more than `max_bytes`, and refuse what is longer."
            tracemalloc.start()
            try:
                with refused(ValueError, what=f"loading {len(bomb)} bytes that unpack to 50,000,000", idea=idea):
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
                expect(came == text, True, idea)
            serde = CompressedSerializer(inner, threshold=200, max_bytes=size - 1)
            idea = "One byte more than `max_bytes` is too much."
            with refused(ValueError, what=f"loading {size} bytes with max_bytes={size - 1}", idea=idea):
                serde.loads_typed(CompressedSerializer(inner, threshold=200).dumps_typed(text))

    def test_memory_analytics(self, work, behaviour, rng):
        """Test memory-based session analytics."""
        session_report = work.session_report
        saver = InMemorySaver()
        history = History(saver, rng)
        for customer in ("ana", "ben", "cleo"):
            for _ in range(rng.randint(5, 8)):
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
            told = [(saver, customer) for customer in history.told] + [(long_ago, "finn")]
            for where, customer in told:
                stamps = [datetime.fromisoformat(found.checkpoint["ts"]) for found in where.list(thread(customer))]
                came = session_report(where).get(customer, {}).get("duration")
                expected = (max(stamps) - min(stamps)).total_seconds()
                if not isinstance(came, Real) or abs(float(came) - expected) > 1e-5:
                    idea = (
                        "Take the oldest and the newest `ts` of namespace '', and give the seconds between them, days "
                        "and fractions included."
                    )
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

        with behaviour("a thread that holds nothing is not reported"):
            build_agent(saver).get_state(thread("nobody"))
            idea = "'nobody' was looked for but never spoke. An InMemorySaver makes an empty entry on such a look."
            expect(sorted(session_report(saver)), sorted(history.told), idea)
            expect(session_report(InMemorySaver()), {}, "An empty saver has no sessions.")


@pytest.mark.skip(reason="comes with lesson 02_redis")
class TestRedisStorage:
    """Test Redis-based state persistence."""

    def test_redis_cluster(self):
        """Test Redis cluster for high availability."""

    def test_redis_serialization(self):
        """Test custom serialization for complex states."""

    def test_redis_session_management(self):
        """Test Redis-based session management."""

    def test_redis_monitoring(self):
        """Test Redis monitoring and health checks."""


@pytest.mark.skip(reason="comes with lesson 03_postgresql")
class TestPostgreSQLStorage:
    """Test PostgreSQL-based state persistence."""

    def test_postgres_schema(self):
        """Test PostgreSQL schema for state storage."""

    def test_postgres_versioning(self):
        """Test state versioning and migration."""

    def test_postgres_analytics(self):
        """Test state analytics and reporting."""

    def test_postgres_backup(self):
        """Test backup and recovery procedures."""


@pytest.mark.skip(reason="comes with lesson 04_custom_storage")
class TestCustomStorage:
    """Test custom storage backends."""

    def test_file_storage(self):
        """Test file-based storage system."""

    def test_s3_storage(self):
        """Test S3-based state storage."""

    def test_hybrid_storage(self):
        """Test hybrid storage system."""

    def test_custom_monitoring(self):
        """Test custom storage monitoring."""


@pytest.mark.skip(reason="comes with lesson 05_migration")
class TestStateMigration:
    """Test state migration and versioning."""

    def test_state_versioning(self):
        """Test state versioning system."""

    def test_migration_tools(self):
        """Test migration tools for schema changes."""

    def test_backward_compatibility(self):
        """Test backward compatibility support."""

    def test_state_validation(self):
        """Test state validation and repair tools."""


class TestPerformanceOptimization:
    """Test performance optimization for state operations."""

    @pytest.mark.skip(reason="comes with lesson 02_redis")
    def test_batch_operations(self):
        """Test batch state operations."""

    @pytest.mark.skip(reason="comes with lesson 04_custom_storage")
    def test_caching_strategies(self):
        """Test caching strategies for state access."""

    @pytest.mark.skip(reason="comes with lesson 03_postgresql")
    def test_connection_pooling(self):
        """Test connection pooling for database operations."""

    @pytest.mark.skip(reason="comes with lesson 05_migration")
    def test_async_operations(self):
        """Test async state operations."""


if __name__ == "__main__":
    pytest.main([__file__, "-v"])
