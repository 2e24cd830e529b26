"""How far the model understands sentences and pictures that were made without sight of what it learnt from.

The sentences of `wordings.json` were written, and the pictures of `tests.stranger_pictures` are drawn, for
this test alone: training must never see them, except for the few commonest sentences that everybody says.
`HELD_OUT` tells whether skills hold in sentences much like those of training, this whether they hold in
anybody's.
`python -m tests.quality.strangers` asks all of them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from random import Random
from statistics import mean
from typing import TYPE_CHECKING, Final

from tests.stranger_pictures import stranger_pictures
from visionllm_sdk.evaluation import held_out_samples, run
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
_SKILLS: Final = ("detection", "segmentation", "grounding", "counting", "vqa")


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


def seen_right(vlm: VisionLLM, *, each: int, skills: Sequence[str]) -> dict[str, float]:
    """Figures on pictures of strangers, also of each kind of thing that is to be found.

    Args:
        vlm: the model.
        each: pictures of each style.
        skills: names of skills, see `visionllm_sdk.evaluation`.
    """
    report = run(vlm, skills=list(skills), source=list(stranger_pictures(each)), progress=False)
    found = {
        f"{name}.{figure}": value
        for name, skill in report.skills.items()
        for figure, value in skill.figures.items()
        if value is not None
    }
    if "detection" in report.skills:
        for kind, figures in report.skills["detection"].slices["kind"].items():
            found |= {f"detection.{kind}.{name}": figures[name] for name in ("box_ap50", "mask_ap50")}
    return found


def main() -> None:
    """Ask everything, and print the shares as JSON."""
    from visionllm_sdk import VisionLLM

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="checkpoint folder; the embedded model by default")
    parser.add_argument("--pictures", type=int, default=16, help="of each style")
    parser.add_argument(
        "--only", choices=("words", "pictures"), help="ask only with strangers' ones of these"
    )
    arguments = parser.parse_args()
    vlm = VisionLLM.from_pretrained(arguments.model)
    if arguments.only != "words":
        seen = seen_right(vlm, each=arguments.pictures, skills=_SKILLS)
        sys.stdout.write(json.dumps({"pictures": seen}, indent=2) + "\n")
    if arguments.only == "pictures":
        return
    found = {"routed": routed_right(vlm), "answered": answered_right(vlm)}
    means = {name: mean(kinds.values()) for name, kinds in found.items()}
    sys.stdout.write(json.dumps({**found, "mean": means}, indent=2) + "\n")


if __name__ == "__main__":
    main()
