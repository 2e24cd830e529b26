"""How far the model understands sentences that were written without sight of those it learnt from.

The sentences of `wordings.json` were written for this test alone: training must never see them, except for
the few commonest that everybody says. `HELD_OUT` tells whether skills hold in sentences much like those of
training, this whether they hold in anybody's. `python -m tests.quality.strangers` asks all of them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from itertools import cycle
from pathlib import Path
from random import Random
from statistics import mean
from typing import TYPE_CHECKING, Final

from visionllm_sdk.evaluation import held_out_samples
from visionllm_sdk.scenes.language import MAKERS, VQA_KINDS

if TYPE_CHECKING:
    from visionllm_sdk import VisionLLM

WORDINGS: Final[dict[str, dict[str, list[str]]]] = json.loads(
    (Path(__file__).parent / "wordings.json").read_text(encoding="utf-8")
)
WANTED: Final = {
    "whole_pose": {"[DET]", "[POSE]"},
    "pose": {"[DET]", "[POSE]"},
    "detect": {"[DET]"},
    "segment": {"[SEG]"},
    "ground": {"[GRD]"},
    "count": {"[DET]"},
    "caption": set[str](),
    "small_talk": set[str](),
}
"""Routing tokens that a kind of request calls for."""
_AT_ONCE: Final = 16


def routed_right(vlm: VisionLLM, *, every: int = 1) -> dict[str, float]:
    """Share of the requests, by kind, that led to the right routing tokens and no other.

    Args:
        vlm: the model.
        every: ask only every so manieth sentence.
    """
    asked = [(kind, text) for kind, texts in WORDINGS["requests"].items() for text in texts[::every]]
    pictures = cycle([sample.image for sample in held_out_samples(8)])
    right: dict[str, list[bool]] = defaultdict(list)
    for start in range(0, len(asked), _AT_ONCE):
        part = asked[start : start + _AT_ONCE]
        replies = vlm.chat([text for _, text in part], [[next(pictures)] for _ in part])
        for (kind, _), reply in zip(part, replies, strict=True):
            right[kind].append({call.token for call in reply.calls} == WANTED[kind])
    return {kind: sum(found) / len(found) for kind, found in right.items()}


def answered_right(vlm: VisionLLM, *, scenes: int = 60) -> dict[str, float]:
    """Share of the questions about held-out scenes, by kind, whose answer is exact.

    Args:
        vlm: the model.
        scenes: two questions of each kind about each, where it allows them.
    """
    phrases = {kind: tuple(texts) for kind, texts in WORDINGS["questions"].items()}
    rng = Random(5)
    right: dict[str, list[bool]] = defaultdict(list)
    asked = []
    for sample in held_out_samples(scenes):
        for kind in VQA_KINDS * 2:
            exchange = MAKERS[kind](sample.facts, rng, phrases)
            if exchange is not None:
                asked.append((sample.image, exchange))
    for start in range(0, len(asked), _AT_ONCE):
        part = asked[start : start + _AT_ONCE]
        answers = vlm.ask([image for image, _ in part], [exchange.question for _, exchange in part])
        for (_, exchange), answer in zip(part, answers, strict=True):
            right[exchange.kind].append(answer.text.lower().rstrip(".") == exchange.last_words)
    return {kind: sum(found) / len(found) for kind, found in right.items()}


def main() -> None:
    """Ask everything, and print the shares as JSON."""
    from visionllm_sdk import VisionLLM

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="checkpoint folder; the embedded model by default")
    vlm = VisionLLM.from_pretrained(parser.parse_args().model)
    found = {"routed": routed_right(vlm), "answered": answered_right(vlm)}
    means = {name: mean(kinds.values()) for name, kinds in found.items()}
    sys.stdout.write(json.dumps({**found, "mean": means}, indent=2) + "\n")


if __name__ == "__main__":
    main()
