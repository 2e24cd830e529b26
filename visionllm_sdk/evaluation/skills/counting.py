"""How many: counts of a label, with the boxes that were counted."""

from __future__ import annotations

from collections.abc import Sequence

from visionllm_sdk.evaluation.predictor import Predictor
from visionllm_sdk.evaluation.report import SkillReport
from visionllm_sdk.evaluation.samples import Sample
from visionllm_sdk.evaluation.skills.base import Skill, chunks
from visionllm_sdk.evaluation.tallies import Tally, share
from visionllm_sdk.results import Count
from visionllm_sdk.scenes.labels import Label
from visionllm_sdk.scenes.language import label_of, near_miss

_PER_PICTURE = 2
_MANY = 4


def counted_labels(sample: Sample) -> list[Label]:
    """Two labels to count: mostly wide ones, one in five a near miss."""
    rng = sample.random("counting")
    labels: dict[str, Label] = {}
    while len(labels) < _PER_PICTURE:
        roll = rng.random()
        if roll < 0.2 or not sample.objects:
            label = near_miss(sample.facts, rng)
        elif roll < 0.35:
            label = Label()
        else:
            thing = rng.choice(sample.objects)
            wide = Label(colour=thing.colour) if roll < 0.55 and thing.colour else Label(thing.kind)
            label = wide if roll < 0.75 else label_of(thing, rng)
        labels.setdefault(label.text, label)
    return list(labels.values())


class CountingSkill(Skill):
    """Share of exact counts, and mean absolute error."""

    name = "counting"

    def __init__(self) -> None:
        super().__init__()
        self._exact = Tally()
        self._errors: list[int] = []

    def measure(self, model: Predictor, samples: Sequence[Sample]) -> None:
        """See `Skill.measure`."""
        questions = [(sample, label) for sample in samples for label in counted_labels(sample)]
        for part in chunks(questions, len(samples)):
            results = model.count([sample.image for sample, _ in part], [label.text for _, label in part])
            for (sample, label), result in zip(part, results, strict=True):
                self._score(sample, label, result)

    def report(self) -> SkillReport:
        """See `Skill.report`."""
        return SkillReport(
            figures={
                "exact": self._exact.overall,
                "mae": share(sum(self._errors), len(self._errors)),
            },
            slices={"count": dict(sorted(self._exact.slices("exact").items()))},
            counts={"questions": len(self._errors)},
        )

    def _score(self, sample: Sample, label: Label, result: Count) -> None:
        wanted = len(sample.bearers(label))
        self._exact.add(str(wanted) if wanted < _MANY else f"{_MANY} or more", result.count == wanted)
        self._errors.append(abs(result.count - wanted))
        if self.gallery.wants(result.count == wanted):
            self.gallery.add(
                result.count == wanted,
                result.draw(sample.image),
                f"{label.text}: {result.count}, is {wanted}",
            )
