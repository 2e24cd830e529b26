"""Which questions are asked about a scene while training: more of what the model still gets wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Final

from visionllm_adapters.recipe.packing import Branch, Packer
from visionllm_sdk.scenes.facts import SceneFacts
from visionllm_sdk.scenes.language import MAKERS, VQA_KINDS, Exchange, follow_up, tool_result
from visionllm_sdk.scenes.phrases import SHORT_ANSWER_HINT, TRAINING, Phrases

_EASY: Final = ("detect", "segment", "mixed", "small_talk")
_ROUTED: Final = ("detect", "segment", "ground", "mixed")


class Curriculum:
    """Draws kinds of questions in proportion to their running error.

    Args:
        floor: share of attention that a perfectly answered kind keeps.
    """

    def __init__(self, floor: float = 0.06) -> None:
        self.floor = floor
        self.error = dict.fromkeys(MAKERS, 1.0)

    def update(self, kind: str, right: bool, *, inertia: float = 0.995) -> None:
        """Take note of one answer. Kinds that are not asked on their own (follow-ups) are ignored."""
        if kind in self.error:
            self.error[kind] = inertia * self.error[kind] + (1 - inertia) * (not right)

    def note(self, scores: Mapping[str, Sequence[bool]]) -> None:
        """Take note of a batch's answers, by kind."""
        for kind, answers in scores.items():
            for right in answers:
                self.update(kind, right)

    def draw(self, rng: Random, count: int) -> list[str]:
        """`count` kinds of questions."""
        weights = [self.floor + error * (0.7 if kind in _EASY else 1.0) for kind, error in self.error.items()]
        return rng.choices(list(self.error), weights, k=count)


def dialogue(kind: str, scene: SceneFacts, rng: Random, phrases: Phrases = TRAINING) -> list[Exchange] | None:
    """One to three exchanges around a question of `kind`; None if the scene allows none."""
    exchange = MAKERS[kind](scene, rng, phrases)
    if exchange is None:
        return None
    if kind in VQA_KINDS and rng.random() < 0.35:
        exchange = _short(exchange)
    turns = [exchange]
    if exchange.final is not None or (kind in _ROUTED and rng.random() < 0.25):
        turns.append(replace(tool_result(scene, rng, exchange), kind=kind))
    if kind in ("detect", "segment") and rng.random() < 0.15:
        turns.append(follow_up(scene, rng, exchange))
    elif rng.random() < 0.08:
        second = MAKERS[rng.choice(tuple(MAKERS))](scene, rng, phrases)
        turns += [second] if second else []
    return turns


def _short(exchange: Exchange) -> Exchange:
    return replace(exchange, question=f"{exchange.question}\n{SHORT_ANSWER_HINT}")


def branches(
    scene: SceneFacts,
    kinds: list[str],
    rng: Random,
    packer: Packer,
    phrases: Phrases = TRAINING,
    *,
    opening: str = "\n",
) -> list[Branch]:
    """The dialogues that `scene` allows among `kinds`, in tokens."""
    drawn = (dialogue(kind, scene, rng, phrases) for kind in kinds)
    return [packer.branch(turns, scene, opening=opening) for turns in drawn if turns is not None]
