from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.sdk.model.reference import GOLDENS, golden
from visionllm_sdk.errors import ImageError, LimitError
from visionllm_sdk.model.tiling import (
    candidate_grids,
    canvas_of,
    choose_grid,
    cut_tiles,
    pad_to_square,
    resize_bicubic,
    thumbnail_mask,
    tile_array,
)

RECORDED = json.loads((GOLDENS / "golden_preprocess.json").read_text())
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def test_grids_equal_the_recorded_choice():
    for case in RECORDED["cases"]:
        grid = choose_grid(case["w"], case["h"], max_tiles=case["max_num"], tile_size=case["size"])
        assert list(grid) == case["grid"], case


@pytest.mark.parametrize("tiles", [4, 6])
def test_candidates_equal_the_recorded_ones(tiles: int):
    assert set(candidate_grids(tiles)) == {tuple(grid) for grid in RECORDED["candidates"][f"max{tiles}"]}


@pytest.mark.parametrize("case", [0, 1, 2])
def test_tiles_equal_the_recorded_pixels(case: int):
    values = golden("golden_preprocess_images")
    image = Image.fromarray(values[f"{case}.image_u8"].numpy())
    tiles = cut_tiles(image, max_tiles=4, tile_size=56)
    assert (np.stack([np.asarray(tile) for tile in tiles]) == values[f"{case}.tiles_u8"].numpy()).all()
    pixels = tile_array(tiles, mean=MEAN, std=STD)
    np.testing.assert_allclose(pixels[:, :, ::8], values[f"{case}.pixel_values"].numpy(), atol=1e-6)


@pytest.mark.parametrize("case", [0, 1, 2])
def test_padded_square_equals_the_recorded_pixels(case: int):
    values = golden("golden_preprocess_images")
    image = Image.fromarray(values[f"{case}.image_u8"].numpy())
    square = pad_to_square(image, (122, 116, 104))
    assert (np.asarray(square) == values[f"{case}.square_u8"].numpy()).all()
    pixels = tile_array([resize_bicubic(square, 56, 56)], mean=MEAN, std=STD)[0]
    np.testing.assert_allclose(pixels[:, ::8], values[f"{case}.pad_pixel_values"].numpy(), atol=1e-6)


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 12), st.sampled_from([56, 224, 336, 448]))
def test_the_chosen_grid_is_allowed_and_no_other_is_closer(width: int, height: int, most: int, size: int):
    columns, rows = choose_grid(width, height, max_tiles=most, tile_size=size)
    assert 1 <= columns * rows <= most
    distance = abs(width / height - columns / rows)
    assert all(distance <= abs(width / height - other[0] / other[1]) for other in candidate_grids(most))


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 6))
def test_tiles_are_equally_large_and_the_thumbnail_is_last(width: int, height: int, most: int):
    image = Image.new("RGB", (width, height), (10, 20, 30))
    tiles = cut_tiles(image, max_tiles=most, tile_size=32)
    columns, rows = choose_grid(width, height, max_tiles=most, tile_size=32)
    assert len(tiles) == (1 if columns * rows == 1 else columns * rows + 1)
    assert {tile.size for tile in tiles} == {(32, 32)}


@given(st.integers(1, 60), st.integers(1, 60), st.data())
def test_a_region_never_vanishes(width: int, height: int, data: st.DataObject):
    mask = np.zeros((height, width), dtype=bool)
    mask[data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))] = True
    assert thumbnail_mask(mask, 16).any()


def test_an_empty_mask_stays_empty():
    assert not thumbnail_mask(np.zeros((9, 9), dtype=bool), 16).any()


@pytest.mark.parametrize("tiles", [0, -1, 65])
def test_impossible_tile_counts_are_refused(tiles: int):
    with pytest.raises(LimitError, match="1 to 64"):
        candidate_grids(tiles)


def test_an_empty_image_is_refused():
    with pytest.raises(ImageError, match="at least 1x1"):
        choose_grid(0, 5, max_tiles=4, tile_size=56)


@given(st.integers(1, 2000), st.integers(1, 2000), st.sampled_from([(1, 1), (2, 1), (1, 3)]), st.floats(1, 4))
def test_a_canvas_holds_the_image_and_stretches_it_no_further(
    width: int, height: int, grid: tuple[int, int], most: float
):
    canvas = canvas_of(width, height, grid=grid, max_stretch=most)
    assert canvas.width >= width
    assert canvas.height >= height
    assert (canvas.width == width) or (canvas.height == height)
    assert abs(canvas.width - width - 2 * canvas.left) <= 1
    assert abs(canvas.height - height - 2 * canvas.top) <= 1
    stretch = canvas.width / canvas.height * grid[1] / grid[0]
    rounding = 1 + 1 / min(canvas.width, canvas.height)
    assert 1 / (most * rounding) <= stretch <= most * rounding


@given(st.integers(1, 2000), st.integers(1, 2000))
def test_the_released_form_has_no_margins(width: int, height: int):
    canvas = canvas_of(width, height)
    assert (canvas.width, canvas.height, canvas.frame) == (width, height, (0.0, 0.0, 1.0, 1.0))


@pytest.mark.parametrize("size", [(90, 30), (30, 90), (50, 49)])
def test_margins_are_as_wide_as_needed_and_of_their_colour(size: tuple[int, int]):
    image = Image.new("RGB", size, (200, 10, 20))
    (tile,) = cut_tiles(image, max_tiles=1, tile_size=64, max_stretch=1.5, fill=(1, 2, 3))
    seen = (np.asarray(tile) == (200, 10, 20)).all(-1)
    inside = (np.asarray(tile) == (1, 2, 3)).all(-1)
    ratio = max(size) / min(size)
    assert seen.mean() == pytest.approx(min(1.0, 1.5 / ratio), abs=0.07)
    assert inside.any() == (ratio > 1.5)


@pytest.mark.parametrize("size", [(700, 3), (3, 700), (300, 1), (1, 300), (90, 30), (30, 90), (50, 49)])
@pytest.mark.parametrize("most", [1, 4])
def test_long_narrow_images_are_shrunk_before_they_get_margins(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], most: int
):
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    settings = {"max_tiles": most, "tile_size": 56, "max_stretch": 1.4, "fill": (1, 2, 3)}
    image = Image.fromarray(noise)
    whole = cut_tiles(image, **settings)
    monkeypatch.setattr("visionllm_sdk.model.tiling._LARGE", 0)
    narrow = cut_tiles(image, **settings)
    assert [tile.tobytes() for tile in whole] == [tile.tobytes() for tile in narrow]


@pytest.mark.parametrize("size", [(24_000, 100), (100, 24_000), (32_768, 1), (1, 32_768)])
def test_no_canvas_of_a_long_narrow_image_stands_in_full(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
):
    laid_out = []

    def new(mode: str, size: tuple[int, int], fill: tuple[int, int, int]) -> Image.Image:
        laid_out.append(size[0] * size[1])
        return image_new(mode, size, fill)

    image_new = Image.new
    image = Image.new("RGB", size, (200, 10, 20))
    monkeypatch.setattr(Image, "new", new)
    (tile,) = cut_tiles(image, max_tiles=1, tile_size=56, max_stretch=1.4)
    assert tile.size == (56, 56)
    assert max(laid_out) < 4_000_000


@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([None, 1.0, 1.4]), st.integers(0, 2**16))
def test_margins_around_a_mask_are_zeros(width: int, height: int, most: float | None, seed: int):
    canvas = canvas_of(width, height, max_stretch=most)
    mask = np.random.default_rng(seed).random((height, width)) < 0.4
    spread = np.zeros((canvas.height, canvas.width), dtype=bool)
    spread[canvas.top : canvas.top + height, canvas.left : canvas.left + width] = mask
    assert (thumbnail_mask(mask, 16, canvas) == thumbnail_mask(spread, 16)).all()


def test_tiles_of_a_grid_get_margins_of_their_own():
    tiles = cut_tiles(Image.new("RGB", (300, 100), (200, 10, 20)), max_tiles=2, tile_size=32, max_stretch=1.2)
    assert len(tiles) == 3
    assert all((np.asarray(tile)[0] == 0).all() for tile in tiles)
    assert all((np.asarray(tile)[16] == (200, 10, 20)).all() for tile in tiles)
