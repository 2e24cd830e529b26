"""Judging edited pictures classically: was the edit made, and did everything else stay?

The scene generator knows the edited scene exactly, so an edit is judged at the place where it belongs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from visionllm_sdk.errors import InputError
from visionllm_sdk.scenes.colours import Labs, lab_pixels, name_colours
from visionllm_sdk.scenes.edits import Add, AnyEdit, ChangeBackground, Recolour, Remove, edited, touched
from visionllm_sdk.scenes.facts import BACKGROUND_COLOURS, COLOURS
from visionllm_sdk.scenes.render import Mask, render
from visionllm_sdk.scenes.silhouettes import classify
from visionllm_sdk.scenes.spec import SceneSpec

_COLOURED: Final = 0.6
"""Share of an object's inner pixels that must bear the asked colour word: the rest is outline or gloss."""
_BACKGROUND: Final = 0.85
_LIKE_EXACT: Final = 20.0
"""Colour difference up to which a pixel counts as what should be there."""
_GONE: Final = 0.8
_SAME_PLACE: Final = 0.5
"""Least intersection over union of an added thing with where it should be."""
_CHANGED: Final = 15.0
_ONE_TONE: Final = 12.0
"""Largest colour difference within a plain background, and from the colours that bear its word."""


@dataclass(frozen=True, slots=True)
class EditVerdict:
    """How an edited picture answers its instruction.

    Attributes:
        done: the edit was made where it belongs.
        share: of the pixels that had to change (or, for an added thing, the overlap with its exact place).
        psnr: of the whole picture against the exact edited scene, in dB.
        inside, outside: of the touched place and of all other pixels; infinite where nothing differs or
            there are no such pixels.
    """

    done: bool
    share: float
    psnr: float
    inside: float
    outside: float


def check_edit(image: Image.Image, before: SceneSpec, edit: AnyEdit) -> EditVerdict:
    """Judge an edited picture.

    Args:
        image: the edited picture, of the size of the scene.
        before: the scene that was edited.
        edit: what was asked for.

    Raises:
        InputError: a picture of another size.
    """
    if image.size != (before.width, before.height):
        raise InputError(
            "the edited picture is not of the scene's size",
            value=image.size,
            limit=(before.width, before.height),
            remedy="Judge pictures at the size of their input.",
        )
    pixels = np.asarray(image.convert("RGB"))
    exact = np.asarray(render(edited(before, edit)).image)
    place = touched(before, edit)
    share, enough = _share(lab_pixels(pixels), lab_pixels(exact), before, edit)
    return EditVerdict(
        done=share >= enough,
        share=share,
        psnr=psnr(pixels, exact),
        inside=psnr(pixels, exact, place),
        outside=psnr(pixels, exact, ~place),
    )


def psnr(one: NDArray[np.uint8], other: NDArray[np.uint8], where: Mask | None = None) -> float:
    """Peak signal-to-noise ratio in dB of 8-bit pixels (H, W, 3), on the pixels of (H, W) `where`."""
    difference = one.astype(np.float64) - other
    chosen = difference if where is None else difference[where]
    error = float((chosen**2).mean()) if chosen.size else 0.0
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def _share(seen: Labs, exact: Labs, before: SceneSpec, edit: AnyEdit) -> tuple[float, float]:
    """The share that was achieved, and the share that is enough."""
    match edit:
        case Recolour():
            return _coloured(seen, _inner(_visible(edited(before, edit), edit.index)), edit.colour), _COLOURED
        case Remove():
            return _as_exact(seen, exact, _inner(_visible(before, edit.index))), _GONE
        case Add():
            return _added(seen, before, edit), _SAME_PLACE
        case ChangeBackground():
            return _behind(seen, before, edit.colour), _BACKGROUND


def _visible(spec: SceneSpec, index: int) -> Mask:
    mask: Mask = render(spec).visible[index]
    return mask


def _inner(mask: Mask) -> Mask:
    """The mask without its soft rim, unless nothing else is left."""
    inner: Mask = ndimage.binary_erosion(mask)
    return inner if inner.sum() >= 5 else mask


def _coloured(labs: Labs, mask: Mask, word: str) -> float:
    if not mask.any():
        return 0.0
    return float((name_colours(labs[mask]) == COLOURS.index(word)).mean())


def _as_exact(seen: Labs, exact: Labs, mask: Mask) -> float:
    """Share of the masked pixels that look like what is really there without the removed thing."""
    if not mask.any():
        return 1.0
    return float((np.linalg.norm(seen[mask] - exact[mask], axis=-1) < _LIKE_EXACT).mean())


def _added(seen: Labs, before: SceneSpec, edit: Add) -> float:
    """Overlap of what is new with where the thing should be; 0 if it has another shape or colour."""
    new = np.linalg.norm(seen - lab_pixels(np.asarray(render(before).image)), axis=-1) > _CHANGED
    labelled, _ = ndimage.label(new)
    wanted = _visible(edited(before, edit), len(before.objects))
    sizes = np.bincount(labelled[wanted], minlength=2)
    sizes[0] = 0
    found = labelled == sizes.argmax() if sizes.any() else np.zeros_like(new)
    likeness = classify(found.astype(np.float32))
    if likeness is None or likeness.kind != edit.item.kind:
        return 0.0
    if edit.item.colour is not None and _coloured(seen, _inner(found), edit.item.colour) < _COLOURED:
        return 0.0
    return float((found & wanted).sum() / (found | wanted).sum())


def _behind(labs: Labs, before: SceneSpec, word: str) -> float:
    """Share of the background, well away from things, that bears the word and is of one tone."""
    things = render(before).visible.any(axis=0)
    behind = ~ndimage.binary_dilation(things, iterations=2)
    if not behind.any():
        return 0.0
    tones = labs[behind]
    names = name_colours(tones, BACKGROUND_COLOURS, within=_ONE_TONE)
    even = np.linalg.norm(tones - np.median(tones, axis=0), axis=-1) < _ONE_TONE
    return float(((names == BACKGROUND_COLOURS.index(word)) & even).mean())
