"""Pictures of results: masks, boxes, names, skeletons over the image, and contact sheets of many.

Sizes of lines and letters follow the size of the image, so that a thumbnail and a photograph both read well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, singledispatch
from io import BytesIO
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from visionllm_sdk._numbers import as_whole
from visionllm_sdk._result import Result
from visionllm_sdk.errors import InputError
from visionllm_sdk.geometry import Box, Mask, Point, Scribble
from visionllm_sdk.results import Count, Detections, ImageResult, Keypoint, Pose, Poses, SemanticMap

__all__ = ["PALETTE", "contact_sheet", "draw", "draw_region", "preview_png"]

Colour = tuple[int, int, int]

PALETTE: Final[tuple[Colour, ...]] = (
    (255, 69, 88),
    (38, 132, 255),
    (0, 186, 124),
    (255, 159, 28),
    (155, 81, 224),
    (0, 188, 212),
    (240, 98, 178),
    (139, 195, 74),
    (121, 134, 255),
    (255, 112, 67),
    (38, 166, 154),
    (212, 180, 40),
)
"""Colours of labels, in the order in which labels appear."""

_PAPER: Final[Colour] = (246, 247, 249)
_INK: Final[Colour] = (32, 36, 44)
_PREVIEW_SIDE: Final = 1024


@dataclass(frozen=True)
class _Pen:
    """Sizes in pixels, chosen for one image."""

    line: int
    text: int

    @classmethod
    def for_size(cls, width: int, height: int) -> _Pen:
        side = (width * height) ** 0.5
        return cls(line=max(1, round(side / 220)), text=max(9, round(side / 36)))


def draw(result: Result, image: Image.Image) -> Image.Image:
    """Draw any result about an image over that image; returns a new RGB image of the same size.

    Args:
        result: detections, groundings, counts, semantic maps or poses. Answers and replies have no places to
            show.
        image: the image that the result speaks about, RGB.

    Raises:
        InputError: the result has nothing that can be drawn.
    """
    return _draw(result, image.convert("RGB"))


@singledispatch
def _draw(result: Result, image: Image.Image) -> Image.Image:
    raise InputError("this result has nothing to draw", value=type(result).__name__)


@_draw.register
def _(result: Detections, image: Image.Image) -> Image.Image:
    colours = _colours_of(result)
    masks = [(d.mask, colour) for d, colour in zip(result, colours, strict=True) if d.mask is not None]
    canvas = _tint(image, masks)
    pen = _Pen.for_size(*canvas.size)
    painter = ImageDraw.Draw(canvas)
    for detection, colour in zip(result, colours, strict=True):
        _outline(painter, detection.box, colour, pen, canvas.size)
    taken: list[Box] = []
    for detection, colour in zip(result, colours, strict=True):
        tag = f"{detection.label} {detection.score:.2f}"
        _name_tag(painter, tag, detection.box, colour, pen, canvas.size, taken)
    return canvas


@_draw.register
def _(result: Count, image: Image.Image) -> Image.Image:
    canvas = _draw(result.detections, image)
    pen = _Pen.for_size(*canvas.size)
    corner = Box(0, canvas.height, 0, canvas.height)
    _name_tag(ImageDraw.Draw(canvas), f"{result.label}: {result.count}", corner, _INK, pen, canvas.size, [])
    return canvas


@_draw.register
def _(result: SemanticMap, image: Image.Image) -> Image.Image:
    colours = [PALETTE[number % len(PALETTE)] for number in range(len(result.labels))]
    canvas = _tint(image, list(zip(result.masks, colours, strict=True)), strength=0.55)
    pen = _Pen.for_size(*canvas.size)
    painter = ImageDraw.Draw(canvas)
    taken: list[Box] = []
    for label, mask, colour in zip(result.labels, result.masks, colours, strict=True):
        box = mask.box
        if box is None:
            continue
        # A large area carries its name in its middle; on a small one the name would hide everything.
        centred = box.width > 1.5 * _font(pen.text).getlength(label) and box.height > 3 * pen.text
        if centred:
            x, y = _inner_point(mask.to_numpy())
            box = Box(x, y, x, y)
        _name_tag(painter, label, box, colour, pen, canvas.size, taken, centred=centred)
    return canvas


@_draw.register
def _(result: Poses, image: Image.Image) -> Image.Image:
    canvas = image.copy()
    pen = _Pen.for_size(*canvas.size)
    painter = ImageDraw.Draw(canvas)
    taken: list[Box] = []
    for number, pose in enumerate(result):
        colour = PALETTE[number % len(PALETTE)]
        _skeleton(painter, pose, result.skeleton, pen)
        _outline(painter, pose.box, colour, _Pen(max(1, pen.line // 2), pen.text), canvas.size)
        tag = f"{pose.label} {pose.score:.2f}"
        _name_tag(painter, tag, pose.box, colour, pen, canvas.size, taken)
    return canvas


def draw_region(
    region: Box | Point | Scribble | Mask, image: Image.Image, colour: Colour = PALETTE[0]
) -> Image.Image:
    """Draw one region prompt over an image; returns a new RGB image of the same size."""
    canvas = image.convert("RGB")
    if isinstance(region, Mask):
        return _tint(canvas, [(region, colour)])
    canvas = canvas.copy()
    pen = _Pen.for_size(*canvas.size)
    painter = ImageDraw.Draw(canvas)
    if isinstance(region, Box):
        _outline(painter, region, colour, pen, canvas.size)
    elif isinstance(region, Point):
        _dot(painter, region.x, region.y, 3 * pen.line, colour, pen, filled=True)
    elif len(set(region.points)) == 1:  # a line without length would not be seen
        _dot(painter, region.points[0].x, region.points[0].y, 2 * pen.line, colour, pen, filled=True)
    else:
        path = [(point.x, point.y) for point in region.points]
        painter.line(path, fill=(255, 255, 255), width=pen.line * 4, joint="curve")
        painter.line(path, fill=colour, width=pen.line * 2, joint="curve")
    return canvas


def contact_sheet(
    images: Sequence[Image.Image],
    titles: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    cell: int = 256,
) -> Image.Image:
    """Many images on one sheet, each fitted into a square cell with its title below.

    Args:
        images: PIL images of any size, at least one.
        titles: one text for each image; too long ones are cut. None leaves them out.
        columns: images in a row; by default the sheet becomes about square.
        cell: side of a cell in pixels.

    Raises:
        InputError: no image, not as many titles as images, or a number out of range.
    """
    _check_images(images)
    _check_whole("columns", 1 if columns is None else columns, 1, 1000)
    _check_whole("cell", cell, 16, 4096)
    if titles is not None and len(titles) != len(images):
        raise InputError("every image needs one title", value=len(titles), limit=len(images))
    if not all(isinstance(title, str) for title in titles or ()):
        raise InputError("titles are text", value=titles, limit="strings")
    columns = min(columns or max(1, round(len(images) ** 0.5 + 0.2)), len(images))
    rows = -(-len(images) // columns)
    gap, size = max(8, cell // 24), max(11, cell // 18)
    font, footer = _font(size), (size * 2 if titles is not None else 0)
    step_x, step_y = cell + gap, cell + footer + gap
    sheet = Image.new("RGB", (gap + columns * step_x, gap + rows * step_y), _PAPER)
    painter = ImageDraw.Draw(sheet)
    for number, image in enumerate(images):
        left, top = gap + number % columns * step_x, gap + number // columns * step_y
        painter.rectangle((left, top, left + cell - 1, top + cell - 1), fill=(230, 232, 236))
        small = _fit(image.convert("RGB"), cell)
        sheet.paste(small, (left + (cell - small.width) // 2, top + (cell - small.height) // 2))
        if titles is not None:
            title = _cut(titles[number], font, cell)
            painter.text((left + 1, top + cell + size // 3), title, font=font, fill=_INK)
    return sheet


def _check_images(images: Any) -> None:
    many = isinstance(images, Sequence)
    if not many or not images or not all(isinstance(image, Image.Image) for image in images):
        raise InputError(
            "a contact sheet needs at least one image, and images only",
            value=[type(image).__name__ for image in images] if many else type(images).__name__,
            limit="a list of PIL images",
            remedy="Open files with load_image(path).image.",
        )


def _check_whole(name: str, value: object, least: int, most: int) -> None:
    number = as_whole(value)
    if number is None or not least <= number <= most:
        raise InputError(
            f"{name} of a contact sheet is out of range", value=value, limit=f"an int, {least} to {most}"
        )


def preview_png(result: ImageResult, image: Image.Image | None = None) -> bytes:
    """PNG for a notebook: the result over its image, or over empty paper; at most 1024 pixels a side."""
    paper = image or Image.new("RGB", (result.width, result.height), (222, 225, 230))
    picture = draw(result, paper)
    picture.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


# --------------------------------------------------------------------------------------------- colours and
# masks


def _colours_of(result: Detections) -> list[Colour]:
    """A colour for each label; with a single label, one for each object."""
    names = result.class_names()
    if len({d.label for d in result}) <= 1:
        return [PALETTE[number % len(PALETTE)] for number in range(len(result))]
    return [PALETTE[names.index(d.label) % len(PALETTE)] for d in result]


def _tint(image: Image.Image, masks: Iterable[tuple[Mask, Colour]], strength: float = 0.36) -> Image.Image:
    """Lay colours over masks, with a solid edge around each."""
    pixels = np.array(image)  # (H, W, 3)
    edge = _Pen.for_size(*image.size).line
    for mask, colour in masks:
        box = mask.box
        if box is None:
            continue
        # Work inside the mask's box only: masks are many and mostly small.
        window = np.s_[int(box.y1) : int(box.y2), int(box.x1) : int(box.x2)]
        inside = mask.to_numpy()[window]
        view = pixels[window]
        tone = np.array(colour, dtype=np.float32)
        view[inside] = (view[inside] * (1 - strength) + tone * strength).astype(np.uint8)
        view[_rim(inside, edge)] = colour
    return Image.fromarray(pixels)


def _rim(inside: npt.NDArray[np.bool_], width: int) -> npt.NDArray[np.bool_]:
    """The pixels of a mask that are at most `width` from its outside."""
    core = np.pad(inside, 1)
    for _ in range(width):
        core[1:-1, 1:-1] &= core[:-2, 1:-1] & core[2:, 1:-1] & core[1:-1, :-2] & core[1:-1, 2:]
    return inside & ~core[1:-1, 1:-1]


def _inner_point(inside: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """A point well inside a mask: halve-way peeling until little is left, then the pixel next to its
    middle.
    """
    core = inside
    while True:
        smaller = core & ~_rim(core, 4)
        if not smaller.any():
            break
        core = smaller
    rows, columns = np.nonzero(core)
    nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    return float(columns[nearest]) + 0.5, float(rows[nearest]) + 0.5


# --------------------------------------------------------------------------------------------- lines and
# letters


def _outline(
    painter: ImageDraw.ImageDraw, box: Box, colour: Colour, pen: _Pen, size: tuple[int, int]
) -> None:
    """Box with softly rounded corners, kept inside the picture."""
    inner = box.clipped(*size)
    left, top, right, bottom = (round(value) for value in inner.xyxy)
    right, bottom = max(right - 1, left), max(bottom - 1, top)
    radius = min(2 * pen.line, (right - left) // 2, (bottom - top) // 2)
    painter.rounded_rectangle((left, top, right, bottom), radius=radius, outline=colour, width=pen.line)


def _name_tag(
    painter: ImageDraw.ImageDraw,
    text: str,
    box: Box,
    colour: Colour,
    pen: _Pen,
    size: tuple[int, int],
    taken: list[Box],
    *,
    centred: bool = False,
) -> None:
    """Name on a plate of the label's colour: above the box, or where there is room."""
    font = _font(pen.text)
    pad = max(2, pen.text // 4)
    text = _cut(text, font, max(size[0] - 2 * pad, 1))
    wide = font.getlength(text) + 2 * pad
    high = pen.text + 2 * (pad // 2) + 1
    places = (
        [(box.x1 - wide / 2, box.y1 - high / 2), (box.x1 - wide / 2, box.y1 + high / 2)]
        if centred
        else [(box.x1, box.y1 - high), (box.x1, box.y1), (box.x1, box.y2), (box.x2 - wide, box.y2 - high)]
    )
    plate = _free_place(places, wide, high, size, taken)
    taken.append(plate)
    painter.rounded_rectangle(plate.xyxy, radius=pad // 2 + 1, fill=colour)
    light = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] < 150
    ink = (255, 255, 255) if light else _INK
    painter.text((plate.x1 + pad, plate.center[1]), text, font=font, fill=ink, anchor="lm")


def _free_place(
    places: Sequence[tuple[float, float]], wide: float, high: float, size: tuple[int, int], taken: list[Box]
) -> Box:
    """The first place inside the picture that covers no other name; else the one that covers least."""

    def moved_inside(x: float, y: float) -> Box:
        left = min(max(x, 0.0), max(size[0] - wide, 0.0))
        top = min(max(y, 0.0), max(size[1] - high, 0.0))
        return Box(left, top, left + wide, top + high)

    candidates = [moved_inside(x, y) for x, y in places]
    costs = [sum(place.iou(other) for other in taken) + 1e-4 * rank for rank, place in enumerate(candidates)]
    return candidates[costs.index(min(costs))]


def _skeleton(
    painter: ImageDraw.ImageDraw, pose: Pose, skeleton: Sequence[tuple[str, str]], pen: _Pen
) -> None:
    """Bones coloured along the body, then joints; covered joints are hollow."""
    joints = {keypoint.name: keypoint for keypoint in pose.keypoints}
    bones = [(joints[a], joints[b]) for a, b in skeleton if a in joints and b in joints]
    for number, (start, end) in enumerate(bones):
        colour = PALETTE[number % len(PALETTE)]
        width = 2 * pen.line if start.visible and end.visible else pen.line
        painter.line([(start.x, start.y), (end.x, end.y)], fill=(255, 255, 255), width=width + 2)
        painter.line([(start.x, start.y), (end.x, end.y)], fill=colour, width=width)
    for number, keypoint in enumerate(pose.keypoints):
        _joint(painter, keypoint, PALETTE[number % len(PALETTE)], pen)


def _joint(painter: ImageDraw.ImageDraw, keypoint: Keypoint, colour: Colour, pen: _Pen) -> None:
    _dot(painter, keypoint.x, keypoint.y, 2 * pen.line, colour, pen, filled=keypoint.visible)


def _dot(
    painter: ImageDraw.ImageDraw, x: float, y: float, radius: int, colour: Colour, pen: _Pen, *, filled: bool
) -> None:
    ring = (255, 255, 255) if filled else colour
    painter.ellipse(
        (x - radius, y - radius, x + radius, y + radius),
        fill=colour if filled else (255, 255, 255),
        outline=ring,
        width=max(1, pen.line // 2),
    )


@lru_cache(maxsize=32)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """The text on one line, shortened with dots where it would not fit."""
    line = " ".join(text.split())
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(line + "...") > width:
        line = line[: -max(1, len(line) // 20)]
    return line + "..."


def _fit(image: Image.Image, side: int) -> Image.Image:
    """Largest size within a square; small images grow by whole pixels, so that they stay sharp."""
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    kind = Image.Resampling.NEAREST if scale >= 3 else Image.Resampling.LANCZOS
    return image.resize(size, kind)
