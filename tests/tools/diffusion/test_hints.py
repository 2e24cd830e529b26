"""Hints: changes of the conditioning that let a denoiser draw what it is shown."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from tests.sdk.conftest import drawing_changes
from visionllm_sdk.tool import SuperLink, ToolRequest
from visionllm_tools.diffusion.decoder import DiffusionDecoder
from visionllm_tools.diffusion.few_steps import MostlyNoise, clean_error
from visionllm_tools.diffusion.hints import Hints
from visionllm_tools.diffusion.tool import Lesson, PictureTruth
from visionllm_tools.generation.tool import GenerationTool

WIDTH = 64


@pytest.fixture
def tool() -> GenerationTool:
    torch.manual_seed(0)
    found = GenerationTool.from_config({**drawing_changes(), "llm_config": {"hidden_size": WIDTH}})
    assert found is not None
    return found


def error(decoder: DiffusionDecoder, condition: torch.Tensor, images: torch.Tensor) -> float:
    """Of the clean picture, from much noise."""
    with torch.no_grad():
        clean = decoder.encode(images).mode() * decoder.scaling
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
        steps = torch.full((len(images),), 900)
        noisy = torch.lerp(clean, noise, 0.9)
        errors = (decoder.denoise(noisy, steps, condition) - (noise - clean)).square()
        return float((errors * clean_error(steps)).mean())


def test_with_its_hint_the_denoiser_draws_a_picture_better(tool: GenerationTool) -> None:
    decoder = tool.decoder
    before = {key: value.clone() for key, value in decoder.state_dict().items()}
    states = torch.randn(3, 4, WIDTH)
    images = torch.rand(3, 3, 1, 1).expand(3, 3, 32, 32).contiguous() * 2 - 1
    hints = Hints(decoder, steps=30)
    found = hints(states, images)
    plain = decoder.condition(states).detach()
    assert found.shape == plain.shape
    # Random weights hardly listen to their conditioning: it can only be a little better.
    assert error(decoder, plain + found, images) < 0.99 * error(decoder, plain, images)
    assert all(torch.equal(value, before[key]) for key, value in decoder.state_dict().items())
    assert all(value.grad is None for value in decoder.parameters())


def test_a_hint_depends_on_its_picture_alone(tool: GenerationTool) -> None:
    states, images = torch.randn(3, 4, WIDTH), torch.rand(3, 3, 32, 32) * 2 - 1
    together = Hints(tool.decoder, steps=4)(states, images)
    one_by_one = Hints(tool.decoder, steps=4)
    for place in (2, 0, 1):
        alone = one_by_one(states[place : place + 1], images[place : place + 1])
        torch.testing.assert_close(alone[0], together[place], rtol=1e-3, atol=1e-4)
    assert torch.equal(one_by_one(states, images), one_by_one(states, images))  # found once


def test_what_all_pictures_have_in_common_is_no_hint(tool: GenerationTool) -> None:
    states, images = torch.randn(4, 4, WIDTH), torch.rand(4, 3, 32, 32) * 2 - 1
    hints = Hints(tool.decoder, steps=4)
    whole = hints(states, images)
    hints.study(states, images)
    rest = hints(states, images)
    assert rest.mean(0).abs().max() < 1e-6
    torch.testing.assert_close(whole - rest, whole.mean(0).expand_as(whole))


def test_a_lesson_with_hints_and_several_looks_is_a_loss(tool: GenerationTool) -> None:
    hints = Hints(tool.decoder, steps=2)
    tool.lesson = Lesson(draws=MostlyNoise(), weigh=clean_error, hints=hints, looks=3)
    states = [torch.randn(4, WIDTH, requires_grad=True) for _ in range(2)]
    requests = [
        ToolRequest(
            token="[GEN]",
            links=(SuperLink(token="[GEN]", label="a cup", states=one),),
            options=tool.options_type(),
        )
        for one in states
    ]
    truths = [PictureTruth(image=Image.new("RGB", (32, 32), colour)) for colour in ("red", "blue")]
    tool.study(requests, truths)
    found = tool.loss(requests, truths)
    found.total.backward()
    assert torch.isfinite(found.total)
    assert all(one.grad is not None and bool(one.grad.abs().sum() > 0) for one in states)
