"""Classes that a shop's state may hold, for the graded tests of serializers."""

from dataclasses import dataclass, field, make_dataclass
from enum import Enum, IntEnum
from typing import Any, ClassVar

from pydantic import BaseModel


class Status(IntEnum):
    """How far an order has come. A member is an int too, and must not come back as one."""

    ORDERED = 1
    PAID = 2
    SENT = 3


class Size(Enum):
    """A size, with values that are no text."""

    SMALL = (1, "s")
    LARGE = (9, "l")


@dataclass
class Order:
    """What was bought."""

    number: int
    status: Status = Status.ORDERED
    lines: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class OrderHistory:
    """A class whose name begins like another's."""

    number: int


class Address(BaseModel):
    """Where to send it."""

    street: str
    floor: int | None = None


class Customer(BaseModel):
    """Who bought it."""

    name: str
    address: Address
    sizes: tuple[Any, ...] = ()


class Elsewhere:
    """A place for a class with a name that is taken."""

    @dataclass
    class Order:
        """Not the Order above."""

        number: int


Namesake = make_dataclass("Order", [("number", int)])
Namesake.__module__ = "another.shop"
"""A class that is called as the Order above, in another module."""


class Trap:
    """A class that nobody allows. What calls it, in whatever way, is noted."""

    touched: ClassVar[list[str]] = []

    def __new__(cls, *args: Any, **kwargs: Any) -> "Trap":
        """Note that an instance is made."""
        cls.touched.append("__new__")
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Note that an instance is filled, as pickle does."""
        self.touched.append("__setstate__")

    def __reduce__(self) -> Any:
        """Have pickle call something."""
        return _note, ("pickle",)

    @classmethod
    def model_construct(cls, **_: Any) -> None:
        """Note that an instance is made, as pydantic does."""
        cls.touched.append("model_construct")


def _note(what: str) -> None:
    Trap.touched.append(what)
