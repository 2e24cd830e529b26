"""Region prompts inside a conversation: which image they lie in, and which results answer them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

from visionllm_sdk.errors import InputError, RegionError
from visionllm_sdk.images import LoadedImage
from visionllm_sdk.model.prompt import RegionPrompt
from visionllm_sdk.regions import Region, RegionBlock, check_region, question_with_regions, region_number
from visionllm_sdk.results import Detections, Result
from visionllm_sdk.skills.engine import Engine
from visionllm_sdk.skills.history import Conversation, Mark
from visionllm_sdk.skills.pointing import Place

ResultT = TypeVar("ResultT", bound=Result)
Regions: TypeAlias = Region | RegionBlock | Sequence[Region | RegionBlock]
"""Region prompts of one message; a block may say in which of the message's images it lies."""


def mark(talk: Conversation, regions: Any) -> Conversation:
    """The conversation with the region prompts of its message and of its earlier turns.

    Args:
        talk: the conversation.
        regions: of the message, one or several, as `Regions` says; None for none.

    Raises:
        RegionError: a region without an image, or one that does not fit it.
        InputError: a question whose slots do not fit its regions.
    """
    marks = list[tuple[Mark, ...]]()
    for number, (past, _) in enumerate(talk.past):
        try:
            marks.append(_marks(past.regions, talk, number))
            question_with_regions(past.text, len(marks[-1]))
        except InputError as error:
            raise error.at(f"turn {number}") from error
    marks.append(_marks(regions, talk, -1))
    question_with_regions(talk.text, len(marks[-1]))
    return replace(talk, marks=tuple(marks)) if any(marks) else talk


def _marks(regions: Any, talk: Conversation, turn: int) -> tuple[Mark, ...]:
    """The checked regions of a turn; -1 is the message."""
    if regions is None:
        return ()
    given = regions if isinstance(regions, list | tuple) else (regions,)
    marks: list[Mark] = []
    for number, region in enumerate(given):
        try:
            marks.append(mark_in(region, talk.images, talk.own_images(turn)))
        except InputError as error:
            raise error.at(f"region {number}") from error
    return tuple(marks)


def mark_in(region: Region | RegionBlock, images: Sequence[LoadedImage], places: Sequence[int]) -> Mark:
    """A region prompt of a message.

    Args:
        region: the prompt; a block counts the images of its message, any other lies in the last of them.
        images: of the whole conversation.
        places: where among them those stand that the message speaks of.

    Raises:
        RegionError: there is no such image, or the region does not fit it.
    """
    wanted = region.image if isinstance(region, RegionBlock) else None
    region = region.region if isinstance(region, RegionBlock) else region
    if not places:
        raise RegionError("there is no image to mark a region in", remedy="Pass the image, too.")
    if wanted is not None and wanted >= len(places):
        raise RegionError(
            "a region lies in an image that is not there",
            value=wanted,
            limit=f"0 to {len(places) - 1}",
            remedy="Count the images of its message from 0, or leave it out for the last one.",
        )
    place = places[-1 if wanted is None else wanted]
    image = images[place]
    return Mark(place, check_region(region, (image.width, image.height)))


def encode_marks(engine: Engine, images: Sequence[LoadedImage], marks: Sequence[Mark]) -> list[RegionPrompt]:
    """Encoded region prompts on a conversation's images; equal ones are encoded once.

    Raises:
        InputError: the checkpoint has no region encoder.
    """
    if not marks:
        return []
    marked = [images[one.image] for one in marks]
    places = [
        Place(seen, (image.width, image.height), one.region)
        for seen, image, one in zip(engine.see(marked, pointed=True), marked, marks, strict=True)
    ]
    return [
        replace(prompt, image=one.image)
        for prompt, one in zip(engine.pointer.prompts(places), marks, strict=True)
    ]


def region_prompts(engine: Engine, talks: Sequence[Conversation]) -> list[list[RegionPrompt]]:
    """The encoded regions of conversations, in the order of their tokens; equal ones are encoded once.

    Raises:
        InputError: the checkpoint has no region encoder.
    """
    return [encode_marks(engine, talk.images, _in_order(talk)) for talk in talks]


def _in_order(talk: Conversation) -> list[Mark]:
    """The marks of all region tokens; a region that its question names twice has two."""
    texts = [*(past.text for past, _ in talk.past), talk.text]
    return [
        marks[number]
        for text, marks in zip(texts, talk.marks, strict=False)
        for number in question_with_regions(text, len(marks))[1]
    ]


def pointed_out(marks: Sequence[Mark], end: int, labels: Sequence[str]) -> dict[str, Region]:
    """The regions of a message that labels stand for, by label.

    Empty if a label means anything else, or a region lies in another image than the one that is looked at:
    then it is an example, of which there may be none or many.

    Args:
        marks: regions of the message.
        end: number of the conversation's images up to the one that is looked at, with it.
        labels: of a routed call.
    """
    found = dict[str, Region]()
    for label in labels:
        number = region_number(label)
        if number is None or number >= len(marks) or marks[number].image != end - 1:
            return {}
        found[label] = marks[number].region
    return found


def tell_regions(result: ResultT, talk: Conversation) -> ResultT:
    """A result in which each detection says which region of the message it answers."""
    count = len(talk.marks[-1]) if talk.marks else 0
    return number_regions(result, count) if count else result


def number_regions(result: ResultT, count: int | None = None) -> ResultT:
    """A result whose detections under the names of regions say which region that is.

    Args:
        result: of a routed call.
        count: number of regions that the message has; None if there is no telling.
    """
    if not isinstance(result, Detections):
        return result
    told = []
    for one in result.detections:
        number = region_number(one.label)
        known = number is not None and (count is None or number < count)
        told.append(one.model_copy(update={"region": number}) if known else one)
    return result.model_copy(update={"detections": tuple(told)})
