"""Load a learner's answers from a notebook: the names a test asks for, what they need, and nothing else.

A notebook holds answers between experiments, and an experiment may be slow, broken or endless. So cells are not run.
They are read: the statement that defines a wanted name is executed, after the statements that define the names it
uses, wherever in the notebook they stand. A broken cell harms only the answers that need it.
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
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

PYTHON_MAGICS = {"%%time", "%%timeit", "%%capture", "%%prun"}
"""The cell magics that run their cell as Python in the notebook; others write it to a file, say."""

_modules = itertools.count(1)


class Unusable(Exception):
    """An answer that cannot be loaded. The message is for the learner: what is wrong, and in which cell."""


@dataclass(frozen=True)
class Statement:
    """One top-level statement of a notebook, with the names it defines, changes and uses."""

    node: ast.stmt
    filename: str
    cell: int
    tagged: bool
    defines: frozenset[str]
    changes: frozenset[str]
    uses: frozenset[str]


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
            ones win; otherwise the last definition does, as in a kernel that ran the notebook top to bottom.

    Raises:
        Unusable: if the file cannot be read as a notebook.
    """

    def __init__(self, path: Path):
        self.path = path
        self._module = ModuleType(f"answers_{next(_modules)}")
        sys.modules[self._module.__name__] = self._module  # where dataclasses and serializers look a class up
        self._module.display = print  # a notebook has it without an import
        self._statements: list[Statement] = []
        self._broken: list[BrokenCell] = []
        self._done: set[int] = set()
        for cell, (label, source, tagged) in enumerate(_code_cells(path)):
            self._read(f"<{label}>", cell, as_python(source), tagged)

    def load(self, name: str) -> Any:
        """The object that the notebook calls `name`.

        Raises:
            KeyError: if nothing in the notebook defines it.
            Unusable: if its definition is broken, or raised an error.
        """
        defining = [statement for statement in self._statements if name in statement.defines]
        broken = self._broken_definition(name)
        if broken and not any((each.tagged, each.cell) > (broken.tagged, broken.cell) for each in defining):
            error = broken.error
            line = f"\n    {error.text.rstrip()}" if error.text else ""
            raise Unusable(f"{error.filename.strip('<>')}, line {error.lineno}: {error.msg}{line}")
        if not defining:
            raise KeyError(name)
        self._need(name)
        return getattr(self._module, name)

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
            tree = ast.parse(source, filename)
            _compile(tree, filename)  # finds what the parser lets pass, such as a stray return
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            self._broken.append(BrokenCell(source, cell, tagged, _as_syntax_error(error, filename)))
            return
        self._statements += [_statement(node, filename, cell, tagged) for node in tree.body]

    def _broken_definition(self, name: str) -> BrokenCell | None:
        """The last broken cell that looks as if it defined `name`."""
        defines = re.compile(rf"^\s*(?:(?:class|(?:async\s+)?def)\s+{name}\b|{name}\s*=)", re.MULTILINE)
        found = [cell for cell in self._broken if defines.search(cell.source)]
        return max(found, key=lambda cell: (cell.tagged, cell.cell), default=None)

    def _need(self, name: str, near: int | None = None) -> None:
        """Execute what defines `name`: in the cell `near` if that does, else in the cell that counts."""
        candidates = [statement for statement in self._statements if name in statement.defines]
        if not candidates:
            candidates = [statement for statement in self._statements if "*" in statement.defines]
            for statement in candidates:
                self._execute(statement)
            return
        here = [statement for statement in candidates if statement.cell == near]
        tagged = [statement for statement in candidates if statement.tagged]
        chosen = (here or tagged or candidates)[-1].cell
        for statement in self._statements:
            if statement.cell == chosen and name in statement.defines | statement.changes:
                self._execute(statement)

    def _execute(self, statement: Statement) -> None:
        if id(statement) in self._done:
            return
        self._done.add(id(statement))
        for name in sorted(statement.uses):
            self._need(name, near=statement.cell)
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
        cells = json.loads(path.read_text(encoding="utf-8-sig"))["cells"]
        for number, cell in enumerate(cells, start=1):
            if cell["cell_type"] == "code":
                metadata = cell.get("metadata")
                metadata = metadata if isinstance(metadata, dict) else {}
                ran_as = metadata["learning"].get("ran_as") if isinstance(metadata.get("learning"), dict) else None
                label = f"cell {ran_as}" if ran_as else f"{path.name}, cell {number}"
                yield label, "".join(cell["source"]), "answer" in (metadata.get("tags") or [])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unusable(f"{path.name} cannot be read as a notebook: {type(error).__name__}: {error}") from error


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


def _as_syntax_error(error: Exception, filename: str) -> SyntaxError:
    if isinstance(error, SyntaxError):
        return error
    return SyntaxError(str(error), (filename, 1, 0, ""))


def _statement(node: ast.stmt, filename: str, cell: int, tagged: bool) -> Statement:
    table = symtable.symtable(ast.unparse(node), filename, "exec")
    defines = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
        defines = {"*"}
    return Statement(
        node, filename, cell, tagged, frozenset(defines), frozenset(_changed(node)), frozenset(_globals(table))
    )


def _globals(table: symtable.SymbolTable) -> set[str]:
    """The names that a block and the blocks inside it look up in the module."""
    outermost = table.get_type() == "module"
    names = {
        symbol.get_name()
        for symbol in table.get_symbols()
        if symbol.is_referenced() and (outermost or symbol.is_global())
    }
    return names.union(*(_globals(child) for child in table.get_children())) - set(dir(builtins))


def _changed(node: ast.stmt) -> set[str]:
    """The names whose objects a statement changes: `NAME.x = …`, `NAME[x] = …`, `@NAME.register`."""
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AugAssign | ast.AnnAssign):
        targets = [node.target]
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        targets = [each.func if isinstance(each, ast.Call) else each for each in node.decorator_list]
    names = set()
    for target in targets:
        inner = target
        while isinstance(inner, ast.Attribute | ast.Subscript):
            inner = inner.value
        if isinstance(inner, ast.Name) and inner is not target:
            names.add(inner.id)
    return names
