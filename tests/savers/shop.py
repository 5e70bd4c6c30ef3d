"""Classes of a user's, as a state may hold them."""

from dataclasses import dataclass, field
from enum import Enum, IntEnum, IntFlag, StrEnum
from functools import cached_property
from typing import Generic, NamedTuple, TypeVar

from pydantic import BaseModel, PrivateAttr


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Color(StrEnum):
    RED = "red"


class Plain(Enum):
    ONE = (1, "one")


class Rights(IntFlag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    y: int = 0


@dataclass
class Order:
    number: int
    lines: list[str] = field(default_factory=list)
    level: Level = Level.LOW

    @cached_property
    def total(self) -> int:
        return len(self.lines)


@dataclass(frozen=True, slots=True)
class Frozen:
    name: str


class Address(BaseModel):
    street: str
    floor: int | None = None
    _seen: int = PrivateAttr(default=0)


class Customer(BaseModel):
    name: str
    address: Address
    tags: tuple[str, ...] = ()


class Tower(BaseModel):
    floors: list[int]

    @cached_property
    def height(self) -> int:
        return len(self.floors)


T = TypeVar("T")


class Box(BaseModel, Generic[T]):
    item: T


class Outer:
    class Inner(IntEnum):
        A = 1
