"""`[SEG]`: a semantic map over shape classes or colour classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np

from visionllm_sdk.evaluation.predictor import Predictor
from visionllm_sdk.evaluation.report import SkillReport
from visionllm_sdk.evaluation.samples import Sample
from visionllm_sdk.evaluation.skills.base import Skill
from visionllm_sdk.evaluation.tallies import BoolArray, Overlaps, share
from visionllm_sdk.results import SemanticMap
from visionllm_sdk.scenes.facts import COLOURS, FIGURES, SHAPES
from visionllm_sdk.scenes.labels import Label

DIVISIONS: Final[dict[str, tuple[Label, ...]]] = {
    "shape": tuple(Label(kind) for kind in (*SHAPES, *FIGURES)),
    "colour": tuple(Label(colour=colour) for colour in COLOURS),
}
_ABSENT = 2
_GOOD = 0.8


def asked_classes(sample: Sample) -> tuple[str, list[Label]]:
    """The division asked for, and its classes that the picture shows with up to two absent ones."""
    rng = sample.random("segmentation")
    division = rng.choice(tuple(DIVISIONS))
    present = [label for label in DIVISIONS[division] if sample.bearers(label)]
    absent = [label for label in DIVISIONS[division] if label not in present]
    # A scene of figures alone has no colour class; something must be asked for all the same.
    count = rng.randint(0 if present else 1, _ABSENT)
    chosen = present + rng.sample(absent, min(count, len(absent)))
    rng.shuffle(chosen)
    return division, chosen


def single_class(sample: Sample) -> Label | None:
    """One class that the picture shows, to be asked for alone, so that no other competes for its pixels."""
    present = [label for label in DIVISIONS["shape"] if sample.bearers(label)]
    return sample.random("segmentation alone").choice(present) if present else None


class SegmentationSkill(Skill):
    """mIoU: intersections and unions of a class over all pictures, the mean over classes.

    `alone_miou` is the mean over pictures of one class asked for alone.
    """

    name = "segmentation"

    def __init__(self) -> None:
        super().__init__()
        self._classes = {division: Overlaps() for division in DIVISIONS}
        self._pictures: dict[str, list[float]] = {division: [] for division in DIVISIONS}
        self._asked: Counter[str] = Counter()
        self._alone: list[float] = []

    def measure(self, model: Predictor, samples: Sequence[Sample]) -> None:
        """See `Skill.measure`."""
        asked = [asked_classes(sample) for sample in samples]
        labels = [[label.text for label in classes] for _, classes in asked]
        maps = model.segment([sample.image for sample in samples], labels)
        for sample, (division, classes), result in zip(samples, asked, maps, strict=True):
            self._score(sample, division, classes, result)
        self._ask_alone(model, samples)

    def _ask_alone(self, model: Predictor, samples: Sequence[Sample]) -> None:
        asked = [(sample, one) for sample in samples if (one := single_class(sample)) is not None]
        if not asked:
            return
        maps = model.segment([sample.image for sample, _ in asked], [[one.text] for _, one in asked])
        for (sample, one), result in zip(asked, maps, strict=True):
            given, truth = result.to_numpy() == 0, _truth(sample, one)
            self._alone.append(float((given & truth).sum() / (given | truth).sum()))

    def report(self) -> SkillReport:
        """See `Skill.report`."""
        means = {
            division: [iou for text in overlaps.union if (iou := overlaps.cumulative(text)) is not None]
            for division, overlaps in self._classes.items()
        }
        values = [iou for ious in means.values() for iou in ious]
        singles = [ratio for ratios in self._pictures.values() for ratio in ratios]
        return SkillReport(
            figures={
                "miou": share(sum(values), len(values)),
                "picture_miou": share(sum(singles), len(singles)),
                "alone_miou": share(sum(self._alone), len(self._alone)),
            },
            slices={
                "classes": {
                    division: {"miou": share(sum(ious), len(ious)), "pictures": self._asked[division]}
                    for division, ious in means.items()
                },
                "class": {
                    text: {"iou": overlaps.cumulative(text)}
                    for overlaps in self._classes.values()
                    for text in sorted(overlaps.union)
                },
            },
            counts={"pictures": self._asked.total()},
        )

    def _score(self, sample: Sample, division: str, classes: list[Label], result: SemanticMap) -> None:
        found = result.to_numpy()
        self._asked[division] += 1
        ratios = []
        for label in classes:
            number = result.labels.index(label.text) if label.text in result.labels else None
            given = found == number if number is not None else np.zeros_like(found, dtype=bool)
            truth = _truth(sample, label)
            ratio = self._classes[division].add(label.text, truth, given)
            if truth.any():
                ratios.append(ratio)
        self._pictures[division] += ratios
        worst = min(ratios, default=1.0)
        right = worst >= _GOOD
        if self.gallery.wants(right):
            self.gallery.add(right, result.draw(sample.image), f"{division}: worst IoU {worst:.2f}")


def _truth(sample: Sample, label: Label) -> BoolArray:
    """(H, W) pixels of the objects that bear the label."""
    truth: BoolArray = np.logical_or.reduce(sample.masks[sample.bearers(label)], axis=0)
    return truth
