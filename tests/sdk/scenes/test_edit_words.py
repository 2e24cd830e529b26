"""An edit as words tell it: one exact picture follows from the instruction."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionllm_sdk.scenes import render, sample_scene, truth
from visionllm_sdk.scenes.captions import DRAWABLE
from visionllm_sdk.scenes.drawing_language import EditWords
from visionllm_sdk.scenes.edit_words import as_told, typical_shade
from visionllm_sdk.scenes.edits import EDIT_KINDS, Add, AnyEdit, EditKind, Recolour, edited, sample_edit
from visionllm_sdk.scenes.expressions import PLACES, cell_centre, place_of
from visionllm_sdk.scenes.spec import SceneSpec

SEEDS = st.integers(0, 2**30)


def told(seed: int, kind: EditKind) -> tuple[SceneSpec, AnyEdit, EditWords] | None:
    """A scene, an edit as words tell it, and the words."""
    before = sample_scene(seed, options=DRAWABLE)
    edit = sample_edit(seed, before, kind=kind, options=DRAWABLE)
    found = None if edit is None else as_told(edit, before, Random(seed))
    return None if found is None else (before, *found)


@given(seed=SEEDS)
@settings(max_examples=60, deadline=None)
def test_what_is_added_stands_upright_in_the_middle_of_the_place_that_words_name(seed: int) -> None:
    case = told(seed, "add")
    if case is None:
        return
    before, edit, words = case
    assert isinstance(edit, Add)
    item = edit.item
    assert (item.kind, item.colour) == (words.new_kind, words.new_colour)
    assert (item.size, item.rotation, item.diameter) == ("medium", 0, 0.26 * 64)
    after = edited(before, edit)
    facts = truth(after, render(after)).facts()
    place = words.place
    if place is not None:
        assert place_of(facts.objects[-1], facts) == place
    for other in before.objects:
        assert math.dist(item.centre, other.centre) > (item.diameter + other.diameter) / 2


def test_with_no_place_named_it_stands_where_there_is_most_room() -> None:
    cases = [case for seed in range(400) if (case := told(seed, "add")) and case[2].place is None]
    assert len(cases) >= 10
    for before, edit, _ in cases:
        assert isinstance(edit, Add)

        def room(centre: tuple[float, float], scene: SceneSpec = before) -> float:
            return min(math.dist(centre, one.centre) - one.diameter / 2 for one in scene.objects)

        centres = [cell_centre(place) for row in PLACES for place in row]
        assert room(edit.item.centre) == pytest.approx(max(room((x * 64, y * 64)) for x, y in centres))


def test_a_colour_word_is_told_in_its_typical_shade() -> None:
    cases = [case for seed in range(60) if (case := told(seed, "recolour"))]
    typical = 0
    for _, edit, words in cases:
        assert isinstance(edit, Recolour)
        assert edit.colour == words.new_colour
        typical += edit.rgb == typical_shade(edit.colour)
    assert typical > 0.8 * len(cases)  # the others could not be seen on their background


@pytest.mark.parametrize("kind", EDIT_KINDS)
def test_half_of_the_edits_and_more_can_be_told(kind: EditKind) -> None:
    assert sum(told(seed, kind) is not None for seed in range(60)) >= 25


def test_the_rows_of_places_are_those_of_the_words() -> None:
    x, y = cell_centre("bottom left")
    assert x < 1 / 3
    assert y > 2 / 3
    assert cell_centre("center") == (0.5, 0.5)
