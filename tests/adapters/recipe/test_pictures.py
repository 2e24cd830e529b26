"""Training pictures of the detector: what is asked, and which families of scenes there are."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from visionllm_adapters.recipe import pictures
from visionllm_adapters.recipe.pictures import Drawn, asked_links, draw_batch, draw_mixed
from visionllm_sdk.scenes.facts import SHAPES, ObjectFacts, SceneFacts
from visionllm_sdk.scenes.labels import Label


def scene() -> SceneFacts:
    """Two things."""
    things = tuple(
        ObjectFacts(kind=kind, colour=colour, size="small", box=(4.0, 4.0, 12.0, 12.0), diameter=8.0)
        for kind, colour in (("star", "red"), ("ring", "blue"))
    )
    return SceneFacts(width=64, height=64, objects=things)


def test_everything_at_once_is_asked_for_now_and_then_and_only_once() -> None:
    rng = Random(1)
    asked = [[link.label for link in asked_links(scene(), rng)] for _ in range(400)]
    share = sum(Label() in labels for labels in asked) / len(asked)
    assert 0.15 < share < 0.45
    assert all(labels.count(Label()) <= 1 for labels in asked)
    assert all(asked)


def test_figures_are_asked_for_where_there_are_none() -> None:
    rng = Random(2)
    asked = [[link.label for link in asked_links(scene(), rng)] for _ in range(300)]
    both = [labels for labels in asked if {Label("person"), Label("dog")} <= set(labels)]
    assert 0.12 < len(both) / len(asked) < 0.35
    assert all(labels.count(Label("dog")) <= 1 for labels in asked)


def test_what_is_asked_alone_is_often_not_there() -> None:
    rng = Random(3)
    things = (*scene().objects, ObjectFacts("person", None, "large", (30.0, 30.0, 40.0, 60.0), 30.0))
    asked = [asked_links(SceneFacts(64, 64, things), rng) for _ in range(400)]
    alone = [links[0] for links in asked if len(links) == 1]
    assert len(alone) > 140
    for kind in ("person", "dog"):
        assert sum(link.label == Label(kind) for link in alone) > 30


def test_of_a_crowd_every_shape_is_often_asked_for_at_once() -> None:
    rng = Random(4)
    crowd = SceneFacts(64, 64, scene().objects * 5)
    asked = [{link.label for link in asked_links(crowd, rng)} for _ in range(200)]
    assert 0.35 < sum(labels == {Label(kind) for kind in SHAPES} for labels in asked) / len(asked) < 0.65


def test_some_pictures_show_things_alike_and_sizes_are_kept() -> None:
    drawn = [
        one
        for first in range(0, 120, 12)
        for one in draw_batch(Random(first), range(first, first + 12), sides=(112, 112), area=112 * 112)
    ]
    crowded = [one.facts.objects for one in drawn if len(one.facts.objects) >= 4]
    alike = [things for things in crowded if len({thing.kind for thing in things}) <= 2]
    assert len(crowded) > 20
    assert 0.05 < len(alike) / len(crowded) < 0.5
    for one in drawn:
        assert one.image.shape[:2] == one.masks.shape[1:] == (one.image.shape[0], one.image.shape[1])
        assert one.image.shape[0] * one.image.shape[1] <= 112 * 112 * 1.5


def test_pictures_in_large_pixels_keep_size_and_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(share: float) -> list[Drawn]:
        monkeypatch.setattr(pictures, "_COARSE", share)
        return draw_batch(Random(9), range(3), sides=(128, 128), area=128 * 128)

    monkeypatch.setattr(pictures, "_GIANTS", 0.0)  # one large shape has hardly a pixel unlike its neighbour
    coarse, fine = drawn(1.0)[0], drawn(0.0)[0]  # the first is drawn before anything depends on the share
    assert coarse.image.shape == fine.image.shape
    assert np.array_equal(coarse.masks, fine.masks)
    alike = [float((one.image[:, 1:] == one.image[:, :-1]).all(-1).mean()) for one in (coarse, fine)]
    assert alike[0] > max(0.3, alike[1])
    assert len(np.unique(coarse.image.reshape(-1, 3), axis=0)) < len(
        np.unique(fine.image.reshape(-1, 3), axis=0)
    )


def test_scaled_pictures_are_stretched_a_little_and_keep_their_truth() -> None:
    drawn = [
        one
        for first in range(0, 60, 6)
        for one in draw_batch(Random(first), range(first, first + 6), sides=(160, 160), area=160 * 160)
    ]
    stretches = []
    for one in drawn:
        height, width = one.image.shape[:2]
        across, down = width / one.facts.width, height / one.facts.height
        stretches.append(across / down)
        for thing, mask in zip(one.facts.objects, one.masks, strict=True):
            rows, columns = np.nonzero(mask)
            box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            assert np.abs(box - np.array(thing.box) * [across, down, across, down]).max() < 3
    assert 0.15 < np.mean([abs(stretch - 1) > 0.01 for stretch in stretches]) < 0.5
    assert max(abs(stretch - 1) for stretch in stretches) < 0.13


def test_crowds_are_drawn_for_the_detector_and_not_for_words() -> None:
    crowded = draw_batch(Random(1), range(12), sides=(200, 220), area=220 * 220, crowds=1.0)
    assert max(len(one.facts.objects) for one in crowded) > 16
    spoken_of = draw_mixed(Random(1), range(30), sides=(200, 220), area=220 * 220)
    assert max(len(one.facts.objects) for one in spoken_of) <= 8
