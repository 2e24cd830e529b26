"""Boxes, points, scribbles and masks: what results are made of, and what a user points with.

All coordinates are pixels of the given image after its EXIF orientation: x to the right, y down, (0, 0) the
upper left corner of the upper left pixel. Values are floats; right and lower edges are exclusive, so that
the box of a whole image is (0, 0, width, height).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field, PositiveInt, field_validator, model_validator

from visionllm_sdk import masks
from visionllm_sdk._result import Result
from visionllm_sdk.errors import InputError

__all__ = ["Box", "Mask", "Point", "Region", "Scribble"]


class Box(Result):
    """An axis-aligned box, corners (x1, y1) upper left and (x2, y2) lower right, in pixels."""

    type: Literal["box"] = "box"
    x1: float
    y1: float
    x2: float
    y2: float

    if TYPE_CHECKING:

        def __init__(self, x1: float, y1: float, x2: float, y2: float) -> None: ...

    @model_validator(mode="after")
    def _corners_in_order(self) -> Self:
        if self.x2 < self.x1 or self.y2 < self.y1:
            raise InputError(
                "the corners of a box are swapped",
                value=(self.x1, self.y1, self.x2, self.y2),
                limit="x1 <= x2 and y1 <= y2",
                remedy="Give (left, top, right, bottom); Box.from_xywh() takes (left, top, width, height).",
            )
        return self

    @classmethod
    def from_xywh(cls, x: float, y: float, width: float, height: float) -> Box:
        """Box from its upper left corner and its size, the form of COCO annotations."""
        return cls(x, y, x + width, y + height)

    @property
    def width(self) -> float:
        """Horizontal extent in pixels."""
        return self.x2 - self.x1

    @property
    def height(self) -> float:
        """Vertical extent in pixels."""
        return self.y2 - self.y1

    @property
    def area(self) -> float:
        """Area in square pixels."""
        return self.width * self.height

    @property
    def center(self) -> tuple[float, float]:
        """Middle (x, y)."""
        return (self.x1 + self.x2) / 2, (self.y1 + self.y2) / 2

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        """(x1, y1, x2, y2)."""
        return self.x1, self.y1, self.x2, self.y2

    @property
    def xywh(self) -> tuple[float, float, float, float]:
        """(x1, y1, width, height), the form of COCO annotations."""
        return self.x1, self.y1, self.width, self.height

    def contains(self, x: float, y: float) -> bool:
        """Whether the point lies inside; left and upper edge belong to the box, the others do not."""
        return self.x1 <= x < self.x2 and self.y1 <= y < self.y2

    def iou(self, other: Box) -> float:
        """Intersection over union, 0..1; 0 if both are empty.

        Raises:
            InputError: not a box.
        """
        _check_kind(other, Box)
        wide = min(self.x2, other.x2) - max(self.x1, other.x1)
        high = min(self.y2, other.y2) - max(self.y1, other.y1)
        common = max(wide, 0.0) * max(high, 0.0)
        union = self.area + other.area - common
        return common / union if union > 0 else 0.0

    def scaled(self, x: float, y: float | None = None) -> Box:
        """The box in an image resized by the factors x and y (y = x if not given)."""
        y = x if y is None else y
        return Box(self.x1 * x, self.y1 * y, self.x2 * x, self.y2 * y)

    def shifted(self, x: float, y: float) -> Box:
        """The box moved by (x, y) pixels."""
        return Box(self.x1 + x, self.y1 + y, self.x2 + x, self.y2 + y)

    def clipped(self, width: float, height: float) -> Box:
        """The part inside an image of this size; empty (zero area, on the border) if it lies outside."""
        x1, x2 = (min(max(value, 0.0), width) for value in (self.x1, self.x2))
        y1, y2 = (min(max(value, 0.0), height) for value in (self.y1, self.y2))
        return Box(x1, y1, x2, y2)


class Point(Result):
    """One point (x, y) in pixels."""

    type: Literal["point"] = "point"
    x: float
    y: float

    if TYPE_CHECKING:

        def __init__(self, x: float, y: float) -> None: ...


class Scribble(Result):
    """A line drawn by hand: points in the order in which they were drawn, in pixels."""

    type: Literal["scribble"] = "scribble"
    points: Annotated[tuple[Point, ...], Field(min_length=1)]

    if TYPE_CHECKING:

        def __init__(self, points: Sequence[Point | tuple[float, float]]) -> None: ...

    @field_validator("points", mode="before")
    @classmethod
    def _accept_pairs(cls, points: Any) -> Any:
        if isinstance(points, np.ndarray):
            points = points.tolist()
        if not isinstance(points, list | tuple):
            return points
        return [Point(*p) if isinstance(p, list | tuple) and len(p) == 2 else p for p in points]


class Mask(Result):
    """A binary mask over a whole image, as COCO run-length code.

    `size` is (height, width) and `counts` the compressed code: `{"size": ..., "counts": ...}` is the form
    in which pycocotools and COCO files hold it.
    """

    type: Literal["mask"] = "mask"
    size: tuple[PositiveInt, PositiveInt]
    counts: str

    if TYPE_CHECKING:

        def __init__(self, size: tuple[int, int], counts: str) -> None: ...

    @model_validator(mode="after")
    def _code_fits_size(self) -> Self:
        masks.check(self.counts, *self.size)
        return self

    @classmethod
    def from_numpy(cls, array: npt.ArrayLike) -> Mask:
        """Mask from an array [H, W], bool, or integers where 0 is outside.

        Raises:
            InputError: rows of different lengths, not two-dimensional, no pixel, or neither bool nor integer.
        """
        inside = masks.as_bool(array)
        return cls((inside.shape[0], inside.shape[1]), masks.encode(inside))

    @classmethod
    def from_polygons(cls, polygons: Sequence[npt.ArrayLike], height: int, width: int) -> Mask:
        """Mask from filled polygons, each [x1, y1, x2, y2, ...] or [[x, y], ...] in pixels.

        Raises:
            InputError: a polygon of fewer than three finite points, or a size without pixels.
            LimitError: the size is larger than masks may be.
        """
        return cls.from_numpy(masks.rasterize_polygons(polygons, height, width))

    def to_numpy(self) -> npt.NDArray[np.bool_]:
        """The mask as an array, bool [H, W]."""
        return masks.decode(self.counts, *self.size)

    @property
    def height(self) -> int:
        """Rows of the image."""
        return self.size[0]

    @property
    def width(self) -> int:
        """Columns of the image."""
        return self.size[1]

    @property
    def area(self) -> int:
        """Number of pixels inside."""
        return masks.area(self.counts)

    @property
    def box(self) -> Box | None:
        """Tight box around the mask; None if the mask is empty."""
        bounds = masks.bounds(self.counts, self.height)
        return None if bounds is None else Box(*bounds)

    def iou(self, other: Mask) -> float:
        """Intersection over union, 0..1; 0 if both are empty.

        Raises:
            InputError: not a mask, or one of another size.
        """
        _check_kind(other, Mask)
        if self.size != other.size:
            raise InputError("masks of different sizes cannot be compared", value=other.size, limit=self.size)
        mine, theirs = self.to_numpy(), other.to_numpy()
        union = int((mine | theirs).sum())
        return int((mine & theirs).sum()) / union if union else 0.0

    def to_coco(self) -> dict[str, Any]:
        """`{"size": [height, width], "counts": str}` as in COCO files."""
        return {"size": list(self.size), "counts": self.counts}


def _check_kind(other: object, kind: type[Box | Mask]) -> None:
    """Refuse to compare with something else."""
    if not isinstance(other, kind):
        name = kind.__name__
        raise InputError(
            f"a {name} can only be compared with a {name}",
            value=type(other).__name__,
            limit=name,
            remedy="Box(*values), Mask.from_numpy(array) and mask.box make one of other things.",
        )


Region: TypeAlias = Annotated[Box | Point | Scribble | Mask, Field(discriminator="type")]
"""A region prompt: what a user may point with."""
