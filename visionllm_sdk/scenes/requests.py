"""Requests about a scene: find, segment, ground, caption, several at once, and what needs no tool."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random
from typing import Final

from visionllm_sdk.scenes.exchange import Exchange, Link, RoutingToken, enumerate_words, linked_reply, pointer
from visionllm_sdk.scenes.expressions import EXPRESSION_KINDS, reworded
from visionllm_sdk.scenes.facts import COLOURS, FIGURES, SHAPES, SIZES, ObjectFacts, SceneFacts
from visionllm_sdk.scenes.labels import Label, article, in_other_words, plural
from visionllm_sdk.scenes.phrases import (
    FOLLOW_UPS,
    NOUNS,
    SMALL_TALK,
    TRAINING,
    Phrases,
)
from visionllm_sdk.scenes.wording import begun, draw_wording

_TELLING: Final = ("superlative", "extreme", "place", "relation")
"""Kinds of expressions that cannot be taken for a label."""
_BARE: Final = 0.08
"""Share of requests, in training, that say nothing but what they are about."""
_JOINERS: Final = (", ", ", ", "; ", " & ", " + ", " / ")
"""What stands between names where no "and" does."""
_LOOKS: Final = (*COLOURS, "gray", "grey", "golden", "silver", "turquoise", "beige", "striped", "shiny")
"""How things may look, and words for what no thing of a scene looks like."""


def detect(scene: SceneFacts, rng: Random, phrases: Phrases = TRAINING) -> Exchange:
    """A request for boxes and instance masks."""
    return _request("detect", "[DET]", scene, rng, phrases)


def segment(scene: SceneFacts, rng: Random, phrases: Phrases = TRAINING) -> Exchange:
    """A request for a semantic map."""
    return _request("segment", "[SEG]", scene, rng, phrases)


def ground(scene: SceneFacts, rng: Random, phrases: Phrases = TRAINING) -> Exchange | None:
    """A request for the one thing that an expression means."""
    found = random_expression(scene, rng)
    if found is None:
        return None
    if phrases is TRAINING:
        return _ground_freely(scene, rng, found)
    text, index = found
    sentence = draw_wording("ground", phrases, rng).said(rng, x=text)
    return Exchange("ground", sentence, linked_reply([pointer(text, index, scene)]))


def _ground_freely(scene: SceneFacts, rng: Random, found: tuple[str, int]) -> Exchange:
    """Also in other words for the same thing, and now and then two things in one sentence."""
    chosen = [found]
    if rng.random() < 0.14:
        # Never a bare "the star and the dog": lists of kinds are for detection.
        pair = [random_expression(scene, rng, _TELLING) for _ in range(2)]
        both = [one for one in pair if one is not None]
        chosen = both if len({index for _, index in both}) == 2 else chosen
    chosen = [(reworded(text, rng) if rng.random() < 0.3 else text, index) for text, index in chosen]
    listed = enumerate_words([text for text, _ in chosen])
    if rng.random() < _BARE:
        sentence = begun(listed + rng.choice(("", "", ".", "?", " please")), rng)
    else:
        sentence = draw_wording("ground", TRAINING, rng).said(rng, x=listed)
    return Exchange("ground", sentence, linked_reply([pointer(*one, scene) for one in chosen]))


def mixed(scene: SceneFacts, rng: Random, phrases: Phrases = TRAINING) -> Exchange | None:
    """Two requests in one sentence, each with its own routing token."""
    makers = rng.sample((detect, segment, ground), 2)
    one, other = (maker(scene, rng, phrases) for maker in makers)
    if one is None or other is None:
        return None
    joiner = rng.choice((" and ", " and then ", ", then ", ". Also, "))
    question = one.question.rstrip("?.") + joiner + other.question[0].lower() + other.question[1:]
    return Exchange("mixed", question, linked_reply([*one.links, *other.links]))


def follow_up(scene: SceneFacts, rng: Random, previous: Exchange) -> Exchange:
    """A second request that says only what is new; its skill is that of `previous`."""
    labels = request_labels(scene, rng, rng.choice((1, 1, 2)))
    token = previous.links[0].token
    sentence = rng.choice(FOLLOW_UPS).format(x=_listed([text for text, _ in labels], rng))
    return Exchange("follow_up", sentence, linked_reply([Link(token, text, label) for text, label in labels]))


def small_talk(_: SceneFacts, rng: Random, phrases: Phrases = TRAINING) -> Exchange:
    """A message that needs no tool and no image."""
    topic = rng.choice((*SMALL_TALK, "off_topic", "off_topic"))
    noun, other = rng.sample(NOUNS, 2)
    sentence = draw_wording(topic, phrases, rng).template.format(noun=noun, other=other)
    reply = SMALL_TALK[topic]
    return Exchange("small_talk", sentence.capitalize() if rng.random() < 0.6 else sentence, (reply,))


def caption(scene: SceneFacts, rng: Random, phrases: Phrases = TRAINING) -> Exchange:
    """A request to say what is in the picture."""
    sentence = draw_wording("caption", phrases, rng).said(rng)
    return Exchange("caption", sentence, (caption_of(scene),))


def caption_of(scene: SceneFacts) -> str:
    """What is in the picture, in reading order: `A large red circle, a dog and a small blue star.`"""
    cells = sorted(scene.objects, key=lambda t: reading_order(t, scene))
    names = [
        article(" ".join(w for w in ((t.size, t.colour, t.kind) if t.colour else (t.kind,)) if w))
        for t in cells
    ]
    text = enumerate_words(names) if names else "nothing"
    return f"{text[0].upper()}{text[1:]}."


def reading_order(thing: ObjectFacts, scene: SceneFacts, grid: int = 8) -> tuple[int, int]:
    """A key to sort things by: row by row of a grid, and from left to right."""
    x, y = thing.centre
    return int(y / scene.height * grid), int(x / scene.width * grid)


def random_label(rng: Random, *, figures: bool = True) -> Label:
    """A label drawn without looking at a scene."""
    if figures and rng.random() < 0.12:
        return Label(rng.choice(FIGURES))
    kind = "object" if (roll := rng.random()) < 0.15 else rng.choice(SHAPES)
    colour = rng.choice(COLOURS) if roll < 0.75 else None
    return Label(kind, colour, rng.choice(SIZES) if rng.random() < 0.15 else None)


def label_of(thing: ObjectFacts, rng: Random) -> Label:
    """A label that fits `thing`."""
    if thing.colour is None:
        return Label(thing.kind)
    roll = rng.random()
    if roll < 0.45:
        return Label(thing.kind, thing.colour)
    if roll < 0.75:
        return Label(thing.kind)
    if roll < 0.88:
        return Label(colour=thing.colour)
    return Label(thing.kind, thing.colour, thing.size) if roll < 0.95 else Label(thing.kind, size=thing.size)


def near_miss(scene: SceneFacts, rng: Random) -> Label:
    """A label that recombines what the scene shows: the hardest kind of "no"."""
    if len(scene.objects) < 2 or rng.random() < 0.3:
        return random_label(rng)
    one, other = rng.sample(scene.objects, 2)
    kind = one.kind if one.colour else rng.choice(SHAPES)
    return Label(kind, other.colour or rng.choice(COLOURS))


def request_labels(
    scene: SceneFacts,
    rng: Random,
    count: int,
    *,
    made_up: float = 0.25,
    otherwise: float = 0.06,
    looks: Sequence[str] = COLOURS,
) -> list[tuple[str, Label | None]]:
    """`count` different labels, present, absent and foreign ones (a share of them `made_up`).

    A share of them is said `otherwise`, in synonyms; foreign things may have any of the `looks`.
    """
    chosen: dict[str, Label | None] = {}
    while len(chosen) < count:
        roll = rng.random()
        if roll < 0.2:
            chosen.setdefault(_foreign_word(rng, made_up, looks), None)
            continue
        if roll < 0.65 and scene.objects:
            label = label_of(rng.choice(scene.objects), rng)
        else:
            label = near_miss(scene, rng)
        often = 2.5 * otherwise if label.kind == Label().kind and otherwise > 0.1 else otherwise
        text = in_other_words(label.text, rng) if rng.random() < often else label.text
        chosen.setdefault(text, label)
    return list(chosen.items())


def random_expression(scene: SceneFacts, rng: Random, kinds: Sequence[str] = ()) -> tuple[str, int] | None:
    """An expression and the index of the object it means; None when none fits."""
    indices = list(range(len(scene.objects)))
    rng.shuffle(indices)
    for index in indices[:3]:
        for kind in rng.sample(
            tuple(kinds) or tuple(EXPRESSION_KINDS), k=len(kinds) or len(EXPRESSION_KINDS)
        ):
            found = list(EXPRESSION_KINDS[kind](index, scene))
            if found:
                return rng.choice(found), index
    return None


def _request(kind: str, token: RoutingToken, scene: SceneFacts, rng: Random, phrases: Phrases) -> Exchange:
    count = rng.randint(5, 12) if rng.random() < 0.06 else rng.choice((1, 1, 1, 2, 2, 3, 4))
    # To copy letter by letter is learnt slowly: training meets more made-up words, and more capitals.
    made_up, titled = (0.5, 0.12) if phrases is TRAINING else (0.25, 0.03)
    otherwise, looks = (0.12, _LOOKS) if phrases is TRAINING else (0.06, COLOURS)
    labels = request_labels(scene, rng, count, made_up=made_up, otherwise=otherwise, looks=looks)
    if kind == "detect" and phrases is TRAINING and rng.random() < _BARE:
        return _bare(labels, rng)
    wording = draw_wording(kind, phrases, rng)
    texts = [text for text, _ in labels]
    if phrases is TRAINING and len(texts) > 1 and rng.random() < 0.15:
        # One "the star" is for grounding; in a list people mean the kinds.
        listed = enumerate_words([f"the {text}" for text in texts])
    else:
        listed = _listed(texts, rng, titled=titled)
    if phrases is TRAINING:
        listed = _hurried(listed, rng)
    sentence = wording.said(rng, x=listed)
    return Exchange(kind, sentence, linked_reply([Link(token, text, label) for text, label in labels]))


def _bare(labels: Sequence[tuple[str, Label | None]], rng: Random) -> Exchange:
    """Names alone, never "a red circle": that is a picture to be drawn."""
    many = rng.random() < 0.4
    names = [plural(text) if many else text for text, _ in labels]
    listed = _hurried(enumerate_words(names), rng, often=0.5)
    links = [Link("[DET]", text, label) for text, label in labels]
    return Exchange("detect", begun(listed + rng.choice(("", "", ".", "?")), rng), linked_reply(links))


def _hurried(listed: str, rng: Random, *, often: float = 0.08) -> str:
    """A list as people write it who are in a hurry: `often` without "and", more seldom in capitals."""
    if rng.random() < 0.3:
        listed = listed.replace("people", "persons")
    if rng.random() < often:
        listed = rng.choice(_JOINERS).join(re.split(", | and ", listed))
    if rng.random() < 0.4 * often:
        listed = listed.upper() if rng.random() < 0.5 else listed.title()
    return listed


def _written(label: str, rng: Random, *, titled: float) -> str:
    """How a person may write a label in a list; `titled`: share of those with capitals."""
    roll = rng.random()
    if roll < 0.35:
        return f"{rng.choice(('', '', 'the ', 'all '))}{plural(label)}"
    if roll < 0.42:  # never "the red star": that means one thing, which is for grounding
        return f"{rng.choice(('every', 'each', 'any'))} {label}"
    if roll < 0.5:
        return article(label)
    return label.title() if roll > 1 - titled else label


def _listed(labels: Sequence[str], rng: Random, *, titled: float = 0.03) -> str:
    written = [_written(label, rng, titled=titled) for label in labels]
    return ", ".join(written) if rng.random() < 0.5 else enumerate_words(written)


def _foreign_word(rng: Random, made_up: float, looks: Sequence[str]) -> str:
    word = rng.choice(NOUNS)
    if rng.random() < made_up:
        word = "".join(
            rng.choice("bcdfghklmnprstvwz") + rng.choice("aeiou") for _ in range(rng.randint(2, 4))
        )
    return f"{rng.choice(looks)} {word}" if rng.random() < 0.15 else word
