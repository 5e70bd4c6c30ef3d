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
            "hashlib.sha256(thread_id.encode()).hexdigest()": "('t' + thread_id.replace('/', '_').replace('\\0', '_'))[:60]"
        },
        ("whatever a thread is called",),
        ("that a file of yours has already",),
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
        ("Store a checksum of all that is there",),
    ),
    Wrong(
        "file_storage",
        "a checksum of the data alone",
        {
            "return hashlib.sha256(content).digest() + content": "return hashlib.sha256(data).digest() + content",
            """        if hashlib.sha256(content).digest() != checksum:
            raise ValueError("the file of a thread is damaged")
        thread_id, _, data = content.partition(b"\\n")
""": """        thread_id, _, data = content.partition(b"\\n")
        if hashlib.sha256(data).digest() != checksum:
            raise ValueError("the file of a thread is damaged")
""",
        },
        ("a bit that is not as it was",),
        ("the thread's id too", "the listing of all threads"),
    ),
    Wrong(
        "file_storage",
        "damage that is an error of another kind",
        {'raise ValueError("the file': 'raise KeyError("the file'},
        ("a bit that is not as it was",),
        ("raise a ValueError", "KeyError"),
    ),
    Wrong(
        "file_storage",
        "a lock that is kept after an error",
        {
            """        with open(f"{self.file_of(thread_id)}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # given back when the file is closed
            yield
""": """        lock = os.open(f"{self.file_of(thread_id)}.lock", os.O_CREAT | os.O_RDWR)
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
        os.close(lock)
"""
        },
        ("an error leaves the lock open",),
        ("Give the lock back after an error too", "still waiting"),
    ),
    Wrong(
        "file_storage",
        "takes it that os.write writes all",
        {
            """        with open(new, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
""": """        file = os.open(new, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.write(file, content)
        os.fsync(file)
        os.close(file)
"""
        },
        ("a process that is killed",),
        ("`os.write` may write less than it was given",),
    ),
    Wrong(
        "file_storage",
        "syncs the folder above",
        {"os.open(self.path, os.O_RDONLY)": "os.open(self.path.parent, os.O_RDONLY)"},
        ("what was acknowledged", "what was deleted"),
        ("with `os.fsync` of the folder",),
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
    Wrong(
        "s3_storage",
        "only 412 says that the condition was not met",
        {"in (404, 409, 412)": "== 412"},
        ("two writers",),
        ("refused a put under a condition with 409",),
    ),
    Wrong(
        "s3_storage",
        "an object that has gone is an error of the put",
        {"in (404, 409, 412)": "in (409, 412)"},
        ("two writers",),
        ("refused a put under a condition with 404",),
    ),
    Wrong(
        "s3_storage",
        "the whole listing is asked for again",
        {
            """        where = {"Bucket": self.bucket, "Prefix": "threads/t"}
        while where:
            page = self.patiently(lambda: self.client.list_objects_v2(**where))  # noqa: B023
            for found in page.get("Contents", []):
                yield unquote(found["Key"].removeprefix("threads/t"))
            more = page.get("NextContinuationToken")
            where = where | {"ContinuationToken": more} if more else None
""": """        pages = self.client.get_paginator("list_objects_v2")
        where = {"Bucket": self.bucket, "Prefix": "threads/t"}
        for page in self.patiently(lambda: list(pages.paginate(**where))):
            for found in page.get("Contents", []):
                yield unquote(found["Key"].removeprefix("threads/t"))
"""
        },
        ("a listing is read",),
        ("ask for each one patiently",),
    ),
    Wrong(
        "s3_storage",
        "looks for the code NoSuchKey, which may be lost",
        {"if self.status_of(error) == 404:": 'if error.response["Error"]["Code"] == "NoSuchKey":'},
        ("a fault that passes",),
        ("the answer was cut in the middle", "Of a 404 that was cut only the status is left"),
    ),
    Wrong(
        "s3_storage",
        "each repeat has a condition of its own",
        {
            '        condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}\n': (
                "        def request():\n            etag = self.get(thread_id)[1]\n"
                '            condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}\n'
                "            return self.client.put_object(**target, Body=data, **condition)\n\n"
            ),
            "self.patiently(lambda: self.client.put_object(**target, Body=data, **condition))": "self.patiently(request)",
        },
        ("a repeat is harmless",),
        ("it has to have the same condition",),
    ),
    Wrong(
        "s3_storage",
        "a pause after the last attempt",
        {
            """                if not self.may_pass(error) or attempt == self.attempts - 1:
                    raise
            self.sleep(random.uniform(0.5, 1) * 0.1 * 2**attempt)
""": """                if not self.may_pass(error):
                    raise
                self.sleep(random.uniform(0.5, 1) * 0.1 * 2**attempt)
                if attempt == self.attempts - 1:
                    raise
"""
        },
        ("a fault that lasts",),
        ("After the last attempt there is none",),
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
        ("are not the customer's",),
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
        ("a change whose answer got lost",),
        ("at `put`, and had done it all the same",),
    ),
    Wrong(
        "hybrid_storage",
        "trusts the hot saver after a deletion that seemed to fail",
        {"        self.stale.add(thread_id)\n        self.cold.delete_thread": "        self.cold.delete_thread"},
        ("a change whose answer got lost",),
        ("at `delete_thread`, and had done it all the same",),
    ),
    Wrong(
        "hybrid_storage",
        "the hot saver first, which is stale if the cold one fails",
        {
            "        try:\n            result = getattr(self.cold, method)": (
                "        self.hot_does(thread_id, method, config, *arguments)\n"
                "        try:\n            result = getattr(self.cold, method)"
            ),
            "            raise\n        self.hot_does(thread_id, method, config, *arguments)\n": "            raise\n",
        },
        ("what is put is in both",),
        ("finds in the hot saver what the cold one does not have yet",),
    ),
    Wrong(
        "hybrid_storage",
        "a stale thread is stale for ever",
        {
            """            if thread_id in self.stale:
                self.hot.delete_thread(thread_id)
                self.stale.discard(thread_id)
""": """            if thread_id in self.stale:
                return None
"""
        },
        ("the hot saver is back",),
        ("a thread is not stale for ever",),
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
    Wrong(
        "hybrid_storage",
        "catches one kind of error of the hot saver",
        {
            "        except Exception:\n            self.stale.add(thread_id)\n            return None": "        except ConnectionError:\n            self.stale.add(thread_id)\n            return None"
        },
        ("the hot saver is gone",),
        ("of whatever class",),
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
    Wrong(
        "custom_monitoring",
        "the copy keeps the old serializer",
        {"        clone.serde = clone.inner.serde\n": ""},
        ("to LangGraph it is",),
        ("Its `serde` is the new one as well",),
    ),
    Wrong(
        "custom_monitoring",
        "says that each call took a second",
        {
            "        with self.seconds.labels(method).time():\n": (
                "        with contextmanager(lambda: (yield))():\n            self.seconds.labels(method).observe(1)\n"
            )
        },
        ("the time of the saver inside",),
        ("no call took longer than its caller waited",),
    ),
    # --- caching_strategies ---
    Wrong(
        "caching_strategies",
        "a limit for threads, not for checkpoints",
        {"if len(self.found) > self.size:": "if len({known[0] for known in self.found}) > self.size:"},
        ("the checkpoint used longest ago",),
        ("So many checkpoints are remembered",),
    ),
    Wrong(
        "caching_strategies",
        "remembers that there is nothing",
        {"and reading.result() is not None and changes": "and changes"},
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
        {"return copy.deepcopy(reading.result())": "return reading.result()"},
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
        ("`put` raised, and may have been done",),
    ),
    Wrong(
        "caching_strategies",
        "a hit starts the time anew",
        {
            "                self.found.move_to_end(key)\n                self.hits += 1\n": "                self.found[key] = begin, self.found[key][1]\n                self.found.move_to_end(key)\n                self.hits += 1\n"
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
            "                self.found.move_to_end(key)\n                self.hits += 1\n": "                self.hits += 1\n"
        },
        ("the checkpoint used longest ago",),
        ("a hit is a use too",),
    ),
    Wrong(
        "caching_strategies",
        "no limit",
        {"if len(self.found) > self.size:": "if False:"},
        ("the checkpoint used longest ago",),
        ("So many checkpoints are remembered",),
    ),
    Wrong(
        "caching_strategies",
        "a stampede",
        {
            "first = (key, changes) not in self.reading": "first = True",
            "reading = self.reading.setdefault((key, changes), Future())": "reading = Future()",
            "                del self.reading[key, changes]\n": "",
        },
        ("50 simultaneous misses",),
        ("a stampede",),
    ),
    Wrong(
        "caching_strategies",
        "one lock for all that is read",
        {
            "                reading.set_result(self.inner.get_tuple(config))\n": (
                "                with self.__dict__.setdefault('one', threading.Lock()):\n"
                "                    reading.set_result(self.inner.get_tuple(config))\n"
            )
        },
        ("50 simultaneous misses",),
        ("holds up no other",),
    ),
    Wrong(
        "caching_strategies",
        "remembers what was old when the read came back",
        {"is not None and changes == self.changes[key[0]]:": "is not None:"},
        ("what was being read when a put came",),
        ("Remember how often a thread has changed",),
    ),
    Wrong(
        "caching_strategies",
        "a read that is never over after an error",
        {
            "            except BaseException as error:\n                reading.set_exception(error)\n": "            finally:\n                pass\n"
        },
        ("an error is told",),
        ("Give back each lock also after an error",),
    ),
    Wrong(
        "caching_strategies",
        "forgets before it puts",
        {
            """            return super().put(config, checkpoint, metadata, new_versions)
        finally:
            self.forget(config["configurable"]["thread_id"])
""": """            self.forget(config["configurable"]["thread_id"])
        finally:
            stored = super().put(config, checkpoint, metadata, new_versions)
        return stored
"""
        },
        ("what is read while a put is under way",),
        ("`put` was under way", "has *returned*"),
    ),
    Wrong(
        "caching_strategies",
        "counts the change before it deletes, and forgets after it",
        {
            """            super().delete_thread(thread_id)
        finally:
            self.forget(thread_id)
""": """            self.forget(thread_id)
            super().delete_thread(thread_id)
        finally:
            for key in [key for key in self.found if key[0] == thread_id]:
                del self.found[key]
"""
        },
        ("what is read while a put is under way",),
        ("`delete_thread` was under way", "it ended after it"),
    ),
    Wrong(
        "caching_strategies",
        "forgets only what a task has certainly written",
        {
            """            super().put_writes(config, writes, task_id, task_path)
        finally:
            self.forget(config["configurable"]["thread_id"])
""": """            super().put_writes(config, writes, task_id, task_path)
            self.forget(config["configurable"]["thread_id"])
        finally:
            pass
"""
        },
        ("put, put_writes and delete_thread",),
        ("`put_writes` raised, and may have been done",),
    ),
    Wrong(
        "caching_strategies",
        "forgets only what was certainly deleted",
        {
            """            super().delete_thread(thread_id)
        finally:
            self.forget(thread_id)
""": """            super().delete_thread(thread_id)
            self.forget(thread_id)
        finally:
            pass
"""
        },
        ("put, put_writes and delete_thread",),
        ("`delete_thread` raised, and may have been done",),
    ),
    Wrong(
        "caching_strategies",
        "what is read anew keeps its old place",
        {
            "self.found[key] = begin, reading.result()\n                    self.found.move_to_end(key)\n": (
                "self.found[key] = begin, reading.result()\n"
            )
        },
        ("the checkpoint used longest ago",),
        ("what is read anew has been used just now",),
    ),
    Wrong(
        "caching_strategies",
        "those who wait read one after another if there was nothing",
        {
            "        return copy.deepcopy(reading.result())  #": (
                "        if reading.result() is None and not first:\n            return self.get_tuple(config)\n"
                "        return copy.deepcopy(reading.result())  #"
            )
        },
        ("50 simultaneous misses",),
        ("nothing was there", "even if that is nothing"),
    ),
    Wrong(
        "caching_strategies",
        "waits for a read that began before the change",
        {
            "first = (key, changes) not in self.reading": "first = key not in self.reading",
            "self.reading.setdefault((key, changes), Future())": "self.reading.setdefault(key, Future())",
            "del self.reading[key, changes]": "del self.reading[key]",
        },
        ("what was being read when a put came",),
        ("who asks after the change must not be given that",),
    ),
    Wrong(
        "caching_strategies",
        "the namespace is not part of the question",
        {'named.get("checkpoint_ns", ""), named.get("checkpoint_id")': '"", named.get("checkpoint_id")'},
        ("what was read is answered",),
        ("thread, namespace and checkpoint id",),
    ),
]
RIGHT_CUSTOM = [
    Right(
        "file_storage",
        "one lock for all, new files with names of their own, and functions imported from os",
        """
import base64
import fcntl
import hashlib
import json
import zlib
from contextlib import contextmanager
from os import O_CREAT, O_DIRECTORY, O_EXCL, O_RDONLY, O_RDWR, O_WRONLY, close, fsync, open as open_fd, rename, unlink, write
from pathlib import Path
from uuid import uuid4

from learning.savers.plain import PlainSaver


class Damaged(ValueError):
    pass


class FileSaver(PlainSaver):
    def __init__(self, path):
        super().__init__()
        self.path = Path(path)

    def file_of(self, thread_id):
        name = hashlib.blake2b(thread_id.encode("utf-8", "surrogatepass")).digest()
        return self.path / ("thread-" + base64.b32encode(name).decode().rstrip("="))

    def pack(self, thread_id, data):
        name = json.dumps(thread_id).encode()
        body = len(name).to_bytes(4, "big") + name + data
        return zlib.crc32(body).to_bytes(4, "big") + len(body).to_bytes(8, "big") + body

    def unpack(self, stored):
        body = stored[12:]
        if len(stored) < 16 or zlib.crc32(body) != int.from_bytes(stored[:4], "big"):
            raise Damaged("a file is damaged")
        if len(body) != int.from_bytes(stored[4:12], "big"):
            raise Damaged("a file is cut short")
        end = 4 + int.from_bytes(body[:4], "big")
        return json.loads(body[4:end]), body[end:]

    @contextmanager
    def locked(self):
        lock = open_fd(self.path / "lock", O_CREAT | O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            close(lock)

    def sync_folder(self):
        folder = open_fd(self.path, O_RDONLY | O_DIRECTORY)
        try:
            fsync(folder)
        finally:
            close(folder)

    def change(self, thread_id, edit):
        with self.locked():
            content = memoryview(self.pack(thread_id, edit(self.read(thread_id))))
            new = self.path / f"new-{uuid4().hex}"
            file = open_fd(new, O_CREAT | O_EXCL | O_WRONLY)
            try:
                while content:
                    content = content[write(file, content) :]
                fsync(file)
            finally:
                close(file)
            rename(new, self.file_of(thread_id))
            self.sync_folder()

    def read(self, thread_id):
        file = self.file_of(thread_id)
        return self.unpack(file.read_bytes())[1] if file.exists() else None

    def remove(self, thread_id):
        with self.locked():
            if self.file_of(thread_id).exists():
                unlink(self.file_of(thread_id))
            self.sync_folder()

    def threads(self):
        return [self.unpack(file.read_bytes())[0] for file in self.path.glob("thread-*")]
""",
    ),
    Right(
        "file_storage",
        "from nothing: each checkpoint and each write is a file of its own, so that nothing has to be locked",
        """
import asyncio
import hashlib
import os
import random
import shutil
from pathlib import Path
from uuid import uuid4

from langgraph.checkpoint.base import WRITES_IDX_MAP, BaseCheckpointSaver, CheckpointTuple, get_checkpoint_metadata


class FileSaver(BaseCheckpointSaver):
    def __init__(self, path):
        super().__init__()
        self.path = Path(path)

    def store(self, place, name, value, replace=True):
        place.mkdir(exist_ok=True)
        kind, data = self.serde.dumps_typed(value)
        body = kind.encode() + b" " + data
        new = place / f".{uuid4().hex}"
        with open(new, "wb") as file:
            file.write(hashlib.sha256(body).digest() + body)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(new, place / name)
        else:
            try:
                os.link(new, place / name)
            except FileExistsError:
                pass
            os.unlink(new)
        for folder in (place, self.path):
            self.sync(folder)

    def sync(self, folder):
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)

    def load(self, file):
        stored = file.read_bytes()
        if hashlib.sha256(stored[32:]).digest() != stored[:32]:
            raise ValueError(f"{file} is damaged")
        kind, _, data = stored[32:].partition(b" ")
        return self.serde.loads_typed((kind.decode(), data))

    def place(self, thread_id):
        return self.path / ("t" + hashlib.sha256(str(thread_id).encode()).hexdigest())

    def put(self, config, checkpoint, metadata, new_versions):
        named = config["configurable"]
        thread_id, space = str(named["thread_id"]), named.get("checkpoint_ns", "")
        value = [thread_id, space, named.get("checkpoint_id"), checkpoint, get_checkpoint_metadata(config, metadata)]
        name = hashlib.sha256(space.encode()).hexdigest()[:16]
        self.store(self.place(thread_id), f"c {name} {checkpoint['id']}", value)
        return self.config(thread_id, space, checkpoint["id"])

    def put_writes(self, config, writes, task_id, task_path=""):
        named = config["configurable"]
        for number, (channel, value) in enumerate(writes):
            index = WRITES_IDX_MAP.get(channel, number)
            space = hashlib.sha256(named.get("checkpoint_ns", "").encode()).hexdigest()[:16]
            task = hashlib.sha256(task_id.encode()).hexdigest()[:16]
            name = f"w {space} {named['checkpoint_id']} {task} {index}"
            value = [(task_path, task_id, index), (task_id, channel, value)]
            self.store(self.place(named["thread_id"]), name, value, replace=index < 0)

    def config(self, thread_id, space, id):
        return {"configurable": {"thread_id": thread_id, "checkpoint_ns": space, "checkpoint_id": id}}

    def found(self, file):
        thread_id, space, parent, checkpoint, metadata = self.load(file)
        writes = [self.load(each) for each in file.parent.glob(f"w {file.name[2:]} *")]
        return CheckpointTuple(
            self.config(thread_id, space, checkpoint["id"]),
            checkpoint,
            metadata,
            self.config(thread_id, space, parent) if parent else None,
            [tuple(write) for _, write in sorted(writes, key=lambda each: tuple(each[0]))],
        )

    def get_tuple(self, config):
        named = config["configurable"]
        space = hashlib.sha256(named.get("checkpoint_ns", "").encode()).hexdigest()[:16]
        files = list(self.place(named["thread_id"]).glob(f"c {space} {named.get('checkpoint_id') or '*'}"))
        return self.found(max(files)) if files else None

    def list(self, config, *, filter=None, before=None, limit=None):
        named = config["configurable"] if config else {}
        places = [self.place(named["thread_id"])] if config else self.path.glob("t*")
        files = [file for place in places for file in place.glob("c *")]
        for file in sorted(files, key=lambda file: file.name.split(" ")[2], reverse=True):
            found = self.found(file)
            its = found.config["configurable"]
            if "checkpoint_ns" in named and its["checkpoint_ns"] != named["checkpoint_ns"]:
                continue
            if named.get("checkpoint_id") and its["checkpoint_id"] != named["checkpoint_id"]:
                continue
            if before and its["checkpoint_id"] >= before["configurable"]["checkpoint_id"]:
                continue
            if filter and any(found.metadata.get(key) != value for key, value in filter.items()):
                continue
            if limit is not None:
                limit -= 1
                if limit < 0:
                    return
            yield found

    def delete_thread(self, thread_id):
        gone = self.path / f"gone {uuid4().hex}"
        try:
            os.rename(self.place(thread_id), gone)
        except FileNotFoundError:
            return
        self.sync(self.path)
        shutil.rmtree(gone)

    def get_next_version(self, current, channel):
        return f"{int(current.split('.')[0]) + 1 if current else 1:032}.{random.getrandbits(64):020}"

    async def aput(self, *arguments):
        return await asyncio.to_thread(self.put, *arguments)

    async def aput_writes(self, *arguments, **options):
        await asyncio.to_thread(self.put_writes, *arguments, **options)

    async def aget_tuple(self, config):
        return await asyncio.to_thread(self.get_tuple, config)

    async def alist(self, config, **options):
        for found in await asyncio.to_thread(lambda: [*self.list(config, **options)]):
            yield found

    async def adelete_thread(self, thread_id):
        await asyncio.to_thread(self.delete_thread, thread_id)
""",
    ),
    Right(
        "s3_storage",
        "recursion, a paginator that goes on after the last key, and the kinds of errors by name",
        """
import random
import time
from urllib.parse import quote, unquote

from botocore.exceptions import BotoCoreError, ClientError

from learning.savers.plain import PlainSaver


class S3Saver(PlainSaver):
    def __init__(self, client, bucket, attempts=5, sleep=time.sleep):
        super().__init__()
        self.client, self.bucket, self.attempts, self.sleep = client, bucket, attempts, sleep

    def patiently(self, request, attempt=1):
        try:
            return request()
        except (BotoCoreError, ClientError) as error:
            if attempt >= self.attempts or not self.may_pass(error):
                raise
        ceiling = 0.1 * 2 ** (attempt - 1)
        self.sleep(ceiling - random.random() * ceiling / 2)
        return self.patiently(request, attempt + 1)

    def may_pass(self, error):
        answer = getattr(error, "response", None)
        return answer is None or answer["ResponseMetadata"]["HTTPStatusCode"] in {429, *range(500, 600)}

    def where(self, thread_id):
        return {"Bucket": self.bucket, "Key": f"conversations/{quote(thread_id, safe='')}.thread"}

    def find(self, thread_id):
        found = self.client.get_object(**self.where(thread_id))
        return found["ETag"], b"".join(found["Body"].iter_chunks())

    def read_with_tag(self, thread_id):
        try:
            return self.patiently(lambda: self.find(thread_id))
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise
            return None, None

    def read(self, thread_id):
        return self.read_with_tag(thread_id)[1]

    def change(self, thread_id, edit):
        tag, data = self.read_with_tag(thread_id)
        only_if = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
        body = edit(data)
        try:
            self.patiently(lambda: self.client.put_object(Body=body, **only_if, **self.where(thread_id)))
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] not in (404, 409, 412):
                raise
            self.change(thread_id, edit)

    def remove(self, thread_id):
        self.patiently(lambda: self.client.delete_object(**self.where(thread_id)))

    def threads(self):
        last, more = "", True
        while more:
            page = self.patiently(
                lambda: self.client.list_objects_v2(Bucket=self.bucket, Prefix="conversations/", StartAfter=last)
            )
            keys = [found["Key"] for found in page.get("Contents", ())]
            for key in keys:
                yield unquote(key[len("conversations/") : -len(".thread")])
            more, last = page["IsTruncated"], keys[-1] if keys else ""
""",
    ),
    Right(
        "s3_storage",
        "a loop for everything, and a paginator whose pages are asked for one by one",
        """
import time
from random import uniform
from urllib.parse import quote, unquote

from botocore.exceptions import BotoCoreError, ClientError

from learning.savers.plain import PlainSaver


class S3Saver(PlainSaver):
    def __init__(self, client, bucket, attempts=5, sleep=time.sleep):
        super().__init__()
        self.client, self.bucket, self.attempts, self.sleep = client, bucket, attempts, sleep

    def ask(self, request):
        for left in reversed(range(self.attempts)):
            try:
                return 200, request()
            except ClientError as error:
                status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                if status in (404, 409, 412):
                    return status, None
                if not left or (status < 500 and status != 429):
                    raise
            except BotoCoreError:
                if not left:
                    raise
            high = 0.1 * 2 ** (self.attempts - left - 1)
            self.sleep(uniform(high / 2, high))

    def object(self, thread_id):
        def request():
            found = self.client.get_object(Bucket=self.bucket, Key="state/" + quote("t" + thread_id, safe=""))
            return found["Body"].read(), {"IfMatch": found["ETag"]}

        status, found = self.ask(request)
        if status == 409:
            raise RuntimeError("a read met a conflict")
        return found or (None, {"IfNoneMatch": "*"})

    def read(self, thread_id):
        return self.object(thread_id)[0]

    def change(self, thread_id, edit):
        while True:
            data, condition = self.object(thread_id)
            place = {"Bucket": self.bucket, "Key": "state/" + quote("t" + thread_id, safe="")}
            if self.ask(lambda: self.client.put_object(Body=edit(data), **place, **condition))[0] == 200:
                return

    def remove(self, thread_id):
        place = {"Bucket": self.bucket, "Key": "state/" + quote("t" + thread_id, safe="")}
        self.ask(lambda: self.client.delete_object(**place))

    def threads(self):
        token = {}
        while True:
            _, page = self.ask(lambda: self.client.list_objects_v2(Bucket=self.bucket, Prefix="state/", **token))
            yield from (unquote(each["Key"].removeprefix("state/"))[1:] for each in page.get("Contents", []))
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}
""",
    ),
    Right(
        "hybrid_storage",
        "accepts while the cold saver is gone, and brings it later what it has missed",
        """
import threading

from learning.savers.forwarding import ForwardingSaver


class HybridSaver(ForwardingSaver):
    cold_gone = "accept"

    def __init__(self, hot, cold):
        super().__init__(cold)
        self.hot, self.cold = hot, cold
        self.stale, self.owed = set(), {}
        self.lock = threading.RLock()

    def with_allowlist(self, extra_allowlist):
        clone = super().with_allowlist(extra_allowlist)
        clone.cold, clone.hot = clone.inner, self.hot.with_allowlist(extra_allowlist)
        return clone

    def settle(self, thread_id):
        with self.lock:
            owed = self.owed.get(thread_id, [])
            while owed:
                method, arguments = owed[0]
                getattr(self.cold, method)(*arguments)
                owed.pop(0)
            self.owed.pop(thread_id, None)

    def in_hot(self, thread_id, method, *arguments):
        try:
            if thread_id in self.stale:
                self.hot.delete_thread(thread_id)
                self.stale.discard(thread_id)
            return getattr(self.hot, method)(*arguments)
        except Exception:
            self.stale.add(thread_id)
            raise

    def write(self, method, *arguments):
        thread_id = arguments[0]["configurable"]["thread_id"]
        try:
            self.settle(thread_id)
            result = getattr(self.cold, method)(*arguments)
        except Exception:
            if thread_id in self.stale:
                raise
            result = self.in_hot(thread_id, method, *arguments)
            with self.lock:
                self.owed.setdefault(thread_id, []).append((method, arguments))
            return result
        try:
            self.in_hot(thread_id, method, *arguments)
        except Exception:
            pass
        return result

    def put(self, config, checkpoint, metadata, new_versions):
        return self.write("put", config, checkpoint, metadata, new_versions)

    def put_writes(self, config, writes, task_id, task_path=""):
        self.write("put_writes", config, writes, task_id, task_path)

    def delete_thread(self, thread_id):
        self.stale.add(thread_id)
        self.cold.delete_thread(thread_id)
        self.owed.pop(thread_id, None)
        try:
            self.in_hot(thread_id, "delete_thread", thread_id)
        except Exception:
            pass

    def get_tuple(self, config):
        thread_id = config["configurable"]["thread_id"]
        try:
            self.settle(thread_id)
        except Exception:
            pass
        try:
            found = self.in_hot(thread_id, "get_tuple", config)
        except Exception:
            found = None
        if found is None:
            found = self.cold.get_tuple(config)
            if found and not found.pending_writes and "checkpoint_id" not in config["configurable"]:
                self.warm(found)
        return found

    def list(self, config, **options):
        for thread_id in list(self.owed):
            self.settle(thread_id)
        yield from self.cold.list(config, **options)

    def warm(self, found):
        named = found.config["configurable"]
        above = found.parent_config or {"configurable": {**named, "checkpoint_id": None}}
        try:
            versions = found.checkpoint["channel_versions"]
            self.in_hot(named["thread_id"], "put", above, found.checkpoint, found.metadata, versions)
        except Exception:
            pass
""",
    ),
    Right(
        "hybrid_storage",
        "keeps a list of what may be trusted instead of what may not",
        """
from learning.savers.forwarding import ForwardingSaver


class HybridSaver(ForwardingSaver):
    cold_gone = "refuse"

    def __init__(self, hot, cold):
        super().__init__(cold)
        self.hot, self.cold = hot, cold
        self.trusted = set()

    def trusts(self, thread_id):
        if thread_id in self.trusted:
            return True
        try:
            self.hot.delete_thread(thread_id)
        except Exception:
            return False
        self.trusted.add(thread_id)
        return True

    def put(self, config, *more):
        return self.both("put", config, more)

    def put_writes(self, config, *more, **named):
        return self.both("put_writes", config, more, named)

    def both(self, method, config, more, named=None):
        thread_id = config["configurable"]["thread_id"]
        ready = thread_id in self.trusted or self.trusts(thread_id)
        self.trusted.discard(thread_id)
        result = getattr(self.cold, method)(config, *more, **named or {})
        if ready:
            try:
                getattr(self.hot, method)(config, *more, **named or {})
                self.trusted.add(thread_id)
            except Exception:
                pass
        return result

    def delete_thread(self, thread_id):
        self.trusted.discard(thread_id)
        self.cold.delete_thread(thread_id)
        self.trusts(thread_id)

    def get_tuple(self, config):
        thread_id = config["configurable"]["thread_id"]
        if self.trusts(thread_id):
            try:
                if found := self.hot.get_tuple(config):
                    return found
            except Exception:
                self.trusted.discard(thread_id)
        found = self.cold.get_tuple(config)
        if found and not found.pending_writes and not config["configurable"].get("checkpoint_id"):
            named = found.config["configurable"]
            above = found.parent_config or {"configurable": {**named, "checkpoint_id": None}}
            try:
                if self.trusts(thread_id):
                    self.hot.put(above, found.checkpoint, found.metadata, found.checkpoint["channel_versions"])
            except Exception:
                self.trusted.discard(thread_id)
        return found
""",
    ),
    Right(
        "custom_monitoring",
        "measures with its own clock, and makes its clone without copy",
        """
import time

from langgraph.checkpoint.base import BaseCheckpointSaver
from prometheus_client import Counter, Histogram


class MonitoredSaver(BaseCheckpointSaver):
    def __init__(self, inner, registry):
        self.metrics = (
            Histogram("saver_seconds", "s", ["method"], buckets=(0.001, 0.01, 0.1, 1, 10), registry=registry),
            Counter("saver_errors", "e", ["error", "method"], registry=registry),
            Counter("saver_bytes", "b", ["method"], registry=registry),
        )
        self.around(inner)

    def around(self, inner):
        super().__init__(serde=inner.serde)
        self.inner = inner

    def begin(self):
        return time.perf_counter()

    def end(self, method, begin, error=None):
        seconds, errors, _ = self.metrics
        seconds.labels(method=method).observe(time.perf_counter() - begin)
        if isinstance(error, Exception):
            errors.labels(method=method, error=error.__class__.__name__).inc()

    def weighed(self, method, checkpoint):
        self.metrics[2].labels(method=method).inc(len(self.inner.serde.dumps_typed(checkpoint)[1]))

    def call(self, method, *arguments):
        begin = self.begin()
        try:
            result = getattr(self.inner, method)(*arguments)
        except Exception as error:
            self.end(method, begin, error)
            raise
        self.end(method, begin)
        return result

    async def acall(self, method, *arguments):
        begin = self.begin()
        try:
            result = await getattr(self.inner, "a" + method)(*arguments)
        except Exception as error:
            self.end(method, begin, error)
            raise
        self.end(method, begin)
        return result

    def put(self, config, checkpoint, *more):
        stored = self.call("put", config, checkpoint, *more)
        self.weighed("put", checkpoint)
        return stored

    async def aput(self, config, checkpoint, *more):
        stored = await self.acall("put", config, checkpoint, *more)
        self.weighed("put", checkpoint)
        return stored

    def put_writes(self, config, writes, task_id, task_path=""):
        return self.call("put_writes", config, writes, task_id, task_path)

    async def aput_writes(self, config, writes, task_id, task_path=""):
        return await self.acall("put_writes", config, writes, task_id, task_path)

    def get_tuple(self, config):
        found = self.call("get_tuple", config)
        if found is not None:
            self.weighed("get_tuple", found.checkpoint)
        return found

    async def aget_tuple(self, config):
        found = await self.acall("get_tuple", config)
        if found is not None:
            self.weighed("get_tuple", found.checkpoint)
        return found

    def delete_thread(self, thread_id):
        self.call("delete_thread", thread_id)

    async def adelete_thread(self, thread_id):
        await self.acall("delete_thread", thread_id)

    def list(self, config, *, filter=None, before=None, limit=None):
        begin, trouble = self.begin(), None
        try:
            for found in self.inner.list(config, filter=filter, before=before, limit=limit):
                yield found
        except Exception as error:
            trouble = error
            raise
        finally:
            self.end("list", begin, trouble)

    async def alist(self, config, *, filter=None, before=None, limit=None):
        begin, trouble = self.begin(), None
        try:
            async for found in self.inner.alist(config, filter=filter, before=before, limit=limit):
                yield found
        except Exception as error:
            trouble = error
            raise
        finally:
            self.end("list", begin, trouble)

    def get_next_version(self, current, channel):
        return self.inner.get_next_version(current, channel)

    def with_allowlist(self, extra_allowlist):
        clone = MonitoredSaver.__new__(MonitoredSaver)
        clone.metrics = self.metrics
        clone.around(self.inner.with_allowlist(extra_allowlist))
        return clone
""",
    ),
    Right(
        "custom_monitoring",
        "its methods are made by a function",
        """
import copy
from contextlib import contextmanager

from langgraph.checkpoint.base import BaseCheckpointSaver
from prometheus_client import Counter, Histogram


def made(method):
    def weigh(self, arguments, result):
        if method == "put":
            self.seen(method, arguments[1])
        if method == "get_tuple" and result is not None:
            self.seen(method, result.checkpoint)
        return result

    def call(self, *arguments, **options):
        with self.measured(method):
            result = getattr(self.inner, method)(*arguments, **options)
        return weigh(self, arguments, result)

    async def acall(self, *arguments, **options):
        with self.measured(method):
            result = await getattr(self.inner, "a" + method)(*arguments, **options)
        return weigh(self, arguments, result)

    return call, acall


class MonitoredSaver(BaseCheckpointSaver):
    def __init__(self, inner, registry):
        super().__init__(serde=inner.serde)
        self.inner = inner
        self.seconds = Histogram("saver_seconds", "Seconds", labelnames=("method",), registry=registry)
        self.errors = Counter("saver_errors_total", "Errors", labelnames=("method", "error"), registry=registry)
        self.size = Counter("saver_bytes_total", "Bytes", labelnames=("method",), registry=registry)

    put, aput = made("put")
    put_writes, aput_writes = made("put_writes")
    get_tuple, aget_tuple = made("get_tuple")
    delete_thread, adelete_thread = made("delete_thread")

    @contextmanager
    def measured(self, method):
        timer = self.seconds.labels(method).time()
        with timer:
            try:
                yield
            except GeneratorExit:
                raise
            except BaseException as error:
                self.errors.labels(method, type(error).__name__).inc()
                raise

    def seen(self, method, checkpoint):
        if checkpoint is not None:
            self.size.labels(method).inc(len(self.inner.serde.dumps_typed(checkpoint)[1]))

    def list(self, *arguments, **options):
        with self.measured("list"):
            for found in self.inner.list(*arguments, **options):
                yield found

    async def alist(self, *arguments, **options):
        with self.measured("list"):
            async for found in self.inner.alist(*arguments, **options):
                yield found

    def get_next_version(self, *arguments):
        return self.inner.get_next_version(*arguments)

    def with_allowlist(self, extra_allowlist):
        clone = copy.copy(self)
        clone.inner = self.inner.with_allowlist(extra_allowlist)
        clone.serde = clone.inner.serde
        return clone
""",
    ),
    Right(
        "caching_strategies",
        "remembers bytes, and readers wait for a Future",
        """
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future

from langgraph.checkpoint.base import CheckpointTuple

from learning.savers.forwarding import ForwardingSaver


class CachedSaver(ForwardingSaver):
    def __init__(self, inner, size, ttl, clock=time.monotonic):
        super().__init__(inner)
        self.size, self.ttl, self.clock = size, ttl, clock
        self.hits = self.misses = 0
        self.lock = threading.RLock()
        self.known, self.under_way, self.epoch = OrderedDict(), {}, {}

    def get_tuple(self, config):
        named = config["configurable"]
        thread_id = named["thread_id"]
        key = (thread_id, named.get("checkpoint_ns", ""), named.get("checkpoint_id", ""))
        with self.lock:
            if key in self.known:
                stored, ends = self.known[key]
                if self.clock() < ends:
                    self.known.move_to_end(key)
                    self.hits += 1
                    return self.unpacked(stored)
                del self.known[key]
            epoch = self.epoch.get(thread_id, 0)
            mine = (key, epoch) not in self.under_way
            if mine:
                self.misses += 1
                self.under_way[key, epoch] = Future()
            else:
                self.hits += 1
            waiting = self.under_way[key, epoch]
        if not mine:
            stored = waiting.result()
            return stored and self.unpacked(stored)
        try:
            ends = self.clock() + self.ttl
            found = self.inner.get_tuple(config)
            stored = found and self.serde.dumps_typed(list(found))
        except BaseException as error:
            with self.lock:
                del self.under_way[key, epoch]
            waiting.set_exception(error)
            raise
        with self.lock:
            del self.under_way[key, epoch]
            if stored and self.epoch.get(thread_id, 0) == epoch:
                self.known[key] = stored, ends
                while len(self.known) > self.size:
                    self.known.popitem(last=False)
        waiting.set_result(stored)
        return found

    def unpacked(self, stored):
        return CheckpointTuple(*self.serde.loads_typed(stored))

    def changed(self, thread_id):
        with self.lock:
            self.epoch[thread_id] = self.epoch.get(thread_id, 0) + 1
            self.known = OrderedDict((key, value) for key, value in self.known.items() if key[0] != thread_id)

    def put(self, config, *more):
        try:
            return self.inner.put(config, *more)
        finally:
            self.changed(config["configurable"]["thread_id"])

    def put_writes(self, config, *more):
        try:
            return self.inner.put_writes(config, *more)
        finally:
            self.changed(config["configurable"]["thread_id"])

    def delete_thread(self, thread_id):
        try:
            return self.inner.delete_thread(thread_id)
        finally:
            self.changed(thread_id)
""",
    ),
    Right(
        "caching_strategies",
        "one condition that all wait for",
        """
import copy
import time
from threading import Condition

from learning.savers.forwarding import ForwardingSaver


class CachedSaver(ForwardingSaver):
    def __init__(self, inner, size, ttl, clock=time.monotonic):
        super().__init__(inner)
        self.size, self.ttl, self.clock = size, ttl, clock
        self.hits, self.misses = 0, 0
        self.cache = {}
        self.busy = {}
        self.condition = Condition()

    def get_tuple(self, config):
        named = config["configurable"]
        key = tuple(named.get(name) or "" for name in ("thread_id", "checkpoint_ns", "checkpoint_id"))
        with self.condition:
            read_at, found = self.cache.pop(key, (None, None))
            if found is not None and self.clock() - read_at < self.ttl:
                self.cache[key] = read_at, found
                self.hits += 1
                return copy.deepcopy(found)
            if key in self.busy:
                self.hits += 1
                reading = self.busy[key]
                self.condition.wait_for(lambda: reading)
                if "error" in reading:
                    raise reading["error"]
                return copy.deepcopy(reading["found"])
            self.misses += 1
            reading = self.busy[key] = {}
            read_at = self.clock()
        outcome = {}
        try:
            outcome["found"] = self.inner.get_tuple(config)
        except BaseException as error:
            outcome["error"] = error
            raise
        finally:
            with self.condition:
                if self.busy.get(key) is reading:
                    del self.busy[key]
                    if outcome.get("found") is not None:
                        self.cache[key] = read_at, copy.deepcopy(outcome["found"])
                        while len(self.cache) > self.size:
                            del self.cache[next(iter(self.cache))]
                reading.update(outcome)
                self.condition.notify_all()
        return copy.deepcopy(outcome["found"])

    def forget(self, thread_id):
        with self.condition:
            for known in (self.cache, self.busy):
                for key in [key for key in known if key[0] == thread_id]:
                    del known[key]

    def put(self, config, checkpoint, metadata, new_versions):
        try:
            return super().put(config, checkpoint, metadata, new_versions)
        finally:
            self.forget(config["configurable"]["thread_id"])

    def put_writes(self, config, writes, task_id, task_path=""):
        try:
            return super().put_writes(config, writes, task_id, task_path)
        finally:
            self.forget(config["configurable"]["thread_id"])

    def delete_thread(self, thread_id):
        try:
            return super().delete_thread(thread_id)
        finally:
            self.forget(thread_id)
""",
    ),
]
