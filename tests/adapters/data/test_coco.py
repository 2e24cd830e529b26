"""COCO: skeletons, splits of refs, boxes at the border, exports with a folder for each split."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.adapters.data.conftest import coco
from visionllm_adapters.data import check, read_data
from visionllm_adapters.data.coco import EXPORTED
from visionllm_adapters.data.faults import counted
from visionllm_adapters.data.formats import has_own_split
from visionllm_sdk.cli.entry import OK, run
from visionllm_sdk.errors import DataError

Write = Callable[..., Path]
BOX: dict[str, Any] = {"id": 1, "image_id": 0, "category_id": 1, "bbox": [10, 5, 20, 10]}


# -- skeletons ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "skeleton",
    [[[0, 1]], [[1, -1]], [[1, 3]], [["rim", "foot"]], [[1, 2, 1]], [1], [[1, None]], [[1, 1.5]], "all"],
)
def test_a_skeleton_of_other_than_pairs_of_numbers_is_named(
    write: Write, pictures: Path, skeleton: Any
) -> None:
    cup = {"id": 1, "name": "cup", "keypoints": ["rim", "foot"], "skeleton": skeleton}
    data = read_data(write(coco([BOX], categories=[cup])), images=pictures).usable()
    assert counted(data.faults) == {"skeleton malformed": 1}
    assert "category 1" in str(data.faults[0])
    assert data.skeletons == {"cup": ()}


def test_the_sound_bones_of_a_skeleton_stay(write: Write, pictures: Path) -> None:
    cup = {"id": 1, "name": "cup", "keypoints": ["rim", "foot"], "skeleton": [[0, 1], [2, 1]]}
    data = read_data(write(coco([BOX], categories=[cup])), images=pictures)
    assert data.skeletons == {"cup": (("foot", "rim"),)}


@pytest.mark.parametrize("names", ["rim", {"rim": 1}, [["rim"], ["foot"]], ["rim", "rim"], 3])
def test_keypoints_of_a_category_that_are_no_names_are_a_fault(
    write: Write, pictures: Path, names: Any
) -> None:
    cup = {"id": 1, "name": "cup", "keypoints": names, "skeleton": [[1, 2]]}
    data = read_data(write(coco([BOX], categories=[cup])), images=pictures)
    assert counted(data.faults) == {"keypoints malformed": 1}
    assert data.keypoints == {}


# -- ids ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["id", "image_id", "category_id"])
@pytest.mark.parametrize("value", [[1], {"$oid": "5f"}])
def test_ids_that_are_no_numbers_are_refused_by_name(
    write: Write, pictures: Path, key: str, value: Any
) -> None:
    with pytest.raises(DataError, match=rf"`{key}` of an entry of `annotations`.*labels.json"):
        read_data(write(coco([{**BOX, key: value}])), images=pictures)


# -- boxes at the border -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bbox", [[60, 5, 1, 10], [-1, 5, 1, 10], [10, 40, 5, 0.5], [10, -0.5, 5, 0.5]])
def test_a_box_of_which_nothing_is_inside_is_a_fault(write: Write, pictures: Path, bbox: list[float]) -> None:
    data = read_data(write(coco([{**BOX, "bbox": bbox}])), images=pictures)
    assert counted(data.faults) == {"box outside": 1}
    assert data.records[0].things == ()


# -- splits of refs ----------------------------------------------------------------------------------------


def referring(write: Write, *, by_image: bool) -> Path:
    """A box and a ref in each of three pictures: two to learn from, one to be measured on."""
    boxes = [{**BOX, "id": 10 + number, "image_id": number} for number in range(3)]
    refs = [
        {
            "split": split,
            "sentences": [{"sent": f"cup {number}"}],
            "ann_id": 10 + number,
            **({"image_id": number} if by_image else {}),
        }
        for number, split in enumerate(("train", "val", "train"))
    ]
    return write(coco(boxes, refs=refs))


@pytest.mark.parametrize("by_image", [False, True])
def test_pictures_are_of_the_split_of_their_refs(write: Write, pictures: Path, by_image: bool) -> None:
    path = referring(write, by_image=by_image)
    train, val = (read_data(path, images=pictures, split=split).usable() for split in ("train", "val"))
    assert [record.key for record in train.records] == ["0.png", "2.png"]
    assert [record.key for record in val.records] == ["1.png"]
    assert val.records[0].references[0].expression == "cup 1"
    assert check(train, val, sheet=0).passed
    assert has_own_split(path)


def test_one_file_is_checked_against_its_own_split(write: Write, pictures: Path) -> None:
    path = str(referring(write, by_image=True))
    assert run(["data", "check", path, "--images", str(pictures), "--val", path]) == OK


def test_refs_without_splits_leave_all_pictures(write: Write, pictures: Path) -> None:
    refs = [{"ann_id": 1, "sentences": [{"sent": "the cup"}]}]
    assert len(read_data(write(coco([BOX], refs=refs)), images=pictures, split="val")) == 3


# -- exports -----------------------------------------------------------------------------------------------


def export(root: Path, splits: tuple[str, ...]) -> Path:
    """A folder for each split: a picture beside its annotations."""
    for number, split in enumerate(splits):
        (root / split).mkdir(parents=True)
        Image.new("RGB", (60, 40), (90 * number, 0, 0)).save(root / split / f"{split}.png")
        content = coco([BOX])
        content["images"] = [{"id": 0, "file_name": f"{split}.png"}]
        (root / split / EXPORTED).write_text(json.dumps(content))
    return root


@pytest.mark.parametrize("folder", ["valid", "val"])
def test_exports_with_a_folder_for_each_split(tmp_path: Path, folder: str) -> None:
    root = export(tmp_path / "set", ("train", folder, "test"))
    for split, key in {"train": "train.png", "val": f"{folder}.png", "test": "test.png"}.items():
        data = read_data(root, split=split).usable()
        assert data.form == "COCO JSON"
        assert data.name == f"set ({split})"
        assert [record.key for record in data.records] == [key]
        assert data.counts["cup"] == 1
    assert has_own_split(root)
    assert run(["data", "check", str(root)]) == OK


def test_exports_without_the_split_that_is_wanted(tmp_path: Path) -> None:
    root = export(tmp_path / "set", ("train", "test"))
    assert not has_own_split(root)
    with pytest.raises(DataError, match=r"no split 'val'.*test, train.*JSON file"):
        read_data(root, split="val")


def test_one_folder_of_an_export_is_read_whole(tmp_path: Path) -> None:
    root = export(tmp_path / "set", ("train",)) / "train"
    assert len(read_data(root, split="val").usable()) == 1
    assert not has_own_split(root)
