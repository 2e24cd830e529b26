"""Keeping what an edit leaves alone.

A decoder works at its own resolution. Where it changed next to nothing, the caller's own pixels are better
than its copy of them.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

_GROWN = 3
"""Side in pixels of the square by which a changed place grows, so that its soft border belongs to it."""


def keep_unchanged(
    image: Image.Image, before: Image.Image, after: Image.Image, *, threshold: float
) -> Image.Image:
    """The edit laid into the image: changed places from `after`, all others as they were.

    Args:
        image: what the caller passed, RGB of any size.
        before: the same at the size of the work.
        after: the edit, of the size of `before`.
        threshold: the largest change of a channel, as a share of full scale, that still counts as none.

    Returns:
        RGB of the size of `image`.
    """
    change = np.abs(np.asarray(after, dtype=np.int16) - np.asarray(before, dtype=np.int16)).max(axis=-1)
    changed = Image.fromarray((change > threshold * 255).astype(np.uint8) * 255)
    # A lone pixel is noise of the decoder; a place that is left after the median was meant.
    changed = changed.filter(ImageFilter.MedianFilter(3)).filter(ImageFilter.MaxFilter(_GROWN))
    size = image.size
    enlarged = after if after.size == size else after.resize(size, Image.Resampling.LANCZOS)
    mask = changed if changed.size == size else changed.resize(size, Image.Resampling.BILINEAR)
    return Image.composite(enlarged, image, mask)
