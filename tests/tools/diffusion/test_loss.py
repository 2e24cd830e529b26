from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.tools.diffusion.small import QUERIES, SIDE, WIDTH, small_config
from visionllm_tools.diffusion.decoder import DiffusionDecoder
from visionllm_tools.diffusion.loss import DiffusionBatch, Draws, diffusion_loss
from visionllm_tools.diffusion.schedules import training_schedule
from visionllm_tools.generation.tool import GenerationTool


def decoder(prediction: str) -> DiffusionDecoder:
    config = small_config("sd")
    schedule = config["sd_config"]["visionllm_sdk"]["scheduler"]
    schedule |= {"prediction_type": prediction}
    tool = GenerationTool.from_config(config)
    assert tool is not None
    return tool.decoder


class Told(torch.nn.Module):
    """A denoiser that says what it is told, and keeps what it was shown."""

    def __init__(self, like: torch.nn.Module) -> None:
        super().__init__()
        self.config = like.config
        self.answer: Tensor | None = None
        self.seen: tuple[Tensor, Tensor, Tensor] | None = None

    def forward(self, latents: Tensor, steps: Tensor, *, encoder_hidden_states: Tensor) -> object:
        self.seen = (latents, steps, encoder_hidden_states)
        answer = torch.zeros_like(latents) if self.answer is None else self.answer
        return type("Output", (), {"sample": answer})


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "flow_prediction"])
def test_the_right_prediction_has_no_loss(prediction: str) -> None:
    model = decoder(prediction)
    model.sd_unet = told = Told(model.sd_unet)
    images = torch.rand(3, 3, SIDE, SIDE) * 2 - 1
    batch = DiffusionBatch(states=torch.randn(3, QUERIES, WIDTH), images=images)

    def loss() -> Tensor:
        return diffusion_loss(model, batch, drop_rate=0, draws=Draws(torch.Generator().manual_seed(5))).total

    assert loss() > 0.1
    draws = Draws(torch.Generator().manual_seed(5))
    clean = model.encode(images).mode()
    draws.normal(clean)  # the autoencoder's draw comes first
    noise = draws.normal(clean)
    assert told.seen is not None
    noisy, steps, _ = told.seen
    if prediction == "flow_prediction":
        share = (steps / 1000)[:, None, None, None]
        kept, added = 1 - share, share
        told.answer = noise - clean
    else:
        alphas = training_schedule(model.config.parts.scheduler).alphas_cumprod[steps][:, None, None, None]
        kept, added = alphas.sqrt(), (1 - alphas).sqrt()
        told.answer = noise if prediction == "epsilon" else kept * noise - added * clean
    assert torch.allclose(noisy, kept * clean + added * noise, atol=1e-5)
    assert loss() < 1e-8


def test_dropping_follows_one_number_per_picture() -> None:
    model = decoder("flow_prediction")
    model.sd_unet = told = Told(model.sd_unet)

    class Fixed(Draws):
        def uniform(self, count: int) -> Tensor:
            return torch.tensor([0.05, 0.15, 0.25, 0.35])

    sources = torch.rand(4, 3, SIDE, SIDE) * 2 - 1
    batch = DiffusionBatch(states=torch.randn(4, QUERIES, WIDTH), images=sources.flip(0), sources=sources)
    channels = 48
    told.answer = torch.zeros(4, channels, SIDE // 4, SIDE // 4)
    diffusion_loss(model, batch, drop_rate=0.1, draws=Fixed())
    assert told.seen is not None
    latents, _, condition = told.seen
    context = model.encode(sources).mode()
    words = [bool(row.abs().sum() > 0) for row in condition]
    images = [torch.equal(row, wanted) for row, wanted in zip(latents[:, channels:], context, strict=True)]
    assert words == [False, False, True, True]
    assert images == [True, False, False, True]
    assert latents[1, channels:].abs().max() == 0


def test_gradients_reach_mapper_and_denoiser_but_not_the_autoencoder() -> None:
    model = decoder("flow_prediction")
    states = torch.randn(2, QUERIES, WIDTH, requires_grad=True)
    batch = DiffusionBatch(states=states, images=torch.rand(2, 3, SIDE, SIDE))
    loss = diffusion_loss(model, batch, drop_rate=0)
    assert set(loss.terms) == {"noise"}
    loss.total.backward()
    assert states.grad is not None
    assert states.grad.abs().sum() > 0
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
