"""The judge's own modules, out of reach of the code that is judged.

While an answer runs, they are not among the modules that Python knows. Who imports one gets another copy of it, by
which nothing is judged.
"""

import sys
from types import ModuleType
from typing import Any

from learning.course.tasks import GRADED_TESTS

USED_BY_LESSONS = {f"learning.course.{name}" for name in ("check", "conformance", "desk", "goods", "on_migration")}
"""What notebooks import, and where serializers look up the classes that they store."""

PACKAGES = ("learning.course.", "learning.grading")


def judges(name: str) -> bool:
    """Whether a module of that name judges, and no lesson has any business with it."""
    return name == GRADED_TESTS.stem or (name.startswith(PACKAGES) and name not in USED_BY_LESSONS)


class Judges:
    """The modules that judge: hidden, or shown as long as pytest loads the tests, which import them."""

    def __init__(self) -> None:
        self._hidden: dict[str, ModuleType] = {}
        self._attributes: list[tuple[dict[str, Any], str, ModuleType]] = []
        self._main = sys.modules["__main__"]  # it judges too

    def hide(self) -> None:
        """Take them away."""
        known = dict(sys.modules)
        self._hidden = {name: module for name, module in known.items() if judges(name)}
        for name, module in self._hidden.items():
            del sys.modules[name]
            package, _, own = name.rpartition(".")
            space = vars(known[package]) if package else {}
            if space.get(own) is module:  # a function may have the name of its module
                self._attributes.append((space, own, space.pop(own)))
        sys.modules["__main__"] = ModuleType("__main__")

    def show(self) -> None:
        """Put them back, in place of whatever copies there are."""
        sys.modules.update(self._hidden)
        while self._attributes:
            space, own, module = self._attributes.pop()
            space[own] = module
        sys.modules["__main__"] = self._main
