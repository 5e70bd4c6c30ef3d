"""What the graded tests say of themselves, read from their source: nothing of them has to run for that."""

import ast
from functools import cache

from .tasks import GRADED_TESTS, Task


@cache
def behaviours(task: Task) -> list[str]:
    """What the task's test judges, in its order."""
    items = [item.context_expr for node in _inside(task) if isinstance(node, ast.With) for item in node.items]
    named = [call for call in items if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "behaviour"]
    return [call.args[0].value for call in sorted(named, key=lambda call: call.lineno)]


@cache
def asked_for(task: Task) -> list[str]:
    """The learner's names that the task's test uses."""
    asked = (
        each for each in _inside(task) if isinstance(each, ast.Attribute) and getattr(each.value, "id", "") == "work"
    )
    return list(dict.fromkeys([*task.writes, *(each.attr for each in asked)]))


@cache
def shared_servers(task: Task) -> list[str]:
    """The servers that the test shares with others, by what starts them: `server(services.redis)` asks for one."""
    calls = [each for each in _inside(task) if isinstance(each, ast.Call) and getattr(each.func, "id", "") == "server"]
    kinds = [call.args[0] for call in calls if call.args]
    return list(dict.fromkeys(kind.attr for kind in kinds if isinstance(kind, ast.Attribute)))


def _inside(task: Task) -> list[ast.AST]:
    return list(ast.walk(_tests()[f"test_{task.name}"]))


@cache
def _tests() -> dict[str, ast.FunctionDef]:
    tree = ast.parse(GRADED_TESTS.read_text(encoding="utf-8"))
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
