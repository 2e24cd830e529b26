"""Free routing of requests for poses and about region prompts: which tools are called, and for what."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, cast

from visionllm_sdk.evaluation.predictor import Images, Predictor
from visionllm_sdk.evaluation.samples import Sample
from visionllm_sdk.evaluation.skills.base import chunks
from visionllm_sdk.evaluation.skills.regions import in_context_case
from visionllm_sdk.evaluation.skills.routing import RoutingSkill
from visionllm_sdk.regions import Region, RegionBlock
from visionllm_sdk.results import Reply
from visionllm_sdk.scenes.exchange import Exchange
from visionllm_sdk.scenes.phrases import HELD_OUT
from visionllm_sdk.scenes.pose_language import POSE_HELD_OUT, POSE_MAKERS
from visionllm_sdk.scenes.region_language import REGION_HELD_OUT, REGION_MAKERS, RegionExchange
from visionllm_sdk.scenes.regions import REGION_KINDS, draw_prompt

_MAKERS: Final = {**POSE_MAKERS, **REGION_MAKERS}
_PHRASES: Final = {**HELD_OUT, **POSE_HELD_OUT, **REGION_HELD_OUT}
_PER_PICTURE: Final = 3
_SEED: Final = 2**31
_SLOT: Final = re.compile(r"<reg>region(\d+)<region></reg>")
_SECOND_IMAGE: Final = re.compile(r"<image>\n?")


class PointedTalker(Protocol):
    """What this needs beside a `Predictor`."""

    def chat(
        self, text: list[str], images: list[Images], *, regions: list[list[Region | RegionBlock]]
    ) -> Sequence[Reply]:
        """A reply to each message with its region prompts, by free routing."""


@dataclass(frozen=True)
class PointedRequest:
    """A sentence as a user sends it, with its pictures and prompts.

    Attributes:
        sample: the picture that is talked about.
        exchange: what was asked, and the routing that is right.
        text: the sentence; `<region1>` stands for the first prompt.
        images: of the message.
        regions: of the message.
    """

    sample: Sample
    exchange: Exchange
    text: str
    images: Images
    regions: list[Region | RegionBlock]


def pointed_requests(sample: Sample) -> list[PointedRequest]:
    """Three sentences of different kinds on a picture."""
    rng = sample.random("pointed routing")
    found: list[PointedRequest] = []
    for kind in rng.sample(tuple(_MAKERS), len(_MAKERS)):
        exchange = _MAKERS[kind](sample.facts, rng, _PHRASES)
        case = in_context_case(sample) if kind == "in_context" else None
        if exchange is None or (kind == "in_context" and case is None):
            continue
        marked = exchange.regions if isinstance(exchange, RegionExchange) else ()
        prompts: list[Region | RegionBlock] = [
            draw_prompt(sample.masks[index], rng.choice(REGION_KINDS), seed=rng.randrange(_SEED))
            for index in marked
        ]
        images = [sample.image]
        if case is not None:  # the second picture shows the kind that its own prompt marks
            images.append(case.image)
            prompts = [RegionBlock(region=case.question.region, image=0)]
        text = _SLOT.sub(r"<region\1>", _SECOND_IMAGE.sub("", exchange.question)).strip()
        found.append(PointedRequest(sample, exchange, text, images, prompts))
        if len(found) == _PER_PICTURE:
            break
    return found


class PointedRoutingSkill(RoutingSkill):
    """Share of requests for poses and about regions whose tokens and labels are all right, in order."""

    name = "pointed_routing"
    needs = "pose"
    kinds = tuple(_MAKERS)

    def measure(self, model: Predictor, samples: Sequence[Sample]) -> None:
        """See `Skill.measure`."""
        asked = [one for sample in samples for one in pointed_requests(sample)]
        for part in chunks(asked, len(samples)):
            replies = cast(PointedTalker, model).chat(
                [one.text for one in part],
                [one.images for one in part],
                regions=[one.regions for one in part],
            )
            for one, reply in zip(part, replies, strict=True):
                self._score(one.sample, one.exchange, reply)
