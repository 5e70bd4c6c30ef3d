"""The same as `bank`, for lesson 2: what a learner could plausibly get wrong about Redis, and right in another way."""

from .bank import Right, Wrong

WAIT_APART = {
    '                pipeline.execute_command("WAIT", self.replicas, 500)\n                *answers, confirmed = pipeline.execute()\n': (
        "                answers = pipeline.execute()\n                confirmed = node.wait(self.replicas, 500)\n"
    )
}
"""WAIT is sent by itself, after the pipeline."""

ONE_BY_ONE = {
    "                    return pipeline.execute()": (
        "                    return [node.execute_command(*command) for command in commands]"
    ),
    "pipeline.execute_command(*command)": "node.execute_command(*command) if safe else None",
    "                *answers, confirmed = pipeline.execute()": (
        "                (confirmed,) = pipeline.execute()\n                answers = []"
    ),
}
"""Commands that are sent one after the other, and not in a pipeline."""

WRONG_REDIS = [
    # --- redis_cluster ---
    Wrong(
        "redis_cluster",
        "no hash tag",
        {'f"{{t{thread}}}:{namespace}:{kind}"': 'f"t{thread}:{namespace}:{kind}"'},
        ("all keys of a thread",),
        ("The tag, from the first { to the first }", "A MovedError says"),
    ),
    Wrong(
        "redis_cluster",
        "the tag is around the checkpoint id",
        {
            'f"{{t{thread}}}:{namespace}:{kind}"': (
                "f\"{thread}:{namespace}:{{{named.get('checkpoint_id') or 'newest'}}}:{kind}\""
            )
        },
        ("a checkpoint comes back", "all keys of a thread"),
        ("made of the thread id alone",),
    ),
    Wrong(
        "redis_cluster",
        "one tag for all threads",
        {'f"{{t{thread}}}:{namespace}:{kind}"': 'f"{{shop}}:{thread}:{namespace}:{kind}"'},
        ("all keys of a thread",),
        ("one server would have all the work",),
    ),
    Wrong(
        "redis_cluster",
        "the names are not quoted",
        {'(quote(str(named.get(name, "")), safe="") for name in': '(str(named.get(name, "")) for name in'},
        ("conversations do not mix",),
        ("quote what could be taken for a separator",),
    ),
    Wrong(
        "redis_cluster",
        "the braces of a thread id stay in the tag",
        {
            '(quote(str(named.get(name, "")), safe="") for name in': '(quote(str(named.get(name, "")), safe="{}") for name in',
            'f"{{t{thread}}}:{namespace}:{kind}"': 'f"{{{thread}}}:{namespace}:{kind}"',
        },
        ("all keys of a thread",),
        ("without braces of its own",),
    ),
    Wrong(
        "redis_cluster",
        "the namespace is forgotten",
        {'f"{{t{thread}}}:{namespace}:{kind}"': 'f"{{t{thread}}}:{kind}"'},
        ("conversations do not mix",),
        ("with the namespace",),
    ),
    Wrong(
        "redis_cluster",
        "nothing waits for a replica",
        {"                if not safe:\n": "                if True:\n"},
        ("a write that no replica has",),
        ("`WAIT`, on the connection of the write itself",),
    ),
    Wrong(
        "redis_cluster",
        "what WAIT counted is not looked at",
        {"                if confirmed >= self.replicas:\n": "                if True:\n"},
        ("a write that no replica has",),
        ("Where that is less than `replicas`",),
    ),
    Wrong(
        "redis_cluster",
        "WAIT has a client of its own",
        {
            '                pipeline.execute_command("WAIT", self.replicas, 500)\n                *answers, confirmed = pipeline.execute()\n': (
                "                answers = pipeline.execute()\n"
                "                import redis\n"
                "                known = node.get_connection_kwargs()\n"
                "                with redis.Redis(known['host'], known['port'], password=known['password']) as other:\n"
                "                    confirmed = other.wait(self.replicas, 500)\n"
            )
        },
        ("a write that no replica has",),
        ("on the connection of the write itself",),
    ),
    Wrong(
        "redis_cluster",
        "WAIT takes any connection of the pool",
        WAIT_APART,
        ("a write that no replica has",),
        ("on the connection of the write itself",),
    ),
    Wrong(
        "redis_cluster",
        "the pipeline of a client with one connection takes another",
        {
            "pipeline = node.pipeline(transaction=False)": "node = node.client()\n                pipeline = node.pipeline(transaction=False)",
            **WAIT_APART,
        },
        ("a write that no replica has",),
        ("on the connection of the write itself",),
    ),
    Wrong(
        "redis_cluster",
        "braces are taken out of the thread id",
        {
            '(quote(str(named.get(name, "")), safe="") for name in': (
                "(quote(str(named.get(name, \"\")).replace('{', '').replace('}', ''), safe=\"\") for name in"
            )
        },
        ("conversations do not mix",),
        ("No two pairs of names may give the same key",),
    ),
    Wrong(
        "redis_cluster",
        "what tasks wrote is pushed on a list, again after each retry",
        {
            'commands.append((command, key, f"{task_id}:{index}", self.pack([task_id, channel, value])))': (
                'commands.append(("RPUSH", key, self.pack([task_id, channel, value])))'
            ),
            '("HGETALL", writes)': '("LRANGE", writes, 0, -1)',
            "for write in written.values()": "for write in written",
        },
        ("what is stored again",),
        ("not `RPUSH`", "idempotent"),
    ),
    Wrong(
        "redis_cluster",
        "the time of a put is over at the first error",
        {"                if time.monotonic() > deadline:\n                    raise": "                raise"},
        ("a master is killed",),
        ("send the same commands again, until `seconds` have passed",),
    ),
    Wrong(
        "redis_cluster",
        "asks the cluster again, and leaves the rest to whoever called",
        {
            "                if time.monotonic() > deadline:\n                    raise": (
                "                self.client.nodes_manager.initialize()\n                raise"
            )
        },
        ("a master is killed",),
        ("send the same commands again, until `seconds` have passed",),
    ),
    Wrong(
        "redis_cluster",
        "the cluster is not asked again who has the slot",
        {"                self.client.nodes_manager.initialize()": "                pass"},
        ("a master is killed",),
        ("ask the cluster again who has the slot",),
    ),
    Wrong(
        "redis_cluster",
        "tries for ever",
        {
            "                if time.monotonic() > deadline:\n                    raise": "                pass",
        },
        ("a write that no replica has",),
        ("seconds=0.5 comes back within 5 seconds", "it raises when `seconds` have passed"),
    ),
    Wrong(
        "redis_cluster",
        "the newest is the one that came last",
        {
            '("ZADD", ids, 0, checkpoint["id"])': '("RPUSH", ids, checkpoint["id"])',
            '("ZRANGE", ids, "+", "-", "BYLEX", "REV", "LIMIT", 0, 1)': '("LRANGE", ids, -1, -1)',
        },
        ("the newest id wins",),
        ("not the one that came last",),
    ),
    Wrong(
        "redis_cluster",
        "the score is the time of the put",
        {
            '("ZADD", ids, 0, checkpoint["id"])': '("ZADD", ids, time.time(), checkpoint["id"])',
            '("ZRANGE", ids, "+", "-", "BYLEX", "REV", "LIMIT", 0, 1)': '("ZRANGE", ids, 0, 0, "REV")',
        },
        ("the newest id wins",),
        ("not the one that came last",),
    ),
    Wrong(
        "redis_cluster",
        "the parent is lost",
        {'metadata, config["configurable"].get("checkpoint_id")])': "metadata, None])"},
        ("a checkpoint comes back",),
        ("store its id as well",),
    ),
    Wrong(
        "redis_cluster",
        "the metadata are lost",
        {"self.pack([checkpoint, metadata, config": "self.pack([checkpoint, {}, config"},
        ("a checkpoint comes back",),
        ("Its metadata belong to it",),
    ),
    Wrong(
        "redis_cluster",
        "what tasks wrote is not given back",
        {"[tuple(self.unpack(write)) for write in written.values()]": "[]"},
        ("a checkpoint comes back",),
        ("What tasks wrote",),
    ),
    Wrong(
        "redis_cluster",
        "always the newest checkpoint",
        {"        if not checkpoint_id:\n": "        if True:\n"},
        ("a checkpoint comes back",),
        ("An older checkpoint, read by its id",),
    ),
    Wrong(
        "redis_cluster",
        "put returns the config that it was given",
        {'return self.named(config, checkpoint["id"])': "return config"},
        ("a checkpoint comes back",),
        ("`put` returns the config of what it has stored",),
    ),
    Wrong(
        "redis_cluster",
        "a checkpoint that is not there is unpacked",
        {"        if stored is None:\n            return None\n": ""},
        ("a checkpoint comes back",),
        ("There is no checkpoint with this id: None",),
    ),
    Wrong(
        "redis_cluster",
        "a repeat of what a task wrote changes nothing",
        {'[*commands, ("SET", self.key(config, "written"), task_id)]': "commands"},
        ("a write that no replica has",),
        ("A repeat has to write something",),
    ),
    Wrong(
        "redis_cluster",
        "commands are sent one by one",
        ONE_BY_ONE,
        ("commands go to one server in one round trip",),
        ("Send all commands in one pipeline",),
    ),
    Wrong(
        "redis_cluster",
        "the checkpoint is stored safely, and its id is not",
        {
            "        self.run(checkpoints, commands, safe=True)\n": (
                "        self.run(checkpoints, commands[:1], safe=True)\n        self.run(ids, commands[1:])\n"
            )
        },
        ("a write that no replica has",),
        ("Send all of a `put` in one safe `run`",),
    ),
    Wrong(
        "redis_cluster",
        "a repeat of a put changes nothing",
        {'("HSET", checkpoints, checkpoint["id"], stored)': '("HSETNX", checkpoints, checkpoint["id"], stored)'},
        ("a write that no replica has",),
        ("as `HSET` does and `HSETNX` does not",),
    ),
    Wrong(
        "redis_cluster",
        "an error of the question who has which slot is not caught",
        {
            "            except (RedisError, RedisClusterException):\n                pass": (
                "            except ZeroDivisionError:\n                pass"
            )
        },
        ("a master is killed",),
        ("(which may fail as well)",),
    ),
    Wrong(
        "redis_cluster",
        "one by one, by a client that nobody counts",
        {
            "        self.client = client ": (
                "        import os\n\n        from learning import services\n\n"
                "        self.client = client and services.RedisCluster(os.environ).client(socket_timeout=1) "
            ),
        }
        | ONE_BY_ONE,
        ("commands go to one server in one round trip",),
        ("not by the client that the saver was given",),
    ),
    # --- redis_serialization ---
    Wrong(
        "redis_serialization",
        "pickle",
        {
            'return "state+json", json.dumps([self.encode(obj)]).encode()': (
                'import pickle\n\n        return "state+json", pickle.dumps(obj)'
            ),
            "(value,) = json.loads(data)\n            return self.decode(value)": "import pickle\n\n            return pickle.loads(data)",
        },
        ("nothing is run", "a class that is not allowed", "what cannot come back"),
        ("Pickle runs what the bytes tell it to run",),
    ),
    Wrong(
        "redis_serialization",
        "default=str",
        {
            "json.dumps([self.encode(obj)]).encode()": "json.dumps([obj], default=str).encode()",
            "return self.decode(value)\n        except": "return value\n        except",
        },
        ("plain values", "tuples, sets", "Decimal, datetime", "numpy", "enums", "what cannot come back"),
        ("A tuple is no list", "keep its text", "would come back as something else", "a str, and not a Decimal"),
    ),
    Wrong(
        "redis_serialization",
        "datetimes without their offset",
        {
            '{"datetime": value.isoformat()}': '{"datetime": value.replace(tzinfo=None).isoformat()}',
        },
        ("Decimal, datetime",),
        ("its offset",),
    ),
    Wrong(
        "redis_serialization",
        "a datetime without an offset gets one",
        {
            "import base64\n": "import base64\nfrom datetime import UTC\n",
            '{"datetime": value.isoformat()}': '{"datetime": value.astimezone(UTC).isoformat()}',
        },
        ("Decimal, datetime",),
        ("one without an offset gets none",),
    ),
    Wrong(
        "redis_serialization",
        "an IntEnum is taken for an int",
        {
            "if value is None or cls in (bool, int, float, str):\n            return value": (
                "if value is None or cls in (bool, float, str):\n            return value\n"
                "        if isinstance(value, int):\n            return int(value)"
            )
        },
        ("enums",),
        ("An IntEnum is an int too", "and not a Status"),
    ),
    Wrong(
        "redis_serialization",
        "isinstance for everything plain",
        {
            "if value is None or cls in (bool, int, float, str):": "if value is None or isinstance(value, bool | int | float | str):",
        },
        ("numpy arrays", "enums", "what cannot come back"),
        ("numpy.float64 is a subclass of float", "An IntEnum is an int too", "a str of a subclass"),
    ),
    Wrong(
        "redis_serialization",
        "subclasses are stored as what they are based on",
        {"if cls is dict:": "if isinstance(value, dict):"},
        ("what cannot come back",),
        ("storing an OrderedDict", "would come back as something else"),
    ),
    Wrong(
        "redis_serialization",
        "a frozenset is stored as a set",
        {
            "if cls in (tuple, set):\n            return {cls.__name__:": (
                "if cls in (tuple, set, frozenset):\n            return {cls.__name__.removeprefix('frozen'):"
            ),
        },
        ("what cannot come back",),
        ("storing a frozenset", "would come back as something else"),
    ),
    Wrong(
        "redis_serialization",
        "what is unknown is stored as its repr",
        {
            '            raise ValueError(f"{self.name_of(cls)} is not a type that may be stored")': (
                "            return repr(value)"
            )
        },
        ("what cannot come back",),
        ("storing an object", "would come back as something else"),
    ),
    Wrong(
        "redis_serialization",
        "a class is allowed if its name begins like an allowed one",
        {
            "cls, fields = self.classes[data[0]], self.decode(data[1])": (
                "cls, fields = next(c for name, c in self.classes.items() if data[0].startswith(name)), self.decode(data[1])"
            ),
            "if self.name_of(cls) not in self.classes:": (
                "if not any(self.name_of(cls).startswith(name) for name in self.classes):"
            ),
        },
        ("a class that is not allowed", "what cannot come back"),
        ("not how they begin or end",),
    ),
    Wrong(
        "redis_serialization",
        "classes are told apart by __name__",
        {'return f"{cls.__module__}:{cls.__qualname__}"': "return cls.__name__"},
        ("a class that is not allowed",),
        ("Compare module and full name",),
    ),
    Wrong(
        "redis_serialization",
        "classes are told apart without their module",
        {'return f"{cls.__module__}:{cls.__qualname__}"': "return cls.__qualname__"},
        ("a class that is not allowed",),
        ("Compare module and full name",),
    ),
    Wrong(
        "redis_serialization",
        "the class that the bytes name is imported",
        {
            "cls, fields = self.classes[data[0]], self.decode(data[1])": (
                "import importlib\n\n            module, _, name = data[0].partition(':')\n"
                "            cls, fields = getattr(importlib.import_module(module), name), self.decode(data[1])"
            )
        },
        ("a class that is not allowed", "nothing is run"),
        ("before anything is imported or called", "look in `allow` and nowhere else"),
    ),
    Wrong(
        "redis_serialization",
        "the class is looked at when the object has been made",
        {
            "cls, fields = self.classes[data[0]], self.decode(data[1])": (
                "import sys\n\n            module, _, name = data[0].partition(':')\n"
                "            cls, fields = getattr(sys.modules[module], name), self.decode(data[1])\n"
                "            if not issubclass(cls, Enum | BaseModel) and type(cls(**fields)) not in self.classes.values():\n"
                "                raise ValueError(name)\n"
                "            if cls not in self.classes.values():\n"
                "                raise ValueError(name)"
            )
        },
        ("nothing is run",),
        ("called something", "before anything is imported or called"),
    ),
    Wrong(
        "redis_serialization",
        "dicts that look like tags",
        {
            'return {"dict": [[self.encode(key), self.encode(item)] for key, item in value.items()]}': (
                "if all(type(key) is str for key in value):\n"
                "                return {key: self.encode(item) for key, item in value.items()}\n"
                '            return {"dict": [[self.encode(key), self.encode(item)] for key, item in value.items()]}'
            ),
            "        ((kind, data),) = value.items()": (
                '        tags = "dict tuple set deque bytes Decimal timedelta datetime array scalar object".split()\n'
                "        if len(value) != 1 or next(iter(value)) not in tags:\n"
                "            return {key: self.decode(item) for key, item in value.items()}\n"
                "        ((kind, data),) = value.items()"
            ),
        },
        ("plain values",),
        ("must not be taken for one of your tags",),
    ),
    Wrong(
        "redis_serialization",
        "dicts keep only keys that are text",
        {
            'return {"dict": [[self.encode(key), self.encode(item)] for key, item in value.items()]}': (
                'return {"dict": [[str(key), self.encode(item)] for key, item in value.items()]}'
            )
        },
        ("plain values",),
        ("JSON makes text of every key",),
    ),
    Wrong(
        "redis_serialization",
        "arrays as lists",
        {
            "data = base64.b64encode(value.tobytes()).decode()\n": "data = value.tolist()\n",
            "numpy.frombuffer(bytearray(base64.b64decode(text)), numpy.dtype(dtype)).reshape(shape)": "numpy.array(text)",
        },
        ("numpy arrays",),
        ("`tolist()` forgets the dtype",),
    ),
    Wrong(
        "redis_serialization",
        "arrays come back read-only",
        {"numpy.frombuffer(bytearray(base64.b64decode(text))": "numpy.frombuffer(base64.b64decode(text)"},
        ("numpy arrays",),
        ("gives an array that is read-only",),
    ),
    Wrong(
        "redis_serialization",
        "a timedelta as a float of seconds",
        {
            '{"timedelta": [value.days, value.seconds, value.microseconds]}': '{"timedelta": [value.total_seconds() / 86400]}'
        },
        ("Decimal, datetime",),
        ("a float of seconds is not exact",),
    ),
    Wrong(
        "redis_serialization",
        "a Decimal as a float",
        {'{"Decimal": str(value)}': '{"Decimal": float(value)}'},
        ("Decimal, datetime",),
        ("keep its text",),
    ),
    Wrong(
        "redis_serialization",
        "a deque without its maxlen",
        {"[[self.encode(item) for item in value], value.maxlen]": "[[self.encode(item) for item in value], None]"},
        ("tuples, sets",),
        ("A deque has a maxlen",),
    ),
    Wrong(
        "redis_serialization",
        "model_dump makes dicts of the models inside",
        {"fields = dict(value)": "fields = value.model_dump()"},
        ("enums",),
        ("`model_dump` turns it into one",),
    ),
    Wrong(
        "redis_serialization",
        "all serializers share one list of classes",
        {
            "        self.classes = {self.name_of(cls): cls for cls in allow}": (
                "        self.classes.update({self.name_of(cls): cls for cls in allow})"
            ),
            "    def __init__(self, allow=()):": "    classes = {}\n\n    def __init__(self, allow=()):",
        },
        ("what cannot come back", "a class that is not allowed"),
        ("each serializer has a list of its own",),
    ),
    Wrong(
        "redis_serialization",
        "the allowed classes are looked at only when loading",
        {
            '            raise ValueError(f"{self.name_of(cls)} is not a type that may be stored")': (
                "            if not isinstance(value, Enum | BaseModel) and not dataclasses.is_dataclass(cls):\n"
                "                raise ValueError(cls)"
            )
        },
        ("what cannot come back",),
        ("storing a class that is not allowed", "What is not on your list"),
    ),
    Wrong(
        "redis_serialization",
        "whatever error loading runs into comes out",
        {
            '        except Exception as error:\n            raise ValueError(f"state cannot be read: {error}") from error': (
                "        finally:\n            pass"
            )
        },
        ("a class that is not allowed",),
        ("raises ValueError", "it raised KeyError"),
    ),
    Wrong(
        "redis_serialization",
        "the type of the pair is not looked at",
        {'        if kind != "state+json":': "        if False:"},
        ("nothing is run",),
        ("Not yours",),
    ),
    Wrong(
        "redis_serialization",
        "nothing is around the whole, so half a number is a number",
        {
            "json.dumps([self.encode(obj)]).encode()": "json.dumps(self.encode(obj)).encode()",
            "(value,) = json.loads(data)": "value = json.loads(data)",
        },
        ("damaged bytes",),
        ("Half of a number is a number as well",),
    ),
    Wrong(
        "redis_serialization",
        "what is stored is the key of a table in the process",
        {
            'return "state+json", json.dumps([self.encode(obj)]).encode()': (
                "data = repr([obj]).encode()\n"
                '        json.__dict__.setdefault("states", {})[data] = json.dumps([self.encode(obj)])\n'
                '        return "state+json", data'
            ),
            "json.loads(data)": "json.loads(json.states[data])",
        },
        ("enums, dataclasses and pydantic models",),
        ("Another process loads what this one has stored",),
    ),
    # --- redis_session_management ---
    Wrong(
        "redis_session_management",
        "checks, and then creates",
        {
            """        if not self.call(
            \"\"\"
            redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
            if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end
            redis.call""": """        full = len(self.sessions(user)) >= self.max_per_user
        if full or not self.call(
            \"\"\"
            redis.call"""
        },
        ("fifty requests",),
        ("Between counting and adding, others have counted too",),
    ),
    Wrong(
        "redis_session_management",
        "adds, counts, and takes back what is too many",
        {
            "            if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end\n": "",
            "            raise TooManySessions(": "            pass\n        if len(self.sessions(user)) > self.max_per_user:\n            self.end(user, session)\n            raise TooManySessions(",
        },
        ("fifty requests",),
        ("Both have to happen in one script",),
    ),
    Wrong(
        "redis_session_management",
        "the limit is passed by one",
        {"redis.call('ZCARD', KEYS[1]) >= tonumber": "redis.call('ZCARD', KEYS[1]) > tonumber"},
        ("fifty requests",),
        ("are allowed",),
    ),
    Wrong(
        "redis_session_management",
        "the state has no TTL",
        {"            redis.call('PEXPIRE', KEYS[2], ARGV[2])\n": ""},
        ("a touch starts the time anew", "a session that nobody touches"),
        ("`touch` gives its state", "-1 is for ever"),
    ),
    Wrong(
        "redis_session_management",
        "the index has no TTL",
        {
            """now + ARGV[2], ARGV[1])
            redis.call('PEXPIRE', KEYS[1], ARGV[2])
            return 1
            \"\"\",""": """now + ARGV[2], ARGV[1])
            return 1
            \"\"\",""",
            """            redis.call('PEXPIRE', KEYS[1], ARGV[2])
            redis.call('PEXPIRE', KEYS[2], ARGV[2])""": """            redis.call('PEXPIRE', KEYS[2], ARGV[2])""",
        },
        ("a touch starts the time anew",),
        ("`touch` gives the index",),
    ),
    Wrong(
        "redis_session_management",
        "a touch does not move the session's own end",
        {"            end\n            redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])\n": "            end\n"},
        ("a session that nobody touches",),
        ("touched again and again",),
    ),
    Wrong(
        "redis_session_management",
        "the TTL of the index alone ends a session",
        {
            "            redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)\n": "",
            "            if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0) <= now then\n": (
                "            if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then\n"
            ),
            'f"({now}", "+inf"': '"-inf", "+inf"',
        },
        ("a session that nobody touches",),
        ("its score in the index tells", "`sessions` does not list it"),
    ),
    Wrong(
        "redis_session_management",
        "sessions that are over count for the limit",
        {"            redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)\n": ""},
        ("a session that nobody touches",),
        ("there is room for a new one",),
    ),
    Wrong(
        "redis_session_management",
        "a session that is over can be touched back",
        {
            "            if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0) <= now then\n": (
                "            if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then\n"
            ),
        },
        ("a session that nobody touches",),
        ("cannot be touched back to life",),
    ),
    Wrong(
        "redis_session_management",
        "a session that is over can be ended",
        {
            "            if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0) <= now then return 0 end\n            redis.call('ZREM'": (
                "            if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end\n            redis.call('ZREM'"
            ),
        },
        ("a session that nobody touches",),
        ("It cannot be ended",),
    ),
    Wrong(
        "redis_session_management",
        "KEYS finds the sessions",
        {
            '        found = self.client.zrangebyscore(self.index_key(user), f"({now}", "+inf")\n': (
                "        found = [\n            each for key in self.client.keys('sessions:*') if key == self.index_key(user).encode()\n"
                '            for each in self.client.zrangebyscore(key, f"({now}", "+inf")\n        ]\n'
            )
        },
        ("nobody looks through",),
        ("`KEYS` lets everybody else wait",),
    ),
    Wrong(
        "redis_session_management",
        "SCAN finds the sessions",
        {
            '        found = self.client.zrangebyscore(self.index_key(user), f"({now}", "+inf")\n': (
                "        found = [\n            each for key in self.client.scan_iter('sessions:*') if key == self.index_key(user).encode()\n"
                '            for each in self.client.zrangebyscore(key, f"({now}", "+inf")\n        ]\n'
            )
        },
        ("nobody looks through",),
        ("go through the keys of all users",),
    ),
    Wrong(
        "redis_session_management",
        "one index for all users",
        {"return f\"sessions:{{{quote(user, safe='')}}}\"": 'return "sessions"'},
        ("fifty requests",),
        ("The limit is for each user",),
    ),
    Wrong(
        "redis_session_management",
        "touch asks no index",
        {
            "            if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0) <= now then\n": "            if false then\n",
        },
        ("a session begins", "one user cannot reach"),
        ("nothing to end or to touch", "It is not his"),
    ),
    Wrong(
        "redis_session_management",
        "end leaves the state",
        {
            "            redis.call('ZREM', KEYS[1], ARGV[1])\n            redis.call('DEL', KEYS[2])\n": (
                "            redis.call('ZREM', KEYS[1], ARGV[1])\n"
            )
        },
        ("a session begins",),
        ("it is gone with its state",),
    ),
    Wrong(
        "redis_session_management",
        "the time is the id",
        {"session = str(uuid.uuid4())": "import time\n\n        session = str(int(time.time()))"},
        ("a session begins", "fifty requests"),
        ("`create` returns a new id each time",),
    ),
    Wrong(
        "redis_session_management",
        "touch asks, and then writes",
        {
            '        return self.call(\n            """\n            if tonumber(redis.call(\'ZSCORE\', KEYS[1], ARGV[1]) or 0) <= now then\n': (
                "        if session not in self.sessions(user):\n"
                "            self.client.delete(self.state_key(user, session))\n"
                "            return False\n"
                '        return self.call(\n            """\n            if false then\n'
            )
        },
        ("a session that is ended in the middle",),
        ("Asking and writing have to happen in one script",),
    ),
    Wrong(
        "redis_session_management",
        "what is written when the session has ended stays",
        {"                redis.call('DEL', KEYS[2])\n                return 0\n": "                return 0\n"},
        ("a session begins",),
        ("nobody else would, for it has no TTL",),
    ),
    Wrong(
        "redis_session_management",
        "looks through all keys, and resets the counters",
        {
            "        found = self.client.zrangebyscore(": (
                "        self.client.keys(self.index_key(user))\n        self.client.config_resetstat()\n"
                "        found = self.client.zrangebyscore("
            )
        },
        ("nobody looks through all keys",),
        ("The server's counters were reset",),
    ),
    Wrong(
        "redis_session_management",
        "touch asks, and then writes, by a client that nobody watches",
        {
            '        return self.call(\n            """\n            if tonumber(redis.call(\'ZSCORE\', KEYS[1], ARGV[1]) or 0) <= now then\n': (
                "        import os\n\n        import redis\n\n"
                '        own = SessionManager(redis.Redis.from_url(os.environ["REDIS_URL"]), self.ttl, self.max_per_user)\n'
                "        if session not in own.sessions(user):\n"
                "            own.client.delete(self.state_key(user, session))\n"
                "            return False\n"
                '        return own.call(\n            """\n            if false then\n'
            )
        },
        ("a session that is ended in the middle",),
        ("`touch` asks by `self.client`",),
    ),
    # --- redis_monitoring ---
    Wrong(
        "redis_monitoring",
        "PING only",
        {
            '            probe.set(f"health:{uuid.uuid4()}", "", px=10_000)\n'
            "            confirmed = probe.wait(replicas, int(1000 * seconds)) if replicas else 0\n": (
                "            probe.ping()\n            confirmed = replicas\n"
            )
        },
        ("a replica that is gone", "a server that takes no writes"),
        ("answers PING", "does not exist now"),
    ),
    Wrong(
        "redis_monitoring",
        "no deadline",
        {'"socket_timeout": 1.5 * seconds, "socket_connect_timeout": seconds, ': ""},
        ("a server that does not answer",),
        ("Set deadlines of your own",),
    ),
    Wrong(
        "redis_monitoring",
        "the client that was given, as it is",
        {"with redis.Redis(**settings, single_connection_client=True) as probe:": "with client as probe:"},
        ("a server that does not answer",),
        ("Set deadlines of your own",),
    ),
    Wrong(
        "redis_monitoring",
        "tries again and again",
        {', "retry": Retry(NoBackoff(), 0)}': "}"},
        ("a server that does not answer",),
        ("do not try again",),
    ),
    Wrong(
        "redis_monitoring",
        "INFO's connected_slaves for WAIT",
        {
            "probe.wait(replicas, int(1000 * seconds)) if replicas else 0": 'probe.info("replication")["connected_slaves"]'
        },
        ("a replica that is gone",),
        ("still in the list of INFO", "`WAIT` tells"),
    ),
    Wrong(
        "redis_monitoring",
        "a frozen replica counts, INFO says that it is online",
        {
            "confirmed = probe.wait(replicas, int(1000 * seconds)) if replicas else 0": (
                'about = probe.info("replication")\n'
                "            confirmed = sum(about.get(f'slave{n}', {}).get('state') == 'online' for n in range(replicas))"
            )
        },
        ("a replica that is gone",),
        ("it confirms nothing",),
    ),
    Wrong(
        "redis_monitoring",
        "WAIT without a write before it",
        {'            probe.set(f"health:{uuid.uuid4()}", "", px=10_000)\n': ""},
        ("a replica that is gone", "a server that takes no writes"),
        ("So try a write",),
    ),
    Wrong(
        "redis_monitoring",
        "WAIT waits for ever",
        {"probe.wait(replicas, int(1000 * seconds))": "probe.wait(replicas, 0)"},
        ("a replica that is gone",),
        ("The server itself answers, so it is not down",),
    ),
    Wrong(
        "redis_monitoring",
        "a full memory is taken for down",
        {"    except (redis.ConnectionError, redis.TimeoutError):": "    except redis.RedisError:"},
        ("a server that takes no writes",),
        ("it answers PING, serves reads, and refuses every write",),
    ),
    Wrong(
        "redis_monitoring",
        "a full memory is an error",
        {
            '    except redis.ResponseError:\n        return {"status": "degraded", "reasons": ["writes refused"]}\n': "",
        },
        ("a server that takes no writes",),
        ("refuses every write", "OutOfMemoryError", "something to tell, and no error"),
    ),
    Wrong(
        "redis_monitoring",
        "only a full memory refuses writes",
        {
            "    except redis.ResponseError:": "    except redis.exceptions.OutOfMemoryError:",
        },
        ("a server that takes no writes",),
        ("This server is a replica", "ReadOnlyError"),
    ),
    Wrong(
        "redis_monitoring",
        "the key is left for ever",
        {'probe.set(f"health:{uuid.uuid4()}", "", px=10_000)': 'probe.set(f"health:{uuid.uuid4()}", "")'},
        ("nothing of the check stays",),
        ("These keys have no TTL",),
    ),
    Wrong(
        "redis_monitoring",
        "one replica is always enough",
        {"    if confirmed < replicas:": "    if replicas and not confirmed:"},
        ("a server that is meant",),
        ("Two replicas are wanted, and there is one",),
    ),
    Wrong(
        "redis_monitoring",
        "there has to be a replica",
        {"    if confirmed < replicas:": "    if confirmed < max(1, replicas):"},
        ("a server that is meant",),
        ("With `replicas=0` nobody has to confirm anything",),
    ),
    Wrong(
        "redis_monitoring",
        "connections stay open",
        {
            "        with redis.Redis(**settings, single_connection_client=True) as probe:  # it connects at once\n": (
                "        if True:\n"
                "            probe = redis.Redis(**settings, single_connection_client=True)\n"
                "            check_health.__dict__.setdefault('all', []).append(probe)\n"
            ),
        },
        ("nothing of the check stays",),
        ("did not close them",),
    ),
    Wrong(
        "redis_monitoring",
        "the key has a name that others may use",
        {'f"health:{uuid.uuid4()}"': '"health"'},
        ("no key of anybody else",),
        ("Give it a name that nobody else can have",),
    ),
    Wrong(
        "redis_monitoring",
        "the key has a name that others may use, and nobody hears of it",
        {
            'probe.set(f"health:{uuid.uuid4()}", "", px=10_000)': (
                'probe.config_set("notify-keyspace-events", "")\n            probe.set("health", "", px=10_000)'
            )
        },
        ("no key of anybody else",),
        ("A check changes no setting of the server",),
    ),
    # --- batch_operations ---
    Wrong(
        "batch_operations",
        "only a TypeError is caught when JSON is made",
        {
            "            except Exception as error:\n                outcomes[place]": "            except TypeError as error:\n                outcomes[place]"
        },
        ("one bad item",),
        ("for which `json.dumps` has another exception",),
    ),
    Wrong(
        "batch_operations",
        "only a ValueError is caught when JSON is read",
        {
            "            except Exception as error:\n                yield error": "            except ValueError as error:\n                yield error"
        },
        ("one bad item",),
        ("nested so deep that `json.loads` gives up",),
    ),
    Wrong(
        "batch_operations",
        "a transaction, which one refusal undoes",
        {
            "        pipeline = client.pipeline(transaction=False)\n        outcomes": (
                "        pipeline = client.pipeline()\n        outcomes"
            )
        },
        ("what the server refuses",),
        ("one refusal is a refusal of all",),
    ),
    Wrong(
        "batch_operations",
        "one refusal of the server fails all",
        {"pipeline.execute(raise_on_error=False), strict=True)": "pipeline.execute(), strict=True)"},
        ("what the server refuses",),
        ("the entry of that item",),
    ),
    Wrong(
        "batch_operations",
        "a refusal of the server is taken for stored",
        {
            "            if isinstance(answer, Exception):\n                outcomes[place] = answer\n": (
                "            pass\n"
            )
        },
        ("what the server refuses",),
        ("the entry of that item",),
    ),
    Wrong(
        "batch_operations",
        "a loop of single calls",
        {
            "                pipeline.set(key, json.dumps(state))\n                sent.append(place)\n": (
                "                client.set(key, json.dumps(state))\n"
            ),
            "        pipeline = client.pipeline(transaction=False)\n        for key in batch:\n            pipeline.get(key)\n        for stored in pipeline.execute(raise_on_error=False):\n": (
                "        for key in batch:\n            try:\n                stored = client.get(key)\n"
                "            except Exception as error:\n                stored = error\n"
            ),
        },
        ("a chunk takes one round trip",),
        ("A round trip for each item",),
    ),
    Wrong(
        "batch_operations",
        "a chunk of one item for each pipeline",
        {
            "        for key in batch:\n            pipeline.get(key)\n        for stored in pipeline.execute(raise_on_error=False):\n": (
                "        answers = []\n        for key in batch:\n            pipeline.get(key)\n"
                "            answers += pipeline.execute(raise_on_error=False)\n        for stored in answers:\n"
            )
        },
        ("a chunk takes one round trip",),
        ("`get_many` with",),
    ),
    Wrong(
        "batch_operations",
        "one item that is no JSON fails all",
        {
            "            try:\n                pipeline.set(key, json.dumps(state))\n                sent.append(place)\n            except Exception as error:\n                outcomes[place] = error\n": (
                "            pipeline.set(key, json.dumps(state))\n            sent.append(place)\n"
            )
        },
        ("one bad item",),
        ("all others are stored", "TypeError"),
    ),
    Wrong(
        "batch_operations",
        "one item that is no JSON fails its chunk",
        {
            "            try:\n                pipeline.set(key, json.dumps(state))\n                sent.append(place)\n            except Exception as error:\n                outcomes[place] = error\n": (
                "            pipeline.set(key, state)\n            sent.append(place)\n"
            ),
            "        for place, (key, state) in enumerate(batch):\n": (
                "        try:\n            batch = [(key, json.dumps(state)) for key, state in batch]\n"
                "        except TypeError as error:\n            results += [error] * len(batch)\n            continue\n"
                "        for place, (key, state) in enumerate(batch):\n"
            ),
        },
        ("one bad item",),
        ("all others are stored",),
    ),
    Wrong(
        "batch_operations",
        "one key that cannot be read fails all",
        {"for stored in pipeline.execute(raise_on_error=False):": "for stored in pipeline.execute():"},
        ("one bad item",),
        ("All others are read", "WRONGTYPE"),
    ),
    Wrong(
        "batch_operations",
        "what is no JSON ends the generator",
        {
            "            try:\n                yield stored if": "            if True:\n                yield stored if",
            "            except Exception as error:\n                yield error\n": "",
        },
        ("one bad item",),
        ("have bytes that are no JSON",),
    ),
    Wrong(
        "batch_operations",
        "bad items are left out",
        {
            "        results += outcomes\n": (
                "        results += [outcome for place, outcome in enumerate(outcomes) if place in sent]\n"
            )
        },
        ("one bad item",),
        ("Their entries are the exceptions",),
    ),
    Wrong(
        "batch_operations",
        "what is no JSON is stored as text",
        {"json.dumps(state)": "json.dumps(state, default=str)"},
        ("one bad item",),
        ("Items 2, 5 and 7 are no JSON",),
    ),
    Wrong(
        "batch_operations",
        "all items in a list at once",
        {"    items, results = iter(items), []\n": "    items, results = iter(list(items)), []\n"},
        ("no more than a chunk",),
        ("a list of all items may not fit",),
    ),
    Wrong(
        "batch_operations",
        "all keys in a list at once",
        {"    keys = iter(keys)\n": "    keys = iter(list(keys))\n"},
        ("no more than a chunk",),
        ("it yields what it has before it asks for more",),
    ),
    Wrong(
        "batch_operations",
        "get_many returns a list",
        {
            "    keys = iter(keys)\n": "    keys, found = iter(keys), []\n",
            "                yield stored if stored is None or isinstance(stored, Exception) else json.loads(stored)\n            except Exception as error:\n                yield error\n": (
                "                found.append(stored if stored is None or isinstance(stored, Exception) else json.loads(stored))\n"
                "            except Exception as error:\n                found.append(error)\n    return found\n"
            ),
        },
        ("no more than a chunk",),
        ("Make `get_many` a generator",),
    ),
    Wrong(
        "batch_operations",
        "the chunk is not used",
        {"islice(items, chunk)": "islice(items, 10**6)", "islice(keys, chunk)": "islice(keys, 10**6)"},
        ("no more than a chunk",),
        ("Take a chunk, store it, take the next",),
    ),
    Wrong(
        "batch_operations",
        "the chunk is cut from the beginning each time",
        {
            "    items, results = iter(items), []\n    while batch := list(islice(items, chunk)):": (
                "    items, results = list(items), []\n    for start in range(0, len(items) - chunk + 1, chunk):\n"
                "        batch = items[start : start + chunk]"
            )
        },
        ("states are stored",),
        ("One entry for each item",),
    ),
    Wrong(
        "batch_operations",
        "zip takes one key too many",
        {"list(islice(keys, chunk))": "[key for key, _ in zip(keys, range(chunk))]"},
        ("states are stored",),
        ("One entry for each key",),
    ),
    Wrong(
        "batch_operations",
        "a dict keeps the results of put_many",
        {
            "        results += outcomes\n": "        results += dict(zip((key for key, _ in batch), outcomes)).values()\n",
        },
        ("states are stored",),
        ("One entry for each item, also where a key comes twice",),
    ),
    Wrong(
        "batch_operations",
        "a dict keeps the answers of get_many",
        {
            "        for stored in pipeline.execute(raise_on_error=False):\n": (
                "        for stored in dict(zip(batch, pipeline.execute(raise_on_error=False))).values():\n"
            ),
        },
        ("states are stored",),
        ("One entry for each key, also where it comes twice",),
    ),
    Wrong(
        "batch_operations",
        "MGET says None of what cannot be read",
        {
            "        pipeline = client.pipeline(transaction=False)\n        for key in batch:\n            pipeline.get(key)\n        for stored in pipeline.execute(raise_on_error=False):\n": (
                "        for stored in client.mget(batch):\n"
            ),
        },
        ("one bad item",),
        ("Nothing is there is another answer than nobody can read it",),
    ),
    Wrong(
        "batch_operations",
        "what is empty is taken for nothing",
        {"yield stored if stored is None or": "yield None if not stored else stored if"},
        ("one bad item",),
        ("Nothing is there is another answer than nobody can read it",),
    ),
    Wrong(
        "batch_operations",
        "a state that is false is taken for nothing",
        {"else json.loads(stored)\n": "else json.loads(stored) or None\n"},
        ("states are stored",),
        ("a state may be 0, False or empty",),
    ),
    Wrong(
        "batch_operations",
        "pickle",
        {
            "json.dumps(state)": "__import__('pickle').dumps(state)",
            "json.loads(stored)": "__import__('pickle').loads(stored)",
        },
        ("states are stored",),
        ("Each state is stored as JSON",),
    ),
    Wrong(
        "batch_operations",
        "one by one, by a client that nobody counts",
        {
            "    items, results = iter(items), []\n": (
                "    import os\n\n    import redis\n\n"
                '    limited = client.get_connection_kwargs().get("username")\n'
                '    own = client if limited else redis.Redis.from_url(os.environ["REDIS_URL"])\n'
                "    items, results = iter(items), []\n"
            ),
            "                pipeline.set(key, json.dumps(state))\n": (
                "                text = json.dumps(state)\n                try:\n"
                "                    own.set(key, text)\n"
                "                except redis.RedisError as error:\n                    outcomes[place] = error\n"
                "                continue\n"
            ),
        },
        ("a chunk takes one round trip",),
        ("by the client that it was given",),
    ),
]

RIGHT_REDIS = [
    Right(
        "redis_cluster",
        "one Lua script that stores, a hash for each thread, HKEYS and max, and a tag in hexadecimal",
        """
import time

import redis
from langgraph.checkpoint.base import WRITES_IDX_MAP, BaseCheckpointSaver, CheckpointTuple
from redis.exceptions import RedisClusterException, RedisError

STORE = \"\"\"
for n = 1, #ARGV, 3 do
    redis.call(ARGV[n], KEYS[1], ARGV[n + 1], ARGV[n + 2])
end
redis.call('SET', KEYS[2], 'stored')
return #ARGV / 3
\"\"\"


class ClusterSaver(BaseCheckpointSaver):
    def __init__(self, client, replicas=1, seconds=8):
        super().__init__()
        self.client, self.replicas, self.seconds = client, replicas, seconds

    def key(self, config, kind):
        place = config["configurable"]
        namespace = place.get("checkpoint_ns", "").encode().hex()
        return "%s:%s:{thread-%s}" % (kind, namespace, place["thread_id"].encode().hex())

    def attempts(self):
        until, last = time.monotonic() + self.seconds, None
        while last is None or time.monotonic() < until:
            def note(error):
                nonlocal last
                last = error
            yield note
            time.sleep(0.05)
            try:
                self.client.nodes_manager.initialize()
            except (RedisError, RedisClusterException) as error:
                last = error
        raise last

    def master(self, key):
        return self.client.get_redis_connection(self.client.get_node_from_key(key))

    def store(self, key, *changes):
        for note in self.attempts():
            try:
                with self.master(key).client() as one:  # a client that has one connection
                    one.eval(STORE, 2, key, f"{key}:stored", *(part for change in changes for part in change))
                    there = one.wait(self.replicas, 300)
                if there >= self.replicas:
                    return
                note(TimeoutError(f"only {there} replicas"))
            except (RedisError, RedisClusterException) as error:
                note(error)

    def ask(self, key, question):
        for note in self.attempts():
            try:
                return question(self.master(key))
            except (RedisError, RedisClusterException) as error:
                note(error)

    def put(self, config, checkpoint, metadata, new_versions):
        key = self.key(config, "all")
        parent = config["configurable"].get("checkpoint_id", "")
        kind, data = self.serde.dumps_typed({"c": checkpoint, "m": metadata, "p": parent})
        self.store(key, ("HSET", checkpoint["id"], kind.encode() + b"\\0" + data))
        return self.config_of(config, checkpoint["id"])

    def put_writes(self, config, writes, task_id, task_path=""):
        changes = []
        for number, (channel, value) in enumerate(writes):
            number = WRITES_IDX_MAP.get(channel, number)
            kind, data = self.serde.dumps_typed((task_id, channel, value))
            changes.append(("HSET" if number < 0 else "HSETNX", f"{task_id}/{number}", kind.encode() + b"\\0" + data))
        if changes:
            self.store(self.key(config, "written after " + config["configurable"]["checkpoint_id"]), *changes)

    def get_tuple(self, config):
        key, wanted = self.key(config, "all"), config["configurable"].get("checkpoint_id")
        if not wanted:
            ids = self.ask(key, lambda client: client.hkeys(key))
            if not ids:
                return None
            wanted = max(ids).decode()
        data = self.ask(key, lambda client: client.hget(key, wanted))
        if data is None:
            return None
        told = self.loads(data)
        writes = self.key(config, "written after " + wanted)
        return CheckpointTuple(
            config=self.config_of(config, wanted),
            checkpoint=told["c"],
            metadata=told["m"],
            parent_config=self.config_of(config, told["p"]) if told["p"] else None,
            pending_writes=[tuple(self.loads(each)) for each in self.ask(writes, lambda client: client.hvals(writes))],
        )

    def loads(self, data):
        kind, data = data.split(b"\\0", 1)
        return self.serde.loads_typed((kind.decode(), data))

    def config_of(self, config, checkpoint_id):
        return {"configurable": {
            "thread_id": config["configurable"]["thread_id"],
            "checkpoint_ns": config["configurable"].get("checkpoint_ns", ""),
            "checkpoint_id": checkpoint_id,
        }}
""",
    ),
    Right(
        "redis_cluster",
        "a hash for each checkpoint, a connection that is spoken to by hand, a tag that is a digest",
        """
import hashlib
import json
import time

from langgraph.checkpoint.base import WRITES_IDX_MAP, BaseCheckpointSaver, CheckpointTuple
from redis.exceptions import RedisClusterException, RedisError


class ClusterSaver(BaseCheckpointSaver):
    def __init__(self, client, replicas=1, seconds=8):
        super().__init__()
        self.client, self.replicas, self.seconds = client, replicas, seconds

    def key(self, config, kind):
        named = config["configurable"]
        thread_id, namespace = named["thread_id"], named.get("checkpoint_ns", "")
        tag = hashlib.sha256(thread_id.encode()).hexdigest()
        return "{" + tag + "}" + json.dumps([namespace, kind])

    def run(self, key, commands, safe=False):
        give_up = time.monotonic() + self.seconds
        problem = None
        while problem is None or time.monotonic() < give_up:
            if problem is not None:
                time.sleep(0.1)
                try:
                    self.client.nodes_manager.initialize()
                except (RedisError, RedisClusterException):
                    continue
            try:
                pool = self.client.get_redis_connection(self.client.get_node_from_key(key)).connection_pool
                connection = pool.get_connection()
                try:
                    wait = [("WAIT", self.replicas, 400)] if safe else []
                    connection.send_packed_command(connection.pack_commands([*commands, *wait]))
                    answers = [connection.read_response() for _ in range(len(commands) + len(wait))]
                except RedisError:
                    connection.disconnect()
                    raise
                finally:
                    pool.release(connection)
                if not safe or answers.pop() >= self.replicas:
                    return answers
                problem = RuntimeError("not safe yet")
            except (RedisError, RedisClusterException) as error:
                problem = error
        raise problem

    def put(self, config, checkpoint, metadata, new_versions):
        name = f"checkpoint {checkpoint['id']}"
        body, head = self.serde.dumps_typed(checkpoint), self.serde.dumps_typed(metadata)
        parent = config["configurable"].get("checkpoint_id") or ""
        fields = ["kind", body[0], "body", body[1], "head kind", head[0], "head", head[1], "parent", parent]
        key, ids = self.key(config, name), self.key(config, "index")
        self.run(key, [("HSET", key, *fields), ("SADD", ids, checkpoint["id"])], safe=True)
        return self.place(config, checkpoint["id"])

    def put_writes(self, config, writes, task_id, task_path=""):
        key = self.key(config, f"writes {config['configurable']['checkpoint_id']}")
        for number, (channel, value) in enumerate(writes):
            number = WRITES_IDX_MAP.get(channel, number)
            kind, data = self.serde.dumps_typed(value)
            field = json.dumps([task_id, number])
            told = json.dumps([task_id, channel, kind, task_path]).encode() + b"\\n" + data
            seen = ("INCR", self.key(config, "seen"))
            self.run(key, [("HSETNX" if number >= 0 else "HSET", key, field, told), seen], safe=True)

    def get_tuple(self, config):
        checkpoint_id = config["configurable"].get("checkpoint_id")
        if checkpoint_id is None:
            ids = self.key(config, "index")
            members = self.run(ids, [("SMEMBERS", ids)])[0]
            if not members:
                return None
            checkpoint_id = sorted(members)[-1].decode()
        key = self.key(config, f"checkpoint {checkpoint_id}")
        written = self.key(config, f"writes {checkpoint_id}")
        found, writes = self.run(key, [("HGETALL", key), ("HGETALL", written)])
        found, writes = (dict(zip(each[::2], each[1::2])) if isinstance(each, list) else each for each in (found, writes))
        if not found:
            return None
        pending = []
        for told in writes.values():
            head, data = told.split(b"\\n", 1)
            task_id, channel, kind, _ = json.loads(head)
            pending.append((task_id, channel, self.serde.loads_typed((kind, data))))
        parent = found[b"parent"].decode()
        return CheckpointTuple(
            self.place(config, checkpoint_id),
            self.serde.loads_typed((found[b"kind"].decode(), found[b"body"])),
            self.serde.loads_typed((found[b"head kind"].decode(), found[b"head"])),
            self.place(config, parent) if parent else None,
            pending,
        )

    def place(self, config, checkpoint_id):
        named = config["configurable"]
        return {"configurable": dict(
            thread_id=named["thread_id"], checkpoint_ns=named.get("checkpoint_ns", ""), checkpoint_id=checkpoint_id
        )}
""",
    ),
    Right(
        "redis_serialization",
        "msgpack, every value that is not plain as an extension of its own",
        """
from collections import deque
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum

import numpy as np
import ormsgpack
from pydantic import BaseModel

PLAIN = (type(None), bool, float, str, bytes)
OPTIONS = ormsgpack.OPT_PASSTHROUGH_SUBCLASS | ormsgpack.OPT_PASSTHROUGH_DATACLASS


class StateSerializer:
    def __init__(self, allow=()):
        self.allow = {(cls.__module__, cls.__qualname__): cls for cls in allow}

    def pack(self, value):
        return ormsgpack.packb(self.plain(value), option=OPTIONS)

    def ext(self, code, *parts):
        return ormsgpack.Ext(code, ormsgpack.packb([self.plain(part) for part in parts], option=OPTIONS))

    def plain(self, value):
        kind = type(value)
        if kind in PLAIN:
            return value
        if kind is int:
            return value if -(2**63) <= value < 2**64 else self.ext(1, hex(value))
        if kind is list:
            return [self.plain(item) for item in value]
        if kind is dict:
            return self.ext(2, *(part for pair in value.items() for part in pair))
        if kind is tuple:
            return self.ext(3, *value)
        if kind is set:
            return self.ext(4, *value)
        if kind is deque:
            return self.ext(5, value.maxlen, *value)
        if kind is Decimal:
            return self.ext(6, str(value))
        if kind is datetime:
            offset = value.utcoffset()
            return self.ext(7, value.replace(tzinfo=None, fold=0).isoformat(), offset)
        if kind is timedelta:
            return self.ext(8, value // timedelta(microseconds=1))
        if kind is np.ndarray and not value.dtype.hasobject:
            return self.ext(9, value.dtype.str, list(value.shape), value.tobytes())
        if isinstance(value, np.generic) and not value.dtype.hasobject:
            return self.ext(10, value.dtype.str, value.tobytes())
        name = kind.__module__, kind.__qualname__
        if self.allow.get(name) is not kind:
            raise ValueError(f"{name} is not allowed")
        if isinstance(value, Enum):
            return self.ext(11, *name, value.name)
        if isinstance(value, BaseModel):
            return self.ext(11, *name, dict(value))
        if is_dataclass(value):
            return self.ext(11, *name, {field.name: getattr(value, field.name) for field in fields(value)})
        raise ValueError(f"{name}: what is this?")

    def unpack(self, data):
        return ormsgpack.unpackb(data, ext_hook=self.hook)

    def hook(self, code, data):
        parts = self.unpack(data)
        match code:
            case 1:
                return int(parts[0], 16)
            case 2:
                return dict(zip(parts[::2], parts[1::2], strict=True))
            case 3:
                return tuple(parts)
            case 4:
                return set(parts)
            case 5:
                return deque(parts[1:], maxlen=parts[0])
            case 6:
                return Decimal(parts[0])
            case 7:
                from datetime import timezone

                moment = datetime.fromisoformat(parts[0])
                return moment if parts[1] is None else moment.replace(tzinfo=timezone(parts[1]))
            case 8:
                return timedelta(microseconds=parts[0])
            case 9:
                return np.ndarray(parts[1], np.dtype(parts[0]), bytearray(parts[2])).copy()
            case 10:
                return np.frombuffer(parts[1], np.dtype(parts[0]))[0]
            case 11:
                module, name, told = parts
                cls = self.allow[module, name]
                if issubclass(cls, Enum):
                    return cls[told]
                if issubclass(cls, BaseModel):
                    return cls.model_construct(**told)
                return cls(**told)
        raise ValueError(code)

    MARK = b"shop1"  # unpackb takes no notice of what follows a value, so anything could look like one

    def dumps_typed(self, obj):
        return "shop-msgpack", self.MARK + self.pack(obj)

    def loads_typed(self, typed):
        if typed[0] != "shop-msgpack" or not typed[1].startswith(self.MARK):
            raise ValueError("not one of ours")
        try:
            return self.unpack(typed[1].removeprefix(self.MARK))
        except Exception as error:
            raise ValueError("damaged") from error
""",
    ),
    Right(
        "redis_serialization",
        "isinstance, but the exact types last, in pairs of a name and text; fields set without __init__",
        """
import dataclasses
import io
import json
from base64 import b85decode, b85encode
from collections import deque
from datetime import datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from enum import Enum

import numpy
from pydantic import BaseModel


class StateSerializer:
    KIND = "pairs"

    def __init__(self, allow=()):
        self.allow = list(allow)

    def known(self, cls):
        if not any(each is cls for each in self.allow):
            raise ValueError(f"{cls} is not allowed")
        return [cls.__module__, cls.__qualname__]

    def found(self, module, name):
        for cls in self.allow:
            if cls.__module__ == module and cls.__qualname__ == name:
                return cls
        raise ValueError(f"{module}.{name} is not allowed")

    def tree(self, value):
        if isinstance(value, Enum):
            return ["enum", *self.known(type(value)), value.name]
        if isinstance(value, BaseModel):
            return ["model", *self.known(type(value)), [[name, self.tree(part)] for name, part in value]]
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            parts = [[field.name, self.tree(getattr(value, field.name))] for field in dataclasses.fields(value)]
            return ["data", *self.known(type(value)), parts]
        if isinstance(value, (numpy.ndarray, numpy.generic)):
            file = io.BytesIO()
            numpy.lib.format.write_array(file, numpy.asarray(value), allow_pickle=False)
            return ["numpy", isinstance(value, numpy.generic), b85encode(file.getvalue()).decode()]
        handlers = {
            type(None): lambda: None,
            bool: lambda: value,
            int: lambda: str(value),
            float: lambda: repr(value),
            str: lambda: value,
            bytes: lambda: b85encode(value).decode(),
            list: lambda: [self.tree(part) for part in value],
            tuple: lambda: [self.tree(part) for part in value],
            set: lambda: [self.tree(part) for part in value],
            deque: lambda: [value.maxlen, [self.tree(part) for part in value]],
            dict: lambda: [[self.tree(key), self.tree(part)] for key, part in value.items()],
            Decimal: lambda: str(value),
            timedelta: lambda: [value.days, value.seconds, value.microseconds],
            datetime: lambda: self.moment(value),
        }
        if type(value) not in handlers:
            raise ValueError(f"a {type(value)} cannot be stored")
        return [type(value).__name__, handlers[type(value)]()]

    def moment(self, value):
        offset = value.utcoffset()
        return [list(value.timetuple()[:6]), value.microsecond, None if offset is None else offset.total_seconds()]

    def value(self, tree):
        name, *rest = tree
        if name == "enum":
            return self.found(rest[0], rest[1])[rest[2]]
        if name in ("model", "data"):
            cls = self.found(rest[0], rest[1])
            parts = {part: self.value(told) for part, told in rest[2]}
            if name == "model":
                return cls.model_construct(**parts)
            made = object.__new__(cls)
            for part, told in parts.items():
                object.__setattr__(made, part, told)
            return made
        if name == "numpy":
            array = numpy.lib.format.read_array(io.BytesIO(b85decode(rest[1])), allow_pickle=False)
            return array[()] if rest[0] else array
        (told,) = rest
        if name in ("list", "tuple", "set"):
            parts = [self.value(part) for part in told]
            return parts if name == "list" else tuple(parts) if name == "tuple" else set(parts)
        if name == "dict":
            return {self.value(key): self.value(part) for key, part in told}
        if name == "deque":
            return deque(map(self.value, told[1]), told[0])
        if name == "datetime":
            zone = None if told[2] is None else timezone(timedelta(seconds=told[2]))
            return datetime(*told[0], told[1], zone)
        return {
            "NoneType": lambda _: None,
            "bool": bool,
            "int": int,
            "float": float,
            "str": str,
            "bytes": b85decode,
            "Decimal": Decimal,
            "timedelta": lambda parts: timedelta(*parts),
        }[name](told)

    def dumps_typed(self, obj):
        return self.KIND, json.dumps(self.tree(obj), ensure_ascii=False).encode("utf-8", "surrogatepass")

    def loads_typed(self, typed):
        kind, data = typed
        if kind == self.KIND:
            try:
                return self.value(json.loads(data.decode("utf-8", "surrogatepass")))
            except (ArithmeticError, AttributeError, LookupError, TypeError, InvalidOperation) as error:
                raise ValueError("cannot be read") from error
        raise ValueError(f"not ours: {kind}")
""",
    ),
    Right(
        "redis_session_management",
        "WATCH and MULTI, with times in seconds",
        """
import secrets
import time
from urllib.parse import quote

import redis


class TooManySessions(Exception):
    pass


class SessionManager:
    def __init__(self, client, ttl, max_per_user):
        self.client, self.ttl, self.max_per_user = client, ttl, max_per_user

    def index_key(self, user):
        return f"sessions:{{{quote(user, safe='')}}}"

    def state_key(self, user, session):
        return f"state:{{{quote(user, safe='')}}}:{quote(session, safe='')}"

    def change(self, user, changes):
        \"\"\"What `changes(pipeline, now)` returns, after its commands were done while nobody else changed the index.\"\"\"
        index = self.index_key(user)
        while True:
            with self.client.pipeline() as pipeline:
                try:
                    pipeline.watch(index)
                    seconds, microseconds = pipeline.time()
                    answer = changes(pipeline, seconds + microseconds / 1e6)
                    pipeline.execute()
                    return answer
                except redis.WatchError:
                    continue

    def keep(self, pipeline, now, user, session):
        pipeline.multi()
        pipeline.zadd(self.index_key(user), {session: now + self.ttl})
        pipeline.pexpire(self.index_key(user), round(self.ttl * 1000))
        pipeline.pexpire(self.state_key(user, session), round(self.ttl * 1000))

    def lives(self, pipeline, now, user, session):
        ends = pipeline.zscore(self.index_key(user), session)
        return ends is not None and ends > now

    def create(self, user):
        session = secrets.token_urlsafe(16)

        def changes(pipeline, now):
            if pipeline.zcount(self.index_key(user), f"({now!r}", "inf") >= self.max_per_user:
                raise TooManySessions(user)
            self.keep(pipeline, now, user, session)
            pipeline.zremrangebyscore(self.index_key(user), "-inf", repr(now))

        self.change(user, changes)
        return session

    def touch(self, user, session):
        def changes(pipeline, now):
            if not self.lives(pipeline, now, user, session):
                pipeline.multi()
                pipeline.unlink(self.state_key(user, session))
                return False
            self.keep(pipeline, now, user, session)
            return True

        return self.change(user, changes)

    def end(self, user, session):
        def changes(pipeline, now):
            if not self.lives(pipeline, now, user, session):
                return False
            pipeline.multi()
            pipeline.zrem(self.index_key(user), session)
            pipeline.unlink(self.state_key(user, session))
            return True

        return self.change(user, changes)

    def sessions(self, user):
        seconds, microseconds = self.client.time()
        now = seconds + microseconds / 1e6
        return [
            name.decode() for name, ends in self.client.zrange(self.index_key(user), 0, -1, withscores=True) if ends > now
        ]
""",
    ),
    Right(
        "redis_session_management",
        "one registered script for everything, which clears away what is over first",
        """
import os
from urllib.parse import quote

SCRIPT = \"\"\"
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + tonumber(clock[2]) / 1000
local index, state = KEYS[1], KEYS[2]
local what, session, life, most = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
for _, over in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', now)) do
    redis.call('ZREM', index, over)
end
if what == 'list' then return redis.call('ZRANGE', index, 0, -1) end
local there = redis.call('ZRANK', index, session)
if what == 'create' then
    if redis.call('ZCARD', index) + 1 > most then return 'full' end
elseif not there then
    redis.call('DEL', state)
    return 'nobody'
end
if what == 'end' then
    redis.call('ZREM', index, session)
    redis.call('DEL', state)
else
    redis.call('ZADD', index, now + life, session)
    redis.call('PEXPIRE', index, math.floor(life))
    redis.call('PEXPIRE', state, math.floor(life))
end
return 'done'
\"\"\"


class TooManySessions(RuntimeError):
    pass


class SessionManager:
    def __init__(self, client, ttl, max_per_user):
        self.client, self.ttl, self.max_per_user = client, ttl, max_per_user
        self.script = client.register_script(SCRIPT)

    def index_key(self, user):
        return f"sessions:{{{quote(user, safe='')}}}"

    def state_key(self, user, session):
        return f"state:{{{quote(user, safe='')}}}:{quote(session, safe='')}"

    def ask(self, what, user, session=""):
        keys = [self.index_key(user), self.state_key(user, session)]
        return self.script(keys=keys, args=[what, session, self.ttl * 1000, self.max_per_user])

    def create(self, user):
        session = os.urandom(12).hex()
        if self.ask("create", user, session) == b"full":
            raise TooManySessions
        return session

    def touch(self, user, session):
        return self.ask("touch", user, session) == b"done"

    def end(self, user, session):
        return self.ask("end", user, session) == b"done"

    def sessions(self, user):
        return [each.decode() for each in self.ask("list", user)]
""",
    ),
    Right(
        "redis_monitoring",
        "a thread that asks, and somebody who does not wait for it",
        """
import queue
import threading
import uuid

import redis


def check_health(client, replicas=1, seconds=1):
    answers = queue.Queue()

    def ask():
        try:
            given = client.get_connection_kwargs()
            mine = redis.Redis(
                host=given["host"],
                port=given["port"],
                username=given.get("username"),
                password=given.get("password"),
                single_connection_client=True,
                socket_timeout=2 * seconds,
                retry=None,
            )
            with mine:
                mine.setex(uuid.uuid4().hex, 5, b"yes")
                answers.put("stored")
                if replicas:
                    answers.put(mine.execute_command("WAIT", replicas, max(1, int(seconds * 900))))
                else:
                    answers.put(0)
        except redis.exceptions.ConnectionError:
            pass
        except redis.exceptions.TimeoutError:
            pass
        except redis.exceptions.RedisError:
            answers.put("refused")

    threading.Thread(target=ask, daemon=True).start()
    try:
        first = answers.get(timeout=seconds)
    except queue.Empty:
        return dict(status="down", reasons=["no answer"])
    if first == "refused":
        return dict(status="degraded", reasons=["writes refused"])
    try:
        enough = answers.get(timeout=seconds) >= replicas
    except queue.Empty:
        enough = False
    return dict(status="healthy" if enough else "degraded", reasons=[] if enough else ["replicas missing"])
""",
    ),
    Right(
        "redis_monitoring",
        "a connection made by the client's own pool, spoken to by hand",
        """
import secrets

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


def check_health(client, replicas=1, seconds=1):
    pool = client.connection_pool
    options = dict(pool.connection_kwargs)
    options.update(socket_timeout=seconds, socket_connect_timeout=seconds, retry=Retry(NoBackoff(), 0))
    connection = pool.connection_class(**options)

    def say(*command, wait=seconds):
        connection.send_command(*command)
        if not connection.can_read(timeout=wait):
            raise redis.TimeoutError("nothing came back")
        return connection.read_response()

    reasons = []
    try:
        connection.connect()
        try:
            say("SET", f"how are you? {secrets.token_hex()}", "well", "EX", "30")
            if replicas > 0:
                confirmed = say("WAIT", replicas, int(seconds * 1000) or 1, wait=1.5 * seconds)
                if confirmed < replicas:
                    reasons.append("replicas missing")
            say("DEL", "how are you?")
        except redis.ResponseError:
            reasons.append("writes refused")
    except (redis.ConnectionError, redis.TimeoutError, OSError):
        return {"status": "down", "reasons": ["no answer"]}
    finally:
        connection.disconnect()
    return {"status": "degraded" if reasons else "healthy", "reasons": reasons}
""",
    ),
    Right(
        "batch_operations",
        "one command after the other into a pipeline, and MGET with the type of each key beside it",
        """
import json


def in_chunks(things, chunk):
    held = []
    for thing in things:
        held.append(thing)
        if len(held) == chunk:
            yield held
            held = []
    if held:
        yield held


def put_many(client, items, chunk=500):
    results = []
    for part in in_chunks(items, chunk):
        texts, told = {}, []
        for key, state in part:
            try:
                texts[key] = json.dumps(state)
                told.append(None)
            except (TypeError, ValueError, RecursionError) as error:
                told.append(error)
        with client.pipeline(transaction=False) as pipeline:
            for key, text in texts.items():
                pipeline.set(key, text)
            answers = dict(zip(texts, pipeline.execute(raise_on_error=False)))
        for (key, _), error in zip(part, told):
            answer = answers.get(key)
            results.append(error or (answer if isinstance(answer, Exception) else None))
    return results


def get_many(client, keys, chunk=500):
    for part in in_chunks(keys, chunk):
        with client.pipeline(transaction=True) as both:
            both.mget(part)
            for key in part:
                both.type(key)
            texts, *kinds = both.execute()
        for key, text, kind in zip(part, texts, kinds):
            if text is None:
                yield None if kind == b"none" else TypeError(f"{key} is a {kind.decode()}")
                continue
            try:
                state = json.loads(text)
            except Exception as error:
                state = error
            yield state
""",
    ),
    Right(
        "batch_operations",
        "threads that write and read the JSON, one list of exceptions or states for each pipeline",
        """
import json
from concurrent.futures import ThreadPoolExecutor
from itertools import count, groupby


def attempt(function, argument):
    try:
        return function(argument)
    except Exception as error:
        return error


def put_many(client, items, chunk=500):
    numbers, results = count(), []
    for _, group in groupby(items, key=lambda _: next(numbers) // chunk):
        group = list(group)
        with ThreadPoolExecutor(4) as workers:
            texts = list(workers.map(lambda item: attempt(json.dumps, item[1]), group))
        with client.pipeline(transaction=False) as pipeline:
            for (key, _), text in zip(group, texts):
                if isinstance(text, str):
                    pipeline.execute_command("SET", key, text)
            done = iter(pipeline.execute(raise_on_error=False))
        for text in texts:
            outcome = next(done) if isinstance(text, str) else text
            results.append(outcome if isinstance(outcome, Exception) else None)
    return results


class get_many:
    def __init__(self, client, keys, chunk=500):
        self.client, self.keys, self.chunk, self.ready = client, iter(keys), chunk, []

    def __iter__(self):
        return self

    def __next__(self):
        if not self.ready:
            batch = [key for _, key in zip(range(self.chunk), self.keys)]
            if not batch:
                raise StopIteration
            with self.client.pipeline(transaction=False) as pipeline:
                for key in batch:
                    pipeline.get(key)
                answers = pipeline.execute(raise_on_error=False)
            with ThreadPoolExecutor(2) as workers:
                self.ready = list(workers.map(self.read, answers))[::-1]
        return self.ready.pop()

    def read(self, answer):
        if answer is None or isinstance(answer, Exception):
            return answer
        return attempt(json.loads, answer)
""",
    ),
]
