"""What an agent must reach, on the embedded model; `benchmarks/agent*.py` measure the same at full size."""

from __future__ import annotations

import asyncio
import statistics
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel, Field

from benchmarks.agent import found_in, overhead, same, scene, share_of_second, throughput
from benchmarks.agent_kills import measure as kill_and_resume
from benchmarks.agent_requests import KINDS, answers, cases, has_artifacts, is_right
from visionllm_sdk import VisionAgent, VisionLLM, load_image
from visionllm_sdk.agent.vision_agent import image_block
from visionllm_sdk.regions import Point
from visionllm_sdk.scenes import held_out_seeds

pytestmark = pytest.mark.quality

RIGHT = 0.6
"""Share of right conversations below which something is broken; the bar of the 200 is 0.97."""


def test_mixed_requests_end_with_the_right_artifacts(vlm: VisionLLM) -> None:
    asked = cases(15)
    assert {case.kind for case in asked} == set(KINDS)
    replies = asyncio.run(answers(VisionAgent(vlm, checkpointer=InMemorySaver()), asked))
    right = [is_right(reply, case) for reply, case in zip(replies, asked, strict=True)]
    assert all(has_artifacts(reply, case) for reply, case in zip(replies, asked, strict=True))
    assert statistics.mean(right) >= RIGHT


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_and_resumed_in_a_new_process() -> None:
    assert kill_and_resume(2) == (2, 2)


def test_the_agent_finds_what_the_direct_call_finds(vlm: VisionLLM) -> None:
    agent = VisionAgent(vlm, force="detect")
    for seed in held_out_seeds(3, start=9000):
        image, facts = scene(seed)
        text = f"Detect {facts.objects[0].kind}"
        found = found_in(agent.invoke(text, images=[image]))
        assert found
        assert same(found, found_in(vlm.chat(text, [image], force="detect")))


def test_the_agent_finds_every_marked_thing(vlm: VisionLLM) -> None:
    """However unsure the detector is, as in a direct call: the user pointed at them."""
    agent = VisionAgent(vlm)
    for seed in held_out_seeds(3, start=9000):
        image, facts = scene(seed)
        places = [((x1 + x2) / 2, (y1 + y2) / 2) for x1, y1, x2, y2 in (one.box for one in facts.objects[:2])]
        regions = [Point(x, y) for x, y in places]
        text = "Segment " + ", ".join("<region>" for _ in regions)
        marks = [{"type": "region", "region": one.model_dump(mode="json")} for one in regions]
        content: list[Any] = [image_block(load_image(image)), *marks, {"type": "text", "text": text}]
        found = found_in(agent.invoke([HumanMessage(content)]))
        direct = found_in(vlm.chat(text, [image], regions=regions))
        assert [one.region for each in found for one in each] == list(range(len(regions)))
        assert same(found, direct)


class Thing(BaseModel):
    """One of a list."""

    shape: str
    color: str


class Inventory(BaseModel):
    """As people write a schema: names and descriptions, no questions."""

    star_count: int
    circles: int = Field(description="Number of circles in the image.")
    has_dog: bool
    person_there: bool = Field(description="Whether there is a person.")
    colour: str = Field(description="The colour of the star")
    objects: list[str]
    things: list[Thing] = Field(description="All objects in the image.")


def test_fields_are_filled_from_the_image(vlm: VisionLLM) -> None:
    model = vlm.as_chat_model().with_structured_output(Inventory)
    for seed in held_out_seeds(1, start=9000):
        image, _ = scene(seed)
        content: list[Any] = [image_block(load_image(image)), {"type": "text", "text": "Fill in the form."}]
        found = model.invoke([HumanMessage(content)])
        assert isinstance(found, Inventory)
        asked = {
            "star_count": "How many stars are there?",
            "circles": "How many circles are there?",
            "has_dog": "Is there a dog?",
            "person_there": "Is there a person?",
            "colour": "What color is the star?",
        }
        for name, question in asked.items():
            value = getattr(found, name)
            said = ("no", "yes")[value] if isinstance(value, bool) else str(value)
            assert said == vlm.ask(image, question).text
        caption = vlm.caption(image).text.lower()
        assert found.objects
        assert all(text in caption for text in found.objects)
        for text, thing in zip(found.objects, found.things, strict=True):
            assert thing.shape == text.split()[-1]
            assert thing.color in (*text.split(), "unknown")


def test_a_second_question_reads_only_what_is_new(vlm: VisionLLM) -> None:
    """Neither the image nor what was said is computed again."""
    model = vlm.as_chat_model(max_tokens=1)
    seen: list[int] = []
    hook = vlm.engine.model.core.vis_encoder.register_forward_hook(lambda *_: seen.append(1))
    blocks: list[Any] = [image_block(load_image(scene(held_out_seeds(1)[0])[0]))]
    history: list[Any] = [HumanMessage([*blocks, {"type": "text", "text": "What color is the star?"}])]
    history.append(model.invoke(history))
    passes = len(seen)
    history.append(HumanMessage("And the circle?"))
    usage: Any = model.invoke(history).usage_metadata
    hook.remove()
    assert len(seen) == passes
    assert usage["input_tokens"] - usage["input_token_details"]["cache_read"] < 20


@pytest.mark.slow
def test_overhead_over_the_direct_call(vlm: VisionLLM) -> None:
    assert overhead(vlm, 9).agent <= 0.015


@pytest.mark.slow
def test_a_second_question_is_cheap(vlm: VisionLLM) -> None:
    shares = [share_of_second(vlm, scene(seed)[0]) for seed in held_out_seeds(5, start=600)]
    assert statistics.median(shares) <= 0.4


@pytest.mark.slow
def test_conversations_at_once() -> None:
    outcome = throughput()
    assert outcome.mixed_up == 0
    assert outcome.equal == 16
