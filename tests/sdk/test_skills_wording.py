"""What the model is told of a tool's findings."""

from __future__ import annotations

import numpy as np
import pytest

from visionllm_sdk.results import (
    Answer,
    Box,
    Count,
    Detection,
    Detections,
    Grounding,
    Pose,
    Poses,
    Result,
    RoutedCall,
    SemanticMap,
)
from visionllm_sdk.skills.wording import report


def call(result: Result | None) -> RoutedCall:
    return RoutedCall(token="[DET]", tool="detect", probability=1.0, result=result)


def detections(*labels: str, asked: tuple[str, ...]) -> Detections:
    found = tuple(Detection(label=label, score=0.9, box=Box(0, 0, 5, 5)) for label in labels)
    return Detections(width=100, height=50, detections=found, labels=asked)


def test_counts() -> None:
    found = detections("star", "red ring", "star", asked=("star", "red ring", "dog"))
    assert report([call(found)]) == "2 stars, 1 red ring, no dog."


def test_articles_are_left_out() -> None:
    assert report([call(detections("the star", asked=("the star", "a dog")))]) == "1 star, no dog."


def test_several_calls_are_told_once_each() -> None:
    first = detections("star", asked=("star",))
    count = Count(width=100, height=50, label="ring", count=3, detections=detections(asked=("ring",)))
    assert report([call(first), call(count), call(first)]) == "1 star, 3 rings."


@pytest.mark.parametrize(("posed", "told"), [(0, "no person."), (1, "1 person."), (3, "3 people.")])
def test_of_a_kind_with_poses_the_poses_are_told(posed: int, told: str) -> None:
    whose = call(detections("person", asked=("person",)))
    pose = Pose(label="person", score=0.9, box=Box(0, 0, 5, 5), keypoints=())
    poses = call(Poses(width=100, height=50, poses=(pose,) * posed, label="person"))
    assert report([whose, poses]) == told
    other = call(detections("person", "star", asked=("person", "star")))
    assert report([other, poses]) == ", ".join(dict.fromkeys(["1 person", "1 star", told[:-1]])) + "."


def test_places() -> None:
    at = Detection(label="the star", score=0.9, box=Box(80, 0, 100, 10))
    worse = Detection(label="the star", score=0.2, box=Box(0, 0, 10, 10))
    found = Grounding(
        width=100, height=50, detections=(at, worse), labels=("the star",), expression="the star"
    )
    assert report([call(found)]) == "the star at the top right."
    nothing = Grounding(width=100, height=50, labels=("the star",), expression="the star")
    assert report([call(nothing)]) == "no star."


def place(expression: str, box: Box) -> Grounding:
    found = Detection(label=expression, score=0.9, box=box)
    return Grounding(width=100, height=50, detections=(found,), labels=(expression,), expression=expression)


def test_two_places_are_compared() -> None:
    star, dog = place("the star", Box(80, 0, 100, 10)), place("the dog", Box(0, 20, 60, 50))
    assert report([call(star), call(dog)]) == (
        "the star at the top right, the dog at the bottom left (right of, above, smaller)."
    )
    assert report([call(star), call(star)]) == "the star at the top right."
    twins = [call(star), call(place("the ring", Box(80, 0, 100, 10)))]
    assert report(twins) == "the star at the top right, the ring at the top right."


def test_patches_of_a_semantic_map() -> None:
    pixels = np.full((60, 60), -1)
    pixels[5:15, 5:15] = pixels[30:40, 30:40] = 0
    pixels[59, 59] = 0  # a speck
    mapped = SemanticMap.from_numpy(pixels, ["star", "ring"])
    assert report([call(mapped)]) == "2 stars, no ring."
    tiny = SemanticMap.from_numpy(np.where(pixels == 0, -1, -1), ["star"])
    assert report([call(tiny)]) == "no star."


@pytest.mark.parametrize("result", [None, Answer(text="yes")])
def test_what_cannot_be_counted_is_not_told(result: Result | None) -> None:
    assert report([call(result)]) is None
    assert report([]) is None
