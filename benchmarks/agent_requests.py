"""What an agent makes of mixed requests about held-out scenes, in words that training never saw.

    python benchmarks/agent_requests.py [--count 200] [--show]

One tool, two tools, no tool, a follow-up on an earlier result, an unknown object, in turn. A conversation is
right if its last reply called what the request means, with the labels it means and no others, and if every
call has an artifact of its type. The conversations run sixteen at a time.
"""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from PIL import Image

from visionllm_sdk import Detections, Grounding, Reply, SemanticMap, VisionAgent, VisionLLM
from visionllm_sdk.evaluation.skills.routing import given_calls, means_either, wanted_calls
from visionllm_sdk.scenes import held_out_seeds, render, sample_scene, truth
from visionllm_sdk.scenes.facts import SceneFacts
from visionllm_sdk.scenes.language import MAKERS, Exchange, Link, follow_up
from visionllm_sdk.scenes.phrases import HELD_OUT, NOUNS

KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "one tool": ("detect", "segment", "ground"),
    "two tools": ("mixed",),
    "no tool": ("caption", "small_talk", "colour", "shape"),
    "follow-up": ("detect", "segment"),
    "unknown object": (),
}
"""Kinds of conversations, and the kinds of requests that they begin with."""

_TYPES: Final = {"[DET]": Detections, "[GRD]": Grounding, "[SEG]": SemanticMap}
_AT_ONCE: Final = 16
_FIRST: Final = 5000


@dataclass(frozen=True, eq=False)
class Case:
    """One conversation: what is said about a picture, turn by turn, and what is meant."""

    kind: str
    image: Image.Image
    said: tuple[Exchange, ...]


def cases(count: int, *, seed: int = 1) -> list[Case]:
    """Conversations of every kind in turn."""
    return [next(_cases(kind, number, seed)) for number, kind in zip(range(count), _kinds(), strict=False)]


def _kinds() -> Iterator[str]:
    while True:
        yield from KINDS


def _cases(kind: str, number: int, seed: int) -> Iterator[Case]:
    """Conversations of one kind; scenes that have nothing to say about it are passed over."""
    dice = Random(f"{seed} {number}")
    for one in held_out_seeds(50, start=_FIRST + 50 * number):
        spec = sample_scene(one)
        drawn = render(spec)
        said = _said(kind, truth(spec, drawn).facts(), dice)
        if said and not any(means_either(exchange) for exchange in said):
            yield Case(kind, drawn.image, tuple(said))


def _said(kind: str, facts: SceneFacts, dice: Random) -> list[Exchange]:
    if kind == "unknown object":
        word = dice.choice(NOUNS)
        return [
            Exchange("detect", dice.choice(HELD_OUT["detect"]).format(x=word), (Link("[DET]", word, None),))
        ]
    first = MAKERS[dice.choice(KINDS[kind])](facts, dice, HELD_OUT)
    if first is None:
        return []
    return [first, follow_up(facts, dice, first)] if kind == "follow-up" else [first]


async def answers(agent: VisionAgent, asked: Sequence[Case]) -> list[Reply]:
    """The last reply of every conversation; all of them go on at the same time."""

    async def talk(number: int, case: Case) -> Reply:
        thread: RunnableConfig = {"configurable": {"thread_id": f"conversation {number}"}}
        for turn, exchange in enumerate(case.said):
            images = [] if turn else [case.image]
            reply = await agent.ainvoke(exchange.question, thread, images=images)
        return reply

    return list(await asyncio.gather(*(talk(number, case) for number, case in enumerate(asked))))


def is_right(reply: Reply, case: Case) -> bool:
    """Whether tokens and labels are those that are meant, and every call has its artifact."""
    return given_calls(reply) == wanted_calls(case.said[-1]) and has_artifacts(reply, case)


def has_artifacts(reply: Reply, case: Case) -> bool:
    """Whether every call has a result of its type, about the picture of its own conversation."""
    return all(
        isinstance(call.result, _TYPES[call.token])
        and (call.result.width, call.result.height) == case.image.size
        for call in reply.calls
    )


def measure(vlm: VisionLLM, count: int, *, show: bool = False) -> Counter[str]:
    """Number of right conversations of every kind."""
    right: Counter[str] = Counter()
    asked = cases(count)
    for start in range(0, count, _AT_ONCE):
        part = asked[start : start + _AT_ONCE]
        agent = VisionAgent(vlm, checkpointer=InMemorySaver())
        for case, reply in zip(part, asyncio.run(answers(agent, part)), strict=True):
            right[case.kind] += is_right(reply, case)
            if show and not is_right(reply, case):
                print(f"  {case.kind}: {[one.question for one in case.said]} -> {given_calls(reply)}")
    return right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--show", action="store_true", help="print what went wrong")
    arguments = parser.parse_args()
    right = measure(VisionLLM.from_pretrained(), arguments.count, show=arguments.show)
    for number, kind in enumerate(KINDS):
        print(f"{kind:16} {right[kind]}/{len(range(number, arguments.count, len(KINDS)))}")
    print(f"right artifacts  {right.total() / arguments.count:.3f}   (bar 0.97)")


if __name__ == "__main__":
    main()
