"""YOLO folders: encodings of their files, numbers of their classes, names of their pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.adapters.data.conftest import LINE, yolo
from visionllm_adapters.data import read_data
from visionllm_adapters.data.faults import counted
from visionllm_sdk.errors import DataError

ENCODINGS = ("cp1252", "utf-16", "utf-16-le")


def small(tmp_path: Path, pictures: Path, description: str = "names: [cup]\ntrain: images\n") -> Path:
    return yolo(tmp_path / "set", pictures, {"images/a.png": LINE, "images/b.png": LINE}, description)


def rewrite(path: Path, text: str, encoding: str) -> None:
    path.write_bytes(text.encode(encoding))


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", ["data.yaml", "classes.txt", "list.txt"])
def test_files_in_another_encoding_are_refused_by_name(
    tmp_path: Path, pictures: Path, name: str, encoding: str
) -> None:
    said = {"data.yaml": "", "classes.txt": "train: images\n", "list.txt": "names: [cup]\ntrain: list.txt\n"}
    root = small(tmp_path, pictures, said[name])
    content = {"data.yaml": "names: [gâteau]\n", "classes.txt": "gâteau\n", "list.txt": "images/gâteau.png\n"}
    rewrite(root / name, content[name], encoding)
    with pytest.raises(DataError, match=rf"{name}.*UTF-8.*Save it in UTF-8"):
        read_data(root)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_label_file_in_another_encoding_is_a_fault_of_its_picture(
    tmp_path: Path, pictures: Path, encoding: str
) -> None:
    root = small(tmp_path, pictures)
    rewrite(root / "labels" / "a.txt", f"{LINE}# gâteau\n", encoding)
    data = read_data(root)
    assert counted(data.faults) == {"label file unreadable": 1}
    assert data.faults[0].item == str(Path("images", "a.png"))
    assert "UTF-8" in data.faults[0].problem
    assert [record.source.name for record in data.records if isinstance(record.source, Path)] == ["b.png"]


@pytest.mark.parametrize("name", ["data.yaml", "classes.txt"])
def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path, pictures: Path, name: str) -> None:
    root = small(tmp_path, pictures, "train: images\n")
    text = "names: [cup]\ntrain: images\n" if name == "data.yaml" else "cup\n"
    rewrite(root / name, text, "utf-8-sig")
    rewrite(root / "labels" / "a.txt", LINE, "utf-8-sig")
    data = read_data(root).usable()
    assert data.labels == ("cup",)
    assert data.counts == {"cup": 2}


@pytest.mark.parametrize("names", ["{cup: 0}", "{0.5: cup}", "{null: cup}"])
def test_classes_without_numbers_are_refused(tmp_path: Path, pictures: Path, names: str) -> None:
    with pytest.raises(DataError, match=r"do not number its classes.*0: name"):
        read_data(small(tmp_path, pictures, f"names: {names}\n"))


def test_a_description_with_a_date_that_is_none(tmp_path: Path, pictures: Path) -> None:
    with pytest.raises(DataError, match="description cannot be read"):
        read_data(small(tmp_path, pictures, "names: [cup]\ndate: 2024-02-31\n"))


def test_pictures_of_one_name_in_two_folders(tmp_path: Path, pictures: Path) -> None:
    root = small(tmp_path, pictures, "names: [cup]\ntrain: list.txt\n")
    places = [tmp_path / camera / "images" / "a.png" for camera in ("one", "two")]
    for place in places:
        place.parent.mkdir(parents=True)
        Image.open(pictures / "2.png").save(place)
    (root / "list.txt").write_text("\n".join(map(str, [*places, "images/a.png"])))
    keys = [record.key for record in read_data(root).records]
    assert keys == [*map(str, places), str(Path("images", "a.png"))]


@pytest.mark.parametrize(
    "shape", ["17, 3", "[17]", "[0, 3]", "[2, 4]", "[2.5, 3]", "17", "{a: 1}", "[[2], 3]"]
)
def test_a_shape_of_keypoints_that_is_none_is_refused(tmp_path: Path, pictures: Path, shape: str) -> None:
    root = small(tmp_path, pictures, f"names: [cup]\ntrain: images\nkpt_shape: {shape}\n")
    with pytest.raises(DataError, match=r"kpt_shape.*\[17, 3\].*Correct"):
        read_data(root)


@pytest.mark.parametrize("line", ["train: 5", "train: {a: images}", "train: [images, 3]", "path: [a]"])
def test_places_that_are_no_text_are_refused(tmp_path: Path, pictures: Path, line: str) -> None:
    root = small(tmp_path, pictures, f"names: [cup]\n{line}\n")
    with pytest.raises(DataError, match=r"does not name a place.*Correct"):
        read_data(root)


@pytest.mark.parametrize("names", ["[yes, cup]", "{0: , 1: cup}", "[[a], cup]"])
def test_what_is_no_name_is_refused(tmp_path: Path, pictures: Path, names: str) -> None:
    with pytest.raises(DataError, match=r"class 0 .* has no name"):
        read_data(small(tmp_path, pictures, f"names: {names}\ntrain: images\n"))


def test_labels_without_their_picture_are_faults(tmp_path: Path, pictures: Path) -> None:
    root = small(tmp_path, pictures)
    (root / "images" / "b.png").unlink()
    (root / "labels" / "classes.txt").write_text("cup\n")
    data = read_data(root)
    assert [(fault.item, fault.kind) for fault in data.faults] == [("labels/b.txt", "file missing")]


def test_labels_of_pictures_that_a_list_leaves_out_are_none(tmp_path: Path, pictures: Path) -> None:
    root = small(tmp_path, pictures, "names: [cup]\ntrain: list.txt\n")
    (root / "list.txt").write_text("images/a.png\n")
    assert read_data(root).faults == ()
