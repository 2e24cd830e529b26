"""`[POSE]`: keypoints of persons and dogs, and poses of kinds that the picture does not show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from visionllm_sdk.evaluation.keypoint_precision import KeypointTable, PosedItem
from visionllm_sdk.evaluation.predictor import Poser, Predictor
from visionllm_sdk.evaluation.report import SkillReport
from visionllm_sdk.evaluation.samples import Sample
from visionllm_sdk.evaluation.skills.base import Skill
from visionllm_sdk.evaluation.tallies import Figures, Tally, share
from visionllm_sdk.geometry import Box
from visionllm_sdk.keypoints import AP10K, COCO, KeypointSet, keypoint_similarity
from visionllm_sdk.results import Pose, Poses
from visionllm_sdk.scenes import HELD_OUT_SEEDS, SceneOptions, render, sample_scene, truth

SETS: Final[dict[str, KeypointSet]] = {"person": COCO, "dog": AP10K}
"""Which keypoint set each kind of figure is asked for."""
OPTIONS: Final = SceneOptions(figures=0.5, objects=(1, 6), sides=(192, 640))
"""Half of all things are figures, and none is smaller than COCO's smallest with keypoints."""

_FLOOR: Final = 0.05
"""Score from which poses enter the ranking."""
_NEAR: Final = 0.2
"""PCK@0.2: a keypoint is right within this share of the longer side of its object's box."""


@dataclass(frozen=True)
class PoseScene:
    """A held-out picture, the kind of figure to ask for, and the truth about it."""

    image: Image.Image
    kind: str
    truths: tuple[PosedItem, ...]


def pose_scene(sample: Sample) -> PoseScene:
    """The held-out scene with figures that belongs to a sample.

    The kind to ask for is chosen without looking, so that some pictures do not show it.
    """
    rng = sample.random("pose")
    spec = sample_scene(rng.choice(HELD_OUT_SEEDS), options=OPTIONS)
    kind = rng.choice(tuple(SETS))
    drawn = render(spec)
    known = truth(spec, drawn)
    truths = tuple(
        PosedItem(Box(*map(float, known.boxes[i])), table.astype(float), float(known.masks[i].sum()))
        for i, item in enumerate(spec.objects)
        if item.kind == kind and (table := known.keypoints[i]) is not None
    )
    return PoseScene(drawn.image, kind, truths)


class PoseSkill(Skill):
    """COCO's precision by object keypoint similarity, PCK@0.2, and poses of absent kinds."""

    name = "pose"
    needs = "pose"

    def __init__(self) -> None:
        super().__init__()
        self._tables = {kind: KeypointTable(known.sigmas) for kind, known in SETS.items()}
        self._near, self._seen, self._clean = Tally(), Tally(), Tally()

    def measure(self, model: Predictor, samples: Sequence[Sample]) -> None:
        """See `Skill.measure`."""
        scenes = [pose_scene(sample) for sample in samples]
        results = cast(Poser, model).pose(
            [scene.image for scene in scenes],
            [[scene.kind] for scene in scenes],
            [list(SETS[scene.kind].names) for scene in scenes],
            threshold=_FLOOR,
        )
        shown = cast(Poser, model).pose(
            [scene.image for scene in scenes],
            [[scene.kind] for scene in scenes],
            [list(SETS[scene.kind].names) for scene in scenes],
        )
        for scene, ranked, default in zip(scenes, results, shown, strict=True):
            self._tables[scene.kind].add(scene.truths, [_item(pose) for pose in ranked])
            right = self._count(scene, default)
            if self.gallery.wants(right, scene.kind):
                text = f"{scene.kind}: {len(default)} found, {len(scene.truths)} there"
                self.gallery.add(right, default.draw(scene.image), text, scene.kind)

    def report(self) -> SkillReport:
        """See `Skill.report`."""
        parts = {kind: self._figures(kind) for kind in SETS}
        names = ("oks_ap", "oks_ap50", "oks_ap75", "pck")
        return SkillReport(
            figures={
                **{name: _mean([figures[name] for figures in parts.values()]) for name in names},
                "visible": self._seen.overall,
                "false_positive_rate": _complement(self._clean.overall),
            },
            slices={"kind": parts},
            counts={
                "pictures": sum(table.pictures for table in self._tables.values()),
                "figures": sum(len(table.truths) for table in self._tables.values()),
                "keypoints": self._near.totals.total(),
            },
        )

    def _figures(self, kind: str) -> Figures:
        precision = self._tables[kind].precision()
        known = bool((precision >= 0).any())
        return {
            "oks_ap": float(precision.mean()) if known else None,
            "oks_ap50": float(precision[0].mean()) if known else None,
            "oks_ap75": float(precision[5].mean()) if known else None,
            "pck": self._near.rate(kind),
            "figures": len(self._tables[kind].truths),
        }

    def _count(self, scene: PoseScene, found: Poses) -> bool:
        """Note what is near and what is seen; whether every keypoint is right and nothing was made up."""
        if not scene.truths:
            self._clean.add(scene.kind, not len(found))
        right = len(found) == len(scene.truths)
        for item, pose in _matched(scene, found):
            placed = item.keypoints[:, 2] > 0
            near = np.zeros_like(placed)
            if pose is not None:
                offset = _points(pose)[:, :2] - item.keypoints[:, :2]
                near = np.linalg.norm(offset, axis=1) < _NEAR * max(item.box.width, item.box.height)
                for flag, keypoint in zip(item.keypoints[:, 2], pose.keypoints, strict=True):
                    self._seen.add(scene.kind, keypoint.visible == (flag == 2))
            for hit in near[placed]:
                self._near.add(scene.kind, bool(hit))
            right = right and bool(near[placed].all())
        return right


def _matched(scene: PoseScene, found: Poses) -> list[tuple[PosedItem, Pose | None]]:
    """Every true object with the most similar pose that no object before it took."""
    sigmas = SETS[scene.kind].sigmas
    left = list(found.poses)
    pairs: list[tuple[PosedItem, Pose | None]] = []
    for item in scene.truths:
        placed = item.keypoints[:, 2] > 0

        def similar(pose: Pose, item: PosedItem = item, placed: NDArray[np.bool_] = placed) -> float:
            points, true = _points(pose)[:, :2], item.keypoints[:, :2]
            return float(keypoint_similarity(points, true, placed, area=item.area, sigmas=sigmas))

        best = max(left, key=similar, default=None)
        if best is not None:
            left.remove(best)
        pairs.append((item, best))
    return pairs


def _points(pose: Pose) -> NDArray[np.float64]:
    return np.array([(point.x, point.y, 2 if point.visible else 1) for point in pose.keypoints], dtype=float)


def _item(pose: Pose) -> PosedItem:
    return PosedItem(pose.box, _points(pose), pose.box.area, pose.score)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return share(sum(known), len(known))


def _complement(value: float | None) -> float | None:
    return None if value is None else 1 - value
