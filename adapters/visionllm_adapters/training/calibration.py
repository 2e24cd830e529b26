"""Scores that mean after training what they meant before.

What counts as found depends on where scores lie. New classes move the scores of all that a detector knew, and
a threshold that was right finds too little or too much. The move is measured on scenes of the embedded
model's own training, and taken back by a constant (Platt scaling with a slope of 1): as much is found as
before.

The move of surely known things would not do: new classes lower these most, and what is doubtful least. Taken
back by their median, it made counts of the base's shapes fall from .935 to .84 exact, all of them too many.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

import torch
from PIL import Image

from visionllm_adapters.training.replay_scenes import replayed_scene
from visionllm_adapters.training.state import write_json
from visionllm_sdk.model.assembly import Model
from visionllm_sdk.scenes.facts import FIGURES, SHAPES

if TYPE_CHECKING:
    from visionllm_sdk import VisionLLM

TOOL: Final = "detect"
_SCENES: Final = 64
_SEED: Final = 5
_LOWEST: Final = 0.02
_FEWEST: Final = 8
"""Things that must have been found before, for scores to be compared."""
_LARGEST: Final = 3.0
"""Largest shift in logits; beyond it the detector is broken rather than shifted."""


def known_scores(vlm: VisionLLM) -> list[float]:
    """Logits of all that is found, however doubtful, when fixed scenes are asked for single kinds.

    Args:
        vlm: the model as it is now.
    """
    asked = list(_questions())
    images, labels = [image for image, _ in asked], [[label] for _, label in asked]
    found = vlm.detect(images, labels, threshold=_LOWEST, masks=False)
    return torch.tensor([one.score for part in found for one in part]).logit(eps=1e-4).tolist()


def _questions() -> Iterator[tuple[Image.Image, str]]:
    """Pictures with a kind of thing that is there, and with any kind."""
    random = Random(_SEED)
    for _ in range(_SCENES):
        known, image = replayed_scene(random)
        kinds = [thing.kind for thing in known.spec.objects]
        if kinds:
            yield image, random.choice(kinds)
        yield image, random.choice((*SHAPES, *FIGURES))


def shift_between(before: Sequence[float], after: Sequence[float], *, limit: float) -> float:
    """What has to be added to the logits after training, so that as many are above the limit as before.

    Args:
        before: of `known_scores`.
        after: of the same questions.
        limit: logit from which something counts as found.

    Returns:
        0 where too little was found to tell.
    """
    wanted, ranked = sum(one >= limit for one in before), sorted(after, reverse=True)
    if wanted < _FEWEST or not ranked:
        return 0.0
    # Between the last that is to be found and the first that is not.
    around = ranked[min(wanted, len(ranked)) - 1 : wanted + 1]
    return min(max(limit - sum(around) / len(around), -_LARGEST), _LARGEST)


def shift_scores(model: Model, shift: float) -> None:
    """Add a constant to the class logits of the detector."""
    decoder: Any = model.tools[TOOL].decoder
    config = decoder.config
    decoder.config = replace(config, logit_bias=config.logit_bias + shift)


def found_from(model: Model) -> float:
    """The logit from which the detector counts something as found."""
    decoder: Any = model.tools[TOOL].decoder
    return float(torch.tensor(decoder.config.score_threshold).logit(eps=1e-4))


def kept_scores(vlm: VisionLLM, place: Path) -> list[float]:
    """`known_scores` of the model before training, kept in a file for a run that goes on later."""
    if place.is_file():
        return list(json.loads(place.read_text(encoding="utf-8")))
    scores = known_scores(vlm)
    write_json(place, scores)
    return scores
