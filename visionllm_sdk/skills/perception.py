"""Typed methods whose labels are known: forced routing, then the tool, for many images at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from visionllm_sdk.errors import ToolError
from visionllm_sdk.generation import ForcedRequest, Session, ToolJob
from visionllm_sdk.images import LoadedImage
from visionllm_sdk.model.conversation import ForcedCall
from visionllm_sdk.model.lanes import shares, side_by_side
from visionllm_sdk.model.reply import RoutedCall
from visionllm_sdk.results import Count, Detections
from visionllm_sdk.skills.engine import Engine

ResultT = TypeVar("ResultT")
_IMAGES_AT_ONCE = 16
"""Images in one pass; bounds memory."""


@dataclass(frozen=True, kw_only=True)
class Perception:
    """One image, one routing token, and the labels to look for.

    Attributes:
        image: the image.
        token: the routing token.
        labels: in order, distinct.
        before: other routing tokens with their labels that open the same answer and whose super-links the
            tool reads, such as the object classes of poses.
        options: the tool's options by name; None keeps its default.
        number: among the caller's images, for messages; None: the place among the items of a pass.
    """

    image: LoadedImage
    token: str
    labels: tuple[str, ...]
    before: tuple[tuple[str, tuple[str, ...]], ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    number: int | None = None


def perceive(engine: Engine, items: Sequence[Perception], kind: type[ResultT]) -> list[ResultT]:
    """Carry out forced requests, in batches; result i belongs to item i.

    Args:
        engine: the model.
        items: what to look for.
        kind: the type of result that the tool must give.

    Raises:
        ToolError: the checkpoint has no such tool, or the tool gives another type of result.
    """
    results: list[ResultT] = []
    for start in range(0, len(items), _IMAGES_AT_ONCE):
        results += _perceive(engine, items[start : start + _IMAGES_AT_ONCE], kind)
    return results


@torch.no_grad()
def _perceive(engine: Engine, items: Sequence[Perception], kind: type[ResultT]) -> list[ResultT]:
    """Images and labels through the language model, each lane with a share of them; then the tool."""
    place = engine.model.core.device
    with engine.turn():
        parts = shares([item.image.sketch for item in items], place)  # equal images go to one lane
        calls: dict[int, RoutedCall] = {}
        session = engine.session
        for found in side_by_side(lambda part: _calls(engine, items, part, session), parts, place):
            calls |= found
        jobs = [
            ToolJob.about(item.image, calls[i], options=engine.options(item.token, item.options))
            for i, item in enumerate(items)
        ]
        results = engine.run(jobs)
    return [checked_result(result, item.token, kind) for item, result in zip(items, results, strict=True)]


def _calls(
    engine: Engine, items: Sequence[Perception], part: Sequence[int], session: Session
) -> dict[int, RoutedCall]:
    """What the items at some positions ask of the tool."""
    seen = engine.see([items[i].image for i in part])
    requests = [
        ForcedRequest(
            calls=tuple(
                ForcedCall(token=engine.token(token), labels=labels)
                for token, labels in (*items[i].before, (items[i].token, items[i].labels))
            ),
            images=(image,),
            number=i if items[i].number is None else items[i].number,
            session=session,
        )
        for i, image in zip(part, seen, strict=True)
    ]
    found = engine.generator.forced(requests)
    return {i: calls[-1] for i, calls in zip(part, found, strict=True)}


def checked_result(result: object, token: str, kind: type[ResultT]) -> ResultT:
    """The result of the tool behind a routing token.

    Raises:
        ToolError: it is of another type than the skill promises.
    """
    if not isinstance(result, kind):
        raise ToolError(
            f"the tool behind {token} gives another type of result",
            value=type(result).__name__,
            limit=kind.__name__,
            remedy="Uninstall the package that offers this tool, or choose with tools=[...].",
        )
    return result


def as_count(found: Detections, label: str) -> Count:
    """Detections of one label as their number."""
    return Count(
        width=found.width, height=found.height, label=label, count=len(found.detections), detections=found
    )
