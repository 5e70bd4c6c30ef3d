"""Load a learner's answers from a notebook: the names a test asks for, what they need, and nothing else.

A notebook holds answers between experiments, and an experiment may be slow, broken or endless. So cells are not run.
They are read: the statement that defines a wanted name is executed, after the statements that define the names it
uses, wherever in the notebook they stand, and with those that change it. A broken cell harms only the answers that need
it.
"""

import ast
import asyncio
import builtins
import difflib
import itertools
import json
import linecache
import re
import symtable
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from .starters import UNWRITTEN, code_of

PYTHON_MAGICS = {"%%time", "%%timeit", "%%capture", "%%prun"}
"""The cell magics that run their cell as Python in the notebook; others write it to a file, say."""

MUTATORS = {
    "add",
    "append",
    "appendleft",
    "clear",
    "discard",
    "extend",
    "insert",
    "pop",
    "popitem",
    "popleft",
    "remove",
}
MUTATORS |= {"reverse", "rotate", "setdefault", "sort", "update"}
"""The methods by which a list, a dict, a set or a deque is changed."""

MAIN = ("__name__ == '__main__'", "'__main__' == __name__")
"""What is so in a notebook."""

BROKEN = (SyntaxError, ValueError, RecursionError, MemoryError)
"""What Python raises for source that is not Python."""

_modules = itertools.count(1)


class Unusable(Exception):
    """An answer that cannot be loaded. The message is for the learner: what is wrong, and in which cell."""


@dataclass(frozen=True)
class Statement:
    """One top-level statement of a notebook, with the names it defines, changes and uses.

    It patches a name whose attribute it sets, as in `NAME.method = function`, and that may be far from the definition.
    It builds on a name that it needs in order to define the same name: `class NAME(NAME)`.
    """

    node: ast.stmt
    defines: frozenset[str]
    changes: frozenset[str]
    patches: frozenset[str]
    builds_on: frozenset[str]
    uses: frozenset[str]
    filename: str = ""
    cell: int = -1
    tagged: bool = False


@dataclass(frozen=True)
class BrokenCell:
    """A cell that is not valid Python."""

    source: str
    cell: int
    tagged: bool
    error: SyntaxError


class Answers:
    """The answers in one notebook, by name: `answers.load("LRUMemorySaver")`.

    Args:
        path: a notebook of format 4. Where cells tagged `answer` and other cells define the same name, the tagged
            ones win, unless they are still as the learner got them; otherwise the last definition does, as in a
            kernel that ran the notebook top to bottom.

    Raises:
        Unusable: if the file cannot be read as a notebook.
    """

    def __init__(self, path: Path):
        self.path = path
        self._module = ModuleType(f"answers_{next(_modules)}")
        sys.modules[self._module.__name__] = self._module  # where dataclasses and serializers look a class up
        vars(self._module)["display"] = print  # a notebook has it without an import
        self._statements: list[Statement] = []
        self._broken: list[BrokenCell] = []
        self._done: set[int] = set()
        self._loaded: dict[str, Any] = {}
        self._failed: dict[str, BaseException] = {}
        for cell, (label, source, tagged) in enumerate(_code_cells(path)):
            self._read(f"<{label}>", cell, as_python(source), tagged and not UNWRITTEN.search(source))

    @classmethod
    @cache
    def of(cls, path: Path) -> "Answers":
        """Those of a notebook that does not change while this process lives."""
        return cls(path)

    def load(self, name: str) -> Any:
        """The object that the notebook calls `name`; the same object, or the same error, each time.

        Raises:
            KeyError: if nothing in the notebook defines it.
            Unusable: if its definition is broken, or raised an error.
        """
        if name in self._failed:
            raise self._failed[name]
        if name not in self._loaded:
            try:
                self._loaded[name] = self._load(name)
            except BaseException as error:
                self._failed[name] = error
                raise
        return self._loaded[name]

    def _load(self, name: str) -> Any:
        defining, broken = self._defining(name), self._broken_definition(name)
        if broken and not any((each.tagged, each.cell) > (broken.tagged, broken.cell) for each in defining):
            raise _unusable(broken)
        if not defining:
            raise KeyError(name)
        self._need(name)
        if name not in vars(self._module):
            place = self._defining(name)[-1].filename.strip("<>")
            raise Unusable(f"{place} does define {name}, but deletes it again, or under a condition that is not met")
        return getattr(self._module, name)

    @property
    def executed(self) -> list[ast.stmt]:
        """The statements of the notebook that have been needed so far."""
        return [statement.node for statement in self._statements if id(statement) in self._done]

    def passed_over(self, name: str) -> str | None:
        """The cell that defines `name` after the answer cell does, and so does not count."""
        defining, counting = self._defining(name), self._counting(name)
        return defining[-1].filename.strip("<>") if defining[-1:] != counting[-1:] else None

    def resembling(self, name: str) -> str | None:
        """A class or function of the notebook whose name is so close that it may be a misspelling of `name`."""
        defined = {
            statement.node.name
            for statement in self._statements
            if isinstance(statement.node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        }
        return next(iter(difflib.get_close_matches(name, defined, n=1, cutoff=0.8)), None)

    def _read(self, filename: str, cell: int, source: str, tagged: bool) -> None:
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        try:
            found = _statements(source)
            self._statements += [replace(each, filename=filename, cell=cell, tagged=tagged) for each in found]
        except BROKEN as error:
            self._broken.append(BrokenCell(source, cell, tagged, _as_syntax_error(error, filename)))

    def _defining(self, name: str) -> list[Statement]:
        return [statement for statement in self._statements if name in statement.defines]

    def _counting(self, name: str) -> list[Statement]:
        """The definitions of `name` that may count, the last one: all, or the answer cell and what builds on it."""
        defining = self._defining(name)
        first = next((place for place, each in enumerate(defining) if each.tagged), None)
        if first is None:
            return defining
        return [each for each in defining[first:] if each.tagged or name in each.builds_on]

    def _broken_definition(self, name: str) -> BrokenCell | None:
        """The last broken cell that looks as if it defined `name`."""
        defines = re.compile(rf"^[ \t]*(?:(?:class|(?:async[ \t]+)?def)[ \t]+{name}\b|{name}[ \t]*=)", re.MULTILINE)
        found = [cell for cell in self._broken if defines.search(cell.source)]
        return max(found, key=lambda cell: (cell.tagged, cell.cell), default=None)

    def _need(self, name: str, user: Statement | None = None) -> None:
        """Execute what gives `name` its value: in the user's own cell if that does, else in the cell that counts."""
        defining = self._defining(name)
        if not defining:
            for statement in self._defining("*"):
                self._execute(statement)
            broken = self._broken_definition(name)
            if broken and name not in vars(self._module):
                raise _unusable(broken)
            return
        here = [statement for statement in defining if user and statement.cell == user.cell]
        chosen = (here or self._counting(name))[-1].cell
        self._run(name, chosen)
        for statement in self._statements:
            if statement.cell > chosen and name in statement.patches:
                self._execute(statement)

    def _need_earlier(self, name: str, user: Statement) -> None:
        """Execute what `user` builds on when it defines `name` anew, as in `class Saver(Saver):` or `steps += …`."""
        defining = self._defining(name)
        earlier = [statement.cell for statement in defining[: defining.index(user)]]
        if earlier and earlier[-1] < user.cell:
            self._run(name, earlier[-1])

    def _run(self, name: str, cell: int) -> None:
        for statement in self._statements:
            if statement.cell == cell and name in statement.defines | statement.changes:
                self._execute(statement)

    def _execute(self, statement: Statement) -> None:
        if id(statement) in self._done:
            return
        self._done.add(id(statement))
        for name in sorted(statement.uses):
            self._need(name, statement)
        for name in sorted(statement.builds_on):
            self._need_earlier(name, statement)
        body = [*self._future_imports(statement), statement.node]
        code = _compile(ast.Module(body, type_ignores=[]), statement.filename)
        try:
            awaitable = eval(code, self._module.__dict__)
            if awaitable is not None:
                asyncio.run(awaitable)
        except NotImplementedError:
            raise
        except (Exception, SystemExit) as error:
            raise Unusable(f"{where(error)} raised {type(error).__name__}: {error}") from error

    def _future_imports(self, statement: Statement) -> Iterator[ast.stmt]:
        for other in self._statements:
            is_future = isinstance(other.node, ast.ImportFrom) and other.node.module == "__future__"
            if is_future and other.cell == statement.cell and other is not statement:
                yield other.node


def where(error: BaseException) -> str:
    """The last line of the learner's own code that an error passed through, such as `cell 14, line 9: x = y[0]`."""
    place, trace = "", error.__traceback__
    while trace is not None:
        filename = trace.tb_frame.f_code.co_filename
        if re.fullmatch(r"<.*cell .+>", filename) and trace.tb_lineno:
            line = linecache.getline(filename, trace.tb_lineno).strip()
            place = f"{filename.strip('<>')}, line {trace.tb_lineno}: {line}"
        trace = trace.tb_next
    return place


def _code_cells(path: Path) -> Iterator[tuple[str, str, bool]]:
    """What to call each code cell, its source, and whether it is tagged `answer`."""
    try:
        cells = list(json.loads(path.read_text(encoding="utf-8-sig"))["cells"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise Unusable(f"{path.name} cannot be read as a notebook: {type(error).__name__}: {error}") from error
    tasks: set[str] = set()
    for number, cell in enumerate(cells, start=1):
        source = code_of(cell)
        if source:
            metadata = cell.get("metadata")
            metadata = metadata if isinstance(metadata, dict) else {}
            tags = metadata.get("tags")
            tagged = isinstance(tags, list) and "answer" in tags
            ours = metadata["learning"] if isinstance(metadata.get("learning"), dict) else {}
            task = str(ours.get("task", ""))
            if tagged and task and task not in tasks:  # a number is not shown beside a cell; a copy needs one
                tasks.add(task)
                label = f"the answer cell of {task}"
            else:
                label = f"cell {ours['ran_as']}" if ours.get("ran_as") else f"{path.name}, cell {number}"
            yield label, source, tagged


@cache
def as_python(source: str) -> str:
    """A cell without IPython's own syntax, line for line."""
    from IPython.core.inputtransformer2 import TransformerManager

    blank = source[: len(source) - len(source.lstrip())]  # a magic may stand below blank lines
    first, newline, rest = source.removeprefix(blank).partition("\n")
    if first.startswith("%%"):
        source = f"{blank}#{first}{newline}{rest}" if first.split()[0] in PYTHON_MAGICS else ""
    try:
        return TransformerManager().transform_cell(source)
    except (SyntaxError, ValueError):
        return source  # the caller's own parse says what is wrong, at the learner's line numbers


def _compile(tree: ast.Module, filename: str) -> CodeType:
    """Code to evaluate: nothing comes of it, or an awaitable where the cell awaits something at its top level."""
    return compile(tree, filename, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


def _unusable(broken: BrokenCell) -> Unusable:
    error = broken.error
    file = (error.filename or "").strip("<>")
    line = f"\n    {error.text.rstrip()}" if error.text else ""
    return Unusable(f"{file}, line {error.lineno}: {type(error).__name__}: {error.msg}{line}")


def _as_syntax_error(error: Exception, filename: str) -> SyntaxError:
    if isinstance(error, SyntaxError):
        error.filename = filename
        return error
    return SyntaxError(str(error), (filename, 1, 0, ""))


@cache
def _statements(source: str) -> list[Statement]:
    """Those of a cell, wherever it stands."""
    tree = ast.parse(source)
    _compile(tree, "")  # finds what the parser lets pass, such as a stray return
    for node in tree.body:
        if isinstance(node, ast.If) and ast.unparse(node.test) in MAIN:
            node.test = ast.copy_location(ast.Constant(True), node.test)
    return [_statement(node) for node in tree.body]


def read_ahead(path: Path) -> None:
    """Read the cells of a notebook, so that others which have the same ones are read faster. Nothing is run."""
    with suppress(Unusable):
        for _, source, _ in _code_cells(path):
            with suppress(*BROKEN):
                _statements(as_python(source))


def _statement(node: ast.stmt) -> Statement:
    table = symtable.symtable(ast.unparse(node), "", "exec")
    symbols = table.get_symbols()
    defines = {each.get_name() for each in symbols if each.is_assigned() or each.is_imported()}
    if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
        defines = {"*"}
    if isinstance(node, ast.AnnAssign) and node.value is None:
        defines = set()
    adds_to = {node.target.id} if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name) else set()
    patches, changes = _changed(node)
    return Statement(
        node=node,
        defines=frozenset(defines),
        changes=frozenset(changes),
        patches=frozenset(patches),
        builds_on=frozenset(defines & _globals(table, at_once=True) | adds_to),
        uses=frozenset(_globals(table)),
    )


def _globals(table: symtable.SymbolTable, *, at_once: bool = False) -> set[str]:
    """The names that a block and those inside it look up in the module: all, or those that defining it looks up."""
    outermost = table.get_type() == "module"
    names = {
        symbol.get_name()
        for symbol in table.get_symbols()
        if (symbol.is_referenced() and (outermost or symbol.is_global())) or symbol.is_declared_global()
    }
    inner = [child for child in table.get_children() if not (at_once and child.get_type() == "function")]
    return names.union(*(_globals(child, at_once=at_once) for child in inner)) - set(dir(builtins))


def _changed(node: ast.stmt) -> tuple[set[str], set[str]]:
    """The names on whose objects a statement sets an attribute, and those that it changes in this or another way."""
    patches: set[str | None] = set()
    changes: set[str | None] = set()
    for part in _outside_functions(node):
        match part:
            case ast.Attribute(value=changed, ctx=ast.Store() | ast.Del()):
                patches.add(_root(changed))
            case ast.Call(func=ast.Name(id="setattr" | "delattr"), args=[changed, *_]):
                patches.add(_root(changed))
            case ast.Subscript(value=changed, ctx=ast.Store() | ast.Del()):
                changes.add(_root(changed))
            case ast.Call(func=ast.Attribute(value=changed, attr=method)) if method in MUTATORS:
                changes.add(_root(changed))
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                called = [each.func if isinstance(each, ast.Call) else each for each in part.decorator_list]
                changes |= {_root(each) for each in called if isinstance(each, ast.Attribute)}
    return set(filter(None, patches)), set(filter(None, changes | patches))


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    """A statement and its parts, but for what runs only when a function is called."""
    yield node
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
        for child in ast.iter_child_nodes(node):
            yield from _outside_functions(child)


def _root(changed: ast.expr) -> str | None:
    """The name that an expression such as `NAME.x[y]` starts from."""
    while isinstance(changed, ast.Attribute | ast.Subscript):
        changed = changed.value
    return changed.id if isinstance(changed, ast.Name) else None
