"""The sentences people use for each request: data, not code.

`TRAINING` is what the embedded model learns from, `HELD_OUT` is what the evaluation asks with; no
sentence stands in both. `{x}` is filled by `visionllm_sdk.scenes.language`.
"""

from __future__ import annotations

from collections.abc import Mapping

from visionllm_sdk.scenes.phrases.held_out import HELD_OUT
from visionllm_sdk.scenes.phrases.training import TRAINING
from visionllm_sdk.scenes.phrases.words import (
    FOLLOW_UPS,
    GREETINGS,
    LEADS,
    NOUNS,
    SHORT_ANSWER_HINT,
    SMALL_TALK,
    TAILS,
)

Phrases = Mapping[str, tuple[str, ...]]

__all__ = [
    "FOLLOW_UPS",
    "GREETINGS",
    "HELD_OUT",
    "LEADS",
    "NOUNS",
    "SHORT_ANSWER_HINT",
    "SMALL_TALK",
    "TAILS",
    "TRAINING",
    "Phrases",
]
