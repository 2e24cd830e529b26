"""Judging pictures classically: does a picture show what its caption asks for?

`Asked` says what a caption asks for; `fits` compares it with facts, `check` with a picture, through the eyes
of `visionllm_sdk.scenes.seeing`. No learned model takes part.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Final

from PIL import Image

from visionllm_sdk.errors import InputError
from visionllm_sdk.scenes.expressions import PLACES, RELATIONS
from visionllm_sdk.scenes.facts import BACKGROUND_COLOURS, COLOURS, SHAPES, SIZES, ObjectFacts, SceneFacts
from visionllm_sdk.scenes.seeing import look

MAX_ASKED: Final = 4
_CELL_SLACK: Final = 0.06
"""Share of the picture by which a centre may lie outside of the asked cell."""
_SIDE_SLACK: Final = 0.02
"""Share of the picture by which things must differ along an asked relation."""


@dataclass(frozen=True, slots=True)
class AskedObject:
    """One thing that a caption asks for; None means "whatever".

    Attributes:
        kind: a shape.
        colour: a colour word.
        size: a size word.
        place: a cell of the 3 x 3 grid, such as "top left".
    """

    kind: str
    colour: str | None = None
    size: str | None = None
    place: str | None = None

    def __post_init__(self) -> None:
        _known("shape", self.kind, SHAPES)
        _known("colour", self.colour, (*COLOURS, None))
        _known("size", self.size, (*SIZES, None))
        _known("place", self.place, (*(cell for row in PLACES for cell in row), None))


@dataclass(frozen=True, slots=True)
class AskedRelation:
    """Object number `first` shall stand `relation` ("left of", "above", ...) object number `second`."""

    first: int
    relation: str
    second: int

    def __post_init__(self) -> None:
        _known("relation", self.relation, tuple(RELATIONS))


@dataclass(frozen=True, slots=True)
class Asked:
    """What a caption asks for: these things and no others, on this background (None: whatever).

    Raises:
        InputError: an unknown word, more than `MAX_ASKED` things, or a relation to a thing that is not there.
    """

    objects: tuple[AskedObject, ...]
    relations: tuple[AskedRelation, ...] = ()
    background: str | None = None

    def __post_init__(self) -> None:
        _known("background", self.background, (*BACKGROUND_COLOURS, None))
        if not 1 <= len(self.objects) <= MAX_ASKED:
            raise InputError(
                "a caption asks for too few or too many things",
                value=len(self.objects),
                limit=f"1 to {MAX_ASKED}",
                remedy="Name a few things.",
            )
        for relation in self.relations:
            if max(relation.first, relation.second) >= len(self.objects):
                raise InputError(
                    "a relation is about a thing that is not asked for",
                    value=relation,
                    limit=f"0..{len(self.objects) - 1}",
                    remedy="Count the things from 0.",
                )


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a picture answers its caption.

    Attributes:
        shapes: every asked shape is there, of the asked size where one was named.
        colours: the things in question have the asked colours.
        places: they stand where they should, by cell and by relation.
        background: its colour is the asked one.
        extra: things that nobody asked for.
        seen: what was seen.
    """

    shapes: bool
    colours: bool
    places: bool
    background: bool
    extra: int
    seen: SceneFacts

    @property
    def right(self) -> bool:
        """Whether everything is as asked."""
        return self.shapes and self.colours and self.places and self.background and self.extra == 0


def check(image: Image.Image, asked: Asked) -> Verdict:
    """Judge a picture."""
    return fits(look(image), asked)


def fits(seen: SceneFacts, asked: Asked) -> Verdict:
    """Judge facts. Of all ways to take the seen things for the asked ones, the kindest counts."""
    wanted = len(asked.objects)
    missing = wanted > len(seen.objects)
    marks = (False, False, False)
    if not missing:
        ways = permutations(seen.objects, wanted)
        marks = max((_marks(asked, way, seen) for way in ways), key=lambda found: (sum(found), found))
    return Verdict(
        shapes=marks[0],
        colours=marks[1],
        places=marks[2],
        background=asked.background in (None, seen.background),
        extra=max(len(seen.objects) - wanted, 0),
        seen=seen,
    )


def _marks(asked: Asked, way: tuple[ObjectFacts, ...], seen: SceneFacts) -> tuple[bool, bool, bool]:
    """Shapes, colours and places for one way to take the seen things for the asked ones."""
    pairs = list(zip(asked.objects, way, strict=True))
    return (
        all(one.kind == thing.kind and one.size in (None, thing.size) for one, thing in pairs),
        all(one.colour in (None, thing.colour) for one, thing in pairs),
        all(_in_place(one, thing, seen) for one, thing in pairs)
        and all(_related(relation, way, seen) for relation in asked.relations),
    )


def _in_place(one: AskedObject, thing: ObjectFacts, seen: SceneFacts) -> bool:
    if one.place is None:
        return True
    row = next(index for index, cells in enumerate(PLACES) if one.place in cells)
    column = PLACES[row].index(one.place)
    x, y = thing.centre
    return all(
        cell / 3 - _CELL_SLACK <= value <= (cell + 1) / 3 + _CELL_SLACK
        for cell, value in ((column, x / seen.width), (row, y / seen.height))
    )


def _related(relation: AskedRelation, way: tuple[ObjectFacts, ...], seen: SceneFacts) -> bool:
    axis, sign = RELATIONS[relation.relation]
    gap = way[relation.first].centre[axis] - way[relation.second].centre[axis]
    return gap * sign > _SIDE_SLACK * (seen.width, seen.height)[axis]


def _known(what: str, word: str | None, words: tuple[str | None, ...]) -> None:
    if word not in words:
        raise InputError(
            f"unknown {what}",
            value=word,
            limit=", ".join(one for one in words if one),
            remedy="Use one of these words.",
        )
