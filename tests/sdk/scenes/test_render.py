from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionllm_sdk.scenes import SceneOptions, SceneSpec, render, sample_scene
from visionllm_sdk.scenes.render import on_canvas, visible_masks
from visionllm_sdk.scenes.spec import BACKGROUND_KINDS, Background, Effects, ObjectSpec

GRAY = Background(kind="plain", tones=((128, 128, 128),))


def disc(x: float, y: float, diameter: float, rgb: tuple[int, int, int] = (200, 10, 10)) -> ObjectSpec:
    return ObjectSpec(kind="circle", colour="red", rgb=rgb, size="large", centre=(x, y), diameter=diameter)


def scene(*objects: ObjectSpec, **values: object) -> SceneSpec:
    return SceneSpec(width=64, height=48, objects=objects, **({"background": GRAY} | values))


def test_an_empty_scene_is_its_background() -> None:
    drawn = render(scene())
    assert drawn.image.size == (64, 48)
    assert drawn.visible.shape == (0, 48, 64)
    assert (np.asarray(drawn.image) == 128).all()


def test_the_upper_object_takes_the_pixels() -> None:
    drawn = render(scene(disc(30, 24, 30), disc(36, 24, 20, (0, 0, 250))))
    assert not (drawn.visible[0] & drawn.visible[1]).any()
    assert np.array_equal(drawn.visible[1], drawn.amodal[1])
    assert np.array_equal(drawn.visible[0], drawn.amodal[0] & ~drawn.amodal[1])
    pixels = np.asarray(drawn.image)
    assert pixels[24, 36].tolist() == [0, 0, 250]
    assert pixels[24, 18].tolist() == [200, 10, 10]


def test_edges_are_smooth_and_masks_cut_at_half() -> None:
    drawn = render(scene(disc(32, 24, 30)))
    red = np.asarray(drawn.image)[..., 0].astype(int)
    share = (red - 128) / (200 - 128)
    assert ((share > 0.1) & (share < 0.9)).sum() > 20
    clear = np.abs(share - 0.5) > 0.02
    assert np.array_equal(drawn.visible[0][clear], (share > 0.5)[clear])


def test_what_lies_beyond_the_border_is_counted_but_not_drawn() -> None:
    drawn = render(scene(disc(0, 24, 20), disc(-100, -100, 20)))
    assert drawn.amodal[0].sum() == pytest.approx(drawn.areas[0] / 2, rel=0.05)
    assert drawn.amodal[1].sum() == 0
    assert drawn.areas[1] == pytest.approx(np.pi * 100, rel=0.03)


@given(st.integers(0, 2**30))
@settings(max_examples=40, deadline=None)
def test_visible_parts_never_overlap_and_cover_what_is_drawn(seed: int) -> None:
    drawn = render(sample_scene(seed, options=SceneOptions(canvas=(96, 96), overlap=1.0)))
    assert drawn.visible.sum(axis=0).max(initial=0) <= 1
    assert np.array_equal(drawn.visible.any(axis=0), drawn.amodal.any(axis=0))
    assert (drawn.visible & ~drawn.amodal).sum() == 0


def test_visible_masks_of_three_layers() -> None:
    layers = np.array([[[1, 1, 1, 0]], [[0, 1, 0, 1]], [[0, 0, 1, 1]]], dtype=bool)
    assert visible_masks(layers).astype(int).tolist() == [[[1, 0, 0, 0]], [[0, 1, 0, 0]], [[0, 0, 1, 1]]]


@pytest.mark.parametrize("kind", [*BACKGROUND_KINDS, "grid"])
def test_backgrounds_stay_between_their_tones(kind: str) -> None:
    tones = ((200, 180, 40), (180, 220, 90))
    background = Background(kind=kind, tones=tones, angle=20, period=9, seed=3)
    pixels = np.asarray(render(scene(background=background)).image).reshape(-1, 3)
    low, high = np.minimum(*tones), np.maximum(*tones)
    assert ((pixels >= low - 3) & (pixels <= high + 3)).all()
    assert (len(np.unique(pixels, axis=0)) == 1) == (kind == "plain")


def test_clutter_is_full_of_edges_in_its_own_tones_and_fixed_by_its_seed() -> None:
    tones = ((150, 120, 60), (110, 140, 80), (170, 150, 110), (90, 80, 60))
    specs = [
        scene(background=Background(kind="clutter", tones=tones, period=24, seed=seed)) for seed in (1, 1, 2)
    ]
    pictures = [np.asarray(render(spec).image).astype(float) for spec in specs]
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])
    for picture in pictures:
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 200
        assert np.abs(np.diff(picture, axis=1)).mean() > 2
        red, _, blue = picture.mean(axis=(0, 1))
        assert red > blue + 15  # light and grain are grey: the earthen tones stay earthen


def test_stripes_and_checks_have_both_tones_in_equal_share() -> None:
    for kind in ("stripes", "checks"):
        background = Background(kind=kind, tones=((0, 0, 0), (200, 200, 200)), period=8, angle=0)
        pixels = np.asarray(render(scene(background=background)).image)
        assert pixels.mean() == pytest.approx(100, abs=8)


def test_noise_has_the_asked_deviation_and_a_seed() -> None:
    specs = [scene(effects=Effects(noise=8, seed=seed)) for seed in (1, 1, 2)]
    noisy = [np.asarray(render(spec).image).astype(float) for spec in specs]
    assert np.array_equal(noisy[0], noisy[1])
    assert not np.array_equal(noisy[0], noisy[2])
    assert noisy[0].std() == pytest.approx(8, rel=0.05)
    assert noisy[0].mean() == pytest.approx(128, abs=0.5)


def test_blur_and_jpeg_change_pixels_but_not_masks() -> None:
    sharp = render(scene(disc(32, 24, 30)))
    for effects in (Effects(blur=1.5), Effects(jpeg=40), Effects(blur=1, noise=4, jpeg=70)):
        soft = render(scene(disc(32, 24, 30), effects=effects))
        assert soft.image.tobytes() != sharp.image.tobytes()
        assert np.array_equal(soft.visible, sharp.visible)


@given(st.integers(-30, 40), st.integers(-30, 40), st.integers(1, 25), st.integers(1, 25))
def test_on_canvas_pairs_the_same_pixels(left: int, top: int, height: int, width: int) -> None:
    canvas = np.zeros((20, 30), dtype=int)
    crop = np.arange(height * width).reshape(height, width) + 1
    target, source = on_canvas(left, top, crop.shape, canvas.shape)
    canvas[target] = crop[source]
    for y, x in np.argwhere(canvas):
        assert canvas[y, x] == crop[y - top, x - left]
    inside_y = max(0, min(top + height, 20) - max(top, 0))
    inside_x = max(0, min(left + width, 30) - max(left, 0))
    assert (canvas > 0).sum() == inside_y * inside_x
