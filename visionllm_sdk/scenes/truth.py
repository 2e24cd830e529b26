"""The exact ground truth of a drawn scene."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from visionllm_sdk.errors import InputError
from visionllm_sdk.scenes.facts import ObjectFacts, SceneFacts
from visionllm_sdk.scenes.figures import KEYPOINTS
from visionllm_sdk.scenes.palette import background_word
from visionllm_sdk.scenes.render import Masks, Rendered
from visionllm_sdk.scenes.spec import ObjectSpec, SceneSpec

OUTSIDE, OCCLUDED, VISIBLE = 0, 1, 2
"""COCO's keypoint flags."""


@dataclass(frozen=True, slots=True)
class SceneTruth:
    """What is where in a drawn scene; arrays are in the order of `spec.objects`.

    Attributes:
        boxes: (N, 4) float32, (x1, y1, x2, y2) in pixels around the visible mask, x2 and y2 exclusive.
        masks: (N, H, W) bool, visible pixels.
        keypoints: (17, 3) float32 per figure, None per shape: x, y in pixels and COCO visibility: 2 visible,
            1 hidden by an object above, 0 outside the canvas (then x = y = 0).
    """

    spec: SceneSpec
    boxes: NDArray[np.float32]
    masks: Masks
    keypoints: tuple[NDArray[np.float32] | None, ...]

    def facts(self) -> SceneFacts:
        """The scene in words and boxes."""
        objects = tuple(
            ObjectFacts(
                kind=item.kind,
                colour=item.colour,
                size=item.size,
                box=(float(box[0]), float(box[1]), float(box[2]), float(box[3])),
                diameter=item.diameter,
            )
            for item, box in zip(self.spec.objects, self.boxes, strict=True)
        )
        return SceneFacts(
            width=self.spec.width,
            height=self.spec.height,
            objects=objects,
            background=_background(self.spec),
        )

    def semantic_map(
        self, classes: Sequence[str], name_of: Callable[[ObjectSpec], str | None]
    ) -> NDArray[np.int32]:
        """(H, W) int32: the index of each pixel's class in `classes`, -1 where no named class is.

        Args:
            classes: class names without repetition.
            name_of: what an object is called, e.g. `by_kind` or `by_colour`.

        Raises:
            InputError: when a class is named twice.
        """
        if len(set(classes)) != len(classes):
            raise InputError("a class is named twice", value=list(classes), remedy="Name each class once.")
        index = {name: place for place, name in enumerate(classes)}
        result = np.full((self.spec.height, self.spec.width), -1, dtype=np.int32)
        for item, mask in zip(self.spec.objects, self.masks, strict=True):
            name = name_of(item)
            if name in index:
                result[mask] = index[name]
        return result


def by_kind(item: ObjectSpec) -> str | None:
    """Semantic class by shape or figure."""
    return item.kind


def by_colour(item: ObjectSpec) -> str | None:
    """Semantic class by colour word."""
    return item.colour


def by_colour_and_kind(item: ObjectSpec) -> str | None:
    """Semantic class such as "red circle"; figures by their kind."""
    return item.kind if item.colour is None else f"{item.colour} {item.kind}"


NAMINGS: Final = {"kind": by_kind, "colour": by_colour, "colour and kind": by_colour_and_kind}


def truth(spec: SceneSpec, rendered: Rendered) -> SceneTruth:
    """The ground truth of `spec` as drawn in `rendered`."""
    return SceneTruth(
        spec=spec,
        boxes=mask_boxes(rendered.visible),
        masks=rendered.visible,
        keypoints=tuple(
            None if item.figure is None else _keypoints(item, rendered, index)
            for index, item in enumerate(spec.objects)
        ),
    )


def mask_boxes(masks: Masks) -> NDArray[np.float32]:
    """Tight boxes of (N, H, W) masks: (N, 4) float32 xyxy, x2/y2 exclusive; zeros for an empty mask."""
    boxes = np.zeros((len(masks), 4), dtype=np.float32)
    height, width = masks.shape[1:]
    for index, mask in enumerate(masks):
        rows, columns = mask.any(axis=1), mask.any(axis=0)
        if rows.any():
            boxes[index] = (
                columns.argmax(), rows.argmax(), width - columns[::-1].argmax(), height - rows[::-1].argmax(),
            )  # fmt: skip
    return boxes


def _background(spec: SceneSpec) -> str | None:
    return background_word(spec.background.tones[0]) if spec.background.kind == "plain" else None


def _keypoints(item: ObjectSpec, rendered: Rendered, index: int) -> NDArray[np.float32]:
    assert item.figure is not None
    above = np.logical_or.reduce(rendered.amodal[index + 1 :], axis=0)
    height, width = above.shape
    table = np.zeros((len(KEYPOINTS[item.kind]), 3), dtype=np.float32)
    for row, name in enumerate(KEYPOINTS[item.kind]):
        x, y = item.figure.joints[name]
        if 0 <= x < width and 0 <= y < height:
            table[row] = (x, y, OCCLUDED if above[int(y), int(x)] else VISIBLE)
    return table
