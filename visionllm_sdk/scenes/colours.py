"""Naming the colours of pixels: what a classical eye sees, for judging pictures.

`palette.colour_word` says which word a *drawn* colour bears and stays silent between the words. Here every
colour gets the word whose colours look most like it, because pictures may be blurred, noisy or painted by a
model.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from visionllm_sdk.scenes.dice import Dice
from visionllm_sdk.scenes.facts import COLOURS
from visionllm_sdk.scenes.palette import draw_colour

Labs = NDArray[np.float32]
"""(..., 3) CIE L*a*b*."""

_PROTOTYPES: Final = 120
_SEED: Final = 20

_TO_XYZ: Final = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], dtype=np.float32
) / np.array([[0.9505], [1.0], [1.089]], dtype=np.float32)


def lab_pixels(rgb: NDArray[np.uint8] | NDArray[np.float32]) -> Labs:
    """CIE L*a*b* (D65) of sRGB pixels (..., 3) in 0..255; see `palette.lab`."""
    share = np.asarray(rgb, dtype=np.float32) / np.float32(255)
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T
    cubes = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = cubes[..., 0], cubes[..., 1], cubes[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1).astype(np.float32)


def name_colours(
    labs: Labs, words: Sequence[str] = COLOURS, *, within: float | None = None
) -> NDArray[np.int64]:
    """For each of (N, 3) colours the position in `words` of the word that fits best, (N,).

    With `within`, -1 where even the most similar colour of any word differs by more than that.
    """
    prototypes, owners = _prototypes(tuple(words))
    flat = labs.reshape(-1, 3)
    # |a - b|^2 without |a|^2, which is the same for all prototypes.
    distance = (prototypes**2).sum(axis=1) - 2 * (flat @ prototypes.T)
    best: NDArray[np.intp] = distance.argmin(axis=1)
    if within is None:
        return owners[best]
    near = np.linalg.norm(flat - prototypes[best], axis=1) <= within
    return np.where(near, owners[best], -1)


def main_colour(labs: Labs, words: Sequence[str] = COLOURS) -> tuple[str, float]:
    """The word that most of (N, 3) colours bear, and their share."""
    votes = np.bincount(name_colours(labs, words), minlength=len(words))
    best = int(votes.argmax())
    return words[best], float(votes[best] / max(votes.sum(), 1))


@cache
def _prototypes(words: tuple[str, ...]) -> tuple[Labs, NDArray[np.int64]]:
    """Examples of every word's colours (P, 3), and the word's position of each (P,)."""
    dice = Dice(_SEED)
    drawn = [draw_colour(dice, word) for word in words for _ in range(_PROTOTYPES)]
    owners = np.repeat(np.arange(len(words)), _PROTOTYPES)
    return lab_pixels(np.array(drawn, dtype=np.float32)), owners
