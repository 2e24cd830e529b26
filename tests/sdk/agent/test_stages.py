"""Requests that want something looked at and somebody else's tool called."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.tools import tool

from tests.sdk.agent.conftest import asking, drawn
from visionllm_sdk import VisionLLM
from visionllm_sdk.agent.choices import as_function, function_of
from visionllm_sdk.agent.stages import Stages, stages_of


@tool
def save_note(text: str) -> str:
    """Save a note."""
    return "The note is saved."


@tool
def send_mail(to: str, subject: str, body: str) -> str:
    """Send an e-mail."""
    return f"The mail to {to} is sent."


NOTE = function_of(as_function(save_note)["function"])


@pytest.mark.parametrize(
    ("request_", "look", "then", "refers"),
    [
        ("Find the stars and save a note with it.", "Find the stars", "save a note with it.", True),
        ("Please count the dogs, then save a note.", "Please count the dogs", "save a note.", True),
        ("What colour is it? Save a note.", "What colour is it", "Save a note.", True),
        ("Find stars and rings and save a note.", "Find stars and rings", "save a note.", True),
        ('Save a note "x" and find the stars.', "find the stars.", 'Save a note "x"', False),
    ],
)
def test_two_stages(request_: str, look: str, then: str, refers: bool) -> None:
    assert stages_of(request_, NOTE) == Stages(look=look, then=then, refers=refers)


@pytest.mark.parametrize(
    "request_",
    [
        "Find the stars.",
        "Save a note: buy milk and eggs",
        "Save a note with milk, bread and show it to Ann.",
        "For Ann and Bob, save a note.",
        "Find the note and the star.",
        "",
    ],
)
def test_one_stage(request_: str) -> None:
    assert stages_of(request_, NOTE) is None


@pytest.mark.parametrize(
    ("request_", "called", "arguments", "answer"),
    [
        (
            "Count the red circles and save a note with the result.",
            ["detect", "save_note"],
            {"text": "1 red circle"},
            "I found 1 red circle. The note is saved.",
        ),
        (
            "What colour is the circle? Save a note with it.",
            ["save_note"],
            {"text": "red"},
            "The note is saved.",
        ),
        (
            'Find the stars, then send a mail to bob@x.org with subject "report" and what you found.',
            ["detect", "send_mail"],
            {"to": "bob@x.org", "subject": "report", "body": "no star"},
            "I found no star. The mail to bob@x.org is sent.",
        ),
        (
            'Save a note "done" and find the red circle.',
            ["ground", "save_note"],
            {"text": "done"},
            None,
        ),
    ],
)
def test_what_was_found_is_handed_on(
    request_: str, called: list[str], arguments: dict[str, Any], answer: str | None, vlm: VisionLLM
) -> None:
    agent = create_agent(vlm.as_chat_model(), [*vlm.tools, save_note, send_mail])
    messages = agent.invoke({"messages": [asking(request_, drawn(1, width=288, height=224))]})["messages"]
    calls = [call for message in messages for call in getattr(message, "tool_calls", ())]
    assert [call["name"] for call in calls] == called
    assert calls[-1]["args"] == arguments
    assert answer is None or messages[-1].text == answer


def test_what_failed_is_not_handed_on(vlm: VisionLLM) -> None:
    """A tool of somebody else is not called with an error for a finding."""
    model = vlm.as_chat_model().bind_tools([*vlm.tools, save_note])
    request = asking("Count the red circles and save a note with the result.", drawn(1))
    first = model.invoke([request])
    (call,) = first.tool_calls
    failed = {tool.name: tool for tool in vlm.tools}["detect"].invoke({**call, "args": {"labels": []}})
    assert failed.status == "error"
    assert model.invoke([request, first, failed]).tool_calls == []
