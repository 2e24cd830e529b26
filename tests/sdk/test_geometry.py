from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco
from pydantic import BaseModel, ValidationError

from visionllm_sdk.errors import InputError, LimitError
from visionllm_sdk.geometry import Box, Mask, Point, Region, Scribble

COORDINATE = st.floats(-1e4, 1e4, allow_nan=False, width=32)
SIZE = st.floats(0, 1e4, allow_nan=False, width=32)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    x, y = draw(COORDINATE), draw(COORDINATE)
    return Box.from_xywh(x, y, draw(SIZE), draw(SIZE))


def test_box_by_position_and_by_name() -> None:
    box = Box(1, 2, 5, 10)
    assert box == Box(x1=1.0, y1=2.0, x2=5.0, y2=10.0)  # type: ignore[call-arg]
    assert (box.width, box.height, box.area, box.center) == (4, 8, 32, (3, 6))
    assert box.xyxy == (1, 2, 5, 10)
    assert box.xywh == (1, 2, 4, 8)
    assert hash(box) == hash(Box(1, 2, 5, 10))


def test_box_takes_numbers_of_numpy() -> None:
    assert Box(*np.array([1, 2, 3, 4], dtype=np.float32)) == Box(1, 2, 3, 4)
    assert Box(*np.array([1, 2, 3, 4])) == Box(1, 2, 3, 4)


def test_box_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Box(1, 2, 3, 4).x1 = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ((3, 0, 1, 2), "swapped"),
        ((0, 3, 1, 2), "swapped"),
        ((0, 0, float("nan"), 2), r"Box\.x2"),
        ((0, 0, float("inf"), 2), "finite"),
        ((0, 0, 1), r"Box\.y2: Field required"),
        ((0, 0, 1, 1, 1), "too many values for Box"),
        (("left", 0, 1, 1), "valid number"),
    ],
)
def test_box_that_is_none(values: tuple[float, ...], match: str) -> None:
    with pytest.raises(InputError, match=match):
        Box(*values)


def test_unknown_field() -> None:
    with pytest.raises(InputError, match="Extra inputs"):
        Box(1, 2, 3, 4, colour="red")  # type: ignore[call-arg]


@given(boxes(), boxes())
def test_iou_is_symmetric_and_bounded(a: Box, b: Box) -> None:
    assert a.iou(b) == b.iou(a)
    assert 0 <= a.iou(b) <= 1 + 1e-9
    if a.area > 0:
        assert a.iou(a) == pytest.approx(1)


@given(boxes(), boxes())
def test_iou_is_that_of_pycocotools(a: Box, b: Box) -> None:
    if a.area + b.area > 0:
        other = coco.iou(np.array([a.xywh]), np.array([b.xywh]), [0])[0, 0]
        assert a.iou(b) == pytest.approx(other, abs=1e-6)


def test_iou_of_empty_boxes_is_zero() -> None:
    assert Box(1, 1, 1, 1).iou(Box(1, 1, 1, 1)) == 0


@given(boxes(), st.integers(1, 5000), st.integers(1, 5000))
def test_clipped_lies_inside(box: Box, width: int, height: int) -> None:
    clipped = box.clipped(width, height)
    assert 0 <= clipped.x1 <= clipped.x2 <= width
    assert 0 <= clipped.y1 <= clipped.y2 <= height
    assert clipped.clipped(width, height) == clipped
    if box.x1 >= 0 and box.x2 <= width and box.y1 >= 0 and box.y2 <= height:
        assert clipped == box


def test_moved_boxes() -> None:
    assert Box(1, 2, 3, 4).scaled(2) == Box(2, 4, 6, 8)
    assert Box(1, 2, 3, 4).scaled(2, 0.5) == Box(2, 1, 6, 2)
    assert Box(1, 2, 3, 4).shifted(-1, 5) == Box(0, 7, 2, 9)


def test_contains_is_half_open() -> None:
    box = Box(0, 0, 2, 2)
    assert box.contains(0, 0)
    assert not box.contains(2, 1)
    assert not box.contains(1, 2)


@given(boxes())
def test_json_round_trip_of_boxes(box: Box) -> None:
    assert Box.model_validate_json(box.model_dump_json()) == box
    assert Box.model_validate(box.model_dump()) == box


def test_scribble_takes_pairs_points_and_arrays() -> None:
    expected = Scribble([Point(1, 2), Point(3, 4)])
    assert Scribble([(1, 2), [3, 4]]) == expected  # type: ignore[list-item]
    assert Scribble(np.array([[1, 2], [3, 4]])) == expected  # type: ignore[arg-type]
    assert Scribble.model_validate_json(expected.model_dump_json()) == expected


@pytest.mark.parametrize("points", [[], 5, [(1, 2, 3)], [(1, float("nan"))], "ab"])
def test_what_is_no_scribble(points: object) -> None:
    with pytest.raises(InputError):
        Scribble(points)  # type: ignore[arg-type]


def test_mask_knows_its_size_area_and_box() -> None:
    array = np.zeros((4, 6), dtype=bool)
    array[1:3, 2:5] = True
    mask = Mask.from_numpy(array)
    assert (mask.height, mask.width, mask.size, mask.area) == (4, 6, (4, 6), 6)
    assert mask.box == Box(2, 1, 5, 3)
    np.testing.assert_array_equal(mask.to_numpy(), array)
    np.testing.assert_array_equal(coco.decode(mask.to_coco()).astype(bool), array)
    assert Mask.model_validate_json(mask.model_dump_json()) == mask


def test_empty_mask_is_allowed_and_has_no_box() -> None:
    mask = Mask.from_numpy(np.zeros((3, 3), dtype=bool))
    assert mask.box is None
    assert mask.area == 0
    assert mask.iou(mask) == 0


def test_mask_iou() -> None:
    left, right = np.zeros((2, 4), dtype=bool), np.zeros((2, 4), dtype=bool)
    left[:, :2], right[:, 1:] = True, True
    assert Mask.from_numpy(left).iou(Mask.from_numpy(right)) == pytest.approx(2 / 8)
    with pytest.raises(InputError, match="different sizes"):
        Mask.from_numpy(left).iou(Mask.from_numpy(left[:1]))


def test_mask_from_polygons() -> None:
    assert Mask.from_polygons([[1, 1, 4, 1, 4, 3, 1, 3]], 5, 6).box == Box(1, 1, 4, 3)


def test_what_masks_are_not_made_of() -> None:
    with pytest.raises(InputError, match="a mask cannot be read as an array"):
        Mask.from_numpy([[1, 0], [1]])
    ragged: Any = [[1, 1], [4, 1, 2], [4, 3]]
    for polygon in (ragged, ["left", "top", 1, 2, 3, 4], {"x": 1}):
        with pytest.raises(InputError, match="not a polygon"):
            Mask.from_polygons([polygon], 5, 6)
    with pytest.raises(InputError, match="polygons are a list"):
        Mask.from_polygons(5, 5, 6)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("height", "width", "match"),
    [
        (-5, 6, "at least one pixel"),
        (5, 0, "at least one pixel"),
        (2.5, 6, "number of pixels"),
        ("5", 6, "number of pixels"),
        (10**6, 10**6, "too large"),
    ],
)
def test_sizes_that_no_mask_has(height: Any, width: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        Mask.from_polygons([[1, 1, 4, 1, 4, 3]], height, width)


def test_masks_that_do_not_fit() -> None:
    counts = Mask.from_numpy(np.eye(3, dtype=bool)).counts
    with pytest.raises(InputError, match="does not fit its size"):
        Mask((3, 4), counts)
    with pytest.raises(InputError, match=r"Mask\.size"):
        Mask((0, 4), counts)
    with pytest.raises(LimitError, match="too large"):
        Mask((10**6, 10**6), counts)


class Request(BaseModel):
    """A user's own model may hold regions."""

    region: Region


@pytest.mark.parametrize(
    "region",
    [Box(1, 2, 3, 4), Point(1, 2), Scribble([(1, 2)]), Mask.from_numpy(np.eye(3, dtype=bool))],
)
def test_regions_inside_other_models(region: Region) -> None:
    request = Request(region=region)
    assert Request.model_validate_json(request.model_dump_json()) == request
    with pytest.raises(ValidationError, match="swapped"):
        Request.model_validate({"region": {"type": "box", "x1": 4, "y1": 0, "x2": 1, "y2": 1}})


def test_a_field_given_twice() -> None:
    wrong: Any = Box
    with pytest.raises(InputError, match="x1"):
        wrong(1, 2, 3, 4, x1=2)


def test_only_alike_is_compared() -> None:
    box, mask = Box(0, 0, 1, 1), Mask.from_numpy(np.ones((1, 1), dtype=bool))
    others: list[tuple[Any, Any]] = [(box, mask), (mask, box), (box, (0, 0, 1, 1)), (mask, mask.to_numpy())]
    for one, other in others:
        with pytest.raises(InputError, match="can only be compared"):
            one.iou(other)
