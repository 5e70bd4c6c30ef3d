"""Steps from one version of a state to another, and the shortest way along them."""

from collections import deque
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

Values = dict[str, Any]
"""The values of a state's channels, by name."""

Step = Callable[[Values], Values]
"""Takes the values in one version, and returns them in another. Some may be missing: a conversation may just begin."""

Write = tuple[str, str, Any]
"""What a task wrote: the id of the task, the channel, and the value."""


class NoWay(ValueError):
    """No chain of steps leads from one version to another."""


class Migrations:
    """The steps that a program knows.

    A step never changes a value under its old name: what gets a new meaning gets a new name. Checkpoints share the
    values that they have in common, and a value that had changed would have changed in all of them.
    """

    def __init__(self) -> None:
        self.steps: dict[tuple[int, int], Step] = {}

    def step(self, start: int, goal: int) -> Callable[[Step], Step]:
        """A decorator: this function takes a state from version `start` to `goal`, which may be the smaller one.

        Raises:
            ValueError: if there is such a step already, or it leads nowhere.
        """
        if start == goal:
            raise ValueError(f"A step leads from one version to another, and not from {start} to {goal}.")
        if (start, goal) in self.steps:
            raise ValueError(f"There is a step from version {start} to {goal} already.")

        def add(function: Step) -> Step:
            self.steps[start, goal] = function
            return function

        return add

    def plan(self, start: int, goal: int) -> list[tuple[int, int]]:
        """The fewest steps from one version to another, such as [(1, 2), (2, 3)].

        Raises:
            NoWay: if there is none.
        """
        came_from: dict[int, tuple[int, int]] = {}
        waiting = deque([start])
        while waiting and goal not in came_from and start != goal:
            here = waiting.popleft()
            for step in self.steps:
                if step[0] == here and step[1] not in came_from and step[1] != start:
                    came_from[step[1]] = step
                    waiting.append(step[1])
        way: list[tuple[int, int]] = []
        while goal != start:
            if goal not in came_from:
                raise NoWay(f"There is no way from version {start} of the state to this version: add a step.")
            way.append(came_from[goal])
            goal = came_from[goal][0]
        return way[::-1]

    def upcast(self, values: Values, start: int, goal: int) -> Values:
        """Values of version `start` in version `goal`. What was passed stays as it was, whatever a step does.

        The input of a graph waits in the channel `__start__` until the first node has it: it is taken along.
        """
        values = deepcopy(values)
        for step in self.plan(start, goal):
            values = self.steps[step](values)
            if isinstance(values.get("__start__"), dict):
                values["__start__"] = self.steps[step](values["__start__"])
        return values

    def upcast_writes(self, writes: Sequence[Write], start: int, goal: int) -> list[Write]:
        """What tasks wrote in version `goal`; see `upcast_writes`."""
        return upcast_writes(self.upcast, writes, start, goal)


def upcast_writes(
    upcast: Callable[[Values, int, int], Values], writes: Sequence[Write], start: int, goal: int
) -> list[Write]:
    """What tasks wrote in version `goal`: each write by itself, without what steps add by themselves."""
    added = upcast({}, start, goal)
    return [
        (task_id, name, new)
        for task_id, channel, value in writes
        for name, new in upcast({channel: value}, start, goal).items()
        if name not in added or name == channel
    ]
