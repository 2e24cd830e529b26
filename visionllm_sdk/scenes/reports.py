"""What tools have found, as it is told to the language model, and the turn in which it is told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from visionllm_sdk.scenes.exchange import Exchange, Link
from visionllm_sdk.scenes.expressions import PLACES
from visionllm_sdk.scenes.facts import SceneFacts
from visionllm_sdk.scenes.labels import matching, plural

_ALIKE: Final = 0.03
"""Difference of places, or of the logarithms of sizes, below which two finds are alike."""


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


def found_sentence(counts: Sequence[tuple[str, int]]) -> str:
    """How a tool's finding reads, for the language model and for people: `2 red circles, 1 star, no dog`."""
    return ", ".join(
        f"no {name}" if n == 0 else f"1 {name}" if n == 1 else f"{n} {plural(name)}" for name, n in counts
    )


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
