"""Binary masks as COCO run-length codes: exact, compact, JSON-safe.

A mask is read column by column, top to bottom (Fortran order), as alternating runs of zeros and ones, the
first run being zeros (possibly of length 0). Compressed, each run from the third on is stored as the
difference to the run two before it, in groups of 5 bits with a continuation bit, offset by 48 into
printable ASCII. This is the `counts` string of COCO annotations; codes written here and by pycocotools are
the same byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from visionllm_sdk.errors import InputError, LimitError

__all__ = [
    "MAX_MASK_PIXELS",
    "area",
    "as_array",
    "as_bool",
    "bounds",
    "check",
    "decode",
    "encode",
    "rasterize_polygons",
    "runs_from_text",
    "text_from_runs",
]

BoolArray = npt.NDArray[np.bool_]
RunArray = npt.NDArray[np.int64]

MAX_MASK_PIXELS: Final = 2**28
"""Largest mask that is decoded. A code of a few bytes can claim any size, so the claim is checked first."""

_MAX_GROUPS = 7  # 35 bits: more than any run of a mask of MAX_MASK_PIXELS can need


def encode(mask: BoolArray) -> str:
    """Code a mask, bool [H, W], as the compressed `counts` string of COCO.

    Raises:
        InputError: the mask has no pixel.
    """
    flat = mask.T.ravel()
    if flat.size == 0:
        raise InputError("a mask needs at least one pixel", value=mask.shape, limit="[H >= 1, W >= 1]")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate(([0], changes, [flat.size])))
    if flat[0]:
        runs = np.concatenate(([0], runs))
    return text_from_runs(runs)


def decode(counts: str, height: int, width: int) -> BoolArray:
    """Turn a compressed `counts` string back into a mask, bool [H, W], C-contiguous.

    Raises:
        InputError: the string is not a code, or not one of this size.
        LimitError: the size is larger than MAX_MASK_PIXELS.
    """
    runs = check(counts, height, width)
    values = np.arange(len(runs)) % 2 == 1
    return np.ascontiguousarray(np.repeat(values, runs).reshape(width, height).T)


def check(counts: str, height: int, width: int) -> RunArray:
    """Verify that a code describes exactly `height * width` pixels, and return its runs.

    Raises:
        InputError: the string is not a code, or not one of this size.
        LimitError: the size is larger than MAX_MASK_PIXELS.
    """
    _check_size(height, width)
    runs = runs_from_text(counts)
    if (runs < 0).any() or int(runs.sum()) != height * width:
        raise InputError(
            "the mask code does not fit its size",
            value=f"runs over {int(runs.sum())} pixels",
            limit=f"{height} x {width} = {height * width} pixels, no negative run",
            remedy="The data was damaged or belongs to another image: encode the mask again.",
        )
    return runs


def _check_size(height: Any, width: Any) -> None:
    """Refuse a size before memory is taken for it."""
    if not (isinstance(height, Integral) and isinstance(width, Integral)):
        raise InputError(
            "the size of a mask is a number of pixels",
            value=(height, width),
            limit="[H >= 1, W >= 1], whole numbers",
            remedy="Pass height and width of the image.",
        )
    height, width = int(height), int(width)
    if height < 1 or width < 1:
        raise InputError("a mask needs at least one pixel", value=(height, width), limit="[H >= 1, W >= 1]")
    if height * width > MAX_MASK_PIXELS:
        raise LimitError("the mask is too large", value=(height, width), limit=f"{MAX_MASK_PIXELS} pixels")


def area(counts: str) -> int:
    """Number of pixels inside the mask."""
    return int(runs_from_text(counts)[1::2].sum())


def bounds(counts: str, height: int) -> tuple[int, int, int, int] | None:
    """Tight box (x1, y1, x2, y2) around the mask in pixels, right and lower edge exclusive; None if empty."""
    runs = runs_from_text(counts)
    ends = np.cumsum(runs)
    inside = runs[1::2] > 0
    if not inside.any():
        return None
    first = (ends - runs)[1::2][inside]
    last = ends[1::2][inside] - 1
    x1, x2 = int(first[0] // height), int(last[-1] // height) + 1
    # A run that goes on into the next column touches the lower and the upper edge.
    if (first // height != last // height).any():
        return x1, 0, x2, height
    return x1, int((first % height).min()), x2, int((last % height).max()) + 1


def text_from_runs(runs: npt.ArrayLike) -> str:
    """Compress run lengths (zeros first) into the COCO string."""
    values = np.array(runs, dtype=np.int64)
    if values.size > 3:
        values[3:] -= np.array(runs, dtype=np.int64)[1:-2]
    columns, used = [], []
    more = np.ones(values.shape, dtype=bool)
    while more.any():
        used.append(more)
        digit = values & 0x1F
        values = values >> 5
        # The highest bit written decides the sign, as in two's complement.
        more = more & np.where(digit & 0x10, values != -1, values != 0)
        columns.append(digit | np.where(more, 0x20, 0))
    if not columns:
        return ""
    table = np.stack(columns, axis=1) + 48  # (runs, groups)
    return bytes(table[np.stack(used, axis=1)].astype(np.uint8)).decode("ascii")


def runs_from_text(counts: str) -> RunArray:
    """Expand the COCO string into run lengths, int64 [R], zeros first.

    Raises:
        InputError: a character outside the code's alphabet, or a group that never ends.
    """
    try:
        codes = np.frombuffer(counts.encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    except UnicodeEncodeError as error:
        raise _not_a_code(counts) from error
    if codes.size == 0 or codes.min() < 0 or codes.max() > 0x3F or codes[-1] & 0x20:
        raise _not_a_code(counts)
    ends = np.flatnonzero((codes & 0x20) == 0)
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > _MAX_GROUPS:
        raise _not_a_code(counts)
    shifts = 5 * (np.arange(codes.size) - np.repeat(starts, lengths))
    values = np.add.reduceat((codes & 0x1F) << shifts, starts)
    values = np.where(codes[ends] & 0x10, values - (np.int64(1) << (5 * lengths)), values)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def _not_a_code(counts: str) -> InputError:
    return InputError(
        "not a run-length code of COCO",
        value=counts,
        limit="groups of characters '0' to 'o', the last one closed",
        remedy="Pass the compressed `counts` string; uncompressed lists go through text_from_runs().",
    )


def as_array(values: Any, what: str) -> npt.NDArray[Any]:
    """An array-like as an array; `what` says in messages, with its article, what it was meant to be.

    Raises:
        InputError: rows of different lengths, or something that is no array at all.
    """
    try:
        return np.asarray(values)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{what} cannot be read as an array: {error}",
            value=values,
            limit="[H, W], all rows of one length",
            remedy="Correct it, or pass a numpy array.",
        ) from error


def as_bool(array: Any) -> BoolArray:
    """Check and convert an array-like to a mask, bool [H, W]; integers count as inside where they are not 0.

    Raises:
        InputError: not two-dimensional, no pixel, or neither bool nor integer.
    """
    mask = as_array(array, "a mask")
    if mask.ndim != 2 or mask.size == 0:
        raise InputError(
            "a mask is a two-dimensional array", value=mask.shape, limit="[H, W], one mask at a time"
        )
    if mask.dtype.kind not in "bui":
        raise InputError(
            "a mask holds bool or integer values",
            value=str(mask.dtype),
            limit="bool, or integers where 0 is outside",
            remedy="Threshold probabilities first, for example `array > 0.5`.",
        )
    return mask if mask.dtype == np.bool_ else mask != 0


def rasterize_polygons(polygons: Sequence[npt.ArrayLike], height: int, width: int) -> BoolArray:
    """Fill polygons into a mask, bool [H, W]; a pixel is inside if its centre is.

    Args:
        polygons: each either [x1, y1, x2, y2, ...] as in COCO or [[x, y], ...], in pixels. Overlaps of
            several polygons are filled (union); self-intersections follow the even-odd rule.
        height: rows of the mask.
        width: columns of the mask.

    Raises:
        InputError: a polygon of fewer than three points or with coordinates that are not finite, or a size
            without pixels.
        LimitError: the size is larger than MAX_MASK_PIXELS.
    """
    _check_size(height, width)
    if not isinstance(polygons, Iterable):
        raise InputError(
            "polygons are a list",
            value=polygons,
            limit="[[x1, y1, x2, y2, ...], ...]",
            remedy="Pass [polygon] for a single one.",
        )
    mask = np.zeros((height, width), dtype=bool)
    for polygon in polygons:
        mask |= _fill(_corners(polygon), height, width)
    return mask


def _corners(polygon: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Polygon in either notation -> [N, 2]."""
    try:
        points = np.asarray(polygon, dtype=np.float64)
    except (ValueError, TypeError) as error:  # points of different lengths, or no numbers
        raise _not_a_polygon(polygon) from error
    if points.ndim == 1 and points.size % 2 == 0:
        points = points.reshape(-1, 2)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3 or not np.isfinite(points).all():
        raise _not_a_polygon(polygon)
    return points


def _not_a_polygon(polygon: object) -> InputError:
    return InputError(
        "not a polygon", value=polygon, limit="at least three finite (x, y) points", remedy="Remove it."
    )


def _fill(points: npt.NDArray[np.float64], height: int, width: int) -> BoolArray:
    """Even-odd fill: every edge toggles all pixel centres to the right of it, row by row."""
    toggles = np.zeros((height, width + 1), dtype=np.int64)
    for (xa, ya), (xb, yb) in zip(points, np.roll(points, -1, axis=0), strict=True):
        low, high = min(ya, yb), max(ya, yb)
        first = max(int(np.ceil(low - 0.5)), 0)
        last = min(int(np.ceil(high - 0.5)), height)  # exclusive; half-open, so that corners count once
        if last <= first:
            continue
        rows = np.arange(first, last)
        crossing = xa + (rows + 0.5 - ya) * (xb - xa) / (yb - ya)
        toggles[rows, np.clip(np.ceil(crossing - 0.5), 0, width).astype(np.int64)] += 1
    inside: BoolArray = np.cumsum(toggles, axis=1)[:, :width] % 2 == 1
    return inside
