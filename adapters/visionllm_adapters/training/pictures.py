"""Pictures as training shows them: mirrored or resized at random, with everything that is known of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from random import Random
from typing import Final

import numpy as np
from PIL import Image

from visionllm_adapters.data.records import Record, Thing
from visionllm_sdk.geometry import Box, Mask

_SIDED: Final = re.compile(
    r"left|right|gauche|droit|link[se]|recht[se]|izquierd|derech|sinistr|destra|esquerd|direit", re.IGNORECASE
)
"""Sides in English ("leftmost", too), French, German, Spanish, Italian and Portuguese; to take "bright" for
one costs no more than a flip."""
_LEAST: Final = 32


def sided(text: str) -> bool:
    """Whether a text may be wrong for a mirrored picture.

    Letters beyond ASCII are of a language whose words for sides are not known here.
    """
    foreign = any(letter.isalpha() and not letter.isascii() for letter in text)
    return foreign or _SIDED.search(text) is not None


@dataclass(frozen=True, kw_only=True)
class View:
    """A picture as it is shown once.

    Attributes:
        image: RGB.
        things: what can be learnt of it, crowds left out.
        references: what its expressions mean, in their order.
    """

    image: Image.Image
    things: tuple[Thing, ...]
    references: tuple[Thing, ...]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.image.size


def seen(record: Record, random: Random, *, flip: bool, zoom: float) -> View:
    """Show a record.

    Zooming changes the picture's size on a canvas of its own size: a part of it, or all of it with a margin.

    Args:
        record: the labelled picture.
        random: decides.
        flip: whether it may be mirrored; never where keypoints have sides.
        zoom: largest factor.
    """
    image = record.load().image
    view = View(
        image=image,
        things=record.learnable,
        references=tuple(reference.thing for reference in record.references),
    )
    if flip and random.random() < 0.5 and not any(thing.keypoints for thing in view.things):
        view = _mirrored(view)
    factor = zoom ** random.uniform(-1, 1)
    return _zoomed(view, factor, random) if zoom > 1 and abs(factor - 1) > 0.03 else view


def _mirrored(view: View) -> View:
    width = view.image.width

    def turn(thing: Thing) -> Thing:
        x1, y1, x2, y2 = thing.box.xyxy
        mask = None if thing.mask is None else Mask.from_numpy(thing.mask.to_numpy()[:, ::-1])
        return replace(thing, box=Box(width - x2, y1, width - x1, y2), mask=mask)

    return View(
        image=view.image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        things=tuple(map(turn, view.things)),
        references=tuple(map(turn, view.references)),
    )


def _zoomed(view: View, factor: float, random: Random) -> View:
    """Resize the picture on a grey canvas of its old size, unless something known would be cut off."""
    width, height = view.image.size
    size = (max(_LEAST, round(width * factor)), max(_LEAST, round(height * factor)))
    scale = (size[0] / width, size[1] / height)
    left, top = (_shift(random, room) for room in (width - size[0], height - size[1]))
    boxes = [thing.box for thing in (*view.things, *view.references)]
    moved = [box.scaled(*scale).shifted(left, top) for box in boxes]
    cut = any(b.x1 < 0 or b.y1 < 0 or b.x2 > width or b.y2 > height for b in moved)
    if cut:
        return view
    canvas = Image.new("RGB", (width, height), (124, 116, 104))
    canvas.paste(view.image.resize(size, Image.Resampling.BILINEAR), (left, top))

    def move(thing: Thing) -> Thing:
        return replace(
            thing,
            box=thing.box.scaled(*scale).shifted(left, top),
            mask=_moved_mask(thing.mask, size, (left, top)),
            keypoints=tuple((x * scale[0] + left, y * scale[1] + top, v) for x, y, v in thing.keypoints),
            area=thing.area * scale[0] * scale[1],
        )

    return View(
        image=canvas, things=tuple(map(move, view.things)), references=tuple(map(move, view.references))
    )


def _shift(random: Random, room: int) -> int:
    return random.randint(min(0, room), max(0, room))


def _moved_mask(mask: Mask | None, size: tuple[int, int], place: tuple[int, int]) -> Mask | None:
    if mask is None:
        return None
    canvas = Image.new("1", (mask.width, mask.height))
    canvas.paste(Image.fromarray(mask.to_numpy()).resize(size, Image.Resampling.NEAREST), place)
    return Mask.from_numpy(np.asarray(canvas))
