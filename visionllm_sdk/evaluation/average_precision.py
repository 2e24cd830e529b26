"""COCO average precision of boxes and masks where every picture is asked for its own labels.

A label text is a category, so a precision is a mean over labels as COCO's is over classes. The pooled
precision ranks all detections of all labels in one list instead, with every (picture, label) pair on its
own: there a detection of a label that the picture does not show always counts against the model, and
scores must mean the same for every label.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from visionllm_sdk.extras import import_extra
from visionllm_sdk.geometry import Box, Mask
from visionllm_sdk.scenes.facts import SIZES

Geometry = Literal["box", "mask"]

_TYPES: Final[dict[Geometry, str]] = {"box": "bbox", "mask": "segm"}
_EXTENTS: Final = {"small": 0.12, "medium": 0.235, "large": 0.5}
_RANGES: Final = [[0, 1e9], [0, 0.175], [0.175, 0.3], [0.3, 1e9]]
"""What COCO calls area is here the extent relative to the shorter side: sizes are relative words."""


@dataclass(frozen=True, slots=True)
class Item:
    """A truth (`score` None) or a detection.

    Attributes:
        label: the label asked for.
        box: in pixels.
        mask: of the picture's size; None is possible when only boxes are measured.
        extent: longer side of the object over the shorter side of the picture.
        score: 0..1.
    """

    label: str
    box: Box
    mask: Mask | None
    extent: float
    score: float | None = None


def size_extent(word: str) -> float:
    """An `Item.extent` that stands for a size word."""
    return _EXTENTS[word]


@dataclass(slots=True)
class PrecisionTable:
    """Truths and detections of many pictures; the precisions are computed once at the end."""

    sizes: list[tuple[int, int]] = field(default_factory=list)
    pairs: dict[tuple[int, str], int] = field(default_factory=dict)
    truths: list[tuple[int, Item]] = field(default_factory=list)
    found: list[tuple[int, Item]] = field(default_factory=list)

    def add(
        self, size: tuple[int, int], labels: Iterable[str], truths: Sequence[Item], found: Sequence[Item]
    ) -> None:
        """One picture of (width, height): the labels it was asked for, what is there, what was found."""
        picture = len(self.sizes)
        self.sizes.append(size)
        for label in labels:
            self.pairs[picture, label] = len(self.pairs)
        self.truths += [(picture, item) for item in truths]
        self.found += [(picture, item) for item in found]

    def by_label(self, geometry: Geometry) -> Precision:
        """Precision per label text over all pictures."""
        names = list(dict.fromkeys(item.label for _, item in self.truths))
        numbers = {name: number for number, name in enumerate(names, start=1)}
        known = [(picture, item) for picture, item in self.found if item.label in numbers]
        truths, found = (
            [_entry(item, geometry, picture, numbers[item.label]) for picture, item in items]
            for items in (self.truths, known)
        )
        table = _precision(truths, found, geometry, sizes=self.sizes, categories=len(names))
        return Precision(table, names)

    def pooled(self, geometry: Geometry) -> Precision:
        """Precision of one ranking over every label asked of every picture."""
        truths, found = (
            [_entry(item, geometry, self.pairs[picture, item.label], 1) for picture, item in items]
            for items in (self.truths, self.found)
        )
        sizes = [self.sizes[picture] for picture, _ in self.pairs]
        return Precision(_precision(truths, found, geometry, sizes=sizes, categories=1), ["any"])


@dataclass(frozen=True, slots=True)
class Precision:
    """Interpolated precision, (10 IoUs, 101 recalls, labels, 4 sizes); -1 where there is no truth.

    The sizes are all, small, medium and large; the IoUs 0.50 to 0.95.
    """

    table: NDArray[np.float64]
    labels: list[str]

    def ap(
        self, *, iou: float | None = None, size: str | None = None, labels: Iterable[str] | None = None
    ) -> float | None:
        """Mean precision; None when nothing of that kind exists.

        Args:
            iou: one threshold; None is the mean over 0.50, 0.55, ..., 0.95.
            size: one of small, medium, large; None is all.
            labels: only these; None is all.
        """
        ious = slice(None) if iou is None else slice(row := round((iou - 0.5) / 0.05), row + 1)
        kept = set(self.labels if labels is None else labels)
        columns = [number for number, label in enumerate(self.labels) if label in kept]
        part = self.table[ious][:, :, columns, 0 if size is None else 1 + SIZES.index(size)]
        valid = part[part > -1]
        return float(valid.mean()) if valid.size else None


def _entry(item: Item, geometry: Geometry, image: int, category: int) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "image_id": image,
        "category_id": category,
        "area": item.extent,
        "iscrowd": 0,
        "bbox": list(item.box.xywh),
    }
    if item.score is not None:
        entry["score"] = item.score
    if geometry == "mask":
        assert item.mask is not None
        entry["segmentation"] = item.mask.to_coco()
    return entry


def _precision(
    truths: list[dict[str, Any]],
    found: list[dict[str, Any]],
    geometry: Geometry,
    *,
    sizes: Sequence[tuple[int, int]],
    categories: int,
) -> NDArray[np.float64]:
    """(10, 101, categories, 4) by pycocotools."""
    if not truths:
        return np.full((10, 101, categories, len(_RANGES)), -1.0)
    evaluator = import_extra("pycocotools.cocoeval", extra="eval")
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports to standard output
        judge = evaluator.COCOeval(
            _data_set(truths, sizes, categories), _data_set(found, sizes, categories), _TYPES[geometry]
        )
        judge.params.areaRng = _RANGES
        judge.params.areaRngLbl = ["all", *SIZES]
        judge.params.maxDets = [100]
        judge.evaluate()
        judge.accumulate()
    table: NDArray[np.float64] = judge.eval["precision"][..., 0]
    return table


def _data_set(entries: list[dict[str, Any]], sizes: Sequence[tuple[int, int]], categories: int) -> Any:
    data = import_extra("pycocotools.coco", extra="eval").COCO()
    data.dataset = {
        "images": [
            {"id": number, "width": width, "height": height} for number, (width, height) in enumerate(sizes)
        ],
        "categories": [{"id": number, "name": str(number)} for number in range(1, categories + 1)],
        "annotations": [{"id": number, **entry} for number, entry in enumerate(entries, start=1)],
    }
    data.createIndex()
    return data
