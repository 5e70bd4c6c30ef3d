"""The measurements: the savers take turns, so that whatever else the machine does hits all of them alike."""

import gc
import os
import platform
import random
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from ..services import S3, PostgreSQL, Server
from .contenders import CONTENDERS, POOL, Contender, Opened, available, counted
from .workload import Conversation, agent_run, messages, unique_bytes

OPERATIONS = ("put", "put_writes", "get_tuple", "list")

PACKAGES = ("langgraph", "langgraph-checkpoint", "langchain-core", "psycopg", "redis", "obstore", "zstandard")

WARM = 4
"""How often to read before it counts: as many connections as a pool has at first prepare their statements."""

Tell = Callable[[str, int], None]
"""Called with what is going on and how many steps it has, after each of them."""


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        sizes: at how many messages.
        points: after how many supersteps the bytes are counted.
        repeats: how often each operation is timed at each size, in the supersteps around it; a list less often.
        rounds: how often the threads and the agent run, after a first time to warm up.
        each: how many messages the conversation of each thread has.
    """

    sizes: tuple[int, ...] = (50, 200, 1000)
    points: tuple[int, ...] = (25, 50, 100, 200, 400, 700, 1000)
    repeats: int = 40
    rounds: int = 7
    each: int = 200


FULL = Plan()
QUICK = Plan(sizes=(50, 200), points=(25, 50, 100, 200), repeats=10, rounds=2)


def measure(names: list[str], plan: Plan, tell: Tell) -> dict[str, Any]:
    """All raw numbers, in seconds and bytes, of the savers with these names, or of all."""
    said = messages(max(plan.sizes) + 100)
    gc.freeze()  # libraries are not looked through again
    with ExitStack() as stack:
        chosen = [each for each in CONTENDERS if not names or each.name in names]
        found, left_out = available(chosen, stack, lambda opened: _trial(opened, said))
        result = {
            "plan": asdict(plan),
            "machine": _machine(found),
            "left_out": left_out,
            "unique_bytes": {str(point): unique_bytes(said[: point + 1]) for point in plan.points},
            "savers": {each.name: {"group": each.group, "ours": not each.package} for each in found},
        }
        steps = (
            (found, lambda opened: _grow(opened, said, plan, tell)),
            ({each: found[each] for each in found if each.pooled}, lambda opened: _threads(opened, said, plan, tell)),
            (found, lambda opened: _agents(opened, plan, tell)),
        )
        for contenders, step in steps:
            with ExitStack() as storages:
                opened = {each.name: storages.enter_context(each.open(server)) for each, server in contenders.items()}
                for name, numbers in step(opened).items():
                    result["savers"][name] |= numbers
        for contender, server in found.items():
            if server is not None:
                result["savers"][contender.name]["trips"] = _trips(contender, server, said)
            tell("round trips", len(found))
        result["machine"]["load_at_the_end"] = os.getloadavg()
    return result


def _trial(opened: Opened, said: list[Any]) -> None:
    """See whether a saver works at all, and warm up what all of its kind share."""
    talk = Conversation(opened.saver, f"{opened.token}trial", said)
    for _ in range(3):
        talk.put()
        talk.put_writes()
    talk.get_tuple()
    talk.list()
    if opened.stored()[0] <= 0:
        raise ValueError("what it stores cannot be found")


def _grow(opened: dict[str, Opened], said: list[Any], plan: Plan, tell: Tell) -> dict[str, Any]:
    """Bytes and times, while a conversation in each saver grows a superstep at a time."""
    order = random.Random(1)
    talks = {name: Conversation(each.saver, f"{each.token}talk", said) for name, each in opened.items()}
    seconds: dict[str, dict[str, dict[str, list[float]]]] = {
        name: {str(size): {each: [] for each in OPERATIONS} for size in plan.sizes} for name in opened
    }
    stored: dict[str, dict[str, Any]] = {name: {} for name in opened}
    half = plan.repeats // 2
    last = max(plan.sizes) + half

    def turns(size: int | None, *operations: str) -> None:
        for name in order.sample([*talks], len(talks)):
            for operation in operations:
                gc.disable()  # or whoever comes when it is due pays for all
                took = round(getattr(talks[name], operation)(), 7)
                gc.enable()
                if size:
                    seconds[name][str(size)][operation].append(took)

    for length in range(1, last + 1):
        near = next((size for size in plan.sizes if size - half < length <= size + half), None)
        turns(near, "put", "put_writes")
        if length in plan.points:
            for name, each in opened.items():
                stored[name][str(length)] = each.stored()
        if length in plan.sizes:
            for repeat in range(-WARM, plan.repeats):
                turns(length if repeat >= 0 else None, "get_tuple")
            for repeat in range(-WARM, max(5, plan.repeats // 5)):
                turns(length if repeat >= 0 else None, "list")
        tell("bytes and times", last)
    return {name: {"stored": stored[name], "seconds": seconds[name]} for name in opened}


def _threads(opened: dict[str, Opened], said: list[Any], plan: Plan, tell: Tell) -> dict[str, Any]:
    """Puts in a second, of as many threads as there are connections, each with a conversation of its own."""
    rates: dict[str, list[float]] = {name: [] for name in opened}
    with ThreadPoolExecutor(POOL) as pool:
        for repeat in range(-1, plan.rounds):
            for name, each in opened.items():
                talks = [Conversation(each.saver, f"{each.token}{repeat}of{thread}", said) for thread in range(POOL)]
                begin = time.perf_counter()
                list(pool.map(lambda talk: [talk.put() for _ in range(plan.each)], talks))
                if repeat >= 0:
                    rates[name].append(round(POOL * plan.each / (time.perf_counter() - begin), 1))
            tell("threads", plan.rounds + 1)
    return {name: {"puts_per_second": rates[name]} for name in opened}


def _agents(opened: dict[str, Opened], plan: Plan, tell: Tell) -> dict[str, Any]:
    """Seconds of a whole conversation with the support agent."""
    order = random.Random(2)
    seconds: dict[str, list[float]] = {name: [] for name in opened}
    for repeat in range(-1, plan.rounds):
        for name in order.sample([*opened], len(opened)):
            took = agent_run(opened[name].saver, f"{opened[name].token}agent{repeat}")
            if repeat >= 0:
                seconds[name].append(round(took, 5))
        tell("agent", plan.rounds + 1)
    return {name: {"agent_seconds": seconds[name]} for name in opened}


def _trips(contender: Contender, server: Server, said: list[Any]) -> dict[str, float]:
    """Round trips of each operation, in a conversation that has begun: the median of the last five of ten."""
    with counted(server) as (url, proxy), contender.open(server, url) as opened:
        talk = Conversation(opened.saver, f"{opened.token}talk", said)
        for _ in range(10):
            talk.put()
            talk.put_writes()
        trips: dict[str, list[int]] = {operation: [] for operation in OPERATIONS}
        for _ in range(10):  # the first prepare statements, on each connection of a pool
            for operation in OPERATIONS:
                before = proxy.trips
                getattr(talk, operation)()
                trips[operation].append(proxy.trips - before)
    return {operation: median(counts[-5:]) for operation, counts in trips.items()}


def _machine(found: dict[Contender, Server | None]) -> dict[str, Any]:
    """Where this was measured, and with what."""
    info = Path("/proc/cpuinfo")
    models = [line.partition(": ")[2] for line in info.read_text().splitlines() if line.startswith("model name")]
    wanted = sorted({*PACKAGES, *(each.package.partition("[")[0] for each in found if each.package)})
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": sys.version.partition(" ")[0],
        "load_at_the_start": os.getloadavg(),
        "packages": {name: _version(name) for name in wanted},
        "servers": {each.kind: _server_version(server) for each, server in found.items() if server},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _server_version(server: Any) -> str:
    if isinstance(server, PostgreSQL):
        with server.client() as client:
            return f"PostgreSQL {client.info.parameter_status('server_version')}"
    if isinstance(server, S3):
        return server.client().list_buckets()["ResponseMetadata"]["HTTPHeaders"].get("server", "unknown")
    about = server.client().info("server")
    return f"Valkey {about['valkey_version']}" if "valkey_version" in about else f"Redis {about['redis_version']}"
