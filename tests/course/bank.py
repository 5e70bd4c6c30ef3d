"""Wrong answers that a learner could plausibly give, and right ones that look different from the worked solution.

A wrong answer is a small patch of the worked solution: the behaviours it must lose, and the words its message must
contain, so that the message names the mistake and not only its symptom.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Wrong:
    """One mistake. `patch` replaces text of the worked answer; `loses` are beginnings of behaviours' names."""

    task: str
    mistake: str
    patch: dict[str, str]
    loses: tuple[str, ...]
    says: tuple[str, ...]


@dataclass(frozen=True)
class Right:
    """A full answer, written differently, that must score full marks."""

    task: str
    how: str
    source: str


WRONG = [
    # --- custom_memory_lru ---
    Wrong(
        "custom_memory_lru",
        "first in, first out",
        {"        self.in_use.move_to_end(thread_id)\n": ""},
        ("a new thread pushes out", "a read counts as a use", "pending writes"),
        ("each `put` makes it the newest",),
    ),
    Wrong(
        "custom_memory_lru",
        "reads are no uses",
        {"        if found:\n            self.use(config)\n": ""},
        ("a read counts as a use", "the async methods"),
        ("that is read is in use",),
    ),
    Wrong(
        "custom_memory_lru",
        "reads that find nothing are uses",
        {"        if found:\n            self.use(config)\n": "        self.use(config)\n"},
        ("a read counts as a use",),
        ("finds nothing takes no place",),
    ),
    Wrong(
        "custom_memory_lru",
        "a namespace counts as a thread of its own",
        {
            'thread_id = config["configurable"]["thread_id"]\n        self.in_use[thread_id] = True': (
                'key = config["configurable"]["thread_id"], config["configurable"].get("checkpoint_ns", "")\n'
                "        thread_id = key\n        self.in_use[key] = True"
            ),
            "self.delete_thread(oldest)": "self.in_use.pop(oldest); super().delete_thread(oldest[0])",
        },
        ("a new thread pushes out",),
        ("whatever namespaces it has",),
    ),
    Wrong(
        "custom_memory_lru",
        "only the checkpoints are removed",
        {"self.delete_thread(oldest)": "self.in_use.pop(oldest); self.storage.pop(oldest, None)"},
        ("a new thread pushes out", "nothing of an evicted thread"),
        ("`storage`, `blobs` and `writes`",),
    ),
    Wrong(
        "custom_memory_lru",
        "pending writes are forgotten",
        {
            "        super().put_writes(config, writes, task_id, task_path)\n        self.use(config)": (
                "        super().put_writes(config, writes, task_id, task_path)"
            )
        },
        ("pending writes",),
        ("`put_writes`",),
    ),
    Wrong(
        "custom_memory_lru",
        "one thread too many",
        {"> self.max_threads": "> self.max_threads + 1"},
        ("a new thread pushes out", "on_evict"),
        ("max_threads=1",),
    ),
    Wrong(
        "custom_memory_lru",
        "on_evict is called for every deletion",
        {
            "            self.delete_thread(oldest)\n            if self.on_evict:\n                self.on_evict(oldest)": (
                "            self.delete_thread(oldest)"
            ),
            "        self.in_use.pop(thread_id, None)": (
                "        self.in_use.pop(thread_id, None)\n        if self.on_evict:\n            self.on_evict(thread_id)"
            ),
        },
        ("on_evict",),
        ("that is no eviction",),
    ),
    Wrong(
        "custom_memory_lru",
        "a deleted thread keeps its place",
        {
            "        self.in_use.pop(thread_id, None)": "        pass",
            "            self.delete_thread(oldest)": "            self.in_use.pop(oldest)\n            self.delete_thread(oldest)",
        },
        ("on_evict",),
        ("free place",),
    ),
    Wrong(
        "custom_memory_lru",
        "put forgets to return the new config",
        {"        return saved": "        return None"},
        ("a new thread pushes out", "the official conformance suite"),
        ("`put` returns the config",),
    ),
    Wrong(
        "custom_memory_lru",
        "on_evict is called while the thread is still there",
        {
            "            self.delete_thread(oldest)\n            if self.on_evict:\n                self.on_evict(oldest)": (
                "            if self.on_evict:\n                self.on_evict(oldest)\n            self.delete_thread(oldest)"
            ),
        },
        ("on_evict",),
        ("nothing of the thread is left",),
    ),
    Wrong(
        "custom_memory_lru",
        "a serializer that is given is ignored",
        {"super().__init__(**options)": "super().__init__()"},
        ("the official conformance suite",),
        ("such as a serializer",),
    ),
    # --- memory_monitoring ---
    Wrong(
        "memory_monitoring",
        "the largest thread is compared, not the total",
        {"total = sum(sizes.values())": "total = max(sizes.values(), default=0)"},
        ("a limit that is reached",),
        ("all threads together",),
    ),
    Wrong(
        "memory_monitoring",
        "only blobs are counted",
        {"                sizes[thread_id] += len(checkpoint) + len(metadata)": "                pass"},
        ("sample gives the bytes",),
        ("every checkpoint, its metadata",),
    ),
    Wrong(
        "memory_monitoring",
        "pending writes are not counted",
        {
            "        for _, _, (_, data), _ in writes.values():\n            sizes[thread_id] += len(data)": "        pass"
        },
        ("sample gives the bytes",),
        ("every write",),
    ),
    Wrong(
        "memory_monitoring",
        "the limit has to be passed, not reached",
        {"if total >= (0.9 * limit if already_on else limit)": "if total > (0.9 * limit if already_on else limit)"},
        ("a limit that is reached",),
        ("equal is enough",),
    ),
    Wrong(
        "memory_monitoring",
        "no hysteresis",
        {"(0.9 * limit if already_on else limit)": "limit"},
        ("hovering at a limit",),
        ("90 %",),
    ),
    Wrong(
        "memory_monitoring",
        "an alert at every sample above the limit",
        {"        if level != self.level:": '        if level != "ok":'},
        ("a limit that is reached", "hovering at a limit", "recovery"),
        ("says so once",),
    ),
    Wrong(
        "memory_monitoring",
        "recovery is not told",
        {
            "            self.alerts.append((level, total))": (
                '            if level != "ok":\n                self.alerts.append((level, total))'
            )
        },
        ("recovery",),
        ("the recovery is told",),
    ),
    Wrong(
        "memory_monitoring",
        "a jump rings for each level it passes",
        {
            "            self.alerts.append((level, total))": (
                '            if self.level == "critical" and not self.alerts:\n'
                '                self.alerts.append(("warning", total))\n'
                "            self.alerts.append((level, total))"
            )
        },
        ("a jump past both limits",),
        ("one change of level",),
    ),
    Wrong(
        "memory_monitoring",
        "threads that hold nothing are listed",
        {
            "        for checkpoints in namespaces.values():": (
                "        sizes[thread_id] += 0\n        for checkpoints in namespaces.values():"
            )
        },
        ("sample gives the bytes",),
        ("neither holds anything",),
    ),
    # --- memory_compression ---
    Wrong(
        "memory_compression",
        "everything is compressed",
        {"        if len(data) < self.threshold:\n            return kind, data\n": ""},
        ("a small value",),
        ("Below the threshold",),
    ),
    Wrong(
        "memory_compression",
        "a value as long as the threshold is not compressed",
        {"len(data) < self.threshold": "len(data) <= self.threshold"},
        ("a small value",),
        ("is not shorter than a threshold",),
    ),
    Wrong(
        "memory_compression",
        "what grows is kept compressed",
        {"        if len(packed) >= len(data):\n            return kind, data\n": ""},
        ("what does not shrink",),
        ("grow when compressed",),
    ),
    Wrong(
        "memory_compression",
        "the type does not tell, loading guesses",
        {
            'return f"{kind}+zlib", packed': "return kind, packed",
            '        if not kind.endswith("+zlib"):\n            return self.inner.loads_typed(typed)\n': "",
            '            raise ValueError(f"compressed state is damaged: {error}") from error': (
                "            return self.inner.loads_typed(typed)"
            ),
        },
        ("bytes from before compression", "truncated and altered"),
        ("let the type, not the bytes",),
    ),
    Wrong(
        "memory_compression",
        "truncation goes unnoticed",
        {"        if not unpacker.eof or unpacker.unused_data:": "        if unpacker.unused_data:"},
        ("truncated and altered",),
        ("without its last byte",),
    ),
    Wrong(
        "memory_compression",
        "zlib's own error gets out",
        {
            "        try:\n            unpacked = unpacker": "        if True:\n            unpacked = unpacker",
            '        except zlib.error as error:\n            raise ValueError(f"compressed state is damaged: {error}") from error\n': "",
        },
        ("truncated and altered",),
        ("error", "as a ValueError"),
    ),
    Wrong(
        "memory_compression",
        "unpacks first, looks at the length afterwards",
        {"unpacker.decompress(data, self.max_bytes + 1)": "unpacker.decompress(data)"},
        ("a decompression bomb",),
        ("at most 10,000,000 bytes are in use",),
    ),
    Wrong(
        "memory_compression",
        "no limit at all",
        {
            "unpacker.decompress(data, self.max_bytes + 1)": "unpacker.decompress(data)",
            "        if len(unpacked) > self.max_bytes:": "        if False:",
        },
        ("a decompression bomb",),
        ("unpack no more than `max_bytes`",),
    ),
    Wrong(
        "memory_compression",
        "zstandard without a checksum",
        {
            "import zlib": "import zlib\nimport zstandard",
            "zlib.compress(data)": "zstandard.compress(data)",
            "        unpacker = zlib.decompressobj()\n": "        unpacker = zstandard.ZstdDecompressor().decompressobj()\n",
            "unpacker.decompress(data, self.max_bytes + 1)": "unpacker.decompress(data)",
            "except zlib.error": "except zstandard.ZstdError",
        },
        ("truncated and altered",),
        ("Damage must be noticed",),
    ),
    # --- memory_analytics ---
    Wrong(
        "memory_analytics",
        "the subgraph's checkpoints are counted too",
        {', "checkpoint_ns": ""}}': "}}"},
        ("turns", "steps"),
        ("namespace ''",),
    ),
    Wrong(
        "memory_analytics",
        "turns are counted in the newest state, other branches forgotten",
        {
            '"turns": sources["input"]': (
                '"turns": sum(each.type == "human" for each in found[0].checkpoint["channel_values"]["messages"])'
            )
        },
        ("turns",),
        ("source 'input'",),
    ),
    Wrong(
        "memory_analytics",
        "parallel lookups count once",
        {
            '[send.node for send in checkpoint["channel_values"][channel]]': (
                '{send.node for send in checkpoint["channel_values"][channel]}'
            )
        },
        ("nodes",),
        ("one for each Send",),
    ),
    Wrong(
        "memory_analytics",
        "lookups that were planned as Sends are not counted",
        {'            nodes += [send.node for send in checkpoint["channel_values"][channel]]': "            pass"},
        ("nodes",),
        ("__pregel_tasks",),
    ),
    Wrong(
        "memory_analytics",
        "every parent counts as a fork",
        {"sum(children - 1 for children in parents.values())": "len(parents)"},
        ("forks",),
        ("after its first",),
    ),
    Wrong(
        "memory_analytics",
        "an interrupt of long ago still counts",
        {
            'any(channel == "__interrupt__" for _, channel, _ in found[0].pending_writes)': (
                'any(channel == "__interrupt__" for each in found for _, channel, _ in each.pending_writes)'
            )
        },
        ("interrupted",),
        ("Only the newest",),
    ),
    Wrong(
        "memory_analytics",
        "threads that were only looked for are reported",
        {
            "    for thread_id, size in stored_bytes(saver).items():\n": (
                "    sizes = stored_bytes(saver)\n    for thread_id in list(saver.storage):\n"
                "        size = sizes.get(thread_id, 0)\n        report[thread_id] = {}\n"
            ),
            "        sources = Counter": "        if not found:\n            continue\n        sources = Counter",
        },
        ("a thread that holds nothing",),
        ("nobody",),
    ),
    Wrong(
        "memory_analytics",
        "the duration is that of the newest two checkpoints",
        {"for place in (-1, 0)": "for place in (1, 0)"},
        ("duration",),
        ("oldest and the newest",),
    ),
]

RIGHT = [
    Right(
        "custom_memory_lru",
        "a plain dict, and clearing the three dictionaries by hand",
        """
class LRUMemorySaver(InMemorySaver):
    def __init__(self, max_threads, on_evict=None, **kw):
        super().__init__(**kw)
        if not max_threads >= 1:
            raise ValueError("max_threads")
        self.n, self.cb, self.order = max_threads, on_evict or (lambda thread_id: None), {}

    def touch(self, thread_id):
        self.order.pop(thread_id, None)
        self.order[thread_id] = 1
        if len(self.order) > self.n:
            old = list(self.order)[0]
            del self.order[old]
            self.storage.pop(old, None)
            for table in (self.writes, self.blobs):
                for key in [key for key in table if key[0] == old]:
                    del table[key]
            self.cb(old)

    def put(self, config, *args, **kwargs):
        try:
            return super().put(config, *args, **kwargs)
        finally:
            self.touch(config["configurable"]["thread_id"])

    def put_writes(self, config, *args, **kwargs):
        self.touch(config["configurable"]["thread_id"])
        return super().put_writes(config, *args, **kwargs)

    def get_tuple(self, config):
        found = super().get_tuple(config)
        if found is not None:
            self.touch(config["configurable"]["thread_id"])
        return found

    def delete_thread(self, thread_id):
        self.order.pop(thread_id, None)
        return super().delete_thread(thread_id)
""",
    ),
    Right(
        "memory_monitoring",
        "two latches, and one sum over all pairs",
        """
class MemoryMonitor:
    def __init__(self, saver, warn_bytes, critical_bytes):
        self.saver, self.warn_bytes, self.critical_bytes = saver, warn_bytes, critical_bytes
        self.warning = self.critical = False
        self.last, self.alerts = "ok", []

    def sample(self):
        usage = {}

        def add(thread, *pairs):
            usage[thread] = usage.get(thread, 0) + sum(len(pair[1]) for pair in pairs)

        for thread, spaces in self.saver.storage.items():
            for space in spaces.values():
                for saved in space.values():
                    add(thread, saved[0], saved[1])
        for key, pair in self.saver.blobs.items():
            add(key[0], pair)
        for key, tasks in self.saver.writes.items():
            if tasks:
                add(key[0], *(task[2] for task in tasks.values()))
        total = sum(usage.values())
        self.warning = total >= self.warn_bytes or (self.warning and total >= self.warn_bytes * 0.9)
        self.critical = total >= self.critical_bytes or (self.critical and total >= self.critical_bytes * 0.9)
        level = "critical" if self.critical else "warning" if self.warning else "ok"
        if level != self.last:
            self.alerts.append((level, total))
        self.last = level
        return usage
""",
    ),
    Right(
        "memory_compression",
        "zstandard with a checksum, read as a stream",
        """
import io
import zstandard

class CompressedSerializer:
    def __init__(self, inner, threshold=1024, max_bytes=2**26):
        self.inner, self.threshold, self.max_bytes = inner, threshold, max_bytes

    def dumps_typed(self, obj):
        kind, data = self.inner.dumps_typed(obj)
        if len(data) >= self.threshold:
            small = zstandard.ZstdCompressor(write_checksum=True).compress(data)
            if len(small) < len(data):
                return "zstd:" + kind, small
        return kind, data

    def loads_typed(self, data):
        kind, raw = data
        if not kind.startswith("zstd:"):
            return self.inner.loads_typed(data)
        worker = zstandard.ZstdDecompressor().decompressobj()
        out = bytearray()
        try:
            for start in range(0, len(raw), 64):
                out += worker.decompress(raw[start : start + 64])
                if len(out) > self.max_bytes:
                    raise ValueError("too long")
        except zstandard.ZstdError as problem:
            raise ValueError("damaged") from problem
        if not worker.eof or worker.unused_data:
            raise ValueError("not whole")
        return self.inner.loads_typed((kind[5:], bytes(out)))
""",
    ),
    Right(
        "memory_analytics",
        "one pass over all checkpoints of the saver, without the worked helpers",
        """
from datetime import datetime as when

def session_report(saver):
    result = {}
    for item in saver.list(None):
        place = item.config["configurable"]
        if place["checkpoint_ns"]:
            continue
        row = result.setdefault(place["thread_id"], {
            "turns": 0, "steps": 0, "nodes": {}, "forks": 0, "stamps": [], "parents": [],
            "interrupted": "__interrupt__" in [write[1] for write in item.pending_writes],
        })
        row["turns"] += item.metadata["source"] == "input"
        row["steps"] += item.metadata["source"] == "loop"
        row["stamps"].append(when.fromisoformat(item.checkpoint["ts"]))
        if item.parent_config:
            row["parents"].append(item.parent_config["configurable"]["checkpoint_id"])
        for channel in item.checkpoint["updated_channels"]:
            names = [channel[10:]] if channel.startswith("branch:to:") else []
            if channel == "__pregel_tasks":
                names = [send.node for send in item.checkpoint["channel_values"]["__pregel_tasks"]]
            for name in names:
                row["nodes"][name] = row["nodes"].get(name, 0) + 1
    for thread_id, row in result.items():
        stamps, parents = row.pop("stamps"), row.pop("parents")
        row["duration"] = max(stamps).timestamp() - min(stamps).timestamp()
        row["forks"] = len(parents) - len(set(parents))
        row["bytes"] = sum(
            len(part[1]) for space in saver.storage[thread_id].values() for saved in space.values() for part in saved[:2]
        ) + sum(len(pair[1]) for key, pair in saver.blobs.items() if key[0] == thread_id) + sum(
            len(write[2][1]) for key, writes in saver.writes.items() if key[0] == thread_id for write in writes.values()
        )
    return result
""",
    ),
]
