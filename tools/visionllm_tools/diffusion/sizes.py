"""How large pictures are: what callers may ask for, and what the denoiser works at."""

from __future__ import annotations

import math
from typing import Final

from visionllm_sdk.errors import InputError

Size = tuple[int, int]
"""Width and height in pixels."""

_LARGEST: Final = 4
"""Sides beyond this multiple of the native side are refused: memory grows with the fourth power."""
_LONGEST_ASPECT: Final = 3.0
"""A denoiser's input is never longer than this; more extreme images are squeezed."""
_LEAST_POSITIONS: Final = 8
"""Fewest positions along a side of a latent: the denoiser halves it several times."""


def check_size(size: Size, *, step: int, native: int) -> Size:
    """A size that a caller asked for.

    Args:
        size: width and height in pixels.
        step: sides must be multiples of this.
        native: side of the pictures that the denoiser was made for.

    Raises:
        InputError: a side that is no multiple of `step`, too small, or too large.
    """
    least, most = min(step * _LEAST_POSITIONS, native), native * _LARGEST
    nearest = " x ".join(str(_nearest(side, step, least, most)) for side in size)
    for side in size:
        if side % step or not least <= side <= most:
            raise InputError(
                "a picture of this size cannot be made",
                value=f"{size[0]} x {size[1]}",
                limit=f"multiples of {step} from {least} to {most} for either side",
                remedy=f"Ask for {nearest}.",
            )
    return size


def working_size(size: Size, *, step: int, native: int) -> Size:
    """The size at which a picture of `size` is worked on: about the native area and the same aspect ratio.

    Args:
        size: width and height in pixels, any.
        step: sides become multiples of this.
        native: side of the pictures that the denoiser was made for.
    """
    aspect = min(max(size[0] / size[1], 1 / _LONGEST_ASPECT), _LONGEST_ASPECT)
    sides = native * math.sqrt(aspect), native / math.sqrt(aspect)
    width, height = (max(round(side / step), 1) * step for side in sides)
    return width, height


def _nearest(side: int, step: int, least: int, most: int) -> int:
    return min(max(round(side / step) * step, least), most)
