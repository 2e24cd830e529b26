"""Region prompts: what a user points with, checked against its image, and as the region encoder reads it.

A prompt is a `Box`, a `Point`, a `Scribble` or a `Mask` in pixels of the given image. The region encoder
reads a binary mask over the thumbnail, the whole image shrunk to one square tile. Width and height shrink by
different factors there; every prompt is brought to it by exactly these two factors, so that prompt and
picture align for tall and wide images, too. This module imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import singledispatch
from pathlib import Path
from typing import Any, Final, Literal, cast

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, NonNegativeInt, TypeAdapter, ValidationError

from visionllm_sdk._result import as_input_error
from visionllm_sdk.errors import InputError, LimitError, RegionError
from visionllm_sdk.geometry import Box, Mask, Point, Region, Scribble
from visionllm_sdk.model.conversation import Parts, region_list, region_parts
from visionllm_sdk.model.tiling import Canvas, canvas_of, thumbnail_mask
from visionllm_sdk.model.tokenizer import Part

__all__ = [
    "MAX_REGIONS", "Box", "Mask", "Point", "Region", "RegionBlock", "Scribble", "check_region",
    "check_regions", "parse_region", "question_with_regions", "rasterise", "region_block", "region_name",
    "region_number",
]  # fmt: skip

BoolArray = npt.NDArray[np.bool_]
Size = tuple[int, int]
"""Width and height of an image in pixels."""

MAX_REGIONS: Final = 1000
_PEN: Final = 1.5
"""Radius of the pen that draws points and scribbles, in pixels of the thumbnail: a point is 3 x 3 of them."""
_HALF: Final = 0.5 - 1e-4
"""Share of a thumbnail pixel that a box has to cover; a little less than half, for rounding."""
_SLOT: Final = re.compile(r"<region(\d*)>")
_NAME: Final = re.compile(r"region([1-9]\d*)")


# -- checking ----------------------------------------------------------------------------------------------


def check_regions(regions: object, size: Size) -> tuple[Region, ...]:
    """The region prompts of one image, each checked; an error names the position of the bad one.

    Args:
        regions: one prompt or several.
        size: width and height of the image in pixels.

    Raises:
        RegionError: no region, something that is none, or one that does not fit the image.
        LimitError: more than `MAX_REGIONS`.
    """
    given: Sequence[object] = regions if isinstance(regions, list | tuple) else (regions,)
    if not given:
        raise RegionError("there is no region", value=[], remedy="Mark at least one, such as Box(...).")
    if len(given) > MAX_REGIONS:
        raise LimitError(
            "too many regions", value=len(given), limit=MAX_REGIONS, remedy="Ask in several calls."
        )
    checked: list[Region] = []
    for number, region in enumerate(given):
        try:
            checked.append(check_region(region, size))
        except InputError as error:
            raise error.at(f"region {number}") from error
    return tuple(checked)


def check_region(region: object, size: Size) -> Region:
    """A region prompt that marks something inside an image of this size.

    Borders belong to the image: a point on the right or lower border marks the last pixels.

    Args:
        region: the prompt.
        size: width and height of the image in pixels.

    Raises:
        RegionError: not a region prompt, empty, outside the image, or a mask of another size.
    """
    _check(region, size)
    return cast(Region, region)


@singledispatch
def _check(region: object, size: Size) -> None:
    """Raise a RegionError if the prompt does not fit."""
    raise RegionError(
        "this is not a region prompt",
        value=region,
        limit="Box, Point, Scribble or Mask",
        remedy="Make one, such as Box(x1, y1, x2, y2) or Mask.from_numpy(array).",
    )


@_check.register
def _(region: Box, size: Size) -> None:
    if region.area == 0:
        raise RegionError(
            "the box is empty", value=region.xyxy, limit="x1 < x2 and y1 < y2", remedy="Use a Point instead."
        )
    width, height = size
    if region.x1 < 0 or region.y1 < 0 or region.x2 > width or region.y2 > height:
        raise RegionError(
            "the box reaches outside the image",
            value=region.xyxy,
            limit=f"0 to {width}, 0 to {height}",
            remedy="Give pixels of this image; Box.clipped(width, height) cuts off what is outside.",
        )


@_check.register
def _(region: Point, size: Size) -> None:
    if not (0 <= region.x <= size[0] and 0 <= region.y <= size[1]):
        raise RegionError(
            "the point lies outside the image",
            value=(region.x, region.y),
            limit=f"0 to {size[0]}, 0 to {size[1]}",
            remedy="Give pixels of this image.",
        )


@_check.register
def _(region: Scribble, size: Size) -> None:
    for point in region.points:
        _check(point, size)


@_check.register
def _(region: Mask, size: Size) -> None:
    if (region.width, region.height) != size:
        raise RegionError(
            "the mask is not of the image's size",
            value=f"{region.width} x {region.height}",
            limit=f"{size[0]} x {size[1]} (width x height)",
            remedy="Give a mask of (height, width) of this image.",
        )
    if region.area == 0:
        raise RegionError("the mask is empty", value=region.size, remedy="Mark at least one pixel.")


# -- rasterising -------------------------------------------------------------------------------------------


def rasterise(region: Region, size: Size, side: int, *, max_stretch: float | None = None) -> BoolArray:
    """A region prompt as the region encoder reads it.

    A box or mask marks the thumbnail pixels that it covers at least by half; if it covers none so far, those
    that it covers most. Points and scribbles are drawn with a pen three pixels wide.

    Args:
        region: the prompt, in pixels of the image.
        size: width and height of the image in pixels.
        side: of the thumbnail in pixels.
        max_stretch: of the thumbnail, see :func:`visionllm_sdk.model.tiling.canvas_of`.

    Returns:
        True inside, never empty. (side, side)

    Raises:
        RegionError: see `check_region`.
    """
    return _raster(check_region(region, size), canvas_of(*size, max_stretch=max_stretch), side)


def _scaled(x: float, y: float, canvas: Canvas, side: int) -> tuple[float, float]:
    """A place in the image, in pixels of the thumbnail."""
    return (x + canvas.left) * (side / canvas.width), (y + canvas.top) * (side / canvas.height)


@singledispatch
def _raster(region: Any, canvas: Canvas, side: int) -> BoolArray:
    """The mask of a checked prompt on the thumbnail of its image's canvas. Masks have the image's size."""
    return thumbnail_mask(region.to_numpy(), side, canvas)


@_raster.register
def _(region: Box, canvas: Canvas, side: int) -> BoolArray:
    left, top = _scaled(region.x1, region.y1, canvas, side)
    right, bottom = _scaled(region.x2, region.y2, canvas, side)
    across, down = _covered(left, right, side), _covered(top, bottom, side)
    share = down[:, None] * across
    covered: BoolArray = share >= min(_HALF, share.max() * (1 - 1e-6))
    return covered


def _covered(start: float, end: float, side: int) -> npt.NDArray[np.float64]:
    """Which share of each pixel along one axis lies between two places. (side,)"""
    left = np.arange(side)
    share: npt.NDArray[np.float64] = np.clip(np.minimum(left + 1, end) - np.maximum(left, start), 0, 1)
    return share


@_raster.register
def _(region: Point, canvas: Canvas, side: int) -> BoolArray:
    return _drawn([_scaled(region.x, region.y, canvas, side)], side)


@_raster.register
def _(region: Scribble, canvas: Canvas, side: int) -> BoolArray:
    return _drawn([_scaled(point.x, point.y, canvas, side) for point in region.points], side)


def _drawn(path: Sequence[tuple[float, float]], side: int) -> BoolArray:
    """All pixels whose centre the pen touches on its way. (side, side)"""
    inside = np.zeros((side, side), dtype=bool)
    for start, end in zip(path, [*path[1:], path[-1]], strict=True):
        left, right = _reach(start[0], end[0])
        top, bottom = _reach(start[1], end[1])
        x = np.arange(left, min(right, side)) + 0.5
        y = np.arange(top, min(bottom, side))[:, None] + 0.5
        inside[top:bottom, left:right] |= _distance(x, y, start, end) <= _PEN
    return inside


def _reach(one: float, other: float) -> tuple[int, int]:
    """The pixels along one axis that the pen may touch between two places, the last one exclusive."""
    return max(int(min(one, other) - _PEN), 0), int(max(one, other) + _PEN) + 1


def _distance(x: Any, y: Any, start: tuple[float, float], end: tuple[float, float]) -> Any:
    """Distance of pixel centres to a straight line between two places."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = dx * dx + dy * dy
    share = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / length, 0, 1) if length else 0.0
    return np.hypot(x - start[0] - share * dx, y - start[1] - share * dy)


# -- in a question -----------------------------------------------------------------------------------------


def region_name(number: int) -> str:
    """What the model calls a region of a question: `region1` is the first (number 0)."""
    return f"region{number + 1}"


def region_number(name: str) -> int | None:
    """The position of the region of that name, from 0; None if this is not a name of a region."""
    match = _NAME.fullmatch(name.strip())
    return int(match[1]) - 1 if match else None


def question_with_regions(text: str, count: int) -> tuple[Parts, tuple[int, ...]]:
    """A question that speaks of region prompts.

    ``<region>`` stands for the regions one after the other, ``<region1>`` for the first wherever it stands. A
    question with neither has all regions listed in front of it, and may call them region1, region2.

    Args:
        text: the question.
        count: number of regions; with 0 the text is taken as it is.

    Returns:
        Parts of the question, and which region each of its region tokens stands for.

    Raises:
        InputError: slots that do not fit the regions.
    """
    if not count:
        return (text,), ()
    slots = _SLOT.findall(text)
    if not slots:
        names = [region_name(number) for number in range(count)]
        return (*region_list(names), f"\n{text}"), tuple(range(count))
    order = _order(slots, count)
    pieces = _SLOT.split(text)[::2]
    parts: list[Part] = [pieces[0]]
    for number, piece in zip(order, pieces[1:], strict=True):
        parts += [*region_parts(region_name(number)), piece]
    return tuple(part for part in parts if part), order


def _order(slots: Sequence[str], count: int) -> tuple[int, ...]:
    numbered = [int(slot) - 1 for slot in slots if slot]
    if not numbered and len(slots) == count:
        return tuple(range(count))
    if len(numbered) == len(slots) and set(numbered) == set(range(count)):
        return tuple(numbered)
    raise InputError(
        "the question does not speak of each of its regions",
        value=[f"<region{slot}>" for slot in slots],
        limit=f"<region> {count} time(s), or every one of <region1> to <region{count}>",
        remedy="Correct the question, or leave the slots out: the regions are then named in front of it.",
    )


# -- as data -----------------------------------------------------------------------------------------------


class RegionBlock(BaseModel):
    """A region prompt as a content block of a message.

    `{"type": "region", "region": {"type": "box", "x1": 10, "y1": 20, "x2": 30, "y2": 40}}`

    Attributes:
        region: the prompt, in pixels of its image.
        image: which image of the message it lies in, from 0; None is the last one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["region"] = "region"
    region: Region
    image: NonNegativeInt | None = None


def region_block(block: Mapping[str, Any]) -> RegionBlock:
    """Read a content block.

    Raises:
        InputError: the data is not a region block.
    """
    try:
        return _BLOCK.validate_python(dict(block))
    except ValidationError as error:
        raise as_input_error(error) from error


_BLOCK: Final = TypeAdapter(RegionBlock)


def parse_region(text: str) -> Region:
    """A region prompt from its short form.

    ``box:x1,y1,x2,y2``, ``point:x,y``, ``scribble:x,y;x,y;x,y``, or ``mask:FILE`` for an image file that is
    black or transparent outside and anything else inside.

    Raises:
        RegionError: another form, or numbers that are none.
        ImageError: the file of a mask cannot be read.
    """
    kind, _, body = text.partition(":")
    reader = _READERS.get(kind.strip().lower())
    if reader is None:
        raise RegionError(
            "this is not a region prompt", value=text, limit=_FORMS, remedy="Write it in one of these forms."
        )
    return reader(text, body.strip())


def _read_box(text: str, body: str) -> Region:
    return Box(*_numbers(text, body, 4))


def _read_point(text: str, body: str) -> Region:
    return Point(*_numbers(text, body, 2))


def _read_scribble(text: str, body: str) -> Region:
    return Scribble([Point(*_numbers(text, pair, 2)) for pair in body.split(";") if pair.strip()])


def _read_mask(text: str, body: str) -> Region:
    from visionllm_sdk.images import load_mask

    return Mask.from_numpy(load_mask(Path(body)))


def _numbers(text: str, body: str, count: int) -> list[float]:
    try:
        numbers = [float(part) for part in body.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise RegionError(
            "a region prompt has the wrong numbers",
            value=text,
            limit=_FORMS,
            remedy="Write pixels, separated by commas.",
        )
    return numbers


_FORMS: Final = "box:x1,y1,x2,y2, point:x,y, scribble:x,y;x,y or mask:FILE"
_READERS: Final = {"box": _read_box, "point": _read_point, "scribble": _read_scribble, "mask": _read_mask}
