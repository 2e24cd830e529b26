"""Every skill that labelled data can measure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from visionllm_adapters.scoring import pictures, regions, skills
from visionllm_adapters.scoring.score import Score

Measure = Callable[..., Score]
MEASURES: Final[Mapping[str, Measure]] = {
    "detect": skills.detect,
    "ground": skills.ground,
    "pose": skills.pose,
    "vqa": skills.vqa,
    "caption": skills.caption,
    "describe": regions.describe,
    "classify": regions.classify,
    "segment_regions": regions.segment_regions,
    "generate": pictures.generate,
    "edit": pictures.edit,
}
"""By the name of the skill: (model, data, adapter, batch) -> score."""
