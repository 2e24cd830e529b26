from __future__ import annotations

import contextlib
import io
from random import Random
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from visionllm_sdk.evaluation.average_precision import Geometry, Item, PrecisionTable, size_extent
from visionllm_sdk.geometry import Box, Mask

SIZE = (64, 48)


def item(
    label: str, x: float, y: float, wide: float = 10, high: float = 10, *, score: float | None = None
) -> Item:
    mask = np.zeros(SIZE[::-1], dtype=bool)
    mask[round(y) : round(y + high), round(x) : round(x + wide)] = True
    box = Box.from_xywh(x, y, wide, high)
    return Item(label, box, Mask.from_numpy(mask), max(wide, high) / min(SIZE), score)


def table(*pictures: tuple[list[str], list[Item], list[Item]]) -> PrecisionTable:
    made = PrecisionTable()
    for labels, truths, found in pictures:
        made.add(SIZE, labels, truths, found)
    return made


@pytest.mark.parametrize("geometry", ["box", "mask"])
class TestKnownValues:
    def test_perfect_detections_give_one(self, geometry: Geometry) -> None:
        made = table((["star"], [item("star", 3, 4), item("star", 30, 4)],
                      [item("star", 30, 4, score=0.4), item("star", 3, 4, score=0.9)]))  # fmt: skip
        assert made.by_label(geometry).ap() == pytest.approx(1)
        assert made.pooled(geometry).ap(iou=0.75) == pytest.approx(1)

    def test_nothing_found_gives_zero_and_nothing_there_gives_none(self, geometry: Geometry) -> None:
        assert table((["star"], [item("star", 3, 4)], [])).by_label(geometry).ap() == 0.0
        empty = table((["star"], [], [item("star", 3, 4, score=0.5)]))
        assert empty.by_label(geometry).ap() is None
        assert empty.pooled(geometry).ap() is None

    def test_a_surer_false_detection_halves_precision(self, geometry: Geometry) -> None:
        found = [item("star", 40, 30, score=0.9), item("star", 3, 4, score=0.5)]
        assert table((["star"], [item("star", 3, 4)], found)).by_label(geometry).ap() == pytest.approx(0.5)

    def test_half_recall(self, geometry: Geometry) -> None:
        truths = [item("star", 3, 4), item("star", 40, 30)]
        made = table((["star"], truths, [item("star", 3, 4, score=0.5)]))
        # Precision is 1 at the recalls 0, 0.01, ..., 0.5 and 0 beyond: 51 of 101.
        assert made.by_label(geometry).ap() == pytest.approx(51 / 101)

    def test_iou_threshold_counts(self, geometry: Geometry) -> None:
        made = table((["star"], [item("star", 0, 0, 10, 10)], [item("star", 0, 0, 10, 6, score=0.5)]))
        assert made.by_label(geometry).ap(iou=0.5) == pytest.approx(1)
        assert made.by_label(geometry).ap(iou=0.75) == 0.0
        assert made.by_label(geometry).ap() == pytest.approx(0.3)  # 0.50, 0.55 and 0.60 of ten

    def test_only_pooled_precision_suffers_from_labels_that_are_nowhere(self, geometry: Geometry) -> None:
        made = table(
            (
                ["star", "cat"],
                [item("star", 3, 4)],
                [item("star", 3, 4, score=0.5), item("cat", 3, 4, score=0.9)],
            )
        )
        assert made.by_label(geometry).ap() == pytest.approx(1)
        assert made.pooled(geometry).ap() == pytest.approx(0.5)

    def test_a_label_does_not_count_for_another(self, geometry: Geometry) -> None:
        made = table((["star", "ring"], [item("star", 3, 4)], [item("ring", 3, 4, score=0.9)]))
        assert made.by_label(geometry).ap() == 0.0

    def test_sizes_are_relative_to_the_picture(self, geometry: Geometry) -> None:
        small, large = item("star", 3, 4, 5, 5), item("star", 20, 10, 30, 30)
        made = table((["star"], [small, large], [item("star", 20, 10, 30, 30, score=0.9)]))
        precision = made.by_label(geometry)
        assert (precision.ap(size="small"), precision.ap(size="large")) == pytest.approx((0, 1))
        assert precision.ap(size="medium") is None


@pytest.mark.parametrize("word", ["small", "medium", "large"])
def test_extent_of_a_size_word_lies_in_its_range(word: str) -> None:
    thing = Item("star", Box(0, 0, 9, 9), None, size_extent(word))
    made = table((["star"], [thing], [Item("star", Box(0, 0, 9, 9), None, 0.1, 0.9)]))
    assert made.by_label("box").ap(size=word) == pytest.approx(1)


def random_pictures(seed: int) -> list[tuple[list[str], list[Item], list[Item]]]:
    rng = Random(seed)
    pictures = []
    for _ in range(12):
        labels = rng.sample(["star", "ring", "cat", "dog"], 3)
        truths, found = [], []
        for label in labels:
            for _ in range(rng.randint(0, 4)):
                x, y, side = rng.randint(0, 40), rng.randint(0, 30), rng.randint(4, 16)
                truths.append(item(label, x, y, side, side))
                dx, dy, grow = rng.randint(0, 3), rng.randint(0, 3), rng.randint(-1, 3)
                found.append(item(label, x + dx, y + dy, side, side + grow, score=rng.random()))
            if rng.random() < 0.5:
                found.append(item(label, rng.randint(0, 40), rng.randint(0, 30), score=rng.random()))
        pictures.append((labels, truths, found))
    return pictures


def reference(pictures: list[Any], geometry: Geometry) -> list[float]:
    """AP, AP50 and AP75 by pycocotools in its usual way: annotation files and `summarize`."""
    names = sorted({truth.label for _, truths, _ in pictures for truth in truths})

    def entry(number: int, thing: Item) -> dict[str, Any]:
        shape = {"bbox": list(thing.box.xywh)}
        if geometry == "mask":
            assert thing.mask is not None
            shape = {"segmentation": {**thing.mask.to_coco(), "counts": thing.mask.counts.encode()}}
        return {"image_id": number, "category_id": names.index(thing.label) + 1, **shape}

    truth = COCO()
    truth.dataset = {
        "images": [{"id": n, "width": SIZE[0], "height": SIZE[1]} for n in range(len(pictures))],
        "categories": [{"id": n, "name": name} for n, name in enumerate(names, start=1)],
        "annotations": [],
        "info": {},
    }
    found = []
    for number, (_, truths, detections) in enumerate(pictures):
        for thing in truths:
            area = thing.mask.area if geometry == "mask" and thing.mask else thing.box.area
            annotation = {"id": len(truth.dataset["annotations"]) + 1, "iscrowd": 0, "area": area}
            truth.dataset["annotations"].append(annotation | entry(number, thing))
        found += [entry(number, thing) | {"score": thing.score} for thing in detections]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(found), {"box": "bbox", "mask": "segm"}[geometry])
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return list(judge.stats[:3])


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("geometry", ["box", "mask"])
def test_equals_pycocotools_used_in_the_usual_way(geometry: Geometry, seed: int) -> None:
    pictures = random_pictures(seed)
    precision = table(*pictures).by_label(geometry)
    ours = [precision.ap(), precision.ap(iou=0.5), precision.ap(iou=0.75)]
    assert ours == pytest.approx(reference(pictures, geometry), abs=1e-12)
    assert 0.02 < ours[0] < 0.95  # neither trivial end
