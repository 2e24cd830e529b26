"""Marks on drawn pictures: what a user would draw on one object, as the region encoder reads it."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
import torch
from torch import Tensor

from visionllm_adapters.recipe.pictures import Drawn
from visionllm_adapters.recipe.symbols import MAX_STRETCH
from visionllm_adapters.recipe.train_vision import TILE
from visionllm_sdk.geometry import Box, Region
from visionllm_sdk.model.tiling import canvas_of
from visionllm_sdk.regions import rasterise
from visionllm_sdk.scenes.regions import REGION_KINDS, region_prompt
from visionllm_sdk.scenes.spec import Background, SceneSpec
from visionllm_sdk.scenes.truth import SceneTruth, mask_boxes


def marks(drawn: Sequence[Drawn], regions: Sequence[tuple[int, int]], rng: Random) -> Tensor:
    """Region prompts over the thumbnail: (R, TILE, TILE) float, 1 inside.

    Args:
        drawn: the pictures.
        regions: (picture, index of the object) of each prompt.
        rng: chooses how each object is marked.
    """
    made = [_mark(drawn[row], index, rng) for row, index in regions]
    return torch.from_numpy(np.stack(made)).float() if made else torch.zeros(0, TILE, TILE)


def _mark(one: Drawn, index: int, rng: Random) -> np.ndarray:
    height, width = one.image.shape[:2]
    region: Region
    if one.masks[index].any():
        known = SceneTruth(
            spec=SceneSpec(
                width=width, height=height, background=Background(kind="plain", tones=((0, 0, 0),))
            ),
            boxes=mask_boxes(one.masks),
            masks=one.masks,
            keypoints=(),
        )
        region = region_prompt(known, index, rng.choice(REGION_KINDS), seed=rng.getrandbits(32))
    else:  # what is left of it vanished when the picture was shrunk
        across, down = width / one.facts.width, height / one.facts.height
        x1, y1, x2, y2 = one.facts.objects[index].box
        region = Box(x1 * across, y1 * down, x2 * across, y2 * down)
    return rasterise(region, (width, height), TILE, max_stretch=MAX_STRETCH)


def frames(drawn: Sequence[Drawn], regions: Sequence[tuple[int, int]]) -> Tensor:
    """Where the picture of each region prompt lies on its thumbnail: (R, 4) left, top, width, height."""
    known = [
        canvas_of(one.image.shape[1], one.image.shape[0], max_stretch=MAX_STRETCH).frame for one in drawn
    ]
    return torch.tensor([known[row] for row, _ in regions]).reshape(-1, 4)
