from __future__ import annotations

import pytest
import torch

from visionllm_sdk.errors import ConfigError, InputError
from visionllm_tools.diffusion.embedded import embedded_section
from visionllm_tools.diffusion.released import EDITING_SCHEDULER, SCHEDULER
from visionllm_tools.diffusion.schedules import SAMPLERS, build_scheduler, clean_estimate, sampler_names

FLOW = embedded_section(16)["visionllm_sdk"]["scheduler"]


def test_the_default_is_the_class_that_the_configuration_names() -> None:
    assert type(build_scheduler(SCHEDULER)).__name__ == "PNDMScheduler"
    assert type(build_scheduler(EDITING_SCHEDULER)).__name__ == "EulerAncestralDiscreteScheduler"
    assert type(build_scheduler(FLOW)).__name__ == "UniPCMultistepScheduler"


@pytest.mark.parametrize("schedule", [SCHEDULER, EDITING_SCHEDULER, FLOW])
def test_every_offered_sampler_can_be_built(schedule: dict[str, object]) -> None:
    for name in sampler_names(schedule):
        scheduler = build_scheduler(schedule, name)
        assert type(scheduler).__name__ == SAMPLERS[name].library
        assert scheduler.config.prediction_type == schedule["prediction_type"]


def test_flow_and_noise_need_their_own_samplers() -> None:
    assert set(sampler_names(FLOW)) == {"dpmpp_2m", "unipc", "flow_euler"}
    assert "flow_euler" not in sampler_names(SCHEDULER)
    with pytest.raises(InputError, match="euler_ancestral"):
        build_scheduler(SCHEDULER, "flow_euler")
    with pytest.raises(InputError, match="no such sampler"):
        build_scheduler(FLOW, "euler")


def test_unknown_names() -> None:
    with pytest.raises(InputError, match="no such sampler"):
        build_scheduler(SCHEDULER, "Euler a")
    with pytest.raises(ConfigError, match="unknown class"):
        build_scheduler({**SCHEDULER, "_class_name": "AutoencoderKL"})


@pytest.mark.parametrize("name", ["unipc", "dpmpp_2m", "flow_euler"])
def test_flow_samplers_walk_a_straight_line_exactly(name: str) -> None:
    """With the true direction as prediction, any number of steps ends at the picture, and every estimate of
    it on the way is right."""
    clean, noise = torch.randn(2, 1, 3, 4, 4).unbind()
    scheduler = build_scheduler(FLOW, name)
    scheduler.set_timesteps(4)
    latents = noise
    for time in scheduler.timesteps:
        latents = scheduler.step(noise - clean, time, latents, return_dict=False)[0]
        assert torch.allclose(clean_estimate(scheduler, latents), clean, atol=1e-2)
    assert torch.allclose(latents, clean, atol=1e-2)


def test_samplers_without_estimates_show_the_latents() -> None:
    latents = torch.randn(1, 4, 8, 8)
    assert clean_estimate(build_scheduler(SCHEDULER), latents) is latents
