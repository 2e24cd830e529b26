"""Captions that ask for a picture: what a scene shows as an order to draw it, in words and as data."""

from __future__ import annotations

from random import Random
from typing import Final

from visionllm_sdk.scenes.checker import MAX_ASKED, Asked, AskedObject, AskedRelation
from visionllm_sdk.scenes.expressions import RELATIONS, place_of, stands
from visionllm_sdk.scenes.facts import BACKGROUND_COLOURS, SHAPES, SceneFacts
from visionllm_sdk.scenes.labels import article
from visionllm_sdk.scenes.options import SceneOptions

DRAWABLE: Final = SceneOptions(
    canvas=(64, 64),
    objects=(1, 3),
    sizes=("medium", "large"),
    figures=0.0,
    backgrounds=("plain",),
    background_colours=BACKGROUND_COLOURS,
    overlap=0.0,
    max_cut=0.0,
    decoration=0.0,
    effects=0.0,
)
"""Scenes that a caption can ask for in full: few things, side by side, on one colour."""

_PLACED: Final = 0.6
_RELATED: Final = 0.7
_WITH_BACKGROUND: Final = 0.85


def ask_for(scene: SceneFacts, rng: Random) -> Asked:
    """An order that `scene` fulfils: all of its things, some of their places and relations, its background.

    Args:
        scene: with 1 to 4 shapes.
        rng: chooses what is said.

    Raises:
        InputError: a scene that no caption can ask for.
    """
    objects = []
    for thing in scene.objects:
        place = place_of(thing, scene) if len(scene.objects) == 1 or rng.random() < 0.15 else None
        said = place if rng.random() < _PLACED else None
        objects.append(AskedObject(thing.kind, thing.colour, None, said))
    relations = [
        relation
        for second in range(1, len(objects))
        if rng.random() < _RELATED and (relation := _relation(scene, second, rng)) is not None
    ]
    background = scene.background if rng.random() < _WITH_BACKGROUND else None
    return Asked(tuple(objects), tuple(relations), background)


def _relation(scene: SceneFacts, second: int, rng: Random) -> AskedRelation | None:
    """A true relation of the thing before to `second`, well apart."""
    first = second - 1
    true = [word for word in RELATIONS if stands(scene.objects[first], word, scene.objects[second], scene)]
    return AskedRelation(first, rng.choice(true), second) if true else None


def caption_text(asked: Asked) -> str:
    """The order in words: `a red circle left of a blue star on a green background`."""
    related = {relation.second: relation.relation for relation in asked.relations}
    text = _named(asked.objects[0])
    for index, one in enumerate(asked.objects[1:], start=1):
        joiner = related.get(index) if _follows(asked, index) else None
        text += f" {joiner or 'and'} {_named(one)}"
    return f"{text} on {article(asked.background)} background" if asked.background else text


def _follows(asked: Asked, index: int) -> bool:
    """Whether the thing at `index` is the second of a relation with the one named right before it."""
    return any(relation.second == index and relation.first == index - 1 for relation in asked.relations)


def _named(one: AskedObject) -> str:
    words = " ".join(word for word in (one.size, one.colour, one.kind) if word)
    if one.place is None:
        return article(words)
    return f"{article(words)} {'in' if one.place == 'center' else 'at'} the {one.place}"


def drawable(scene: SceneFacts) -> bool:
    """Whether a caption can ask for this scene."""
    return 1 <= len(scene.objects) <= MAX_ASKED and all(thing.kind in SHAPES for thing in scene.objects)
