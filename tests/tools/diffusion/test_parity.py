"""Conditioning, noise prediction, losses and a run against recorded values of the original model."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from tests.tools.diffusion.reference import FULL, RecordedUNet, Reference, Replay, relative
from visionllm_tools.diffusion.loss import DiffusionBatch, diffusion_loss
from visionllm_tools.diffusion.painting import Order, Plan, run_pipeline
from visionllm_tools.diffusion.schedules import training_schedule

EXACT = 1e-5


@pytest.fixture(params=("generation_reference", "editing_reference"))
def reference(request: pytest.FixtureRequest) -> Reference:
    found: Reference = request.getfixturevalue(request.param)
    return found


def batch(reference: Reference, *, captions: bool = False) -> DiffusionBatch:
    values = reference.values
    return DiffusionBatch(
        states=values["states"].clone().requires_grad_(),
        images=values["images"],
        sources=values.get("sources"),
        caption_ids=values["caption_ids"] if captions else None,
    )


@torch.no_grad()
def test_conditioning(reference: Reference) -> None:
    decoder, values = reference.decoder, reference.values
    assert relative(decoder.condition(values["states"]), values["mapping_feature"]) < EXACT
    routed = decoder.condition(values["link"][None])
    assert relative(routed, values["link.mapping_feature"]) < EXACT


@torch.no_grad()
def test_text_encoder(generation_reference: Reference) -> None:
    decoder, values = generation_reference.decoder, generation_reference.values
    assert relative(decoder.null_condition(), values["null_embeds"]) < EXACT
    assert relative(decoder.caption_features(values["caption_ids"]), values["caption_embeds"]) < EXACT


def test_schedule(reference: Reference) -> None:
    schedule = training_schedule(reference.decoder.config.parts.scheduler)
    assert relative(schedule.alphas_cumprod, reference.values["alphas_cumprod"]) < EXACT


@torch.no_grad()
def test_noise_prediction(generation_reference: Reference) -> None:
    decoder, values = generation_reference.decoder, generation_reference.values
    condition = decoder.condition(values["states"])
    prediction = decoder.denoise(values["unet.latent"], values["unet.timestep"], condition)
    assert relative(prediction, values["unet.pred"]) < generation_reference.rough


@pytest.mark.parametrize(("case", "rate"), [("plain", 0.0), ("caption", 0.0), ("cfgdrop", 0.41)])
def test_generation_loss(generation_reference: Reference, case: str, rate: float) -> None:
    decoder, values = generation_reference.decoder, generation_reference.values
    given = batch(generation_reference, captions=case == "caption")
    decoder.zero_grad()
    loss = diffusion_loss(decoder, given, drop_rate=rate, draws=Replay(values, case))
    assert relative(loss.total.detach(), values[f"{case}.loss"]) < 1e-4
    assert relative(loss.terms["noise"].detach(), values[f"{case}.image_loss"]) < 1e-4
    if case == "caption":
        assert relative(loss.terms["caption"].detach(), 0.1 * values["caption.caption_loss"]) < EXACT
    loss.total.backward()
    queries = decoder.llm2sd_mapper_queries.grad
    assert given.states.grad is not None
    assert queries is not None
    rough = 3 * generation_reference.rough
    assert relative(given.states.grad, values[f"{case}.grad_states"]) < rough
    assert relative(queries, values[f"{case}.grad_queries"]) < rough


@pytest.mark.parametrize(("case", "rate"), [("plain", 0.0), ("cfgdrop", 0.41)])
@torch.no_grad()
def test_editing_loss(editing_reference: Reference, case: str, rate: float) -> None:
    """The denoiser must be asked the recorded question: noisy latents, input image unless dropped, words
    unless dropped. Then its recorded answer must give the recorded loss."""
    decoder, values = editing_reference.decoder, editing_reference.values
    if not FULL:
        decoder.sd_unet = RecordedUNet([values[f"{case}.pred"]])
        decoder.sd_text_encoder = None
    loss = diffusion_loss(decoder, batch(editing_reference), drop_rate=rate, draws=Replay(values, case))
    assert relative(loss.total, values[f"{case}.loss"]) < EXACT
    if FULL:
        return
    (latents, steps, condition), context = decoder.sd_unet.asked[0], values["context"]  # type: ignore[union-attr]
    chance = values["cfgdrop.chance"]
    wanted = context if rate == 0 else context * ((chance < rate) | (chance >= 3 * rate))[:, None, None, None]
    assert torch.equal(latents[:, 4:], wanted)
    assert torch.equal(steps, values[f"{case}.steps"])
    kept = chance >= 2 * rate
    assert relative(condition[kept], values["mapping_feature"][kept]) < EXACT
    assert torch.equal(condition[~kept], torch.zeros_like(condition[~kept]))


@torch.no_grad()
def test_run(generation_reference: Reference) -> None:
    """Three steps of the default sampler (PNDM makes four calls of them), guidance 7.5."""
    decoder, values = generation_reference.decoder, generation_reference.values
    plan = Plan(size=(64, 64), steps=3, guidance=7.5)
    order = Order(plan=plan, condition=decoder.condition(values["states"])[0], seed=0)
    latents = run_pipeline(decoder, [order], noise=values["run.latents_in"], finish=False)
    assert relative(latents, values["run.latents_out"]) < 3 * generation_reference.rough


@pytest.mark.skipif(not FULL, reason="needs the complete reference: set VISIONLLM_REFERENCE")
@torch.no_grad()
def test_full_reference(editing_reference: Reference, monkeypatch: pytest.MonkeyPatch) -> None:
    """Autoencoder, editing denoiser, and an editing run of three steps with its recorded noise."""
    import diffusers.schedulers.scheduling_euler_ancestral_discrete as ancestral

    decoder, values = editing_reference.decoder, editing_reference.values
    context = decoder.encode(values["sources"]).mode()
    assert relative(context, values["vae.mode"]) < EXACT
    assert relative(decoder.decode(values["unet.latent"] * decoder.scaling), values["vae.decode"]) < EXACT
    condition = decoder.condition(values["states"])
    seen = torch.cat([values["unet.latent"], context], dim=1)
    assert relative(decoder.denoise(seen, values["unet.timestep"], condition), values["unet.pred"]) < EXACT
    draws = [values[f"run.rng.00{number}.randn"] for number in (1, 2, 3)]
    monkeypatch.setattr(ancestral, "randn_tensor", lambda *_, **__: draws.pop(0))
    plan = Plan(size=(64, 64), steps=3, guidance=7.5, image_guidance=1.5)
    source: Image.Image = (values["sources"][0] + 1) / 2  # type: ignore[assignment]  # exact, not 8 bits
    order = Order(plan=plan, condition=condition[0], seed=0, source=source)
    latents = run_pipeline(decoder, [order], noise=values["run.latents_in"], finish=False)
    assert relative(latents, values["run.latents_out"]) < EXACT
