"""The scenes that replay draws, and what its tools should find in them."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

import torch
from PIL import Image

from visionllm_sdk.scenes import SceneOptions, render, sample_scene, training_seed, truth
from visionllm_sdk.scenes.truth import SceneTruth
from visionllm_tools.detection.options import DetectionTruth

_FIRST: Final = 700_000_000
_SPAN: Final = 100_000_000
"""Training seeds that only replay draws from."""
_SIDES: Final = (128, 320)
_FIGURES: Final = 0.12
"""Share of things that are figures."""


def replayed_scene(random: Random, *, figures: float = _FIGURES) -> tuple[SceneTruth, Image.Image]:
    """A scene that only replay draws, and its picture; `figures`: share of things that have keypoints."""
    options = SceneOptions(sides=_SIDES, max_aspect=1.6, figures=figures)
    spec = sample_scene(training_seed(_FIRST + random.randrange(_SPAN)), options=options)
    drawn = render(spec)
    return truth(spec, drawn), drawn.image


def detected(known: SceneTruth, places: Sequence[int], labels: Sequence[int]) -> DetectionTruth:
    """Things of a scene by their places, as the answers to labels of those numbers."""
    index = torch.tensor(places, dtype=torch.long)
    return DetectionTruth(
        boxes=torch.from_numpy(known.boxes)[index].reshape(-1, 4).float(),
        labels=torch.tensor(labels, dtype=torch.long),
        masks=torch.from_numpy(known.masks)[index],
    )
