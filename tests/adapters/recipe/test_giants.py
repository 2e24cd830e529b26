"""Shapes that fill a picture."""

from __future__ import annotations

from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from visionllm_adapters.recipe.giants import with_giant
from visionllm_sdk.scenes import SceneOptions, render, sample_scene, truth


@given(st.integers(0, 2**30), st.sampled_from([(128, 128), (240, 120), (96, 160)]))
@settings(max_examples=40, deadline=None)
def test_the_first_shape_fills_much_of_the_picture_and_everything_stays_visible(
    seed: int, canvas: tuple[int, int]
) -> None:
    spec = sample_scene(seed, options=SceneOptions(canvas=canvas, overlap=0.0))
    changed = with_giant(spec, Random(seed))
    shapes = [item for item in spec.objects if not item.is_figure]
    if not shapes:
        assert changed == spec
        return
    giant, *beside = changed.objects
    assert (giant.kind, giant.colour, giant.size) == (shapes[0].kind, shapes[0].colour, "large")
    assert 0.35 * min(canvas) <= giant.diameter <= 0.98 * min(canvas) + 0.01
    assert all(item in spec.objects for item in beside)
    drawn = render(changed)
    alone = render(changed.model_copy(update={"objects": (giant,)}))
    left = drawn.visible[0].sum() / alone.visible[0].sum()
    assert left > 0.85
    known = truth(changed, drawn)
    assert len(known.masks) == len(changed.objects)
    rows, columns = np.nonzero(known.masks[0])
    assert max(np.ptp(rows), np.ptp(columns)) + 1 >= 0.3 * min(canvas)


def test_a_turned_shape_is_cut_off_a_little_at_most() -> None:
    for seed in range(30):
        spec = sample_scene(
            seed, options=SceneOptions(canvas=(128, 128), kinds=("square",), figures=0, objects=(1, 1))
        )
        (giant, *_) = with_giant(spec, Random(seed)).objects
        turn = np.radians(giant.rotation)
        across = giant.diameter * (abs(np.sin(turn)) + abs(np.cos(turn)))
        assert across <= 1.1 * 128
