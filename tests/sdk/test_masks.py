from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from visionllm_sdk import masks
from visionllm_sdk.errors import InputError, LimitError

BoolArray = npt.NDArray[np.bool_]


@st.composite
def mask_arrays(draw: st.DrawFn) -> BoolArray:
    """Masks of any shape: noise, large blocks, empty and full ones."""
    shape = draw(st.tuples(st.integers(1, 24), st.integers(1, 24)))
    mask = draw(hnp.arrays(np.bool_, shape))
    times = draw(st.tuples(st.integers(1, 40), st.integers(1, 8)))
    return np.kron(mask, np.ones(times, dtype=bool))


def reference(mask: BoolArray) -> dict[str, object]:
    return coco.encode(np.asfortranarray(mask.astype(np.uint8)))


@given(mask_arrays())
def test_codes_are_those_of_pycocotools(mask: BoolArray) -> None:
    assert masks.encode(mask) == reference(mask)["counts"].decode()


@given(mask_arrays())
def test_round_trip(mask: BoolArray) -> None:
    decoded = masks.decode(masks.encode(mask), *mask.shape)
    assert decoded.dtype == np.bool_
    assert decoded.flags.c_contiguous
    np.testing.assert_array_equal(decoded, mask)


@given(mask_arrays())
def test_area_and_bounds_without_decoding(mask: BoolArray) -> None:
    counts = masks.encode(mask)
    assert masks.area(counts) == mask.sum()
    bounds = masks.bounds(counts, mask.shape[0])
    if not mask.any():
        assert bounds is None
        return
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert bounds == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    x, y, width, height = coco.toBbox(reference(mask))
    assert bounds == (x, y, x + width, y + height)


@given(st.lists(st.integers(0, 2**27), min_size=1, max_size=40))
def test_any_runs_round_trip(runs: list[int]) -> None:
    np.testing.assert_array_equal(masks.runs_from_text(masks.text_from_runs(runs)), runs)


def test_no_runs() -> None:
    assert masks.text_from_runs([]) == ""
    with pytest.raises(InputError):
        masks.runs_from_text("")


@pytest.mark.parametrize("text", ["é", "0 0", "p0", "~", "P", "o" * 40, "\n"])
def test_text_that_is_no_code(text: str) -> None:
    with pytest.raises(InputError, match="not a run-length code"):
        masks.runs_from_text(text)


@given(st.text(alphabet=[chr(code) for code in range(48, 112)], max_size=30), st.integers(1, 9))
def test_hostile_codes_never_decode_to_another_size(text: str, side: int) -> None:
    try:
        mask = masks.decode(text, side, side)
    except InputError:
        return
    assert mask.shape == (side, side)


@pytest.mark.parametrize("size", [(9, 10), (10, 9), (1, 1), (100, 100)])
def test_code_of_another_size(size: tuple[int, int]) -> None:
    counts = masks.encode(np.eye(10, dtype=bool)[:, :7])
    with pytest.raises(InputError, match="does not fit its size"):
        masks.decode(counts, *size)


def test_negative_run() -> None:
    with pytest.raises(InputError, match="does not fit its size"):
        masks.decode(masks.text_from_runs([5, -1, 5]), 3, 3)


def test_claimed_size_is_checked_before_memory_is_taken() -> None:
    with pytest.raises(LimitError, match="too large"):
        masks.decode(masks.text_from_runs([10**12]), 10**6, 10**6)
    with pytest.raises(InputError, match="at least one pixel"):
        masks.decode("0", 0, 5)


def test_no_pixels() -> None:
    with pytest.raises(InputError, match="at least one pixel"):
        masks.encode(np.zeros((0, 4), dtype=bool))


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (np.zeros((2, 3, 3), dtype=bool), "two-dimensional"),
        (np.zeros((0, 3), dtype=bool), "two-dimensional"),
        (np.zeros((2, 3), dtype=np.float32), "Threshold probabilities"),
        (np.array([["a", "b"]]), "bool or integer"),
    ],
)
def test_arrays_that_are_no_masks(array: npt.NDArray[np.generic], match: str) -> None:
    with pytest.raises(InputError, match=match):
        masks.as_bool(array)


def test_integers_count_where_they_are_not_zero() -> None:
    np.testing.assert_array_equal(masks.as_bool([[0, 255], [1, 0]]), [[False, True], [True, False]])


def polygon_of_circle(x: float, y: float, radius: float) -> npt.NDArray[np.float64]:
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    return np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1)


def test_polygon_fills_pixel_centres_inside() -> None:
    rows, columns = np.mgrid[:60, :80]
    expected = (columns + 0.5 - 33.3) ** 2 + (rows + 0.5 - 28.7) ** 2 < 17.2**2
    drawn = masks.rasterize_polygons([polygon_of_circle(33.3, 28.7, 17.2)], 60, 80)
    assert (drawn ^ expected).sum() <= 2  # the polygon has corners, the circle has none


def test_polygon_is_close_to_pycocotools() -> None:
    ring = polygon_of_circle(100, 90, 60)
    drawn = masks.rasterize_polygons([ring.ravel()], 200, 220)
    other = coco.decode(coco.merge(coco.frPyObjects([ring.ravel().tolist()], 200, 220))).astype(bool)
    assert (drawn & other).sum() / (drawn | other).sum() > 0.98


@given(
    st.tuples(st.integers(-5, 12), st.integers(-5, 12), st.integers(1, 9), st.integers(1, 9)),
)
def test_rectangles_fill_exactly(box: tuple[int, int, int, int]) -> None:
    x, y, width, height = box
    corners = [x, y, x + width, y, x + width, y + height, x, y + height]
    expected = np.zeros((10, 11), dtype=bool)
    expected[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)] = True
    np.testing.assert_array_equal(masks.rasterize_polygons([corners], 10, 11), expected)


def test_polygons_are_joined() -> None:
    left, right = [0, 0, 4, 0, 4, 4, 0, 4], [2, 0, 6, 0, 6, 4, 2, 4]
    assert masks.rasterize_polygons([left, right], 4, 8).sum() == 24


@pytest.mark.parametrize("polygon", [[1, 2, 3, 4], [1, 2, 3, 4, 5], [], [[1, 2, 3]] * 4, [np.nan] * 6])
def test_what_is_no_polygon(polygon: list[float]) -> None:
    with pytest.raises(InputError, match="not a polygon"):
        masks.rasterize_polygons([polygon], 5, 5)
