"""`[GRD]`: the one thing that a referring expression means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from visionllm_sdk.evaluation.predictor import Predictor
from visionllm_sdk.evaluation.report import SkillReport
from visionllm_sdk.evaluation.samples import Sample
from visionllm_sdk.evaluation.skills.base import Skill, chunks
from visionllm_sdk.evaluation.tallies import Overlaps, Tally
from visionllm_sdk.geometry import Box
from visionllm_sdk.results import Grounding
from visionllm_sdk.scenes.expressions import EXPRESSION_KINDS
from visionllm_sdk.scenes.language import random_expression

_PER_PICTURE = 2


@dataclass(frozen=True, slots=True)
class _Question:
    sample: Sample
    kind: str
    expression: str
    index: int


def expressions(sample: Sample) -> list[tuple[str, str, int]]:
    """Up to two (kind, expression, index of the object meant), of different kinds."""
    rng = sample.random("grounding")
    found = []
    for kind in rng.sample(tuple(EXPRESSION_KINDS), len(EXPRESSION_KINDS)):
        expression = random_expression(sample.facts, rng, (kind,))
        if expression is not None:
            found.append((kind, *expression))
    return found[:_PER_PICTURE]


class GroundingSkill(Skill):
    """Acc@0.5 of the best box; cIoU and gIoU of its mask."""

    name = "grounding"
    examples_of_a_kind = 2

    def __init__(self) -> None:
        super().__init__()
        self._boxes = Tally()
        self._masks = Overlaps()

    def measure(self, model: Predictor, samples: Sequence[Sample]) -> None:
        """See `Skill.measure`."""
        questions = [_Question(sample, *found) for sample in samples for found in expressions(sample)]
        for part in chunks(questions, len(samples)):
            results = model.ground([q.sample.image for q in part], [q.expression for q in part])
            for question, result in zip(part, results, strict=True):
                self._score(question, result)

    def report(self) -> SkillReport:
        """See `Skill.report`."""
        return SkillReport(
            figures={
                "acc50": self._boxes.overall,
                "ciou": self._masks.cumulative(),
                "giou": self._masks.mean(),
            },
            slices={
                "kind": {
                    kind: {
                        "acc50": self._boxes.rate(kind),
                        "ciou": self._masks.cumulative(kind),
                        "giou": self._masks.mean(kind),
                        "cases": self._boxes.totals[kind],
                    }
                    for kind in EXPRESSION_KINDS
                    if kind in self._boxes.totals
                }
            },
            counts={"expressions": self._boxes.totals.total()},
        )

    def _score(self, question: _Question, result: Grounding) -> None:
        truth = question.sample.masks[question.index]
        best = max(result, key=lambda d: d.score, default=None)
        overlap = 0.0 if best is None else best.box.iou(Box(*question.sample.objects[question.index].box))
        found = np.zeros_like(truth) if best is None or best.mask is None else best.mask.to_numpy()
        right = overlap >= 0.5
        self._boxes.add(question.kind, right)
        self._masks.add(question.kind, truth, found)
        if self.gallery.wants(right, question.kind):
            drawn = result.draw(question.sample.image)
            self.gallery.add(right, drawn, f"{question.expression} (IoU {overlap:.2f})", question.kind)
