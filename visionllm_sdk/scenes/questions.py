"""Questions about a scene, each with its answer; counting and measuring are looked up with a tool first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Final

from visionllm_sdk.scenes.exchange import Exchange, Link, linked_reply, pointer
from visionllm_sdk.scenes.expressions import (
    EXPRESSION_KINDS,
    RELATIONS,
    place_of,
    reworded,
    stands,
    unique_names,
)
from visionllm_sdk.scenes.facts import COLOURS, SHAPES, SceneFacts
from visionllm_sdk.scenes.labels import Label, article, in_other_words, matching, plural
from visionllm_sdk.scenes.phrases import TRAINING, Phrases
from visionllm_sdk.scenes.requests import label_of, near_miss
from visionllm_sdk.scenes.wording import draw_wording

_CLAIMS: Final = 0.25
"""Of training's questions whether there is something, the share that asks whether a thing has a property."""
VQA_KINDS: Final = ("existence", "count", "colour", "shape", "position", "comparison")


def existence(scene: SceneFacts, rng: Random, phrases: Phrases = TRAINING) -> Exchange:
    """Is there a ...? Half of the answers are yes. In training also: is the star yellow?"""
    if phrases is TRAINING and rng.random() < _CLAIMS and (claimed := _claim(scene, rng)) is not None:
        return claimed
    if rng.random() < 0.5 and scene.objects:
        label = label_of(rng.choice(scene.objects), rng)
    else:
        label = near_miss(scene, rng)
    hits = matching(label, scene.objects)
    text = _spoken(label, phrases, rng)
    sentence = _asked("existence", phrases, rng, a=article(text), one=text, many=plural(text))
    return _looked_up("existence", sentence, [Link("[DET]", text, label)], "yes" if hits else "no", rng)


def _claim(scene: SceneFacts, rng: Random) -> Exchange | None:
    """Is the star yellow? Is the blue thing a ring? Looked up: a yellow star, a blue ring."""
    things = [thing for thing in scene.objects if thing.colour is not None]
    if not things:
        return None
    thing, true, of_colour = rng.choice(things), rng.random() < 0.5, rng.random() < 0.6
    size = thing.size if rng.random() < 0.25 else None
    known = Label(thing.kind, None, size) if of_colour else Label(colour=thing.colour, size=size)
    if len(matching(known, scene.objects)) != 1:
        return None
    if of_colour:
        others = [colour for colour in COLOURS if colour != thing.colour]
        label = replace(known, colour=thing.colour if true else rng.choice(others))
    else:
        others = [kind for kind in SHAPES if kind != thing.kind]
        label = replace(known, kind=thing.kind if true else rng.choice(others))
    text = _spoken(label, TRAINING, rng)
    words = text.split()
    value = words.pop(-2) if of_colour else article(words.pop())
    if not of_colour:
        words.append(rng.choice(("object", "thing", "shape", "one")))
    sentence = _asked("claim", TRAINING, rng, x=f"the {' '.join(words)}", value=value)
    return _looked_up("existence", sentence, [Link("[DET]", text, label)], "yes" if true else "no", rng)


def count(scene: SceneFacts, rng: Random, phrases: Phrases = TRAINING) -> Exchange:
    """How many ... are there?"""
    roll = rng.random()
    if roll < 0.2 or not scene.objects:
        label = near_miss(scene, rng)
    else:
        thing = rng.choice(scene.objects)
        label = (
            label_of(thing, rng)
            if roll < 0.6
            else Label(colour=thing.colour)
            if roll < 0.8
            else Label(thing.kind)
        )
        label = Label() if roll > 0.93 else label
    text = _spoken(label, phrases, rng)
    sentence = _asked("count", phrases, rng, many=plural(text))
    hits = len(matching(label, scene.objects))
    return _looked_up("count", sentence, [Link("[DET]", text, label)], str(hits), rng)


def colour(scene: SceneFacts, rng: Random, phrases: Phrases = TRAINING) -> Exchange | None:
    """What colour is the star?"""
    for index in rng.sample(range(len(scene.objects)), len(scene.objects)):
        thing = scene.objects[index]
        name = _other_name(index, scene, rng, "colour") if thing.colour else None
        if name is not None and thing.colour is not None:
            return _question("colour", _asked("colour", phrases, rng, x=name), thing.colour, rng)
    return None


def shape(scene: SceneFacts, rng: Random, phrases: Phrases = TRAINING) -> Exchange | None:
    """What shape is the red object?"""
    for index in rng.sample(range(len(scene.objects)), len(scene.objects)):
        name = _other_name(index, scene, rng, "kind")
        if name is not None:
            return _question("shape", _asked("shape", phrases, rng, x=name), scene.objects[index].kind, rng)
    return None


def position(scene: SceneFacts, rng: Random, phrases: Phrases = TRAINING) -> Exchange | None:
    """In which part of the image is the star? - or the other way round, or a relation."""
    roll = rng.random()
    if roll < 0.45:
        return _relation(scene, rng, phrases)
    for index in rng.sample(range(len(scene.objects)), len(scene.objects)):
        thing, place = scene.objects[index], place_of(scene.objects[index], scene)
        if place is None:
            continue
        name = _named(index, scene, rng)
        if roll < 0.85 and name is not None:
            sentence = _asked("position", phrases, rng, x=name)
            return _looked_up("position", sentence, [pointer(name, index, scene)], place, rng)
        alone = [t for t in scene.objects if place_of(t, scene) in (place, None)] == [thing]
        if roll >= 0.85 and alone:
            named = f"{thing.colour} {thing.kind}" if thing.colour else thing.kind
            return _question("position", _asked("at", phrases, rng, place=place), named, rng)
    return None


def _relation(scene: SceneFacts, rng: Random, phrases: Phrases) -> Exchange | None:
    if len(scene.objects) < 2:
        return None
    one, other = rng.sample(range(len(scene.objects)), 2)
    first, second = _named(one, scene, rng), _named(other, scene, rng)
    relation = rng.choice(tuple(RELATIONS))
    verdict = stands(scene.objects[one], relation, scene.objects[other], scene)
    if first is None or second is None or verdict is None:
        return None
    sentence = _asked("relation", phrases, rng, x=first, y=second, relation=relation)
    links = [pointer(first, one, scene), pointer(second, other, scene)]
    return _looked_up("position", sentence, links, "yes" if verdict else "no", rng)


def comparison(scene: SceneFacts, rng: Random, phrases: Phrases = TRAINING) -> Exchange | None:
    """Which of two is larger; are there more of these than of those?"""
    if len(scene.objects) < 2:
        return None
    if rng.random() < 0.5:
        return _more(scene, rng, phrases)
    one, other = rng.sample(range(len(scene.objects)), 2)
    first, second = _named(one, scene, rng), _named(other, scene, rng)
    ratio = scene.objects[one].diameter / scene.objects[other].diameter
    if first is None or second is None or 1 / 1.2 < ratio < 1.2:
        return None
    more = rng.choice(("larger", "bigger", "smaller"))
    winner = first if (ratio > 1) == (more != "smaller") else second
    sentence = _asked("larger", phrases, rng, x=first, y=second, more=more)
    links = [pointer(first, one, scene), pointer(second, other, scene)]
    return _looked_up("comparison", sentence, links, winner, rng)


def _more(scene: SceneFacts, rng: Random, phrases: Phrases) -> Exchange | None:
    labels = []
    for thing in rng.sample(scene.objects, 2):
        by_colour = thing.colour is not None and rng.random() < 0.5
        labels.append(Label(colour=thing.colour) if by_colour else Label(thing.kind))
    one, other = labels
    counts = [len(matching(label, scene.objects)) for label in labels]
    if one == other or (counts[0] == counts[1] and rng.random() < 0.7):
        return None
    sentence = _asked("more", phrases, rng, x=plural(one.text), y=plural(other.text))
    links = [Link("[DET]", label.text, label) for label in labels]
    return _looked_up("comparison", sentence, links, "yes" if counts[0] > counts[1] else "no", rng)


def _spoken(label: Label, phrases: Phrases, rng: Random) -> str:
    """The label, in training now and then in synonyms: above all "thing" and "shape"."""
    often = 0.3 if label.kind == Label().kind else 0.08
    return in_other_words(label.text, rng) if phrases is TRAINING and rng.random() < often else label.text


def _asked(kind: str, phrases: Phrases, rng: Random, **slots: str) -> str:
    if phrases is TRAINING and kind in ("colour", "shape") and rng.random() < 0.25:
        slots["x"] = reworded(slots["x"], rng)
    return draw_wording(kind, phrases, rng).said(rng, bare=True, **slots)


def _question(kind: str, sentence: str, answer: str, rng: Random) -> Exchange:
    text = sentence[0].upper() + sentence[1:] if rng.random() < 0.7 else sentence
    return Exchange(kind, text, (answer,))


def _looked_up(kind: str, sentence: str, links: Sequence[Link], final: str, rng: Random) -> Exchange:
    """A question that is answered from what a tool finds: counting and measuring are the detector's trade."""
    asked = _question(kind, sentence, final, rng)
    return Exchange(kind, asked.question, linked_reply(links), final=final)


def _named(index: int, scene: SceneFacts, rng: Random, *, without: str = "") -> str | None:
    """`the red star` for one object, or None; `without` leaves out a property that the question asks for."""
    names = [name for name in unique_names(index, scene) if not (without and getattr(name, without))]
    if without == "kind":
        names = [name for name in unique_names(index, scene) if name.kind == "object"]
    return f"the {rng.choice(names).text}" if names else None


def _other_name(index: int, scene: SceneFacts, rng: Random, wanted: str) -> str | None:
    """A way to name an object that says nothing of its `wanted` property (colour or kind)."""
    name = _named(index, scene, rng, without=wanted)
    if name is not None and rng.random() < 0.6:
        return name
    found = [
        text
        for kind in ("superlative", "extreme", "place")
        for text in EXPRESSION_KINDS[kind](index, scene)
        if text.split(" ")[1:2] != [scene.objects[index].colour]
        and (scene.objects[index].colour or "-") not in text.split()
        and (wanted != "kind" or scene.objects[index].kind not in text.split())
    ]
    return rng.choice(found) if found else name
