"""Losses of decoders, fitted to their size: what teaches a large detector wastes a small one's time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from visionllm_adapters.training.settings import FinetuneSettings
from visionllm_adapters.training.sizes import SMALL_DECODER
from visionllm_sdk.model.assembly import Model
from visionllm_tools.detection.denoising import DenoisingConfig
from visionllm_tools.detection.loss import LossConfig
from visionllm_tools.detection.tool import DetectionTool
from visionllm_tools.diffusion.few_steps import MostlyNoise, clean_error
from visionllm_tools.diffusion.hints import Hints
from visionllm_tools.diffusion.schedules import FLOW
from visionllm_tools.diffusion.tool import DiffusionTool, Lesson

_POINTS: Final = 784
_COPIES: Final = 48
_LOOKS: Final = 4
"""A small denoiser costs less than the words that lead to it: it looks at every picture several times."""


def fit_losses(model: Model, tools: Sequence[str], settings: FinetuneSettings) -> None:
    """Give small detectors, and denoisers that follow a flow, the loss that the embedded model's learnt from.

    Args:
        model: its tools' loss settings are changed.
        tools: names of the tools that learn.
        settings: `points` overrides the number of mask points.
    """
    for name in tools:
        tool = model.tools[name]
        if isinstance(tool, DiffusionTool) and tool.config.parts.scheduler.get("prediction_type") == FLOW:
            hints = None if tool.needs_image else Hints(tool.decoder)
            tool.lesson = Lesson(draws=MostlyNoise(), weigh=clean_error, hints=hints, looks=_LOOKS)
        if not isinstance(tool, DetectionTool):
            continue
        small = tool.decoder.config.shortest_edge < SMALL_DECODER
        points = settings.points or (_POINTS if small else LossConfig().points)
        if small:
            tool.loss_config = LossConfig(points=points, mask_layers=1, mask_encoder=False, one_to_many=4)
            tool.denoising = DenoisingConfig(queries=_COPIES)
        else:
            tool.loss_config = LossConfig(points=points)
