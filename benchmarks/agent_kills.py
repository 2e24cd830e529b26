"""An agent that is killed between a tool call and its result, and goes on in a new process.

    python benchmarks/agent_kills.py [--count 50]

Every conversation begins in a process of its own, which ends by SIGKILL when its tool is about to run, and is
continued by another one that knows nothing but the SQLite file. Its reply must be that of a conversation that
nothing disturbed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

from langchain.agents import create_agent
from langchain.agents.middleware import wrap_tool_call
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.sqlite import SqliteSaver

from visionllm_sdk import Reply, VisionLLM, load_image
from visionllm_sdk.agent.vision_agent import image_block, reply_of
from visionllm_sdk.scenes import held_out_seeds, render, sample_scene, truth

_SKILLS: Final = ("detect", "segment", "ground")
_FIRST: Final = 1200
_CLOSE: Final = 1e-3
"""Pixels and shares by which sums may differ that were added in another order."""
_HEAVY: Final = [
    "visionllm_sdk.skills",
    "visionllm_sdk.agent.vision_agent",
    "visionllm_tools.detection.tool",
    "transformers.models.resnet.modeling_resnet",
]
"""Imported once, by the server that every process is forked from; a model is loaded in each of them."""


@wrap_tool_call
def die(request: Any, handler: Any) -> Any:
    """The power goes off just when a tool is to run."""
    os.kill(os.getpid(), signal.SIGKILL)
    return handler(request)


def question(number: int) -> dict[str, Any]:
    """A request about a held-out scene."""
    spec = sample_scene(held_out_seeds(1, start=_FIRST + number)[0])
    drawn = render(spec)
    text = f"Find the {truth(spec, drawn).facts().objects[0].kind}."
    return {
        "messages": [HumanMessage([image_block(load_image(drawn.image)), {"type": "text", "text": text}])]
    }


def run(model: str | None, database: str, thread: str, number: int, given: Any, *middleware: Any) -> Reply:
    """One run of the agent with a freshly loaded model; the skill is forced, so that there is a call."""
    vlm = VisionLLM.from_pretrained(model)
    config: RunnableConfig = {"configurable": {"thread_id": thread}}
    with SqliteSaver.from_conn_string(database) as saver:
        agent: Any = create_agent(
            model=vlm.as_chat_model(force=_SKILLS[number % len(_SKILLS)], max_tokens=40),
            tools=vlm.tools,
            middleware=middleware,
            checkpointer=saver,
        )
        return reply_of(agent.invoke(given, config)["messages"])


def begin(model: str | None, database: str, number: int) -> None:
    """A conversation that does not come to its end."""
    run(model, database, f"broken {number}", number, question(number), die)


def resume(model: str | None, database: str, number: int) -> str:
    """Its end, as JSON."""
    return run(model, database, f"broken {number}", number, None).model_dump_json()


def undisturbed(model: str | None, database: str, numbers: Sequence[int]) -> list[str]:
    """The same conversations with nothing in between, as JSON."""
    return [
        run(model, database, f"whole {number}", number, question(number)).model_dump_json()
        for number in numbers
    ]


def measure(count: int, model: str | None = None, *, method: str = "forkserver") -> tuple[int, int]:
    """How many conversations were killed, and how many of them ended as if nothing had happened.

    Args:
        count: of conversations.
        model: a checkpoint; None is the embedded one.
        method: how processes start; "forkserver" imports everything but once, "spawn" every time.
    """
    context: Any = multiprocessing.get_context(method)
    context.set_forkserver_preload(_HEAVY)
    killed = same = 0
    with tempfile.TemporaryDirectory() as folder:
        database = str(Path(folder) / "threads.db")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            whole = pool.submit(undisturbed, model, database, range(count)).result()
        for number, expected in enumerate(whole):
            process = context.Process(target=begin, args=(model, database, number))
            process.start()
            process.join()
            killed += process.exitcode == -signal.SIGKILL
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                resumed = pool.submit(resume, model, database, number).result()
            same += is_same(Reply.model_validate_json(resumed), Reply.model_validate_json(expected))
    return killed, same


def is_same(first: Reply, second: Reply) -> bool:
    """Equal words and calls, and results that agree to a thousandth of a pixel."""
    words = [(one.text, [(call.token, call.labels) for call in one.calls]) for one in (first, second)]
    return words[0] == words[1] and bool(first.results) and _agree(_dump(first), _dump(second))


def _dump(reply: Reply) -> list[Any]:
    return [result.model_dump(mode="json") for result in reply.results]


def _agree(first: Any, second: Any) -> bool:
    """Whether two trees of data are the same but for rounding."""
    if isinstance(first, float | int) and isinstance(second, float | int):
        return abs(first - second) <= _CLOSE
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_agree(first[key], second[key]) for key in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_agree, first, second))
    return bool(first == second)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50)
    count = parser.parse_args().count
    killed, same = measure(count)
    print(f"killed   {killed}/{count} between call and result")
    print(f"resumed  {same}/{count} with the same result   (bar {count})")


if __name__ == "__main__":
    main()
