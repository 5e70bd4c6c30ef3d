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

    def answer(self, worked: str) -> str:
        """The worked answer with the mistake in it."""
        for old, new in self.patch.items():
            assert worked.count(old) == 1, f"the worked answer has changed: {old!r} is there {worked.count(old)} times"
            worked = worked.replace(old, new)
        return worked


@dataclass(frozen=True)
class Right:
    """A full answer, written differently, that must score full marks."""

    task: str
    how: str
    source: str

    def answer(self, worked: str) -> str:
        """This answer, in place of the worked one."""
        return self.source


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
        ("a read counts as a use", "the async methods", "a conversation that was kept"),
        ("that is read is in use", "her thread was read in between"),
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
    Wrong(
        "custom_memory_lru",
        "all savers share one order",
        {
            "        self.in_use = OrderedDict()  # thread ids, the one used longest ago first\n": "",
            "    def use(self, config):": "    in_use = OrderedDict()\n\n    def use(self, config):",
        },
        ("a new thread pushes out",),
        ("Savers share nothing",),
    ),
    Wrong(
        "custom_memory_lru",
        "room is made before it is known whether it is needed",
        {
            "        saved = super().put(": "        if len(self.in_use) >= self.max_threads:\n            self.delete_thread(next(iter(self.in_use)))\n        saved = super().put(",
        },
        ("a new thread pushes out",),
        ("these threads should be held",),
    ),
    Wrong(
        "custom_memory_lru",
        "reads in a namespace of its own are no uses",
        {"        if found:\n": '        if found and not config["configurable"].get("checkpoint_ns"):\n'},
        ("a read counts as a use",),
        ("in whatever namespace",),
    ),
    Wrong(
        "custom_memory_lru",
        "a read of an older checkpoint is no use",
        {"        if found:\n": '        if found and "checkpoint_id" not in config["configurable"]:\n'},
        ("a read counts as a use",),
        ("by its checkpoint_id",),
    ),
    Wrong(
        "custom_memory_lru",
        "writes of a subgraph are no uses",
        {
            "        super().put_writes(config, writes, task_id, task_path)\n": (
                "        super().put_writes(config, writes, task_id, task_path)\n"
                '        if not config["configurable"].get("checkpoint_ns"):\n    '
            )
        },
        ("pending writes",),
        ("in namespace 'refund:1'",),
    ),
    Wrong(
        "custom_memory_lru",
        "on_evict does not hear of what put_writes pushes out",
        {
            "        super().put_writes(config, writes, task_id, task_path)\n        self.use(config)": (
                "        super().put_writes(config, writes, task_id, task_path)\n"
                "        tell, self.on_evict = self.on_evict, None\n        self.use(config)\n        self.on_evict = tell"
            )
        },
        ("on_evict",),
        ("whatever pushed 'ana' out",),
    ),
    Wrong(
        "custom_memory_lru",
        "put_writes drops the task path",
        {"super().put_writes(config, writes, task_id, task_path)": "super().put_writes(config, writes, task_id)"},
        ("pending writes",),
        ("`task_path`",),
    ),
    Wrong(
        "custom_memory_lru",
        "keys that hold the thread id anywhere are removed",
        {
            "        super().delete_thread(thread_id)\n": (
                "        self.storage.pop(thread_id, None)\n        for table in (self.writes, self.blobs):\n"
                "            for key in [key for key in table if thread_id in key]:\n                del table[key]\n"
            )
        },
        ("nothing of an evicted thread",),
        ("the whole thread id",),
    ),
    Wrong(
        "custom_memory_lru",
        "threads whose id begins alike are removed",
        {
            "        super().delete_thread(thread_id)\n": (
                "        self.storage.pop(thread_id, None)\n        for table in (self.writes, self.blobs):\n"
                "            for key in [key for key in table if key[0].startswith(thread_id)]:\n"
                "                del table[key]\n"
            )
        },
        ("nothing of an evicted thread",),
        ("the whole thread id",),
    ),
    Wrong(
        "custom_memory_lru",
        "deleting a thread that is not there raises an error",
        {"self.in_use.pop(thread_id, None)": "del self.in_use[thread_id]"},
        ("on_evict", "the official conformance suite"),
        ("a thread that is not there does nothing", "the name before the colon"),
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
    Wrong(
        "memory_monitoring",
        "a level ends at 90 % of its limit already",
        {"total >= (0.9 * limit if already_on else limit)": "(total > 0.9 * limit if already_on else total >= limit)"},
        ("hovering at a limit",),
        ("not below it",),
    ),
    Wrong(
        "memory_monitoring",
        "after critical, the warning level has to be reached anew",
        {"worst_first.index(self.level) <= worst_first.index(level)": "self.level == level"},
        ("recovery",),
        ("had started on the way up",),
    ),
    Wrong(
        "memory_monitoring",
        "no hysteresis for critical",
        {"(0.9 * limit if already_on else limit)": '(0.9 * limit if already_on and level == "warning" else limit)'},
        ("hovering at a limit",),
        ("around the critical limit",),
    ),
    Wrong(
        "memory_monitoring",
        "critical ends at 90 % of its limit already",
        {
            "total >= (0.9 * limit if already_on else limit)": (
                '(total > 0.9 * limit if already_on and level == "critical"'
                " else total >= (0.9 * limit if already_on else limit))"
            )
        },
        ("hovering at a limit",),
        ("not below it",),
    ),
    Wrong(
        "memory_monitoring",
        "the counts are kept in a default argument",
        {"def stored_bytes(saver):": "def stored_bytes(saver, sizes=Counter()):", "    sizes = Counter()\n": ""},
        ("sample gives the bytes",),
        ("shared between calls",),
    ),
    Wrong(
        "memory_monitoring",
        "all monitors share one list of alerts",
        {"        self.alerts = []\n": "", "    def sample(self):": "    alerts = []\n\n    def sample(self):"},
        ("a jump past both limits", "hovering at a limit", "recovery"),
        ("Monitors share nothing",),
    ),
    Wrong(
        "memory_monitoring",
        "writes count only where there is a checkpoint",
        {
            "        for _, _, (_, data), _ in writes.values():\n            sizes": (
                "        for _, _, (_, data), _ in writes.values() if thread_id in sizes else ():\n            sizes"
            )
        },
        ("sample gives the bytes",),
        ("before its first checkpoint",),
    ),
    Wrong(
        "memory_monitoring",
        "what was weighed is thrown away",
        {
            "        total = sum(sizes.values())\n": "        total = sum(sizes.values())\n        self.saver.storage.clear()\n"
        },
        ("sample gives the bytes", "hovering", "recovery", "a limit that is reached", "a jump"),
        ("looks, and changes nothing",),
    ),
    # --- memory_compression ---
    Wrong(
        "memory_compression",
        "what is loaded has never left the process",
        {
            "import zlib\n": "import zlib\n\nKEPT = {}\n",
            "packed = zlib.compress(data)\n": 'packed = b"number %d" % len(KEPT)\n        KEPT[packed] = zlib.compress(data)\n',
            "unpacker = zlib.decompressobj()\n": (
                "unpacker = zlib.decompressobj()\n        if data not in KEPT:\n"
                '            raise ValueError("unknown")\n        data = KEPT[data]\n'
            ),
        },
        ("every state comes back",),
        ("Another process loads",),
    ),
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
        ("at most 20,000,000 bytes are in use",),
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
    Wrong(
        "memory_compression",
        "the inner type is taken for granted",
        {
            'return f"{kind}+zlib", packed': 'return "zlib", packed',
            'if not kind.endswith("+zlib"):': 'if kind != "zlib":',
            '(kind.removesuffix("+zlib"), unpacked)': '("msgpack", unpacked)',
        },
        ("every state comes back",),
        ("its own type back",),
    ),
    Wrong(
        "memory_compression",
        "a value of just max_bytes is refused",
        {"if len(unpacked) > self.max_bytes:": "if len(unpacked) >= self.max_bytes:"},
        ("a decompression bomb",),
        ("are not more than",),
    ),
    Wrong(
        "memory_compression",
        "the inner serializer gets the new type",
        {'(kind.removesuffix("+zlib"), unpacked)': "(kind, unpacked)"},
        ("every state comes back",),
        ("its own type back", "NotImplementedError: Unknown serialization type"),
    ),
    Wrong(
        "memory_compression",
        "what follows the end is taken for padding or a second member",
        {
            "import zlib": "import gzip\nimport io\nimport zlib",
            "zlib.compress(data)": "gzip.compress(data)",
            "        unpacker = zlib.decompressobj()\n": "",
            "unpacked = unpacker.decompress(data, self.max_bytes + 1)": (
                "unpacked = gzip.GzipFile(fileobj=io.BytesIO(data)).read(self.max_bytes + 1)"
            ),
            "except zlib.error as": "except (zlib.error, OSError, EOFError) as",
            "        if not unpacker.eof or unpacker.unused_data:": "        if not data:",
        },
        ("truncated and altered",),
        ("zero bytes",),
    ),
    Wrong(
        "memory_compression",
        "one unpacker for all values",
        {
            "        self.max_bytes = max_bytes\n": (
                "        self.max_bytes = max_bytes\n        self.unpacker = zlib.decompressobj()\n"
            ),
            "        unpacker = zlib.decompressobj()\n": "        unpacker = self.unpacker\n",
        },
        ("every state comes back",),
        ("a second one does not", "between calls"),
    ),
    Wrong(
        "memory_compression",
        "one packer for all values",
        {
            "        self.max_bytes = max_bytes\n": (
                "        self.max_bytes = max_bytes\n        self.packer = zlib.compressobj()\n"
            ),
            "zlib.compress(data)": "self.packer.compress(data) + self.packer.flush()",
        },
        ("every state comes back",),
        ("a second one does not", "between calls"),
    ),
    Wrong(
        "memory_compression",
        "the inner type is what stands before the first plus sign",
        {'kind.removesuffix("+zlib")': 'kind.split("+")[0]'},
        ("every state comes back",),
        ("whatever they are called",),
    ),
    Wrong(
        "memory_compression",
        "rstrip takes letters of the inner type along",
        {'kind.removesuffix("+zlib")': 'kind.rstrip("+zlib")'},
        ("every state comes back",),
        ("whatever they are called",),
    ),
    Wrong(
        "memory_compression",
        "a plus sign in the type means compressed",
        {'if not kind.endswith("+zlib"):': 'if "+" not in kind:'},
        ("bytes from before compression",),
        ("'msgpack+aes'",),
    ),
    Wrong(
        "memory_compression",
        "zlib anywhere in the type means compressed",
        {'if not kind.endswith("+zlib"):': 'if "zlib" not in kind:'},
        ("bytes from before compression",),
        ("'blobzlib'",),
    ),
    Wrong(
        "memory_compression",
        "plain values longer than max_bytes are refused",
        {
            "        kind, data = typed\n": (
                "        kind, data = typed\n        if len(data) > self.max_bytes:\n"
                '            raise ValueError("too long")\n'
            )
        },
        ("bytes from before compression",),
        ("nothing is unpacked",),
    ),
    Wrong(
        "memory_compression",
        "only msgpack is compressed",
        {"if len(data) < self.threshold:": 'if kind != "msgpack" or len(data) < self.threshold:'},
        ("a real conversation",),
        ("whatever its type",),
    ),
    Wrong(
        "memory_compression",
        "what is stored is the key of a table in the process",
        {
            '        return f"{kind}+zlib", packed\n': (
                '        zlib.__dict__.setdefault("table", {})[packed[-60:]] = packed\n'
                '        return f"{kind}+zlib", packed[-60:]\n'
            ),
            "            unpacked = unpacker.decompress(data, self.max_bytes + 1)\n": (
                "            data = zlib.table.get(data, data)\n"
                "            unpacked = unpacker.decompress(data, self.max_bytes + 1)\n"
            ),
        },
        ("every state comes back",),
        ("Another process loads what this one has stored",),
    ),
    # --- memory_analytics ---
    Wrong(
        "memory_analytics",
        "a duration that is no number",
        {'"duration": (last - first).total_seconds()': '"duration": float("nan")'},
        ("duration",),
        ("Take the oldest and the newest",),
    ),
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
        "a checkpoint that forks twice counts once",
        {"sum(children - 1 for children in parents.values())": "sum(children > 1 for children in parents.values())"},
        ("forks",),
        ("Each child",),
    ),
    Wrong(
        "memory_analytics",
        "only a message from an earlier checkpoint counts as a fork, and no update_state",
        {
            '["checkpoint_id"] for each in found if each.parent_config)': '["checkpoint_id"] for each in found if each.parent_config and each.metadata["source"] != "update")',
        },
        ("forks",),
        ("Each child", "update_state of an earlier checkpoint"),
    ),
    Wrong(
        "memory_analytics",
        "every pending write counts as an interrupt",
        {
            'any(channel == "__interrupt__" for _, channel, _ in found[0].pending_writes)': "bool(found[0].pending_writes)",
        },
        ("interrupted",),
        ("the result of a task that is done",),
    ),
    Wrong(
        "memory_analytics",
        "the report is made, and not returned",
        {"    return report": "    pass"},
        ("turns",),
        ("could not use what your code returned",),
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
    Wrong(
        "memory_analytics",
        "days are left out of the duration",
        {"(last - first).total_seconds()": "(last - first).seconds + (last - first).microseconds / 1e6"},
        ("duration",),
        ("days",),
    ),
    Wrong(
        "memory_analytics",
        "what is no step is a turn",
        {'"turns": sources["input"]': '"turns": len(found) - sources["loop"]'},
        ("turns",),
        ("update_state",),
    ),
    Wrong(
        "memory_analytics",
        "what is no turn is a step",
        {'"steps": sources["loop"]': '"steps": len(found) - sources["input"]'},
        ("steps",),
        ("update_state",),
    ),
    Wrong(
        "memory_analytics",
        "every write to a channel of LangGraph's own is an interrupt",
        {'channel == "__interrupt__" for': 'channel.startswith("__") for'},
        ("interrupted",),
        ("`__error__`",),
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
    Right(
        "custom_memory_lru",
        "a clock and min(), native async methods, eviction by the caller",
        """
import itertools


class LRUMemorySaver(InMemorySaver):
    clock = itertools.count()

    def __init__(self, max_threads: int, on_evict=None, *args, **options):
        if int(max_threads) < 1:
            raise ValueError(f"{max_threads=}")
        super().__init__(*args, **options)
        self.max_threads, self.on_evict, self.used = max_threads, on_evict, dict()

    def _used(self, config):
        self.used[config["configurable"]["thread_id"]] = next(self.clock)

    def _shrink(self):
        while len(self.used) > self.max_threads:
            victim = min(self.used, key=self.used.get)
            self.delete_thread(victim)
            if self.on_evict is not None:
                self.on_evict(victim)

    def put(self, config, checkpoint, metadata, new_versions):
        self._used(config)
        self._shrink()
        return super().put(config, checkpoint, metadata, new_versions)

    def put_writes(self, config, writes, task_id, task_path=""):
        self._used(config)
        self._shrink()
        super().put_writes(config, writes, task_id, task_path)

    def get_tuple(self, config):
        result = super().get_tuple(config)
        if result is None:
            return None
        self._used(config)
        return result

    async def aget_tuple(self, config):
        return self.get_tuple(config)

    async def aput(self, config, checkpoint, metadata, new_versions):
        return self.put(config, checkpoint, metadata, new_versions)

    async def aput_writes(self, config, writes, task_id, task_path=""):
        self.put_writes(config, writes, task_id, task_path)

    def delete_thread(self, thread_id):
        super().delete_thread(thread_id)
        if thread_id in self.used:
            del self.used[thread_id]

    async def adelete_thread(self, thread_id):
        self.delete_thread(thread_id)
""",
    ),
    Right(
        "memory_monitoring",
        "a table of ranks, defaultdict, and percent as whole numbers",
        """
from collections import defaultdict

RANK = {"ok": 0, "warning": 1, "critical": 2}


def stored_bytes(saver):
    held = defaultdict(int)
    for thread_id in list(saver.storage):
        for namespace in saver.storage[thread_id]:
            for entry in saver.storage[thread_id][namespace].values():
                held[thread_id] += sum(len(data) for _, data in entry[:2])
    for (thread_id, _, _, _), (_, data) in saver.blobs.items():
        held[thread_id] += len(data)
    for (thread_id, _, _), tasks in saver.writes.items():
        for _, _, typed, _ in tasks.values():
            held[thread_id] += len(typed[1])
    return {thread_id: size for thread_id, size in held.items() if size}


class MemoryMonitor:
    def __init__(self, saver, warn_bytes, critical_bytes):
        self.saver = saver
        self.bounds = [("warning", warn_bytes), ("critical", critical_bytes)]
        self.level = "ok"
        self.alerts = []

    def sample(self):
        held = stored_bytes(self.saver)
        total, now = sum(held.values()), "ok"
        for level, bound in self.bounds:
            started = total >= bound
            kept = RANK[self.level] >= RANK[level] and not total * 100 < bound * 90
            if started or kept:
                now = level
        if now != self.level:
            self.alerts.append((now, total))
        self.level = now
        return held
""",
    ),
    Right(
        "memory_compression",
        "bz2, unpacked in pieces, behind a prefix",
        """
import bz2


class CompressedSerializer:
    MARK = "bz2:"

    def __init__(self, inner, threshold=1024, max_bytes=64 * 2**20):
        self.inner, self.threshold, self.max_bytes = inner, threshold, max_bytes

    def dumps_typed(self, obj):
        kind, data = self.inner.dumps_typed(obj)
        if len(data) >= self.threshold and len(packed := bz2.compress(data)) < len(data):
            return self.MARK + kind, packed
        return kind, data

    def loads_typed(self, typed):
        kind, data = typed
        if not kind.startswith(self.MARK):
            return self.inner.loads_typed(typed)
        unpacker, out = bz2.BZ2Decompressor(), b""
        try:
            out = unpacker.decompress(data, self.max_bytes + 1)
            while not unpacker.eof and len(out) <= self.max_bytes:
                more = unpacker.decompress(b"", self.max_bytes + 1 - len(out))
                if not more and unpacker.needs_input:
                    raise ValueError("cut short")
                out += more
        except (OSError, EOFError) as error:
            raise ValueError("damaged") from error
        if len(out) > self.max_bytes or unpacker.unused_data:
            raise ValueError("too long, or something follows")
        return self.inner.loads_typed((kind[len(self.MARK) :], out))
""",
    ),
    Right(
        "memory_compression",
        "lzma with its default preset, which takes some megabytes of its own",
        """
import lzma


class CompressedSerializer:
    MARK = "lzma:"

    def __init__(self, inner, threshold=1024, max_bytes=64 * 2**20):
        self.inner, self.threshold, self.max_bytes = inner, threshold, max_bytes

    def dumps_typed(self, obj):
        kind, data = self.inner.dumps_typed(obj)
        if len(data) >= self.threshold and len(packed := lzma.compress(data)) < len(data):
            return self.MARK + kind, packed
        return kind, data

    def loads_typed(self, typed):
        kind, data = typed
        if not kind.startswith(self.MARK):
            return self.inner.loads_typed(typed)
        unpacker, out = lzma.LZMADecompressor(format=lzma.FORMAT_XZ), b""
        try:
            out = unpacker.decompress(data, self.max_bytes + 1)
            while not unpacker.eof and len(out) <= self.max_bytes:
                more = unpacker.decompress(b"", self.max_bytes + 1 - len(out))
                if not more and unpacker.needs_input:
                    raise ValueError("cut short")
                out += more
        except (lzma.LZMAError, EOFError) as error:
            raise ValueError("damaged") from error
        if len(out) > self.max_bytes or unpacker.unused_data:
            raise ValueError("too long, or something follows")
        return self.inner.loads_typed((kind[len(self.MARK) :], out))
""",
    ),
    Right(
        "memory_monitoring",
        "sums and totals left as numpy's numbers, the edge as limit / 100 * 90",
        """
import numpy as np


class MemoryMonitor:
    def __init__(self, saver, warn_bytes, critical_bytes):
        self.saver, self.limits = saver, np.array([warn_bytes, critical_bytes])
        self.on, self.level, self.alerts = np.zeros(2, bool), "ok", []

    def sample(self):
        held = {}
        for thread_id, spaces in self.saver.storage.items():
            for space in spaces.values():
                for saved in space.values():
                    held.setdefault(thread_id, []).extend(len(pair[1]) for pair in saved[:2])
        for key, pair in self.saver.blobs.items():
            held.setdefault(key[0], []).append(len(pair[1]))
        for key, tasks in self.saver.writes.items():
            for task in tasks.values():
                held.setdefault(key[0], []).append(len(task[2][1]))
        sizes = {thread_id: np.sum(lengths) for thread_id, lengths in held.items()}
        total = np.sum(list(sizes.values()), dtype=np.int64)
        self.on = np.where(self.on, total >= self.limits / 100 * 90, total >= self.limits)
        level = ["ok", "warning", "critical"][max(np.flatnonzero([True, *self.on]))]
        if level != self.level:
            self.level = level
            self.alerts.append((level, total))
        return sizes
""",
    ),
    Right(
        "memory_analytics",
        "small functions that read the three dictionaries themselves",
        """
from collections import Counter, defaultdict
from datetime import datetime


def tasks_of(checkpoint):
    for channel in checkpoint.get("updated_channels") or ():
        match channel.split(":"):
            case ["branch", "to", node]:
                yield node
            case ["__pregel_tasks"]:
                yield from (send.node for send in checkpoint["channel_values"][channel])


def branches(found):
    children = defaultdict(set)
    for each in found:
        if each.parent_config is not None:
            children[each.parent_config["configurable"]["checkpoint_id"]].add(each.config["configurable"]["checkpoint_id"])
    return sum(max(0, len(ids) - 1) for ids in children.values())


def session_report(saver):
    def row(thread_id):
        found = sorted(
            saver.list({"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}),
            key=lambda each: each.config["configurable"]["checkpoint_id"],
        )
        times = [datetime.fromisoformat(each.checkpoint["ts"]) for each in found]
        size = 0
        for spaces in saver.storage[thread_id].values():
            size += sum(len(a[1]) + len(b[1]) for a, b, _ in spaces.values())
        size += sum(len(pair[1]) for key, pair in saver.blobs.items() if key[0] == thread_id)
        size += sum(len(w[2][1]) for key, ws in saver.writes.items() if key[0] == thread_id for w in ws.values())
        return dict(
            turns=len([1 for each in found if each.metadata["source"] == "input"]),
            steps=len([1 for each in found if each.metadata["source"] == "loop"]),
            bytes=size,
            duration=(times[-1] - times[0]).total_seconds(),
            nodes=Counter(node for each in found for node in tasks_of(each.checkpoint)),
            forks=branches(found),
            interrupted="__interrupt__" in {channel for _, channel, _ in found[-1].pending_writes or []},
        )

    threads = {each.config["configurable"]["thread_id"] for each in saver.list(None)}
    return {thread_id: row(thread_id) for thread_id in sorted(threads)}
""",
    ),
]
