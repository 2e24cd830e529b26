"""Forms that tools and libraries write beside the plainest one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.adapters.data.conftest import LINE, coco, yolo
from visionllm_adapters.data import read_data
from visionllm_adapters.data.formats import has_own_split
from visionllm_adapters.data.hub import from_rows, part_of
from visionllm_sdk.errors import DataError

Write = Callable[..., Path]
BOX: dict[str, Any] = {"id": 1, "image_id": 0, "category_id": 1, "bbox": [10, 5, 20, 10]}
POINTED = [{"id": 1, "name": "cup", "keypoints": ["handle"]}]


def kinds(data: Any) -> dict[str, int]:
    return {fault.kind: sum(f.kind == fault.kind for f in data.faults) for fault in data.faults}


def area(write: Write, pictures: Path, value: Any) -> float:
    data = read_data(write(coco([{**BOX, "area": value}])), images=pictures).usable()
    (thing,) = data.records[0].things or ()
    return thing.area


# -- COCO --------------------------------------------------------------------------------------------------


def test_an_area_of_nothing_is_measured(write: Write, pictures: Path) -> None:
    assert area(write, pictures, 0) == area(write, pictures, None) == 200
    assert area(write, pictures, 150) == 150


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"area": "x"}, "area malformed"),
        ({"area": float("nan")}, "area malformed"),
        ({"area": -4}, "area malformed"),
        ({"keypoints": [1, float("nan"), 2]}, "keypoint not finite"),
        ({"keypoints": [1, 90, 2]}, "keypoint outside"),
    ],
)
def test_numbers_that_cannot_be(write: Write, pictures: Path, change: dict[str, Any], kind: str) -> None:
    data = read_data(write(coco([{**BOX, **change}], categories=POINTED)), images=pictures)
    assert kinds(data) == {kind: 1}


def test_a_class_is_never_guessed(write: Write, pictures: Path) -> None:
    nameless = {name: value for name, value in BOX.items() if name != "category_id"}
    assert kinds(read_data(write(coco([nameless])), images=pictures)) == {"category missing": 1}
    one = read_data(write(coco([nameless], categories=POINTED)), images=pictures)
    assert [thing.label for thing in one.records[0].things or ()] == ["cup"]
    broken = read_data(write(coco([BOX], categories=[{"id": 1}])), images=pictures)
    assert kinds(broken) == {"category unnamed": 1, "category unknown": 1}


def test_coco_captions_describe_their_image(write: Write, pictures: Path) -> None:
    said = [{"id": n, "image_id": 0, "caption": text} for n, text in enumerate(("a cup", "one cup"))]
    data = read_data(write(coco(said)), images=pictures).usable()
    assert data.records[0].captions == ("a cup", "one cup")
    assert data.records[0].things is None


def test_refs_are_of_a_split(write: Write, pictures: Path) -> None:
    refs = [
        {"ann_id": 1, "split": split, "sentences": [{"sent": f"{split} cup"}]} for split in ("train", "val")
    ]
    path = write(coco([BOX], refs=refs))
    for split in ("train", "val"):
        (reference,) = read_data(path, images=pictures, split=split).records[0].references
        assert reference.expression == f"{split} cup"
    assert has_own_split(path)
    assert not has_own_split(path, "testA")
    with pytest.raises(DataError, match=r"no split 'testA'.*train, val.*Name one"):
        read_data(path, images=pictures, split="testA")


# -- YOLO --------------------------------------------------------------------------------------------------


def test_exports_that_say_one_folder_too_much(tmp_path: Path, pictures: Path) -> None:
    places = {"train/images/a.png": LINE, "valid/images/b.png": LINE}
    described = "names: [cup]\ntrain: ../train/images\nval: ../valid/images\n"
    root = yolo(tmp_path / "set", pictures, places, described)
    assert [record.key for record in read_data(root).usable().records] == ["train/images/a.png"]
    assert [record.key for record in read_data(root, split="val").records] == ["valid/images/b.png"]


def test_lists_of_pictures_and_folders_in_folders(tmp_path: Path, pictures: Path) -> None:
    places = {"images/a.png": LINE, "images/cam2/b.png": LINE}
    root = yolo(tmp_path / "set", pictures, places, "names: [cup]\ntrain: images\nval: val.txt\n")
    (root / "val.txt").write_text("./images/cam2/b.png\n")
    assert len(read_data(root).usable()) == 2
    (record,) = read_data(root, split="val").usable().records
    assert len(record.things or ()) == 1


def test_folders_of_other_splits_are_no_part_of_this_one(tmp_path: Path, pictures: Path) -> None:
    places = {"images/a.png": LINE, "images/val/b.png": LINE}
    root = yolo(tmp_path / "set", pictures, places, "names: [cup]\n")
    assert [record.key for record in read_data(root).usable().records] == ["images/a.png"]
    assert [record.key for record in read_data(root, split="val").records] == ["images/val/b.png"]


@pytest.mark.parametrize(("said", "place"), [("train: images\n", "images/val"), ("", "images/train/test")])
def test_a_folder_that_is_named_keeps_all_that_is_inside(
    said: str, place: str, tmp_path: Path, pictures: Path
) -> None:
    root = yolo(tmp_path / "set", pictures, {f"{place}/b.png": LINE}, f"names: [cup]\n{said}")
    assert [record.key for record in read_data(root).usable().records] == [f"{place}/b.png"]


def pointed(tmp_path: Path, pictures: Path, names: str, line: str = f"{LINE.strip()} 0.5 0.5 2\n") -> Any:
    description = f"names: [cup]\ntrain: images\nkpt_shape: [1, 3]\nkpt_names: {names}\n"
    return read_data(yolo(tmp_path / "set", pictures, {"images/a.png": line}, description))


@pytest.mark.parametrize("names", ["{0: [handle]}", "{cup: [handle]}", "[handle]"])
def test_names_of_keypoints(tmp_path: Path, pictures: Path, names: str) -> None:
    data = pointed(tmp_path, pictures, names).usable()
    assert data.keypoints == {"cup": ("handle",)}
    assert data.records[0].things[0].keypoints == ((30.0, 20.0, 2),)


def test_names_that_do_not_fit_the_keypoints(tmp_path: Path, pictures: Path) -> None:
    with pytest.raises(DataError, match="does not name the keypoints of 'cup'"):
        pointed(tmp_path, pictures, "{0: [handle, rim]}")


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("0 0.5 0.5 0.5 0.5 7 7 2\n", "keypoint outside"),
        ("0 0.5 0.5 0.5 0.5 0.5 0.5 nan\n", "keypoint not finite"),
        ("nan 0.5 0.5 0.5 0.5 0.5 0.5 2\n", "category unknown"),
        ("0.5 0.5 0.5 0.5 0.5 0.5 0.5 2\n", "category unknown"),
    ],
)
def test_lines_that_cannot_be(tmp_path: Path, pictures: Path, line: str, kind: str) -> None:
    assert kinds(pointed(tmp_path, pictures, "[handle]", line)) == {kind: 1}


# -- entries and rows --------------------------------------------------------------------------------------


def test_nothing_is_left_out_without_a_word(write: Write, pictures: Path) -> None:
    entries = [
        {"image": "0.png", "question": "How many?", "answers": []},
        {"image": "0.png", "question": "How many?", "answers": [None]},
        {"image": "0.png", "caption": []},
        {"image": "0.png", "expressions": [], "bbox": [1, 1, 5, 5]},
    ]
    data = read_data(write(entries, "empty.jsonl"), images=pictures)
    assert data.records == ()
    assert kinds(data) == {"answer missing": 2, "caption missing": 1, "expression missing": 1}


def test_lines_end_where_json_lines_do(tmp_path: Path, pictures: Path) -> None:
    path = tmp_path / "lines.jsonl"
    line = json.dumps({"image": "0.png", "caption": "a\u2028cup"}, ensure_ascii=False)
    path.write_text(f"{line}\n{line}\n", encoding="utf-8")
    assert len(read_data(path, images=pictures).usable()) == 2


def test_rows_name_or_hold_their_pictures(pictures: Path) -> None:
    held = Image.open(pictures / "0.png")
    edit = {"input_image": held, "edit_prompt": "make it blue", "edited_image": held}
    assert from_rows([edit]).usable().records[0].changes[0].after is held
    assert from_rows([{"img": held, "label": 3}]).usable().records[0].exchanges[0].answers == ("3",)
    named = {"file_name": "0.png", "objects": [{"bbox": [1, 2, 3, 4], "category": "cup"}]}
    (record,) = read_data([named], images=pictures).usable().records
    assert [thing.label for thing in record.things or ()] == ["cup"]


def test_saved_sets_call_it_validation(tmp_path: Path) -> None:
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "validation"]}))
    assert has_own_split(tmp_path)
    assert not has_own_split(tmp_path, "test")
    loaded = {"train": ["a"], "validation": ["b"]}
    assert part_of(loaded, "val", "set") == ["b"]
    assert part_of(["whole"], "val", "set") == ["whole"]
    with pytest.raises(DataError, match=r"no split 'test'.*train, validation"):
        part_of(loaded, "test", "set")
