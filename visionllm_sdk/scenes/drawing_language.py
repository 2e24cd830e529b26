"""Requests to draw a picture or to change one, each with the reply and with what its words ask for."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final, Literal

from visionllm_sdk.scenes.captions import caption_text
from visionllm_sdk.scenes.checker import Asked, AskedObject, AskedRelation
from visionllm_sdk.scenes.exchange import Exchange, Link, Maker
from visionllm_sdk.scenes.expressions import PLACES, RELATIONS, names_of, place_of
from visionllm_sdk.scenes.facts import BACKGROUND_COLOURS, COLOURS, FIGURES, SHAPES, SIZES, SceneFacts
from visionllm_sdk.scenes.labels import ANY_KIND, Label, article, matching
from visionllm_sdk.scenes.phrases import Phrases

_CELLS: Final = tuple(cell for row in PLACES for cell in row)


@dataclass(frozen=True, slots=True)
class EditWords:
    """What the words of an instruction say; None where they say nothing.

    Attributes:
        operation: what to do.
        kind: shape of the thing to recolour or remove.
        colour: its colour.
        size: its size.
        place: its cell of the 3 x 3 grid, or, of something to add, where it shall be.
        new_kind: shape of what is added.
        new_colour: colour of what is added, recoloured, or of the new background.
    """

    operation: Literal["recolour", "remove", "add", "background"]
    kind: str | None = None
    colour: str | None = None
    size: str | None = None
    place: str | None = None
    new_kind: str | None = None
    new_colour: str | None = None


Order = Asked | EditWords
"""What a request for a picture asks for."""


@dataclass(frozen=True, slots=True)
class DrawLink(Link):
    """A routing token for a picture, with what its super-link must say."""

    order: Order | None = None


DRAWING_TRAINING: Final[Phrases] = {
    "generate": (
        "Generate image with caption: {x}.",
        "Generate image with caption: {x}.",
        "Generate image with caption: {x}.",
        "Generate image with caption: {x}.",
        "Generate image with caption: {x}.",
        "Generate image with caption: {x}.",
        "draw {x}",
        "draw me {x}",
        "paint {x}",
        "paint a picture of {x}",
        "create an image of {x}",
        "create a picture with {x}",
        "generate {x}",
        "generate a picture of {x}",
        "make a picture of {x}",
        "make an image that shows {x}",
        "produce an image of {x}",
        "i want a picture of {x}",
        "a new picture: {x}",
        "render {x}",
        "sketch {x}",
        "imagine {x}",
        "give me a picture with {x}",
        "show me a picture of {x}",
        "draw a picture: {x}",
        "an image of {x}, please",
    ),
    "edit": (
        "Edit the image according to: {x}.",
        "Edit the image according to: {x}.",
        "Edit the image according to: {x}.",
        "Edit the image according to: {x}.",
        "{x}",
        "{x}",
        "{x}",
        "{x}",
        "please {x}",
        "now {x}",
        "edit the image: {x}",
        "change the picture: {x}",
        "i want you to {x}",
        "can you {x}?",
        "could you {x}?",
        "in this picture, {x}",
        "then {x}",
    ),
    "recolour": (
        "make {t} {n}",
        "make {t} {n}",
        "paint {t} {n}",
        "color {t} {n}",
        "colour {t} {n}",
        "recolor {t} to {n}",
        "recolour {t} to {n}",
        "turn {t} {n}",
        "change the color of {t} to {n}",
        "change the colour of {t} to {n}",
        "change {t} to {n}",
        "give {t} the color {n}",
        "set the color of {t} to {n}",
        "let {t} be {n}",
        "color {t} in {n}",
        "redo {t} in {n}",
        "draw {t} in {n} instead",
        "i want {t} in {n}",
        "show {t} in {n}",
        "dye {t} {n}",
    ),
    "remove": (
        "remove {t}",
        "remove {t}",
        "delete {t}",
        "erase {t}",
        "take {t} away",
        "take away {t}",
        "get rid of {t}",
        "make {t} disappear",
        "clear {t}",
        "take {t} out",
        "wipe out {t}",
        "erase {t} from the picture",
        "cut {t} out of the image",
    ),
    "add": (
        "add {a}",
        "add {a}",
        "put {a} into the picture",
        "insert {a}",
        "draw {a} into the picture",
        "place {a} into the image",
        "add {a} to the image",
        "put in {a}",
        "draw {a} as well",
    ),
    "background": (
        "make the background {n}",
        "make the background {n}",
        "change the background to {n}",
        "paint the background {n}",
        "set the background to {n}",
        "use {b} background",
        "turn the background {n}",
        "give it {b} background",
        "put it on {b} background",
        "change the color of the background to {n}",
        "replace the background with {n}",
    ),
}

DRAWING_HELD_OUT: Final[Phrases] = {
    "generate": (
        "Generate image with caption: {x}.",
        "please draw {x}",
        "can you paint {x}?",
        "create {x}",
        "make me an image of {x}",
    ),
    "edit": ("Edit the image according to: {x}.", "{x}", "please {x}", "edit this picture: {x}"),
    "recolour": ("make {t} {n}", "change the color of {t} to {n}", "paint {t} in {n}"),
    "remove": ("remove {t}", "please delete {t}", "take {t} out of the picture"),
    "add": ("add {a}", "draw {a} in addition", "put {a} in the image"),
    "background": ("make the background {n}", "change the background to {n}", "color the background {n}"),
}


def generate(_: SceneFacts, rng: Random, phrases: Phrases = DRAWING_TRAINING) -> Exchange:
    """A caption to draw, thought up without looking at a scene."""
    asked = random_asked(rng)
    text = _styled(rng.choice(phrases["generate"]).format(x=caption_text(asked)), rng)
    return Exchange("generate", text, drawing_reply("[GEN]", asked))


def edit(scene: SceneFacts, rng: Random, phrases: Phrases = DRAWING_TRAINING) -> Exchange:
    """An instruction to change the picture, mostly about something that it shows."""
    words = random_words(scene, rng)
    text = _styled(rng.choice(phrases["edit"]).format(x=instruction(words, rng, phrases)), rng)
    return Exchange("edit", text, drawing_reply("[EDIT]", words))


DRAWING_MAKERS: Final[dict[str, Maker]] = {"generate": generate, "edit": edit}
"""One maker per kind of request for pictures."""


def drawing_reply(token: Literal["[GEN]", "[EDIT]"], order: Order) -> tuple[str | Link, ...]:
    """`Here it is [GEN].`"""
    return ("Here it is ", DrawLink(token, "", None, None, order), ".")


def random_asked(rng: Random) -> Asked:
    """An order that can be fulfilled: one to three things, mostly in a relation, on one background."""
    count = rng.choices((1, 2, 3), (0.36, 0.46, 0.18))[0]
    background = rng.choice(BACKGROUND_COLOURS) if rng.random() < 0.85 else None
    colours = [colour for colour in COLOURS if colour != background]
    relations = tuple(
        AskedRelation(second - 1, rng.choice(tuple(RELATIONS)), second)
        for second in range(1, count)
        if rng.random() < 0.7
    )
    related = {index for relation in relations for index in (relation.first, relation.second)}
    free = rng.sample(_CELLS, count)
    objects = []
    for index in range(count):
        placed = index not in related and rng.random() < (0.6 if count == 1 else 0.3)
        colour = rng.choice(colours) if rng.random() < 0.96 else None
        size = rng.choice(SIZES) if rng.random() < 0.12 else None
        objects.append(AskedObject(rng.choice(SHAPES), colour, size, free[index] if placed else None))
    return Asked(tuple(objects), relations, background)


def random_words(scene: SceneFacts, rng: Random) -> EditWords:
    """An instruction about `scene`, or about something that it does not show."""
    operation: Literal["recolour", "remove", "add", "background"]
    operation = rng.choice(("recolour", "remove", "add", "background"))
    if operation == "background":
        return EditWords("background", new_colour=rng.choice(BACKGROUND_COLOURS))
    if operation == "add":
        place = rng.choice(_CELLS) if rng.random() < 0.75 else None
        return EditWords("add", place=place, new_kind=rng.choice(SHAPES), new_colour=rng.choice(COLOURS))
    target, place = _target(scene, rng)
    kind = None if target.kind == ANY_KIND else target.kind
    if operation == "remove":
        return EditWords("remove", kind, target.colour, target.size, place)
    new = rng.choice([colour for colour in COLOURS if colour != target.colour])
    return EditWords("recolour", kind, target.colour, target.size, place, new_colour=new)


def _target(scene: SceneFacts, rng: Random) -> tuple[Label, str | None]:
    """What is changed: a label, and a place where the label alone means several things."""
    shapes = [thing for thing in scene.objects if thing.kind not in FIGURES]
    if not shapes or rng.random() < 0.2:
        return Label(rng.choice((*SHAPES, ANY_KIND)), rng.choice((*COLOURS, None))), None
    thing = rng.choice(shapes)
    label = rng.choice(names_of(thing))
    alone = len(matching(label, scene.objects)) == 1
    place = place_of(thing, scene) if rng.random() < (0.05 if alone else 0.4) else None
    return label, place


def instruction(words: EditWords, rng: Random, phrases: Phrases = DRAWING_TRAINING) -> str:
    """The instruction in words: `make the red star blue`."""
    new = words.new_colour or ""
    added = _placed(article(f"{new} {words.new_kind}"), words.place)
    label = Label(words.kind or ANY_KIND, words.colour, words.size)
    return rng.choice(phrases[words.operation]).format(
        t=_placed(f"the {label.text}", words.place), n=new, a=added, b=article(new)
    )


def _placed(name: str, place: str | None) -> str:
    return name if place is None else f"{name} {'in' if place == 'center' else 'at'} the {place}"


def _styled(text: str, rng: Random) -> str:
    if text[-1] not in ".?" and rng.random() < 0.3:
        text += "."
    return text[0].upper() + text[1:] if rng.random() < 0.6 else text
