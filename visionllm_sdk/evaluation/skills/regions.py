"""Region prompts: what they show, in words and in masks, and more of the same kind in another picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final, Protocol, TypeVar, cast

import numpy as np
from PIL import Image

from visionllm_sdk.evaluation.predictor import Images, Predictor
from visionllm_sdk.evaluation.report import SkillReport
from visionllm_sdk.evaluation.samples import Masks, Sample
from visionllm_sdk.evaluation.skills.base import Skill
from visionllm_sdk.evaluation.skills.caption import named_objects
from visionllm_sdk.evaluation.tallies import BagScore, BoolArray, Overlaps, Tally
from visionllm_sdk.regions import Region
from visionllm_sdk.results import Detection, Detections, RegionDescription, RegionLabel
from visionllm_sdk.scenes import HELD_OUT_SEEDS, render, sample_scene
from visionllm_sdk.scenes.facts import FIGURES, SHAPES, ObjectFacts
from visionllm_sdk.scenes.regions import REGION_KINDS, RegionKind, draw_prompt
from visionllm_sdk.scenes.spec import SceneSpec

Answer = TypeVar("Answer")

LABELS: Final = (*SHAPES, *FIGURES)
"""What recognition chooses from."""
_TRIES: Final = 60
_SEED: Final = 2**31


class RegionPredictor(Protocol):
    """What evaluating region prompts needs beside a `Predictor`."""

    def describe(
        self, image: Images, regions: list[list[Region]], /
    ) -> Sequence[Sequence[RegionDescription]]:
        """A sentence on each region of each picture."""

    def classify(
        self, image: Images, regions: list[list[Region]], labels: list[list[str]], /
    ) -> Sequence[Sequence[RegionLabel]]:
        """One of the labels for each region of each picture."""

    def segment_regions(self, image: Images, regions: list[list[Region]], /) -> Sequence[Detections]:
        """One detection for each region of each picture."""

    def segment_like(
        self, example_image: Images, example_region: list[Region], image: Images, /
    ) -> Sequence[Detections]:
        """In each picture all that is of the kind that is marked in its example."""


@dataclass(frozen=True)
class Question:
    """A region prompt, its kind, and the object that it lies on."""

    kind: RegionKind
    index: int
    region: Region


def questions(sample: Sample) -> list[Question]:
    """One prompt of every kind on a picture, each on an object of its own choice."""
    asked = []
    for kind in REGION_KINDS if sample.objects else ():
        rng = sample.random(f"region/{kind}")
        index = rng.randrange(len(sample.objects))
        asked.append(Question(kind, index, draw_prompt(sample.masks[index], kind, seed=rng.randrange(_SEED))))
    return asked


class _RegionSkill(Skill):
    """Asks about one prompt of every kind on every picture."""

    needs = "describe"
    examples_of_a_kind = 2

    def _asked(self, samples: Sequence[Sample]) -> list[tuple[Sample, list[Question]]]:
        return [(sample, asked) for sample in samples if (asked := questions(sample))]


class RecognitionSkill(_RegionSkill):
    """Share of regions whose kind is chosen from all kinds, per kind of prompt."""

    name = "region_recognition"

    def __init__(self) -> None:
        super().__init__()
        self._tally = Tally()

    def measure(self, model: Predictor, samples: Sequence[Sample]) -> None:
        """See `Skill.measure`."""
        asked = self._asked(samples)
        answers = cast(RegionPredictor, model).classify(
            [sample.image for sample, _ in asked],
            [[one.region for one in own] for _, own in asked],
            [list(LABELS) for _ in asked],
        )
        for sample, question, answer in _pairs(asked, answers):
            wanted = sample.objects[question.index].kind
            right = answer.label == wanted
            self._tally.add(question.kind, right)
            if self.gallery.wants(right, question.kind):
                text = f"{answer.label} ({answer.score:.2f})" + ("" if right else f", is: {wanted}")
                self.gallery.add(right, _drawn(sample.image, question), text, question.kind)

    def report(self) -> SkillReport:
        """See `Skill.report`."""
        return SkillReport(
            figures={"accuracy": self._tally.overall},
            slices={"prompt": self._tally.slices("accuracy")},
            counts={"regions": self._tally.totals.total()},
        )


class DescriptionSkill(_RegionSkill):
    """F1 of size, colour and kind in what is said about a region."""

    name = "region_description"

    def __init__(self) -> None:
        super().__init__()
        self._whole = BagScore()
        self._prompts = {kind: BagScore() for kind in REGION_KINDS}

    def measure(self, model: Predictor, samples: Sequence[Sample]) -> None:
        """See `Skill.measure`."""
        asked = self._asked(samples)
        answers = cast(RegionPredictor, model).describe(
            [sample.image for sample, _ in asked], [[one.region for one in own] for _, own in asked]
        )
        for sample, question, answer in _pairs(asked, answers):
            wanted, given = attributes(sample.objects[question.index]), said_attributes(answer.text)
            for score in (self._whole, self._prompts[question.kind]):
                score.add(wanted, given)
            right = wanted == given
            if self.gallery.wants(right, question.kind):
                self.gallery.add(right, _drawn(sample.image, question), answer.text, question.kind)

    def report(self) -> SkillReport:
        """See `Skill.report`."""
        return SkillReport(
            figures={"f1": self._whole.f1, "precision": self._whole.precision, "recall": self._whole.recall},
            slices={"prompt": {kind: {"f1": score.f1} for kind, score in self._prompts.items()}},
            counts={"attributes": self._whole.wanted},
        )


class InteractiveSkill(_RegionSkill):
    """Mean overlap of the mask of each region with the object that it marks, per kind of prompt."""

    name = "interactive_segmentation"

    def __init__(self) -> None:
        super().__init__()
        self._overlaps = Overlaps()

    def measure(self, model: Predictor, samples: Sequence[Sample]) -> None:
        """See `Skill.measure`."""
        asked = self._asked(samples)
        answers = cast(RegionPredictor, model).segment_regions(
            [sample.image for sample, _ in asked], [[one.region for one in own] for _, own in asked]
        )
        found: Detection
        for sample, question, found in _pairs(asked, [answer.detections for answer in answers]):
            truth = sample.masks[question.index]
            mask = np.zeros_like(truth) if found.mask is None else found.mask.to_numpy()
            overlap = self._overlaps.add(question.kind, truth, mask)
            right = overlap >= 0.5
            if self.gallery.wants(right, question.kind):
                picture = _tinted(_drawn(sample.image, question), mask)
                self.gallery.add(right, picture, f"{question.kind} (IoU {overlap:.2f})", question.kind)

    def report(self) -> SkillReport:
        """See `Skill.report`."""
        return SkillReport(
            figures={"miou": self._overlaps.mean()},
            slices={"prompt": {kind: {"miou": self._overlaps.mean(kind)} for kind in REGION_KINDS}},
            counts={"regions": sum(map(len, self._overlaps.ratios.values()))},
        )


class InContextSkill(_RegionSkill):
    """Mean overlap of all that is found with all that is of the marked kind, in another picture."""

    name = "in_context_segmentation"

    def __init__(self) -> None:
        super().__init__()
        self._overlaps = Overlaps()

    def measure(self, model: Predictor, samples: Sequence[Sample]) -> None:
        """See `Skill.measure`."""
        cases = [case for sample in samples if (case := in_context_case(sample)) is not None]
        answers = cast(RegionPredictor, model).segment_like(
            [case.sample.image for case in cases],
            [case.question.region for case in cases],
            [case.image for case in cases],
        )
        for case, found in zip(cases, answers, strict=True):
            masks = [one.mask.to_numpy() for one in found if one.mask is not None]
            mask = reduce(np.logical_or, masks, np.zeros_like(case.truth))
            overlap = self._overlaps.add(case.question.kind, case.truth, mask)
            right = overlap >= 0.5
            if self.gallery.wants(right, case.question.kind):
                kind = case.sample.objects[case.question.index].kind
                self.gallery.add(
                    right, found.draw(case.image), f"{kind} (IoU {overlap:.2f})", case.question.kind
                )

    def report(self) -> SkillReport:
        """See `Skill.report`."""
        return SkillReport(
            figures={"miou": self._overlaps.mean()},
            slices={"prompt": {kind: {"miou": self._overlaps.mean(kind)} for kind in self._overlaps.ratios}},
            counts={"pictures": sum(map(len, self._overlaps.ratios.values()))},
        )


@dataclass(frozen=True)
class InContextCase:
    """A marked example, and another picture with things of its kind.

    Attributes:
        sample: the example.
        question: what is marked in it.
        image: the other picture.
        truth: everything of that kind in the other picture. (H, W) bool
    """

    sample: Sample
    question: Question
    image: Image.Image
    truth: BoolArray


def in_context_case(sample: Sample) -> InContextCase | None:
    """A marked object of a picture and a held-out scene that shows its kind; None for an empty picture."""
    asked = questions(sample)
    if not asked:
        return None
    rng = sample.random("in context")
    question = rng.choice(asked)
    kind = sample.objects[question.index].kind
    for _ in range(_TRIES):
        spec = sample_scene(rng.choice(HELD_OUT_SEEDS))
        if any(thing.kind == kind for thing in spec.objects):
            drawn = render(spec)
            return InContextCase(sample, question, drawn.image, _of_kind(spec, drawn.visible, kind))
    return None


def _of_kind(spec: SceneSpec, masks: Masks, kind: str) -> BoolArray:
    meant = np.array([thing.kind == kind for thing in spec.objects])
    found: BoolArray = masks[meant].any(axis=0)
    return found


def attributes(thing: ObjectFacts) -> Counter[str]:
    """What a description should say of an object; figures have neither colour nor size there."""
    words = (thing.size, thing.colour, thing.kind) if thing.colour else (thing.kind,)
    return Counter(words)


def said_attributes(text: str) -> Counter[str]:
    """What a description says; words that are not understood count as one that is never right."""
    said: Counter[str] = Counter()
    for label in named_objects(text):
        if label is None:
            said["?"] += 1
        else:
            said.update(word for word in (label.size, label.colour, label.kind) if word)
    return said


def _pairs(
    asked: Sequence[tuple[Sample, list[Question]]], answers: Sequence[Sequence[Answer]]
) -> Iterator[tuple[Sample, Question, Answer]]:
    """Every question with its answer."""
    for (sample, own), given in zip(asked, answers, strict=True):
        for question, answer in zip(own, given, strict=True):
            yield sample, question, answer


def _drawn(image: Image.Image, question: Question) -> Image.Image:
    from visionllm_sdk.drawing import draw_region

    return draw_region(question.region, image)


def _tinted(image: Image.Image, mask: BoolArray) -> Image.Image:
    from visionllm_sdk.drawing import PALETTE, draw_region
    from visionllm_sdk.geometry import Mask

    return draw_region(Mask.from_numpy(mask), image, PALETTE[1])
