"""The refund desk of lesson 5: one small graph, and three versions of its state.

    START ─► greet ─► approve (waits for a person) ─► close ─► END

version 1   customer: text, total: euros as a float
version 2   name: text, cents: an int             what they meant has changed, so they have other names
version 3   as 2, and currency: text, such as EUR
"""

import operator
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import interrupt


class State1(TypedDict, total=False):
    """The first one."""

    notes: Annotated[list[str], operator.add]
    customer: str
    total: float


class State2(TypedDict, total=False):
    """Money is counted in cents."""

    notes: Annotated[list[str], operator.add]
    name: str
    cents: int


class State3(TypedDict, total=False):
    """There are other countries."""

    notes: Annotated[list[str], operator.add]
    name: str
    cents: int
    currency: str


def _words1(state: Any) -> str:
    return f"{state.get('customer')} gets {state.get('total')} EUR"


def _words2(state: Any) -> str:
    return f"{state.get('name')} gets {state.get('cents')} cents"


def _words3(state: Any) -> str:
    return f"{state.get('name')} gets {state.get('cents')} cents in {state.get('currency')}"


VERSIONS = {1: (State1, _words1), 2: (State2, _words2), 3: (State3, _words3)}


def build_desk(version: int, saver: BaseCheckpointSaver | None, approving: str = "approve") -> CompiledStateGraph:
    """The desk as it was deployed in this version, with its node for the approval under this name.

    Without a saver it can be a node of another graph, and stores its states in the saver of that.
    """
    schema, words = VERSIONS[version]

    def greet(state: Any) -> Any:
        return {"notes": [f"v{version} asks: {words(state)}?"]}

    def approve(state: Any) -> Any:
        return {"notes": ["yes" if interrupt(f"{words(state)}?") else "no"]}

    def close(state: Any) -> Any:
        return {"notes": [f"v{version} says: {words(state)}"]}

    graph = StateGraph(schema)
    for name, node in (("greet", greet), (approving, approve), ("close", close)):
        graph.add_node(name, node)
    graph.add_edge(START, "greet")
    graph.add_edge("greet", approving)
    graph.add_edge(approving, "close")
    graph.add_edge("close", END)
    return graph.compile(checkpointer=saver)
