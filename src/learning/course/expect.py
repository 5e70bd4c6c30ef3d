"""The words that graded tests judge with: a miss tells what was expected, what came, and the idea to read again."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any

from .answers import where

LONGEST = 2000
"""The most characters that are shown of what an answer gave."""


def nothing() -> None:
    """What is done before and after each comparison, where an answer is trusted."""


look = nothing
"""What is done there. Grading looks whether Python and this module are still as they were."""


class Missed(AssertionError):
    """A behaviour that an answer does not have."""

    def __init__(self, *, came: str, idea: str, expected: str = "", where: str = ""):
        told = {"expected": expected, "came": came, "idea": idea, "where": where}
        self.told = {name: _shortened(text) for name, text in told.items()}
        super().__init__("\n".join(f"{name:>8}: {text}" for name, text in self.told.items() if text))


def expect(came: Any, expected: Any, idea: str) -> None:
    """Compare what an answer gave with plain data: dicts, lists, tuples, strings, bytes, numbers, booleans, None.

    Raises:
        Missed: if they differ. An object that merely claims to be equal to everything differs.
    """
    look()
    found, wanted = _plain(came), _plain(expected)
    look()
    if found != wanted:
        raise Missed(expected=repr(expected), came=_shown(came), idea=idea)


@contextmanager
def refused(*errors: type[Exception], what: str, idea: str) -> Iterator[None]:
    """Expect that the block raises one of `errors`; `what` says what was tried, such as "a limit of 0"."""
    wanted = " or ".join(error.__name__ for error in errors)
    try:
        yield
    except Missed:
        raise
    except errors:
        return
    except Exception as error:
        if unwritten(error):
            raise
        came = f"it raised {type(error).__name__}: {error}"
        raise Missed(expected=f"{what} raises {wanted}", came=came, idea=idea, where=where(error)) from error
    raise Missed(expected=f"{what} raises {wanted}", came="no error", idea=idea)


@contextmanager
def no_error(*, expected: str, idea: str) -> Iterator[None]:
    """Expect that the block raises nothing, where an error has a better explanation than its own."""
    try:
        yield
    except Missed:
        raise
    except Exception as error:
        if unwritten(error):
            raise
        came = f"{type(error).__name__}: {error}"
        raise Missed(expected=expected, came=came, idea=idea, where=where(error)) from error


def _shortened(text: str) -> str:
    """Text that fits on a card, whatever a learner's code returned or said."""
    if len(text) <= LONGEST:
        return text
    return f"{text[: LONGEST // 2]} … ({len(text) - LONGEST:,} characters more) … {text[-LONGEST // 2 :]}"


def unwritten(error: BaseException) -> bool:
    """Whether an error says that a part is not written yet: a cell raised NotImplementedError, and not a library."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return isinstance(error, NotImplementedError) and where(NotImplementedError().with_traceback(trace)) != ""


def _plain(value: Any) -> Any:
    """The same data in built-in types, so that no `__eq__` of a learner's decides."""
    kind = type(value)  # whatever it says that its class is
    if value is None:
        return None
    if kind is bool:
        return "bool", value
    if issubclass(kind, int):
        return int.__int__(value)
    if issubclass(kind, float):
        return float.__float__(value)
    if issubclass(kind, Integral):  # numpy's, say
        return int(value)
    if issubclass(kind, Real):
        return float(value)
    if issubclass(kind, str):
        return str.__str__(value)
    if issubclass(kind, bytes):
        return bytes.__bytes__(value)
    if issubclass(kind, Mapping):
        return {_plain(key): _plain(value[key]) for key in value}
    if issubclass(kind, list | tuple):
        return "list" if issubclass(kind, list) else "tuple", tuple(_plain(item) for item in value)
    if issubclass(kind, set | frozenset):
        return frozenset(_plain(item) for item in value)
    return "not plain data", id(value)


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:
        return f"a {type(value).__name__} whose repr raises {type(error).__name__}"
