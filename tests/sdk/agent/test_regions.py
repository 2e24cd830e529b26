"""Region prompts as content blocks of messages."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from PIL import Image

from tests.sdk.agent.conftest import base64_png, drawn
from visionllm_sdk import VisionLLM
from visionllm_sdk.agent.dialogue import Dialogue, images_of, read_dialogue
from visionllm_sdk.agent.recipes import RECIPE, Recipe
from visionllm_sdk.agent.sessions import VisionSession
from visionllm_sdk.errors import InputError, RegionError
from visionllm_sdk.model.tokenizer import Control
from visionllm_sdk.regions import Box, Point, Region, RegionBlock

POINT = Point(5, 6)
BOX = Box(10, 10, 40, 30)


def marking(text: str, *parts: Image.Image | Region | RegionBlock) -> HumanMessage:
    """A human message with pictures and region blocks."""
    blocks: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, Image.Image):
            blocks.append({"type": "image", "base64": base64_png(part), "mime_type": "image/png"})
        else:
            block = part if isinstance(part, RegionBlock) else RegionBlock(region=part)
            blocks.append(json.loads(block.model_dump_json()))
    return HumanMessage([*blocks, {"type": "text", "text": text}])


def read(messages: list[BaseMessage], vlm: VisionLLM) -> Dialogue:
    return read_dialogue(messages, VisionSession(), vlm.engine, vlm.rules)


def text_of(parts: Any) -> str:
    return "".join(part.text if isinstance(part, Control) else part for part in parts)


def test_blocks_become_region_tokens(random_vlm: VisionLLM) -> None:
    first = RegionBlock(region=BOX, image=0)
    dialogue = read(
        [
            marking("What is <region>?", drawn(1), POINT),
            AIMessage("A star."),
            marking("And these?", drawn(2), drawn(3), first, POINT),
            AIMessage("Two discs."),
            marking("And this?", BOX),
        ],
        random_vlm,
    )
    assert text_of(dialogue.turns[0].question) == "<image>\nWhat is <reg>region1<region></reg>?"
    listed = "<reg>region1<region></reg>, <reg>region2<region></reg>\nAnd these?"
    assert text_of(dialogue.turns[1].question) == f"<image>\n<image>\n{listed}"
    assert text_of(dialogue.turns[2].question) == "<reg>region1<region></reg>\nAnd this?"
    assert [(mark.image, mark.region) for mark in dialogue.marks] == [
        (0, POINT),
        (1, BOX),
        (2, POINT),
        (2, BOX),
    ]
    assert len(dialogue.images) == 3
    assert len(dialogue.focus) == 2


def test_region_blocks_are_no_images(random_vlm: VisionLLM) -> None:
    message = marking("x", drawn(1), POINT)
    assert len(images_of([message], VisionSession(), random_vlm.rules)) == 1


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"region": {"type": "point", "x": 500, "y": 5}}, "the point lies outside"),
        ({"region": {"type": "box", "x1": 5, "y1": 5, "x2": 5, "y2": 9}}, "the box is empty"),
        ({"region": {"type": "mask", "size": [2, 2], "counts": "04"}}, "not of the image's size"),
        ({"region": {"type": "circle"}}, "region"),
        ({"region": {"type": "point", "x": 1, "y": 1}, "image": 1}, "an image that is not there"),
        ({}, "region"),
    ],
)
def test_bad_blocks(random_vlm: VisionLLM, block: dict[str, Any], message: str) -> None:
    good = marking("What is it?", drawn(1))
    bad = HumanMessage([*good.content, {"type": "region", **block}])
    with pytest.raises(InputError, match=rf"message 0 \(human\): .*{message}"):
        read([bad], random_vlm)


def test_a_region_needs_an_image_and_a_person(random_vlm: VisionLLM) -> None:
    with pytest.raises(RegionError, match="no image to mark a region in"):
        read([marking("What is it?", POINT)], random_vlm)
    call = AIMessage("", tool_calls=[{"name": "detect", "args": {}, "id": "1", "type": "tool_call"}])
    block = RegionBlock(region=POINT).model_dump()
    told = ToolMessage([block, {"type": "text", "text": "1 star."}], tool_call_id="1")
    with pytest.raises(InputError, match="texts and images only"):
        read([marking("What is it?", drawn(1)), call, told], random_vlm)


def test_a_reply_about_regions_can_be_made_again(random_vlm: VisionLLM) -> None:
    """The super-link of a call about a region is found again, from the message alone."""
    model = random_vlm.as_chat_model(max_tokens=24, force="detect").bind_tools(random_vlm.tools)
    message = model.invoke([marking("Segment <region>", drawn(1), BOX)])
    recipe = Recipe.of(message)
    assert recipe is not None
    assert [(mark.image, mark.region) for mark in recipe.marks] == [(0, BOX)]
    other = model.invoke([marking("Segment <region>", drawn(1), POINT)])
    assert Recipe.of(other).key(["x"], 0) != recipe.key(["x"], 0)
    session = VisionSession()
    handles = images_of([marking("Segment <region>", drawn(1), BOX)], session, random_vlm.rules)
    images = dict(zip(recipe.images, (session.images.get(handle) for handle in handles), strict=True))
    assert len(recipe.make_again(session, random_vlm.engine, images)) == len(
        message.response_metadata["routing"]
    )
    damaged = {**message.response_metadata[RECIPE], "regions": [{"type": "region"}]}
    assert Recipe.of(AIMessage("", response_metadata={RECIPE: damaged})) is None
