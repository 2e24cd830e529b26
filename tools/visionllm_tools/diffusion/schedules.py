"""Noise schedules and samplers: the library's scheduler classes under short names.

A scheduler object counts its steps, so every run builds its own from the checkpoint's numbers.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from torch import Tensor

from visionllm_sdk.errors import ConfigError, InputError
from visionllm_tools.diffusion.library import diffusers_class

FLOW: Final = "flow_prediction"


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """A way to walk from noise to a picture.

    Attributes:
        library: class name in the library.
        changes: fields that differ from the checkpoint's schedule.
        flow: works for denoisers trained by flow matching; the others for noise and velocity prediction.
        both: works for either.
        estimates: keeps an estimate of the clean latents after every step.
    """

    library: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    flow: bool = False
    both: bool = False
    estimates: bool = False


SAMPLERS: Final[Mapping[str, Sampler]] = {
    "ddim": Sampler(library="DDIMScheduler", changes={"set_alpha_to_one": False}),
    "ddpm": Sampler(library="DDPMScheduler"),
    "pndm": Sampler(library="PNDMScheduler", changes={"skip_prk_steps": True}),
    "euler": Sampler(library="EulerDiscreteScheduler"),
    "euler_ancestral": Sampler(library="EulerAncestralDiscreteScheduler"),
    "heun": Sampler(library="HeunDiscreteScheduler"),
    "lms": Sampler(library="LMSDiscreteScheduler"),
    "dpmpp_2m": Sampler(library="DPMSolverMultistepScheduler", both=True, estimates=True),
    "unipc": Sampler(library="UniPCMultistepScheduler", both=True, estimates=True),
    "flow_euler": Sampler(
        library="DPMSolverMultistepScheduler", changes={"solver_order": 1}, flow=True, estimates=True
    ),
}

_LIBRARY_NEEDS: Final = {"steps_offset": 1, "clip_sample": False}
"""Otherwise the library's classes start one step late, or clip latents as if they were pixels."""


def sampler_names(schedule: Mapping[str, Any]) -> tuple[str, ...]:
    """The samplers that fit a checkpoint's schedule."""
    flow = schedule.get("prediction_type") == FLOW
    return tuple(name for name, sampler in SAMPLERS.items() if sampler.both or sampler.flow == flow)


def build_scheduler(schedule: Mapping[str, Any], sampler: str | None = None) -> Any:
    """A fresh scheduler.

    Args:
        schedule: the checkpoint's `scheduler` configuration.
        sampler: one of `SAMPLERS`; None takes the class that the configuration names.

    Raises:
        InputError: an unknown sampler, or one for another kind of denoiser.
        ConfigError: the configuration names an unknown class.
        MissingExtraError: the library is not installed.
    """
    if sampler is None:
        name = schedule.get("_class_name", "")
        if name not in {one.library for one in SAMPLERS.values()}:
            raise ConfigError(
                "the noise schedule is of an unknown class",
                value=name,
                limit=", ".join(sorted({one.library for one in SAMPLERS.values()})),
                remedy="Correct _class_name of the scheduler in config.json.",
            )
        return _build(name, {**_LIBRARY_NEEDS, **schedule})
    if sampler not in sampler_names(schedule):
        raise InputError(
            "this checkpoint has no such sampler",
            value=sampler,
            limit=", ".join(sampler_names(schedule)),
            remedy="Choose one of these, or leave it out.",
        )
    chosen = SAMPLERS[sampler]
    flow = {"use_flow_sigmas": schedule.get("prediction_type") == FLOW}
    return _build(chosen.library, {**schedule, **_LIBRARY_NEEDS, **flow, **chosen.changes})


def training_schedule(schedule: Mapping[str, Any]) -> Any:
    """The schedule by which noise is added in training, for noise and velocity prediction (DDPM)."""
    return _build("DDPMScheduler", {**schedule, "clip_sample": False})


def clean_estimate(scheduler: Any, latents: Tensor) -> Tensor:
    """What the latents will look like at the end, as far as the scheduler can tell; else the latents."""
    outputs = getattr(scheduler, "model_outputs", None)
    known = {one.library for one in SAMPLERS.values() if one.estimates}
    if type(scheduler).__name__ in known and outputs and outputs[-1] is not None:
        estimate: Tensor = outputs[-1]
        return estimate
    return latents


def _build(name: str, numbers: Mapping[str, Any]) -> Any:
    kind = diffusers_class(name)
    known = inspect.signature(kind.__init__).parameters
    return kind(**{key: value for key, value in numbers.items() if key in known})
