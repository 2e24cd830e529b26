from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionllm_sdk.errors import InputError
from visionllm_sdk.geometry import Box, Mask, Point, Scribble
from visionllm_sdk.scenes import SceneOptions, SceneTruth, render, sample_scene, truth
from visionllm_sdk.scenes.regions import region_prompt


def known_of(seed: int) -> SceneTruth:
    spec = sample_scene(seed, options=SceneOptions(canvas=(128, 128), objects=(1, 5), figures=0.2))
    return truth(spec, render(spec))


@given(st.integers(0, 2**30))
@settings(max_examples=40, deadline=None)
def test_prompts_lie_on_their_object(seed: int) -> None:
    known = known_of(seed)
    for index, mask in enumerate(known.masks):
        assert np.array_equal(region_prompt(known, index, "mask", seed=seed).to_numpy(), mask)
        point = region_prompt(known, index, "point", seed=seed)
        assert mask[int(point.y), int(point.x)]
        for spot in region_prompt(known, index, "scribble", seed=seed).points:
            assert mask[int(spot.y), int(spot.x)]
        box = region_prompt(known, index, "box", seed=seed)
        assert box.iou(Box(*known.boxes[index].tolist())) > 0.8


def test_scribbles_are_lines() -> None:
    lengths = []
    for seed in range(30):
        known = known_of(seed)
        for index in range(len(known.masks)):
            lengths.append(len(region_prompt(known, index, "scribble", seed=seed).points))
    assert np.mean(lengths) > 4


@pytest.mark.parametrize(
    ("kind", "made"), [("mask", Mask), ("box", Box), ("point", Point), ("scribble", Scribble)]
)
def test_a_seed_fixes_the_prompt(kind: str, made: type) -> None:
    known = known_of(4)
    first, again, other = (region_prompt(known, 0, kind, seed=seed) for seed in (1, 1, 2))
    assert isinstance(first, made)
    assert first == again
    assert kind == "mask" or first != other


def test_careful_boxes_are_exact() -> None:
    known = known_of(4)
    assert region_prompt(known, 0, "box", seed=0, careless=0.0).xyxy == tuple(known.boxes[0].tolist())


def test_nothing_visible_cannot_be_pointed_at() -> None:
    known = known_of(4)
    empty = SceneTruth(
        spec=known.spec, boxes=known.boxes, masks=np.zeros_like(known.masks), keypoints=known.keypoints
    )
    with pytest.raises(InputError, match="visible"):
        region_prompt(empty, 0, "point", seed=0)
