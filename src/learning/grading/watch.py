"""What an answer does to its judge, seen from inside the process in which both run.

An answer can reach whatever is in its process. So three things are looked at: what its own lines ask Python for (an
audit hook, which Python cannot take away again), whether the functions that judge are still the same afterwards, and
whether the tests still fail a known wrong answer. `session` sends what is seen to another process at once, where no
answer can unsay it.
"""

import ast
import os
import re
import sys
import threading
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from learning.course.tasks import ROOT

JUDGES = {"_pytest", "learning", "langgraph", "numpy", "pluggy", "prometheus_client", "psutil", "psycopg"}
JUDGES |= {"psycopg_pool", "pytest", "redis", "zlib", "zstandard"}
JUDGES |= {"ast", "asyncio", "builtins", "collections", "concurrent", "contextlib", "copy", "dataclasses", "datetime"}
JUDGES |= {"decimal", "enum", "errno", "functools", "gc", "gzip", "hashlib", "inspect", "io", "itertools", "json"}
JUDGES |= {"linecache", "lzma", "math", "multiprocessing", "numbers", "operator", "os", "pathlib", "pickle", "posix"}
JUDGES |= {"queue", "random", "re", "secrets", "shutil", "signal", "socket", "statistics", "struct", "subprocess"}
JUDGES |= {"sys", "tempfile", "threading", "time", "tracemalloc", "types", "typing", "unittest", "urllib", "uuid"}
"""The packages whose functions decide on a mark: what the tests are made of, and what they measure and compare with.

Not `warnings`, `logging` and `importlib`, of which pytest and libraries change functions while a test runs.
"""

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

FILES = ("open", "os.listdir", "os.scandir", "os.remove", "os.rename", "os.mkdir", "os.symlink", "os.chmod")

SECRETS = re.compile(rf"/proc/[^/]+/(environ|mem|maps|fd|cmdline|root|cwd)|{re.escape(str(ROOT / 'solutions'))}/")
"""What lies where an answer may look, and is none of its business."""

LOCAL = re.compile(r"127\.|::1$|localhost$|0\.0\.0\.0$|$")

CELL = re.compile(r"<.*cell .+>")
"""The file name that the lines of a notebook have."""

NO_BUSINESS = re.compile(r"(learning\.(course(?!(\.check)?$)|grading)|_pytest|pytest|pluggy|__main__)(\.|$)")
"""The modules that judge, by full name. `learning.course` itself, and `check` in it, are what each notebook imports."""

INNARDS = {
    "__subclasses__",
    "__globals__",
    "__builtins__",
    "__closure__",
    "f_back",
    "f_locals",
    "f_globals",
    "gi_frame",
}

Noted = tuple[str, Mapping[str, Any], str, Any]
"""What a function is called, the namespace it is in, its name there, and the function."""

_before: dict[str, list[Noted]] = {}
"""What was noted of each module that judges, by the name that it is imported by: `os.path` calls itself otherwise."""


def remember() -> None:
    """Note every function that judges, as it is before any answer has come. Again: as it is now."""
    for name, module in _judges().items():
        if name not in _before:
            _before[name] = _noted(name, module)
        elif any(space.get(each) is not was for _, space, each, was in _before[name]):
            _before[name] = [(label, space, each, space.get(each)) for label, space, each, _ in _before[name]]


def remember_also(module: types.ModuleType) -> None:
    """Note the functions of a module that has come later, such as that of the tests."""
    _before[module.__name__] = _noted(module.__name__, module)


def changed() -> list[str]:
    """The functions that are not what they were, by name."""
    return [
        f"{name}.{label}".rstrip(".")
        for name, functions in _before.items()
        for label, space, each, was in functions
        if space.get(each) is not was
    ]


def reaches(statements: list[ast.stmt]) -> Iterator[tuple[str, bool]]:
    """What the lines of an answer reach for, read and not run: the words, and whether the mark cannot be trusted."""
    for node in (part for statement in statements for part in ast.walk(statement)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = [node.value]
        if found := [name for name in names if NO_BUSINESS.match(name)]:
            yield f"uses {found[0]}, a part of its judge", True
        if isinstance(node, ast.Attribute) and node.attr in INNARDS:
            yield f"uses {node.attr}, which no answer needs", False
        if isinstance(node, ast.Attribute) and node.attr == "modules" and getattr(node.value, "id", "") == "sys":
            yield "uses sys.modules, which no answer needs", False


def listen(tell: Callable[[str, bool], None], allowed: tuple[str, ...]) -> None:
    """Tell, from now on until this process ends, what the lines of a notebook ask of Python that an answer needs not.

    Args:
        tell: takes the words, and whether they mean that a mark cannot be trusted.
        allowed: the folders with whose files it may do what it can.
    """
    # In the closure, where another module's code has no name for it.
    frame_of, is_cell, is_local = sys._getframe, CELL.fullmatch, LOCAL.match
    grave, odd, hidden, files, secret, fsdecode = dict(GRAVE), dict(ODD), set(HIDDEN), FILES, SECRETS.match, os.fsdecode
    here = threading.local()

    def asked_by_a_cell() -> bool:
        here.busy = True  # to look at a frame is an event too
        try:
            frame: Any = frame_of(2)
            if frame.f_code.co_filename.endswith("/inspect.py"):
                frame = frame.f_back
            return bool(is_cell(frame.f_code.co_filename))
        finally:
            here.busy = False

    def asked_for_a_cell() -> bool:
        """Whether a cell, or what it called, is less than four calls away."""
        here.busy = True
        try:
            frame: types.FrameType | None = frame_of(2)
            for _ in range(4):
                if frame is None or "importlib" in frame.f_code.co_filename:
                    return False
                if is_cell(frame.f_code.co_filename):
                    return True
                frame = frame.f_back
            return False
        finally:
            here.busy = False

    def hook(event: str, arguments: tuple) -> None:
        if getattr(here, "busy", False):
            return
        if event in grave or (event in ("object.__getattr__", "object.__setattr__") and arguments[1] in hidden):
            if asked_by_a_cell() or (event.startswith("ctypes") and asked_for_a_cell()):
                tell(grave.get(event, "reached into the functions of its judge"), True)
        elif event in odd:
            if asked_by_a_cell():
                tell(odd[event], False)
        elif event in files:
            path = arguments[0]
            path = fsdecode(path) if isinstance(path, str | bytes) else ""
            if path[:1] == "/" and (secret(path) or not path.startswith(allowed)) and asked_for_a_cell():
                tell(f"looked for files that are not its own ({path[:200]})", False)
        elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
            if not is_local(str(arguments[0] or "")):
                tell(f"tried to reach the network ({arguments[0]})", False)
        elif event in ("socket.connect", "socket.sendto"):
            address = arguments[1]  # the name of a file, of a unix socket
            if isinstance(address, tuple) and not is_local(str(address[0])):
                tell(f"tried to reach the network ({address[0]})", False)

    sys.addaudithook(hook)


def _judges() -> dict[str, types.ModuleType]:
    modules = {name: module for name, module in list(sys.modules.items()) if name.partition(".")[0] in JUDGES}
    return {name: module for name, module in modules.items() if isinstance(module, types.ModuleType)}


def _noted(name: str, module: types.ModuleType) -> list[Noted]:
    return [("", sys.modules, name, module), *_functions(module)]


def _functions(module: types.ModuleType) -> Iterator[Noted]:
    """The functions and classes of a module, and the methods of its classes: they are the same as long as they are.

    That a function has been given other code or defaults is not seen here: Python tells it to the audit hook.
    """
    for name, value in list(vars(module).items()):
        if callable(value):
            yield name, vars(module), name, value
            if isinstance(value, type) and value.__module__ == module.__name__:
                for each, part in list(vars(value).items()):
                    if callable(part) or isinstance(part, classmethod | property):
                        yield f"{name}.{each}", vars(value), each, part
