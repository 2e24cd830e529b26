from __future__ import annotations

from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages.tool import tool_call
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from tests.sdk.agent.conftest import asking, drawn
from visionllm_sdk import VisionLLM
from visionllm_sdk.agent.review import as_run
from visionllm_sdk.agent.vision_agent import reply_of


def test_reports_that_nobody_changed_stay() -> None:
    call = tool_call(name="detect", args={"labels": ["star"]}, id="1")
    for text in ("2 stars.", "", "Executed instead: nothing", "Executed instead: a with arguments {b}."):
        assert as_run(call, text) == (call, text)


def reviewed(model: Any, tools: list[Any], request: Any, edit: dict[str, Any]) -> Any:
    """The messages of an agent whose calls a person has changed."""
    agent = create_agent(
        model,
        tools,
        middleware=[HumanInTheLoopMiddleware(interrupt_on={edit["name"]: True})],
        checkpointer=InMemorySaver(),
    )
    thread: Any = {"configurable": {"thread_id": "a"}}
    (interrupt,) = agent.invoke({"messages": [request]}, thread)["__interrupt__"]
    decisions = [{"type": "edit", "edited_action": edit} for _ in interrupt.value["action_requests"]]
    return agent.invoke(Command(resume={"decisions": decisions}), thread)["messages"]


def test_what_a_person_changed_is_what_ran(random_vlm: VisionLLM) -> None:
    model = random_vlm.as_chat_model(force="detect", max_tokens=20)
    edit = {"name": "detect", "args": {"labels": ["red circle"]}}
    messages = reviewed(model, random_vlm.tools, asking("find the star", drawn(1)), edit)
    reply = reply_of(messages)
    assert {(call.tool, call.labels) for call in reply.calls} == {("detect", ("red circle",))}
    assert "reviewer" not in reply.text


def test_the_note_of_a_changed_call_is_no_answer(vlm: VisionLLM) -> None:
    @tool
    def archive(folder: str) -> str:
        """Archive a folder."""
        return f"{folder} is archived."

    edit = {"name": "archive", "args": {"folder": "bills"}}
    request = asking("Archive the folder letters.")
    messages = reviewed(vlm.as_chat_model(), [*vlm.tools, archive], request, edit)
    assert messages[-1].text == "bills is archived."
