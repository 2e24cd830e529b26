"""Training pictures for drawing: scenes drawn to a layout, and exact pairs before and after an edit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

import numpy as np
import torch
from torch import Tensor

from visionllm_adapters.recipe.layouts import Layout, Spot, plan_layout
from visionllm_sdk.scenes import SceneOptions, render, sample_scene, training_seed
from visionllm_sdk.scenes.backdrop import Backdrop
from visionllm_sdk.scenes.captions import DRAWABLE
from visionllm_sdk.scenes.dice import Dice
from visionllm_sdk.scenes.drawing_language import EditWords, random_asked
from visionllm_sdk.scenes.edit_words import as_told, typical_shade
from visionllm_sdk.scenes.edits import EDIT_KINDS, AnyEdit, EditKind, edited, sample_edit, without_effects
from visionllm_sdk.scenes.facts import BACKGROUND_COLOURS, COLOURS
from visionllm_sdk.scenes.palette import background_word, blend, draw_colour
from visionllm_sdk.scenes.sample import size_word
from visionllm_sdk.scenes.spec import RGB, Background, ObjectSpec, SceneSpec

SIZES: Final = ((64, 64), (64, 64), (64, 64), (64, 64), (64, 64), (64, 64), (80, 48), (48, 80))
_STREAM: Final = 40
_PLANNED: Final = 0.75
_SHIFT: Final = 0.012
_TURN: Final = 4.0
_STRETCH: Final = 0.03
_SLIM, _STOUT = 0.35, 0.65
_OWN_SHADE: Final = 0.5
"""Chance is kept small: the first steps of sampling draw the mean of all that may come, and the mean of many
turns and sizes is a blot. Shades, which have no edges, vary the most: this share of their full range."""
CLEAN: Final = DRAWABLE.model_copy(update={"sizes": ("medium", "large"), "decoration": 0.1})
WILD: Final = SceneOptions(
    canvas=(64, 64), objects=(1, 4), sizes=("medium", "large"), figures=0.05, effects=0.0
)
_WILD: Final = 0.2
_KIND_SHARES: Final = (0.36, 0.2, 0.3, 0.14)
"""How often each of `EDIT_KINDS` is learnt: an addition has to be drawn."""
_UNTIL_SHOWN: Final = (_OWN_SHADE,) * 4 + (1.0,) * 8


@dataclass(frozen=True, slots=True, eq=False)
class EditPair:
    """A scene, an edit of it, and the words for the edit.

    Attributes:
        before: the scene.
        edit: what changes, as words tell it.
        words: what the instruction says.
    """

    before: SceneSpec
    edit: AnyEdit
    words: EditWords


def picture(spec: SceneSpec) -> Tensor:
    """The drawn scene, uint8 (3, H, W)."""
    return torch.from_numpy(np.array(render(spec).image)).permute(2, 0, 1)


def stack(pictures: Sequence[Tensor]) -> Tensor:
    """Pictures of one size as the loss wants them, (B, 3, H, W) in -1..1."""
    return torch.stack(list(pictures)).float() / 127.5 - 1


# ---- generation ----


def random_layout(seed: int, *, aspect: float = 1.0) -> Layout:
    """A planned order, or things anywhere, so that the denoiser follows layouts that are a little off."""
    rng = Random(seed)
    planned = plan_layout(random_asked(rng), aspect=aspect)
    if rng.random() < _PLANNED:
        return planned
    things: list[Spot] = []
    for thing in planned.things:
        for _ in range(8):
            scale = rng.uniform(0.75, 1.2)
            width, height = thing.box[2] * scale, thing.box[3] * scale
            low, high = (min(side / 2 + 0.03, 0.5) for side in (width, height))
            moved = (rng.uniform(low, 1 - low), rng.uniform(high, 1 - high), width, height)
            if all(_apart(moved, other.box) for other in things):
                things.append(replace(thing, box=moved))
                break
    return Layout(tuple(things), planned.background)


def _apart(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return any(abs(one[axis] - other[axis]) > 0.55 * (one[axis + 2] + other[axis + 2]) for axis in (0, 1))


def scene_of(layout: Layout, seed: int, size: tuple[int, int]) -> SceneSpec | None:
    """A scene that follows a layout, with shades, turns and small shifts by chance; None: not to be seen."""
    dice = Dice(seed, stream=_STREAM)
    word = layout.background or dice.choice(BACKGROUND_COLOURS)
    alike = any(thing.colour == word for thing in layout.things)
    behind = _shade(dice, word, 1.0 if alike else _OWN_SHADE)
    backdrop = Backdrop(Background(kind="plain", tones=(behind,)))
    items = []
    for thing in layout.things:
        colour = thing.colour or dice.choice(COLOURS)
        rgb = _shown(dice, colour, backdrop)
        if rgb is None:
            return None
        items.append(_placed(dice, thing, colour, rgb, size))
    return SceneSpec(
        width=size[0], height=size[1], background=backdrop.background, objects=tuple(items), seed=seed
    )


def _shade(dice: Dice, word: str, own: float = _OWN_SHADE) -> RGB:
    """A shade that the word names, nearer to its typical one than chance would have it."""
    drawn = draw_colour(dice, word)
    mixed = blend(typical_shade(word), drawn, own)
    return mixed if background_word(mixed) == word else drawn


def _shown(dice: Dice, word: str, backdrop: Backdrop) -> RGB | None:
    for own in _UNTIL_SHOWN:  # a green thing on green takes shades far from each other
        rgb = _shade(dice, word, own)
        if backdrop.shows(rgb):
            return rgb
    return None


def _placed(dice: Dice, thing: Spot, colour: str, rgb: RGB, size: tuple[int, int]) -> ObjectSpec:
    x, y, width, _ = thing.box
    diameter = width * size[0] * dice.uniform(1 - _STRETCH, 1 + _STRETCH)
    centre = (
        (x + dice.uniform(-_SHIFT, _SHIFT)) * size[0],
        (y + dice.uniform(-_SHIFT, _SHIFT)) * size[1],
    )
    return ObjectSpec(
        kind=thing.kind,
        colour=colour,
        rgb=rgb,
        size=size_word(diameter / min(size)),
        centre=centre,
        diameter=diameter,
        rotation=dice.uniform(-_TURN, _TURN),
        proportion=dice.uniform(_SLIM, _STOUT),
    )


def generation_batch(first: int, count: int) -> tuple[list[Layout], Tensor]:
    """`count` layouts and pictures of them from seeds `first`, ...; all of one size."""
    size = Random(first).choice(SIZES)
    layouts: list[Layout] = []
    pictures, seed = [], first * 4
    while len(layouts) < count:
        layout = random_layout(training_seed(seed), aspect=size[0] / size[1])
        spec = scene_of(layout, seed, size)
        seed += 1
        if spec is not None:
            layouts.append(layout)
            pictures.append(picture(spec))
    return layouts, stack(pictures)


# ---- editing ----


def edit_pair(
    seed: int, *, options: SceneOptions | None = None, kind: EditKind | None = None
) -> EditPair | None:
    """A scene and an edit that words can name; None where this seed has none."""
    rng = Random(seed)
    chosen = options or (WILD if rng.random() < _WILD else CLEAN)
    before = without_effects(sample_scene(seed, options=chosen))
    wanted = kind or rng.choices(EDIT_KINDS, _KIND_SHARES)[0]
    edit = sample_edit(seed, before, kind=wanted, options=CLEAN)
    if edit is None:
        return None
    told = as_told(edit, before, rng)
    return None if told is None else EditPair(before, *told)


def editing_batch(first: int, count: int) -> tuple[list[EditPair], Tensor, Tensor]:
    """`count` edit pairs from seeds `first`, ...: pairs, pictures before, exactly edited pictures."""
    pairs: list[EditPair] = []
    seed = first * 4
    while len(pairs) < count:
        pair = edit_pair(training_seed(seed))
        seed += 1
        if pair is not None:
            pairs.append(pair)
    before = stack([picture(pair.before) for pair in pairs])
    after = stack([picture(edited(pair.before, pair.edit)) for pair in pairs])
    return pairs, before, after
