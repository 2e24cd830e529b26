from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from visionllm_sdk.errors import InputError
from visionllm_sdk.results import Box, Detection, Detections, Keypoint, Mask, Pose, Poses


def found() -> Detections:
    left, right = np.zeros((40, 60), dtype=bool), np.zeros((40, 60), dtype=bool)
    left[5:25, 3:23], right[10:38, 30:58] = True, True
    return Detections(
        width=60,
        height=40,
        labels=("ring", "star"),
        detections=(
            Detection(label="star", score=0.9, box=Box(3, 5, 23, 25), mask=Mask.from_numpy(left)),
            Detection(label="moon", score=0.8, box=Box(30, 10, 58, 38), mask=Mask.from_numpy(right)),
        ),
    )


def test_pycocotools_reads_and_scores_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "scene.json"
    path.write_text(json.dumps(found().to_coco(image_id=7, file_name="scene.png")))
    truth = COCO(str(path))
    assert [c["name"] for c in truth.loadCats(truth.getCatIds())] == ["ring", "star", "moon"]
    assert truth.loadImgs([7])[0]["file_name"] == "scene.png"
    np.testing.assert_array_equal(truth.annToMask(truth.anns[1]), found()[0].mask.to_numpy())  # type: ignore[union-attr]
    for kind in ("bbox", "segm"):
        score = COCOeval(truth, truth.loadRes(found().to_coco(image_id=7)["annotations"]), kind)
        score.evaluate()
        score.accumulate()
        score.summarize()
        assert score.stats[0] == pytest.approx(1)
    capsys.readouterr()


def test_given_categories() -> None:
    data = found().to_coco(categories={"star": 5, "moon": 6})
    assert [entry["category_id"] for entry in data["annotations"]] == [5, 6]
    assert data["annotations"][0]["bbox"] == [3, 5, 20, 20]
    assert data["annotations"][0]["area"] == 400
    with pytest.raises(InputError, match="no category id"):
        found().to_coco(categories={"star": 5})


def test_no_categories_are_not_any_categories() -> None:
    with pytest.raises(InputError, match="no category id"):
        found().to_coco(categories={})
    with pytest.raises(InputError, match="no category id"):
        posed("dog", asked="dog").to_coco(categories={})
    assert Detections(width=4, height=3, labels=("cat",)).to_coco(categories={})["categories"] == []


def test_poses_of_no_kind_have_no_category() -> None:
    assert Poses(width=4, height=4).to_coco()["categories"] == []
    assert [one["name"] for one in posed("", asked="").to_coco()["categories"]] == [""]


def test_nothing_found() -> None:
    data = Detections(width=4, height=3, labels=("cat",)).to_coco()
    assert data["images"] == [{"id": 1, "width": 4, "height": 3, "file_name": ""}]
    assert data["categories"] == [{"id": 1, "name": "cat"}]
    assert data["annotations"] == []


def test_poses() -> None:
    keypoints = (Keypoint("nose", 1, 2, 0.9), Keypoint("tail", 3, 4, 0.3, visible=False))
    pose = Pose("dog", 0.5, Box(0, 0, 5, 6), keypoints)
    poses = Poses(
        width=8, height=8, label="dog", poses=(pose,), names=("nose", "tail"), skeleton=(("nose", "tail"),)
    )
    data = poses.to_coco(category_id=3)
    assert data["categories"] == [
        {"id": 3, "name": "dog", "keypoints": ["nose", "tail"], "skeleton": [[1, 2]]}
    ]
    (entry,) = data["annotations"]
    assert entry["keypoints"] == [1, 2, 2, 3, 4, 1]
    assert (entry["num_keypoints"], entry["category_id"], entry["score"]) == (2, 3, 0.5)


def posed(*labels: str, asked: str) -> Poses:
    poses = tuple(Pose(label, 0.5, Box(0, 0, 5, 6), (Keypoint("nose", 1, 2, 0.9),)) for label in labels)
    return Poses(width=8, height=8, label=asked, poses=poses, names=("nose", "tail"))


@pytest.mark.parametrize(
    ("found", "asked", "names", "ids"),
    [
        (("heart", "dog", "heart"), "dog, heart", ["dog", "heart"], [2, 1, 2]),
        ((), "dog, heart", ["dog", "heart"], []),
        (("dog, brown",), "dog, brown", ["dog, brown"], [1]),
        (("heart", "dog, brown"), "dog, brown, heart", ["heart", "dog, brown"], [1, 2]),
    ],
)
def test_poses_of_several_kinds(found: tuple[str, ...], asked: str, names: list[str], ids: list[int]) -> None:
    data = posed(*found, asked=asked).to_coco()
    assert data["categories"] == [
        {"id": number, "name": name, "keypoints": ["nose", "tail"], "skeleton": []}
        for number, name in enumerate(names, start=1)
    ]
    assert [entry["category_id"] for entry in data["annotations"]] == ids


def test_given_categories_of_poses() -> None:
    poses = posed("heart", "dog", asked="dog, heart")
    data = poses.to_coco(categories={"cat": 4, "dog": 5, "heart": 6})
    assert [entry["category_id"] for entry in data["annotations"]] == [6, 5]
    assert [(one["id"], one["name"]) for one in data["categories"]] == [(4, "cat"), (5, "dog"), (6, "heart")]
    with pytest.raises(InputError, match="no category id"):
        poses.to_coco(categories={"dog": 5})


def test_supervision() -> None:
    supervision = pytest.importorskip("supervision")
    other = found().to_supervision()
    assert isinstance(other, supervision.Detections)
    np.testing.assert_array_equal(other.xyxy, [[3, 5, 23, 25], [30, 10, 58, 38]])
    assert list(other.data["class_name"]) == ["star", "moon"]
    assert list(other.class_id) == [1, 2]
    assert other.mask.shape == (2, 40, 60)


def test_supervision_without_masks_or_detections() -> None:
    pytest.importorskip("supervision")
    empty = Detections(width=4, height=3).to_supervision()
    assert len(empty) == 0
    bare = Detections(width=4, height=3, detections=(Detection("a", 1, Box(0, 0, 1, 1)),)).to_supervision()
    assert bare.mask is None
    assert len(bare) == 1


@pytest.mark.parametrize(
    "settings",
    [{"categories": ["dog"]}, {"categories": {"dog": "1"}}, {"image_id": "1"}, {"file_name": Path("a.png")}],
)
def test_what_coco_does_not_hold(settings: dict[str, Any]) -> None:
    detections = Detections(width=9, height=9, detections=(Detection("dog", 0.5, Box(1, 1, 3, 3)),))
    poses = Poses(width=9, height=9, poses=(Pose("dog", 0.5, Box(1, 1, 3, 3), ()),), label="dog")
    for result in (detections, poses):
        with pytest.raises(InputError, match=r"id|categories|file_name"):
            result.to_coco(**settings)
