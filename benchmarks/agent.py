"""What agents cost: overhead over the direct call, a second question, conversations at once; equal boxes.

    python benchmarks/agent.py [--only overhead|second|once|boxes]

`agent_requests.py` measures whether agents do what is asked, `agent_kills.py` whether they survive.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from langchain_core.messages import HumanMessage

from visionllm_sdk import Detections, Reply, VisionAgent, VisionLLM, load_image
from visionllm_sdk.agent.vision_agent import image_block
from visionllm_sdk.scenes import held_out_seeds, render, sample_scene, truth


def scene(seed: int) -> tuple[Any, Any]:
    """Picture and facts of a held-out scene."""
    spec = sample_scene(seed)
    drawn = render(spec)
    return drawn.image, truth(spec, drawn).facts()


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


class Overhead(NamedTuple):
    """Median CPU seconds: of a request through the agent and through the typed API, and of the differences.

    `tool` is what a call of a tool costs beyond that of its method.
    """

    through_agent: float
    direct: float
    agent: float
    tool: float


def overhead(vlm: VisionLLM, rounds: int = 15) -> Overhead:
    """What LangChain and LangGraph add. The two ways take turns, so that both have the same neighbours, and
    compute in the same thread: one in which much has been computed has its memory at hand."""
    agent = VisionAgent(vlm, force="detect")
    image, _ = scene(held_out_seeds(1, start=77)[0])
    tool = vlm.tools[0]
    handle = vlm.workspace.session().images.add(load_image(image))
    call = {"name": "detect", "args": {"labels": ["circle"], "image": handle}, "id": "1", "type": "tool_call"}
    ways: tuple[Callable[[], Any], ...] = (
        lambda: agent.invoke("Detect circle", images=[image]),
        lambda: vlm.workspace.run(lambda: vlm.chat("Detect circle", [image], force="detect")),
        lambda: tool.invoke(call),
        lambda: vlm.workspace.run(vlm.detect, image, ["circle"]),
    )
    for way in ways:  # once without measuring
        way()
    times = [[spent(way) for way in ways] for _ in range(rounds)]
    median = statistics.median
    return Overhead(
        through_agent=median(row[0] for row in times),
        direct=median(row[1] for row in times),
        agent=median(row[0] - row[1] for row in times),
        tool=median(row[2] - row[3] for row in times),
    )


def show_overhead(vlm: VisionLLM) -> None:
    found = overhead(vlm)
    print(f"agent {found.through_agent * 1000:.0f} ms, chat {found.direct * 1000:.0f} ms")
    print(
        f"overhead          {found.agent * 1000:.1f} ms   (bar 15 ms), of a tool {found.tool * 1000:.1f} ms"
    )


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


class Throughput(NamedTuple):
    """Seconds of conversations one by one and at once, by the clock and of CPU time; how many were mixed up,
    and how many said the same both ways."""

    one_by_one: float
    at_once: float
    cpu_one_by_one: float
    cpu_at_once: float
    mixed_up: int
    equal: int


def throughput(count: int = 16) -> Throughput:
    """As many conversations, each about its own picture; either way has a model that knows none of them."""
    pictures = [scene(seed)[0] for seed in held_out_seeds(count, start=300)]
    single, shared = (VisionAgent(VisionLLM.from_pretrained(), force="detect") for _ in range(2))
    for agent in (single, shared):
        agent.invoke("Detect circle", images=[scene(held_out_seeds(1, start=299)[0])[0]])

    async def together() -> list[Reply]:
        return await asyncio.gather(*(shared.ainvoke("Detect circle", images=[one]) for one in pictures))

    alone, *first = _timed(lambda: [single.invoke("Detect circle", images=[one]) for one in pictures])
    replies, *second = _timed(lambda: asyncio.run(together()))
    sizes = [(one.results[0].width, one.results[0].height) for one in replies]
    return Throughput(
        one_by_one=first[0],
        at_once=second[0],
        cpu_one_by_one=first[1],
        cpu_at_once=second[1],
        mixed_up=sum(size != picture.size for size, picture in zip(sizes, pictures, strict=True)),
        equal=sum(one.text == other.text for one, other in zip(replies, alone, strict=True)),
    )


def _timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What the work returns, and its seconds by the clock and of CPU time."""
    clock, cpu = time.perf_counter(), time.process_time()
    outcome = work()
    return outcome, time.perf_counter() - clock, time.process_time() - cpu


def show_throughput(_: VisionLLM) -> None:
    found = throughput()
    print(
        f"16 conversations: {found.one_by_one:.2f} s one by one, {found.at_once:.2f} s at once, "
        f"{found.mixed_up} mixed up, {found.equal} equal"
    )
    print(
        f"throughput        {found.one_by_one / found.at_once:.2f} x   (bar 2), "
        f"{found.cpu_one_by_one / found.cpu_at_once:.2f} x by CPU time"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="overhead, second, once or boxes")
    chosen = parser.parse_args().only
    vlm = VisionLLM.from_pretrained()
    parts = {
        "overhead": show_overhead,
        "second": second_question,
        "once": show_throughput,
        "boxes": equal_boxes,
    }
    for name, part in parts.items():
        if chosen in ("", name):
            part(vlm)


if __name__ == "__main__":
    main()
