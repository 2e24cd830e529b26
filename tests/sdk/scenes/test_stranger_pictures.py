"""The strangers' drawings are themselves right."""

from __future__ import annotations

import numpy as np

from tests.stranger_pictures import STYLES, stranger_pictures, stranger_scene
from visionllm_sdk.keypoints import COCO
from visionllm_sdk.scenes.facts import COLOURS, FIGURES, SHAPES


def test_every_style_shows_what_is_said() -> None:
    kinds, colours = set(), set()
    pictures = list(stranger_pictures(3))
    assert len(pictures) == 3 * len(STYLES)
    for image, facts, masks in pictures:
        assert image.size == (facts.width, facts.height)
        assert masks.shape == (len(facts.objects), facts.height, facts.width)
        assert masks.sum(axis=0).max(initial=0) <= 1
        for thing, mask in zip(facts.objects, masks, strict=True):
            rows, columns = np.nonzero(mask)
            assert thing.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert (thing.colour is None) == (thing.kind in FIGURES)
            kinds.add(thing.kind)
            colours.add(thing.colour)
    assert kinds == {*SHAPES, *FIGURES}
    assert colours == {*COLOURS, None}


def test_the_same_seed_draws_the_same() -> None:
    first, second = stranger_scene(11), stranger_scene(11)
    assert np.array_equal(np.asarray(first.image), np.asarray(second.image))
    assert first.style == second.style


def test_persons_have_their_joints() -> None:
    persons = [
        thing for seed in range(16) for thing in stranger_scene(seed).objects if thing.kind == "person"
    ]
    assert persons
    for person in persons:
        assert person.keypoints is not None
        assert set(person.keypoints) == {name.replace("_", " ") for name in COCO.names}
