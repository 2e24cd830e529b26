"""Words for an exact edit of a scene, and the shade that words alone can mean."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Final

import numpy as np

from visionllm_sdk.scenes.backdrop import Backdrop
from visionllm_sdk.scenes.dice import Dice
from visionllm_sdk.scenes.drawing_language import EditWords
from visionllm_sdk.scenes.edits import Add, AnyEdit, ChangeBackground, Recolour, Remove, edited
from visionllm_sdk.scenes.expressions import place_of, unique_names
from visionllm_sdk.scenes.facts import SHAPES
from visionllm_sdk.scenes.labels import ANY_KIND
from visionllm_sdk.scenes.palette import draw_colour
from visionllm_sdk.scenes.render import render
from visionllm_sdk.scenes.spec import RGB, Background, ObjectSpec, SceneSpec
from visionllm_sdk.scenes.truth import truth

_SHADES: Final = 400
_STREAM: Final = 40
_PLACED: Final = 0.15
_ADDED_AT: Final = 0.9


@cache
def typical_shade(word: str) -> RGB:
    """The mean colour of a word, of `BACKGROUND_COLOURS`: the best guess where only the word is known."""
    dice = Dice(0, stream=_STREAM)
    mean = np.mean([draw_colour(dice, word) for _ in range(_SHADES)], axis=0)
    return int(mean[0]), int(mean[1]), int(mean[2])


def in_typical_shade(edit: AnyEdit, before: SceneSpec) -> AnyEdit:
    """The edit with the typical shade of its colour word, if that can be seen in the scene.

    An instruction names a word, not a shade; only then is there one exact picture to compare with.
    """
    backdrop = Backdrop(before.background)
    match edit:
        case Recolour() if backdrop.shows(typical_shade(edit.colour)):
            return edit.model_copy(update={"rgb": typical_shade(edit.colour)})
        case Add() if edit.item.colour and backdrop.shows(typical_shade(edit.item.colour)):
            return Add(item=edit.item.model_copy(update={"rgb": typical_shade(edit.item.colour)}))
        case ChangeBackground():
            new = Background(kind="plain", tones=(typical_shade(edit.colour),))
            if all(Backdrop(new).shows(item.rgb) for item in before.objects):
                return ChangeBackground(background=new, colour=edit.colour)
    return edit


def words_for(edit: AnyEdit, before: SceneSpec, rng: Random) -> EditWords | None:
    """What an instruction for this edit says; None where words do not name one thing.

    Args:
        edit: of `before`.
        before: the scene.
        rng: chooses among the names that fit.
    """
    match edit:
        case ChangeBackground():
            return EditWords("background", new_colour=edit.colour)
        case Add():
            return _adding(edit.item, before, rng)
        case Recolour():
            return _changing(edit.index, before, rng, edit.colour)
        case Remove():
            return _changing(edit.index, before, rng, None)


def _adding(item: ObjectSpec, before: SceneSpec, rng: Random) -> EditWords | None:
    after = edited(before, Add(item=item))
    facts = truth(after, render(after)).facts()
    place = place_of(facts.objects[-1], facts)
    if place is None or item.kind not in SHAPES:
        return None
    told = place if rng.random() < _ADDED_AT else None
    return EditWords("add", place=told, new_kind=item.kind, new_colour=item.colour)


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
