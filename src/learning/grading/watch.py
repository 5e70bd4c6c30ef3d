"""What an answer does to its judge, seen from inside the process in which both run.

An answer can reach whatever is in its process. So four things are looked at: what its own lines ask Python for (an
audit hook, which Python cannot take away again), whether the words that compare are whole at each comparison, whether
all functions that judge are the same afterwards, and whether the tests still fail a known wrong answer. `session` sends
what is seen to another process at once, where no answer can unsay it. What cannot be found need not be watched: see
`hiding`.
"""

import ast
import builtins
import os
import re
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from learning.course.tasks import ROOT

from .hiding import USED_BY_LESSONS, judges

JUDGES = {"_pytest", "langgraph", "learning", "numpy", "ormsgpack", "pluggy", "prometheus_client", "psutil"}
JUDGES |= {"psycopg", "psycopg_pool", "pytest", "redis", "zstandard"}
JUDGES |= {"_collections_abc", "abc", "ast", "asyncio", "base64", "binascii", "builtins", "collections"}
JUDGES |= {"concurrent", "contextlib", "copy", "copyreg", "dataclasses", "datetime", "decimal", "enum", "errno"}
JUDGES |= {"functools", "gc", "gzip", "hashlib", "hmac", "inspect", "io", "itertools", "json", "linecache", "lzma"}
JUDGES |= {"math", "multiprocessing", "numbers", "operator", "os", "pathlib", "pickle", "pkgutil", "posix", "queue"}
JUDGES |= {"random", "re", "secrets", "shutil", "signal", "socket", "statistics", "struct", "subprocess", "sys"}
JUDGES |= {"tempfile", "threading", "time", "traceback", "tracemalloc", "types", "typing", "unittest", "urllib"}
JUDGES |= {"uuid", "weakref", "zlib"}
"""The packages whose functions decide on a mark: what the tests are made of, and what they measure and compare with.

Not `warnings`, `logging` and `importlib`, of which pytest and libraries change functions while a test runs.
"""

NEVER = {
    "sys.settrace": "traced its judge",
    "sys.setprofile": "traced its judge",
    "sys.monitoring.register_callback": "traced its judge",
    "sys.addaudithook": "listened to what its judge does",
}
"""What nothing in a test asks for, whoever calls it, and what to say of it."""

CTYPES = {
    "ctypes.dlopen": "used ctypes, which can change anything",
    "ctypes.dlsym": "used ctypes, which can change anything",
}
"""What libraries ask for when they are imported, and no answer needs."""

FRAMES = "looked into the frames of its judge"
DISGUISE = "made code in disguise"
SEARCHED = "searched the memory for its judge"

GRAVE = {
    "sys._getframe": ("_getframe", FRAMES),
    "sys._current_frames": ("_current_frames", FRAMES),
    "tb_frame": ("tb_frame", FRAMES),
    "gi_frame": ("gi_frame", FRAMES),
    "cr_frame": ("cr_frame", FRAMES),
    "ag_frame": ("ag_frame", FRAMES),
    "gc.get_objects": ("get_objects", SEARCHED),
    "gc.get_referrers": ("get_referrers", SEARCHED),
    "code.__new__": ("__code__", DISGUISE),
    "function.__new__": ("FunctionType", DISGUISE),
}
"""What no answer needs: events, and attributes that are events when they are read. With each, a word that the source of
a library has which asks for it by itself, and what to say.
"""

ODD = {
    "compile": "ran code that it made at run time",
    "exec": "ran code that it made at run time",
    "os.fork": "started a process of its own",
    "os.forkpty": "started a process of its own",
    "os.kill": "sent a signal to a process",
}
"""What few answers need: for a person to look at."""

INSIDES = {"__code__", "__defaults__", "__kwdefaults__"}
"""What a function consists of. Nobody gives other parts to a function of somebody else's."""

HELPERS = ("/inspect.py", "/traceback.py", "/logging/__init__.py")
"""Modules through which one gets hold of a frame without asking for it oneself."""

TELLERS = {"print_stack", "format_stack", "extract_stack"}
"""Functions of these that make text of frames, and give none away."""

SET_FOR_ALL = {"excepthook", "displayhook", "unraisablehook"}
"""Functions of `sys` and `threading` that are there to be replaced."""

FILES = ("open", "os.listdir", "os.scandir", "os.remove", "os.rename", "os.mkdir", "os.symlink", "os.chmod")

SECRETS = re.compile(rf"/proc/[^/]+/(environ|mem|maps|fd|cmdline|root|cwd)|{re.escape(str(ROOT / 'solutions'))}/")
"""What lies where an answer may look, and is none of its business."""

LOCAL = re.compile(r"127\.|::1$|localhost$|0\.0\.0\.0$|grading$|$")

CELL = re.compile(r"<.*cell .+>")
"""The file name that the lines of a notebook have."""

NO_BUSINESS = re.compile(r"(learning\.(course\.\w+|grading)|test_learning_\d+|_pytest|pluggy)(\.[\w.]*)?")
"""The modules that judge, by full name, and others of the course."""

BUSINESS = re.compile(rf"({'|'.join(map(re.escape, USED_BY_LESSONS))})(\.[\w.]*)?")
"""Of these, what each notebook may import."""

INNARDS = {
    "__subclasses__",
    "__globals__",
    "__builtins__",
    "__closure__",
    "f_back",
    "f_locals",
    "f_globals",
    "gi_frame",
    "clear_traces",
    "reset_peak",
}

Noted = tuple[str, Mapping[str, Any], str, Any]
"""What a function is called, the namespace it is in, its name there, and the function."""

_before: dict[str, list[Noted]] = {}
"""What was noted of each module that judges, by the name that it is imported by: `os.path` calls itself otherwise."""

_names: dict[str, tuple[Mapping[str, Any], set[str]]] = {}
"""All names in the judge's own modules: a new one could hide a built-in function."""


def remember() -> None:
    """Note every function that judges, as it is before any answer has come. Again: as it is now."""
    for name, module in _judges().items():
        if judges(name):
            _note_names(name, module)
        if name not in _before:
            _before[name] = _noted(name, module)
        elif any(space.get(each) is not was for _, space, each, was in _before[name]):
            _before[name] = [(label, space, each, space.get(each)) for label, space, each, _ in _before[name]]


def remember_also(module: types.ModuleType) -> None:
    """Note the functions of a module that has come later, such as that of the tests."""
    _before[module.__name__] = _noted(module.__name__, module)
    _note_names(module.__name__, module)


def changed() -> list[str]:
    """The functions that are not what they were, by name, and what is new among those that judge."""
    found = [
        f"{name}.{label}".rstrip(".")
        for name, functions in _before.items()
        for label, space, each, was in functions
        if space.get(each) is not was
    ]
    return found + [
        f"{name}.{each}"
        for name, (space, were) in _names.items()
        for each in space.keys() - were
        if not each.startswith("__") and not isinstance(space[each], types.ModuleType)
    ]


def look_at_each_word(tell: Callable[[str, bool], None], expect: types.ModuleType, tests: types.ModuleType) -> None:
    """Have `expect` look at itself, at the tests and at Python's own functions whenever it compares. It tells once."""
    spaces: list[tuple[dict[str, Any], dict[str, Any], str]] = []

    def look() -> None:
        for space, were, module in spaces:
            for name, was in were.items():
                if space.get(name) is not was:
                    spaces.clear()
                    tell(f"changed {module}.{name}, which its judge uses", True)
                    return

    vars(expect)["look"] = look
    remember_also(expect)
    spaces += [(vars(module), dict(vars(module)), module.__name__) for module in (builtins, expect, tests)]


def reaches(statements: Iterable[ast.stmt]) -> Iterator[tuple[str, bool]]:
    """What the lines of an answer reach for, read and not run: the words, and whether the mark cannot be trusted."""
    for node in (part for statement in statements for part in ast.walk(statement)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = [node.value]
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node)]  # `import learning` gives no name to what is in it
        if found := [name for name in names if NO_BUSINESS.fullmatch(name) and not BUSINESS.fullmatch(name)]:
            yield f"uses {found[0]}, a part of its judge", True
        if any(re.match(r"pytest\b", name) for name in names) and isinstance(node, ast.Import | ast.ImportFrom):
            yield "uses pytest, by which it is judged", False
        if isinstance(node, ast.Attribute) and node.attr in INNARDS:
            yield f"uses {node.attr}, which no answer needs", False
        if isinstance(node, ast.Attribute) and node.attr == "modules" and getattr(node.value, "id", "") == "sys":
            yield "uses sys.modules, which no answer needs", False


def listen(tell: Callable[[str, bool], None], code: tuple[str, ...], elsewhere: tuple[str, ...]) -> None:
    """Tell, from now on until this process ends, what the lines of a notebook ask of Python that an answer needs not.

    Args:
        tell: takes the words, and whether they mean that a mark cannot be trusted.
        code: the folders with Python, its packages and the course. Code from elsewhere is the learner's.
        elsewhere: other folders with whose files it may do what it can.
    """
    # In the closure, where another module's code has no name for it.
    frame_of, in_cell, is_local, allowed = sys._getframe, CELL.fullmatch, LOCAL.match, code + elsewhere
    never, grave, ctypes, odd, files = dict(NEVER), dict(GRAVE), dict(CTYPES), dict(ODD), FILES
    insides, helpers, tellers, secret, fsdecode = set(INSIDES), HELPERS, set(TELLERS), SECRETS.match, os.fsdecode
    sources: dict[str, str] = {}
    here = threading.local()

    def is_theirs(frame: Any) -> bool:
        name = frame.f_code.co_filename
        return bool(in_cell(name)) or (name[:1] == "/" and not name.startswith(code))

    def source_of(name: str) -> str:
        if name not in sources:
            source = ""  # of what was made at run time
            if name[:1] == "/":
                with suppress(OSError), open(name, encoding="utf-8", errors="replace") as file:
                    source = file.read()
            sources[name] = source  # now that it is whole: other threads may look
        return sources[name]

    def asked_by_a_cell(word: str = "") -> bool:
        """Whether a cell has asked, itself or through a helper, or a library that was given what to call: then the word
        for it is not in the library's source.
        """
        here.busy = True  # to look at a frame, or to open a file, is an event too
        try:
            frame: Any = frame_of(2)
            name = frame.f_code.co_filename
            if word and not is_theirs(frame) and word not in source_of(name):
                return True
            if name.endswith(helpers) and frame.f_code.co_name not in tellers:
                frame = frame.f_back
            return is_theirs(frame)
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
                if is_theirs(frame):
                    return True
                frame = frame.f_back
            return False
        finally:
            here.busy = False

    def owned(function: Any) -> bool:
        """Whether a function is the learner's own; those that others have made at run time are nobody's."""
        here.busy = True
        try:
            name = getattr(getattr(function, "__code__", None), "co_filename", "")
            return bool(in_cell(name)) or not name.startswith(code)
        finally:
            here.busy = False

    def hook(event: str, arguments: tuple) -> None:
        if getattr(here, "busy", False):
            return
        if event == "object.__getattr__":
            event = arguments[1]
        if event in never:
            tell(never[event], True)
        elif event in grave:
            word, says = grave[event]
            if asked_by_a_cell(word):
                tell(says, True)
        elif event in ctypes:
            if asked_for_a_cell():
                tell(ctypes[event], True)
        elif event == "object.__setattr__":
            if arguments[1] in insides and not owned(arguments[0]):
                tell("reached into the functions of its judge", True)
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


def _note_names(name: str, module: types.ModuleType) -> None:
    _names[name] = (vars(module), set(vars(module)))


def _noted(name: str, module: types.ModuleType) -> list[Noted]:
    itself: list[Noted] = [] if judges(name) else [("", sys.modules, name, module)]  # those are hidden at times
    return itself + list(_functions(module))


def _functions(module: types.ModuleType) -> Iterator[Noted]:
    """The functions and classes of a module, and the methods of its classes: they are the same as long as they are.

    That a function has been given other code or defaults is not seen here: Python tells it to the audit hook.
    """
    for name, value in list(vars(module).items()):
        if callable(value) and name not in SET_FOR_ALL:
            yield name, vars(module), name, value
            if isinstance(value, type) and value.__module__ == module.__name__:
                for each, part in list(vars(value).items()):
                    if callable(part) or isinstance(part, classmethod | property):
                        yield f"{name}.{each}", vars(value), each, part
