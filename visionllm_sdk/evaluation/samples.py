"""What a model is measured on: pictures with everything known about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from visionllm_sdk.errors import DataError
from visionllm_sdk.scenes import held_out_seeds, render, sample_scene, truth
from visionllm_sdk.scenes.facts import ObjectFacts, SceneFacts
from visionllm_sdk.scenes.labels import Label, matching

Masks: TypeAlias = NDArray[np.bool_]
Triple: TypeAlias = tuple[Image.Image, SceneFacts, Masks]


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture and its truth.

    Attributes:
        key: names the sample; the requests about it are drawn from this and nothing else.
        image: RGB.
        facts: size of the picture and its objects, boxes in pixels, (x1, y1, x2, y2).
        masks: (N, H, W) bool, the visible pixels of each object of `facts`, without overlap.

    Raises:
        DataError: picture, facts and masks are of different sizes or numbers.
    """

    key: str
    image: Image.Image
    facts: SceneFacts
    masks: Masks

    def __post_init__(self) -> None:
        facts = self.facts
        wanted = (len(facts.objects), facts.height, facts.width)
        if self.image.size != (facts.width, facts.height) or self.masks.shape != wanted:
            raise DataError(
                f"sample {self.key}: picture, facts and masks do not belong together",
                value=f"picture {self.image.size}, masks {self.masks.shape}",
                limit=f"{facts.width} x {facts.height} pixels, {len(facts.objects)} masks",
                remedy="Give masks of (objects, height, width) in the order of the facts.",
            )

    @property
    def objects(self) -> tuple[ObjectFacts, ...]:
        """The objects, as in `facts`."""
        return self.facts.objects

    def random(self, purpose: str) -> Random:
        """Random choices that depend on the sample and the purpose alone."""
        return Random(f"{purpose}/{self.key}")

    def bearers(self, label: Label | None) -> list[int]:
        """Indices of the objects that bear a label; none when the label is foreign to scenes."""
        return [] if label is None else matching(label, self.objects)


Source: TypeAlias = Iterable[Triple | Sample]


def held_out_samples(count: int, *, start: int = 0) -> Iterator[Sample]:
    """`count` held-out scenes from the `start`-th on, drawn one by one.

    Raises:
        DataError: there are not that many.
    """
    for seed in held_out_seeds(count, start=start):
        spec = sample_scene(seed)
        drawn = render(spec)
        yield Sample(str(seed), drawn.image, truth(spec, drawn).facts(), drawn.visible)


def as_samples(source: Source) -> Iterator[Sample]:
    """Samples of any source of (picture, facts, masks); the key of a triple is its place."""
    for place, item in enumerate(source):
        yield item if isinstance(item, Sample) else Sample(str(place), *item)
