"""A closer look at a region: where the cut-out lies, that prompts keep their places, when there is one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from visionllm_sdk.geometry import Box, Mask, Point, Region, Scribble
from visionllm_sdk.images import LoadedImage
from visionllm_sdk.regions import check_region, rasterise
from visionllm_sdk.results import RegionLabel
from visionllm_sdk.scenes import render, sample_scene
from visionllm_sdk.skills.closer import seen_through, window_around

if TYPE_CHECKING:
    from visionllm_sdk import VisionLLM

TILE = 64


@st.composite
def marked(draw: st.DrawFn) -> tuple[tuple[int, int], Region]:
    """A size and a small region of any kind anywhere in it, borders included."""
    width, height = draw(st.integers(40, 300)), draw(st.integers(40, 300))
    x1, y1 = draw(st.integers(0, width - 6)), draw(st.integers(0, height - 6))
    x2, y2 = x1 + draw(st.integers(1, 6)), y1 + draw(st.integers(1, 6))
    pixels = np.zeros((height, width), dtype=bool)
    pixels[y1:y2, x1:x2] = True
    kinds = [Box(x1, y1, x2, y2), Point(x2, y2), Scribble([(x1, y1), (x2, y2)]), Mask.from_numpy(pixels)]
    return (width, height), draw(st.sampled_from(kinds))


@given(marked())
def test_the_prompt_marks_the_same_pixels_in_the_cut_out(case: tuple[tuple[int, int], Region]) -> None:
    size, region = case
    window = window_around(region, size, TILE)
    assert window is not None
    assert window.left >= 0
    assert window.top >= 0
    assert window.left + window.side <= size[0]
    assert window.top + window.side <= size[1]
    square = (window.side, window.side)
    inside = check_region(seen_through(region, window), square)
    if not isinstance(region, Box | Mask):
        return
    # On a thumbnail with one pixel for each of the cut-out, both prompts mark the very same ones.
    y, x = np.nonzero(rasterise(inside, square, window.side))
    array = np.zeros((size[1], size[0]), dtype=bool)
    array[y + window.top, x + window.left] = True
    expected = region.to_numpy() if isinstance(region, Mask) else _filled(region, size)
    np.testing.assert_array_equal(array, expected)


def _filled(box: Box, size: tuple[int, int]) -> np.ndarray:
    array = np.zeros((size[1], size[0]), dtype=bool)
    array[int(box.y1) : int(box.y2), int(box.x1) : int(box.x2)] = True
    return array


def test_the_cut_out_is_centred_three_times_as_large_and_magnified_at_most_four_times() -> None:
    window = window_around(Box(90, 40, 110, 50), (400, 200), TILE)
    assert window is not None
    assert (window.left, window.top, window.side) == (70, 15, 60)
    small = window_around(Point(100, 100), (400, 200), TILE)
    assert small is not None
    assert small.side == TILE // 4
    picture = np.zeros((200, 400, 3), dtype=np.uint8)
    picture[15:75, 70:130] = 200
    cut = window.cut(LoadedImage(Image.fromarray(picture), source="a picture"))
    assert cut.image.size == (60, 60)
    assert (cut.to_numpy() == 200).all()
    assert "a picture" in cut.source


@pytest.mark.parametrize("region", [Box(0, 0, 128, 128), Box(30, 30, 90, 60), Box(0, 60, 128, 61)])
def test_what_fills_the_picture_needs_no_closer_look(region: Box) -> None:
    assert window_around(region, (128, 128), TILE) is None
    assert window_around(Point(3, 3), (19, 300), TILE) is None  # nothing to come closer to


@pytest.fixture(scope="module")
def careful(random_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> VisionLLM:
    """The random model, set to look twice at everything."""
    from visionllm_sdk import VisionLLM

    folder = tmp_path_factory.mktemp("careful") / "checkpoint"
    shutil.copytree(random_checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    config["visionllm_sdk"]["closer_look"] = 1.0
    (folder / "config.json").write_text(json.dumps(config))
    return VisionLLM.from_pretrained(folder)


@pytest.mark.parametrize("region", [Box(20, 30, 50, 55), Point(200, 100)])
def test_two_looks_count_as_independent(random_vlm: VisionLLM, careful: VisionLLM, region: Region) -> None:
    image = render(sample_scene(3)).image.resize((300, 200))
    labels = ["star", "ring"]  # of nearly the same probability
    window = window_around(region, image.size, 256)
    assert window is not None
    corners = (window.left, window.top, window.left + window.side, window.top + window.side)
    (once,) = random_vlm.classify(image, region, labels)
    (nearby,) = random_vlm.classify(image.crop(corners), seen_through(region, window), labels)
    (twice,) = careful.classify(image, region, labels)
    star = np.prod([_share(one, "star") for one in (once, nearby)])
    ring = np.prod([1 - _share(one, "star") for one in (once, nearby)])
    assert twice.region == region
    # The second look matters, though little to the random model: a rounding error is a thousand times less.
    assert abs(_share(twice, "star") - _share(once, "star")) > 1e-3
    assert _share(twice, "star") == pytest.approx(star / (star + ring), abs=1e-6)


def _share(found: RegionLabel, label: str) -> float:
    """Of one of two labels."""
    return found.score if found.label == label else 1 - found.score


def _changed(once: RegionLabel, twice: RegionLabel) -> bool:
    """By more than the rounding of sums that were added in another order."""
    return abs(_share(once, "star") - _share(twice, "star")) > 2e-5


def test_a_batch_looks_closer_at_the_same_regions(careful: VisionLLM) -> None:
    images = [render(sample_scene(seed)).image for seed in (3, 4)]
    regions: list[list[Region]] = [[Point(10, 20), Box(0, 0, *images[0].size)], [Box(60, 60, 70, 70)]]
    labels = ["star", "dog", "ring"]
    both = careful.classify(images, regions, labels)
    for image, own, found in zip(images, regions, both, strict=True):
        alone = careful.classify(image, own, labels)
        assert [one.label for one in alone] == [one.label for one in found]
        assert [one.score for one in alone] == pytest.approx([one.score for one in found], abs=1e-4)


@pytest.mark.parametrize(("count", "looks"), [(3, 3), (5, 4), (6, 3), (15, 2), (20, 1), (50, 1)])
def test_the_most_doubtful_are_seen_from_nearby(
    random_vlm: VisionLLM, careful: VisionLLM, count: int, looks: int
) -> None:
    image = render(sample_scene(3)).image.resize((300, 200))
    small = [Box(5 * x, 20, 5 * x + 20, 50) for x in range(count)]
    once = random_vlm.classify(image, small, ["star", "ring"])
    twice = careful.classify(image, small, ["star", "ring"])
    changed = {number for number, pair in enumerate(zip(once, twice, strict=True)) if _changed(*pair)}
    assert changed == set(np.argsort([one.score for one in once], kind="stable")[:looks].tolist())


def test_looks_go_to_what_more_is_seen_of(random_vlm: VisionLLM, careful: VisionLLM) -> None:
    image = render(sample_scene(3)).image.resize((300, 200))
    large: list[Region] = [Box(0, 0, 300, 180 + y) for y in range(20)]
    regions = [*large, Box(10, 20, 30, 50)]
    once = random_vlm.classify(image, regions, ["star", "ring"])
    twice = careful.classify(image, regions, ["star", "ring"])
    changed = [_changed(*pair) for pair in zip(once, twice, strict=True)]
    assert changed == [*[False] * 20, True]


def test_where_nothing_is_in_doubt_there_is_one_look(careful: VisionLLM) -> None:
    image = render(sample_scene(3)).image
    (sure,) = careful.classify(image, Point(10, 10), "star")
    assert (sure.label, sure.score) == ("star", 1.0)
