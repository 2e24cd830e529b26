"""Requests, questions and captions about a scene, each with the exact reply that the model should give.

A reply is a tuple of plain strings and `Link`s. A link is where the model must emit a routing token; it
says which label the super-link stands for and, for grounding, which object is meant. Everything is drawn
from a `random.Random`, so that a seed fixes a whole training run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Literal

from visionllm_sdk.scenes.expressions import (
    EXPRESSION_KINDS,
    PLACES,
    RELATIONS,
    place_of,
    stands,
    unique_names,
)
from visionllm_sdk.scenes.facts import COLOURS, FIGURES, SHAPES, SIZES, ObjectFacts, SceneFacts
from visionllm_sdk.scenes.labels import Label, article, in_other_words, matching, plural
from visionllm_sdk.scenes.phrases import (
    FOLLOW_UPS,
    GREETINGS,
    LEADS,
    NOUNS,
    SMALL_TALK,
    TAILS,
    TRAINING,
    Phrases,
)

RoutingToken = Literal["[DET]", "[GRD]", "[SEG]", "[POSE]", "[GEN]", "[EDIT]"]
_ALIKE: Final = 0.03
"""Difference of places, or of the logarithms of sizes, below which two finds are alike."""
VQA_KINDS: Final = ("existence", "count", "colour", "shape", "position", "comparison")


@dataclass(frozen=True, slots=True)
class Link:
    """One routing token of a reply.

    Attributes:
        token: the routing token.
        text: the label or expression as the reply spells it.
        label: its meaning, None when the words are foreign to scenes (nothing is to be found then).
        referent: index of the one object meant by an expression; None for a class label.
    """

    token: RoutingToken
    text: str
    label: Label | None
    referent: int | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """One question (`role` "user") or tool result (`role` "tool") and the reply to it.

    Attributes:
        kind: of the question.
        question: what is said to the model.
        answer: what it replies at once.
        role: who speaks to the model.
        final: what it says once the tools of a routed reply have reported; None: what they found.
    """

    kind: str
    question: str
    answer: tuple[str | Link, ...]
    role: Literal["user", "tool"] = "user"
    final: str | None = None

    @property
    def last_words(self) -> str:
        """The text that answers the question in the end."""
        return self.text if self.final is None else self.final

    @property
    def links(self) -> tuple[Link, ...]:
        """The routing tokens of the reply, in order."""
        return tuple(part for part in self.answer if isinstance(part, Link))

    @property
    def text(self) -> str:
        """The reply with links shown by their label alone."""
        return "".join(part.text if isinstance(part, Link) else part for part in self.answer)


def enumerate_words(items: Sequence[str]) -> str:
    """`a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def caption_of(scene: SceneFacts) -> str:
    """What is in the picture, in reading order: `A large red circle, a dog and a small blue star.`"""
    cells = sorted(scene.objects, key=lambda t: _reading_order(t, scene))
    names = [
        article(" ".join(w for w in ((t.size, t.colour, t.kind) if t.colour else (t.kind,)) if w))
        for t in cells
    ]
    text = enumerate_words(names) if names else "nothing"
    return f"{text[0].upper()}{text[1:]}."


def _reading_order(thing: ObjectFacts, scene: SceneFacts, grid: int = 8) -> tuple[int, int]:
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


_NO_ORDERS: Final = frozenset(
    ("i", "the", "please", "can", "could", "would", "do", "does", "is", "are", "what", "where", "which",
     "how", "of", "in", "on", "any", "yes", "object")
)  # fmt: skip
"""First words of sentences that are questions or statements."""


def _decorated(sentence: str, rng: Random) -> str:
    order = sentence.split(maxsplit=1)[0] not in _NO_ORDERS
    text = rng.choice(GREETINGS) + (rng.choice(LEADS) if order else "") + sentence
    if text[-1] not in "?.:" and "{" not in text:
        text += rng.choice(TAILS)
        if rng.random() < 0.3:
            text += "?" if "can you " in text or "could you " in text else "."
    if rng.random() < 0.6:
        text = text[0].upper() + text[1:]
    return text


def _written(label: str, rng: Random, *, may_plural: bool = True) -> str:
    """How a person may write a label in a list."""
    roll = rng.random()
    if may_plural and roll < 0.35:
        return f"{rng.choice(('', '', 'the ', 'all '))}{plural(label)}"
    if roll < 0.42:  # never "the red star": that means one thing, which is for grounding
        return f"{rng.choice(('every', 'each', 'any'))} {label}"
    if roll < 0.5:
        return article(label)
    return label.title() if roll > 0.97 else label


def _listed(labels: Sequence[str], rng: Random) -> str:
    written = [_written(label, rng) for label in labels]
    return ", ".join(written) if rng.random() < 0.5 else enumerate_words(written)


def _foreign_word(rng: Random, made_up: float) -> str:
    word = rng.choice(NOUNS)
    if rng.random() < made_up:
        word = "".join(
            rng.choice("bcdfghklmnprstvwz") + rng.choice("aeiou") for _ in range(rng.randint(2, 4))
        )
    return f"{rng.choice(COLOURS)} {word}" if rng.random() < 0.15 else word


def request_labels(
    scene: SceneFacts, rng: Random, count: int, *, made_up: float = 0.25
) -> list[tuple[str, Label | None]]:
    """`count` different labels, present, absent and foreign ones (a share of them `made_up`)."""
    chosen: dict[str, Label | None] = {}
    while len(chosen) < count:
        roll = rng.random()
        if roll < 0.2:
            chosen.setdefault(_foreign_word(rng, made_up), None)
            continue
        if roll < 0.65 and scene.objects:
            label = label_of(rng.choice(scene.objects), rng)
        else:
            label = near_miss(scene, rng)
        text = in_other_words(label.text, rng) if rng.random() < 0.06 else label.text
        chosen.setdefault(text, label)
    return list(chosen.items())


def linked_reply(links: Sequence[Link]) -> tuple[str | Link, ...]:
    """The reply that names every link once: `red circle[DET], star[DET].`"""
    parts: list[str | Link] = []
    for index, link in enumerate(links):
        parts += [", ", link] if index else [link]
    return (*parts, ".")


def _request(kind: str, token: RoutingToken, scene: SceneFacts, rng: Random, phrases: Phrases) -> Exchange:
    count = rng.randint(5, 12) if rng.random() < 0.06 else rng.choice((1, 1, 1, 2, 2, 3, 4))
    # To copy letter by letter is learnt slowly: training meets more words that nobody says.
    labels = request_labels(scene, rng, count, made_up=0.5 if phrases is TRAINING else 0.25)
    sentence = _decorated(rng.choice(phrases[kind]).format(x=_listed([text for text, _ in labels], rng)), rng)
    return Exchange(kind, sentence, linked_reply([Link(token, text, label) for text, label in labels]))


def detect(scene: SceneFacts, rng: Random, phrases: Phrases = TRAINING) -> Exchange:
    """A request for boxes and instance masks."""
    return _request("detect", "[DET]", scene, rng, phrases)


def segment(scene: SceneFacts, rng: Random, phrases: Phrases = TRAINING) -> Exchange:
    """A request for a semantic map."""
    return _request("segment", "[SEG]", scene, rng, phrases)


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


def ground(scene: SceneFacts, rng: Random, phrases: Phrases = TRAINING) -> Exchange | None:
    """A request for the one thing that an expression means."""
    found = random_expression(scene, rng)
    if found is None:
        return None
    text, index = found
    thing = scene.objects[index]
    link = Link("[GRD]", text, Label(thing.kind, thing.colour, thing.size if thing.colour else None), index)
    return Exchange(
        "ground", _decorated(rng.choice(phrases["ground"]).format(x=text), rng), linked_reply([link])
    )


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


def found_sentence(counts: Sequence[tuple[str, int]]) -> str:
    """How a tool's finding reads, for the language model and for people: `2 red circles, 1 star, no dog`."""
    return ", ".join(
        f"no {name}" if n == 0 else f"1 {name}" if n == 1 else f"{n} {plural(name)}" for name, n in counts
    )


@dataclass(frozen=True, slots=True)
class Sighting:
    """Where a tool has found what an expression means.

    Attributes:
        expression: with its article.
        centre: (x, y) of the box, as shares of width and height.
        size: longer side of the box as a share of the picture's shorter side.
    """

    expression: str
    centre: tuple[float, float]
    size: float

    @property
    def text(self) -> str:
        """How it is told: `the red star at the top left`."""
        column, row = (min(2, int(share * 3)) for share in self.centre)
        place = PLACES[row][column]
        return f"{self.expression} {'in' if place == 'center' else 'at'} the {place}"


def compared(one: Sighting, other: Sighting) -> str:
    """How the first of two finds stands to the second: ` (left of, above, larger)`.

    The detector measures; a language model that compares numbers itself is wrong more often.
    """
    words = [
        word
        for gap, words in (
            (one.centre[0] - other.centre[0], ("left of", "right of")),
            (one.centre[1] - other.centre[1], ("above", "below")),
            (math.log(one.size / other.size), ("smaller", "larger")),
        )
        for word in words[gap > 0 : (gap > 0) + 1]
        if abs(gap) > _ALIKE
    ]
    return f" ({', '.join(words)})" if words else ""


def told_sightings(sightings: Sequence[Sighting]) -> list[str]:
    """How finds are told; of two it is also said how they stand to each other."""
    told = [sighting.text for sighting in sightings]
    if len(sightings) == 2:
        told[1] += compared(*sightings)
    return told


def _sighting(link: Link, scene: SceneFacts) -> Sighting:
    assert link.referent is not None
    thing = scene.objects[link.referent]
    x, y = thing.centre
    x1, y1, x2, y2 = thing.box
    size = max(x2 - x1, y2 - y1) / min(scene.width, scene.height)
    return Sighting(link.text, (x / scene.width, y / scene.height), size)


def tool_result(scene: SceneFacts, rng: Random, request: Exchange) -> Exchange:
    """The turn after the tools have run: what they found comes in, the answer goes out.

    How two finds stand to each other is for the model to use, not to repeat. A plain request is now and then
    told of counts that the picture does not show, since the tools are to be believed.
    """
    sightings = [_sighting(link, scene) for link in request.links if link.referent is not None]
    placed = iter(told_sightings(sightings))
    told = []
    for link in request.links:
        if link.referent is not None:
            told.append(next(placed))
            continue
        hits = 0 if link.label is None else len(matching(link.label, scene.objects))
        guess = rng.randint(0, 9) if request.final is None and rng.random() < 0.3 else hits
        told.append(found_sentence([(link.text, guess)]))
    plain = ", ".join(text.partition(" (")[0] for text in told)
    final = f"I found {plain}." if request.final is None else request.final
    return Exchange("tool_result", ", ".join(told) + ".", (final,), role="tool")


def small_talk(_: SceneFacts, rng: Random, phrases: Phrases = TRAINING) -> Exchange:
    """A message that needs no tool and no image."""
    topic = rng.choice((*SMALL_TALK, "off_topic", "off_topic"))
    noun, other = rng.sample(NOUNS, 2)
    sentence = rng.choice(phrases[topic]).format(noun=noun, other=other)
    reply = SMALL_TALK[topic]
    return Exchange("small_talk", sentence.capitalize() if rng.random() < 0.6 else sentence, (reply,))


def caption(scene: SceneFacts, rng: Random, phrases: Phrases = TRAINING) -> Exchange:
    """A request to say what is in the picture."""
    return Exchange("caption", _decorated(rng.choice(phrases["caption"]), rng), (caption_of(scene),))


def existence(scene: SceneFacts, rng: Random, phrases: Phrases = TRAINING) -> Exchange:
    """Is there a ...? Half of the answers are yes."""
    if rng.random() < 0.5 and scene.objects:
        label = label_of(rng.choice(scene.objects), rng)
    else:
        label = near_miss(scene, rng)
    hits = matching(label, scene.objects)
    sentence = rng.choice(phrases["existence"]).format(
        a=article(label.text), one=label.text, many=plural(label.text)
    )
    return _looked_up("existence", sentence, [Link("[DET]", label.text, label)], "yes" if hits else "no", rng)


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
    sentence = rng.choice(phrases["count"]).format(many=plural(label.text))
    hits = len(matching(label, scene.objects))
    return _looked_up("count", sentence, [Link("[DET]", label.text, label)], str(hits), rng)


def _question(kind: str, sentence: str, answer: str, rng: Random) -> Exchange:
    text = sentence[0].upper() + sentence[1:] if rng.random() < 0.7 else sentence
    return Exchange(kind, text, (answer,))


def _looked_up(kind: str, sentence: str, links: Sequence[Link], final: str, rng: Random) -> Exchange:
    """A question that is answered from what a tool finds: counting and measuring are the detector's trade."""
    asked = _question(kind, sentence, final, rng)
    return Exchange(kind, asked.question, linked_reply(links), final=final)


def _pointer(text: str, index: int, scene: SceneFacts) -> Link:
    thing = scene.objects[index]
    return Link("[GRD]", text, Label(thing.kind, thing.colour, thing.size if thing.colour else None), index)


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


def colour(scene: SceneFacts, rng: Random, phrases: Phrases = TRAINING) -> Exchange | None:
    """What colour is the star?"""
    for index in rng.sample(range(len(scene.objects)), len(scene.objects)):
        thing = scene.objects[index]
        name = _other_name(index, scene, rng, "colour") if thing.colour else None
        if name is not None and thing.colour is not None:
            return _question("colour", rng.choice(phrases["colour"]).format(x=name), thing.colour, rng)
    return None


def shape(scene: SceneFacts, rng: Random, phrases: Phrases = TRAINING) -> Exchange | None:
    """What shape is the red object?"""
    for index in rng.sample(range(len(scene.objects)), len(scene.objects)):
        name = _other_name(index, scene, rng, "kind")
        if name is not None:
            return _question(
                "shape", rng.choice(phrases["shape"]).format(x=name), scene.objects[index].kind, rng
            )
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
            sentence = rng.choice(phrases["position"]).format(x=name)
            return _looked_up("position", sentence, [_pointer(name, index, scene)], place, rng)
        alone = [t for t in scene.objects if place_of(t, scene) in (place, None)] == [thing]
        if roll >= 0.85 and alone:
            named = f"{thing.colour} {thing.kind}" if thing.colour else thing.kind
            return _question("position", rng.choice(phrases["at"]).format(place=place), named, rng)
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
    sentence = rng.choice(phrases["relation"]).format(x=first, y=second, relation=relation)
    links = [_pointer(first, one, scene), _pointer(second, other, scene)]
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
    sentence = rng.choice(phrases["larger"]).format(x=first, y=second, more=more)
    links = [_pointer(first, one, scene), _pointer(second, other, scene)]
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
    sentence = rng.choice(phrases["more"]).format(x=plural(one.text), y=plural(other.text))
    links = [Link("[DET]", label.text, label) for label in labels]
    return _looked_up("comparison", sentence, links, "yes" if counts[0] > counts[1] else "no", rng)


Maker = Callable[[SceneFacts, Random, Phrases], Exchange | None]
MAKERS: Final[dict[str, Maker]] = {
    "detect": detect, "segment": segment, "ground": ground, "mixed": mixed, "small_talk": small_talk,
    "caption": caption, "existence": existence, "count": count, "colour": colour, "shape": shape,
    "position": position, "comparison": comparison,
}  # fmt: skip
"""One maker per kind of request; each returns None when the scene does not allow it."""
