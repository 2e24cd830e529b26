"""Two models: a planner that cannot see, and the vision model's tools as its eyes (two_models.png).

The planner here follows a script, so that the example needs no service; any chat model can take
its place.

python examples/agents/two_models.py [IMAGE]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable

from visionllm_sdk import Grounding, VisionLLM, load_image
from visionllm_sdk.agent.vision_agent import image_block
from visionllm_sdk.demo import demo_scene

PLAN = (("count", {"label": "heart"}), ("ground", {"expression": "the largest heart"}), ("caption", {}))


class ScriptedPlanner(BaseChatModel):
    """Calls one tool after the other, and ends with what they said."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        return self.bind(names=[tool.name for tool in tools])

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        reports = [message for message in messages if isinstance(message, ToolMessage)]
        if len(reports) < len(PLAN):
            name, arguments = PLAN[len(reports)]
            call = {"name": name, "args": arguments, "id": str(len(reports)), "type": "tool_call"}
            answer = AIMessage("", tool_calls=[call])
        else:
            answer = AIMessage("\n".join(f"- {one.name}: {one.text}" for one in reports))
        return ChatResult(generations=[ChatGeneration(message=answer)])


def main(arguments: list[str]) -> None:
    image = load_image(arguments[0]) if arguments else demo_scene()
    vlm = VisionLLM.from_pretrained()
    agent = create_agent(model=ScriptedPlanner(), tools=vlm.tools)
    request = HumanMessage([image_block(image), {"type": "text", "text": "Tell me about the hearts."}])
    state = agent.invoke({"messages": [request]})
    for message in state["messages"]:
        if isinstance(message, ToolMessage):
            print(f"{message.name}: {type(message.artifact).__name__}")
            if isinstance(message.artifact, Grounding):
                message.artifact.draw(image).save("two_models.png")
    print(state["messages"][-1].text)


if __name__ == "__main__":
    main(sys.argv[1:])
