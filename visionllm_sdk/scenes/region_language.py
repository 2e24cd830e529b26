"""Questions and requests about places that the user has marked in the picture.

A question spells each marked place as `<reg>region1<region></reg>`, in the order of `RegionExchange.regions`,
and the place of a second picture as `<image>`. These spellings are for the recipe alone: what a user types
never becomes a control token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from visionllm_sdk.scenes.exchange import Exchange, Link, Maker, linked_reply
from visionllm_sdk.scenes.expressions import RELATIONS, place_of, stands
from visionllm_sdk.scenes.facts import FIGURES, SHAPES, ObjectFacts, SceneFacts
from visionllm_sdk.scenes.labels import Label, article
from visionllm_sdk.scenes.phrases import HELD_OUT, TRAINING, Phrases
from visionllm_sdk.scenes.questions import count
from visionllm_sdk.scenes.requests import detect, segment


@dataclass(frozen=True, slots=True)
class RegionExchange(Exchange):
    """An exchange about marked places.

    Attributes:
        regions: index of the object that each `<region>` of the question lies on.
    """

    regions: tuple[int, ...] = ()


REGION_TRAINING: Final[Phrases] = {
    "describe": (
        "Describe {r}",
        "Describe {r}",
        "Describe {r}",
        "Describe {r}",
        "Describe {r}",
        "Describe {r}",
        "describe {r}.",
        "what is this? {r}",
        "what is marked here? {r}",
        "{r}\ndescribe it",
        "{r}\nwhat is this?",
        "{r}\nwhat did i mark?",
        "what is in {r}?",
        "give a description of {r}",
        "tell me about {r}",
        "tell me what {r} is",
        "caption {r}",
        "what do you see in {r}?",
        "what does {r} show?",
        "describe the thing at {r}",
        "write a caption for {r}",
    ),
    "recognise": (
        "Name {r}",
        "Name {r}",
        "Name {r}",
        "Name {r}",
        "name {r}.",
        "give the name of {r}",
        "label {r}",
        "classify {r}",
        "which class is {r}?",
        "recognise {r}",
        "{r}\nname it",
        "{r}\ngive its name",
        "give a label for {r}",
    ),
    "interactive": (
        "Segment {r}",
        "Segment {r}",
        "Segment {r}",
        "Segment {r}",
        "Segment {r}",
        "Segment {r}",
        "Segment {r}",
        "segment {r}.",
        "segment what i marked: {r}",
        "cut out {r}",
        "mask {r}",
        "give me the mask of {r}",
        "outline {r}",
        "detect {r}",
        "find the exact outline of {r}",
        "{r}\nsegment this",
        "{r}\ncut this out",
        "{r}\nmask this",
        "make a mask of {r}",
        "segment the objects at {r}",
        "i marked {r}, segment it",
        "select {r}",
    ),
    "in_context": (
        "The mask of the first image is {r}. <image>\nSegment the same kind in the second image.",
        "The mask of the first image is {r}. <image>\nSegment the same kind in the second image.",
        "The mask of the first image is {r}. <image>\nSegment the same kind in the second image.",
        "The mask of the first image is {r}. <image>\nFind more like this.",
        "This is one: {r}. <image>\nfind the same here",
        "here is an example: {r}. <image>\nsegment such things",
        "look at {r}. <image>\ndetect more of these",
        "{r} <image>\nfind more like it",
        "find what looks like {r}. <image>\n",
        "segment what looks like {r} in the second image. <image>\n",
        "find more like {r}. <image>\n",
        "{r}. <image>\nshow me the same kind in this picture",
    ),
    "colour": (
        "what colour is {x}?", "what color is {x}?", "which color does {x} have?", "name the color of {x}",
        "what is the color of {x}?", "tell me the colour of {x}",
    ),
    "shape": (
        "what shape is {x}?", "what is {x}?", "which shape is {x}?", "what is the shape of {x}?",
        "name the shape of {x}", "what kind of shape is {x}?",
    ),
    "size": ("how large is {x}?", "what size is {x}?", "is {x} small, medium or large?"),
    "existence": (
        "is {x} {a}?", "is this {a}: {x}?", "does {x} show {a}?", "is there {a} in {x}?",
        "do you see {a} at {x}?",
    ),
    "position": (
        "in which part of the image is {x}?", "where in the image is {x}?", "what is the position of {x}?",
        "in which region of the picture is {x}?",
    ),
    "relation": ("is {x} {relation} {y}?", "does {x} lie {relation} {y}?", "is {x} located {relation} {y}?"),
    "larger": (
        "which is {more}, {x} or {y}?", "which one is {more}: {x} or {y}?", "what is {more}, {x} or {y}?",
    ),
    "same": ("are {x} and {y} of the same kind?", "do {x} and {y} have the same color?"),
}  # fmt: skip

REGION_HELD_OUT: Final[Phrases] = {
    "describe": (
        "Describe {r}",
        "please describe {r}",
        "what can you say about {r}?",
        "what have i marked? {r}",
    ),
    "recognise": ("Name {r}", "please name {r}", "what is the name of {r}?"),
    "interactive": (
        "Segment {r}",
        "please segment {r}",
        "give me a mask for {r}",
        "segment the thing that i marked: {r}",
    ),
    "in_context": (
        "The mask of the first image is {r}. <image>\nSegment the same kind in the second image.",
        "this is an example: {r}. <image>\nfind such things here",
        "segment things like {r}. <image>\n",
    ),
    "colour": ("which colour is {x}?", "what is the colour of {x}?"),
    "shape": ("what shape does {x} have?", "which kind of shape is {x}?"),
    "size": ("how big is {x}?",),
    "existence": ("is {x} really {a}?", "can you see {a} in {x}?"),
    "position": ("in which area of the image is {x}?", "where in the picture is {x}?"),
    "relation": ("is {x} positioned {relation} {y}?", "do you find {x} {relation} {y}?"),
    "larger": ("which of them is {more}, {x} or {y}?",),
    "same": ("are {x} and {y} of the same kind?", "do {x} and {y} have the same color?"),
}


def region_slot(number: int) -> str:
    """How a marked place stands in a question; counted from 1."""
    return f"<reg>region{number}<region></reg>"


def _listed(number: int) -> str:
    return ", ".join(region_slot(i) for i in range(1, number + 1))


def _one(scene: SceneFacts, rng: Random) -> int | None:
    return rng.randrange(len(scene.objects)) if scene.objects else None


def _full_label(thing: ObjectFacts) -> Label:
    return Label(thing.kind, thing.colour, thing.size if thing.colour else None)


def describe(scene: SceneFacts, rng: Random, phrases: Phrases = REGION_TRAINING) -> RegionExchange | None:
    """What is here? `A large red circle.`"""
    index = _one(scene, rng)
    if index is None:
        return None
    text = article(_full_label(scene.objects[index]).text)
    sentence = _styled(rng.choice(phrases["describe"]).format(r=region_slot(1)), rng)
    return RegionExchange("describe", sentence, (f"{text[0].upper()}{text[1:]}.",), regions=(index,))


def recognise(scene: SceneFacts, rng: Random, phrases: Phrases = REGION_TRAINING) -> RegionExchange | None:
    """A name for what is here: any of the labels that fit, so that all of them get their share."""
    index = _one(scene, rng)
    if index is None:
        return None
    thing = scene.objects[index]
    labels = (
        Label(thing.kind),
        Label(thing.kind, thing.colour),
        Label(thing.kind, thing.colour, thing.size),
        Label(thing.kind, None, thing.size),
        Label("object", thing.colour),
    )
    label = rng.choices(labels, (0.30, 0.35, 0.15, 0.10, 0.10))[0] if thing.colour else labels[0]
    sentence = _styled(rng.choice(phrases["recognise"]).format(r=region_slot(1)), rng)
    return RegionExchange("recognise", sentence, (label.text,), regions=(index,))


def interactive(scene: SceneFacts, rng: Random, phrases: Phrases = REGION_TRAINING) -> RegionExchange | None:
    """Masks of the things that are marked."""
    if not scene.objects:
        return None
    number = min(rng.choice((1, 1, 1, 1, 2, 2, 3, 4, 5, 6, 8)), len(scene.objects))
    chosen = tuple(rng.sample(range(len(scene.objects)), number))
    links = [
        Link("[DET]", f"region{place}", _full_label(scene.objects[index]), index)
        for place, index in enumerate(chosen, 1)
    ]
    sentence = _styled(rng.choice(phrases["interactive"]).format(r=_listed(number)), rng)
    return RegionExchange("interactive", sentence, linked_reply(links), regions=chosen)


def in_context(scene: SceneFacts, rng: Random, phrases: Phrases = REGION_TRAINING) -> RegionExchange | None:
    """Things in a second picture that are of the kind marked in the first."""
    index = _one(scene, rng)
    if index is None:
        return None
    link = Link("[DET]", "region1", Label(scene.objects[index].kind))
    sentence = rng.choice(phrases["in_context"]).format(r=region_slot(1))
    sentence = sentence[0].upper() + sentence[1:] if rng.random() < 0.5 else sentence
    return RegionExchange("in_context", sentence, linked_reply([link]), regions=(index,))


def region_question(
    scene: SceneFacts, rng: Random, phrases: Phrases = REGION_TRAINING
) -> RegionExchange | None:
    """A question about one or two marked places, answered in a word; now and then a plain request."""
    roll = rng.random()
    if roll < 0.1:
        return _besides(scene, rng, TRAINING if phrases is REGION_TRAINING else HELD_OUT)
    made = _of_two(scene, rng, phrases) if roll < 0.45 else None
    return made or _of_one(scene, rng, phrases)


REGION_MAKERS: Final[dict[str, Maker]] = {
    "describe": describe,
    "recognise": recognise,
    "interactive": interactive,
    "in_context": in_context,
    "region_question": region_question,
}
"""One maker per kind of request about marked places; each returns None when the scene does not allow it."""


def _of_one(scene: SceneFacts, rng: Random, phrases: Phrases) -> RegionExchange | None:
    index = _one(scene, rng)
    if index is None:
        return None
    thing = scene.objects[index]
    place = place_of(thing, scene)
    answers = {"shape": thing.kind}
    if thing.colour is not None:
        answers |= {"colour": thing.colour, "size": thing.size}
    if place is not None:
        answers["position"] = place
    kind = rng.choice(("existence", *answers, *(("colour",) if thing.colour else ())))
    asked = ""
    if kind == "existence":
        label, answers["existence"] = _claim(thing, rng)
        asked = article(label.text)
    return _question(rng.choice(phrases[kind]), answers[kind], (index,), rng, a=asked)


def _claim(thing: ObjectFacts, rng: Random) -> tuple[Label, str]:
    """Something to ask whether it is so; half of the answers are yes."""
    if rng.random() < 0.5:
        coloured = thing.colour is not None and rng.random() < 0.4
        return Label(thing.kind, thing.colour if coloured else None), "yes"
    kind = rng.choice([kind for kind in (*SHAPES, *FIGURES) if kind != thing.kind])
    return Label(kind), "no"


def _of_two(scene: SceneFacts, rng: Random, phrases: Phrases) -> RegionExchange | None:
    if len(scene.objects) < 2:
        return None
    pair = one, other = (*rng.sample(range(len(scene.objects)), 2),)
    first, second = scene.objects[one], scene.objects[other]
    kind = rng.choice(("relation", "relation", "larger", "same"))
    if kind == "relation":
        relation = rng.choice(tuple(RELATIONS))
        verdict = stands(first, relation, second, scene)
        if verdict is None:
            return None
        sentence = rng.choice(phrases["relation"])
        return _question(sentence, "yes" if verdict else "no", pair, rng, relation=relation)
    if kind == "larger":
        ratio = first.diameter / second.diameter
        if 1 / 1.2 < ratio < 1.2:
            return None
        more = rng.choice(("larger", "bigger", "smaller"))
        winner = "region1" if (ratio > 1) == (more != "smaller") else "region2"
        return _question(rng.choice(phrases["larger"]), winner, pair, rng, more=more)
    by_colour = rng.random() < 0.5
    if by_colour and None in (first.colour, second.colour):
        return None
    same = first.colour == second.colour if by_colour else first.kind == second.kind
    sentence = phrases["same"][1 if by_colour else 0]
    return _question(sentence, "yes" if same else "no", pair, rng)


def _question(
    template: str, answer: str, indices: Sequence[int], rng: Random, **words: str
) -> RegionExchange:
    """The marks inside the sentence, or all in front of it."""
    number = len(indices)
    if rng.random() < 0.5:
        names = [region_slot(i) for i in range(1, number + 1)]
        front = ""
    else:
        alone = ("it", "this", "region1") if "is {x}" in template or "of {x}" in template else ("region1",)
        names = [rng.choice(alone)] if number == 1 else ["region1", "region2"]
        front = f"{_listed(number)}\n"
    sentence = template.format(x=names[0], y=names[-1], **words)
    sentence = sentence[0].upper() + sentence[1:] if rng.random() < 0.7 else sentence
    return RegionExchange("region_question", front + sentence, (answer,), regions=tuple(indices))


def _besides(scene: SceneFacts, rng: Random, phrases: Phrases) -> RegionExchange | None:
    """An ordinary request in a message that also marks a place: a mark alone asks for nothing."""
    index = _one(scene, rng)
    if index is None:
        return None
    asked = rng.choice((detect, segment, count))(scene, rng, phrases)
    sentence = f"{region_slot(1)}\n{asked.question}"
    return RegionExchange("region_question", sentence, asked.answer, final=asked.final, regions=(index,))


def _styled(text: str, rng: Random) -> str:
    return text[0].upper() + text[1:] if rng.random() < 0.6 else text
