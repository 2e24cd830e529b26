"""Dynamic-resolution tiles: an image of any shape as square crops and a thumbnail (paper, section 3.1)."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from visionllm_sdk.errors import ImageError, LimitError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Grid = tuple[int, int]
"""Columns, rows."""

Frame = tuple[float, float, float, float]
"""Left, top, width, height of an image on its canvas, as shares of the canvas."""

WHOLE: Frame = (0.0, 0.0, 1.0, 1.0)
_LARGEST_GRID = 64
_HALF = 0.5 - 1e-4  # a little less than half, for rounding
_LARGE = 16_000_000
"""Pixels up to which a canvas is always laid out in full."""


@functools.lru_cache(maxsize=16)
def candidate_grids(max_tiles: int) -> tuple[Grid, ...]:
    """All grids of at most ``max_tiles`` tiles, by rising area, then by columns.

    Grids of one area never tie for an image (a grid of another area lies between them), so that their order
    is free.

    Raises:
        LimitError: ``max_tiles`` below 1 or above 64.
    """
    if not 1 <= max_tiles <= _LARGEST_GRID:
        raise LimitError(
            "the number of tiles is out of range",
            value=max_tiles,
            limit=f"1 to {_LARGEST_GRID}",
            remedy="Correct max_tiles.",
        )
    return tuple(
        (columns, area // columns)
        for area in range(1, max_tiles + 1)
        for columns in range(1, area + 1)
        if area % columns == 0
    )


def choose_grid(width: int, height: int, *, max_tiles: int, tile_size: int) -> Grid:
    """The grid whose aspect ratio is closest to the image's.

    On a tie a later, larger grid wins only if the image has more than half of that grid's pixels.

    Args:
        width: of the image in pixels.
        height: of the image in pixels.
        max_tiles: most tiles, the thumbnail not counted.
        tile_size: side of a tile in pixels.

    Returns:
        Columns and rows.

    Raises:
        ImageError: an empty image.
        LimitError: ``max_tiles`` out of range.
    """
    if width < 1 or height < 1:
        raise ImageError("the image is empty", value=(width, height), remedy="Pass an image of at least 1x1.")
    ratio = width / height
    best, best_distance = (1, 1), float("inf")
    for grid in candidate_grids(max_tiles):
        columns, rows = grid
        distance = abs(ratio - columns / rows)
        large_enough = width * height > 0.5 * tile_size * tile_size * columns * rows
        if distance < best_distance or (distance == best_distance and large_enough):
            best, best_distance = grid, distance
    return best


def tile_count(width: int, height: int, *, max_tiles: int, tile_size: int) -> int:
    """How many tiles :func:`cut_tiles` makes of an image, the thumbnail included."""
    columns, rows = choose_grid(width, height, max_tiles=max_tiles, tile_size=tile_size)
    return columns * rows + ((columns, rows) != (1, 1))


@dataclass(frozen=True, slots=True)
class Canvas:
    """The rectangle that is resized to a grid of tiles: an image and, if need be, margins on two sides.

    Attributes:
        width, height: of the canvas in pixels of the image.
        left, top: where the image begins.
        image: width and height of the image in pixels.
    """

    width: int
    height: int
    left: int
    top: int
    image: tuple[int, int]

    @property
    def frame(self) -> Frame:
        """Where the image lies."""
        return (
            self.left / self.width,
            self.top / self.height,
            self.image[0] / self.width,
            self.image[1] / self.height,
        )

    def spread(self, image: Image.Image, fill: tuple[int, int, int]) -> Image.Image:
        """The image on its canvas, with margins of the colour `fill` (0..255)."""
        if (self.width, self.height) == self.image:
            return image
        spread = Image.new("RGB", (self.width, self.height), fill)
        spread.paste(image, (self.left, self.top))
        return spread

    def resized(self, image: Image.Image, fill: tuple[int, int, int], width: int, height: int) -> Image.Image:
        """The image on its canvas, resized as by :func:`resize_bicubic`.

        Margins lie along one axis only, so that the pass along the other may come before them: the canvas of
        a long, narrow image has hundreds of times its pixels, and never stands in full.

        Args:
            image: RGB.
            fill: colour of the margins, 0..255.
            width: of the result in pixels.
            height: of the result in pixels.
        """
        if self.width * self.height <= max(_LARGE, 4 * image.width * image.height):
            return resize_bicubic(self.spread(image, fill), width, height)
        if self.width == image.width:
            shrunk = image.resize((width, image.height), Image.Resampling.BICUBIC)
            canvas = Canvas(width, self.height, 0, self.top, shrunk.size)
        else:
            shrunk = image.resize((image.width, height), Image.Resampling.BICUBIC)
            canvas = Canvas(self.width, height, self.left, 0, shrunk.size)
        return canvas.spread(shrunk, fill).resize((width, height), Image.Resampling.BICUBIC)


def canvas_of(width: int, height: int, *, grid: Grid = (1, 1), max_stretch: float | None = None) -> Canvas:
    """The canvas of an image: the image itself, or so much more that the grid stretches it no further.

    The released model resizes an image to its grid whatever its shape. A grid of one tile makes squares out
    of images of 3:1, in which a square and a diamond look alike. The released family's other input mode pads
    to a square (:func:`pad_to_square`); this one pads only as far as needed, which keeps more pixels.

    Args:
        width: of the image in pixels.
        height: of the image in pixels.
        grid: columns and rows of tiles.
        max_stretch: most that one side may be stretched against the other, at least 1; None: any.
    """
    wide, high = width, height
    stretch = width / height * grid[1] / grid[0]
    if max_stretch is not None and stretch > max_stretch:
        high = round(height * stretch / max_stretch)
    elif max_stretch is not None and stretch < 1 / max_stretch:
        wide = round(width / (stretch * max_stretch))
    return Canvas(wide, high, (wide - width) // 2, (high - height) // 2, (width, height))


def resize_bicubic(image: Image.Image, width: int, height: int) -> Image.Image:
    """Anti-aliased bicubic resize in two passes, the one that leaves fewer pixels first.

    Each pass rounds to 8 bits, so the order shows in the last bit. Libraries of different age take different
    orders; naming it keeps the pixels equal to the reference whatever is installed.

    Args:
        image: RGB.
        width: of the result in pixels.
        height: of the result in pixels.
    """
    across_first = width * image.height <= image.width * height
    middle = (width, image.height) if across_first else (image.width, height)
    return image.resize(middle, Image.Resampling.BICUBIC).resize((width, height), Image.Resampling.BICUBIC)


def cut_tiles(
    image: Image.Image,
    *,
    max_tiles: int,
    tile_size: int,
    max_stretch: float | None = None,
    fill: tuple[int, int, int] = (0, 0, 0),
) -> list[Image.Image]:
    """Resize to the chosen grid and cut row by row; append the thumbnail unless the grid is 1x1.

    Args:
        image: RGB.
        max_tiles: most tiles, the thumbnail not counted.
        tile_size: side of a tile in pixels.
        max_stretch: see :func:`canvas_of`.
        fill: colour of the margins, 0..255.

    Returns:
        RGB tiles of ``tile_size`` squared; the last one shows the whole image.
    """
    columns, rows = choose_grid(*image.size, max_tiles=max_tiles, tile_size=tile_size)
    whole = canvas_of(*image.size, max_stretch=max_stretch)
    thumbnail = whole.resized(image, fill, tile_size, tile_size)
    if (columns, rows) == (1, 1):
        return [thumbnail]
    canvas = canvas_of(*image.size, grid=(columns, rows), max_stretch=max_stretch)
    resized = canvas.resized(image, fill, columns * tile_size, rows * tile_size)
    tiles = [
        resized.crop((x, y, x + tile_size, y + tile_size))
        for y in range(0, rows * tile_size, tile_size)
        for x in range(0, columns * tile_size, tile_size)
    ]
    return [*tiles, thumbnail]


def pad_to_square(image: Image.Image, fill: tuple[int, int, int]) -> Image.Image:
    """Centre the image on a square of its longer side; the released model's other input mode.

    Args:
        image: RGB.
        fill: colour of the margins, 0..255.
    """
    side = max(image.size)
    square = Image.new("RGB", (side, side), fill)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def tile_array(
    tiles: list[Image.Image], *, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> NDArray[np.float32]:
    """Normalised pixel values of equally large RGB tiles.

    Args:
        tiles: RGB images of one size.
        mean: per channel, for values in 0..1.
        std: per channel, for values in 0..1.

    Returns:
        Array of (tiles, 3, side, side), float32.
    """
    pixels = np.stack([np.asarray(tile, dtype=np.uint8).transpose(2, 0, 1) for tile in tiles])  # (T, 3, S, S)
    values = pixels.astype(np.float32)
    values *= np.float32(1 / 255)
    values -= np.asarray(mean, np.float32)[:, None, None]
    values /= np.asarray(std, np.float32)[:, None, None]
    return values


def thumbnail_mask(
    mask: NDArray[np.bool_], tile_size: int, canvas: Canvas | None = None
) -> NDArray[np.bool_]:
    """A region mask at image resolution, brought to the thumbnail's resolution.

    A pixel is inside if the region covers at least half of it. A region that covers no pixel so far keeps
    those that it covers most, so that none vanishes.

    Args:
        mask: (height, width), bool.
        tile_size: side of the thumbnail in pixels.
        canvas: what the thumbnail shows; None: the image without margins.

    Returns:
        (tile_size, tile_size), bool.
    """
    canvas = canvas or canvas_of(mask.shape[1], mask.shape[0])
    down = _mean_of_spans(mask.astype(np.float32), tile_size, canvas.top, canvas.height)
    share = _mean_of_spans(down.T, tile_size, canvas.left, canvas.width).T
    if share.max() <= 0:
        return np.zeros_like(share, dtype=bool)
    small: NDArray[np.bool_] = share >= min(_HALF, share.max() * (1 - 1e-4))
    return small


def _mean_of_spans(values: NDArray[np.float32], count: int, start: int, length: int) -> NDArray[np.float32]:
    """The mean of each of `count` equal spans of rows, fractions of rows included. (n, m) -> (count, m)

    The spans divide `length` rows, zeros but for the n values from `start` on.
    """
    before = np.zeros((len(values) + 1, values.shape[1]))
    np.cumsum(values, axis=0, out=before[1:])
    border = np.clip(np.arange(count + 1) * (length / count) - start, 0, len(values))
    row = np.minimum(border.astype(np.int64), len(values) - 1)
    integral = before[row] + (border - row)[:, None] * values[row]
    return (np.diff(integral, axis=0) * (count / length)).astype(np.float32)
