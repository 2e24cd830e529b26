"""What a classical eye sees in a picture: separate things on a background, their shapes and colours.

No learned model has a part in it, so that it can judge pictures that a model has made. It is meant for
pictures like the scenes of this package with things that do not hide one another: plain backgrounds, or
patterns whose tones are close to each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from visionllm_sdk.scenes.colours import Labs, lab_pixels, main_colour
from visionllm_sdk.scenes.facts import BACKGROUND_COLOURS, ObjectFacts, SceneFacts
from visionllm_sdk.scenes.sample import size_word
from visionllm_sdk.scenes.silhouettes import Cover, classify

UNKNOWN: Final = "unknown"
"""Kind of a thing that looks like no shape."""

_LONGEST: Final = 160  # pixels; larger pictures are reduced first
_TONES: Final = 4
_STANDS_OUT: Final = 15.0  # colour difference from the background from which a pixel may belong to a thing
_LEAST_SHARE: Final = 0.0022  # of the picture; smaller patches are specks
_LEAST_PIXELS: Final = 9
_LEAST_OVERLAP: Final = 0.7
_ONE_TONE: Final = 0.85  # share of the background that must bear its colour word


def look(image: Image.Image) -> SceneFacts:
    """Things and background of a picture, in its own pixels.

    `kind` is one of the shapes or `UNKNOWN`; `background` is None where no one colour word fits.
    """
    small = _reduced(image.convert("RGB"))
    pixels = np.asarray(small)
    labs = lab_pixels(pixels)
    tones = _background_tones(labs)
    contrast = _distance(labs, tones)  # (H, W)
    objects = tuple(
        found
        for mask in _patches(contrast)
        if (found := _describe(mask, labs, tones, contrast, image.width / small.width)) is not None
    )
    return SceneFacts(
        width=image.width, height=image.height, objects=objects, background=_background_word(labs, contrast)
    )


def _reduced(image: Image.Image) -> Image.Image:
    factor = -(-max(image.size) // _LONGEST)
    return image.reduce(factor) if factor > 1 else image


def _distance(labs: Labs, tones: Labs) -> NDArray[np.float32]:
    """Colour difference of every pixel to the nearest of the tones."""
    nearest: NDArray[np.float32] = np.sqrt(((labs[..., None, :] - tones) ** 2).sum(axis=-1)).min(axis=-1)
    return nearest


def _background_tones(labs: Labs) -> Labs:
    """The colours of the border, (T, 3): its commonest tone, and others that are common and near to it."""
    border = np.concatenate([labs[:2].reshape(-1, 3), labs[-2:].reshape(-1, 3), labs[:, 0], labs[:, -1]])
    tones: list[NDArray[np.float32]] = []
    rest = border
    while len(tones) < _TONES and len(rest) > 0.08 * len(border):
        _, where, counts = np.unique(np.rint(rest / 10), axis=0, return_inverse=True, return_counts=True)
        near = rest[np.linalg.norm(rest - rest[where.ravel() == counts.argmax()].mean(axis=0), axis=1) < 12]
        tone = np.median(near, axis=0)
        if tones and np.linalg.norm(tone - tones[0]) > 40:
            break  # not a pattern any more: something stands at the border
        tones.append(tone)
        rest = rest[np.linalg.norm(rest - tone, axis=1) >= 12]
    return np.stack(tones)


def _patches(contrast: NDArray[np.float32]) -> Iterator[NDArray[np.bool_]]:
    """Masks of connected things. Soft borders that bridge a gap are cut at half of a thing's contrast."""
    least = max(_LEAST_PIXELS, _LEAST_SHARE * contrast.size)
    coarse, count = ndimage.label(contrast > _STANDS_OUT)
    for number in range(1, count + 1):
        mask = coarse == number
        if mask.sum() < least:
            continue
        level = np.percentile(contrast[mask], 70)
        fine, parts = ndimage.label(mask & (contrast > 0.5 * level))
        for part in range(1, parts + 1):
            if (fine == part).sum() >= least:
                yield fine == part


def _describe(
    mask: NDArray[np.bool_], labs: Labs, tones: Labs, contrast: NDArray[np.float32], scale: float
) -> ObjectFacts | None:
    """One thing, in pixels of the picture as given (`scale` of those looked at)."""
    inner = ndimage.binary_erosion(mask)
    inside = inner if inner.sum() >= 5 else mask
    word, _ = main_colour(labs[inside])
    likeness = classify(_cover(mask, inside, contrast))
    if likeness is None:
        return None
    rows, columns = np.nonzero(mask)
    height, width = mask.shape
    box = (columns.min() * scale, rows.min() * scale, (columns.max() + 1) * scale, (rows.max() + 1) * scale)
    return ObjectFacts(
        kind=likeness.kind if likeness.overlap >= _LEAST_OVERLAP else UNKNOWN,
        colour=word,
        size=size_word(likeness.diameter / min(width, height)),
        box=(float(box[0]), float(box[1]), float(box[2]), float(box[3])),
        diameter=likeness.diameter * scale,
    )


def _cover(mask: NDArray[np.bool_], inside: NDArray[np.bool_], contrast: NDArray[np.float32]) -> Cover:
    """Share of each pixel that the thing covers, cropped: 1 inside, soft along the rim."""
    reach = ndimage.binary_dilation(mask)
    rows, columns = np.nonzero(reach)
    crop = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    level = np.median(contrast[inside])
    soft = np.clip(contrast / max(float(level), 1.0), 0, 1) * reach
    cover: NDArray[np.float32] = np.maximum(soft, inside)[crop].astype(np.float32)
    return cover


def _background_word(labs: Labs, contrast: NDArray[np.float32]) -> str | None:
    behind = labs[contrast < _STANDS_OUT]
    if len(behind) < 0.1 * contrast.size:
        return None
    word, share = main_colour(behind, BACKGROUND_COLOURS)
    return word if share >= _ONE_TONE else None
