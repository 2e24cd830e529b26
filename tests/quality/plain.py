"""Plain drawings, as anybody makes them to try a model: flat shapes of any size, in crowds, on photographs.

Scenes have up to eight things of up to .45 of the picture. Here one may fill it, or thirty stand in it. The
photographs are those that come with scikit-image; what they show themselves is not asked for.
`python -m tests.quality.plain` tells what is found.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from tests.foreign_scenes import COLOURS, INSIDE, coverage
from visionllm_sdk.geometry import Mask
from visionllm_sdk.scenes.facts import SHAPES

if TYPE_CHECKING:
    from visionllm_sdk import Detections, VisionLLM

_SIZE: Final = (320, 240)
_PHOTOGRAPHS: Final = ("coffee", "astronaut", "chelsea", "rocket", "gravel", "grass", "brick", "coins")
_TRIES: Final = 60


@dataclass(frozen=True)
class Family:
    """How many shapes there are, their radii as shares of the shorter side, and what lies behind."""

    shapes: int
    radii: tuple[float, float]
    photograph: bool = False


FAMILIES: Final = {
    "tiny": Family(4, (0.025, 0.04)),
    "usual": Family(4, (0.06, 0.2)),
    "large": Family(1, (0.25, 0.35)),
    "huge": Family(1, (0.35, 0.48)),
    "dozen": Family(12, (0.06, 0.12)),
    "thirty": Family(30, (0.045, 0.07)),
    "photograph": Family(4, (0.08, 0.2), photograph=True),
}


@dataclass(frozen=True)
class Shape:
    """One drawn shape with the pixels (H, W) that it covers."""

    kind: str
    colour: str
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class Drawing:
    """A picture and its shapes, none of which hides another."""

    image: Image.Image
    shapes: tuple[Shape, ...]


def drawing(seed: int, family: Family) -> Drawing:
    """The drawing of a seed; in a crowd some shapes find no room."""
    random = np.random.default_rng([seed, 4711])
    width, height = _SIZE
    canvas = _photograph(seed) if family.photograph else np.full((height, width, 3), 255.0)
    shapes: list[Shape] = []
    places: list[tuple[float, float, float]] = []
    for _ in range(family.shapes):
        for _ in range(_TRIES):
            radius = random.uniform(*family.radii) * min(_SIZE)
            x, y = (random.uniform(radius + 1, side - radius - 1) for side in _SIZE)
            kind, colour = str(random.choice(SHAPES)), str(random.choice(list(COLOURS)))
            rgb = np.array(COLOURS[colour][0], dtype=float)
            if any(np.hypot(x - u, y - v) < radius + r + 3 for u, v, r in places):
                continue
            share = coverage(INSIDE[kind], width, height, x=x, y=y, radius=radius, turn=0.0)
            around = canvas[int(y - radius) : int(y + radius) + 1, int(x - radius) : int(x + radius) + 1]
            if np.abs(around.mean(axis=(0, 1)) - rgb).sum() < 150:
                continue
            canvas = canvas + share[..., None] * (rgb - canvas)
            shapes.append(Shape(kind, colour, share > 0.5))
            places.append((x, y, radius))
            break
    return Drawing(Image.fromarray(canvas.round().astype(np.uint8)), tuple(shapes))


def _photograph(seed: int) -> NDArray[np.float64]:
    return _pictures()[seed % len(_PHOTOGRAPHS)]


@cache
def _pictures() -> list[NDArray[np.float64]]:
    loaded = [Image.fromarray(getattr(data, name)()).convert("RGB") for name in _PHOTOGRAPHS]
    return [np.asarray(picture.resize(_SIZE), dtype=float) for picture in loaded]


def found(vlm: VisionLLM, family: Family, *, pictures: int) -> dict[str, float]:
    """Share of the shapes that are found, and of the finds that are none of them.

    All kinds are asked for; a mask fits with an IoU above 0.5.

    Args:
        vlm: the model.
        family: of `FAMILIES`.
        pictures: how many.
    """
    drawn = [drawing(seed, family) for seed in range(pictures)]
    answers = vlm.detect([one.image for one in drawn], list(SHAPES))
    hits = sum(_hits(one.shapes, answer) for one, answer in zip(drawn, answers, strict=True))
    finds = sum(map(len, answers))
    return {"found": hits / sum(len(one.shapes) for one in drawn), "wrong": (finds - hits) / max(finds, 1)}


def _hits(shapes: Sequence[Shape], answer: Detections) -> int:
    """How many shapes have a detection of their own."""
    free = list(answer)
    hits = 0
    for shape in shapes:
        wanted = Mask.from_numpy(shape.mask)
        for one in free:
            if one.label == shape.kind and one.mask is not None and one.mask.iou(wanted) > 0.5:
                free.remove(one)
                hits += 1
                break
    return hits


def answered(vlm: VisionLLM, family: Family, *, pictures: int) -> float:
    """Share of the questions about shape, colour and number that are answered right."""
    asked: list[tuple[Image.Image, str, str]] = []
    for one in (drawing(seed, family) for seed in range(pictures)):
        kinds, colours = ([getattr(shape, name) for shape in one.shapes] for name in ("kind", "colour"))
        for kind, colour in zip(kinds, colours, strict=True):
            if kinds.count(kind) == 1:
                asked.append((one.image, f"What color is the {kind}?", colour))
            if colours.count(colour) == 1:
                asked.append((one.image, f"What shape is the {colour} thing?", kind))
        kind = kinds[0]
        plural = f"{kind}es" if kind == "cross" else f"{kind}s"
        asked.append((one.image, f"How many {plural} are there?", str(kinds.count(kind))))
    answers = vlm.ask([image for image, _, _ in asked], [question for _, question, _ in asked])
    right = [one.text.lower().rstrip(".") == word for one, (_, _, word) in zip(answers, asked, strict=True)]
    return sum(right) / len(right)


def plain_figures(vlm: VisionLLM, *, pictures: int) -> dict[str, float]:
    """What is found, and of two families what is answered, as `FAMILY.FIGURE`."""
    figures: dict[str, float] = {}
    for name, family in FAMILIES.items():
        for figure, value in found(vlm, family, pictures=pictures).items():
            figures[f"{name}.{figure}"] = value
    for name in ("huge", "photograph"):
        figures[f"{name}.answered"] = answered(vlm, FAMILIES[name], pictures=pictures)
    return figures


def main() -> None:
    """Measure, and print the figures as JSON."""
    from visionllm_sdk import VisionLLM

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="checkpoint folder; the embedded model by default")
    parser.add_argument("--pictures", type=int, default=24, help="of each family")
    arguments = parser.parse_args()
    vlm = VisionLLM.from_pretrained(arguments.model)
    figures = plain_figures(vlm, pictures=arguments.pictures)
    sys.stdout.write(json.dumps({name: round(value, 4) for name, value in figures.items()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
