"""bfloat16, the number format on GPUs, against float32, with the embedded model."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from visionllm_sdk import Detections, VisionLLM
from visionllm_sdk.generation import ForcedRequest
from visionllm_sdk.model.conversation import ForcedCall
from visionllm_sdk.scenes import held_out_seeds, render, sample_scene, truth


@pytest.fixture(scope="module")
def half() -> VisionLLM:
    return VisionLLM.from_pretrained(dtype="bfloat16")


def scene(number: int) -> tuple[Image.Image, list[str]]:
    """A held-out picture and the kinds of things in it."""
    spec = sample_scene(held_out_seeds(number + 1)[number])
    drawn = render(spec)
    return drawn.image, sorted({one.kind for one in truth(spec, drawn).facts().objects})


def test_attention_runs_through_the_library_of_torch(vlm: VisionLLM) -> None:
    assert vlm.engine.model.core.llm.config._attn_implementation == "sdpa"


@pytest.mark.slow
def test_super_links_agree(vlm: VisionLLM, half: VisionLLM) -> None:
    image, labels = scene(0)
    states = []
    for one in (vlm, half):
        model = one.engine.model
        request = ForcedRequest(
            calls=(ForcedCall(token=one.engine.token("[DET]"), labels=tuple(labels)),),
            images=(model.tile(image),),
        )
        ((call,),) = one.engine.generator.forced([request])
        states.append(torch.stack([link.super_link.states.float() for link in call.links]))
        assert call.links[0].super_link.states.dtype == model.core.dtype
    error = (states[0] - states[1]).norm() / states[0].norm()
    assert 0 < error < 0.05


@pytest.mark.slow
def test_detections_agree(vlm: VisionLLM, half: VisionLLM) -> None:
    for number in range(3):
        image, labels = scene(number)
        exact, near = (one.detect(image, labels, masks=False) for one in (vlm, half))
        assert isinstance(exact, Detections)
        sure = [found for found in exact.detections if found.score > 0.5]
        for found in sure:
            twins = [other for other in near.detections if other.label == found.label]
            assert max((found.box.iou(other.box) for other in twins), default=0.0) > 0.8
