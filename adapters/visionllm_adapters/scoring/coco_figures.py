"""COCO's figures by its own tool, from labelled data and typed results."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np

from visionllm_adapters.data.records import DataSet, Thing
from visionllm_adapters.scoring.score import Figures
from visionllm_sdk.extras import import_extra
from visionllm_sdk.keypoints import sigmas_of
from visionllm_sdk.results import Detections, Poses

Kind = Literal["bbox", "segm", "keypoints"]
_SIZES: Final = ("small", "medium", "large")


class CocoJudge:
    """Scores predictions on one set.

    Args:
        data: what is true.
        kind: what is compared.
        points: names of the keypoints, where these are.

    Raises:
        MissingExtraError: `pycocotools` is not installed.
    """

    def __init__(self, data: DataSet, kind: Kind, points: Sequence[str] = ()) -> None:
        self.data = data
        self.points = points
        self.kind: Kind = kind
        self.numbers = {label: number for number, label in enumerate(data.labels, start=1)}

    def judge(self, found: Sequence[Sequence[dict[str, Any]]]) -> tuple[Figures, dict[str, Figures], Any]:
        """Figures in all, by class, and the evaluator.

        Args:
            found: per record, entries as :meth:`detections` and :meth:`poses` make them.
        """
        entries = [{"image_id": n, **entry} for n, own in enumerate(found, start=1) for entry in own]
        evaluator = import_extra("pycocotools.cocoeval", extra="eval")
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports to standard output
            judge = evaluator.COCOeval(self._truths(), self._data_set(entries), self.kind)
            if self.kind == "keypoints":
                judge.params.kpt_oks_sigmas = self._spreads()
            judge.evaluate()
            judge.accumulate()
        table = judge.eval["precision"]  # (IoUs, recalls, classes, sizes, limits)
        classes = {
            label: {"ap": _mean(table[:, :, n, 0, -1]), "ap50": _mean(table[0, :, n, 0, -1])}
            for n, label in enumerate(self.data.labels)
        }
        return self._figures(table, judge.eval["recall"]), classes, judge

    def sizes(self, judge: Any) -> dict[str, Figures]:
        """Precision by COCO's classes of area (32 and 96 pixels squared)."""
        names = judge.params.areaRngLbl
        table = judge.eval["precision"]
        return {
            size: {"ap": _mean(table[:, :, :, names.index(size), -1])} for size in _SIZES if size in names
        }

    @staticmethod
    def _figures(table: Any, recall: Any) -> Figures:
        return {
            "ap": _mean(table[:, :, :, 0, -1]),
            "ap50": _mean(table[0, :, :, 0, -1]),
            "ap75": _mean(table[5, :, :, 0, -1]),
            "ar": _mean(recall[:, :, 0, -1]),
        }

    def detections(self, result: Detections) -> list[dict[str, Any]]:
        """Entries of what was detected."""
        return [
            {
                "category_id": self.numbers[one.label],
                "bbox": list(one.box.xywh),
                "score": one.score,
                "area": one.box.area,
                "iscrowd": 0,
                **({"segmentation": one.mask.to_coco()} if one.mask is not None else {}),
            }
            for one in result
            if one.label in self.numbers
        ]

    def poses(self, result: Poses, names: Sequence[str]) -> list[dict[str, Any]]:
        """Entries of posed objects, keypoints in the order of the data."""
        entries = []
        for pose in result:
            places = {point.name: (point.x, point.y, 2) for point in pose.keypoints}
            triples = [value for name in names for value in places.get(spoken(name), (0, 0, 0))]
            entries.append(
                {
                    "category_id": self.numbers[pose.label],
                    "bbox": list(pose.box.xywh),
                    "score": pose.score,
                    "area": pose.box.area,
                    "iscrowd": 0,
                    "keypoints": triples,
                    "num_keypoints": len(places),
                }
            )
        return entries

    def _truths(self) -> Any:
        entries = [
            {"image_id": n, **self._entry(thing)}
            for n, record in enumerate(self.data.records, start=1)
            for thing in record.things or ()
            if self.kind != "keypoints" or len(thing.keypoints) in (0, len(self.points))
        ]
        return self._data_set(entries)

    def _entry(self, thing: Thing) -> dict[str, Any]:
        triples = [value for point in thing.keypoints for value in point]
        known = sum(point[2] > 0 for point in thing.keypoints)
        entry: dict[str, Any] = {
            "category_id": self.numbers[thing.label],
            "bbox": list(thing.box.xywh),
            "area": thing.area,
            "iscrowd": int(thing.crowd),
        }
        if thing.mask is not None:
            entry["segmentation"] = thing.mask.to_coco()
        elif self.kind == "segm":  # a crowd without an outline
            x1, y1, x2, y2 = thing.box.xyxy
            entry["segmentation"] = [[x1, y1, x2, y1, x2, y2, x1, y2]]
        if self.kind == "keypoints":
            entry |= {"keypoints": triples, "num_keypoints": known, "ignore": int(known == 0)}
        return entry

    def _data_set(self, entries: list[dict[str, Any]]) -> Any:
        data = import_extra("pycocotools.coco", extra="eval").COCO()
        data.dataset = {
            "info": {},
            "images": [
                {"id": n, "width": record.width, "height": record.height}
                for n, record in enumerate(self.data.records, start=1)
            ],
            "categories": [{"id": number, "name": label} for label, number in self.numbers.items()],
            "annotations": [{"id": number, **entry} for number, entry in enumerate(entries, start=1)],
        }
        with contextlib.redirect_stdout(io.StringIO()):
            data.createIndex()
        return data

    def _spreads(self) -> Any:
        return np.array(sigmas_of([spoken(name) for name in self.points]))


def spoken(name: str) -> str:
    """A keypoint's name in words: `left_eye` is "left eye"."""
    return name.replace("_", " ")


def _mean(part: Any) -> float | None:
    valid = part[part > -1]
    return float(valid.mean()) if valid.size else None
