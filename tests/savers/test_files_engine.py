"""Threads in files: they mean what threads in memory mean, and survive kills, power cuts, damage and a full disk."""

import asyncio
import errno
import fcntl
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from learning.faults.disk import Disk, restore
from learning.savers.engines import files, memory
from learning.savers.engines.files import FilesEngine
from learning.savers.engines.memory import MemoryEngine, Shelf
from learning.savers.errors import SaverError, StorageFull, Unreadable
from learning.savers.records import Batch, Drop, Get, Place, Put, PutWrites, Read, Record, Remove, Request, Scan, Sweep
from learning.services.server import wait_for

OWNERS = [b"owner--A", b"owner--B"]
THREADS = [owner + bytes([number]) * 12 for owner in OWNERS for number in range(2)]
THREAD = THREADS[0]
SPACE = b"space--0"
IDS = [f"1f0{number:02}" for number in range(30)]


# --- requests by chance -----------------------------------------------------------------------------------------------


def item(number: int) -> tuple[bytes, Record]:
    """An item whose name says all of its content, as those of a saver do. Half of them need another."""
    name = number.to_bytes(16)
    data = random.Random(number).randbytes(number * 37 % 900)
    return name, Record(data, (item(number // 2)[0],) if number % 2 and number > 1 else ())


def some_items(chance: random.Random) -> dict[bytes, Record]:
    numbers = [chance.randrange(60) for _ in range(chance.randrange(4))]
    return dict(item(number) for number in [*numbers, *(number // 2 for number in numbers)])


def request(chance: random.Random, threads: list[bytes], epochs: dict[bytes, int], ttl: bool) -> Request:
    """Any request, with the epochs that a saver would know."""
    thread = chance.choice(threads)
    places = [Place(thread, chance.choice([SPACE, b"space--1"]), chance.choice(IDS)) for _ in range(4)]
    items = some_items(chance)
    common = {
        "place": places[0],
        "items": items,
        "name": b"name of " + thread,
        "epoch": chance.choice([None, epochs.get(thread), epochs.get(thread), 77]),
        "new_epoch": chance.randrange(100, 2**48),
        "lineage": chance.choice([None, None, chance.choice(IDS)]),
        "seconds": chance.choice([None, None, 5.0, 50.0]) if ttl else None,
    }

    def record() -> Record:
        return Record(chance.randbytes(chance.randrange(300)), tuple(items))

    match chance.choice(
        ["put"] * 8 + ["writes"] * 4 + ["get", "read", "scan", "remove"] + ["drop"] * (chance.random() < 0.3)
    ):
        case "put":
            extends = chance.choice([None, None, None, "", chance.choice(IDS)])
            return Put(record=record(), extends=extends, run=chance.choice([b"", b"r" * 16]), **common)
        case "writes":
            tasks = [(chance.choice(["task a", "task b"]), chance.randrange(-2, 3)) for _ in range(chance.randrange(4))]
            return PutWrites(writes={task: record() for task in tasks}, **common)
        case "get":
            return Get(thread, SPACE, chance.choice([None, *IDS]))
        case "read":
            return Read(thread, places)
        case "scan":
            return Scan(
                owner=chance.choice(OWNERS),
                thread=chance.choice([None, thread]),
                space=chance.choice([None, SPACE]),
                below=chance.choice([None, places[0]]),
                before=chance.choice([None, chance.choice(IDS)]),
                run=chance.choice([None, None, b"r" * 16]),
                count=chance.choice([1, 3, 100]),
            )
        case "remove":
            return Remove(thread, places, chance.randrange(100, 2**48))
        case _:
            return Drop(thread, chance.choice(IDS), 20.0 if ttl else 1e9)


def requests(seed: int, count: int, *, threads: list[bytes] = THREADS, ttl: bool = False) -> list[Request]:
    """A sequence in which each request knows what a saver would know by then."""
    chance = random.Random(seed)
    epochs: dict[bytes, int] = {}
    engine = Model()
    made = []
    for _ in range(count):
        made.append(request(chance, threads, epochs, ttl))
        answer = engine.perform(made[-1])
        if isinstance(made[-1], Put | PutWrites) and answer.kind == "stored":
            epochs[made[-1].place.thread] = answer.epoch
    return made


# --- comparing with memory --------------------------------------------------------------------------------------------


class Model(MemoryEngine):
    """Threads in memory, where one that is not there is not there either after it has refused something."""

    def perform(self, request: Request) -> object:
        answer = super().perform(request)
        self._shelves = {key: shelf for key, shelf in self._shelves.items() if shelf.name or shelf.ends is not None}
        return answer


def plain(answer: object) -> object:
    """An answer where no rows are no rows, be they in a list or in a tuple."""
    return replace(answer, rows=tuple(answer.rows)) if isinstance(answer, Batch) else answer


def shelf_of(engine: FilesEngine | Model, thread: bytes) -> Shelf | None:
    """All that an engine knows of a thread."""
    if isinstance(engine, Model):
        shelf = engine._shelf(thread)
    else:
        with engine._log(thread).reading() as shelf:
            pass
    if shelf is None:
        return None
    order = {space: list(ids) for space, ids in shelf.order.items() if ids}
    writes = {place: dict(tasks) for place, tasks in shelf.writes.items()}
    return replace(shelf, order=order, rows=dict(shelf.rows), items=dict(shelf.items), writes=writes)


def state(engine: FilesEngine | Model) -> list[Shelf | None]:
    return [shelf_of(engine, thread) for thread in THREADS]


def states(sequence: list[Request]) -> list[list[Shelf | None]]:
    """What there is before the first request and after each."""
    engine = Model()
    found = [state(engine)]
    for each in sequence:
        engine.perform(each)
        found.append(state(engine))
    return found


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless it is set."""
    now = SimpleNamespace(now=1_000_000.0)
    for module in (files, memory):
        monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: now.now))
    return now


@pytest.mark.parametrize("seed", range(20))
def test_answers_are_those_of_memory(tmp_path, clock, monkeypatch, seed):
    monkeypatch.setattr(files, "SMALL", 2000)
    chance = random.Random(seed)
    model, engines = Model(), [FilesEngine(tmp_path, cached=cached) for cached in (1, 3)]
    for each in requests(seed, 400, ttl=True):
        clock.now += chance.choice([0, 0, 1, 10])
        if chance.random() < 0.05:
            engines[chance.randrange(2)] = FilesEngine(tmp_path, cached=2)
        assert plain(chance.choice(engines).perform(each)) == plain(model.perform(each)), each
        if chance.random() < 0.1:
            assert state(chance.choice(engines)) == state(model)
    assert state(FilesEngine(tmp_path)) == state(model)


def put(number: int, *, thread: bytes = THREAD, size: int = 500, **more) -> Put:
    """The checkpoint with this number, whose item and record say which they are."""
    name = number.to_bytes(16)
    data = random.Random(number).randbytes(size)
    values = {"name": b"a thread", "epoch": None, "new_epoch": 5} | more
    return Put(Place(thread, SPACE, f"{number:08}"), Record(data[:40], (name,)), {name: Record(data)}, **values)


def numbers(engine: FilesEngine, thread: bytes = THREAD, size: int = 500) -> list[int]:
    """The numbers of all checkpoints there are, each of which is found whole."""
    rows = engine.perform(Scan(owner=thread[:8], thread=thread, count=10**6))
    batch = engine.perform(Read(thread, [row.place for row in rows]))
    for row in batch.rows:
        wanted = put(int(row.place.id), thread=thread, size=size)
        assert (row.record, batch.items[row.record.needs[0]]) == (wanted.record, *wanted.items.values())
    return [int(row.place.id) for row in reversed(batch.rows)]


def numbered(number: int) -> bytes:
    """The thread with this number."""
    return OWNERS[0] + number.to_bytes(12)


def log_of(folder: Path, thread: bytes = THREAD) -> Path:
    return folder / thread.hex()[-2:] / f"{thread.hex()}.log"


def test_what_is_there_again_is_not_stored_twice(tmp_path):
    engine = FilesEngine(tmp_path)
    engine.perform(put(1))
    before = log_of(tmp_path).stat().st_size
    engine.perform(replace(put(2), items=put(1).items))
    assert log_of(tmp_path).stat().st_size - before < 200


def test_superseded_bytes_do_not_stay(tmp_path):
    engine = FilesEngine(tmp_path)
    for number in range(400):
        engine.perform(replace(put(1), record=Record(bytes([number % 256]) * 1000), items={}))
    assert log_of(tmp_path).stat().st_size < 3 * files.SMALL


def test_removed_bytes_do_not_stay(tmp_path):
    engine = FilesEngine(tmp_path)
    for number in (1, 2):
        engine.perform(put(number))
    assert engine.perform(Remove(THREAD, [put(1).place], 6)) == 1
    left = log_of(tmp_path).read_bytes()
    assert put(1).record.data not in left and put(2).record.data in left
    engine.perform(Drop(THREAD, "5", 60.0))
    assert log_of(tmp_path).stat().st_size < 100
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [log_of(tmp_path).name]


def test_expired_threads_and_refused_ones_leave_no_file(tmp_path, clock):
    engine = FilesEngine(tmp_path)
    engine.perform(put(1, seconds=10.0))
    clock.now += 11
    assert numbers(engine) == [] and log_of(tmp_path).exists()
    assert engine.perform(put(2, epoch=5)).kind == "stale"
    assert not log_of(tmp_path).exists()
    assert engine.perform(put(2, epoch=5)).kind == "stale"
    assert engine.perform(Remove(THREAD, [put(1).place], 6)) == 0
    assert not log_of(tmp_path).exists()


def test_a_sweep_removes_the_files_of_expired_threads_and_no_others(tmp_path, clock):
    engine = FilesEngine(tmp_path)
    engine.perform(put(1, seconds=50))
    engine.perform(put(1, thread=THREADS[1]))
    assert engine.perform(Sweep()) == 0
    clock.now += 60

    assert FilesEngine(tmp_path).perform(Sweep()) == 1
    assert not log_of(tmp_path).exists()
    assert numbers(FilesEngine(tmp_path), THREADS[1]) == [1]
    assert FilesEngine(tmp_path).perform(Sweep()) == 0


def test_only_what_is_new_is_read(tmp_path, monkeypatch):
    one, other = FilesEngine(tmp_path), FilesEngine(tmp_path)
    for number in range(50):
        one.perform(put(number))
    assert len(numbers(other)) == 50
    sizes = []
    monkeypatch.setattr(files, "lay", lambda shelf, body, lay=files.lay: (sizes.append(len(body)), lay(shelf, body)))
    one.perform(put(50))
    assert len(numbers(other)) == 51 and len(sizes) == 1
    assert len(numbers(one)) == 51 and len(sizes) == 1
    one.perform(Remove(THREAD, [put(0).place], 6))
    assert len(numbers(other)) == 50 and len(sizes) == 2


def test_threads_are_forgotten_in_turn(tmp_path):
    engine = FilesEngine(tmp_path, cached=3)
    threads = [numbered(number) for number in range(9)]
    for thread in threads:
        engine.perform(put(1, thread=thread))
    assert list(engine._logs) == threads[-3:]
    assert len(engine.perform(Scan(owner=OWNERS[0], count=5))) == 5
    assert len(engine.perform(Scan(owner=OWNERS[0]))) == 9
    assert set(engine._logs) == set(threads[-3:])
    engine.close()
    assert numbers(engine, threads[0]) == [1]


# --- kill -9 ----------------------------------------------------------------------------------------------------------

WORKER = """
import sys
sys.path.insert(0, {tests!r})
from test_files_engine import *
"""


def worker(code: str, *arguments: object) -> subprocess.Popen:
    """Another process that runs code with the names of this module."""
    program = WORKER.format(tests=str(Path(__file__).parent)) + code
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def storing(folder: Path, sequence: list[Request], done: int) -> tuple[int, int]:
    """A new process that performs requests and tells after each how many are done: its id, and where it tells it."""
    told, tell = os.pipe()
    process = os.fork()
    if process:
        os.close(tell)
        return process, told
    try:
        engine = FilesEngine(folder)
        for number in range(done, len(sequence)):
            engine.perform(sequence[number])
            os.write(tell, b"%d\n" % (number + 1))
    finally:
        os._exit(0)


def killed_at_random(folder: Path, rounds: int, seed: int = 1) -> int:
    """Kill a process that stores, again and again, and compare what it leaves with what it was told is stored."""
    sequence = requests(seed, 100 * rounds)
    chance = random.Random(seed)
    model, done, inside = Model(), 0, 0
    for _ in range(rounds):
        known = done
        process, told = storing(folder, sequence, done)
        with open(told) as lines:
            for _ in range(chance.randrange(12)):
                done = int(lines.readline())
            time.sleep(chance.uniform(0, 0.003))
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            stored = max([done, *map(int, lines)])
        for each in sequence[known:stored]:
            model.perform(each)
        done = stored
        found = state(FilesEngine(folder))
        if found != state(model):
            model.perform(sequence[done])
            done += 1
            inside += 1
            assert found == state(model)
        assert done < len(sequence) - 1
    print(f"{rounds} kills, {done} requests, {inside} stored but not acknowledged")
    return done


def test_killed_at_random(tmp_path, clock):
    assert killed_at_random(tmp_path, 30) > 60


# --- power cuts -------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process ends here."""


class Cuts(Disk):
    """A disk that does something at each moment, and on which nothing happens any more once the process is killed."""

    def __init__(self, root: Path, *, seed: int, forgets: str, cut: Callable[[], None]):
        super().__init__(root, seed=seed, sector=64, forgets=self.is_forgotten)  # even small frames are torn
        self.kind = forgets
        self.cut = cut
        self.dead = self.busy = False

    def is_forgotten(self, path: Path) -> bool:
        kind = "root" if path == self.folder else "subfolder" if path.is_dir() else path.suffix
        return kind == self.kind

    def happens(self, name, arguments, done):
        if self.busy:  # with what a cut has left
            return
        if self.dead:
            raise Killed
        super().happens(name, arguments, done)

    def moment(self):
        self.busy = True
        try:
            self.cut()
        finally:
            self.busy = False


class ShortWrites:
    """The module `os`, whose `write` may write only half of what it is given."""

    def __getattr__(self, name: str):
        return getattr(os, name)

    def write(self, fd, data):
        return os.write(fd, data[: len(data) // 2] if len(data) > 200 and random.random() < 0.3 else data)


def with_power_cuts(tmp_path: Path, monkeypatch, seed: int, forgets: str = "", kills: float = 0.02) -> int:
    """Perform requests, kill the process at some of them, and cut the power at each moment; return how often."""
    chance = random.Random(seed)
    random.seed(seed)
    sequence = requests(seed, 60, threads=THREADS[:2])
    wanted = states(sequence)
    root = tmp_path / "root"
    root.mkdir()
    cuts = done = 0

    def cut() -> None:
        nonlocal cuts
        for image in disk.now():
            cuts += 1
            target = restore(image, tmp_path / f"cut {cuts}")
            engine = FilesEngine(target)
            assert state(engine) in wanted[done : done + 2]
            engine.perform(sequence[done])
            assert state(engine) == wanted[done + 1] == state(FilesEngine(target))
        if chance.random() < kills:
            disk.dead = True
            raise Killed

    monkeypatch.setattr(files, "os", ShortWrites())
    with Cuts(root, seed=seed, forgets=forgets, cut=cut) as disk:
        engine = FilesEngine(root)
        while done < len(sequence):
            try:
                engine.perform(sequence[done])
                done += 1
            except Killed:
                disk.dead = False
                engine = FilesEngine(root)
    return cuts


@pytest.mark.parametrize("seed", range(8))
def test_power_cuts(tmp_path, clock, monkeypatch, seed):
    monkeypatch.setattr(files, "SMALL", 2000)
    assert with_power_cuts(tmp_path, monkeypatch, seed) > 150


@pytest.mark.parametrize("forgets", [".log", ".new", "subfolder", "root"])
def test_power_cuts_are_seen_where_a_sync_is_left_out(tmp_path, clock, monkeypatch, forgets):
    with pytest.raises((AssertionError, Unreadable)):
        with_power_cuts(tmp_path, monkeypatch, 1, forgets)


def test_power_cuts_are_seen_where_a_writer_trusts_what_another_has_left(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(files._Log, "_durable", property(lambda log: True, lambda log, value: None), raising=False)
    with pytest.raises((AssertionError, Unreadable)):
        for seed in range(20):
            (tmp_path / str(seed)).mkdir()
            with_power_cuts(tmp_path / str(seed), monkeypatch, seed, kills=0.3)


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def log(tmp_path):
    """A log of four frames, and where the last begins."""
    engine = FilesEngine(tmp_path)
    for number in range(3):
        engine.perform(put(number, size=60))
    begin = log_of(tmp_path).stat().st_size
    engine.perform(put(3, size=60))
    return SimpleNamespace(folder=tmp_path, path=log_of(tmp_path), data=log_of(tmp_path).read_bytes(), begin=begin)


def test_a_torn_frame_is_ignored_and_cut_off(log):
    warm = FilesEngine(log.folder)
    for end in range(log.begin, len(log.data)):
        for tail in (b"", bytes(50), files.MARK * 9, b"?" + log.data[log.begin :]):
            log.path.write_bytes(log.data[:end] + tail)
            assert numbers(warm, size=60) == numbers(FilesEngine(log.folder), size=60) == [0, 1, 2]
        assert FilesEngine(log.folder).perform(put(4, size=60)).kind == "stored"
        assert numbers(warm, size=60) == numbers(FilesEngine(log.folder), size=60) == [0, 1, 2, 4]


def test_a_changed_byte_before_the_last_frame_is_told(log):
    for at in range(log.begin):
        for bit in (0, 7):
            data = bytearray(log.data)
            data[at] ^= 1 << bit
            log.path.write_bytes(data)
            for each in (Get(THREAD, SPACE, None), put(9, size=60), Remove(THREAD, [], 9), Scan(owner=THREAD[:8])):
                with pytest.raises(Unreadable, match=log.path.name):
                    FilesEngine(log.folder).perform(each)
            assert log.path.read_bytes() == data


def test_a_damaged_thread_keeps_no_other_from_being_swept(log):
    data = bytearray(log.data)
    data[40] ^= 1
    log.path.write_bytes(data)
    engine = FilesEngine(log.folder)
    engine.perform(put(1, thread=THREADS[1], size=60, seconds=0.001))
    wait_for(lambda: not engine.perform(Get(THREADS[1], SPACE, None)).rows, "its time is up", 10)

    assert FilesEngine(log.folder).perform(Sweep()) == 1
    assert log.path.read_bytes() == data


def test_what_looks_like_damage_is_looked_at_again(log, monkeypatch):
    """A reader may see a part of a torn frame, and behind it a part of what a writer has put in its place."""
    damaged = [log.data[:200] + b"?" + log.data[201:]]

    def take(self, data: bytes, take=files._Log._take) -> None:
        take(self, damaged.pop() if damaged else data)

    monkeypatch.setattr(files._Log, "_take", take)
    assert numbers(FilesEngine(log.folder), size=60) == [0, 1, 2, 3]


def test_a_file_that_is_cut_before_its_first_frame_ends_is_told(log):
    for end in range(1, 60):
        log.path.write_bytes(log.data[:end])
        with pytest.raises(Unreadable, match=log.path.name):
            FilesEngine(log.folder).perform(Get(THREAD, SPACE, None))


def test_a_damaged_thread_can_be_dropped(log):
    log.path.write_bytes(b"?" + log.data[1:])
    FilesEngine(log.folder).perform(Drop(THREAD, "", 60.0))
    assert numbers(FilesEngine(log.folder)) == []


def test_a_file_that_was_restored_is_read_anew(log):
    engine = FilesEngine(log.folder)
    assert numbers(engine, size=60) == [0, 1, 2, 3]
    log.path.write_bytes(log.data[: log.begin])
    assert numbers(engine, size=60) == [0, 1, 2]
    engine.perform(put(5, size=60))
    log.path.unlink()
    assert numbers(engine, size=60) == []
    log.path.write_bytes(log.data)
    assert numbers(engine, size=60) == [0, 1, 2, 3]


# --- a full disk, and a broken one ------------------------------------------------------------------------------------


class Broken:
    """Calls of the system, of which one fails; a write that fails has written a part."""

    def __init__(self, fails: int, code: int):
        self.left = fails
        self.code = code

    def __getattr__(self, name: str):
        real = getattr(os, name)
        if name not in ("write", "fsync", "replace", "ftruncate"):
            return real

        def call(*arguments):
            self.left -= 1
            if self.left == 0:
                if name == "write":
                    os.write(arguments[0], arguments[1][: len(arguments[1]) // 2])
                raise OSError(self.code, os.strerror(self.code))
            return real(*arguments)

        return call


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_each_call_of_the_system_may_fail(tmp_path, clock, monkeypatch, code):
    monkeypatch.setattr(files, "SMALL", 2000)
    sequence = requests(3, 150, threads=THREADS[:2])
    wanted = states(sequence)
    engine, other = FilesEngine(tmp_path), FilesEngine(tmp_path)
    failed = 0
    for number, each in enumerate(sequence):
        for fails in range(1, 20):
            with monkeypatch.context() as patch:
                patch.setattr(files, "os", Broken(fails, code))
                if fails % 2:  # what another process sees of a frame that is not on disk, and will not be
                    real = files._sync
                    patch.setattr(files, "_sync", lambda file, real=real: (state(other), real(file)))
                try:
                    engine.perform(each)
                    break
                except SaverError as error:
                    failed += 1
                    assert type(error) in (SaverError, StorageFull) and str(tmp_path) in str(error)
                    assert ("The disk is full" in str(error)) == (code == errno.ENOSPC)
            assert state(engine) == state(other) == state(FilesEngine(tmp_path))
            assert state(engine) in wanted[number : number + 2]
        assert state(engine) == state(other) == wanted[number + 1]
    assert failed > 200


def test_files_may_not_grow(tmp_path):
    """The kernel's own limit for a file: a write that goes beyond is cut short, and the next one fails."""
    process = worker(
        """
import resource
engine = FilesEngine(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, -1))
stored = 0
try:
    while True:
        engine.perform(put(stored))
        stored += 1
except SaverError as error:
    assert type(error) is StorageFull and "The disk is full" in str(error)
assert stored > 50 and numbers(engine) == numbers(FilesEngine(Path(sys.argv[1]))) == list(range(stored))
assert log_of(Path(sys.argv[1])).stat().st_size < 50_000
assert engine.perform(put(0, thread=THREADS[1])).kind == "stored"
resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
engine.perform(put(stored))
print(stored)
""",
        tmp_path,
    )
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert numbers(FilesEngine(tmp_path)) == list(range(int(printed) + 1))


def test_a_full_file_system(tmp_path):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("Only root may mount a small file system.")
    try:
        engine, stored = FilesEngine(tmp_path), 0
        with pytest.raises(SaverError, match="The disk is full"):
            while True:
                engine.perform(put(stored))
                stored += 1
        assert stored > 50 and numbers(engine) == numbers(FilesEngine(tmp_path)) == list(range(stored))
        with pytest.raises(SaverError, match="The disk is full"):
            engine.perform(Remove(THREAD, [put(0).place], 6))  # it needs room for the new file
        assert numbers(engine) == list(range(stored))
        assert not list(tmp_path.rglob("*.new"))
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    engine = FilesEngine(tmp_path / "file" / "folder")
    for call in (engine.setup, lambda: engine.perform(put(1))):
        with pytest.raises(SaverError, match="The disk does not do as it is told: Not a directory"):
            call()


# --- many at once -----------------------------------------------------------------------------------------------------

STORE = """
engine, first = FilesEngine(Path(sys.argv[1])), int(sys.argv[2])
for number in range(first, first + 300):
    assert engine.perform(put(number)).kind == "stored"
    if number % 10 == 9:
        assert engine.perform(Remove(THREAD, [put(number - 5).place], number)) == 1
    if number % 50 == 49:
        time.sleep(0.01)
"""


def test_processes_that_store_in_one_thread_at_once(tmp_path):
    processes = [worker(STORE, tmp_path, first) for first in (0, 1000, 2000)]
    engine = FilesEngine(tmp_path)
    seen: set[int] = set()
    while any(process.poll() is None for process in processes):
        now = set(numbers(engine))
        assert {number for number in seen - now if number % 10 != 4} == set()
        seen = now
    for process in processes:
        process.stdout.close()
        assert process.wait() == 0
    wanted = [first + number for first in (0, 1000, 2000) for number in range(300) if number % 10 != 4]
    assert numbers(engine) == numbers(FilesEngine(tmp_path)) == wanted


def test_processes_that_make_the_same_threads_at_once(tmp_path):
    """Some of them new, and some where an expired file has to go first."""
    code = """
engine, first, begin = FilesEngine(Path(sys.argv[1])), int(sys.argv[2]), float(sys.argv[3])
for number in range(200):
    time.sleep(max(0, begin + number * 0.005 - time.time()))
    assert engine.perform(put(first + number, thread=numbered(number))).kind == "stored"
    if first:
        assert engine.perform(Remove(numbered(number), [put(1).place], first)) == 0
"""
    engine = FilesEngine(tmp_path)
    for number in range(0, 200, 2):
        engine.perform(put(5000, thread=numbered(number), seconds=-1.0))
    begin = time.time() + 1.5
    processes = [worker(code, tmp_path, first, begin) for first in (0, 1000, 2000)]
    for process in processes:
        process.stdout.close()
        assert process.wait() == 0
    for number in range(200):
        assert numbers(engine, numbered(number)) == [number, 1000 + number, 2000 + number]


def test_a_new_file_is_locked_until_it_is_certain_to_stay(tmp_path, monkeypatch):
    """Else another writer might tell that something is stored in it, and a power cut bring the old one back."""
    looked = []

    def look(folder: Path, sync=files._sync_folder) -> None:
        if folder == log_of(tmp_path).parent and log_of(tmp_path).stat().st_size:
            with open(log_of(tmp_path)) as file, pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            looked.append(folder)
        sync(folder)

    monkeypatch.setattr(files, "_sync_folder", look)
    engine = FilesEngine(tmp_path)
    engine.perform(put(1))
    engine.perform(Remove(THREAD, [put(1).place], 6))
    engine.perform(Drop(THREAD, "", 60.0))
    assert len(looked) == 3


def test_threads_that_use_one_engine_at_once(tmp_path):
    engine = FilesEngine(tmp_path, cached=1)
    failures: list[BaseException] = []

    def store(first: int) -> None:
        try:
            for number in range(first, first + 100):
                engine.perform(put(number))
                engine.perform(put(number, thread=THREADS[1]))
                engine.perform(Get(THREAD, SPACE, None))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=store, args=(first,)) for first in (0, 1000, 2000, 3000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(numbers(engine)) == len(numbers(engine, THREADS[1])) == 400


# --- LangGraph --------------------------------------------------------------------------------------------------------


def test_the_official_suite(tmp_path, capsys):
    from langgraph.checkpoint.conformance import validate  # here, for the processes above need not wait for it
    from langgraph.checkpoint.conformance.initializer import checkpointer_test

    from learning.savers.saver import Saver

    @checkpointer_test(name="files")
    async def savers():
        async with Saver(FilesEngine(tmp_path / str(random.random()))) as saver:
            yield saver

    report = asyncio.run(validate(savers))
    report.print_report()
    assert "FULL" in capsys.readouterr().out
