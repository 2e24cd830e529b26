"""Every format gives the same records; every fault is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.adapters.data.conftest import coco
from visionllm_adapters.data import check, from_rows, read_data
from visionllm_adapters.data.faults import counted
from visionllm_sdk.errors import DataError
from visionllm_sdk.geometry import Mask

Write = Callable[..., Path]
BOX = {"id": 1, "image_id": 0, "category_id": 1, "bbox": [10, 5, 20, 10], "area": 200, "iscrowd": 0}


def kinds(data: Any) -> dict[str, int]:
    return counted(data.faults)


def test_coco_boxes_polygons_codes_and_keypoints(write: Write, pictures: Path) -> None:
    code = Mask.from_polygons([[10, 5, 30, 5, 30, 15, 10, 15]], 40, 60).to_coco()
    runs = {"size": [40, 60], "counts": [0, 40, 2360]}
    entries = [
        {**BOX, "segmentation": [[10, 5, 30, 5, 30, 15, 10, 15]]},
        {**BOX, "id": 2, "segmentation": code, "iscrowd": 1},
        {**BOX, "id": 3, "image_id": 1, "segmentation": runs, "bbox": [0, 0, 1, 40]},
        {**BOX, "id": 4, "image_id": 2, "category_id": 2, "keypoints": [12, 7, 2, 0, 0, 0]},
    ]
    content = coco(entries)
    content["categories"][1] |= {"keypoints": ["rim", "foot"], "skeleton": [[1, 2]]}
    data = read_data(write(content), images=pictures)
    assert data.faults == ()
    assert data.form == "COCO JSON"
    assert data.labels == ("cup", "plate")
    first = data.records[0].things
    assert first is not None
    assert first[0].mask is not None
    assert first[1].mask is not None
    assert first[0].box.xyxy == (10, 5, 30, 15)
    assert first[0].mask == first[1].mask
    assert first[0].mask.area == 200
    assert first[1].crowd
    assert data.counts == {"cup": 2, "plate": 1}
    column = data.records[1].things
    assert column is not None
    assert column[0].mask is not None
    assert column[0].mask.area == 40
    posed = data.records[2].things
    assert posed is not None
    assert posed[0].keypoints == ((12, 7, 2), (0, 0, 0))
    assert data.skeletons == {"plate": (("rim", "foot"),)}


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"bbox": [50, 5, 20, 10]}, "box outside"),
        ({"bbox": [10, 5, 0, 10]}, "box empty"),
        ({"bbox": [10, 5, 20]}, "box malformed"),
        ({"bbox": [10, 5, float("nan"), 10]}, "box not finite"),
        ({"category_id": 7}, "category unknown"),
        ({"image_id": 7}, "image unknown"),
        ({"segmentation": [[1, 2, 3]]}, "mask broken"),
        ({"segmentation": [[1.1, 1.1, 1.2, 1.1, 1.2, 1.2]]}, "mask empty"),
        ({"segmentation": {"size": [4, 6], "counts": [0, 24]}}, "mask of another size"),
        ({"segmentation": {"size": [40, 60], "counts": [0, 24]}}, "mask broken"),
        ({"keypoints": [1, 2, 2]}, "keypoints malformed"),
    ],
)
def test_a_faulty_annotation_is_named_and_left_out(
    write: Write, pictures: Path, change: dict[str, Any], kind: str
) -> None:
    data = read_data(write(coco([{**BOX, **change}, {**BOX, "id": 2}])), images=pictures)
    assert kinds(data) == {kind: 1}
    assert "annotation 1" in data.faults[0].item
    assert sum(len(record.things or ()) for record in data.records) == 1
    with pytest.raises(DataError, match=kind):
        data.usable()
    assert data.usable(skip_faulty=True) is data


def test_faulty_pictures_are_named(write: Write, pictures: Path) -> None:
    (pictures / "1.png").unlink()
    (pictures / "2.png").write_bytes((pictures / "0.png").read_bytes()[:50])
    Image.new("RGB", (5, 5)).save(pictures / "3.png")
    Image.new("RGB", (60, 40)).save(pictures / "5.png")
    content = coco([BOX])
    content["images"] += [
        {"id": 3, "file_name": "3.png"},
        {"id": 0, "file_name": "0.png"},
        {"id": 5, "file_name": "5.png", "width": 61, "height": 40},
    ]
    found = kinds(read_data(write(content), images=pictures))
    expected = ("file missing", "picture unreadable", "picture too small", "duplicate id", "size differs")
    assert all(found[kind] == 1 for kind in expected)
    assert found["duplicate file"] == 1


def test_rounding_at_the_border_is_cut(write: Write, pictures: Path) -> None:
    data = read_data(write(coco([{**BOX, "bbox": [-0.4, 5, 60.9, 10]}])), images=pictures)
    things = data.records[0].things
    assert data.faults == ()
    assert things is not None
    assert things[0].box.xyxy == (0, 5, 60, 15)


def test_yolo_boxes_and_polygons(tmp_path: Path, pictures: Path) -> None:
    root = tmp_path / "yolo"
    for split, number in (("train", 0), ("val", 1)):
        (root / "images" / split).mkdir(parents=True)
        (root / "labels" / split).mkdir(parents=True)
        Image.open(pictures / f"{number}.png").save(root / "images" / split / f"{number}.png")
    (root / "labels" / "train" / "0.txt").write_text(
        "0 0.5 0.5 0.5 0.5\n1 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75\n0 0.5 0.5 2 2\nx y\n9 0 0 1 1\n"
    )
    (root / "data.yaml").write_text("names: [cup, plate]\ntrain: images/train\nval: images/val\n")
    data = read_data(root)
    (record,) = data.records
    assert record.things is not None
    assert [t.label for t in record.things] == ["cup", "plate"]
    assert record.things[0].box.xyxy == record.things[1].box.xyxy == (15, 10, 45, 30)
    assert record.things[1].mask is not None
    assert record.things[1].mask.area == 600
    assert kinds(data) == {"box outside": 1, "line malformed": 1, "category unknown": 1}
    validation = read_data(root / "data.yaml", split="val")
    assert [f.severity for f in validation.faults] == ["warning"]
    assert validation.records[0].things == ()


def test_entries_about_pictures(write: Write, pictures: Path) -> None:
    entries = [
        {
            "image": "0.png",
            "conversations": [
                {"from": "human", "value": "<image>\nWhat is  it?"},
                {"from": "gpt", "value": "a cup"},
            ],
        },
        {"image": "0.png", "question": "How many?", "answers": ["2", {"answer": "two"}]},
        {"image": "1.png", "caption": "a plate"},
        {"image": "1.png", "expression": "the left one", "bbox": [1, 1, 5, 5]},
        {"before": "1.png", "instruction": "make it blue", "after": "2.png"},
    ]
    data = read_data(write(entries, "all.jsonl"), images=pictures)
    assert data.faults == ()
    talk, vqa, caption, reference, edit = data.records
    assert talk.exchanges[0].question == "What is it?"
    assert talk.exchanges[0].answers == ("a cup",)
    assert vqa.exchanges[0].answers == ("2", "two")
    assert caption.captions == ("a plate",)
    assert reference.references[0].expression == "the left one"
    assert reference.references[0].thing.box.xyxy == (1, 1, 6, 6)
    assert edit.changes[0].after.name == "2.png"
    as_list = read_data(write(entries), images=pictures)
    assert [r.captions for r in as_list.records] == [r.captions for r in data.records]


def test_faulty_entries_are_named(write: Write, pictures: Path) -> None:
    entries = [
        {"image": "0.png", "conversations": [{"from": "gpt", "value": "a"}]},
        {"image": "0.png", "question": " ", "answer": "b"},
        {"image": "9.png", "caption": "c"},
        {"image": "0.png", "words": "d"},
        {"before": "0.png", "instruction": "e", "after": "9.png"},
        {"image": "0.png", "expression": "f", "bbox": [1, 1, 500, 5]},
    ]
    data = read_data(write(entries, "bad.jsonl"), images=pictures)
    assert data.records == ()
    assert len(data.faults) == len(entries)
    assert [f.item.split(" (")[0].split(",")[0] for f in data.faults] == [f"line {n}" for n in range(1, 7)]


def test_refcoco_expressions(write: Write, pictures: Path) -> None:
    refs = [{"ann_id": 1, "sentences": [{"sent": "left cup"}, {"sent": "cup by the  door"}]}]
    data = read_data(write(coco([BOX], refs=refs)), images=pictures)
    assert [r.expression for r in data.records[0].references] == ["left cup", "cup by the door"]


def test_class_folders(tmp_path: Path, pictures: Path) -> None:
    root = tmp_path / "classes"
    for number, name in enumerate(("tea_cup", "plate")):
        (root / name).mkdir(parents=True)
        Image.open(pictures / f"{number}.png").save(root / name / "a.png")
    (root / "spoon").mkdir()
    data = read_data(root)
    assert data.labels == ("plate", "spoon", "tea cup")
    assert [record.exchanges[0].answers for record in data.records] == [("plate",), ("tea cup",)]
    assert kinds(data) == {"class without examples": 1}


def test_rows_in_memory(pictures: Path) -> None:
    image = Image.open(pictures / "0.png")
    objects = {"bbox": [[1, 2, 3, 4]], "category": ["cup"]}
    things = from_rows([{"image": image, "objects": objects}]).records[0].things
    assert things is not None
    assert things[0].box.xyxy == (1, 2, 4, 6)
    assert read_data([{"image": image, "caption": "red"}]).records[0].captions == ("red",)
    assert read_data([{"image": image, "label": "cup"}]).records[0].exchanges[0].answers == ("cup",)


@pytest.mark.parametrize("name", ["nothing.json", "nothing"])
def test_no_such_data(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="no such annotations"):
        read_data(tmp_path / name)


def test_unknown_formats(write: Write, tmp_path: Path) -> None:
    for content in ({"a": 1}, [{"a": 1}], [1]):
        with pytest.raises(DataError, match="no known form"):
            read_data(write(content))
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        read_data(tmp_path / "broken.json")
    with pytest.raises(DataError, match="no known kind"):
        read_data(tmp_path)


def test_check_finds_what_only_the_whole_set_shows(write: Write, pictures: Path) -> None:
    train = read_data(write(coco([BOX, {**BOX, "id": 2, "bbox": [1, 1, 2, 2]}])), images=pictures)
    others = pictures.parent / "others"
    shutil.copytree(pictures, others)
    Image.new("RGB", (60, 40), "white").save(others / "0.png")
    validation = read_data(write(coco([BOX]), "val.json"), images=others)
    report = check(train, validation)
    found = counted(report.faults)
    assert found["leak"] == 2
    assert found["class without examples"] == 2
    assert found["box tiny"] == 1
    assert not report.passed
    assert report.sheet is not None
    assert report.counts == {"cup": 2, "plate": 0}
    with pytest.raises(DataError, match="leak"):
        report.raise_if_broken()


def test_an_empty_set_is_refused(write: Write, pictures: Path) -> None:
    content = coco([])
    content["images"] = []
    data = read_data(write(content), images=pictures)
    with pytest.raises(DataError, match="no usable picture"):
        data.usable()
    with pytest.raises(DataError, match="empty set"):
        check(data).raise_if_broken()


def test_the_fingerprint_follows_labels_and_pixels(write: Write, pictures: Path) -> None:
    path = write(coco([BOX]))
    first = read_data(path, images=pictures).fingerprint
    assert first == read_data(path, images=pictures).fingerprint
    moved = write(coco([{**BOX, "bbox": [10, 5, 21, 10]}]), "moved.json")
    assert read_data(moved, images=pictures).fingerprint != first
    Image.new("RGB", (60, 40), "white").save(pictures / "2.png")
    assert read_data(path, images=pictures).fingerprint != first


def test_the_fingerprint_follows_wanted_pictures_and_what_is_meant(write: Write, pictures: Path) -> None:
    edit = {"before": "0.png", "after": "1.png", "instruction": "make it green"}
    mask = {"image": "2.png", "expression": "it", "bbox": [10, 5, 20, 10]}
    outline = [[10, 5, 30, 5, 30, 15, 10, 15]]
    known = set()
    for entries in ([edit, mask], [edit, {**mask, "segmentation": outline}]):
        known.add(read_data(write(entries, "lines.json"), images=pictures).fingerprint)
    Image.new("RGB", (60, 40), "white").save(pictures / "1.png")
    known.add(read_data(write([edit, mask], "lines.json"), images=pictures).fingerprint)
    assert len(known) == 3


@pytest.mark.parametrize(
    ("part", "value"), [("images", None), ("images", ["a.png"]), ("annotations", {}), ("categories", "cup")]
)
def test_a_file_of_the_wrong_build_is_refused(write: Write, pictures: Path, part: str, value: Any) -> None:
    with pytest.raises(DataError, match=f"`{part}` of the COCO file"):
        read_data(write({**coco([BOX]), part: value}), images=pictures)


def test_a_label_that_is_no_name(write: Write, pictures: Path) -> None:
    content = coco([BOX])
    content["categories"][0]["name"] = "cup " * 200
    with pytest.raises(DataError, match="label unusable"):
        check(read_data(write(content), images=pictures), sheet=0).raise_if_broken()


@pytest.mark.parametrize("crowd", ["0", "1", 2, [0]])
def test_a_crowd_is_said_by_a_number(write: Write, pictures: Path, crowd: Any) -> None:
    data = read_data(write(coco([{**BOX, "iscrowd": crowd}])), images=pictures)
    assert kinds(data) == {"crowd malformed": 1}


def test_repeated_items_are_left_out_when_they_are_skipped(write: Write, pictures: Path) -> None:
    content = coco([BOX, {**BOX, "bbox": [1, 1, 9, 9]}])
    content["images"].append({"id": 3, "file_name": "0.png"})
    data = read_data(write(content), images=pictures).usable(skip_faulty=True)
    assert kinds(data) == {"duplicate id": 1, "duplicate file": 1}
    assert [record.key for record in data.records] == ["0.png", "1.png", "2.png"]
    assert [len(record.things or ()) for record in data.records] == [1, 0, 0]


def test_pictures_in_the_place_of_their_names_are_faults(write: Write, pictures: Path) -> None:
    turns = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "A cup."}]
    data = read_data(write([{"image": "QUJD" * 3000, "conversations": turns}], "talk.json"), images=pictures)
    assert kinds(data) == {"file missing": 1}
    assert len(data.faults[0].problem) < 400


@pytest.mark.parametrize("digits", ["bbox", "segmentation"])
def test_numbers_of_hundreds_of_digits_are_faults(write: Write, pictures: Path, digits: str) -> None:
    value = [1, 1, 10**400, 9]
    entry = {**BOX, digits: [[*value, 5, 5]] if digits == "segmentation" else value}
    assert len(kinds(read_data(write(coco([entry])), images=pictures))) == 1


def test_a_question_of_nothing_is_a_fault(write: Write, pictures: Path) -> None:
    turns = [{"from": "human", "value": None}, {"from": "gpt", "value": "A cup."}]
    data = read_data(write([{"image": "0.png", "conversations": turns}], "talk.json"), images=pictures)
    assert kinds(data) == {"question missing": 1}


def test_names_are_spelt_as_results_spell_them(write: Write, pictures: Path) -> None:
    content = coco([BOX]) | {"categories": [{"id": 1, "name": " coffee  cup "}, {"id": 2, "name": "plate"}]}
    data = read_data(write(content), images=pictures)
    assert data.labels == ("coffee cup", "plate")
    assert data.counts == {"coffee cup": 1, "plate": 0}


@pytest.mark.parametrize("name", ["", "  ", None, True, ["cup"]])
def test_a_category_without_a_name_is_a_fault(write: Write, pictures: Path, name: Any) -> None:
    content = coco([{**BOX, "category_id": 2}]) | {
        "categories": [{"id": 1, "name": name}, {"id": 2, "name": "plate"}]
    }
    data = read_data(write(content), images=pictures)
    assert kinds(data) == {"category unnamed": 1}
    assert data.labels == ("plate",)


def test_classes_that_differ_in_case_alone_are_refused(write: Write, pictures: Path) -> None:
    content = coco([BOX]) | {"categories": [{"id": 1, "name": "Cup"}, {"id": 2, "name": "cup"}]}
    data = read_data(write(content), images=pictures)
    with pytest.raises(DataError, match="'Cup', 'cup'"):
        data.usable()
    assert {fault.kind for fault in check(data, sheet=0).faults} >= {"label unusable"}


@pytest.mark.parametrize("source", [None, 5, {"image": "a.png", "label": "cup"}, ["a.png label"], "[" * 5000])
def test_what_is_no_data_is_refused(source: Any) -> None:
    with pytest.raises(DataError):
        read_data(source)


def test_json_lines_by_any_ending(tmp_path: Path, pictures: Path) -> None:
    path = tmp_path / "captions.JSONL"
    path.write_text('{"image": "0.png", "caption": "red"}\n{"image": "1.png", "caption": "green"}\n')
    assert len(read_data(path, images=pictures)) == 2


def test_pictures_outside_of_class_folders_are_named(tmp_path: Path, pictures: Path) -> None:
    deep = tmp_path / "classes" / "red" / "deep"
    deep.mkdir(parents=True)
    for number, folder in enumerate((deep.parent, deep, deep.parent.parent)):
        shutil.copy(pictures / f"{number}.png", folder)
    assert kinds(read_data(tmp_path / "classes")) == {"picture without class": 1, "picture too deep": 1}
