"""Region prompts: checks, rasterising, short forms, content blocks, and their places in a question."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from visionllm_sdk.errors import ImageError, InputError, LimitError, RegionError
from visionllm_sdk.model.conversation import region_parts
from visionllm_sdk.model.tokenizer import Control
from visionllm_sdk.regions import (
    MAX_REGIONS,
    Box,
    Mask,
    Point,
    Region,
    Scribble,
    check_region,
    check_regions,
    parse_region,
    question_with_regions,
    rasterise,
    region_block,
    region_name,
    region_number,
)

SIZE = (40, 20)
SIDES = st.integers(1, 90)


def full(width: int, height: int) -> Mask:
    return Mask.from_numpy(np.ones((height, width), dtype=bool))


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (Box(3, 3, 3, 9), "the box is empty"),
        (Box(-1, 0, 9, 9), "reaches outside the image"),
        (Box(0, 0, 40, 20.5), "reaches outside the image"),
        (Box(100, 100, 200, 200), "reaches outside the image"),
        (Point(40.1, 5), "the point lies outside"),
        (Point(5, -0.1), "the point lies outside"),
        (Scribble([(1, 1), (50, 1)]), "the point lies outside"),
        (full(20, 40), "the mask is not of the image's size"),
        (Mask.from_numpy(np.zeros((20, 40), dtype=bool)), "the mask is empty"),
        ((1, 2, 3, 4), "not a region prompt"),
        (None, "not a region prompt"),
        ("box", "not a region prompt"),
    ],
)
def test_prompts_that_do_not_fit(region: object, message: str):
    with pytest.raises(RegionError, match=message):
        check_region(region, SIZE)
    with pytest.raises(RegionError, match=f"region 1: .*{message}"):
        check_regions([Point(1, 1), region], SIZE)


def test_no_region_and_too_many():
    with pytest.raises(RegionError, match="there is no region"):
        check_regions([], SIZE)
    with pytest.raises(LimitError, match="too many regions"):
        check_regions([Point(1, 1)] * (MAX_REGIONS + 1), SIZE)
    assert check_regions(Point(1, 1), SIZE) == (Point(1, 1),)


@pytest.mark.parametrize("corner", [(0, 0), (40, 0), (0, 20), (40, 20)])
def test_points_on_the_border_mark_the_pixels_there(corner: tuple[float, float]):
    found = rasterise(Point(*corner), SIZE, 16)
    assert found.sum() == 1
    assert found[15 if corner[1] else 0, 15 if corner[0] else 0]


def test_a_point_is_three_pixels_wide():
    found = rasterise(Point(20.0 / 16 * 5.5, 5.5), (20, 16), 16)
    assert found.sum() == 9
    assert found[4:7, 4:7].all()


@given(SIDES, SIDES, st.data())
def test_a_box_equals_the_mask_of_its_pixels(width: int, height: int, data: st.DataObject):
    """Boxes on pixel borders, shrunk or of the thumbnail's own size: two ways to the same mask."""
    side = data.draw(st.integers(1, min(width, height)))
    x1, y1 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x2, y2 = data.draw(st.integers(x1 + 1, width)), data.draw(st.integers(y1 + 1, height))
    pixels = np.zeros((height, width), dtype=bool)
    pixels[y1:y2, x1:x2] = True
    box = rasterise(Box(x1, y1, x2, y2), (width, height), side)
    mask = rasterise(Mask.from_numpy(pixels), (width, height), side)
    assert box.any()
    assert mask.any()
    assert (box == mask).all()


@given(SIDES, SIDES, st.integers(8, 64), st.data())
def test_every_prompt_aligns_with_the_thumbnail(width: int, height: int, side: int, data: st.DataObject):
    """The picture and the prompt are shrunk alike: the middle of what is marked stays where it was."""
    x = data.draw(st.floats(0, width, allow_subnormal=False))
    y = data.draw(st.floats(0, height, allow_subnormal=False))
    pixels = np.zeros((height, width), dtype=bool)
    row, column = min(int(y), height - 1), min(int(x), width - 1)
    pixels[row, column] = True
    prompts: list[Region] = [
        Point(x, y),
        Scribble([(x, y)]),
        Box(column, row, column + 1, row + 1),
        Mask.from_numpy(pixels),
    ]
    for prompt in prompts:
        found = rasterise(prompt, (width, height), side)
        rows, columns = np.nonzero(found)
        assert found.shape == (side, side)
        slack_x, slack_y = 1.01 + side / width, 1.01 + side / height
        assert abs(columns.mean() + 0.5 - x * side / width) <= slack_x
        assert abs(rows.mean() + 0.5 - y * side / height) <= slack_y


@pytest.mark.parametrize("stretch", [None, 1.0, 1.4])
@pytest.mark.parametrize("size", [(300, 100), (100, 300), (64, 64), (17, 640)])
def test_a_mask_lies_over_what_it_marks_in_the_thumbnail(size: tuple[int, int], stretch: float | None):
    from visionllm_sdk.model.tiling import cut_tiles

    width, height = size
    pixels = np.zeros((height, width), dtype=bool)
    pixels[height // 5 : height // 2, width // 2 : width * 4 // 5] = True
    picture = Image.fromarray(np.where(pixels[..., None], 255, 0).astype(np.uint8).repeat(3, 2))
    tiles = cut_tiles(picture, max_tiles=4, tile_size=64, max_stretch=stretch)
    thumbnail = np.asarray(tiles[-1])[..., 0] > 127
    found = rasterise(Mask.from_numpy(pixels), size, 64, max_stretch=stretch)
    assert (found != thumbnail).sum() <= 0.02 * found.size
    box = Box(width // 2, height // 5, width * 4 // 5, height // 2)
    assert (rasterise(box, size, 64, max_stretch=stretch) != found).sum() <= 0.02 * found.size


@pytest.mark.parametrize("size", [(24_000, 4), (4, 24_000)])
def test_a_mask_of_a_long_narrow_image_takes_little_memory(size: tuple[int, int]):
    """With margins the image has 411 million pixels."""
    mask = full(*size)
    tracemalloc.start()
    found = rasterise(mask, size, 32, max_stretch=1.4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.any()
    assert peak < 50_000_000


@pytest.mark.parametrize("stretch", [1.0, 1.4])
@pytest.mark.parametrize("size", [(300, 100), (100, 300)])
def test_points_find_their_place_between_the_margins(size: tuple[int, int], stretch: float):
    from visionllm_sdk.model.tiling import canvas_of

    for x, y in ((0.25, 0.5), (0.9, 0.1), (0.0, 1.0)):
        place = (x * size[0], y * size[1])
        left, top, width, height = canvas_of(*size, max_stretch=stretch).frame
        for prompt in (Point(*place), Scribble([place, place])):
            rows, columns = np.nonzero(rasterise(prompt, size, 64, max_stretch=stretch))
            assert columns.mean() + 0.5 == pytest.approx(64 * (left + width * x), abs=2)
            assert rows.mean() + 0.5 == pytest.approx(64 * (top + height * y), abs=2)


def test_a_scribble_is_connected_and_passes_its_points():
    from scipy import ndimage

    path = [(2, 2), (38, 2), (38, 18), (20, 10)]
    found = rasterise(Scribble(path), SIZE, 32)
    assert ndimage.label(found, np.ones((3, 3)))[1] == 1
    for x, y in path:
        assert found[int(y * 32 / 20), int(x * 32 / 40)]
    assert not found[16:20, 2:8].any()


def test_tiny_regions_never_vanish():
    assert rasterise(Box(3.2, 3.2, 3.3, 3.3), (640, 640), 16).sum() == 1
    line = np.zeros((900, 900), dtype=bool)
    line[450] = True
    found = rasterise(Mask.from_numpy(line), (900, 900), 30)
    assert found[15].all()
    assert found.sum() == 30


def test_short_forms(tmp_path: Path):
    assert parse_region("box:1,2,3.5,4") == Box(1, 2, 3.5, 4)
    assert parse_region(" Point : 3, 4") == Point(3, 4)
    assert parse_region("scribble:1,2;3,4;") == Scribble([(1, 2), (3, 4)])
    pixels = np.zeros((5, 7), dtype=np.uint8)
    pixels[2, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    assert parse_region(f"mask:{tmp_path / 'mask.png'}") == Mask.from_numpy(pixels)


@pytest.mark.parametrize(
    "text", ["", "box", "box:1,2,3", "box:1,2,3,4,5", "circle:1,2", "point:a,b", "point:nan,1", "scribble:"]
)
def test_bad_short_forms(text: str):
    with pytest.raises(InputError):
        parse_region(text)


def test_mask_files_are_read_as_they_are_stored(tmp_path: Path):
    pixels = np.zeros((20, 20), dtype=np.uint16)
    pixels[4:9, 7:12] = 1
    Image.fromarray(pixels).save(tmp_path / "ids.png")
    assert parse_region(f"mask:{tmp_path / 'ids.png'}") == Mask.from_numpy(pixels)
    cut = np.zeros((20, 20, 4), dtype=np.uint8)
    cut[4:9, 7:12] = 255
    Image.fromarray(cut).save(tmp_path / "cut.png")
    assert parse_region(f"mask:{tmp_path / 'cut.png'}") == Mask.from_numpy(pixels)


def test_a_mask_file_must_exist():
    with pytest.raises(ImageError, match="does not exist"):
        parse_region("mask:nowhere.png")


def test_content_blocks():
    block = region_block({"type": "region", "region": {"type": "point", "x": 1, "y": 2}, "image": 1})
    assert block.region == Point(1, 2)
    assert block.image == 1
    assert region_block(block.model_dump()) == block
    mask = full(4, 3)
    assert region_block({"type": "region", "region": mask.model_dump()}).region == mask


@pytest.mark.parametrize(
    "block",
    [
        {},
        {"type": "region"},
        {"type": "image", "region": {"type": "point", "x": 1, "y": 2}},
        {"type": "region", "region": {"type": "circle", "x": 1, "y": 2}},
        {"type": "region", "region": {"type": "box", "x1": 5, "y1": 0, "x2": 1, "y2": 1}},
        {"type": "region", "region": {"type": "mask", "size": [2, 2], "counts": "zzz"}},
        {"type": "region", "region": {"type": "point", "x": 1, "y": 2}, "image": -1},
        {"type": "region", "region": {"type": "point", "x": 1, "y": 2}, "label": "dog"},
    ],
)
def test_bad_content_blocks(block: dict[str, object]):
    with pytest.raises(InputError):
        region_block(block)


@given(st.integers(0, 10_000))
def test_names_of_regions(number: int):
    assert region_number(region_name(number)) == number
    assert region_number(f" {region_name(number)} ") == number


@pytest.mark.parametrize("name", ["", "region", "region0", "region01", "regions1", "the region1", "star"])
def test_other_words_name_no_region(name: str):
    assert region_number(name) is None


def test_questions_with_slots():
    one, two = region_parts("region1"), region_parts("region2")
    assert question_with_regions("Is <region> left of <region>?", 2) == (
        ("Is ", *one, " left of ", *two, "?"), (0, 1),
    )  # fmt: skip
    assert question_with_regions("<region2>: like <region1>, not like <region2>", 2) == (
        (*two, ": like ", *one, ", not like ", *two), (1, 0, 1),
    )  # fmt: skip
    assert question_with_regions("Is region1 a star?", 2) == (
        (*one, ", ", *two, "\nIs region1 a star?"), (0, 1),
    )  # fmt: skip


def test_without_regions_slots_are_plain_text():
    parts, order = question_with_regions("What does <region> mean?", 0)
    assert parts == ("What does <region> mean?",)
    assert order == ()
    assert not any(isinstance(part, Control) for part in parts)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("What is <region>?", 2),
        ("<region> and <region>", 1),
        ("<region1>?", 2),
        ("<region3>, <region1>, <region2>", 2),
        ("<region> and <region2>", 2),
        ("<region0> and <region1>", 2),
    ],
)
def test_slots_that_do_not_fit(text: str, count: int):
    with pytest.raises(InputError, match="does not speak of each of its regions"):
        question_with_regions(text, count)
