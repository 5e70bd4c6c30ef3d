"""What an answer does to its judge, seen from inside the process in which both run.

An answer can reach whatever is in its process. So three things are looked at: what its own lines ask Python for (an
audit hook, which Python cannot take away again), whether the functions that judge are still the same afterwards, and
whether the tests still fail a known wrong answer. `session` sends what is seen to another process at once, where no
answer can unsay it.
"""

import re
import sys
import threading
import types
from collections.abc import Callable
from typing import Any

JUDGES = ("_pytest", "pluggy", "pytest", "learning.course", "learning.agent", "langgraph.checkpoint", "builtins", "json")
JUDGES += ("os", "posix", "io", "sys", "time", "random", "threading", "signal", "contextlib", "inspect", "linecache", "re")
JUDGES += ("ast", "collections", "gc", "tracemalloc", "copy", "pickle", "redis.client", "redis.connection", "psycopg")
"""The packages and modules whose functions decide on a mark."""

GRAVE = {
    "sys._getframe": "looked into the frames of its judge",
    "sys._current_frames": "looked into the frames of its judge",
    "sys.settrace": "traced its judge",
    "sys.setprofile": "traced its judge",
    "sys.addaudithook": "listened to what its judge does",
    "gc.get_objects": "searched the memory for its judge",
    "gc.get_referrers": "searched the memory for its judge",
    "ctypes.dlopen": "used ctypes, which can change anything",
    "ctypes.dlsym": "used ctypes, which can change anything",
    "code.__new__": "made code in disguise",
    "function.__new__": "made code in disguise",
}
"""What no answer needs, and what to say of it."""

ODD = {
    "compile": "ran code that it made at run time",
    "exec": "ran code that it made at run time",
    "os.fork": "started a process of its own",
    "os.forkpty": "started a process of its own",
    "os.kill": "sent a signal to a process",
}
"""What few answers need: for a person to look at."""

HIDDEN = {"tb_frame", "gi_frame", "cr_frame", "ag_frame", "__code__", "__defaults__", "__kwdefaults__"}
"""Attributes through which one function gets hold of another."""

LOCAL = re.compile(r"127\.|::1$|localhost$|0\.0\.0\.0$|$")

CELL = re.compile(r"<.*cell .+>")
"""The file name that the lines of a notebook have."""

PARTS = (types.FunctionType, types.BuiltinFunctionType, types.MethodDescriptorType, staticmethod, classmethod, property, type)

_before: dict[str, dict[str, Any]] = {}


def remember() -> None:
    """Note every function that judges, as it is before any answer has come."""
    _before.update({name: _functions(module) for name, module in _judges().items()})


def changed() -> list[str]:
    """The functions that are not what they were, by name."""
    found = []
    for name, functions in _before.items():
        module = sys.modules.get(name)
        now = _functions(module) if isinstance(module, types.ModuleType) else {}
        found += [f"{name}.{each}" for each, was in functions.items() if now.get(each) is not was]
    return found


def listen(tell: Callable[[str, bool], None]) -> None:
    """Tell, from now on until this process ends, what the lines of a notebook ask of Python that an answer needs not.

    Args:
        tell: takes the words, and whether they mean that a mark cannot be trusted.
    """
    # In the closure, where another module's code has no name for it.
    frame_of, is_cell, is_local = sys._getframe, CELL.fullmatch, LOCAL.match
    grave, odd, hidden = dict(GRAVE), dict(ODD), set(HIDDEN)
    here = threading.local()

    def asked_by_a_cell() -> bool:
        here.busy = True  # to look at a frame is an event too
        try:
            frame = frame_of(2)
            if frame.f_code.co_filename.endswith("/inspect.py"):
                frame = frame.f_back
            return bool(is_cell(frame.f_code.co_filename))
        finally:
            here.busy = False

    def hook(event: str, arguments: tuple) -> None:
        if getattr(here, "busy", False):
            return
        if event in grave or (event in ("object.__getattr__", "object.__setattr__") and arguments[1] in hidden):
            if asked_by_a_cell():
                tell(grave.get(event, "reached into the functions of its judge"), True)
        elif event in odd:
            if asked_by_a_cell():
                tell(odd[event], False)
        elif event in ("socket.connect", "socket.sendto", "socket.getaddrinfo"):
            host = arguments[0] if event == "socket.getaddrinfo" else arguments[1]
            host = host[0] if isinstance(host, tuple) else host
            whole = event == "socket.getaddrinfo" or isinstance(arguments[1], tuple)
            if whole and not is_local(str(host or "")):
                tell(f"tried to reach the network ({host})", False)

    sys.addaudithook(hook)


def _judges() -> dict[str, types.ModuleType]:
    inside = tuple(f"{name}." for name in JUDGES)
    names = [name for name in list(sys.modules) if name in JUDGES or name.startswith(inside)]
    return {name: sys.modules[name] for name in names if isinstance(sys.modules[name], types.ModuleType)}


def _functions(module: types.ModuleType) -> dict[str, Any]:
    """The functions and classes of a module, and the methods of its classes: they are the same as long as they are.

    That a function has been given other code or defaults is not seen here: Python tells it to the audit hook.
    """
    found: dict[str, Any] = {}
    for name, value in list(vars(module).items()):
        if isinstance(value, PARTS):
            found[name] = value
            if isinstance(value, type) and value.__module__ == module.__name__:
                found |= {f"{name}.{each}": part for each, part in list(vars(value).items()) if isinstance(part, PARTS)}
    return found
