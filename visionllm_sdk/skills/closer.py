"""A closer look: the square around what a region prompt marks, cut out and seen again at a larger scale.

What a prompt marks may be a few pixels on the thumbnail; seen from nearby it fills a third of the picture.
The idea is that of the focal prompt of Describe Anything (arXiv 2504.16072), whose encoder sees both at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import singledispatch
from typing import Any, Final

from visionllm_sdk.geometry import Box, Mask, Point, Region, Scribble
from visionllm_sdk.images import LoadedImage
from visionllm_sdk.regions import Size

_REACH: Final = 3.0
"""Side of the cut-out in longer sides of what is marked: with less of it the surroundings no longer help."""
_MOST_LARGER: Final = 4
"""No cut-out is magnified more than this to fill the thumbnail."""
_WORTH_IT: Final = 0.8
"""Largest side of a cut-out, as a share of the picture's shorter side: a larger one shows nothing new."""


@dataclass(frozen=True)
class Window:
    """A square of an image in whole pixels.

    Attributes:
        left, top: its corner.
        side: its width and height.
    """

    left: int
    top: int
    side: int

    def cut(self, image: LoadedImage) -> LoadedImage:
        """That part of the image."""
        corners = (self.left, self.top, self.left + self.side, self.top + self.side)
        return LoadedImage(image=image.image.crop(corners), source=f"{image.source}, around a region")


def window_around(region: Region, size: Size, tile: int) -> Window | None:
    """Where to look more closely; None if that would show little more than the picture does.

    Args:
        region: a prompt that fits the image.
        size: width and height of the image in pixels.
        tile: side of the thumbnail in pixels.

    Returns:
        A square inside the image with all of the region, its centre as near to the region's as it can be.
    """
    extent = _extent(region)
    side = max(math.ceil(_REACH * max(extent.width, extent.height)), math.ceil(tile / _MOST_LARGER))
    if side > _WORTH_IT * min(size):
        return None
    left, top = (
        min(max(round(middle - side / 2), 0), whole - side)
        for middle, whole in zip(extent.center, size, strict=True)
    )
    return Window(left, top, side)


@singledispatch
def _extent(region: Any) -> Box:
    """The smallest box around a checked prompt. Masks are not empty."""
    box: Box = region.box
    return box


@_extent.register
def _(region: Box) -> Box:
    return region


@_extent.register
def _(region: Point) -> Box:
    return Box(region.x, region.y, region.x, region.y)


@_extent.register
def _(region: Scribble) -> Box:
    across, down = [point.x for point in region.points], [point.y for point in region.points]
    return Box(min(across), min(down), max(across), max(down))


@singledispatch
def seen_through(region: Any, window: Window) -> Region:
    """A prompt in pixels of the cut-out that holds it. Masks have the image's size."""
    rows = slice(window.top, window.top + window.side)
    columns = slice(window.left, window.left + window.side)
    return Mask.from_numpy(region.to_numpy()[rows, columns])


@seen_through.register
def _(region: Box, window: Window) -> Region:
    return region.shifted(-window.left, -window.top)


@seen_through.register
def _(region: Point, window: Window) -> Region:
    return Point(region.x - window.left, region.y - window.top)


@seen_through.register
def _(region: Scribble, window: Window) -> Region:
    return Scribble([(point.x - window.left, point.y - window.top) for point in region.points])
