"""A person approves every tool call before it runs (approved.png), or sends it back with a reason.

python examples/agents/human_approval.py [approve|reject]
"""

from __future__ import annotations

import sys

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from visionllm_sdk import VisionLLM, revive
from visionllm_sdk.agent.vision_agent import image_block
from visionllm_sdk.demo import demo_scene


def main(arguments: list[str]) -> None:
    verdict = arguments[0] if arguments else "approve"
    vlm = VisionLLM.from_pretrained()
    agent = create_agent(
        model=vlm.as_chat_model(),
        tools=vlm.tools,
        middleware=[HumanInTheLoopMiddleware(interrupt_on={tool.name: True for tool in vlm.tools})],
        checkpointer=InMemorySaver(),
    )
    thread: RunnableConfig = {"configurable": {"thread_id": "approval"}}
    image = demo_scene()
    request = HumanMessage([image_block(image), {"type": "text", "text": "Detect the hearts."}])
    paused = agent.invoke({"messages": [request]}, thread)
    for action in paused["__interrupt__"][0].value["action_requests"]:
        print(f"The agent wants to {action['name']} {action['args']['labels']}. You say: {verdict}")
    decision = (
        {"type": "approve"} if verdict == "approve" else {"type": "reject", "message": "Not on Sundays."}
    )
    state = agent.invoke(Command(resume={"decisions": [decision]}), thread)
    report = state["messages"][-2]
    if report.artifact is not None:
        found = revive(report.artifact)
        found.draw(image).save("approved.png")
        print(f"{len(found)} found")
    print(state["messages"][-1].text)


if __name__ == "__main__":
    main(sys.argv[1:])
