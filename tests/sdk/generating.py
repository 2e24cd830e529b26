"""Prompts, models and recorded replies for the tests of generation."""

from __future__ import annotations

import functools
import json
import random

import torch
from safetensors import safe_open

from tests.sdk.model.reference import (
    GOLDENS,
    Planned,
    golden,
    golden_prompt,
    reference_model,
)
from visionllm_sdk.generation import (
    GeneratedReply,
    GenerationOptions,
    GenerationRequest,
    Generator,
    Session,
)
from visionllm_sdk.model.assembly import Model
from visionllm_sdk.model.conversation import (
    DETECTION_LAYOUT,
    KEYPOINT_LAYOUT,
    Turn,
    image_parts,
)
from visionllm_sdk.model.prompt import TiledImage
from visionllm_sdk.model.session import image_key
from visionllm_sdk.tool import RoutingToken

ROUTING = ("[DET]", "[GRD]", "[SEG]", "[POSE]", "[GEN]", "[EDIT]")
DET = RoutingToken(text="[DET]", label_tag="det", layout=DETECTION_LAYOUT)
POSE = RoutingToken(text="[POSE]", layout=KEYPOINT_LAYOUT)


@functools.cache
def tiny() -> Model:
    return reference_model("tiny_core")


@functools.cache
def generator() -> Generator:
    return Generator(tiny())


def picture(seed: int, tiles: int = 1) -> TiledImage:
    pixels = torch.randn(tiles, 3, 56, 56, generator=torch.Generator().manual_seed(seed))
    return TiledImage(pixels, key=image_key(pixels))


def request(text: str = "Hi", *images: TiledImage, session: Session | None = None, **options: object):
    prompt = generator().builder.build([Turn((*image_parts(len(images)), text))], images)
    settings = GenerationOptions(**{"max_new_tokens": 12, **options})
    return GenerationRequest(prompt=prompt, options=settings, question=text, session=session)


def recorded(checkpoint: str, name: str) -> tuple[GenerationRequest, dict[str, torch.Tensor]]:
    """A recorded generation as a request: the same prompt, the same planned tokens."""
    model, values = reference_model(checkpoint), golden(name)
    with safe_open(GOLDENS / f"{name}.safetensors", "pt") as file:
        plan = json.loads(file.metadata()["plan"])
    prompt = golden_prompt(model, values)
    first = min(model.tokenizer.added.values())
    planned = Planned(
        prompt_length=len(prompt.ids),
        plan={int(step): index for step, index in plan.items()},
        first_control=first,
        end=model.tokenizer.eos_id,
    )
    steps = values["sequences"].shape[1] - len(prompt.ids)
    return GenerationRequest(
        prompt=prompt, options=GenerationOptions(max_new_tokens=steps, processors=(planned,))
    ), values


def states(reply: GeneratedReply) -> list[torch.Tensor]:
    return [link.states for call in reply.calls for link in call.super_links]


# -- equality with the recorded runs -----------------------------------------------------------------------


class Scattered:
    """Emits routing tokens at random steps, the same for a row wherever it stands."""

    def __init__(self, seed: int, start: int, ids: list[int]) -> None:
        self._seed, self._start, self._ids = seed, start, ids

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        draw = random.Random(1000 * self._seed + ids.shape[1] - self._start)
        if draw.random() < 0.35:
            scores = scores.clone()
            scores[:, draw.choice(self._ids)] = 1e4
        return scores


def scattered(number: int, text: str, *images: TiledImage, **options: object) -> GenerationRequest:
    plain = request(text, *images)
    ids = [tiny().tokenizer.control_id(token) for token in ROUTING]
    settings = GenerationOptions(
        max_new_tokens=6 + number, processors=(Scattered(number, len(plain.prompt.ids), ids),), **options
    )
    return GenerationRequest(prompt=plain.prompt, options=settings, question=text)
