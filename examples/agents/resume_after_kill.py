"""An agent is killed between a tool call and its result; another process finishes its work (resumed.png).

python examples/agents/resume_after_kill.py [DATABASE]
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import wrap_tool_call
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.sqlite import SqliteSaver

from visionllm_sdk import Detections, VisionLLM
from visionllm_sdk.agent.vision_agent import image_block, reply_of
from visionllm_sdk.demo import demo_scene

THREAD: RunnableConfig = {"configurable": {"thread_id": "inspection 7"}}


@wrap_tool_call
def die(request: Any, handler: Any) -> Any:
    """The power goes off just when a tool is to run."""
    os.kill(os.getpid(), signal.SIGKILL)
    return handler(request)


def agent(saver: SqliteSaver, *middleware: Any) -> Any:
    vlm = VisionLLM.from_pretrained()
    return create_agent(model=vlm.as_chat_model(), tools=vlm.tools, middleware=middleware, checkpointer=saver)


def main(arguments: list[str]) -> None:
    database = arguments[0] if arguments else "threads.db"
    with SqliteSaver.from_conn_string(database) as saver:
        if arguments[1:] == ["begin"]:
            request = HumanMessage(
                [image_block(demo_scene()), {"type": "text", "text": "Detect the hearts."}]
            )
            agent(saver, die).invoke({"messages": [request]}, THREAD)
        begun = subprocess.run([sys.executable, __file__, database, "begin"], check=False)
        print(f"The first process ended with {begun.returncode}.")
        state = agent(saver).invoke(None, THREAD)
        reply = reply_of(state["messages"])
        print(f"The second one finished: {reply.text} ({len(reply.results)} result)")
        for found in reply.results:
            if isinstance(found, Detections):
                found.draw(demo_scene()).save("resumed.png")


if __name__ == "__main__":
    main(sys.argv[1:])
