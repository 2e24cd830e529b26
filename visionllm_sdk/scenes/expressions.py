"""Referring expressions: phrases that mean exactly one thing of a scene, beyond a person's doubt."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from random import Random
from typing import Final

from visionllm_sdk.scenes.facts import ObjectFacts, SceneFacts
from visionllm_sdk.scenes.labels import Label, matching

PLACES: Final = (
    ("top left", "top", "top right"),
    ("left", "center", "right"),
    ("bottom left", "bottom", "bottom right"),
)
_ROWS: Final = (0.22, 0.5, 0.78)
"""Where things stand that are asked for at the top or left, in the middle, at the bottom or right."""
_CELL_MARGIN: Final = 0.04
_SIDE_MARGIN: Final = 0.08
_SIZE_RATIO: Final = 1.2

RELATIONS: Final = {
    "left of": (0, -1),
    "to the left of": (0, -1),
    "right of": (0, 1),
    "to the right of": (0, 1),
    "above": (1, -1),
    "below": (1, 1),
    "under": (1, 1),
}
"""Relation -> (axis, sign): the sign of (target - anchor) along x (0) or y (1)."""

_EXTREMES: Final = {"leftmost": (0, -1), "rightmost": (0, 1), "topmost": (1, -1), "lowest": (1, 1)}


def _relative_centre(thing: ObjectFacts, scene: SceneFacts) -> tuple[float, float]:
    x, y = thing.centre
    return x / scene.width, y / scene.height


def cell_centre(place: str) -> tuple[float, float]:
    """Where a thing asked for at `place`, a word of `PLACES`, stands: x, y as shares of the picture."""
    row, column = next(
        (y, x) for y, words in enumerate(PLACES) for x, word in enumerate(words) if word == place
    )
    return _ROWS[column], _ROWS[row]


def place_of(thing: ObjectFacts, scene: SceneFacts) -> str | None:
    """The cell of the 3x3 grid that holds the centre of `thing`; None when too near to a border line."""
    cells = []
    for value in _relative_centre(thing, scene):
        if min(abs(value - 1 / 3), abs(value - 2 / 3)) < _CELL_MARGIN:
            return None
        cells.append(min(2, int(value * 3)))
    return PLACES[cells[1]][cells[0]]


def stands(target: ObjectFacts, relation: str, anchor: ObjectFacts, scene: SceneFacts) -> bool | None:
    """Whether `target` is `relation` the `anchor`; None when it is too close to call."""
    axis, sign = RELATIONS[relation]
    gap = _relative_centre(target, scene)[axis] - _relative_centre(anchor, scene)[axis]
    return None if abs(gap) < _SIDE_MARGIN else gap * sign > 0


def names_of(thing: ObjectFacts) -> tuple[Label, ...]:
    """The labels that fit `thing`, from short to long."""
    if thing.colour is None:
        return (Label(thing.kind),)
    return (
        Label(thing.kind),
        Label(thing.kind, thing.colour),
        Label(thing.kind, thing.colour, thing.size),
        Label(thing.kind, None, thing.size),
        Label(colour=thing.colour),
    )


def unique_names(index: int, scene: SceneFacts) -> list[Label]:
    """Labels that only the object at `index` bears."""
    return [label for label in names_of(scene.objects[index]) if matching(label, scene.objects) == [index]]


def _plain(index: int, scene: SceneFacts) -> Iterator[str]:
    for label in unique_names(index, scene):
        yield f"the {label.text}"


def _superlatives(index: int, scene: SceneFacts) -> Iterator[str]:
    thing = scene.objects[index]
    for label in (Label(), *names_of(thing)[:2]):
        others = [scene.objects[i].diameter for i in matching(label, scene.objects) if i != index]
        if not others:
            continue
        if thing.diameter > _SIZE_RATIO * max(others):
            yield f"the largest {label.text}"
            yield f"the biggest {label.text}"
        if thing.diameter * _SIZE_RATIO < min(others):
            yield f"the smallest {label.text}"


def _extremes(index: int, scene: SceneFacts) -> Iterator[str]:
    thing = scene.objects[index]
    for label in (Label(), *names_of(thing)[:2]):
        others = [scene.objects[i] for i in matching(label, scene.objects) if i != index]
        for word, (axis, sign) in _EXTREMES.items():
            mine = _relative_centre(thing, scene)[axis]
            gaps = [(mine - _relative_centre(other, scene)[axis]) * sign for other in others]
            if gaps and min(gaps) > _SIDE_MARGIN:
                yield f"the {word} {label.text}"


def _places(index: int, scene: SceneFacts) -> Iterator[str]:
    thing = scene.objects[index]
    place = place_of(thing, scene)
    if place is None:
        return
    for label in (Label(), *names_of(thing)[:2]):
        same = [
            i for i in matching(label, scene.objects) if place_of(scene.objects[i], scene) in (place, None)
        ]
        if same == [index]:
            yield f"the {label.text} {'in' if place == 'center' else 'at'} the {place}"


def _relations(index: int, scene: SceneFacts) -> Iterator[str]:
    thing = scene.objects[index]
    for anchor_index, anchor in enumerate(scene.objects):
        anchors = unique_names(anchor_index, scene) if anchor_index != index else []
        if not anchors:
            continue
        for label in names_of(thing)[:2]:
            rivals = [i for i in matching(label, scene.objects) if i != anchor_index]
            for relation in RELATIONS:
                verdicts = {i: stands(scene.objects[i], relation, anchor, scene) for i in rivals}
                if verdicts[index] and all(verdicts[i] is False for i in rivals if i != index):
                    yield f"the {label.text} {relation} the {anchors[0].text}"


EXPRESSION_KINDS: Final[dict[str, Callable[[int, SceneFacts], Iterator[str]]]] = {
    "plain": _plain,
    "superlative": _superlatives,
    "extreme": _extremes,
    "place": _places,
    "relation": _relations,
}

_OTHERWISE: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    (
        r"the (?:largest|biggest) (.+)",
        (r"the \1 that is bigger than all others", r"the biggest \1 of all", r"the \1 of the largest size"),
    ),
    (r"the smallest (.+)", (r"the tiniest \1", r"the \1 that is smaller than the rest")),
    (
        r"the leftmost (.+)",
        (r"the \1 furthest to the left", r"the \1 on the far left", r"the first \1 from the left"),
    ),
    (
        r"the rightmost (.+)",
        (r"the \1 furthest to the right", r"the \1 on the far right", r"the first \1 from the right"),
    ),
    (r"the topmost (.+)", (r"the highest \1", r"the uppermost \1", r"the \1 higher up than all others")),
    (r"the lowest (.+)", (r"the bottommost \1", r"the \1 that is lowest down", r"the \1 at the very bottom")),
    (r"the (.+) in the center", (r"the \1 in the middle", r"the central \1", r"the \1 around the centre")),
    (
        r"the (.+) at the ((?:top|bottom) (?:left|right))",
        (r"the \1 in the \2 corner", r"the \2 \1", r"the \1 close to the \2 corner"),
    ),
    (r"the (.+) at the (\w+)", (r"the \1 near the \2", r"the \1 by the \2 edge", r"the \1 over at the \2")),
    (
        r"the (.+?) (?:to the )?(left|right) of (.+)",
        (r"the \1 on the \2 side of \3", r"the \1 \2wards of \3"),
    ),
    (r"the (.+) above (.+)", (r"the \1 over \2", r"the \1 higher than \2", r"the \1 that is above \2")),
    (
        r"the (.+) (?:below|under) (.+)",
        (r"the \1 beneath \2", r"the \1 underneath \2", r"the \1 lower than \2"),
    ),
    (r"the (.+)", (r"that \1", r"my \1", r"the only \1", r"the \1 over there")),
)
"""What else people call the same thing: a pattern of `EXPRESSION_KINDS`, and other words for it."""


def reworded(expression: str, rng: Random) -> str:
    """The expression in words that the evaluation does not use.

    Args:
        expression: as `EXPRESSION_KINDS` yields them.
        rng: chooses the words.
    """
    for pattern, others in _OTHERWISE:
        if match := re.fullmatch(pattern, expression):
            return match.expand(rng.choice(others))
    return expression
