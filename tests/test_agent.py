"""The support agent that every lesson checkpoints."""

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from learning.agent import build_agent

ANA = {"configurable": {"thread_id": "ana"}}


@pytest.fixture
def agent():
    return build_agent(InMemorySaver())


def say(agent, text):
    return agent.invoke({"messages": [("user", text)]}, ANA)


def test_orders_are_looked_up_side_by_side(agent):
    steps = list(agent.stream({"messages": [("user", "Where are 1001, 1002 and 9999?")]}, ANA, stream_mode="updates"))

    assert [list(step) for step in steps] == [["assistant"], ["look_up"], ["look_up"], ["look_up"], ["assistant"]]
    assert agent.get_state(ANA).values["messages"][-1].text == (
        "Order 1001: espresso machine, 249.00 EUR, delivered. Order 1002: coffee grinder, 89.50 EUR, on its way. "
        "I cannot find order 9999."
    )


@pytest.mark.parametrize(
    ("approved", "refunded", "answer"),
    [
        (True, 249.00, "249.00 EUR for order 1001 are on their way back to you."),
        (False, 0, "I am sorry, we cannot refund this order."),
    ],
)
def test_a_refund_waits_for_a_person(agent, approved, refunded, answer):
    waiting = say(agent, "Please refund order 1001")
    assert waiting["__interrupt__"][0].value == {"question": "Refund 249.00 EUR for order 1001?"}

    done = agent.invoke(Command(resume=approved), ANA)

    assert done.get("refunded", 0) == refunded
    assert done["messages"][-1].text == answer


@pytest.mark.parametrize("order", ["1002", "1004", "9999"])
def test_what_was_not_delivered_is_not_refunded(agent, order):
    result = say(agent, f"I want a refund for order {order}")

    assert "__interrupt__" not in result
    assert "nothing to refund" in result["messages"][-1].text


def test_two_refunds_add_up(agent):
    for order in ("1001", "1003"):
        say(agent, f"Please refund order {order}")
        result = agent.invoke(Command(resume=True), ANA)

    assert result["refunded"] == pytest.approx(249.00 + 19.90)


def test_the_refund_runs_in_a_namespace_of_its_own():
    saver = InMemorySaver()
    say(build_agent(saver), "Please refund order 1001")

    assert [namespace.partition(":")[0] for namespace in saver.storage["ana"]] == ["", "refund"]


def test_the_same_conversation_gets_the_same_answers():
    texts = [
        [say(agent, text)["messages"][-1].text for text in ("Hello", "Where is 1003?", "And 1001 and 1004?")]
        for agent in (build_agent(InMemorySaver()), build_agent(InMemorySaver()))
    ]

    assert texts[0] == texts[1]
