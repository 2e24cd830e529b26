"""Words for an exact edit of a scene, and the shade that words alone can mean."""

from __future__ import annotations

import math
from functools import cache
from random import Random
from typing import Final

import numpy as np

from visionllm_sdk.scenes.backdrop import Backdrop
from visionllm_sdk.scenes.dice import Dice
from visionllm_sdk.scenes.drawing_language import EditWords
from visionllm_sdk.scenes.edits import Add, AnyEdit, ChangeBackground, Recolour, Remove, edited
from visionllm_sdk.scenes.expressions import PLACES, cell_centre, place_of, unique_names
from visionllm_sdk.scenes.facts import SHAPES
from visionllm_sdk.scenes.labels import ANY_KIND
from visionllm_sdk.scenes.palette import draw_colour
from visionllm_sdk.scenes.render import render
from visionllm_sdk.scenes.sample import size_word
from visionllm_sdk.scenes.spec import RGB, Background, ObjectSpec, Point, SceneSpec
from visionllm_sdk.scenes.truth import truth

_SHADES: Final = 400
_STREAM: Final = 40
_PLACED: Final = 0.15
_ADDED_AT: Final = 0.9
_ADDED: Final = 0.26
"""Diameter of an added thing as a share of the picture's shorter side: medium."""
_APART: Final = 1.0
"""Least gap between an added thing and its neighbours, in pixels."""
_CELLS: Final = ("center", *(place for row in PLACES for place in row if place != "center"))


@cache
def typical_shade(word: str) -> RGB:
    """The mean colour of a word, of `BACKGROUND_COLOURS`: the best guess where only the word is known."""
    dice = Dice(0, stream=_STREAM)
    mean = np.mean([draw_colour(dice, word) for _ in range(_SHADES)], axis=0)
    return int(mean[0]), int(mean[1]), int(mean[2])


def as_told(edit: AnyEdit, before: SceneSpec, rng: Random) -> tuple[AnyEdit, EditWords] | None:
    """An edit as an instruction can tell it, and what the instruction says.

    Words name no shade, and of an added thing neither size nor turn: it takes the typical shade if that can
    be seen, and is added upright, of medium size, in the middle of the named place - or, with no place named,
    where there is most room. Only so is there one exact picture to compare with.

    Args:
        edit: of `before`.
        before: the scene.
        rng: chooses among the names that fit.

    Returns:
        None where words do not name one thing, or there is no room for what is added.
    """
    match edit:
        case ChangeBackground():
            return _in_typical_shade(edit, before), EditWords("background", new_colour=edit.colour)
        case Add():
            return _adding(edit.item, before, rng)
        case Recolour():
            words = _changing(edit.index, before, rng, edit.colour)
            return None if words is None else (_in_typical_shade(edit, before), words)
        case Remove():
            words = _changing(edit.index, before, rng, None)
            return None if words is None else (edit, words)


def _in_typical_shade(edit: Recolour | ChangeBackground, before: SceneSpec) -> AnyEdit:
    """The edit with the typical shade of its colour word, if that can be seen in the scene."""
    shade = typical_shade(edit.colour)
    if isinstance(edit, Recolour):
        return edit.model_copy(update={"rgb": shade}) if Backdrop(before.background).shows(shade) else edit
    new = Background(kind="plain", tones=(shade,))
    if all(Backdrop(new).shows(item.rgb) for item in before.objects):
        return ChangeBackground(background=new, colour=edit.colour)
    return edit


def _adding(item: ObjectSpec, before: SceneSpec, rng: Random) -> tuple[AnyEdit, EditWords] | None:
    after = edited(before, Add(item=item))
    facts = truth(after, render(after)).facts()
    place = place_of(facts.objects[-1], facts)
    if place is None or item.kind not in SHAPES or item.colour is None:
        return None
    told = place if rng.random() < _ADDED_AT else None
    rgb = typical_shade(item.colour)
    added = ObjectSpec(
        kind=item.kind,
        colour=item.colour,
        rgb=rgb if Backdrop(before.background).shows(rgb) else item.rgb,
        size=size_word(_ADDED),
        centre=_centre(told or max(_CELLS, key=lambda cell: _room(_centre(cell, before), before)), before),
        diameter=_ADDED * min(before.width, before.height),
    )
    if _room(added.centre, before) < added.diameter / 2 + _APART:
        return None
    return Add(item=added), EditWords("add", place=told, new_kind=item.kind, new_colour=item.colour)


def _centre(place: str, scene: SceneSpec) -> Point:
    x, y = cell_centre(place)
    return x * scene.width, y * scene.height


def _room(centre: Point, scene: SceneSpec) -> float:
    """Pixels from a point to the nearest thing; less than 0 within its extent."""
    return min((math.dist(centre, one.centre) - one.diameter / 2 for one in scene.objects), default=math.inf)


def _changing(index: int, before: SceneSpec, rng: Random, new: str | None) -> EditWords | None:
    """The thing at `index` by a name that only it bears, now and then with its place."""
    facts = truth(before, render(before)).facts()
    names = [label for label in unique_names(index, facts) if label.kind in (*SHAPES, ANY_KIND)]
    if not names:
        return None
    name = rng.choice(names)
    return EditWords(
        "remove" if new is None else "recolour",
        kind=None if name.kind == ANY_KIND else name.kind,
        colour=name.colour,
        size=name.size,
        place=place_of(facts.objects[index], facts) if rng.random() < _PLACED else None,
        new_colour=new,
    )
