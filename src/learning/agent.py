"""A support agent for an online shop: the graph that lessons 1 to 4 checkpoint.

    START ─► assistant ─┬─► look_up   one task for each order, side by side  ─► assistant
                        ├─► refund    a subgraph: check ─► approve ─► pay    ─► assistant
                        └─► END

The model is scripted: it reads the conversation and answers by rule, so the agent runs offline and says the same every
time. Any LangChain chat model that can call tools fits in its place: `build_agent(saver, model=...)`.
"""

import operator
import re
from typing import Annotated, Any, Literal, TypedDict

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, ToolCall, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, Send, interrupt


class Order(TypedDict):
    """What the shop knows of an order; the price is in EUR."""

    item: str
    price: float
    status: str


ORDERS: dict[str, Order] = {
    "1001": {"item": "espresso machine", "price": 249.00, "status": "delivered"},
    "1002": {"item": "coffee grinder", "price": 89.50, "status": "on its way"},
    "1003": {"item": "milk jug", "price": 19.90, "status": "delivered"},
    "1004": {"item": "filter papers", "price": 4.75, "status": "cancelled"},
}


# --- tools ------------------------------------------------------------------------------------------------------------


@tool
def look_up_order(order_id: str) -> str:
    """Tell what an order contains, what it cost and where it is."""
    if order_id not in ORDERS:
        return f"I cannot find order {order_id}."
    order = ORDERS[order_id]
    return f"Order {order_id}: {order['item']}, {order['price']:.2f} EUR, {order['status']}."


@tool
def refund_order(order_id: str) -> str:
    """Pay back what a delivered order cost. A person has to approve it first."""
    return f"{ORDERS[order_id]['price']:.2f} EUR for order {order_id} are on their way back to you."


# --- the model --------------------------------------------------------------------------------------------------------


class ScriptedModel(BaseChatModel):
    """A chat model without a network: the same conversation always gets the same answer."""

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=_answer(messages))])

    def bind_tools(self, tools: Any, **kwargs: Any) -> "ScriptedModel":
        """Nothing to bind: the script knows its tools."""
        return self

    @property
    def _llm_type(self) -> str:
        return "scripted"


def _answer(messages: list[BaseMessage]) -> AIMessage:
    if messages[-1].type == "tool":
        return AIMessage(" ".join(_results_of_last_call(messages)))
    request = messages[-1].text
    orders = re.findall(r"\b\d{4}\b", request)
    if not orders:
        return AIMessage("Hello! Tell me the number of your order, and what I can do for you.")
    wanted = refund_order if "refund" in request.lower() else look_up_order
    if wanted is refund_order:
        orders = orders[:1]
    calls = [
        ToolCall(name=wanted.name, args={"order_id": order}, id=f"call-{len(messages)}-{n}")
        for n, order in enumerate(orders)
    ]
    return AIMessage("", tool_calls=calls)


def _results_of_last_call(messages: list[BaseMessage]) -> list[str]:
    last_call = max(place for place, message in enumerate(messages) if message.type == "ai")
    return [message.text for message in messages[last_call + 1 :]]


# --- the refund: a graph in the graph, with a person in it ------------------------------------------------------------


class RefundState(TypedDict, total=False):
    """What the refund subgraph works on; `messages` and `refunded` flow back to the agent."""

    call: ToolCall
    messages: Annotated[list[AnyMessage], add_messages]
    refunded: float


def _reply(call: ToolCall, text: str) -> ToolMessage:
    return ToolMessage(text, tool_call_id=call["id"])


def _check(state: RefundState) -> Command[Literal["approve", "__end__"]]:
    order_id = state["call"]["args"]["order_id"]
    order = ORDERS.get(order_id)
    if order and order["status"] == "delivered":
        return Command(goto="approve")
    refusal = _reply(state["call"], f"Order {order_id} has not been delivered, so there is nothing to refund.")
    return Command(goto="__end__", update={"messages": [refusal]})


def _approve(state: RefundState) -> Command[Literal["pay", "__end__"]]:
    order_id = state["call"]["args"]["order_id"]
    amount = ORDERS[order_id]["price"]
    approved = interrupt({"question": f"Refund {amount:.2f} EUR for order {order_id}?"})
    if approved:
        return Command(goto="pay")
    refusal = _reply(state["call"], "I am sorry, we cannot refund this order.")
    return Command(goto="__end__", update={"messages": [refusal]})


def _pay(state: RefundState) -> RefundState:
    order_id = state["call"]["args"]["order_id"]
    return {
        "messages": [_reply(state["call"], refund_order.invoke({"order_id": order_id}))],
        "refunded": ORDERS[order_id]["price"],
    }


def _build_refund() -> CompiledStateGraph:
    graph = StateGraph(RefundState)
    graph.add_node("check", _check)
    graph.add_node("approve", _approve)
    graph.add_node("pay", _pay)
    graph.add_edge(START, "check")
    graph.add_edge("pay", END)
    return graph.compile()


# --- the agent --------------------------------------------------------------------------------------------------------


class SupportState(TypedDict, total=False):
    """The conversation, and how much money (EUR) it has paid back so far."""

    messages: Annotated[list[AnyMessage], add_messages]
    refunded: Annotated[float, operator.add]


def _look_up(state: ToolCall) -> SupportState:  # what `Send` gives a task is its state
    return {"messages": [_reply(state, look_up_order.invoke(state["args"]))]}


def _next_tasks(state: SupportState) -> list[Send] | str:
    answer = state["messages"][-1]
    assert isinstance(answer, AIMessage), "the assistant has the last word"
    return [
        Send("refund", {"call": call}) if call["name"] == refund_order.name else Send("look_up", call)
        for call in answer.tool_calls
    ] or END


def build_agent(
    checkpointer: BaseCheckpointSaver | None = None, model: BaseChatModel | None = None
) -> CompiledStateGraph:
    """Compile the agent. Without a checkpointer it forgets each conversation, and cannot stop for an approval."""
    chat = (model or ScriptedModel()).bind_tools([look_up_order, refund_order])

    def assistant(state: SupportState) -> SupportState:
        return {"messages": [chat.invoke(state["messages"])]}

    graph = StateGraph(SupportState)
    graph.add_node("assistant", assistant)
    graph.add_node("look_up", _look_up)
    graph.add_node("refund", _build_refund())
    graph.add_edge(START, "assistant")
    graph.add_conditional_edges("assistant", _next_tasks, ["look_up", "refund", END])
    graph.add_edge("look_up", "assistant")
    graph.add_edge("refund", "assistant")
    return graph.compile(checkpointer=checkpointer)
