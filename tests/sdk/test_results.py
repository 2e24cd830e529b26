from __future__ import annotations

import json
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from visionllm_sdk import results
from visionllm_sdk.errors import ArtifactError, InputError
from visionllm_sdk.results import (
    Alternative,
    Answer,
    Box,
    Count,
    Detection,
    Detections,
    EditedImage,
    GeneratedImage,
    Grounding,
    ImageResult,
    Keypoint,
    Mask,
    Picture,
    Point,
    Pose,
    Poses,
    RegionDescription,
    RegionLabel,
    Reply,
    Result,
    RoutedCall,
    Scribble,
    SemanticMap,
    Usage,
    revive,
)

UNIT = st.floats(0, 1)
NAMES = st.text(min_size=1, max_size=12)


def blob(x1: int = 1, y1: int = 1, x2: int = 4, y2: int = 3) -> Mask:
    array = np.zeros((6, 8), dtype=bool)
    array[y1:y2, x1:x2] = True
    return Mask.from_numpy(array)


def some_detections() -> Detections:
    return Detections(
        width=8,
        height=6,
        labels=("star", "red circle", "ring"),
        detections=(
            Detection(label="star", score=0.9, box=Box(1, 1, 4, 3), mask=blob()),
            Detection(label="red circle", score=0.5, box=Box(5, 0, 8, 6), mask=blob(5, 0, 8, 6)),
            Detection(label="star", score=0.2, box=Box(0, 0, 1, 1), mask=blob(0, 0, 1, 1)),
        ),
    )


def one_of_each() -> list[Result]:
    found = some_detections()
    call = RoutedCall(
        token="[DET]",
        tool="detection",
        labels=("star",),
        probability=0.75,
        alternatives=(Alternative(token="", probability=0.25),),
        result=found,
        image="img_1_00",
    )
    keypoints = (Keypoint(name="nose", x=1.5, y=2, score=0.5), Keypoint("tail", 3, 4, 0.25, visible=False))
    pose = Pose(label="dog", score=0.5, box=Box(0, 0, 4, 4), keypoints=keypoints)
    return [
        found,
        found[0],
        found[0].box,
        blob(),
        Point(1, 2),
        Scribble([(1, 2), (3, 4)]),
        Detections(width=1, height=1),
        Grounding(width=8, height=6, expression="the star", detections=found.detections),
        Count(width=8, height=6, label="star", count=2, detections=found.filter("star")),
        SemanticMap.from_numpy(np.arange(48).reshape(6, 8) % 3 - 1, ["sky", "wall"]),
        keypoints[0],
        pose,
        Poses(
            width=8,
            height=6,
            label="dog",
            poses=(pose,),
            names=("nose", "tail"),
            skeleton=(("nose", "tail"),),
        ),
        RegionDescription(region=Point(1, 2), text="a star"),
        RegionLabel(region=blob(), label="star", score=1),
        Answer(text="two", question="how many?", probability=0.5),
        Usage(input_tokens=100, image_tokens=64, output_tokens=5),
        call.alternatives[0],
        call,
        Reply(text="I see star.", calls=(call,), usage=Usage(1, 0, 1)),
        GeneratedImage(width=8, height=6, prompt="a star", seed=1, steps=4, guidance=2.0),
        EditedImage(
            width=8, height=6, prompt="make it red", seed=1, steps=4, guidance=2.0, image_guidance=1.5
        ),
    ]


@pytest.mark.parametrize("result", one_of_each(), ids=lambda result: type(result).__name__)
def test_round_trips_are_exact(result: Result) -> None:
    """Through JSON, through dicts, through what a store makes of tuples."""
    text = result.model_dump_json()
    assert type(result).model_validate_json(text) == result
    assert revive(json.loads(text)) == result
    assert revive(result.model_dump()) == result
    assert revive(result.model_dump(mode="json")) == result
    assert revive(result) is result
    assert revive(json.loads(text)).model_dump_json() == text


def test_every_result_of_the_module_can_be_revived() -> None:
    kinds = {getattr(results, name) for name in results.__all__ if isinstance(getattr(results, name), type)}
    assert kinds - {Result, ImageResult, Picture} == {type(result) for result in one_of_each()}


@given(
    st.integers(1, 5000),
    st.integers(1, 5000),
    st.lists(st.tuples(NAMES, UNIT, st.lists(st.floats(-10, 1e4), min_size=4, max_size=4)), max_size=5),
)
def test_json_round_trip_of_any_detections(width: int, height: int, rows: list[Any]) -> None:
    detections = []
    for label, score, (a, b, c, d) in rows:
        box = Box(min(a, c), min(b, d), max(a, c), max(b, d))
        detections.append(Detection(label=label, score=score, box=box))
    found = Detections(width=width, height=height, detections=detections, labels=[row[0] for row in rows])
    assert revive(json.loads(found.model_dump_json())) == found
    assert len(found) == len(rows)


def test_size_and_frame_are_there_with_nothing_found() -> None:
    data = json.loads(Detections(width=640, height=480, labels=("cat",)).model_dump_json())
    assert data == {
        "type": "detections",
        "width": 640,
        "height": 480,
        "frame": "pixels",
        "labels": ["cat"],
        "detections": [],
    }


def test_size_is_required() -> None:
    with pytest.raises(InputError, match=r"Detections\.width: Field required"):
        Detections()  # type: ignore[call-arg]
    with pytest.raises(InputError, match="greater than 0"):
        Detections(width=0, height=4)


def test_detections_are_a_sequence() -> None:
    found = some_detections()
    assert len(found) == 3
    assert [d.label for d in found] == ["star", "red circle", "star"]
    assert found[1].label == "red circle"
    assert found[-1].score == 0.2
    assert found.boxes().shape == (3, 4)
    assert Detections(width=1, height=1).boxes().shape == (0, 4)
    assert found.class_names() == ["star", "red circle", "ring"]


def test_filter() -> None:
    found = some_detections()
    assert [d.score for d in found.filter("star")] == [0.9, 0.2]
    assert len(found.filter(["star", "red circle"])) == 3
    assert len(found.filter([])) == 0
    assert [d.score for d in found.filter(min_score=0.5)] == [0.9, 0.5]
    assert [d.label for d in found.filter(min_area=7)] == ["red circle"]
    assert [d.score for d in found.filter(inside=Box(0, 0, 4, 6))] == [0.9, 0.2]
    kept = found.filter("nothing")
    assert (kept.width, kept.height, kept.labels) == (found.width, found.height, found.labels)
    grounding = Grounding(width=8, height=6, expression="x", detections=found.detections)
    assert grounding.filter("star").expression == "x"


def test_score_is_a_probability() -> None:
    with pytest.raises(InputError, match=r"Detection\.score"):
        Detection(label="a", score=1.5, box=Box(0, 0, 1, 1))


def test_mask_of_another_size() -> None:
    detection = Detection(label="a", score=1, box=Box(0, 0, 1, 1), mask=blob())
    with pytest.raises(InputError, match=r"mask of detection 0 \('a'\)"):
        Detections(width=6, height=8, detections=(detection,))


def test_attached_image_is_no_data() -> None:
    image = Image.new("RGB", (8, 6))
    found = some_detections()
    shown = found.with_image(image)
    assert shown == found
    assert shown.model_dump() == found.model_dump()
    assert hash(shown) == hash(found)
    assert found != some_detections().filter("star")
    with pytest.raises(InputError, match="another size"):
        found.with_image(Image.new("RGB", (6, 8)))


def test_count() -> None:
    found = some_detections().filter("star")
    count = Count(width=8, height=6, label="star", count=2, detections=found)
    assert int(count) == 2
    with pytest.raises(InputError, match="greater than or equal to 0"):
        Count(width=8, height=6, label="star", count=-1, detections=found)


def test_semantic_map_round_trip() -> None:
    indices = np.random.default_rng(0).integers(-1, 3, (9, 7))
    semantic = SemanticMap.from_numpy(indices, ["sky", "sea", "sand"])
    np.testing.assert_array_equal(semantic.to_numpy(), indices)
    np.testing.assert_array_equal(semantic.mask("sea").to_numpy(), indices == 1)
    assert (semantic.width, semantic.height) == (7, 9)
    with pytest.raises(InputError, match="no such label"):
        semantic.mask("moon")


def test_labels_of_a_semantic_map_may_come_once() -> None:
    names = (name for name in ("sky", "sea"))
    assert SemanticMap.from_numpy(np.array([[0, 1]]), names).labels == ("sky", "sea")
    with pytest.raises(InputError, match="labels of a semantic map are not a list"):
        SemanticMap.from_numpy(np.array([[0]]), 5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="cannot be read as an array"):
        SemanticMap.from_numpy([[0, 1], [0]], ["sky", "sea"])


@pytest.mark.parametrize(
    ("indices", "match"),
    [
        (np.array([[3]]), "has no label"),
        (np.array([[-2]]), "has no label"),
        (np.zeros((2, 2)), "integer array"),
        (np.zeros((2, 2, 2), dtype=int), "integer array"),
        (np.zeros((0, 2), dtype=int), "integer array"),
    ],
)
def test_semantic_map_from_wrong_arrays(indices: np.ndarray[Any, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        SemanticMap.from_numpy(indices, ["a", "b"])


def test_semantic_map_that_contradicts_itself() -> None:
    with pytest.raises(InputError, match="every label once"):
        SemanticMap(width=8, height=6, labels=("a", "a"), masks=(blob(), blob()))
    with pytest.raises(InputError, match="every label once"):
        SemanticMap(width=8, height=6, labels=("a",), masks=())
    with pytest.raises(InputError, match="overlap"):
        SemanticMap(width=8, height=6, labels=("a", "b"), masks=(blob(), blob()))
    with pytest.raises(InputError, match="not of the image's size"):
        SemanticMap(width=6, height=8, labels=("a",), masks=(blob(),))


def test_poses() -> None:
    poses = one_of_each()[12]
    assert isinstance(poses, Poses)
    assert len(poses) == 1
    assert poses[0].keypoint("tail").visible is False
    assert [pose.label for pose in poses] == ["dog"]
    assert len(poses.filter(min_score=0.6)) == 0
    with pytest.raises(InputError, match="no such keypoint") as caught:
        poses[0].keypoint("wing")
    assert caught.value.limit == ["nose", "tail"]


def test_texts() -> None:
    assert str(Answer("two")) == "two"
    reply = Reply("I see star.", calls=[RoutedCall("[DET]", "detection", probability=1)])
    assert str(reply) == "I see star."
    assert reply.results == ()
    assert Reply("x", calls=[RoutedCall("[DET]", "d", probability=1, result=some_detections())]).results == (
        some_detections(),
    )


class Depth(ImageResult):
    """A third party's result."""

    type: Literal["depth"] = "depth"
    metres: tuple[float, ...]


def test_results_of_third_parties() -> None:
    depth = Depth(width=2, height=1, metres=(1.5, 2.5))
    reply = Reply("done", calls=(RoutedCall("[DEPTH]", "depth", probability=1, result=depth),))
    data = json.loads(reply.model_dump_json())
    assert data["calls"][0]["result"]["metres"] == [1.5, 2.5]
    assert revive(data, extra=[Depth]) == reply
    with pytest.raises(ArtifactError, match="not the data of a typed result"):
        revive(data)


def test_revive_lists() -> None:
    found = some_detections()
    assert revive([found.model_dump(), found]) == [found, found]
    assert revive([]) == []


def nested(depth: int) -> Any:
    data: Any = "end"
    for _ in range(depth):
        data = {"type": "reply", "text": data}
    return data


@pytest.mark.parametrize(
    ("artifact", "match"),
    [
        (None, "not the data"),
        ("detections", "not the data"),
        ({}, "not the data"),
        ({"type": "os.system"}, "not the data"),
        ({"type": ["detections"]}, "not the data"),
        ({"type": "visionllm_sdk.results.Detections", "width": 3, "height": 3}, "not the data"),
        ({"type": "detections", "width": 3, "height": 3, "__class__": "x"}, "changed or damaged"),
        ({"type": "detections", "width": -3, "height": 3}, "changed or damaged"),
        ({"type": "detections", "width": 3, "height": 3, "detections": [{"label": "a"}]}, "not the data"),
        ({"type": "box", "x1": 5, "y1": 0, "x2": 1, "y2": 1}, "swapped"),
        ({"type": "box", "x1": 0, "y1": 0, "x2": 1, "y2": 1, "self": 1}, "changed or damaged"),
        ({"type": "mask", "size": [3, 3], "counts": "0000"}, "does not fit"),
        ({"type": "mask", "size": [10**9, 10**9], "counts": "0"}, "too large"),
        ({"type": "answer", "text": {"type": "point", "x": 1, "y": 1}}, "valid string"),
        ({"type": "reply", "text": "x", "calls": [{"type": "answer", "text": "x"}]}, "changed or damaged"),
        ({"type": "point", "x": 1, "y": 1, 3: 4}, "not the data"),
        (nested(1000), "nested too deeply"),
    ],
)
def test_tampered_artifacts(artifact: Any, match: str) -> None:
    with pytest.raises(ArtifactError, match=match):
        revive(artifact)


def test_a_result_can_be_drawn_on_an_image_as_large_as_its_own() -> None:
    found, large = Detections(width=40_000, height=2), Image.new("RGB", (40_000, 2))
    assert found.draw(large).size == large.size
    assert found.with_image(large) == found


@pytest.mark.parametrize(
    "condition",
    [
        {"labels": 3},
        {"labels": [3]},
        {"labels": [["dog"]]},
        {"min_score": "high"},
        {"min_area": None},
        {"inside": (0, 0, 1, 1)},
    ],
)
def test_conditions_that_are_none(condition: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(condition))):
        results.Detections(width=3, height=1).filter(**condition)
