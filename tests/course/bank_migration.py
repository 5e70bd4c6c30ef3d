"""The same as `bank`, for lesson 5: what a learner could plausibly get wrong about old states, and right another way."""

from .bank import Right, Wrong

WRONG_MIGRATION = [
    # --- state_versioning ---
    Wrong(
        "state_versioning",
        "the version is kept beside the state",
        {
            "        self.inner = inner\n": "        self.inner, self.known = inner, {}\n",
            '        return f"v{self.version}:{kind}", data\n': (
                "        self.known[data] = self.version\n        return kind, data\n"
            ),
            '        stamp = re.match(r"v(\\d+):", typed[0])\n        return int(stamp[1]) if stamp else 1\n': (
                "        return self.known.get(typed[1], 1)\n"
            ),
        },
        ("a value comes back", "a state from the future"),
        ("It can only be in the pair itself",),
    ),
    Wrong(
        "state_versioning",
        "a version from the future is read as the current one",
        {"if version > self.version:": "if False:"},
        ("a state from the future", "every value of a thread"),
        ("It would misread it",),
    ),
    Wrong(
        "state_versioning",
        "versions are compared as text",
        {"if version > self.version:": "if str(version) > str(self.version):"},
        ("a state from the future",),
        ("As numbers: 9 is less than 10",),
    ),
    Wrong(
        "state_versioning",
        "only the very same version is read",
        {"if version > self.version:": "if version != self.version:"},
        ("newer code reads", "what was written without a stamp"),
        ("Version 7 may read version 3",),
    ),
    Wrong(
        "state_versioning",
        "what looks like a stamp is taken off too",
        {'re.sub(r"^v\\d+:", "", typed[0])': 're.sub(r"^(v\\d+:)+", "", typed[0])'},
        ("the inner serializer gets its own type back",),
        ("Take off your stamp, once",),
    ),
    Wrong(
        "state_versioning",
        "the stamp is in front of the bytes",
        {
            '        return f"v{self.version}:{kind}", data\n': (
                '        return kind, f"v{self.version}:".encode() + data\n'
            ),
            '        stamp = re.match(r"v(\\d+):", typed[0])\n': '        stamp = re.match(rb"v(\\d+):", typed[1])\n',
            '(re.sub(r"^v\\d+:", "", typed[0]), typed[1])': '(typed[0], re.sub(rb"^v\\d+:", b"", typed[1]))',
        },
        ("what was written without a stamp",),
        ("A stamp in the type cannot be mistaken for data",),
    ),
    Wrong(
        "state_versioning",
        "what has no stamp is taken for current",
        {"if stamp else 1": "if stamp else self.version"},
        ("what was written without a stamp",),
        ("what the inner serializer wrote by itself is version 1",),
    ),
    Wrong(
        "state_versioning",
        "the message does not say which versions",
        {
            'f"this state has version {version}, and this code knows up to {self.version}: update it"': '"state is too new"'
        },
        ("a state from the future",),
        ("wants both versions",),
    ),
    Wrong(
        "state_versioning",
        "True is taken for a version",
        {"type(version) is not int": "not isinstance(version, int)"},
        ("a version that is none",),
        ("`True` is an int for `isinstance`",),
    ),
    Wrong(
        "state_versioning",
        "a version has one digit",
        {
            'stamp = re.match(r"v(\\d+):", typed[0])': 'stamp = re.match(r"v(\\d):", typed[0])',
            're.sub(r"^v\\d+:", "", typed[0])': 're.sub(r"^v\\d:", "", typed[0])',
        },
        ("a value comes back", "a state from the future"),
        ("It wrote the type 'v",),
    ),
    Wrong(
        "state_versioning",
        "the inner type is what stands behind the last colon",
        {'re.sub(r"^v\\d+:", "", typed[0])': 'typed[0].split(":")[-1]'},
        ("the inner serializer gets its own type back",),
        ("Take off your stamp, once",),
    ),
    Wrong(
        "state_versioning",
        "the value is loaded first, and the version looked at afterwards",
        {
            "        version = self.version_of(typed)\n        if version > self.version:": (
                '        value = self.inner.loads_typed((re.sub(r"^v\\d+:", "", typed[0]), typed[1]))\n'
                "        version = self.version_of(typed)\n"
                "        if version > self.version:"
            ),
            '        return self.inner.loads_typed((re.sub(r"^v\\d+:", "", typed[0]), typed[1]))\n': "        return value\n",
        },
        ("a state from the future",),
        ("before the inner serializer sees it",),
    ),
    # --- migration_tools ---
    Wrong(
        "migration_tools",
        "the first way that is found, not the shortest",
        {"ways.popleft()": "ways.pop()"},
        ("the plan is the shortest way",),
        ("The fewest steps win",),
    ),
    Wrong(
        "migration_tools",
        "one version after the other",
        {
            "        ways, seen = deque([(start, [])]), {start}\n": (
                "        way = [(version, version + 1) for version in range(start, goal)]\n"
                "        if start <= goal and all(step in self.steps for step in way):\n"
                "            return way\n"
                "        ways, seen = deque([(start, [])]), {start}\n"
            )
        },
        ("the plan is the shortest way",),
        ("The fewest steps win",),
    ),
    Wrong(
        "migration_tools",
        "round and round",
        {"if step[0] == version and step[1] not in seen:": "if step[0] == version:"},
        ("where no way leads",),
        ("do not go round for ever",),
    ),
    Wrong(
        "migration_tools",
        "no way is an empty plan",
        {'        raise ValueError(f"no steps lead from version {start} to {goal}")\n': "        return []\n"},
        ("where no way leads", "a version that no step leads from"),
        ("Leaving it out in silence hides it",),
    ),
    Wrong(
        "migration_tools",
        "a dry run writes",
        {"            if not dry_run:\n": "            if True:\n"},
        ("a dry run tells the same",),
        ("A dry run does all but the writing",),
    ),
    Wrong(
        "migration_tools",
        "a dry run tells nothing",
        {"            changed.append(": "            if not dry_run:\n                changed.append("},
        ("a dry run tells the same",),
        ("it tells what the real run then does",),
    ),
    Wrong(
        "migration_tools",
        "only the newest checkpoint of each thread",
        {
            "        for found in saver.list(None):\n": (
                "        threads = {found.config['configurable']['thread_id'] for found in saver.list(None)}\n"
                "        for found in [saver.get_tuple({'configurable': {'thread_id': name}}) for name in threads]:\n"
            )
        },
        ("a run takes every checkpoint",),
        ("each once",),
    ),
    Wrong(
        "migration_tools",
        "a second run starts over",
        {"            if version == goal:\n                continue\n": ""},
        ("what has the version already", "a run that was stopped"),
        ("A second run finds nothing to do",),
    ),
    Wrong(
        "migration_tools",
        "a second run ends where the first one had begun",
        {
            "            if version == goal:\n                continue\n": "            if version == goal:\n                break\n"
        },
        ("a run that was stopped",),
        ("The second run does what is left",),
    ),
    Wrong(
        "migration_tools",
        "the stamp is forgotten",
        {"saver.put(*rewritten(found, values, goal))": "saver.put(*rewritten(found, values, version))"},
        ("a run takes every checkpoint", "what has the version already"),
        ("each is stamped with the version that it has now",),
    ),
    Wrong(
        "migration_tools",
        "each checkpoint becomes its own parent",
        {"saver.put(*rewritten(found, values, goal))": "saver.put(found.config, *rewritten(found, values, goal)[1:])"},
        ("a run takes every checkpoint",),
        ("Each keeps its parent",),
    ),
    Wrong(
        "migration_tools",
        "a step that fails is passed over in silence",
        {
            "                place = f\"thread {names['thread_id']!r}, checkpoint {names['checkpoint_id']}\"\n"
            '                raise StepFailed(f"{place}, version {version}: {error!r}") from error\n': (
                "                continue\n"
            )
        },
        ("a step that fails names", "a version that no step leads from"),
        ("StepFailed says so",),
    ),
    Wrong(
        "migration_tools",
        "the error does not say where",
        {'raise StepFailed(f"{place}, version {version}: {error!r}") from error': "raise StepFailed(repr(error))"},
        ("a step that fails names",),
        ("with 10,000 of them nobody finds it else",),
    ),
    Wrong(
        "migration_tools",
        "the step that comes nearest to the goal, not the shortest way",
        {
            "            version, way = ways.popleft()\n": (
                "            ways = deque(sorted(ways, key=lambda each: abs(goal - each[0])))\n"
                "            version, way = ways.popleft()\n"
            )
        },
        ("the plan is the shortest way",),
        ("The fewest steps win",),
    ),
    Wrong(
        "migration_tools",
        "what tasks wrote is left behind",
        {"                for each in writes:\n                    saver.put_writes(*each)\n": ""},
        ("what tasks wrote is taken along",),
        ("`rewritten_writes` says what to store",),
    ),
    Wrong(
        "migration_tools",
        "the checkpoint with its stamp is stored before what tasks wrote",
        {
            "                for each in writes:\n                    saver.put_writes(*each)\n": "",
            "                saver.put(*rewritten(found, values, goal))\n": (
                "                saver.put(*rewritten(found, values, goal))\n"
                "                for each in writes:\n"
                "                    saver.put_writes(*each)\n"
            ),
        },
        ("what tasks wrote is taken along",),
        ("So the stamp comes last",),
    ),
    Wrong(
        "migration_tools",
        "the plan is made outside the try",
        {"            try:\n": "            self.plan(version, goal)\n            try:\n"},
        ("a version that no step leads from",),
        ("StepFailed does",),
    ),
    Wrong(
        "migration_tools",
        "an error of Python's own instead of StepFailed",
        {"raise StepFailed(f": "raise ValueError(f"},
        ("a step that fails names", "a version that no step leads from"),
        ("raises StepFailed",),
    ),
    Wrong(
        "migration_tools",
        "only one step is taken",
        {
            'self.upcast(found.checkpoint["channel_values"], version, goal)': 'self.upcast({**found.checkpoint["channel_values"]}, version, version + 1)'
        },
        ("a run takes every checkpoint",),
        ("A checkpoint of version 1 had",),
    ),
    Wrong(
        "migration_tools",
        "the threads are told instead of the checkpoints",
        {'changed.append(names["checkpoint_id"])': 'changed.append(names["thread_id"])'},
        ("a run takes every checkpoint",),
        ("`run` returns the ids of all checkpoints",),
    ),
    Wrong(
        "migration_tools",
        "only the namespace of the graph itself",
        {
            '            version, names = state_version(found), found.config["configurable"]\n': (
                '            version, names = state_version(found), found.config["configurable"]\n'
                '            if names["checkpoint_ns"]:\n'
                "                continue\n"
            )
        },
        ("a run takes every checkpoint", "a conversation that waited"),
        ("in a namespace of their own", "each once"),
    ),
    # --- backward_compatibility ---
    Wrong(
        "backward_compatibility",
        "only the head is taken along",
        {"            yield self.upcast(found)\n": "            yield found\n"},
        ("one can go back",),
        ("Older checkpoints are listed too",),
    ),
    Wrong(
        "backward_compatibility",
        "fields that this code does not know are dropped",
        {
            "                    values = values | {name: value}  # this code does not know it\n": "                    pass\n"
        },
        ("what an old worker does not know",),
        ("carry along what the parent had",),
    ),
    Wrong(
        "backward_compatibility",
        "the old worker stamps with its own version",
        {"            version = max(version, state_version(parent))\n": ""},
        ("what an old worker does not know",),
        ("the stamp is the greater of its own and its parent's",),
    ),
    Wrong(
        "backward_compatibility",
        "only what the graph has changed is named",
        {
            "        new_versions = {name: number for name, number in numbers.items() if name in values} | new_versions\n": ""
        },
        ("what it went on with is stored",),
        ("Name every channel that has a value",),
    ),
    Wrong(
        "backward_compatibility",
        "what is stored has no stamp",
        {"metadata | {STAMP: version}": "metadata"},
        ("what it went on with is stored",),
        ("are stamped with 3",),
    ),
    Wrong(
        "backward_compatibility",
        "the interrupt is lost",
        {
            "        writes = self.migrations.upcast_writes(found.pending_writes, *way)\n": "        writes = []\n",
        },
        ("what a task wrote in version 1",),
        ("A task had finished and written `total`",),
    ),
    Wrong(
        "backward_compatibility",
        "what tasks wrote keeps its old names",
        {
            "self.migrations.upcast_writes(found.pending_writes, *way)": "found.pending_writes",
        },
        ("what a task wrote in version 1",),
        ("No channel has that name any more",),
    ),
    Wrong(
        "backward_compatibility",
        "what was removed is carried along too",
        {"if name not in values and name in numbers and name not in new_versions:": "if name not in values:"},
        ("what was removed",),
        ("Carry along only what did not change",),
    ),
    Wrong(
        "backward_compatibility",
        "reading writes",
        {
            "        _, checkpoint, metadata, _ = rewritten(found, values, self.version)\n": (
                "        self.inner.put(*rewritten(found, values, self.version))\n"
                "        _, checkpoint, metadata, _ = rewritten(found, values, self.version)\n"
            )
        },
        ("new code sees an old thread",),
        ("Reading writes nothing",),
    ),
    Wrong(
        "backward_compatibility",
        "a newer state is taken for an old one",
        {"state_version(found) >= self.version": "state_version(found) == self.version"},
        ("what an old worker does not know",),
        ("In a rolling deploy a worker of version 2 gets a thread of version 3",),
    ),
    Wrong(
        "backward_compatibility",
        "the metadata say the old version",
        {"checkpoint=checkpoint, metadata=metadata, pending_writes": "checkpoint=checkpoint, pending_writes"},
        ("new code sees an old thread",),
        ("its stamp says so",),
    ),
    Wrong(
        "backward_compatibility",
        "a thread that is not there is upcast as well",
        {"if found is None or state_version(found)": "if state_version(found)"},
        ("new code sees an old thread",),
        ("Nothing is stored about this thread",),
    ),
    Wrong(
        "backward_compatibility",
        "only the values are taken along, and not the channel versions",
        {
            "        _, checkpoint, metadata, _ = rewritten(found, values, self.version)\n": (
                '        checkpoint = found.checkpoint | {"channel_values": values}\n'
                "        metadata = found.metadata | {STAMP: self.version}\n"
            )
        },
        ("what it went on with is stored",),
        ("which `upcast` has from `rewritten`",),
    ),
    Wrong(
        "backward_compatibility",
        "a first checkpoint has no parent to look up",
        {'config["configurable"].get("checkpoint_id")': 'config["configurable"]["checkpoint_id"]'},
        ("what an old worker does not know",),
        ("KeyError: 'checkpoint_id'",),
    ),
    Wrong(
        "backward_compatibility",
        "a checkpoint gets the stamp of its parent, and no newer one",
        {"version = max(version, state_version(parent))": "version = state_version(self.inner.get_tuple(config))"},
        ("what it went on with is stored",),
        ("are stamped with 3",),
    ),
    # --- state_validation ---
    Wrong(
        "state_validation",
        "validation stops at what cannot be loaded",
        {
            '    except Exception:\n        found.add("damaged")\n': '    except KeyError:\n        found.add("damaged")\n'
        },
        ("damaged bytes of a checkpoint",),
        ("never stops at it",),
    ),
    Wrong(
        "state_validation",
        "metadata are not looked at",
        {"        saver.serde.loads_typed(metadata)\n": ""},
        ("damaged bytes of a checkpoint",),
        ("A bit of a checkpoint's metadata has flipped",),
    ),
    Wrong(
        "state_validation",
        "what tasks wrote is not looked at",
        {
            "        for _, _, written, _ in saver.writes.get((thread, space, checkpoint_id), {}).values():\n"
            "            saver.serde.loads_typed(written)\n": ""
        },
        ("damaged bytes of a value",),
        ("A bit of what a task wrote",),
    ),
    Wrong(
        "state_validation",
        "a missing value is taken for none",
        {
            '            if blob is None:\n                found.add("missing value")\n            elif blob[0]': "            if blob and blob[0]"
        },
        ("a value that is gone",),
        ("names a blob that is not there",),
    ),
    Wrong(
        "state_validation",
        "a channel without a value is damaged",
        {'elif blob[0] != "empty":': "else:"},
        ("a healthy store",),
        ("a channel may have no value",),
    ),
    Wrong(
        "state_validation",
        "a look makes entries",
        {
            "        for _, _, written, _ in saver.writes.get((thread, space, checkpoint_id), {}).values():\n": (
                "        for _, _, written, _ in saver.writes[thread, space, checkpoint_id].values():\n"
            )
        },
        ("a healthy store",),
        ("it is a defaultdict",),
    ),
    Wrong(
        "state_validation",
        "orphans are found, circles are not",
        {'    if parent and parent >= checkpoint_id:\n        found.add("cycle")\n    elif': "    if"},
        ("a circle of parents",),
        ("walks for ever",),
    ),
    Wrong(
        "state_validation",
        "only the first problem is told",
        {"    return problems\n    ### END": "    return problems[:1]\n    ### END"},
        ("several problems",),
        ("all of them, not the first",),
    ),
    Wrong(
        "state_validation",
        "the schema is not looked at",
        {"if not isinstance(value, schema.get(channel, object)):": "if False:"},
        ("a value of the wrong type",),
        ("the schema says int",),
    ),
    Wrong(
        "state_validation",
        "a repair throws away",
        {
            "        aside[problem] = checkpoints.pop(checkpoint_id), dict(saver.writes.pop((thread, space, checkpoint_id), {}))\n": (
                "        aside[problem] = checkpoint_id\n"
                "        checkpoints.pop(checkpoint_id), saver.writes.pop((thread, space, checkpoint_id), {})\n"
            )
        },
        ("after a repair",),
        ("Set aside is not thrown away",),
    ),
    Wrong(
        "state_validation",
        "children of what was taken out lose their history",
        {"checkpoints[child] = (stored, metadata, parent)": "checkpoints[child] = (stored, metadata, None)"},
        ("what cannot be mended",),
        ("the history is shorter, and not cut",),
    ),
    Wrong(
        "state_validation",
        "a checkpoint without its parent is thrown out",
        {'if what in ("cycle", "no parent"):': 'if what == "cycle":'},
        ("what can be mended",),
        ("Nothing is lost if it becomes a first checkpoint",),
    ),
    Wrong(
        "state_validation",
        "one look and one repair",
        {
            "    while problems := validate(saver, schema):\n        problem = what, thread, space, checkpoint_id = problems[0]\n": (
                "    for problem in validate(saver, schema)[:1]:\n        what, thread, space, checkpoint_id = problem\n"
            )
        },
        ("after a repair",),
        ("look again until there is none",),
    ),
    Wrong(
        "state_validation",
        "a look at orphans makes threads",
        {"saver.storage.get(thread, {}).get(space, {})": "saver.storage[thread][space]"},
        ("writes without their checkpoint",),
        ("makes what is not there: use `.get`",),
    ),
    Wrong(
        "state_validation",
        "one problem of each checkpoint",
        {
            "for what in sorted(faults(saver, schema, thread, space, checkpoint_id)):": (
                "for what in sorted(faults(saver, schema, thread, space, checkpoint_id))[:1]:"
            )
        },
        ("several problems of one checkpoint",),
        ("two entries",),
    ),
    Wrong(
        "state_validation",
        "the same problem once for each channel",
        {
            "    checkpoints, found = saver.storage[thread][space], set()\n": (
                "    checkpoints, found = saver.storage[thread][space], []\n"
            ),
            'found.add("cycle")': 'found.append("cycle")',
            'found.add("no parent")': 'found.append("no parent")',
            'found.add("missing value")': 'found.append("missing value")',
            'found.add("wrong type")': 'found.append("wrong type")',
            'found.add("damaged")': 'found.append("damaged")',
        },
        ("several problems of one checkpoint",),
        ("has one entry for that",),
    ),
    Wrong(
        "state_validation",
        "only who is its own parent is in a circle",
        {"if parent and parent >= checkpoint_id:": "if parent and parent == checkpoint_id:"},
        ("a circle of parents",),
        ("names a younger one as its parent",),
    ),
    Wrong(
        "state_validation",
        "a checkpoint is set aside without its writes",
        {"dict(saver.writes.pop((thread, space, checkpoint_id), {}))": "{}"},
        ("what cannot be mended",),
        ("with its writes and nothing else",),
    ),
    Wrong(
        "state_validation",
        "values that others share are taken out as well",
        {
            "        for child, (stored, metadata, its_parent) in checkpoints.items():\n": (
                "        blobs = [key for key in saver.blobs if key[:2] == (thread, space)]\n"
                "        aside[problem] += tuple(saver.blobs.pop(key) for key in blobs)\n"
                "        for child, (stored, metadata, its_parent) in checkpoints.items():\n"
            )
        },
        ("what cannot be mended",),
        ("with its writes and nothing else",),
    ),
    # --- async_operations ---
    Wrong(
        "async_operations",
        "gather without a limit",
        {
            "            await slots.acquire()\n": "",
            "            tasks[-1].add_done_callback(lambda _: slots.release())\n": "",
        },
        ("at most `limit`", "cancelled midway"),
        ("A semaphore lets so many in, and no more",),
    ),
    Wrong(
        "async_operations",
        "one thread after the other",
        {"asyncio.Semaphore(limit)": "asyncio.Semaphore(1)"},
        ("at most `limit`",),
        ("others can go on",),
    ),
    Wrong(
        "async_operations",
        "a slot is never given back",
        {"            tasks[-1].add_done_callback(lambda _: slots.release())\n": ""},
        ("every checkpoint",),
        ("a slot which nobody gives back",),
    ),
    Wrong(
        "async_operations",
        "steps are taken on the event loop",
        {
            "await asyncio.to_thread(migrations.upcast, values, state_version(found), version)": (
                "migrations.upcast(values, state_version(found), version)"
            )
        },
        ("the event loop is never blocked",),
        ("runs it beside the loop",),
    ),
    Wrong(
        "async_operations",
        "put is called on the event loop",
        {"await saver.aput(*rewritten(found, values, version))": "saver.put(*rewritten(found, values, version))"},
        ("every checkpoint",),
        ("Await `aput`",),
    ),
    Wrong(
        "async_operations",
        "cancelled, it leaves a thread half done",
        {
            "    while unfinished := [task for task in tasks if not task.done()]:\n": (
                "    if cancelled:\n"
                "        for task in tasks:\n"
                "            task.cancel()\n"
                "    while unfinished := [task for task in tasks if not task.done()]:\n"
            )
        },
        ("cancelled midway",),
        ("is half of version 1 and half of version 3",),
    ),
    Wrong(
        "async_operations",
        "cancelled, it does not wait for what was begun",
        {
            "    except asyncio.CancelledError:\n        cancelled = True\n    while": "    except asyncio.CancelledError:\n        raise\n    while"
        },
        ("cancelled midway",),
        ("wait for what was begun",),
    ),
    Wrong(
        "async_operations",
        "a cancellation is swallowed",
        {"    if cancelled:\n        raise asyncio.CancelledError\n": ""},
        ("cancelled midway",),
        ("Who is cancelled ends with CancelledError",),
    ),
    Wrong(
        "async_operations",
        "errors are swallowed",
        {"sum(task.result() for task in tasks)": "sum(0 if task.exception() else task.result() for task in tasks)"},
        ("an error of one thread",),
        ("the error comes out",),
    ),
    Wrong(
        "async_operations",
        "only the head of each thread",
        {
            '    async for found in saver.alist({"configurable": {"thread_id": thread_id}}):\n': (
                '    async for found in saver.alist({"configurable": {"thread_id": thread_id}}, limit=1):\n'
            )
        },
        ("every checkpoint",),
        ("As `run` of task 2 does it",),
    ),
    Wrong(
        "async_operations",
        "what tasks wrote is left behind",
        {
            "            for each in await asyncio.to_thread(rewritten_writes, found, migrations, version):\n"
            "                await saver.aput_writes(*each)\n": ""
        },
        ("every checkpoint",),
        ("and what tasks wrote",),
    ),
    Wrong(
        "async_operations",
        "what tasks wrote is upcast on the event loop",
        {
            "await asyncio.to_thread(rewritten_writes, found, migrations, version)": (
                "rewritten_writes(found, migrations, version)"
            )
        },
        ("the event loop is never blocked",),
        ("runs it beside the loop",),
    ),
    Wrong(
        "async_operations",
        "only the namespace of the graph itself",
        {
            'saver.alist({"configurable": {"thread_id": thread_id}})': (
                'saver.alist({"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}})'
            )
        },
        ("the states of subgraphs",),
        ("lists all of its namespaces",),
    ),
    Wrong(
        "async_operations",
        "gather waits for what was begun, and ends it when cancelled again",
        {
            "            await asyncio.wait(unfinished)  # unlike gather, it leaves them alone if it is cancelled itself\n": (
                "            await asyncio.gather(*unfinished, return_exceptions=True)\n"
            )
        },
        ("cancelled once more",),
        ("`gather` hands a cancellation on",),
    ),
    Wrong(
        "async_operations",
        "the threads are listed on the event loop",
        {
            'found.config["configurable"]["thread_id"] async for found in saver.alist(None)': (
                'found.config["configurable"]["thread_id"] for found in saver.list(None)'
            )
        },
        ("every checkpoint",),
        ("`list` was called on the event loop",),
    ),
    Wrong(
        "async_operations",
        "a TaskGroup, which ends its tasks when it is cancelled",
        {
            "        for thread_id in threads:\n"
            "            await slots.acquire()\n"
            "            tasks.append(asyncio.create_task(migrate_thread(saver, migrations, version, thread_id)))\n"
            "            tasks[-1].add_done_callback(lambda _: slots.release())\n": (
                "        async with asyncio.TaskGroup() as group:\n"
                "            for thread_id in threads:\n"
                "                await slots.acquire()\n"
                "                tasks.append(group.create_task(migrate_thread(saver, migrations, version, thread_id)))\n"
                "                tasks[-1].add_done_callback(lambda _: slots.release())\n"
            )
        },
        ("cancelled midway",),
        ("is half of version 1 and half of version 3",),
    ),
    Wrong(
        "async_operations",
        "a TaskGroup whose tasks take steps on the event loop",
        {
            "            tasks.append(asyncio.create_task(migrate_thread(saver, migrations, version, thread_id)))\n"
            "            tasks[-1].add_done_callback(lambda _: slots.release())\n": (
                "            tasks.append(migrate_thread(saver, migrations, version, thread_id))\n"
                "        async with asyncio.TaskGroup() as group:\n"
                "            tasks = [group.create_task(task) for task in tasks]\n"
            ),
            "            await slots.acquire()\n": "",
            "await asyncio.to_thread(migrations.upcast, values, state_version(found), version)": (
                "migrations.upcast(values, state_version(found), version)"
            ),
        },
        ("the event loop is never blocked",),
        ("runs it beside the loop",),
    ),
    Wrong(
        "async_operations",
        "tasks are shielded, and nobody waits for them",
        {
            "            await asyncio.wait(unfinished)  # unlike gather, it leaves them alone if it is cancelled itself\n": (
                "            await asyncio.shield(asyncio.wait(unfinished))\n"
            ),
            "            cancelled = True\n    if cancelled": "            raise\n    if cancelled",
        },
        ("cancelled once more",),
        ("wait for what was begun",),
    ),
    Wrong(
        "async_operations",
        "cancelled, it goes on to the end",
        {
            "    except asyncio.CancelledError:\n        cancelled = True\n    while": (
                "    except asyncio.CancelledError:\n"
                "        cancelled = True\n"
                "        tasks += [\n"
                "            asyncio.create_task(migrate_thread(saver, migrations, version, each))\n"
                "            for each in list(threads)[len(tasks) :]\n"
                "        ]\n"
                "    while"
            )
        },
        ("cancelled midway",),
        ("Only those at work are finished",),
    ),
]

RIGHT_MIGRATION = [
    Right(
        "state_versioning",
        "a stamp behind the type, in hexadecimal",
        """
class FromTheFuture(ValueError):
    pass


class VersionedSerializer:
    def __init__(self, inner, version):
        if isinstance(version, bool) or not isinstance(version, int) or version <= 0:
            raise TypeError("a version is 1 or more")
        self.inner, self.version = inner, version

    def dumps_typed(self, obj):
        kind, data = self.inner.dumps_typed(obj)
        return kind + "+state" + format(self.version, "08x"), data

    def split(self, kind):
        head, plus, tail = kind[:-14], kind[-14:-8], kind[-8:]
        return (head, int(tail, 16)) if plus == "+state" else (kind, 1)

    def version_of(self, typed):
        return self.split(typed[0])[1]

    def loads_typed(self, typed):
        kind, version = self.split(typed[0])
        if version > self.version:
            raise FromTheFuture(f"code {self.version}, state {version}")
        return self.inner.loads_typed((kind, typed[1]))
""",
    ),
    Right(
        "state_versioning",
        "JSON in the type",
        """
import json


class FromTheFuture(ValueError):
    pass


class VersionedSerializer:
    def __init__(self, inner, version):
        if type(version) is not int or version < 1:
            raise ValueError(version)
        self.inner, self.version = inner, version

    def dumps_typed(self, obj):
        kind, data = self.inner.dumps_typed(obj)
        return json.dumps({"version": self.version, "kind": kind}), data

    @staticmethod
    def parts(kind):
        try:
            stamp = json.loads(kind)
            return stamp["version"], stamp["kind"]
        except (ValueError, TypeError, KeyError):
            return 1, kind

    def version_of(self, typed):
        return self.parts(typed[0])[0]

    def loads_typed(self, typed):
        version, kind = self.parts(typed[0])
        if self.version < version:
            raise FromTheFuture("state %d, code %d" % (version, self.version))
        return self.inner.loads_typed((kind, typed[1]))
""",
    ),
    Right(
        "migration_tools",
        "distances from the goal, all checkpoints read before the first is written",
        """
from copy import deepcopy

from learning.migration import rewritten, rewritten_writes, state_version


class StepFailed(RuntimeError):
    pass


class Migrations:
    def __init__(self):
        self.steps = {}

    def step(self, start, goal):
        return lambda function: self.steps.setdefault((start, goal), function)

    def plan(self, start, goal):
        far = {goal: 0}
        for distance in range(len(self.steps) + 1):
            for a, b in self.steps:
                if far.get(b) == distance and a not in far:
                    far[a] = distance + 1
        if start not in far:
            raise ValueError(f"{start} does not lead to {goal}")
        way = []
        while start != goal:
            after = next(b for a, b in self.steps if a == start and far.get(b, -1) == far[start] - 1)
            way.append([start, after])
            start = after
        return way

    def upcast(self, values, start, goal):
        values = deepcopy(values)
        for a, b in self.plan(start, goal):
            values = self.steps[a, b](values)
            if "__start__" in values:
                values["__start__"] = self.steps[a, b](values["__start__"])
        return values

    def run(self, saver, goal, dry_run=False):
        old = [found for found in saver.list(None) if state_version(found) != goal]
        for found in reversed(old):
            try:
                values = self.upcast(found.checkpoint["channel_values"], state_version(found), goal)
                writes = rewritten_writes(found, self, goal)
            except Exception as error:
                raise StepFailed(f"{found.config}: {error}")
            if not dry_run:
                for config, written, task_id in writes:
                    saver.put_writes(config, written, task_id)
                saver.put(*rewritten(found, values, goal))
        return [found.checkpoint["id"] for found in old]
""",
    ),
    Right(
        "migration_tools",
        "longer and longer ways are tried, and what tasks wrote is taken along by hand",
        """
from copy import deepcopy

from learning.migration import rewritten


class StepFailed(Exception):
    def __init__(self, found, reason):
        place = found.config["configurable"]
        super().__init__("{thread_id}/{checkpoint_ns}/{checkpoint_id}".format(**place) + f" is as it was: {reason}")


class Migrations:
    def __init__(self):
        self.steps = {}

    def step(self, start, goal):
        def decorate(function):
            self.steps[(start, goal)] = function
            return function

        return decorate

    def plan(self, start, goal):
        for most in range(len(self.steps) + 1):
            way = self._within(start, goal, most)
            if way is not None:
                return way
        raise ValueError(f"nothing leads from {start} to {goal}")

    def _within(self, start, goal, most):
        if start == goal:
            return []
        for here, there in self.steps:
            if most and here == start:
                rest = self._within(there, goal, most - 1)
                if rest is not None:
                    return [(here, there)] + rest
        return None

    def _along(self, way, given):
        for step in way:
            given = self.steps[step](given)
            if isinstance(given.get("__start__"), dict):
                given["__start__"] = self.steps[step](given["__start__"])
        return given

    def _work(self, saver, goal):
        for found in list(saver.list(None)):
            version = found.metadata.get("state_version", 1)
            if version == goal:
                continue
            try:
                way = self.plan(version, goal)
                values = self._along(way, deepcopy(found.checkpoint["channel_values"]))
                added_anyway = self._along(way, {})
                tasks = {}
                for task_id, channel, value in found.pending_writes or []:
                    if channel in ("__error__", "__scheduled__", "__interrupt__", "__resume__"):
                        continue
                    tasks.setdefault(task_id, ({}, {}))[0][channel] = value
                    for name, given in self._along(way, {channel: deepcopy(value)}).items():
                        if name != channel and name not in added_anyway:
                            tasks[task_id][1][name] = given
            except Exception as error:
                raise StepFailed(found, error) from error
            yield found, values, tasks

    def run(self, saver, goal, dry_run=False):
        ids = []
        for found, values, tasks in self._work(saver, goal):
            ids.append(found.checkpoint["id"])
            if dry_run:
                continue
            for task_id, (old, new) in tasks.items():
                if new.keys() - old.keys():
                    saver.put_writes(found.config, list((old | new).items()), task_id)
            saver.put(*rewritten(found, values, goal))
        return ids
""",
    ),
    Right(
        "backward_compatibility",
        "a subclass of the library's ideas, with everything in put taken from the parent first",
        """
from langgraph.checkpoint.base import BaseCheckpointSaver


class CompatibleSaver(BaseCheckpointSaver):
    def __init__(self, inner, migrations, version):
        super().__init__(serde=inner.serde)
        self.inner, self.migrations, self.version = inner, migrations, version

    def upcast(self, found):
        if not found:
            return None
        version = found.metadata.get("state_version", 1)
        if version >= self.version:
            return found
        old, numbers = found.checkpoint["channel_values"], dict(found.checkpoint["channel_versions"])
        values = self.migrations.upcast(old, version, self.version)
        for name in old.keys() - values.keys():
            numbers.pop(name, None)
        for name in values.keys() - old.keys():
            numbers.setdefault(name, max(found.checkpoint["channel_versions"].values()))
        checkpoint = dict(found.checkpoint, channel_values=values, channel_versions=numbers)
        return found._replace(
            checkpoint=checkpoint,
            metadata=dict(found.metadata, state_version=self.version),
            pending_writes=self.migrations.upcast_writes(found.pending_writes, version, self.version),
        )

    def get_tuple(self, config):
        return self.upcast(self.inner.get_tuple(config))

    def list(self, *arguments, **options):
        return map(self.upcast, self.inner.list(*arguments, **options))

    def put(self, config, checkpoint, metadata, new_versions):
        parent = self.get_tuple(config) if "checkpoint_id" in config["configurable"] else None
        numbers, values, version = checkpoint["channel_versions"], {}, self.version
        if parent:
            version = max(self.version, parent.metadata.get("state_version", 1))
            numbers_before = parent.checkpoint["channel_versions"]
            values = {
                name: value
                for name, value in parent.checkpoint["channel_values"].items()
                if name in numbers and numbers[name] == numbers_before.get(name) and name not in new_versions
            }
        values.update(checkpoint["channel_values"])
        named = dict(new_versions)
        named.update((name, numbers[name]) for name in values if name in numbers)
        whole = dict(checkpoint, channel_values=values)
        return self.inner.put(config, whole, dict(metadata, state_version=version), named)

    def put_writes(self, *arguments):
        return self.inner.put_writes(*arguments)

    def get_next_version(self, *arguments):
        return self.inner.get_next_version(*arguments)
""",
    ),
    Right(
        "backward_compatibility",
        "functions beside the class, and async methods too",
        """
from copy import deepcopy

from langgraph.checkpoint.base import BaseCheckpointSaver


def newer(found, migrations, goal):
    now = found.metadata.get("state_version", 1)
    if now >= goal:
        return found
    checkpoint = deepcopy(found.checkpoint)
    before = set(checkpoint["channel_values"])
    checkpoint["channel_values"] = migrations.upcast(checkpoint["channel_values"], now, goal)
    numbers = checkpoint["channel_versions"]
    newest = max(numbers.values())
    for name in before.difference(checkpoint["channel_values"]):
        del numbers[name]
    for name in checkpoint["channel_values"]:
        if name not in numbers:
            numbers[name] = newest
    writes = []
    for write in found.pending_writes:
        writes.extend(migrations.upcast_writes([write], now, goal))
    return found._replace(
        checkpoint=checkpoint, metadata={**found.metadata, "state_version": goal}, pending_writes=writes
    )


def whole(parent, checkpoint, changed):
    values = dict(checkpoint["channel_values"])
    if parent is not None:
        unknown = set(checkpoint["channel_versions"]) - set(values) - set(changed)
        for name in unknown.intersection(parent.checkpoint["channel_values"]):
            values[name] = parent.checkpoint["channel_values"][name]
    return values


class CompatibleSaver(BaseCheckpointSaver):
    def __init__(self, inner, migrations, version):
        super().__init__(serde=inner.serde)
        self.inner, self.migrations, self.version = inner, migrations, version

    def upcast(self, found):
        return found if found is None else newer(found, self.migrations, self.version)

    def get_tuple(self, config):
        return self.upcast(self.inner.get_tuple(config))

    async def aget_tuple(self, config):
        return self.upcast(await self.inner.aget_tuple(config))

    def list(self, config, *, filter=None, before=None, limit=None):
        return iter([self.upcast(found) for found in self.inner.list(config, before=before, limit=limit, filter=filter)])

    def put(self, config, checkpoint, metadata, new_versions):
        parent, stamp = None, self.version
        if config["configurable"].get("checkpoint_id") is not None:
            parent = self.get_tuple(config)
            stamp = max(stamp, parent.metadata["state_version"])
        values = whole(parent, checkpoint, new_versions)
        changed = {**new_versions}
        for name, number in checkpoint["channel_versions"].items():
            if name in values:
                changed[name] = number
        return self.inner.put(
            config, {**checkpoint, "channel_values": values}, {**metadata, "state_version": stamp}, changed
        )

    def put_writes(self, config, writes, task_id, task_path=""):
        return self.inner.put_writes(config, writes, task_id, task_path)

    def get_next_version(self, current, channel):
        return self.inner.get_next_version(current, channel)
""",
    ),
    Right(
        "state_validation",
        "one pass that notes, one that mends from the oldest on",
        """
def loads(saver, pair):
    try:
        return True, saver.serde.loads_typed(pair)
    except Exception:
        return False, None


def validate(saver, schema):
    found = []
    for thread in list(saver.storage):
        for space in list(saver.storage[thread]):
            held = saver.storage[thread][space]
            for name in sorted(held):
                pair, about, parent = held[name]
                kinds = []
                if parent is not None and parent >= name:
                    kinds.append("cycle")
                elif parent is not None and parent not in held:
                    kinds.append("no parent")
                fine, checkpoint = loads(saver, pair)
                pairs = [about] + [each[2] for each in saver.writes.get((thread, space, name), {}).values()]
                bad = not fine or not all(loads(saver, each)[0] for each in pairs)
                for channel, number in (checkpoint["channel_versions"] if fine else {}).items():
                    key = (thread, space, channel, number)
                    if key not in saver.blobs:
                        kinds.append("missing value")
                    elif saver.blobs[key][0] != "empty":
                        fine, value = loads(saver, saver.blobs[key])
                        if not fine:
                            bad = True
                        elif channel in schema and not isinstance(value, schema[channel]):
                            kinds.append("wrong type")
                if bad:
                    kinds.append("damaged")
                found += [(kind, thread, space, name) for kind in dict.fromkeys(kinds)]
    known = {(t, s, n) for t, spaces in saver.storage.items() for s, held in spaces.items() for n in held}
    return found + [("orphan writes", *key) for key in saver.writes if key not in known]


def repair(saver, schema):
    mended, aside = [], {}
    for _ in range(100):
        for problem in validate(saver, schema):
            kind, thread, space, name = problem
            held = saver.storage.get(thread, {}).get(space, {})
            if kind == "orphan writes":
                if (thread, space, name) in saver.writes:
                    aside[problem] = saver.writes.pop((thread, space, name))
            elif name not in held:
                pass
            elif kind in ("no parent", "cycle"):
                held[name] = (*held[name][:2], None)
                mended.append(problem)
            else:
                parent = held[name][2]
                aside[problem] = [held.pop(name), saver.writes.pop((thread, space, name), None)]
                for child in held:
                    if held[child][2] == name:
                        held[child] = (*held[child][:2], parent)
    return mended, aside
""",
    ),
    Right(
        "state_validation",
        "one function for each kind of problem, and a repair in two stages",
        """
def places(saver):
    for thread, spaces in saver.storage.items():
        for space, held in spaces.items():
            for name, entry in held.items():
                yield (thread, space, name), entry


def unreadable(saver, *pairs):
    for pair in pairs:
        try:
            saver.serde.loads_typed(pair)
        except Exception:
            return True
    return False


def blobs(saver, place, entry):
    thread, space, _ = place
    try:
        numbers = saver.serde.loads_typed(entry[0])["channel_versions"]
    except Exception:
        return {}
    return {channel: saver.blobs.get((thread, space, channel, number)) for channel, number in numbers.items()}


def held_pairs(saver, place, entry):
    written = [each[2] for each in dict(saver.writes).get(place, {}).values()]
    return [*entry[:2], *written, *(pair for pair in blobs(saver, place, entry).values() if pair and pair[0] != "empty")]


def is_wrong(saver, pair, kind):
    return pair is not None and pair[0] != "empty" and not unreadable(saver, pair) and not isinstance(
        saver.serde.loads_typed(pair), kind
    )


def validate(saver, schema):
    all_places = dict(places(saver))
    problems = [("orphan writes", *place) for place in saver.writes if place not in all_places]
    for place, entry in all_places.items():
        thread, space, name = place
        values, parent = blobs(saver, place, entry), entry[2]
        tests = {
            "cycle": parent is not None and parent >= name,
            "no parent": parent is not None and parent < name and (thread, space, parent) not in all_places,
            "missing value": None in values.values(),
            "wrong type": any(is_wrong(saver, values.get(channel), kind) for channel, kind in schema.items()),
            "damaged": unreadable(saver, *held_pairs(saver, place, entry)),
        }
        problems += [(what, *place) for what, holds in tests.items() if holds]
    return problems


def repair(saver, schema):
    mended, aside = [], {}
    bad = {problem[1:]: problem for problem in validate(saver, schema) if problem[0] not in ("cycle", "no parent")}
    for place, problem in bad.items():
        thread, space, name = place
        taken = {"writes": saver.writes.pop(place, {})}
        if problem[0] != "orphan writes":
            held = saver.storage[thread][space]
            taken["checkpoint"] = held.pop(name)
            for child in [each for each in held if held[each][2] == name]:
                held[child] = held[child][:2] + (taken["checkpoint"][2],)
        aside[problem] = taken
    for problem in validate(saver, schema):
        _, thread, space, name = problem
        held = saver.storage[thread][space]
        held[name] = held[name][:2] + (None,)
        mended.append(problem)
    return mended, aside
""",
    ),
    Right(
        "async_operations",
        "workers that take from a queue, shielded",
        """
import asyncio

from learning.migration import rewritten, rewritten_writes, state_version


async def migrate_live(saver, migrations, version, limit=4):
    names = []
    for found in await asyncio.to_thread(list, saver.list(None)):
        name = found.config["configurable"]["thread_id"]
        if name not in names:
            names.append(name)
    stop, counts = asyncio.Event(), []

    async def work():
        while names and not stop.is_set():
            name = names.pop()
            async for found in saver.alist({"configurable": {"thread_id": name}}):
                here = state_version(found)
                if here != version:
                    loop = asyncio.get_running_loop()
                    old = found.checkpoint["channel_values"]
                    values = await loop.run_in_executor(None, migrations.upcast, old, here, version)
                    for each in await loop.run_in_executor(None, rewritten_writes, found, migrations, version):
                        await saver.aput_writes(*each)
                    await saver.aput(*rewritten(found, values, version))
                    counts.append(name)

    everybody = asyncio.gather(*(work() for _ in range(limit)))
    while not everybody.done():
        try:
            await asyncio.shield(everybody)
        except asyncio.CancelledError:
            stop.set()
    if stop.is_set():
        raise asyncio.CancelledError
    return len(counts)
""",
    ),
    Right(
        "async_operations",
        "a TaskGroup in a task of its own",
        """
import asyncio

from learning.migration import rewritten, rewritten_writes, state_version


async def migrate_live(saver, migrations, version, limit=4):
    stopping, slots = False, asyncio.Semaphore(limit)

    def prepare(found):
        values = migrations.upcast(found.checkpoint["channel_values"], state_version(found), version)
        return rewritten_writes(found, migrations, version), rewritten(found, values, version)

    async def one(thread_id):
        changed = 0
        async with slots:
            if stopping:
                return 0
            found_here = [each async for each in saver.alist({"configurable": {"thread_id": thread_id}})]
            for found in found_here:
                if state_version(found) == version:
                    continue
                writes, checkpoint = await asyncio.to_thread(prepare, found)
                for config, written, task_id in writes:
                    await saver.aput_writes(config, written, task_id)
                await saver.aput(*checkpoint)
                changed += 1
        return changed

    async def everything():
        ids = [found.config["configurable"]["thread_id"] async for found in saver.alist(None)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(each)) for each in dict.fromkeys(ids)]
        return sum(task.result() for task in tasks)

    whole = asyncio.create_task(everything())
    while not whole.done():
        try:
            await asyncio.wait([whole])
        except asyncio.CancelledError:
            stopping = True
    if stopping:
        raise asyncio.CancelledError
    return whole.result()
""",
    ),
]
