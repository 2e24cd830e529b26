"""What is asked about region prompts, carried out: descriptions, masks, and more of the same kind."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any, Final, TypeVar

from visionllm_sdk.errors import ToolError
from visionllm_sdk.generation import ForcedRequest, GenerationOptions, GenerationRequest, ToolJob
from visionllm_sdk.images import LoadedImage
from visionllm_sdk.model.conversation import (
    DESCRIPTION_LAYOUT,
    IN_CONTEXT_LAYOUT,
    INTERACTIVE_LAYOUT,
    RECOGNITION_LAYOUT,
    ForcedCall,
    Parts,
    Turn,
    image_parts,
    region_list,
)
from visionllm_sdk.model.prompt import Prompt, RegionPrompt, TiledImage
from visionllm_sdk.model.tokenizer import Part
from visionllm_sdk.regions import Box, Mask, Point, Region, Scribble, region_name
from visionllm_sdk.results import Detection, Detections, RegionDescription
from visionllm_sdk.skills.engine import SKILL_TOKENS, Engine
from visionllm_sdk.skills.pointing import Place
from visionllm_sdk.tool import ForcedLayout, RoutingToken

Item = TypeVar("Item")

LAYOUTS: Final[Mapping[str, ForcedLayout]] = {
    "describe": DESCRIPTION_LAYOUT,
    "recognise": RECOGNITION_LAYOUT,
    "interactive": INTERACTIVE_LAYOUT,
    "in_context": IN_CONTEXT_LAYOUT,
}
"""The released wording by the name under which a checkpoint may have its own."""

_SLOT: Final = re.compile(r"\{(\w+)\}")
_ROWS_AT_ONCE: Final = 32
_PAIRS_AT_ONCE: Final = 16
_DESCRIPTION_TOKENS: Final = 64
_REGIONS_A_QUESTION: Final = 8
"""No question in training marks more things at once."""
ONE_EACH: Final[Mapping[str, Any]] = {"of_each": 2, "threshold": 0.0}
"""Options of the detection tool for marked things: those of each region among which the prompt decides."""
_CLOSE: Final = 0.5
"""Share of the best score from which a detection is such a candidate."""


@dataclass(frozen=True)
class Marked:
    """An image with region prompts, which are known to fit."""

    image: LoadedImage
    regions: tuple[Region, ...]


@dataclass(frozen=True, eq=False)
class Seen:
    """A `Marked` as the language side sees it."""

    image: TiledImage
    prompts: tuple[RegionPrompt, ...]


def look(engine: Engine, items: Sequence[Marked]) -> list[Seen]:
    """See images and encode their region prompts; what is known is not computed again.

    Raises:
        InputError: the checkpoint has no region encoder.
    """
    images = engine.see([item.image for item in items], pointed=any(item.regions for item in items))
    places = [
        Place(seen, (item.image.width, item.image.height), region)
        for item, seen in zip(items, images, strict=True)
        for region in item.regions
    ]
    prompts = iter(engine.pointer.prompts(places))
    return [
        Seen(seen, tuple(next(prompts) for _ in item.regions))
        for item, seen in zip(items, images, strict=True)
    ]


# -- in words ----------------------------------------------------------------------------------------------


def describe(engine: Engine, items: Sequence[Marked]) -> list[list[RegionDescription]]:
    """A sentence on every region; all regions are described side by side."""
    with engine.turn():
        question = worded(layout_of(engine, "describe"), region_list([region_name(0)]))
        turn = Turn((*image_parts(), *question))
        prompts = [
            engine.generator.builder.build([turn], [seen.image], [prompt])
            for seen in look(engine, items)
            for prompt in seen.prompts
        ]
        texts = iter([text for part in _parts(prompts, _ROWS_AT_ONCE) for text in _written(engine, part)])
    return [[RegionDescription(region=region, text=next(texts)) for region in item.regions] for item in items]


def _written(engine: Engine, prompts: Sequence[Prompt]) -> list[str]:
    """The replies to prompts with one image each, without routing."""
    options = GenerationOptions(max_new_tokens=_DESCRIPTION_TOKENS, tokens=())
    _share(engine, prompts)
    replies = engine.generator.generate(
        [GenerationRequest(prompt=prompt, options=options, session=engine.session) for prompt in prompts]
    )
    return [reply.text.strip() for reply in replies]


def _share(engine: Engine, prompts: Sequence[Prompt]) -> None:
    """Run what several prompts about one image begin with, so that each of them goes on from there."""
    region = engine.model.core.region_id
    groups: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        groups.setdefault(prompt.images[0].key, []).append(prompt)
    heads = []
    for first, *others in groups.values():
        if others:
            end = first.ids.index(region)
            heads.append(Prompt(ids=first.ids[:end], marks=first.marks[:end], images=first.images))
    if heads:
        one = GenerationOptions(max_new_tokens=1, tokens=())
        engine.generator.generate(
            [GenerationRequest(prompt=head, options=one, session=engine.session) for head in heads]
        )


# -- in pixels ---------------------------------------------------------------------------------------------


def segment(engine: Engine, items: Sequence[Marked]) -> list[Detections]:
    """What is marked by every region: one detection each, in order."""
    most = min(engine.model.config.sdk.max_forced_labels, _REGIONS_A_QUESTION)
    with engine.turn():
        requests, jobs = [], list[tuple[int, tuple[Region, ...]]]()
        for number, (item, seen) in enumerate(zip(items, look(engine, items), strict=True)):
            for start in range(0, len(item.regions), most):
                part = slice(start, start + most)
                jobs.append((number, item.regions[part]))
                requests.append(_interactive(engine, seen, seen.prompts[part]))
        images = [items[number].image for number, _ in jobs]
        found = _run(engine, requests, images, ONE_EACH)
    chosen: list[list[Detection]] = [[] for _ in items]
    for (number, regions), result in zip(jobs, found, strict=True):
        chosen[number] += one_each(result, {region_name(place): own for place, own in enumerate(regions)})
    return [_in_order(item, own) for item, own in zip(items, chosen, strict=True)]


def _interactive(engine: Engine, seen: Seen, prompts: Sequence[RegionPrompt]) -> ForcedRequest:
    names = tuple(region_name(number) for number in range(len(prompts)))
    call = ForcedCall(
        token=engine.token(SKILL_TOKENS["detect"]),
        labels=names,
        layout=layout_of(engine, "interactive"),
        slot=region_list(names),
    )
    return ForcedRequest(calls=(call,), images=(seen.image,), regions=tuple(prompts), session=engine.session)


def one_each(found: Detections, regions: Mapping[str, Region]) -> Iterator[Detection]:
    """The detection of each region: of those nearly as sure as the surest, what the prompt marks best.

    Args:
        found: with the options `ONE_EACH`.
        regions: the prompts by the labels that stand for them.

    Raises:
        ToolError: there is none of a region.
    """
    for name, region in regions.items():
        own = [one for one in found if one.label == name]
        if not own:
            raise ToolError(
                "the tool returned nothing for a region",
                value=name,
                limit="at least one detection of each",
                remedy="Update the package that offers the tool.",
            )
        floor = _CLOSE * max(one.score for one in own)
        close = [one for one in own if one.score >= floor]
        yield max(zip([agreement(region, one) for one in close], close, strict=True), key=_fit)[1]


def one_of_each(found: Detections, regions: Mapping[str, Region]) -> Detections:
    """Of what was found with `ONE_EACH` the detection of each region; all of it without regions."""
    if not regions:
        return found
    return found.model_copy(update={"detections": tuple(one_each(found, regions))})


def _fit(rated: tuple[float, Detection]) -> tuple[float, float]:
    return rated[0], rated[1].score


def _in_order(item: Marked, detections: Sequence[Detection]) -> Detections:
    names = tuple(region_name(number) for number in range(len(detections)))
    return Detections(
        width=item.image.width,
        height=item.image.height,
        labels=names,
        detections=tuple(
            one.model_copy(update={"label": name, "region": number})
            for number, (name, one) in enumerate(zip(names, detections, strict=True))
        ),
    )


def segment_like(
    engine: Engine, examples: Sequence[Marked], images: Sequence[LoadedImage], options: Mapping[str, Any]
) -> list[Detections]:
    """What is of the kind that the one region of an example marks, in another image; result i in image i."""
    found: list[Detections] = []
    pairs = list(zip(examples, images, strict=True))
    for part in _parts(pairs, _PAIRS_AT_ONCE):
        with engine.turn():
            seen = look(engine, [example for example, _ in part])
            targets = engine.see([image for _, image in part])
            requests = [_in_context(engine, one, target) for one, target in zip(seen, targets, strict=True)]
            found += _run(engine, requests, [image for _, image in part], options)
    return [
        one.model_copy(
            update={"detections": tuple(item.model_copy(update={"region": 0}) for item in one.detections)}
        )
        for one in found
    ]


def _in_context(engine: Engine, example: Seen, target: TiledImage) -> ForcedRequest:
    call = in_context_call(engine.token(SKILL_TOKENS["detect"]), engine.model.config.sdk.layouts)
    return ForcedRequest(
        calls=(call,),
        images=(example.image, target),
        regions=example.prompts,
        session=engine.session,
    )


def _run(
    engine: Engine,
    requests: Sequence[ForcedRequest],
    images: Sequence[LoadedImage],
    options: Mapping[str, Any],
) -> list[Detections]:
    token = SKILL_TOKENS["detect"]
    wanted = engine.known_options(token, options)
    results = engine.run(
        [
            ToolJob.about(image, call, options=wanted)
            for (call,), image in zip(engine.generator.forced(requests), images, strict=True)
        ]
    )
    return [_detections(result, token) for result in results]


def _detections(result: object, token: str) -> Detections:
    if not isinstance(result, Detections):
        raise ToolError(
            f"the tool behind {token} gives another type of result",
            value=type(result).__name__,
            limit=Detections.__name__,
            remedy="Uninstall the package that offers this tool, or choose with tools=[...].",
        )
    return result


@singledispatch
def agreement(region: Any, found: Detection) -> float:
    """How well a detection fits the region prompt that it answers, 0..1."""
    return 0.0


@agreement.register
def _(region: Box, found: Detection) -> float:
    return region.iou(found.box)


@agreement.register
def _(region: Mask, found: Detection) -> float:
    if found.mask is not None:
        return region.iou(found.mask)
    return region.box.iou(found.box) if region.box else 0.0


@agreement.register
def _(region: Point, found: Detection) -> float:
    return _share_inside([region], found)


@agreement.register
def _(region: Scribble, found: Detection) -> float:
    return _share_inside(region.points, found)


def _share_inside(points: Sequence[Point], found: Detection) -> float:
    if found.mask is None:
        return sum(found.box.contains(point.x, point.y) for point in points) / len(points)
    inside = found.mask.to_numpy()
    height, width = inside.shape
    hits = [inside[min(int(p.y), height - 1), min(int(p.x), width - 1)] for p in points]
    return sum(map(bool, hits)) / len(points)


# -- wording -----------------------------------------------------------------------------------------------


def layout_of(engine: Engine, name: str) -> ForcedLayout:
    """The wording by a name of `LAYOUTS`: the checkpoint's own, or the released one."""
    return engine.model.config.sdk.layouts.get(name, LAYOUTS[name])


def worded(layout: ForcedLayout, regions: Parts) -> Parts:
    """The question of a layout; ``{labels}`` stands for regions, ``{image}`` for a further image."""
    slots = {"labels": regions, "image": image_parts()}
    parts: list[Part] = []
    for place, piece in enumerate(_SLOT.split(layout.question)):
        parts += slots[piece] if place % 2 else [piece]
    return tuple(part for part in parts if part)


def in_context_call(token: RoutingToken, layouts: Mapping[str, ForcedLayout]) -> ForcedCall:
    """Question and answer about a second image, by the region that is marked in the first.

    Args:
        token: of the detection tool.
        layouts: of the checkpoint, by name.
    """
    # The released model numbers regions only where there may be several.
    name = region_name(0) if "in_context" in layouts else "region"
    layout = layouts.get("in_context", LAYOUTS["in_context"])
    return ForcedCall(
        token=token,
        labels=(name,),
        layout=replace(layout, question="{labels}"),
        slot=(*image_parts(), *worded(layout, region_list([name]))),
    )


def _parts(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
