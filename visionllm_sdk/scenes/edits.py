"""Edits of a scene, with exactly the scene that they lead to.

An edit is data; `edited` applies it to a description, and drawing both descriptions gives a pair of pictures
that differ only where the edit is. Background noise and sensor noise keep their seeds. Blur and JPEG carry a
change a few pixels further; draw `without_effects` where that must not be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from visionllm_sdk.errors import InputError
from visionllm_sdk.scenes.backdrop import Backdrop, plain_background
from visionllm_sdk.scenes.decoration import recoloured
from visionllm_sdk.scenes.dice import Dice
from visionllm_sdk.scenes.facts import BACKGROUND_COLOURS, COLOURS
from visionllm_sdk.scenes.layers import coverage
from visionllm_sdk.scenes.options import SceneOptions
from visionllm_sdk.scenes.palette import background_word, draw_colour
from visionllm_sdk.scenes.placement import told_apart
from visionllm_sdk.scenes.render import Mask, on_canvas
from visionllm_sdk.scenes.sample import sample_object
from visionllm_sdk.scenes.spec import RGB, Background, Effects, ObjectSpec, SceneSpec

EditKind = Literal["recolour", "remove", "add", "background"]
EDIT_KINDS: Final[tuple[EditKind, ...]] = ("recolour", "remove", "add", "background")
EDIT_STREAM: Final = 2
_TRIES = 12


class _Edit(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Recolour(_Edit):
    """Give object number `index` the colour `colour`, exactly `rgb`."""

    kind: Literal["recolour"] = "recolour"
    index: int = Field(ge=0)
    colour: str
    rgb: RGB


class Remove(_Edit):
    """Take object number `index` away; what it hid comes to light."""

    kind: Literal["remove"] = "remove"
    index: int = Field(ge=0)


class Add(_Edit):
    """Lay `item` on top."""

    kind: Literal["add"] = "add"
    item: ObjectSpec


class ChangeBackground(_Edit):
    """Put `background` behind everything; `colour` names it."""

    kind: Literal["background"] = "background"
    background: Background
    colour: str


AnyEdit = Recolour | Remove | Add | ChangeBackground
Edit = Annotated[AnyEdit, Field(discriminator="kind")]
"""For fields of pydantic models; `AnyEdit` is the same without the rule for reading JSON."""


def edited(spec: SceneSpec, edit: AnyEdit) -> SceneSpec:
    """The scene after `edit`.

    Raises:
        InputError: when the edit names an object that is not there, or recolours a figure.
    """
    match edit:
        case Recolour():
            old = _object(spec, edit.index)
            if old.colour is None:
                raise InputError(
                    "only shapes have one colour to change",
                    value=old.kind,
                    remedy="Recolour a shape instead.",
                )
            return _with_objects(spec, edit.index, recoloured(old, edit.colour, edit.rgb))
        case Remove():
            _object(spec, edit.index)
            return _with_objects(spec, edit.index)
        case Add():
            return spec.model_copy(update={"objects": (*spec.objects, edit.item)})
        case ChangeBackground():
            return spec.model_copy(update={"background": edit.background})


def _object(spec: SceneSpec, index: int) -> ObjectSpec:
    if index >= len(spec.objects):
        raise InputError(
            "the edit names an object that is not in the scene",
            value=index,
            limit=f"0..{len(spec.objects) - 1}",
            remedy="Count the objects in the order of the spec, from 0.",
        )
    return spec.objects[index]


def _with_objects(spec: SceneSpec, index: int, *instead: ObjectSpec) -> SceneSpec:
    objects = spec.objects[:index] + instead + spec.objects[index + 1 :]
    return spec.model_copy(update={"objects": objects})


def without_effects(spec: SceneSpec) -> SceneSpec:
    """The scene as drawn, with no blur, noise or JPEG."""
    return spec.model_copy(update={"effects": Effects()})


def touched(spec: SceneSpec, edit: AnyEdit) -> Mask:
    """(H, W) bool: the pixels of the drawing that `edit` may change, before blur and JPEG."""
    if isinstance(edit, ChangeBackground):
        return np.ones((spec.height, spec.width), dtype=bool)
    item = edit.item if isinstance(edit, Add) else _object(spec, edit.index)
    left, top, alpha = coverage(item)
    mask = np.zeros((spec.height, spec.width), dtype=bool)
    target, crop = on_canvas(left, top, alpha.shape, mask.shape)
    mask[target] = alpha[crop] > 0
    return mask


# ---- sampling ----


def sample_edit(
    seed: int, spec: SceneSpec, *, kind: EditKind, options: SceneOptions | None = None
) -> AnyEdit | None:
    """A random edit of the wanted kind that leaves every object plain to see; None when there is none.

    Args:
        seed: fixes the choice.
        spec: the scene before.
        kind: one of `EDIT_KINDS`.
        options: limits for added objects; by default shapes of any kind.
    """
    return _SAMPLERS[kind](Dice(seed, stream=EDIT_STREAM), spec, options or SceneOptions(figures=0.0))


def _sample_recolour(dice: Dice, spec: SceneSpec, options: SceneOptions) -> Recolour | None:
    shapes = [index for index, item in enumerate(spec.objects) if item.colour is not None]
    if not shapes:
        return None
    index = dice.choice(shapes)
    old, backdrop = spec.objects[index], Backdrop(spec.background)
    for _ in range(_TRIES):
        word = dice.choice([colour for colour in COLOURS if colour != old.colour])
        rgb = draw_colour(dice, word)
        new = recoloured(old, word, rgb)
        line = None if new.outline is None else new.outline.rgb
        if line != rgb and backdrop.shows(rgb) and told_apart(new, _without(spec, index)):
            return Recolour(index=index, colour=word, rgb=rgb)
    return None


def _without(spec: SceneSpec, index: int) -> tuple[ObjectSpec, ...]:
    return spec.objects[:index] + spec.objects[index + 1 :]


def _sample_remove(dice: Dice, spec: SceneSpec, options: SceneOptions) -> Remove | None:
    return Remove(index=dice.integer(0, len(spec.objects) - 1)) if spec.objects else None


def _sample_add(dice: Dice, spec: SceneSpec, options: SceneOptions) -> Add | None:
    for _ in range(3):
        item = sample_object(dice.seed(), spec, options=options)
        if item is not None:
            return Add(item=item)
    return None


def _sample_background(dice: Dice, spec: SceneSpec, options: SceneOptions) -> ChangeBackground | None:
    before = background_word(spec.background.tones[0]) if spec.background.kind == "plain" else None
    words = [word for word in BACKGROUND_COLOURS if word != before]
    colours = [
        rgb
        for item in spec.objects
        for rgb in ([item.rgb] if item.figure is None else item.figure.colours.values())
    ]
    for _ in range(_TRIES):
        word = dice.choice(words)
        background = plain_background(dice, word)
        backdrop = Backdrop(background)
        if all(backdrop.shows(rgb) for rgb in colours):
            return ChangeBackground(background=background, colour=word)
    return None


_Sampler = Callable[[Dice, SceneSpec, SceneOptions], AnyEdit | None]
_SAMPLERS: Final[dict[EditKind, _Sampler]] = {
    "recolour": _sample_recolour,
    "remove": _sample_remove,
    "add": _sample_add,
    "background": _sample_background,
}
