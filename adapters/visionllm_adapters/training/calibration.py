"""Scores that mean after training what they meant before.

What counts as found depends on where scores lie. New classes move the scores of all that a detector knew, by
about the same number of logits, and a threshold that was right finds less. The move is measured on scenes of
the embedded model's own training, and taken back by a constant (Platt scaling with a slope of 1).
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

import torch
from PIL import Image

from visionllm_adapters.training.replay_scenes import replayed_scene
from visionllm_sdk.geometry import Box
from visionllm_sdk.model.assembly import Model
from visionllm_sdk.results import Detections

if TYPE_CHECKING:
    from visionllm_sdk import VisionLLM

TOOL: Final = "detect"
_SCENES: Final = 48
_SEED: Final = 5
_LOWEST: Final = 0.02
_OVERLAP: Final = 0.5
_FEWEST: Final = 8
"""Known things that must have been found before and after, for their scores to be compared."""
_LARGEST: Final = 3.0
"""Largest shift in logits; beyond it the detector is broken rather than shifted."""


def known_scores(vlm: VisionLLM) -> list[float | None]:
    """Logits of things in fixed scenes, each scene asked for one kind; None where a thing is not found.

    Args:
        vlm: the model as it is now.
    """
    scenes = list(_scenes())
    found = vlm.detect(
        [image for image, _, _ in scenes],
        [[label] for _, label, _ in scenes],
        threshold=_LOWEST,
        masks=False,
    )
    return [
        _logit_of(box, detections)
        for (_, _, boxes), detections in zip(scenes, found, strict=True)
        for box in boxes
    ]


def _scenes() -> Iterator[tuple[Image.Image, str, list[Box]]]:
    """Pictures, a kind of thing that is there, and the boxes of all things of this kind."""
    random = Random(_SEED)
    for _ in range(_SCENES):
        known, image = replayed_scene(random)
        kinds = [thing.kind for thing in known.spec.objects]
        if kinds:
            kind = random.choice(kinds)
            yield image, kind, [Box(*known.boxes[n].tolist()) for n, one in enumerate(kinds) if one == kind]


def _logit_of(box: Box, found: Detections) -> float | None:
    scores = [one.score for one in found if one.box.iou(box) >= _OVERLAP]
    return float(torch.tensor(max(scores)).logit(eps=1e-4)) if scores else None


def shift_between(before: Sequence[float | None], after: Sequence[float | None]) -> float:
    """What has to be added to the logits after training, so that their median is what it was.

    Args:
        before: of `known_scores`.
        after: the same things.

    Returns:
        0 where too little was found to tell.
    """
    both = [(one, two) for one, two in zip(before, after, strict=True) if one is not None and two is not None]
    if len(both) < _FEWEST:
        return 0.0
    shift = statistics.median(one - two for one, two in both)
    return min(max(shift, -_LARGEST), _LARGEST)


def shift_scores(model: Model, shift: float) -> None:
    """Add a constant to the class logits of the detector."""
    decoder: Any = model.tools[TOOL].decoder
    config = decoder.config
    decoder.config = replace(config, logit_bias=config.logit_bias + shift)


def kept_scores(vlm: VisionLLM, place: Path) -> list[float | None]:
    """`known_scores` of the model before training, kept in a file for a run that goes on later."""
    if place.is_file():
        return list(json.loads(place.read_text(encoding="utf-8")))
    scores = known_scores(vlm)
    place.write_text(json.dumps(scores), encoding="utf-8")
    return scores
