"""Region prompts inside a conversation: which image they lie in, and which results answer them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from visionllm_sdk.errors import InputError, RegionError
from visionllm_sdk.model.prompt import RegionPrompt
from visionllm_sdk.regions import Region, RegionBlock, check_region, question_with_regions, region_number
from visionllm_sdk.results import Detections
from visionllm_sdk.skills.engine import Engine
from visionllm_sdk.skills.history import Conversation, Mark
from visionllm_sdk.skills.pointing import Place

Regions: TypeAlias = Region | RegionBlock | Sequence[Region | RegionBlock]
"""Region prompts of one message; a block may say in which of the message's images it lies."""


def mark(talk: Conversation, regions: Regions | None) -> Conversation:
    """The conversation with the region prompts of its message and of its earlier turns.

    Args:
        talk: the conversation.
        regions: of the message; None for none.

    Raises:
        RegionError: a region without an image, or one that does not fit it.
        InputError: a question whose slots do not fit its regions.
    """
    first, marks = 0, list[tuple[Mark, ...]]()
    for number, (past, count) in enumerate(talk.past):
        try:
            marks.append(_marks(past.regions, talk, first, count))
            question_with_regions(past.text, len(marks[-1]))
        except InputError as error:
            raise error.at(f"turn {number}") from error
        first += count
    marks.append(_marks(regions, talk, first, talk.new_images))
    question_with_regions(talk.text, len(marks[-1]))
    return replace(talk, marks=tuple(marks)) if any(marks) else talk


def _marks(regions: Any, talk: Conversation, first: int, count: int) -> tuple[Mark, ...]:
    """The checked regions of a turn whose images are `count` ones from the `first` on."""
    if regions is None:
        return ()
    given = regions if isinstance(regions, list | tuple) else (regions,)
    marks: list[Mark] = []
    for number, region in enumerate(given):
        try:
            marks.append(_mark(region, talk, first, count))
        except InputError as error:
            raise error.at(f"region {number}") from error
    return tuple(marks)


def _mark(region: Any, talk: Conversation, first: int, count: int) -> Mark:
    wanted = region.image if isinstance(region, RegionBlock) else None
    region = region.region if isinstance(region, RegionBlock) else region
    # Without images of its own, a message speaks of those before it.
    start, there = (first, count) if count else (0, first)
    if not there:
        raise RegionError("there is no image to mark a region in", remedy="Pass images=[...].")
    if wanted is not None and wanted >= there:
        raise RegionError(
            "a region lies in an image that is not there",
            value=wanted,
            limit=f"0 to {there - 1}",
            remedy="Count the images of its message from 0, or leave it out for the last one.",
        )
    place = start + (there - 1 if wanted is None else wanted)
    image = talk.images[place]
    return Mark(place, check_region(region, (image.width, image.height)))


def region_prompts(engine: Engine, talks: Sequence[Conversation]) -> list[list[RegionPrompt]]:
    """The encoded regions of conversations, in the order of their tokens; equal ones are encoded once.

    Raises:
        InputError: the checkpoint has no region encoder.
    """
    ordered = [list(_in_order(talk)) for talk in talks]
    images = [talk.images[one.image] for talk, marks in zip(talks, ordered, strict=True) for one in marks]
    if not images:
        return [[] for _ in talks]
    regions = [one.region for marks in ordered for one in marks]
    places = [
        Place(seen, (image.width, image.height), region)
        for seen, image, region in zip(engine.see(images, pointed=True), images, regions, strict=True)
    ]
    prompts = iter(engine.pointer.prompts(places))
    return [[replace(next(prompts), image=one.image) for one in marks] for marks in ordered]


def _in_order(talk: Conversation) -> list[Mark]:
    """The marks of all region tokens; a region that its question names twice has two."""
    texts = [*(past.text for past, _ in talk.past), talk.text]
    return [
        marks[number]
        for text, marks in zip(texts, talk.marks, strict=False)
        for number in question_with_regions(text, len(marks))[1]
    ]


def tell_regions(result: Any, talk: Conversation) -> Any:
    """A result in which each detection says which region of the message it answers."""
    count = len(talk.marks[-1]) if talk.marks else 0
    if not count or not isinstance(result, Detections):
        return result
    told = []
    for one in result.detections:
        number = region_number(one.label)
        known = number is not None and number < count
        told.append(one.model_copy(update={"region": number}) if known else one)
    return result.model_copy(update={"detections": tuple(told)})
