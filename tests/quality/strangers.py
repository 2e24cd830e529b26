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

import numpy as np

from tests.stranger_pictures import StrangerObject, StrangerScene, stranger_figures, stranger_pictures
from visionllm_sdk.evaluation import held_out_samples, run
from visionllm_sdk.geometry import Mask
from visionllm_sdk.keypoints import COCO
from visionllm_sdk.scenes.facts import FIGURES
from visionllm_sdk.scenes.language import MAKERS, VQA_KINDS

if TYPE_CHECKING:
    from visionllm_sdk import Pose, VisionLLM

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
    "detect_all": {"[DET]"},
    "segment_all": {"[SEG]"},
    "pose_all": {"[DET]", "[POSE]"},
    "bare": {"[DET]"},
    "pointed": {"[GRD]"},
    "owned": {"[DET]", "[POSE]"},
    "hasty_detect": {"[DET]"},
    "hasty_segment": {"[SEG]"},
    "hasty_ground": {"[GRD]"},
}
"""Routing tokens that a kind of request calls for."""
_AT_ONCE: Final = 16
_SKILLS: Final = ("detection", "segmentation", "grounding", "counting", "vqa")


def routed_right(vlm: VisionLLM, *, every: int = 1, manner: str = "requests") -> dict[str, float]:
    """Share of the requests, by kind, that led to the right routing tokens and no other.

    Args:
        vlm: the model.
        every: ask only every so manieth sentence.
        manner: `requests` in whole sentences, or `curt` ones: names alone, of everything at once, misspelt.
    """
    asked = [(kind, text) for kind, texts in WORDINGS[manner].items() for text in texts[::every]]
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
    """Figures of skills on pictures of strangers.

    Args:
        vlm: the model.
        each: pictures of each style.
        skills: names of skills, see `visionllm_sdk.evaluation`.
    """
    report = run(vlm, skills=list(skills), source=list(stranger_pictures(each)), progress=False)
    return {
        f"{name}.{figure}": value
        for name, skill in report.skills.items()
        for figure, value in skill.figures.items()
        if value is not None
    }


def figures_found(vlm: VisionLLM, scenes: Sequence[StrangerScene]) -> dict[str, float]:
    """Share of strangers' persons and dogs that are found (mask IoU above 0.5), and how well their masks fit.

    Args:
        vlm: the model.
        scenes: that show one or both, see `stranger_figures`.
    """
    answers = vlm.detect([scene.image for scene in scenes], list(FIGURES))
    fits: dict[str, list[float]] = {kind: [] for kind in FIGURES}
    for scene, answer in zip(scenes, answers, strict=True):
        for one in scene.objects:
            if one.kind in FIGURES:
                mask = Mask.from_numpy(one.mask)
                hits = [hit.mask.iou(mask) for hit in answer if hit.mask and hit.label == one.kind]
                fits[one.kind].append(max(hits, default=0.0))
    found = {f"{kind}.found": mean(fit > 0.5 for fit in own) for kind, own in fits.items()}
    return found | {f"{kind}.miou": mean(own) for kind, own in fits.items()}


def posed_right(vlm: VisionLLM, scenes: Sequence[StrangerScene]) -> dict[str, float]:
    """Of strangers' persons the share with a pose of OKS above 0.5, of their keypoints the share in place.

    A keypoint is in place within a fifth of the person's longer side (PCK@0.2).

    Args:
        vlm: the model.
        scenes: those without a person are left out.
    """
    scenes = [scene for scene in scenes if any(one.kind == "person" for one in scene.objects)]
    found = vlm.pose([scene.image for scene in scenes], "person", keypoints="coco")
    best = [
        max((_fit(person, pose) for pose in poses), default=(0.0, 0.0))
        for scene, poses in zip(scenes, found, strict=True)
        for person in scene.objects
        if person.kind == "person"
    ]
    oks, pck = np.array(best).T
    return {"pose.oks50": float((oks > 0.5).mean()), "pose.pck": float(pck.mean())}


def _fit(person: StrangerObject, pose: Pose) -> tuple[float, float]:
    """OKS of a pose, and the share of keypoints in place."""
    assert person.keypoints is not None
    wanted = [person.keypoints[name.replace("_", " ")] for name in COCO.names]
    there = np.array([flag > 0 for *_, flag in wanted])
    gaps = np.array([[p.x - x, p.y - y] for p, (x, y, _) in zip(pose.keypoints, wanted, strict=True)])
    far = np.hypot(*gaps.T)[there]
    sigmas = np.array(COCO.sigmas)[there]
    rows, columns = np.nonzero(person.mask)
    side = max(np.ptp(rows), np.ptp(columns)) + 1
    oks = np.exp(-(far**2) / (2 * person.mask.sum() * (2 * sigmas) ** 2))
    return float(oks.mean()), float((far < 0.2 * side).mean())


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
        scenes = stranger_figures(8 * arguments.pictures)
        seen |= figures_found(vlm, scenes) | posed_right(vlm, scenes)
        sys.stdout.write(json.dumps({"pictures": seen}, indent=2) + "\n")
    if arguments.only == "pictures":
        return
    found = {
        "routed": routed_right(vlm),
        "curt": routed_right(vlm, manner="curt"),
        "answered": answered_right(vlm),
    }
    means = {name: mean(kinds.values()) for name, kinds in found.items()}
    sys.stdout.write(json.dumps({**found, "mean": means}, indent=2) + "\n")


if __name__ == "__main__":
    main()
