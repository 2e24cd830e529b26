"""Rows with objects: everything that COCO says of an object, and numbers of arrays."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visionllm_adapters.data import from_rows
from visionllm_adapters.data.faults import counted

SQUARE = [[10, 5, 30, 5, 30, 15, 10, 15]]
COLUMNS: dict[str, Any] = {
    "bbox": [[10, 5, 20, 10], [0, 0, 60, 40]],
    "category": ["cup", "cup"],
    "segmentation": [SQUARE, None],
    "area": [150, None],
    "iscrowd": [0, 1],
}


class Rows(list[dict[str, Any]]):
    """As the `datasets` library has them: columns tell the names of their classes."""

    def __init__(self, rows: list[dict[str, Any]], **names: list[str]) -> None:
        super().__init__(rows)
        named = {column: SimpleNamespace(names=value) for column, value in names.items()}
        self.features = {**named, "objects": named}


def row(pictures: Path, objects: Any) -> dict[str, Any]:
    return {"image": Image.open(pictures / "0.png"), "objects": objects}


@pytest.mark.parametrize("listed", [False, True])
def test_objects_are_read_as_coco_has_them(pictures: Path, listed: bool) -> None:
    entries = [dict(zip(COLUMNS, values, strict=True)) for values in zip(*COLUMNS.values(), strict=True)]
    data = from_rows([row(pictures, entries if listed else COLUMNS)]).usable()
    cup, crowd = data.records[0].things or ()
    assert cup.mask is not None
    assert (cup.mask.area, cup.area, cup.crowd) == (200, 150, False)
    assert (crowd.mask, crowd.area, crowd.crowd) == (None, 2400, True)
    assert data.counts == {"cup": 1}


def test_arrays_are_read_as_lists(pictures: Path) -> None:
    arrays = {name: np.asarray(COLUMNS[name]) for name in ("bbox", "iscrowd")}
    objects = {**arrays, "category": np.array([1, 0]), "segmentation": [np.array(SQUARE), None]}
    data = from_rows(Rows([row(pictures, objects)], category=["plate", "cup"])).usable()
    cup, crowd = data.records[0].things or ()
    assert (cup.label, cup.crowd, crowd.label, crowd.crowd) == ("cup", False, "plate", True)
    assert cup.mask is not None


@pytest.mark.parametrize("number", [1, np.int64(1), np.uint8(1)])
def test_numbers_of_classes_become_their_names(pictures: Path, number: Any) -> None:
    image = Image.open(pictures / "0.png")
    data = from_rows(Rows([{"image": image, "label": number}], label=["plate", "cup"]))
    assert data.records[0].exchanges[0].answers == ("cup",)


@pytest.mark.parametrize(
    ("objects", "kind"),
    [
        (None, "objects malformed"),
        ({"boxes": [[1, 2, 3, 4]]}, "objects malformed"),
        ({**COLUMNS, "area": [1]}, "objects malformed"),
        ({**COLUMNS, "category": "cup"}, "objects malformed"),
        ([3], "objects malformed"),
        ([{"bbox": [1, 2, 3, 4]}], "category missing"),
        ([{"bbox": None, "category": "cup"}], "box malformed"),
        ([{"bbox": [1, 2, 3, 4], "category": "cup", "area": -1}], "area malformed"),
        ([{"bbox": [1, 2, 3, 4], "category": "cup", "segmentation": [[1, 2, 3]]}], "mask broken"),
    ],
)
def test_objects_that_cannot_be(pictures: Path, objects: Any, kind: str) -> None:
    data = from_rows([row(pictures, objects)])
    assert counted(data.faults) == {kind: 1}
    assert data.records[0].things == ()


@pytest.mark.parametrize("objects", [[], {}, {"bbox": [], "category": []}])
def test_pictures_without_objects(pictures: Path, objects: Any) -> None:
    assert from_rows([row(pictures, objects)]).usable().records[0].things == ()


def test_numbers_without_a_name_are_no_classes(pictures: Path) -> None:
    image = Image.open(pictures / "0.png")
    rows = Rows([{"image": image, "label": 0}, {"image": image, "label": -1}], label=["cup", "plate"])
    data = from_rows(rows)
    assert [one.answers for record in data.records for one in record.exchanges] == [("cup",)]
    assert counted(data.faults) == {"entry unknown": 1}
    found = from_rows(Rows([row(pictures, {"bbox": [[1, 1, 9, 9]], "category": [-1]})], category=["cup"]))
    assert counted(found.faults) == {"category missing": 1}


def test_a_row_without_the_label_of_the_others_is_a_fault(pictures: Path) -> None:
    image = Image.open(pictures / "0.png")
    data = from_rows([{"image": image, "label": "cup"}, {"image": image}, {"image": image, "label": None}])
    assert counted(data.faults) == {"entry unknown": 2}
