"""All that can be said about a scene, each with the exact reply that the model should give.

Everything is drawn from a `random.Random`, so that a seed fixes a whole training run. The parts:
`exchange` holds the types, `requests` and `questions` the makers, `reports` what tools answer.
"""

from __future__ import annotations

from typing import Final

from visionllm_sdk.scenes.exchange import Exchange, Link, Maker, RoutingToken, enumerate_words, linked_reply
from visionllm_sdk.scenes.questions import (
    VQA_KINDS,
    colour,
    comparison,
    count,
    existence,
    position,
    shape,
)
from visionllm_sdk.scenes.reports import Sighting, compared, found_sentence, told_sightings, tool_result
from visionllm_sdk.scenes.requests import (
    caption,
    caption_of,
    detect,
    follow_up,
    ground,
    label_of,
    mixed,
    near_miss,
    random_expression,
    random_label,
    request_labels,
    segment,
    small_talk,
)

__all__ = [
    "MAKERS",
    "VQA_KINDS",
    "Exchange",
    "Link",
    "Maker",
    "RoutingToken",
    "Sighting",
    "caption_of",
    "compared",
    "enumerate_words",
    "follow_up",
    "found_sentence",
    "label_of",
    "linked_reply",
    "near_miss",
    "random_expression",
    "random_label",
    "request_labels",
    "told_sightings",
    "tool_result",
]

MAKERS: Final[dict[str, Maker]] = {
    "detect": detect, "segment": segment, "ground": ground, "mixed": mixed, "small_talk": small_talk,
    "caption": caption, "existence": existence, "count": count, "colour": colour, "shape": shape,
    "position": position, "comparison": comparison,
}  # fmt: skip
"""One maker per kind of request; each returns None when the scene does not allow it."""
