"""What the test of the reports stands on: a history drawn at random, and the same reports counted in Python."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import psycopg

HISTORY = """
CREATE TABLE tenants (name text PRIMARY KEY);
CREATE TABLE steps (
    tenant text NOT NULL, thread_id text NOT NULL, step int NOT NULL, at timestamptz NOT NULL,
    kind text NOT NULL, node text, cost numeric, PRIMARY KEY (tenant, thread_id, step))
"""
"""The tables that the third task asks, as its text has them."""

AWKWARD = ["'; DROP TABLE steps; --", "100% coffee", "Müller & Söhne", '"quoted"', "back\\slash", "%s"]
"""Names of shops that are names, and nothing else."""

NODES = ("assistant", "look_up", "refund")

DIGITS = 5
"""What times are rounded to: p95 is taken from milliseconds in steps of a twentieth, so that none is in the middle."""


@dataclass
class ShopHistory:
    """What agents did for some shops, drawn at random, and what a report should tell, counted while it is drawn."""

    first: date
    days: int
    tenants: list[str] = field(default_factory=list)
    steps: list[tuple[Any, ...]] = field(default_factory=list)
    sessions: dict[tuple[str, date], set[str]] = field(default_factory=dict)
    seconds: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    costs: dict[tuple[str, date], Decimal] = field(default_factory=dict)
    waits: dict[str, list[float]] = field(default_factory=dict)
    interrupts: dict[str, int] = field(default_factory=dict)

    @property
    def last(self) -> date:
        """The last of its days."""
        return self.first + timedelta(days=self.days - 1)

    def conversation(self, rng: Random, tenant: str, thread_id: str) -> None:
        """One conversation: messages, steps of nodes, and some questions to a person, who may never answer."""
        at = datetime(self.first.year, self.first.month, self.first.day, tzinfo=UTC)
        # Few days and few hours: some days are empty, and conversations go on side by side.
        at += timedelta(
            days=rng.randrange(0, self.days - 1, 3), seconds=rng.choice((36_000, 80_000)) + rng.randrange(30)
        )
        number = 0

        def happen(kind: str, seconds: float, node: str | None = None, cost: Decimal | None = None) -> None:
            nonlocal at, number
            at += timedelta(seconds=seconds)
            self.steps.append((tenant, thread_id, number, at, kind, node, cost))
            number += 1
            self.sessions.setdefault((tenant, at.date()), set()).add(thread_id)
            self.costs[tenant, at.date()] = self.costs.get((tenant, at.date()), Decimal(0)) + (cost or 0)
            if node is not None:
                self.seconds.setdefault((tenant, node), []).append(seconds)

        for _ in range(rng.randint(1, 4)):
            happen("input", rng.choice((rng.randrange(1, 20), rng.randrange(1, 20_000))))
            for _ in range(rng.randint(1, 4)):
                cost = rng.choice([None, Decimal(rng.randint(1, 99_999)) / 10_000])
                happen("loop", rng.randint(1, 30_000) / 1000, rng.choice(NODES), cost)
            if rng.random() < 0.4:
                happen("interrupt", rng.randint(1, 900) / 1000)
                self.interrupts[tenant] = self.interrupts.get(tenant, 0) + 1
                if rng.random() < 0.6:
                    wait = rng.randint(1_000, 40_000_000) / 1000
                    happen("resume", wait)
                    self.waits.setdefault(tenant, []).append(wait)
                    happen("loop", rng.randint(1, 30_000) / 1000, "refund")

    def store(self, connection: psycopg.Connection, rng: Random) -> None:
        """Make the tables, with the steps in an order of chance."""
        connection.execute(HISTORY)
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO tenants VALUES (%s)", [(name,) for name in self.tenants])
            with cursor.copy("COPY steps FROM STDIN") as copy:
                for row in rng.sample(self.steps, len(self.steps)):
                    copy.write_row(row)

    def per_day(self, tenant: str, first: date, last: date) -> list[tuple[str, int]]:
        """How many conversations had a step on each day, as (date as text, count)."""
        days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
        return [(str(day), len(self.sessions.get((tenant, day), ()))) for day in days]

    def cost(self, tenant: str, first: date, last: date) -> Decimal:
        """What one shop cost on some days."""
        return sum(
            (cost for (name, day), cost in self.costs.items() if name == tenant and first <= day <= last), Decimal(0)
        )

    def times(self, tenant: str) -> list[tuple[str, int, float, float]]:
        """Count, median and 95th percentile in seconds for each node, by name."""
        found = sorted((node, sorted(times)) for (name, node), times in self.seconds.items() if name == tenant)
        return [
            (node, len(times), round(percentile(times, 0.5), DIGITS), round(percentile(times, 0.95), DIGITS))
            for node, times in found
        ]

    def waited(self, tenant: str) -> tuple[int, int, float | None]:
        """Interrupts, how many were answered, and the median wait in seconds."""
        waits = self.waits.get(tenant, [])
        return self.interrupts.get(tenant, 0), len(waits), round(statistics.median(waits), DIGITS) if waits else None


def a_history(rng: Random, tenants: Sequence[str], idle: Sequence[str]) -> ShopHistory:
    """The history of some shops, and of others in which nothing happened."""
    history = ShopHistory(date(2026, rng.randint(1, 10), rng.randint(1, 20)), days=9, tenants=[*tenants, *idle])
    for tenant in tenants:
        for number in range(rng.randint(15, 30)):
            history.conversation(rng, tenant, f"customer-{number}")  # each shop has a customer of this name
    return history


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` of some sorted numbers lie, interpolated between the two nearest."""
    place = (len(ordered) - 1) * share
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def where_they_differ(came: dict[str, Any], wanted: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two dicts without the entries in which they are the same."""
    keys = came.keys() | wanted.keys()
    differ = [key for key in keys if key not in came or key not in wanted or came[key] != wanted[key]]
    came, wanted = ({key: each[key] for key in sorted(differ, key=str) if key in each} for each in (came, wanted))
    return came, wanted
