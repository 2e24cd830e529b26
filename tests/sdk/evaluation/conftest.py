"""A predictor that knows the truth, so that the figures of an evaluation have known values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visionllm_sdk.evaluation.samples import Sample, held_out_samples
from visionllm_sdk.evaluation.skills import routing, vqa
from visionllm_sdk.results import (
    Answer,
    Box,
    Count,
    Detection,
    Detections,
    Grounding,
    Mask,
    Reply,
    RoutedCall,
    SemanticMap,
)
from visionllm_sdk.scenes import HELD_OUT_SEEDS
from visionllm_sdk.scenes.expressions import EXPRESSION_KINDS
from visionllm_sdk.scenes.labels import parse_label
from visionllm_sdk.scenes.language import caption_of

Images = Sequence[Image.Image]


class Oracle:
    """Answers from the truth of the samples it was given.

    Args:
        samples: the pictures that it may be asked about.
        wrong: tells by the number of a question (0, 1, ... per method) whether to get it wrong.
    """

    def __init__(self, samples: Sequence[Sample], wrong: Callable[[int], bool] = lambda _: False) -> None:
        self.samples = {id(sample.image): sample for sample in samples}
        self.wrong = wrong
        self.asked: dict[str, int] = {}
        self.largest = 0

    def _each(self, name: str, images: Images, values: Sequence[Any]) -> list[tuple[Sample, Any, bool]]:
        assert len(images) == len(values)
        self.largest = max(self.largest, len(images))
        start = self.asked.get(name, 0)
        self.asked[name] = start + len(images)
        return [
            (self.samples[id(image)], value, self.wrong(start + place))
            for place, (image, value) in enumerate(zip(images, values, strict=True))
        ]

    def _detection(self, sample: Sample, index: int, label: str, score: float = 0.9) -> Detection:
        thing, mask = sample.objects[index], sample.masks[index]
        return Detection(label=label, score=score, box=Box(*thing.box), mask=Mask.from_numpy(mask))

    def _ghost(self, sample: Sample, label: str, score: float) -> Detection:
        mask = np.zeros((sample.facts.height, sample.facts.width), dtype=bool)
        mask[:2, :2] = True
        return Detection(label=label, score=score, box=Box(0, 0, 2, 2), mask=Mask.from_numpy(mask))

    def detect(
        self,
        image: Images,
        labels: Sequence[Sequence[str]],
        *,
        threshold: float | None = None,
        masks: bool = True,
    ) -> list[Detections]:
        """Wrong: a ghost in the corner for every label, surer than what is there."""
        floor = 0.5 if threshold is None else threshold
        return [
            Detections(
                width=sample.facts.width,
                height=sample.facts.height,
                labels=tuple(asked),
                detections=tuple(
                    detection if masks else detection.model_copy(update={"mask": None})
                    for text in asked
                    for detection in (
                        *([self._ghost(sample, text, 0.95)] if wrong else []),
                        *(self._detection(sample, i, text) for i in sample.bearers(parse_label(text))),
                        self._ghost(sample, text, 0.03),
                    )
                    if detection.score >= floor
                ),
            )
            for sample, asked, wrong in self._each(f"detect {threshold}", image, labels)
        ]

    def segment(self, image: Images, labels: Sequence[Sequence[str]]) -> list[SemanticMap]:
        """Wrong: nothing is labelled."""
        maps = []
        for sample, asked, wrong in self._each("segment", image, labels):
            pixels = np.full((sample.facts.height, sample.facts.width), -1)
            for number, text in enumerate(() if wrong else asked):
                for index in sample.bearers(parse_label(text)):
                    pixels[sample.masks[index]] = number
            maps.append(SemanticMap.from_numpy(pixels, tuple(asked)))
        return maps

    def ground(self, image: Images, expression: Sequence[str]) -> list[Grounding]:
        """Wrong: nothing is found."""
        return [
            Grounding(
                width=sample.facts.width,
                height=sample.facts.height,
                expression=text,
                labels=(text,),
                detections=() if wrong else (self._detection(sample, _meant(sample, text), text),),
            )
            for sample, text, wrong in self._each("ground", image, expression)
        ]

    def count(self, image: Images, label: Sequence[str]) -> list[Count]:
        """Wrong: two too many."""
        results = []
        for sample, text, wrong in self._each("count", image, label):
            (found,) = self.detect([sample.image], [[text]])
            hits = len(sample.bearers(parse_label(text)))
            size = {"width": found.width, "height": found.height}
            results.append(Count(label=text, count=hits + 2 * wrong, detections=found, **size))
        return results

    def ask(self, image: Images, question: Sequence[str]) -> list[Answer]:
        """Wrong: an answer that no question has."""
        answers = []
        for sample, text, wrong in self._each("ask", image, question):
            right = _answers(sample.key)[text]
            answers.append(Answer(text="perhaps" if wrong else right.capitalize() + "."))
        return answers

    def caption(self, image: Images) -> list[Answer]:
        """Wrong: an empty picture."""
        return [
            Answer(text="Nothing." if wrong else caption_of(sample.facts))
            for sample, _, wrong in self._each("caption", image, image)
        ]

    def chat(self, text: Sequence[str], images: Sequence[Images]) -> list[Reply]:
        """Wrong: a call of `[SEG]` for a label that nobody named."""
        replies = []
        for sample, sentence, wrong in self._each("chat", [one for (one,) in images], text):
            exchange = next(e for e in routing.messages(sample) if e.question == sentence)
            calls = [(link.token, link.text) for link in exchange.links]
            replies.append(
                Reply(
                    text=exchange.text,
                    calls=tuple(
                        RoutedCall(token=token, tool="detect", labels=(label,), probability=0.9)
                        for token, label in ([("[SEG]", "unicorn")] if wrong else calls)
                    ),
                )
            )
        return replies


@cache
def _answers(key: str) -> dict[str, str]:
    """The answers to the questions about a held-out scene."""
    (sample,) = held_out_samples(1, start=int(key) - HELD_OUT_SEEDS.start)
    return {exchange.question: exchange.last_words for exchange in vqa.questions(sample)}


def _meant(sample: Sample, text: str) -> int:
    """The object that an expression of the scene's own language means."""
    return next(
        index
        for index in range(len(sample.objects))
        if any(text in kind(index, sample.facts) for kind in EXPRESSION_KINDS.values())
    )


@pytest.fixture(scope="session")
def held_out() -> list[Sample]:
    """Twelve held-out scenes."""
    return list(held_out_samples(12))


@pytest.fixture(scope="session")
def oracle(held_out: list[Sample]) -> Callable[..., Oracle]:
    """Makes a predictor that knows the truth of the twelve scenes."""

    def make(wrong: Callable[[int], bool] = lambda _: False) -> Oracle:
        return Oracle(held_out, wrong)

    return make
