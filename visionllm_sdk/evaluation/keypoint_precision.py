"""COCO's keypoint precision: average precision with the object keypoint similarity in place of IoU."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from visionllm_sdk.extras import import_extra
from visionllm_sdk.geometry import Box

_ANY_AREA: Final = [[0, 1e10]]


@dataclass(frozen=True, slots=True)
class PosedItem:
    """A true object (`score` None) or a found one.

    Attributes:
        box: in pixels.
        keypoints: (K, 3) x, y in pixels and COCO's flag: 2 visible, 1 covered, 0 without a known place.
        area: in pixels; of a true object, it scales the similarity.
        score: 0..1.
    """

    box: Box
    keypoints: NDArray[np.float64]
    area: float
    score: float | None = None


@dataclass(slots=True)
class KeypointTable:
    """Truths and findings of many pictures asked for one set of keypoints.

    Attributes:
        sigmas: (K,) of the set.
    """

    sigmas: Sequence[float]
    pictures: int = 0
    truths: list[tuple[int, PosedItem]] = field(default_factory=list)
    found: list[tuple[int, PosedItem]] = field(default_factory=list)

    def add(self, truths: Sequence[PosedItem], found: Sequence[PosedItem]) -> None:
        """One picture."""
        self.truths += [(self.pictures, item) for item in truths]
        self.found += [(self.pictures, item) for item in found]
        self.pictures += 1

    def precision(self) -> NDArray[np.float64]:
        """(10, 101) precision by similarity threshold (0.50 to 0.95) and recall; -1 without any truth.

        Raises:
            MissingExtraError: pycocotools is not installed.
        """
        if not self.truths:
            return np.full((10, 101), -1.0)
        evaluator = import_extra("pycocotools.cocoeval", extra="eval")
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports to standard output
            judge = evaluator.COCOeval(self._data_set(self.truths), self._data_set(self.found), "keypoints")
            judge.params.kpt_oks_sigmas = np.asarray(self.sigmas)
            judge.params.areaRng, judge.params.areaRngLbl = _ANY_AREA, ["all"]
            judge.evaluate()
            judge.accumulate()
        table: NDArray[np.float64] = judge.eval["precision"][:, :, 0, 0, 0]
        return table

    def _data_set(self, items: Sequence[tuple[int, PosedItem]]) -> Any:
        data = import_extra("pycocotools.coco", extra="eval").COCO()
        data.dataset = {
            "images": [{"id": number} for number in range(self.pictures)],
            "categories": [{"id": 1, "name": "object"}],
            "annotations": [
                {"id": number, "image_id": picture, "category_id": 1, "iscrowd": 0, **_entry(item)}
                for number, (picture, item) in enumerate(items, start=1)
            ],
        }
        data.createIndex()
        return data


def _entry(item: PosedItem) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "area": item.area,
        "bbox": list(item.box.xywh),
        "keypoints": item.keypoints.reshape(-1).tolist(),
        "num_keypoints": int((item.keypoints[:, 2] > 0).sum()),
    }
    return entry if item.score is None else {**entry, "score": item.score}
