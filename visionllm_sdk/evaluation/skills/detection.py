"""`[DET]`: boxes and masks for label lists, with labels that the picture does not show mixed in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from visionllm_sdk.evaluation.average_precision import Item, Precision, PrecisionTable, size_extent
from visionllm_sdk.evaluation.predictor import Predictor
from visionllm_sdk.evaluation.report import SkillReport
from visionllm_sdk.evaluation.samples import Sample
from visionllm_sdk.evaluation.skills.base import Skill
from visionllm_sdk.evaluation.tallies import Figures, Tally
from visionllm_sdk.geometry import Box, Mask
from visionllm_sdk.results import Detection, Detections
from visionllm_sdk.scenes.facts import FIGURES, SIZES
from visionllm_sdk.scenes.labels import Label, parse_label
from visionllm_sdk.scenes.language import request_labels

Asked = list[tuple[str, Label | None]]

_FLOOR: Final = 0.02
"""Score from which detections enter the ranking; average precision needs those far below the default, too."""
_FEWEST, _MOST = 2, 6


def asked_labels(sample: Sample) -> Asked:
    """The label list for a picture: what it shows, near misses, and words foreign to scenes."""
    rng = sample.random("detection")
    return request_labels(sample.facts, rng, rng.randint(_FEWEST, _MOST))


def absent_label(sample: Sample) -> tuple[str, str] | None:
    """A label that the picture does not show, and its sort; None if all that was asked for is there.

    It is the other figure where one is shown, and otherwise an absent one of the label list: a thing that no
    other label claims is most easily taken for what is asked.
    """
    kinds = {thing.kind for thing in sample.facts.objects}
    if len(kinds & set(FIGURES)) == 1:
        return next(kind for kind in FIGURES if kind not in kinds), "figure"
    absent = ((text, _sort(label)) for text, label in asked_labels(sample) if not sample.bearers(label))
    return next(absent, None)


def _sort(label: Label | None) -> str:
    return "foreign" if label is None else "near miss"


class DetectionSkill(Skill):
    """COCO precision of boxes and masks, and false positives on absent labels, in lists and alone."""

    name = "detection"

    def __init__(self) -> None:
        super().__init__()
        self._table = PrecisionTable()
        self._clean = Tally()
        self._clean_alone = Tally()

    def measure(self, model: Predictor, samples: Sequence[Sample]) -> None:
        """See `Skill.measure`."""
        images = [sample.image for sample in samples]
        asked = [asked_labels(sample) for sample in samples]
        labels = [[text for text, _ in request] for request in asked]
        ranked = model.detect(images, labels, threshold=_FLOOR)
        shown = model.detect(images, labels, masks=False)
        for sample, request, low, default in zip(samples, asked, ranked, shown, strict=True):
            truths = _truths(sample, request)
            self._table.add(
                sample.image.size, [text for text, _ in request], truths, _items(low, sample.image.size)
            )
            self._count_absent(sample, request, default)
            self._show(sample, truths, low, default)
        self._ask_alone(model, samples)

    def _ask_alone(self, model: Predictor, samples: Sequence[Sample]) -> None:
        asked = [(sample.image, *one) for sample in samples if (one := absent_label(sample)) is not None]
        if not asked:
            return
        images, labels = [image for image, *_ in asked], [[text] for _, text, _ in asked]
        for (*_, sort), found in zip(asked, model.detect(images, labels, masks=False), strict=True):
            self._clean_alone.add(sort, not found.detections)

    def report(self) -> SkillReport:
        """See `Skill.report`."""
        box, mask = self._table.by_label("box"), self._table.by_label("mask")
        figures: Figures = {
            **_precisions("box", box),
            "box_ap_pooled": self._table.pooled("box").ap(),
            **_precisions("mask", mask),
            "mask_ap_pooled": self._table.pooled("mask").ap(),
            "false_positive_rate": _complement(self._clean.overall),
            "false_positive_rate_alone": _complement(self._clean_alone.overall),
        }
        kinds: dict[str, list[str]] = {}
        for text in box.labels:
            label = parse_label(text)
            assert label is not None  # only labels of scenes have truths
            kinds.setdefault(label.kind, []).append(text)
        return SkillReport(
            figures=figures,
            slices={
                "size": {
                    size: {"box_ap": box.ap(size=size), "mask_ap": mask.ap(size=size)} for size in SIZES
                },
                "kind": {kind: _kind_figures(box, mask, kinds[kind]) for kind in sorted(kinds)},
                "absent": _rates(self._clean),
                "absent, asked alone": _rates(self._clean_alone),
            },
            counts={
                "pictures": len(self._table.sizes),
                "labels": len(self._table.pairs),
                "absent_labels": self._clean.totals.total(),
                "absent_labels_alone": self._clean_alone.totals.total(),
                "truths": len(self._table.truths),
            },
        )

    def _count_absent(self, sample: Sample, asked: Asked, default: Detections) -> None:
        found = {detection.label for detection in default}
        for text, label in asked:
            if not sample.bearers(label):
                self._clean.add(_sort(label), text not in found)

    def _show(self, sample: Sample, truths: list[Item], low: Detections, default: Detections) -> None:
        """Keep the picture if it is a success or a failure of the kind that is still wanted."""
        right = _all_found(truths, default.detections)
        if not self.gallery.wants(right):
            return
        floor = min((detection.score for detection in default), default=2.0)
        wanted = sorted(item.label for item in truths)
        self.gallery.add(
            right,
            low.filter(min_score=floor).draw(sample.image),
            f"asked {', '.join(low.labels)}; there: {', '.join(wanted) or 'none'}",
        )


def _truths(sample: Sample, asked: Asked) -> list[Item]:
    """An object counts once for every asked label that it bears."""
    masks: dict[int, Mask] = {}
    items = []
    for text, label in asked:
        for index in sample.bearers(label):
            thing = sample.objects[index]
            mask = masks.setdefault(index, Mask.from_numpy(sample.masks[index]))
            items.append(Item(text, Box(*thing.box), mask, size_extent(thing.size)))
    return items


def _items(found: Detections, size: tuple[int, int]) -> list[Item]:
    short = min(size)
    return [Item(d.label, d.box, d.mask, max(d.box.width, d.box.height) / short, d.score) for d in found]


def _all_found(truths: Sequence[Item], found: Sequence[Detection]) -> bool:
    """Whether detections and truths pair off by label and an IoU of at least 0.5."""
    left = list(found)
    for item in truths:
        best = max(
            (d for d in left if d.label == item.label), key=lambda d: d.box.iou(item.box), default=None
        )
        if best is None or best.box.iou(item.box) < 0.5:
            return False
        left.remove(best)
    return not left


def _precisions(word: str, precision: Precision) -> Figures:
    return {
        f"{word}_ap": precision.ap(),
        f"{word}_ap50": precision.ap(iou=0.5),
        f"{word}_ap75": precision.ap(iou=0.75),
    }


def _kind_figures(box: Precision, mask: Precision, labels: list[str]) -> Figures:
    return {
        "box_ap": box.ap(labels=labels),
        "box_ap50": box.ap(iou=0.5, labels=labels),
        "mask_ap": mask.ap(labels=labels),
        "mask_ap50": mask.ap(iou=0.5, labels=labels),
        "labels": len(labels),
    }


def _rates(clean: Tally) -> dict[str, Figures]:
    return {
        part: {"false_positive_rate": _complement(clean.rate(part)), "cases": cases}
        for part, cases in clean.totals.items()
    }


def _complement(value: float | None) -> float | None:
    return None if value is None else 1 - value
