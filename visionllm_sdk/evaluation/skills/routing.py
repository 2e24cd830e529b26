"""Free routing: which tools the model calls for a sentence, and with which labels."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from visionllm_sdk.evaluation.predictor import Predictor
from visionllm_sdk.evaluation.report import SkillReport
from visionllm_sdk.evaluation.samples import Sample
from visionllm_sdk.evaluation.skills.base import Skill, chunks
from visionllm_sdk.evaluation.tallies import Tally
from visionllm_sdk.results import Reply
from visionllm_sdk.scenes.facts import SceneFacts
from visionllm_sdk.scenes.language import MAKERS, Exchange
from visionllm_sdk.scenes.phrases import HELD_OUT

Call = tuple[str, str]
"""Routing token and label."""

_PER_PICTURE: Final = 3
_TRIES: Final = 4

Maker = Callable[[SceneFacts, Random], Exchange | None]


def _held_out(kind: str) -> Maker:
    return lambda facts, rng: MAKERS[kind](facts, rng, HELD_OUT)


REQUESTS: Final[dict[str, Maker]] = {kind: _held_out(kind) for kind in MAKERS}
"""A maker of sentences for every kind of request, with or without need of a tool."""

_SHARES: Final = {"detect": 3, "segment": 3, "ground": 3, "mixed": 3}
"""Requests for tools are drawn as often as the many kinds that need none."""


def messages(sample: Sample) -> list[Exchange]:
    """Three sentences of different kinds."""
    rng = sample.random("routing")
    found: dict[str, Exchange] = {}
    kinds = [kind for kind in REQUESTS for _ in range(_SHARES.get(kind, 1))]
    rng.shuffle(kinds)
    for kind in kinds:
        tries = (REQUESTS[kind](sample.facts, rng) for _ in range(_TRIES))
        exchange = next((made for made in tries if made is not None and not means_either(made)), None)
        if exchange is not None:
            found.setdefault(kind, exchange)
        if len(found) == _PER_PICTURE:
            break
    return list(found.values())


def means_either(exchange: Exchange) -> bool:
    """Whether a sentence asks for a class as if for one known thing, as in "find the red circle".

    `[DET]` with the label and `[GRD]` with the expression are both right then, so it measures nothing.
    """
    labels = [link.text for link in exchange.links if link.token == "[DET]"]
    return len(labels) == 1 and bool(re.search(rf"\bthe {re.escape(labels[0])}\b", exchange.question.lower()))


def wanted_calls(exchange: Exchange) -> list[Call]:
    """Tokens and labels that the sentence asks for, in its order."""
    return [(link.token, _plain(link.text)) for link in exchange.links]


def given_calls(reply: Reply) -> list[Call]:
    """Tokens and labels of a reply, in its order."""
    return [(call.token, _plain(label)) for call in reply.calls for label in call.labels]


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def tokens_of(calls: Sequence[Call]) -> str:
    """The routing tokens of a reply, each once: "[DET]", "[DET] [SEG]", "none"."""
    return " ".join(dict.fromkeys(token for token, _ in calls)) or "none"


class RoutingSkill(Skill):
    """Share of sentences whose tokens and labels are all right, in order."""

    name = "routing"
    examples_of_a_kind = 2
    kinds: tuple[str, ...] = tuple(REQUESTS)

    def __init__(self) -> None:
        super().__init__()
        self._exact = Tally()
        self._tokens = Tally()
        self._confusion: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def measure(self, model: Predictor, samples: Sequence[Sample]) -> None:
        """See `Skill.measure`."""
        asked = [(sample, exchange) for sample in samples for exchange in messages(sample)]
        for part in chunks(asked, len(samples)):
            replies = model.chat([e.question for _, e in part], [[sample.image] for sample, _ in part])
            for (sample, exchange), reply in zip(part, replies, strict=True):
                self._score(sample, exchange, reply)

    def report(self) -> SkillReport:
        """See `Skill.report`."""
        return SkillReport(
            figures={"exact": self._exact.overall, "tokens_exact": self._tokens.overall},
            slices={
                "kind": {
                    kind: {
                        "exact": self._exact.rate(kind),
                        "tokens_exact": self._tokens.rate(kind),
                        "cases": self._exact.totals[kind],
                    }
                    for kind in self.kinds
                    if kind in self._exact.totals
                }
            },
            counts={"sentences": self._exact.totals.total()},
            tables={"tokens": {row: dict(columns) for row, columns in sorted(self._confusion.items())}},
        )

    def _score(self, sample: Sample, exchange: Exchange, reply: Reply) -> None:
        wanted, given = wanted_calls(exchange), given_calls(reply)
        right = wanted == given
        self._exact.add(exchange.kind, right)
        self._tokens.add(exchange.kind, [token for token, _ in wanted] == [token for token, _ in given])
        self._confusion[tokens_of(wanted)][tokens_of(given)] += 1
        spelt = ", ".join(f"{label}{token}" for token, label in given) or reply.text
        text = f"{exchange.question} -> {spelt}"
        if not right:
            text += f" (is: {', '.join(f'{label}{token}' for token, label in wanted) or 'no tool'})"
        self.gallery.add(right, sample.image, text, exchange.kind)
