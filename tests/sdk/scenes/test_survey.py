from __future__ import annotations

from random import Random

import pytest

from tests.sdk.scenes.test_wording import plain
from visionllm_sdk.keypoints import AP10K, COCO
from visionllm_sdk.scenes.facts import ObjectFacts, SceneFacts
from visionllm_sdk.scenes.phrases.freely import freely
from visionllm_sdk.scenes.survey import SURVEY_HELD_OUT, SURVEY_TRAINING, kinds_in, survey


def thing(kind: str, x: float, y: float) -> ObjectFacts:
    return ObjectFacts(kind, None, "small", (x - 5, y - 5, x + 5, y + 5), 10)


def asked(*things: ObjectFacts) -> dict[str, list[str]]:
    """What many requests about such a scene ask for, by routing token."""
    scene = SceneFacts(100, 100, things)
    found: dict[str, list[str]] = {}
    for seed in range(40):
        exchange = survey(scene, Random(seed))
        found["".join(sorted({link.token for link in exchange.links}))] = [
            link.text for link in exchange.links
        ]
    return found


def test_all_that_is_there_is_asked_for() -> None:
    found = asked(thing("star", 80, 80), thing("ring", 15, 20), thing("star", 50, 15))
    assert found == {"[DET]": ["object"], "[SEG]": ["ring", "star"], "[DET][POSE]": ["person", *COCO.names]}


def test_of_nothing_there_is_still_a_map() -> None:
    assert asked()["[SEG]"] == ["object"]


@pytest.mark.parametrize(
    ("kinds", "owner"), [(("dog",), "dog"), (("person",), "person"), (("dog", "person"), "person")]
)
def test_poses_are_of_the_figures_that_are_there(kinds: tuple[str, ...], owner: str) -> None:
    found = asked(*(thing(kind, 30 * i + 20, 50) for i, kind in enumerate(kinds)), thing("ring", 90, 90))
    assert found["[DET][POSE]"] == [owner, *(AP10K if owner == "dog" else COCO).names]


def test_a_map_has_each_kind_once_and_not_too_many() -> None:
    things = tuple(thing(f"kind {i % 9}", 10 * (i % 10) + 2, 10 * (i // 10) + 2) for i in range(40))
    assert [label.kind for label in kinds_in(SceneFacts(100, 100, things))] == [f"kind {i}" for i in range(6)]


@pytest.mark.parametrize("topic", SURVEY_TRAINING)
def test_the_evaluation_asks_otherwise(topic: str) -> None:
    taught = {plain(text) for text in (*SURVEY_TRAINING[topic], *freely(topic))}
    assert len(taught) > 200
    assert not taught & {plain(text) for text in SURVEY_HELD_OUT[topic]}
