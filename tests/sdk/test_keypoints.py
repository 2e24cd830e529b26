"""Keypoint sets, free names, skeletons and the similarity measure."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionllm_sdk.errors import InputError
from visionllm_sdk.keypoints import (
    AP10K,
    COCO,
    DEFAULT_SIGMA,
    FACE68,
    HAND,
    KEYPOINT_SETS,
    KeypointSet,
    keypoint_set,
    keypoint_similarity,
    same_name,
)
from visionllm_sdk.scenes.figures import KEYPOINTS, SKELETONS

words = st.text("abcdefgh ", min_size=1, max_size=8).filter(lambda text: text.strip())


def bones(pairs: tuple[tuple[str, str], ...]) -> set[frozenset[str]]:
    return {frozenset(same_name(name) for name in pair) for pair in pairs}


@pytest.mark.parametrize(("name", "count"), [("coco", 17), ("ap10k", 17), ("hand", 21), ("face68", 68)])
def test_sets(name: str, count: int) -> None:
    known = keypoint_set(name)
    assert len(known) == len(set(known)) == count
    assert {end for bone in known.skeleton for end in bone} == set(known)
    assert len(bones(known.skeleton)) == len(known.skeleton)


@pytest.mark.parametrize(("kind", "known"), [("person", COCO), ("dog", AP10K)])
def test_sets_are_those_of_the_drawn_figures(kind: str, known: KeypointSet) -> None:
    assert [same_name(name) for name in known] == [same_name(name) for name in KEYPOINTS[kind]]
    assert bones(known.skeleton) == bones(SKELETONS[kind])


def test_names_that_are_generated() -> None:
    assert FACE68.names[0] == "right cheekbone 1"
    assert FACE68.names[7:10] == ("right chin", "chin center", "left chin")
    assert FACE68.names[36] == "right eye eye corner 1"
    assert HAND.names[4:7] == ("thumb's first knuckle", "forefinger's root", "forefinger's third knuckle")


def test_free_names() -> None:
    free = keypoint_set(["Left_Knee", "  handle  bar ", "left ankle"])
    assert free.names == ("Left_Knee", "handle bar", "left ankle")
    assert free.sigmas == (0.087, DEFAULT_SIGMA, 0.089)
    assert free.skeleton == (("left ankle", "Left_Knee"),)


def test_a_whole_set_in_another_spelling() -> None:
    spelt = keypoint_set([name.upper().replace(" ", "_") for name in AP10K])
    assert spelt.sigmas == AP10K.sigmas
    assert bones(spelt.skeleton) == bones(AP10K.skeleton)
    assert spelt.names[0] == "LEFT_EYE"


@pytest.mark.parametrize(
    ("keypoints", "message"),
    [
        ("body", "no keypoint set of this name"),
        ("", "no keypoint set of this name"),
        ([], "no keypoint to look for"),
        ([" "], "not text, or empty"),
        ([3], "not text, or empty"),
        (["nose", "Nose"], "asked for twice"),
    ],
)
def test_bad_requests(keypoints: str | list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        keypoint_set(keypoints)


def test_a_set_needs_its_sigmas() -> None:
    with pytest.raises(InputError, match="one sigma per name"):
        KeypointSet(("a", "b"), (0.1,))


@given(st.lists(words, min_size=1, max_size=10, unique_by=same_name))
def test_any_names(names: list[str]) -> None:
    free = keypoint_set(names)
    assert [same_name(name) for name in free] == [same_name(name) for name in names]
    assert len(free.sigmas) == len(names)


@given(st.permutations(COCO.names))
def test_bones_do_not_depend_on_the_order(names: list[str]) -> None:
    assert bones(keypoint_set(names).skeleton) == bones(COCO.skeleton)


def coco_oks(found: np.ndarray, truth: np.ndarray, placed: np.ndarray, area: float) -> float:
    """By COCO's own code."""
    from pycocotools.coco import COCO as Data
    from pycocotools.cocoeval import COCOeval

    def entry(points: np.ndarray, flags: np.ndarray) -> dict[str, object]:
        triples = np.concatenate([points, flags[:, None]], axis=1).ravel().tolist()
        return {"id": 1, "image_id": 1, "category_id": 1, "keypoints": triples, "bbox": [0, 0, 9, 9]}

    data = Data()
    truth_entry = entry(truth, 2.0 * placed) | {
        "area": area, "iscrowd": 0, "num_keypoints": int(placed.sum())
    }  # fmt: skip
    data.dataset = {"images": [{"id": 1}], "categories": [{"id": 1}], "annotations": [truth_entry]}
    data.createIndex()
    judge = COCOeval(data, data.loadRes([entry(found, np.ones(17)) | {"score": 1.0}]), "keypoints")
    judge._prepare()
    return float(judge.computeOks(1, 1)[0, 0])


@pytest.mark.parametrize("seed", range(5))
def test_similarity_is_that_of_coco(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    draw = np.random.default_rng(seed)
    truth = draw.uniform(0, 100, (17, 2))
    found = truth + draw.normal(0, 4, (17, 2))
    placed = draw.uniform(size=17) < 0.7
    mine = keypoint_similarity(found, truth, placed, area=900.0, sigmas=COCO.sigmas)
    assert mine == pytest.approx(coco_oks(found, truth, placed, 900.0), abs=1e-9)


def test_similarity_of_all_pairs() -> None:
    points = np.random.default_rng(0).uniform(0, 50, (3, 17, 2))
    table = keypoint_similarity(
        points[:, None], points[None], np.ones((1, 3, 17)), area=np.full(3, 100.0), sigmas=COCO.sigmas
    )
    assert table.shape == (3, 3)
    assert np.allclose(table.diagonal(), 1)
    assert (table <= 1).all()


def test_nothing_to_compare() -> None:
    points = np.zeros((17, 2))
    empty = keypoint_similarity(points, points, np.zeros(17), area=10.0, sigmas=COCO.sigmas)
    assert empty == 0


def test_every_set_has_a_name() -> None:
    assert list(KEYPOINT_SETS) == ["coco", "ap10k", "hand", "face68"]
