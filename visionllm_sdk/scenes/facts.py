"""What is true of a scene, in words and boxes: the common ground of pictures, sentences and scores.

A picture's ground truth (`visionllm_sdk.scenes.truth`) and every sentence about it
(`visionllm_sdk.scenes.language`) meet here, so that a question and its answer can never disagree with
the pixels by having been derived twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SHAPES: Final = (
    "circle", "square", "triangle", "star", "pentagon", "heart", "cross", "diamond", "ring", "crescent",
)  # fmt: skip
FIGURES: Final = ("person", "dog")
HELD_BACK_SHAPES: Final = ("gear", "arrow", "key", "house")
COLOURS: Final = ("red", "green", "blue", "yellow", "purple", "orange", "pink", "brown", "black", "white")
BACKGROUND_COLOURS: Final = (*COLOURS, "gray")
SIZES: Final = ("small", "medium", "large")

SIZE_RANGES: Final = {"small": (0.08, 0.16), "medium": (0.19, 0.28), "large": (0.32, 0.45)}
"""Diameter as a share of the canvas' shorter side. The gaps keep "small" and "large" unmistakable."""


@dataclass(frozen=True, slots=True)
class ObjectFacts:
    """One visible thing of a scene.

    Attributes:
        kind: one of `SHAPES`, `FIGURES` or `HELD_BACK_SHAPES`.
        colour: one of `COLOURS`; None for figures, which wear several.
        size: one of `SIZES`, by the drawn diameter before occlusion.
        box: tight box of the visible pixels, (x1, y1, x2, y2) in pixels of the canvas.
        diameter: drawn extent in pixels before occlusion; compared by "largest" and "smallest".
    """

    kind: str
    colour: str | None
    size: str
    box: tuple[float, float, float, float]
    diameter: float

    @property
    def centre(self) -> tuple[float, float]:
        """Centre (x, y) of the visible box, in pixels."""
        x1, y1, x2, y2 = self.box
        return (x1 + x2) / 2, (y1 + y2) / 2


@dataclass(frozen=True, slots=True)
class SceneFacts:
    """A canvas of `width` x `height` pixels and its visible things, in drawing order (last on top).

    `background` is a colour word of `BACKGROUND_COLOURS` where one names it: a plain background; else None.
    """

    width: int
    height: int
    objects: tuple[ObjectFacts, ...]
    background: str | None = None
