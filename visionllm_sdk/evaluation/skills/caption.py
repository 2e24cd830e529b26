"""What a caption names against what the picture shows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from visionllm_sdk.evaluation.predictor import Predictor
from visionllm_sdk.evaluation.report import SkillReport
from visionllm_sdk.evaluation.samples import Sample
from visionllm_sdk.evaluation.skills.base import Skill
from visionllm_sdk.evaluation.tallies import BagScore, share
from visionllm_sdk.scenes.facts import FIGURES
from visionllm_sdk.scenes.labels import Label, parse_label

_BETWEEN: Final = re.compile(r",|\band\b")
_NOTHING: Final = {"", "nothing"}

_VIEWS: Final[dict[str, Callable[[Label], str]]] = {
    "f1": lambda label: label.text,
    "f1_colour_kind": lambda label: Label(label.kind, label.colour).text,
    "f1_kind": lambda label: label.kind,
}
"""How much of an object's name must be right: all of it (size, colour, kind), or less."""


def named_objects(caption: str) -> list[Label | None]:
    """The objects of a caption such as "A large red circle and a dog."; None for words not understood."""
    parts = (part.strip(" .\n") for part in _BETWEEN.split(caption.lower()))
    return [_read(part) for part in parts if part not in _NOTHING]


def shown_objects(sample: Sample) -> list[Label]:
    """The objects of a picture as a caption should name them; figures have neither colour nor size there."""
    return [
        Label(thing.kind, thing.colour, thing.size) if thing.colour else Label(thing.kind)
        for thing in sample.objects
    ]


def _read(text: str) -> Label | None:
    label = parse_label(text)
    if label is not None and label.kind in FIGURES:
        return Label(label.kind)
    return label


def bag(labels: Sequence[Label | None], view: Callable[[Label], str]) -> Counter[str]:
    """Names with their numbers; what was not understood counts as something that is never there."""
    return Counter("?" if label is None else view(label) for label in labels)


class CaptionSkill(Skill):
    """F1 of the named objects over all pictures; an object counts as often as it is there."""

    name = "caption"

    def __init__(self) -> None:
        super().__init__()
        self._scores = {view: BagScore() for view in _VIEWS}
        self._exact = 0
        self._pictures = 0

    def measure(self, model: Predictor, samples: Sequence[Sample]) -> None:
        """See `Skill.measure`."""
        answers = model.caption([sample.image for sample in samples])
        for sample, answer in zip(samples, answers, strict=True):
            self._score(sample, answer.text)

    def report(self) -> SkillReport:
        """See `Skill.report`."""
        whole = self._scores["f1"]
        return SkillReport(
            figures={
                **{view: score.f1 for view, score in self._scores.items()},
                "precision": whole.precision,
                "recall": whole.recall,
                "exact": share(self._exact, self._pictures),
            },
            counts={"pictures": self._pictures, "objects": whole.wanted},
        )

    def _score(self, sample: Sample, text: str) -> None:
        wanted, given = shown_objects(sample), named_objects(text)
        for view, score in self._scores.items():
            score.add(bag(wanted, _VIEWS[view]), bag(given, _VIEWS[view]))
        right = bag(wanted, _VIEWS["f1"]) == bag(given, _VIEWS["f1"])
        self._exact += right
        self._pictures += 1
        if not right:
            text += f" Wrong: {_difference(given, wanted)}; left out: {_difference(wanted, given)}."
        self.gallery.add(right, sample.image, text)


def _difference(some: Sequence[Label | None], others: Sequence[Label | None]) -> str:
    """The names that one bag has over another."""
    left = bag(some, _VIEWS["f1"]) - bag(others, _VIEWS["f1"])
    return ", ".join(sorted(left.elements())) or "nothing"
