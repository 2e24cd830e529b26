"""Questions whose answer is a word or two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from visionllm_sdk.evaluation.predictor import Predictor
from visionllm_sdk.evaluation.report import SkillReport
from visionllm_sdk.evaluation.samples import Sample
from visionllm_sdk.evaluation.skills.base import Skill, chunks
from visionllm_sdk.evaluation.tallies import Tally
from visionllm_sdk.scenes.language import MAKERS, VQA_KINDS, Exchange
from visionllm_sdk.scenes.phrases import HELD_OUT

_TRIES: Final = 4


def questions(sample: Sample) -> list[Exchange]:
    """One question of every kind that the picture allows, in sentences that training never saw."""
    found = []
    for kind in VQA_KINDS:
        rng = sample.random(f"vqa/{kind}")
        tries = (MAKERS[kind](sample.facts, rng, HELD_OUT) for _ in range(_TRIES))
        found += [exchange for exchange in tries if exchange is not None][:1]
    return found


def same_answer(given: str, wanted: str) -> bool:
    """Whether two short answers are the same words; case, blanks and a final stop do not count."""
    return _plain(given) == _plain(wanted)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(". ")


class VqaSkill(Skill):
    """Share of exact answers, over all and per kind of question."""

    name = "vqa"
    examples_of_a_kind = 2

    def __init__(self) -> None:
        super().__init__()
        self._answers = Tally()

    def measure(self, model: Predictor, samples: Sequence[Sample]) -> None:
        """See `Skill.measure`."""
        asked = [(sample, exchange) for sample in samples for exchange in questions(sample)]
        # Questions of one kind have answers of one length, so that no row waits for another.
        asked.sort(key=lambda pair: VQA_KINDS.index(pair[1].kind))
        for part in chunks(asked, len(samples)):
            answers = model.ask([sample.image for sample, _ in part], [e.question for _, e in part])
            for (sample, exchange), answer in zip(part, answers, strict=True):
                right = same_answer(answer.text, exchange.last_words)
                self._answers.add(exchange.kind, right)
                text = f"{exchange.question} {answer.text}"
                text = text if right else f"{text} (is: {exchange.last_words})"
                self.gallery.add(right, sample.image, text, exchange.kind)

    def report(self) -> SkillReport:
        """See `Skill.report`."""
        slices = self._answers.slices("accuracy")
        return SkillReport(
            figures={"accuracy": self._answers.overall},
            slices={"kind": {kind: slices[kind] for kind in VQA_KINDS if kind in slices}},
            counts={"questions": self._answers.totals.total()},
        )
