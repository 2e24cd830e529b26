"""Pictures by a stranger: drawn by code that was written without sight of the project's own.

`tests.foreign_scenes` draws shapes by other formulas; here persons and dogs are others, too, and so are the
manners: clip art, worksheets, glossy icons, crayons, cut-outs on wood or grass, pixels, nights and maps.
Training must never see them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from tests.stranger_pictures.figures import STYLES
from tests.stranger_pictures.stage import StrangerObject, StrangerScene, stranger_scene
from visionllm_sdk.evaluation.samples import Triple
from visionllm_sdk.scenes.facts import FIGURES, ObjectFacts, SceneFacts

__all__ = [
    "STYLES",
    "StrangerObject",
    "StrangerScene",
    "stranger_figures",
    "stranger_pictures",
    "stranger_scene",
]


def stranger_pictures(each: int) -> Iterator[Triple]:
    """So many pictures of each style, with what is true of them."""
    waiting = dict.fromkeys(STYLES, each)
    seed = 0
    while any(waiting.values()):
        scene = stranger_scene(seed)
        seed += 1
        if waiting[scene.style]:
            waiting[scene.style] -= 1
            yield _known(scene)


def stranger_figures(count: int) -> list[StrangerScene]:
    """So many pictures with a person or a dog, other ones than `stranger_pictures` has."""
    scenes = map(stranger_scene, itertools.count(100_000))
    return list(itertools.islice((s for s in scenes if any(one.kind in FIGURES for one in s.objects)), count))


def _known(scene: StrangerScene) -> Triple:
    width, height = scene.image.size
    facts = SceneFacts(width, height, tuple(_facts(one, min(width, height)) for one in scene.objects))
    masks = np.array([one.mask for one in scene.objects], dtype=bool).reshape(-1, height, width)
    return scene.image, facts, masks


def _facts(one: StrangerObject, short: int) -> ObjectFacts:
    rows, columns = np.nonzero(one.mask)
    box = (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
    diameter = max(box[2] - box[0], box[3] - box[1])
    size = "small" if diameter < 0.175 * short else "medium" if diameter < 0.3 * short else "large"
    return ObjectFacts(one.kind, one.colour, one.size or size, box, diameter)
