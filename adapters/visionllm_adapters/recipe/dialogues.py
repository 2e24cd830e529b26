"""Which questions are asked about a scene while training: more of what the model still gets wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Final

from visionllm_adapters.recipe.packing import Branch, Packer
from visionllm_sdk.scenes.drawing_language import DRAWING_HELD_OUT, DRAWING_MAKERS, DRAWING_TRAINING
from visionllm_sdk.scenes.facts import SceneFacts
from visionllm_sdk.scenes.language import MAKERS, VQA_KINDS, Exchange, Maker, follow_up, tool_result
from visionllm_sdk.scenes.phrases import HELD_OUT, SHORT_ANSWER_HINT, TRAINING, Phrases
from visionllm_sdk.scenes.pose_language import POSE_HELD_OUT, POSE_MAKERS, POSE_TRAINING
from visionllm_sdk.scenes.region_language import REGION_HELD_OUT, REGION_MAKERS, REGION_TRAINING
from visionllm_sdk.scenes.survey import SURVEY_HELD_OUT, SURVEY_TRAINING, survey

_SURVEYS: Final[dict[str, Maker]] = {"survey": survey}
ALL_MAKERS: Final[dict[str, Maker]] = {**MAKERS, **_SURVEYS, **POSE_MAKERS, **REGION_MAKERS, **DRAWING_MAKERS}
"""Makers of every kind of request."""
SKILLS: Final[dict[str, dict[str, Maker]]] = {
    "pose": POSE_MAKERS,
    "regions": REGION_MAKERS,
    "drawing": DRAWING_MAKERS,
}
"""Makers of what can be left out."""
SPOKEN: Final[dict[str, Phrases]] = {
    "survey": SURVEY_TRAINING,
    **dict.fromkeys(POSE_MAKERS, POSE_TRAINING),
    **dict.fromkeys(REGION_MAKERS, REGION_TRAINING),
    **dict.fromkeys(DRAWING_MAKERS, DRAWING_TRAINING),
}
"""Sentences to train with, of the kinds that have their own."""
SPOKEN_ELSEWHERE: Final[dict[str, Phrases]] = {
    "survey": SURVEY_HELD_OUT,
    **dict.fromkeys(POSE_MAKERS, POSE_HELD_OUT),
    **dict.fromkeys(REGION_MAKERS, REGION_HELD_OUT),
    **dict.fromkeys(DRAWING_MAKERS, DRAWING_HELD_OUT),
}
"""Sentences that training never uses, of the kinds that have their own."""
_SHARES: Final = {
    **dict.fromkeys(("detect", "segment", "mixed", "small_talk"), 0.7),
    "survey": 0.35,
    "pose": 0.6,
    "whole_pose": 0.6,
    "describe": 0.5,
    "recognise": 0.6,
    "interactive": 0.4,
    "in_context": 0.25,
    "region_question": 0.6,
    "generate": 0.1,
    "edit": 0.15,
}
"""Attention that a kind's errors get: less where words alone decide, or where chance draws the answer."""
_SHOWN: Final = ("survey", "describe", "recognise", "interactive", "in_context", "region_question")
"""Kinds that need an image."""
_ROUTED: Final = ("detect", "segment", "ground", "mixed")
_IN_WORDS: Final = (*VQA_KINDS, "region_question")


def kinds_of(skills: Iterable[str]) -> list[str]:
    """Kinds of requests of the first skills and of those named."""
    return [*MAKERS, *_SURVEYS, *(kind for skill in skills for kind in SKILLS[skill])]


class Curriculum:
    """Draws kinds of questions in proportion to their running error.

    Args:
        kinds: that are asked at all.
        floor: share of attention that a perfectly answered kind keeps.
    """

    def __init__(self, kinds: Iterable[str] = ALL_MAKERS, floor: float = 0.06) -> None:
        self.floor = floor
        self.error = dict.fromkeys(kinds, 1.0)

    def resume(self, error: Mapping[str, float]) -> None:
        """Take over an earlier run's errors, of the kinds that are still asked."""
        self.error |= {kind: error[kind] for kind in self.error if kind in error}

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
        weights = [_SHARES.get(kind, 1.0) * (self.floor + error) for kind, error in self.error.items()]
        return rng.choices(list(self.error), weights, k=count)


def dialogue(kind: str, scene: SceneFacts, rng: Random, *, held_out: bool = False) -> list[Exchange] | None:
    """One to three exchanges around a question of `kind`; None if the scene allows none.

    Args:
        kind: a key of `ALL_MAKERS`.
        scene: what is asked about.
        rng: chooses everything.
        held_out: ask in sentences that training never uses.
    """
    plain = HELD_OUT if held_out else TRAINING
    phrases = (SPOKEN_ELSEWHERE if held_out else SPOKEN).get(kind, plain)
    exchange = ALL_MAKERS[kind](scene, rng, phrases)
    if exchange is None:
        return None
    routed = bool(exchange.links) and exchange.final is None
    if kind in _IN_WORDS and not routed and rng.random() < 0.35:
        exchange = _short(exchange)
    turns = [exchange]
    # When two things are pointed at, a sentence ends it; when a question needs both, a word does.
    told = 0.7 if kind == "ground" and len(exchange.links) == 2 else 0.25
    if exchange.final is not None or (kind in _ROUTED and rng.random() < told):
        turns.append(replace(tool_result(scene, rng, exchange), kind=kind))
    elif kind in (*POSE_MAKERS, *_SURVEYS) and rng.random() < 0.25:
        # Of keypoints nothing is told: only whose they are, and how many.
        figures = replace(exchange, answer=tuple(link for link in exchange.links if link.token != "[POSE]"))
        turns.append(replace(tool_result(scene, rng, figures), kind=kind))
    if kind in ("detect", "segment") and rng.random() < 0.15:
        turns.append(follow_up(scene, rng, exchange))
    elif rng.random() < 0.08:
        second = MAKERS[rng.choice(tuple(MAKERS))](scene, rng, plain)
        turns += [second] if second else []
    return turns


def _short(exchange: Exchange) -> Exchange:
    return replace(exchange, question=f"{exchange.question}\n{SHORT_ANSWER_HINT}")


def branches(
    scene: SceneFacts,
    kinds: list[str],
    rng: Random,
    packer: Packer,
    *,
    held_out: bool = False,
    opening: str = "\n",
    other: int = 0,
) -> list[Branch]:
    """The dialogues that `scene` allows among `kinds`, in tokens.

    Args:
        scene: what is asked about.
        kinds: keys of `ALL_MAKERS`.
        rng: chooses everything.
        packer: text to tokens.
        held_out: ask in sentences that training never uses.
        opening: stands before the first question; empty if there is no image.
        other: row of the batch whose image a second image shows.
    """
    kinds = kinds if opening else [kind for kind in kinds if kind not in _SHOWN]
    drawn = (dialogue(kind, scene, rng, held_out=held_out) for kind in kinds)
    return [packer.branch(turns, scene, opening=opening, other=other) for turns in drawn if turns is not None]
