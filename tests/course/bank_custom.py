"""The same as `bank`, for lesson 4: what goes wrong with files, S3, tiers, metrics and caches, and right in another way."""

from .bank import Right, Wrong

NO_VERSION = "    def file_of(self, thread_id):\n"

WRONG_CUSTOM = [
    # --- file_storage ---
    Wrong(
        "file_storage",
        "writes in place",
        {'new = Path(f"{target}.new")': "new = Path(target)", "        os.replace(new, target)\n": ""},
        ("a process that is killed", "what was acknowledged"),
        ("Where a file is written in place, its old content is gone",),
    ),
    Wrong(
        "file_storage",
        "renames without a sync of the file",
        {"            os.fsync(file.fileno())\n": ""},
        ("what was acknowledged",),
        ("sync the file (`flush`, then `os.fsync`) before you rename it",),
    ),
    Wrong(
        "file_storage",
        "syncs before it flushes",
        {"            file.flush()\n": ""},
        ("what was acknowledged",),
        ("sync the file (`flush`, then `os.fsync`) before you rename it",),
    ),
    Wrong(
        "file_storage",
        "does not sync the folder after a write",
        {"        os.replace(new, target)\n        self.sync_folder()\n": "        os.replace(new, target)\n"},
        ("what was acknowledged",),
        ("gets there with `os.fsync` of the folder",),
    ),
    Wrong(
        "file_storage",
        "does not sync the folder after a deletion",
        {"unlink(missing_ok=True)\n            self.sync_folder()\n": "unlink(missing_ok=True)\n"},
        ("what was deleted",),
        ("or gone, gets there with `os.fsync` of the folder",),
    ),
    Wrong(
        "file_storage",
        "the thread's id is the file's name",
        {"self.path / hashlib.sha256(thread_id.encode()).hexdigest()": "self.path / thread_id"},
        ("whatever a thread is called",),
        ("Never make a file's name of the id as it is",),
    ),
    Wrong(
        "file_storage",
        "slashes are taken out of the thread's id",
        {
            "hashlib.sha256(thread_id.encode()).hexdigest()": "('t' + thread_id.replace('/', '_').replace('\\0', '_'))[:200]"
        },
        ("whatever a thread is called",),
        ("no two ids may lead to the same file",),
    ),
    Wrong(
        "file_storage",
        "the thread's id is quoted, and too long for a file's name",
        {
            "hashlib.sha256(thread_id.encode()).hexdigest()": (
                "('t' + __import__('urllib.parse').parse.quote(thread_id, safe=''))"
            )
        },
        ("whatever a thread is called",),
        ("too long for a file",),
    ),
    Wrong(
        "file_storage",
        "a listing gives the names of files",
        {"yield self.unpack(file.read_bytes())[0]": "yield file.name"},
        ("whatever a thread is called",),
        ("A hash cannot be undone",),
    ),
    Wrong(
        "file_storage",
        "no lock",
        {
            '        with open(f"{self.file_of(thread_id)}.lock", "w") as lock:\n            fcntl.flock(lock, fcntl.LOCK_EX)  # given back when the file is closed\n            yield\n': "        yield\n"
        },
        ("two writers",),
        ("has to keep others out meanwhile", "Two processes"),
    ),
    Wrong(
        "file_storage",
        "a lock for the threads of one process",
        {
            '        with open(f"{self.file_of(thread_id)}.lock", "w") as lock:\n            fcntl.flock(lock, fcntl.LOCK_EX)  # given back when the file is closed\n            yield\n': (
                "        import threading\n"
                "        with self.__dict__.setdefault('lock', threading.Lock()):\n            yield\n"
            )
        },
        ("two writers",),
        ("Two processes",),
    ),
    Wrong(
        "file_storage",
        "a lock for processes alone",
        {"fcntl.flock(lock, fcntl.LOCK_EX)": "fcntl.lockf(lock, fcntl.LOCK_EX)"},
        ("two writers",),
        ("Two threads of one process",),
    ),
    Wrong(
        "file_storage",
        "one open lock file for all threads of the process",
        {
            '        with open(f"{self.file_of(thread_id)}.lock", "w") as lock:\n            fcntl.flock(lock, fcntl.LOCK_EX)  # given back when the file is closed\n            yield\n': (
                "        if 'lock' not in self.__dict__:\n"
                "            self.lock = open(self.path / 'all.lock', 'w')\n"
                "        fcntl.flock(self.lock, fcntl.LOCK_EX)\n"
                "        try:\n            yield\n"
                "        finally:\n            fcntl.flock(self.lock, fcntl.LOCK_UN)\n"
            )
        },
        ("two writers",),
        ("opened anew each time",),
    ),
    Wrong(
        "file_storage",
        "locks the file that is replaced",
        {
            'open(f"{self.file_of(thread_id)}.lock", "w")': 'open(self.file_of(thread_id), "a")',
            "            return self.unpack(self.file_of(thread_id).read_bytes())[1]\n": (
                "            stored = self.file_of(thread_id).read_bytes()\n"
                "            return self.unpack(stored)[1] if stored else None\n"
            ),
        },
        ("two writers",),
        ("on a file that is never replaced",),
    ),
    Wrong(
        "file_storage",
        "one new file for all threads",
        {'new = Path(f"{target}.new")': 'new = self.path / "all.new"'},
        ("two writers",),
        ("no two threads share a file",),
    ),
    Wrong(
        "file_storage",
        "no checksum",
        {
            "        return hashlib.sha256(content).digest() + content": "        return bytes(32) + content",
            "        if hashlib.sha256(content).digest() != checksum:\n": "        if checksum != bytes(32):\n",
        },
        ("a bit that is not as it was",),
        ("Store a checksum with the data",),
    ),
    Wrong(
        "file_storage",
        "damage counts as nothing there",
        {
            "        except FileNotFoundError:\n            return None": "        except (FileNotFoundError, ValueError):\n            return None"
        },
        ("a bit that is not as it was",),
        ("no such thread",),
    ),
    Wrong(
        "file_storage",
        "plain numbers as versions",
        {
            NO_VERSION: (
                "    def get_next_version(self, current, channel):\n        return (current or 0) + 1\n\n" + NO_VERSION
            )
        },
        ("the official conformance suite",),
        ("A plain number would give both the same one",),
    ),
    # --- s3_storage ---
    Wrong(
        "s3_storage",
        "the first page of a listing only",
        {'where = where | {"ContinuationToken": more} if more else None': "where = None"},
        ("a listing is read",),
        ("`NextContinuationToken` leads to the next page",),
    ),
    Wrong(
        "s3_storage",
        "tries for ever",
        {
            "for attempt in range(self.attempts):": "for attempt in map(lambda number: min(number, 9), __import__('itertools').count()):",
            " or attempt == self.attempts - 1": "",
        },
        ("a fault that lasts",),
        ("a saver that tries for ever",),
    ),
    Wrong(
        "s3_storage",
        "one attempt too many",
        {
            "range(self.attempts)": "range(self.attempts + 1)",
            "attempt == self.attempts - 1": "attempt == self.attempts",
        },
        ("a fault that lasts",),
        ("so many are made",),
    ),
    Wrong(
        "s3_storage",
        "tries again after every error",
        {
            "            return self.status_of(error) >= 500 or self.status_of(error) == 429\n": "            return True\n"
        },
        ("an error that stays",),
        ("Only what may pass is worth another attempt",),
    ),
    Wrong(
        "s3_storage",
        "gives up where no answer came",
        {"return isinstance(error, BotoCoreError)": "return False"},
        ("a fault that passes",),
        ("make the same request again",),
    ),
    Wrong(
        "s3_storage",
        "too many requests are taken for a refusal",
        {" or self.status_of(error) == 429": ""},
        ("a fault that passes",),
        ("500, 503 and 429",),
    ),
    Wrong(
        "s3_storage",
        "reads the body outside of the request",
        {
            '            answer = self.client.get_object(Bucket=self.bucket, Key=self.key_of(thread_id))\n            return answer["Body"].read(), answer["ETag"]  # reading may fail as well\n': (
                "            return self.client.get_object(Bucket=self.bucket, Key=self.key_of(thread_id))\n"
            ),
            "            return self.patiently(request)\n        except ClientError as error:\n            if self.status_of(error) == 404": (
                "            answer = self.patiently(request)\n"
                '            return answer["Body"].read(), answer["ETag"]\n'
                "        except ClientError as error:\n            if self.status_of(error) == 404"
            ),
        },
        ("a fault that passes",),
        ("Reading the body is a part of it",),
    ),
    Wrong(
        "s3_storage",
        "no pause",
        {"            self.sleep(random.uniform(0.5, 1) * 0.1 * 2**attempt)\n": ""},
        ("pauses grow",),
        ("gets room",),
    ),
    Wrong(
        "s3_storage",
        "always the same pause",
        {"random.uniform(0.5, 1) * 0.1 * 2**attempt": "0.1"},
        ("pauses grow",),
        ("each one after it up to twice as long",),
    ),
    Wrong(
        "s3_storage",
        "nothing at random",
        {"random.uniform(0.5, 1) * 0.1 * 2**attempt": "0.1 * 2**attempt"},
        ("pauses grow",),
        ("come back at the same moment",),
    ),
    Wrong(
        "s3_storage",
        "every error means that there is nothing",
        {
            "            if self.status_of(error) == 404:\n                return None, None\n            raise\n": "            return None, None\n"
        },
        ("a fault that lasts", "an error that stays"),
        ("would be taken for 'there is nothing'",),
    ),
    Wrong(
        "s3_storage",
        "reads, then writes, without a condition",
        {'{"IfMatch": etag} if etag else {"IfNoneMatch": "*"}': "{}"},
        ("two writers", "a repeat"),
        ("A put with a condition", "It has to have the same condition".lower()),
    ),
    Wrong(
        "s3_storage",
        "no condition for a thread that is new",
        {'{"IfMatch": etag} if etag else {"IfNoneMatch": "*"}': '{"IfMatch": etag} if etag else {}'},
        ("two writers",),
        ("not there yet",),
    ),
    Wrong(
        "s3_storage",
        "a condition that was not met counts as stored",
        {
            "gone, changed right now, or changed before\n                return False": "gone, changed right now, or changed before\n                return True"
        },
        ("two writers",),
        ("read again, and try again",),
    ),
    # --- hybrid_storage ---
    Wrong(
        "hybrid_storage",
        "the cold write is forgotten",
        {
            "result = getattr(self.cold, method)(config, *arguments)": "result = getattr(self.hot, method)(config, *arguments)"
        },
        ("what is put is in both", "the cold saver is gone"),
        ("Both savers are told", "The cold saver"),
    ),
    Wrong(
        "hybrid_storage",
        "the hot saver first",
        {
            "        try:\n            result = getattr(self.cold, method)(config, *arguments)\n        except Exception:\n            self.stale.add(thread_id)  # it may be stored all the same\n            raise\n        self.hot_does(thread_id, method, config, *arguments)\n        return result\n": (
                "        self.hot_does(thread_id, method, config, *arguments)\n"
                "        return getattr(self.cold, method)(config, *arguments)\n"
            )
        },
        ("the cold saver is gone",),
        ("tell the cold saver first, and then the hot one",),
    ),
    Wrong(
        "hybrid_storage",
        "a stale copy after an outage",
        {
            "        except Exception:\n            self.stale.add(thread_id)\n            return None": "        except Exception:\n            return None"
        },
        ("the hot saver is back",),
        ("with what it had before",),
    ),
    Wrong(
        "hybrid_storage",
        "the error of the hot saver is the customer's",
        {
            "        except Exception:\n            self.stale.add(thread_id)\n            return None": "        except Exception:\n            self.stale.add(thread_id)\n            raise"
        },
        ("the hot saver is gone",),
        ("its errors are not the customer's",),
    ),
    Wrong(
        "hybrid_storage",
        "an error of the cold saver at a read is swallowed",
        {
            "            found = self.cold.get_tuple(config)\n": (
                "            try:\n                found = self.cold.get_tuple(config)\n"
                "            except Exception:\n                return None\n"
            )
        },
        ("the cold saver is gone",),
        ("None would say that there is no such conversation",),
    ),
    Wrong(
        "hybrid_storage",
        "an error of the cold saver at a write is swallowed",
        {
            "            self.stale.add(thread_id)  # it may be stored all the same\n            raise\n": (
                "            result = {**config, 'configurable': config['configurable']}\n"
            )
        },
        ("the cold saver is gone",),
        ("what is acknowledged has to be in the cold saver",),
    ),
    Wrong(
        "hybrid_storage",
        "never warms the hot saver",
        {"                self.warm(found)\n": "                pass\n"},
        ("a cold read warms",),
        ("put it into the hot one, for the next read",),
    ),
    Wrong(
        "hybrid_storage",
        "warms with a checkpoint whose writes it leaves behind",
        {" and not found.pending_writes": ""},
        ("a cold read warms",),
        ("What tasks wrote after a checkpoint belongs to it",),
    ),
    Wrong(
        "hybrid_storage",
        "warms with an older checkpoint, as if it were the newest",
        {"if found and newest and not found.pending_writes": "if found and not found.pending_writes"},
        ("a cold read warms",),
        ("what is warmed is the newest",),
    ),
    Wrong(
        "hybrid_storage",
        "lists what the hot saver has",
        {
            "    def put(self, config": (
                "    def list(self, config, **options):\n        yield from self.hot.list(config, **options)\n\n    def put(self, config"
            )
        },
        ("a cold read warms",),
        ("A listing has to come from the one that has all",),
    ),
    Wrong(
        "hybrid_storage",
        "deletes in the cold saver only",
        {
            '        self.stale.add(thread_id)\n        self.cold.delete_thread(thread_id)\n        self.hot_does(thread_id, "delete_thread", thread_id)\n': "        self.cold.delete_thread(thread_id)\n"
        },
        ("what is put is in both",),
        ("is deleted in both",),
    ),
    Wrong(
        "hybrid_storage",
        "trusts the hot saver after an error of the cold one",
        {"            self.stale.add(thread_id)  # it may be stored all the same\n": ""},
        ("a put whose answer got lost",),
        ("had stored the checkpoint all the same",),
    ),
    Wrong(
        "hybrid_storage",
        "the path of a task is dropped",
        {
            'self.write("put_writes", config, writes, task_id, task_path)': 'self.write("put_writes", config, writes, task_id)'
        },
        ("what is put is in both",),
        ("hand on the `task_path` as well",),
    ),
    Wrong(
        "hybrid_storage",
        "says that it accepts, and refuses",
        {'cold_gone = "refuse"': 'cold_gone = "accept"'},
        ("the cold saver is gone",),
        ("With 'accept' a put is taken by the hot saver alone",),
    ),
    # --- custom_monitoring ---
    Wrong(
        "custom_monitoring",
        "the clock stops when a listing has been asked for",
        {
            '        with self.watch("list"):\n            yield from self.inner.list(config, **options)\n': (
                '        with self.watch("list"):\n            found = self.inner.list(config, **options)\n'
                "        yield from found\n"
            )
        },
        ("the time of the saver inside",),
        ("when its last checkpoint has come",),
    ),
    Wrong(
        "custom_monitoring",
        "a label with the thread's id",
        {
            '        with self.watch("put"):\n            stored = self.inner.put(': "        with self.watch(f\"put {config['configurable']['thread_id']}\"):\n            stored = self.inner.put("
        },
        ("what customers do",),
        ("A thread's id is none",),
    ),
    Wrong(
        "custom_monitoring",
        "the error's text is a label",
        {"self.errors.labels(method, type(error).__name__)": "self.errors.labels(method, f'{error} {id(error)}')"},
        ("an error is counted",),
        ("the name of the error's class",),
    ),
    Wrong(
        "custom_monitoring",
        "plain numbers as versions",
        {"return self.inner.get_next_version(current, channel)": "return super().get_next_version(current, channel)"},
        ("to LangGraph it is",),
        ("`get_next_version` has to be handed on too",),
    ),
    Wrong(
        "custom_monitoring",
        "the allowlist does not reach the saver inside",
        {
            "        clone = copy.copy(self)  # with the same metrics: a registry takes each name once\n        clone.inner = self.inner.with_allowlist(extra_allowlist)\n        clone.serde = clone.inner.serde\n        return clone\n": (
                "        return super().with_allowlist(extra_allowlist)\n"
            )
        },
        ("to LangGraph it is",),
        ("around what the saver inside gives for it",),
    ),
    Wrong(
        "custom_monitoring",
        "the same metrics are registered a second time",
        {
            "        clone = copy.copy(self)  # with the same metrics: a registry takes each name once\n        clone.inner = self.inner.with_allowlist(extra_allowlist)\n        clone.serde = clone.inner.serde\n        return clone\n": (
                "        return MonitoredSaver(self.inner.with_allowlist(extra_allowlist), self.registry)\n"
            ),
            "        self.inner = inner\n": "        self.inner, self.registry = inner, registry\n",
        },
        ("to LangGraph it is",),
        ("Duplicated timeseries", "with the same metrics"),
    ),
    Wrong(
        "custom_monitoring",
        "the allowlist changes the saver that it is called on",
        {"clone = copy.copy(self)": "clone = self"},
        ("to LangGraph it is",),
        ("is as it was",),
    ),
    Wrong(
        "custom_monitoring",
        "errors are swallowed",
        {
            "                self.errors.labels(method, type(error).__name__).inc()\n                raise\n": "                self.errors.labels(method, type(error).__name__).inc()\n"
        },
        ("an error is counted",),
        ("Whoever called has to hear of it",),
    ),
    Wrong(
        "custom_monitoring",
        "calls that raise are not timed",
        {
            "        with self.seconds.labels(method).time():\n            try:\n                yield\n": (
                "        import time\n        if True:\n            begin = time.perf_counter()\n            try:\n                yield\n"
                "                self.seconds.labels(method).observe(time.perf_counter() - begin)\n"
            )
        },
        ("an error is counted",),
        ("A call that raised is a call",),
    ),
    Wrong(
        "custom_monitoring",
        "who reads enough of a listing makes an error",
        {"except Exception as error:": "except BaseException as error:"},
        ("an error is counted",),
        ("needed no more. That is no error",),
    ),
    Wrong(
        "custom_monitoring",
        "counts the bytes of the object in memory",
        {"len(self.inner.serde.dumps_typed(checkpoint)[1])": "__import__('sys').getsizeof(checkpoint)"},
        ("bytes are counted",),
        ("as the `serde` of the saver inside gives them",),
    ),
    Wrong(
        "custom_monitoring",
        "a sync method inside an async one",
        {"stored = await self.inner.aput(": "stored = self.inner.put("},
        ("awaited calls",),
        ("await its async methods",),
    ),
    # --- caching_strategies ---
    Wrong(
        "caching_strategies",
        "remembers that there is nothing",
        {"if found is not None and changes ==": "if changes =="},
        ("that there is nothing",),
        ("begin the conversation again",),
    ),
    Wrong(
        "caching_strategies",
        "gives everybody the same object",
        {"return copy.deepcopy(self.found[key][1])": "return self.found[key][1]"},
        ("a caller that changes",),
        ("hand out copies",),
    ),
    Wrong(
        "caching_strategies",
        "the first reader gets the object that is remembered",
        {"self.found[key] = begin, copy.deepcopy(found)": "self.found[key] = begin, found"},
        ("a caller that changes",),
        ("also for a miss",),
    ),
    Wrong(
        "caching_strategies",
        "copies that are not deep",
        {"return copy.deepcopy(self.found[key][1])": "return copy.copy(self.found[key][1])"},
        ("a caller that changes",),
        ("deep ones",),
    ),
    Wrong(
        "caching_strategies",
        "what tasks write does not invalidate",
        {
            '            super().put_writes(config, writes, task_id, task_path)\n        finally:\n            self.forget(config["configurable"]["thread_id"])\n': (
                "            super().put_writes(config, writes, task_id, task_path)\n        finally:\n            pass\n"
            )
        },
        ("put, put_writes and delete_thread",),
        ("runs a task twice that was done",),
    ),
    Wrong(
        "caching_strategies",
        "forgets the newest checkpoint only",
        {"if key[0] == thread_id]": "if key[0] == thread_id and key[2] is None]"},
        ("put, put_writes and delete_thread",),
        ("It belongs to what `get_tuple` finds",),
    ),
    Wrong(
        "caching_strategies",
        "forgets only what was certainly changed",
        {
            '        try:\n            return super().put(config, checkpoint, metadata, new_versions)\n        finally:\n            self.forget(config["configurable"]["thread_id"])\n': (
                "        stored = super().put(config, checkpoint, metadata, new_versions)\n"
                '        self.forget(config["configurable"]["thread_id"])\n        return stored\n'
            )
        },
        ("put, put_writes and delete_thread",),
        ("may have stored its checkpoint all the same",),
    ),
    Wrong(
        "caching_strategies",
        "a hit starts the time anew",
        {
            "                    self.found.move_to_end(key)\n                    self.hits += 1\n": "                    self.found[key] = begin, self.found[key][1]\n                    self.found.move_to_end(key)\n                    self.hits += 1\n"
        },
        ("another writer's newer checkpoint",),
        ("a hit does not start it anew",),
    ),
    Wrong(
        "caching_strategies",
        "nothing ends by itself",
        {"if key in self.found and begin < self.found[key][0] + self.ttl:": "if key in self.found:"},
        ("another writer's newer checkpoint",),
        ("directly into the saver inside",),
    ),
    Wrong(
        "caching_strategies",
        "first in, first out",
        {
            "                    self.found.move_to_end(key)\n                    self.hits += 1\n": "                    self.hits += 1\n"
        },
        ("the checkpoint used longest ago",),
        ("a hit is a use too",),
    ),
    Wrong(
        "caching_strategies",
        "no limit",
        {"if len(self.found) > self.size:": "if False:"},
        ("the checkpoint used longest ago",),
        ("So many are remembered",),
    ),
    Wrong(
        "caching_strategies",
        "a stampede",
        {"        with reading:  #": "        if True:  #"},
        ("50 simultaneous misses",),
        ("a stampede",),
    ),
    Wrong(
        "caching_strategies",
        "one lock for all that is read",
        {
            "reading = self.reading.setdefault(key, threading.Lock())": "reading = self.reading.setdefault('', threading.Lock())"
        },
        ("50 simultaneous misses",),
        ("holds up no other",),
    ),
    Wrong(
        "caching_strategies",
        "remembers what was old when the read came back",
        {"if found is not None and changes == self.changes[key[0]]:": "if found is not None:"},
        ("what was being read when a put came",),
        ("Remember how often a thread has changed",),
    ),
    Wrong(
        "caching_strategies",
        "a lock that is not given back after an error",
        {
            "        with reading:  # one reads, and the others wait for what it finds\n": (
                "        reading.acquire()\n        if True:  # one reads, and the others wait for what it finds\n"
            ),
            "                    self.hits += 1\n": "                    self.hits += 1\n                    reading.release()\n",
            "                self.reading.pop(key, None)\n": "                reading.release()\n",
        },
        ("an error is told",),
        ("Give back each lock also after an error",),
    ),
    Wrong(
        "caching_strategies",
        "the namespace is not part of the question",
        {'named.get("checkpoint_ns", ""), named.get("checkpoint_id")': '"", named.get("checkpoint_id")'},
        ("what was read is answered",),
        ("thread, namespace and checkpoint id",),
    ),
]
RIGHT_CUSTOM: list[Right] = []
