"""The agent: right artifacts, equal boxes, overhead, reuse, conversations at once, resumed threads.

python benchmarks/agent.py [--requests 200] [--kills 50] [--only NAME]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver

from visionllm_sdk import Detections, Reply, VisionAgent, VisionLLM, load_image
from visionllm_sdk.agent.vision_agent import image_block, reply_of
from visionllm_sdk.scenes import held_out_seeds, render, sample_scene, truth
from visionllm_sdk.scenes.language import MAKERS, Exchange, follow_up
from visionllm_sdk.scenes.phrases import HELD_OUT, NOUNS

KINDS = ("one tool", "two tools", "no tool", "follow-up", "unknown object")


def scene(seed: int) -> tuple[Any, Any]:
    """Picture and facts of a held-out scene."""
    spec = sample_scene(seed)
    drawn = render(spec)
    return drawn.image, truth(spec, drawn).facts()


def exchanges(kind: str, facts: Any, dice: Random) -> list[Exchange] | None:
    """What is said in one conversation, in words that training never saw."""
    if kind == "unknown object":
        word = dice.choice(NOUNS)
        asked = dice.choice(HELD_OUT["detect"]).format(x=word)
        made = MAKERS["detect"](facts, dice, HELD_OUT)
        assert made is not None
        link = made.links[0].__class__("[DET]", word, None)
        return [Exchange("detect", asked, (link, "."))]
    makers = {
        "one tool": ("detect", "segment", "ground"),
        "two tools": ("mixed",),
        "no tool": ("caption", "small_talk", "colour", "shape"),
        "follow-up": ("detect", "segment"),
    }[kind]
    first = MAKERS[dice.choice(makers)](facts, dice, HELD_OUT)
    if first is None:
        return None
    return [first, follow_up(facts, dice, first)] if kind == "follow-up" else [first]


def is_right(reply: Reply, asked: Exchange) -> bool:
    """Whether tokens and labels are those that the request means, and every call has its artifact."""
    wanted = [(link.token, link.text) for link in asked.links]
    found = [(call.token, label) for call in reply.calls for label in call.labels]
    return found == wanted and all(call.result is not None for call in reply.calls)


def mixed_requests(vlm: VisionLLM, count: int) -> None:
    agent = VisionAgent(vlm, checkpointer=InMemorySaver())
    right = dict.fromkeys(KINDS, 0)
    asked = dict.fromkeys(KINDS, 0)
    dice = Random(1)
    seeds = iter(held_out_seeds(20 * count, start=5000))
    while sum(asked.values()) < count:
        kind = KINDS[sum(asked.values()) % len(KINDS)]
        image, facts = scene(next(seeds))
        said = exchanges(kind, facts, dice)
        if said is None:
            continue
        thread: RunnableConfig = {"configurable": {"thread_id": str(sum(asked.values()))}}
        for number, one in enumerate(said):
            reply = agent.invoke(one.question, thread, images=[] if number else [image])
        asked[kind] += 1
        right[kind] += is_right(reply, said[-1])
        if not is_right(reply, said[-1]):
            print("   ", [one.question for one in said], [(call.token, call.labels) for call in reply.calls])
    for kind in KINDS:
        print(f"  {kind:16} {right[kind]}/{asked[kind]}")
    print(f"right artifacts   {sum(right.values()) / count:.3f}   (bar 0.97)")


def same(first: list[Any], second: list[Any], tolerance: float = 1e-3) -> bool:
    """Equal labels in equal order at equal places, to a thousandth of a pixel."""
    if len(first) != len(second) or any(len(a) != len(b) for a, b in zip(first, second, strict=True)):
        return False
    pairs = [
        (a, b) for one, other in zip(first, second, strict=True) for a, b in zip(one, other, strict=True)
    ]
    return all(
        a.label == b.label
        and max(abs(x - y) for x, y in zip(a.box.xyxy, b.box.xyxy, strict=True)) <= tolerance
        for a, b in pairs
    )


def found_in(reply: Reply) -> list[Any]:
    """The detections of a reply."""
    return [list(found) for found in reply.results if isinstance(found, Detections)]


def equal_boxes(vlm: VisionLLM, count: int = 40) -> None:
    agent = VisionAgent(vlm, force="detect")
    as_chat = as_detect = 0
    for seed in held_out_seeds(count, start=9000):
        image, facts = scene(seed)
        label = facts.objects[0].kind
        found = found_in(agent.invoke(f"Detect {label}", images=[image]))
        as_chat += same(found, found_in(vlm.chat(f"Detect {label}", [image], force="detect")))
        as_detect += same(found, [list(vlm.detect(image, [label]))])
    print(f"equal boxes       {as_chat}/{count} as vlm.chat, {as_detect}/{count} as vlm.detect")


def spent(work: Callable[[], Any]) -> float:
    """CPU seconds: other programs on the machine do not count."""
    start = time.process_time()
    work()
    return time.process_time() - start


def overhead(vlm: VisionLLM, rounds: int = 15) -> None:
    agent = VisionAgent(vlm, force="detect")
    image, _ = scene(held_out_seeds(1, start=77)[0])

    def ask() -> None:
        agent.invoke("Detect circle", images=[image])

    def chat() -> None:
        vlm.chat("Detect circle", [image], force="detect")

    ask(), chat()
    pairs = [(spent(ask), spent(chat)) for _ in range(rounds)]
    gap = statistics.median(first - second for first, second in pairs)
    print(f"agent {pairs[0][0] * 1000:.0f} ms, chat {pairs[0][1] * 1000:.0f} ms")
    print(f"overhead          {gap * 1000:.1f} ms   (bar 15 ms)")
    tool = vlm.tools[0]
    handle = vlm.workspace.session().images.add(load_image(image))
    call = {"name": "detect", "args": {"labels": ["circle"], "image": handle}, "id": "1", "type": "tool_call"}
    pairs = [
        (spent(lambda: tool.invoke(call)), spent(lambda: vlm.detect(image, ["circle"])))
        for _ in range(rounds)
    ]
    gap = statistics.median(first - second for first, second in pairs)
    print(f"overhead of a tool {gap * 1000:.1f} ms")


def share_of_second(vlm: VisionLLM, image: Any) -> float:
    """What a follow-up costs, as a share of the first question."""
    model = vlm.as_chat_model(max_tokens=1)
    text = {"type": "text", "text": "What color is the star?"}
    history: list[Any] = [HumanMessage([image_block(load_image(image)), text])]
    first = spent(lambda: history.append(model.invoke(history)))
    history.append(HumanMessage("And the circle?"))
    return spent(lambda: model.invoke(history)) / first


def second_question(vlm: VisionLLM, rounds: int = 8) -> None:
    """The model's share of a question: what its second turn about the same image costs."""
    shares = [share_of_second(vlm, scene(seed)[0]) for seed in held_out_seeds(rounds, start=600)]
    print(f"second question   {statistics.median(shares):.2f} of the first   (bar 0.40)")


def at_once(vlm: VisionLLM, count: int = 16) -> None:
    agent = VisionAgent(vlm, force="detect")
    pictures = [scene(seed)[0] for seed in held_out_seeds(count, start=300)]
    agent.invoke("Detect circle", images=[pictures[0]])
    start = time.perf_counter()
    alone = [agent.invoke("Detect circle", images=[one]) for one in pictures]
    one_by_one = time.perf_counter() - start

    async def together() -> list[Reply]:
        return await asyncio.gather(*(agent.ainvoke("Detect circle", images=[one]) for one in pictures))

    vlm.engine.session.clear()
    start = time.perf_counter()
    replies = asyncio.run(together())
    at_once = time.perf_counter() - start
    mixed = sum(
        (one.results[0].width, one.results[0].height) != picture.size  # type: ignore[attr-defined]
        for one, picture in zip(replies, pictures, strict=True)
    )
    equal = sum(one.text == other.text for one, other in zip(replies, alone, strict=True))
    print(
        f"{count} conversations: {one_by_one:.2f} s one by one, {at_once:.2f} s at once, "
        f"{mixed} mixed up, {equal} equal"
    )
    print(f"throughput        {one_by_one / at_once:.2f} x   (bar 2)")


def killed(vlm: VisionLLM, count: int) -> None:
    """Stopped between call and result; a model that was loaded anew, without any memory, goes on."""
    fresh = VisionLLM.from_pretrained()
    finished = 0
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "threads.db")
        for number, seed in enumerate(held_out_seeds(count, start=1200)):
            image, facts = scene(seed)
            text = f"Detect {facts.objects[0].kind} and star"
            question = {
                "messages": [HumanMessage([image_block(load_image(image)), {"type": "text", "text": text}])]
            }
            broken: RunnableConfig = {"configurable": {"thread_id": f"broken {number}"}}
            whole: RunnableConfig = {"configurable": {"thread_id": f"whole {number}"}}
            with SqliteSaver.from_conn_string(path) as saver:
                graph = create_agent(
                    vlm.as_chat_model(), vlm.tools, checkpointer=saver, interrupt_before=["tools"]
                )
                graph.invoke(question, broken)
                undisturbed = reply_of(
                    create_agent(vlm.as_chat_model(), vlm.tools, checkpointer=saver).invoke(question, whole)[
                        "messages"
                    ]
                )
            with SqliteSaver.from_conn_string(path) as saver:
                graph = create_agent(fresh.as_chat_model(), fresh.tools, checkpointer=saver)
                resumed = reply_of(graph.invoke(None, broken)["messages"])
            finished += resumed.text == undisturbed.text and same(found_in(resumed), found_in(undisturbed))
    print(f"resumed           {finished}/{count} with the same result   (bar {count})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    vlm = VisionLLM.from_pretrained()
    parts: dict[str, Callable[[], None]] = {
        "overhead": lambda: overhead(vlm),
        "second": lambda: second_question(vlm),
        "once": lambda: at_once(vlm),
        "boxes": lambda: equal_boxes(vlm),
        "kills": lambda: killed(vlm, arguments.kills),
        "requests": lambda: mixed_requests(vlm, arguments.requests),
    }
    for name, part in parts.items():
        if arguments.only in ("", name):
            part()


if __name__ == "__main__":
    main()
