"""Poses: objects with named keypoints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Self

from visionllm_sdk._image_results import ImageResult
from visionllm_sdk._result import Probability, Result
from visionllm_sdk.errors import InputError
from visionllm_sdk.geometry import Box

__all__ = ["Keypoint", "Pose", "Poses"]


class Keypoint(Result):
    """One named keypoint at (x, y) in pixels; `visible` is False where it is covered or uncertain."""

    type: Literal["keypoint"] = "keypoint"
    name: str
    x: float
    y: float
    score: Probability
    visible: bool = True


class Pose(Result):
    """One object with its keypoints, in the order in which their names were asked for."""

    type: Literal["pose"] = "pose"
    label: str
    score: Probability
    box: Box
    keypoints: tuple[Keypoint, ...]

    def keypoint(self, name: str) -> Keypoint:
        """The keypoint of that name.

        Raises:
            InputError: the pose has no such keypoint.
        """
        for keypoint in self.keypoints:
            if keypoint.name == name:
                return keypoint
        raise InputError(
            "the pose has no such keypoint", value=name, limit=[point.name for point in self.keypoints]
        )


class Poses(ImageResult):
    """Posed objects of one image, best first; may be empty.

    `names` are the keypoint names that were asked for, `skeleton` the pairs of names that a drawing connects.
    """

    type: Literal["poses"] = "poses"
    poses: tuple[Pose, ...] = ()
    label: str = ""
    names: tuple[str, ...] = ()
    skeleton: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.poses)

    def __iter__(self) -> Iterator[Pose]:  # type: ignore[override]
        return iter(self.poses)

    def __getitem__(self, index: int) -> Pose:
        return self.poses[index]

    def filter(self, *, min_score: float = 0.0) -> Self:
        """Keep poses of at least this score, 0..1."""
        return self.model_copy(update={"poses": tuple(p for p in self.poses if p.score >= min_score)})

    def to_coco(
        self,
        *,
        image_id: int = 1,
        file_name: str = "",
        category_id: int = 1,
        categories: dict[str, int] | None = None,
    ) -> dict[str, Any]:
        """A COCO keypoint data set of this one image: `images`, `categories`, `annotations` (with `score`).

        A keypoint is written as x, y, v with v = 2 where it is visible and 1 where it is covered.

        Args:
            image_id: id of the image.
            file_name: name of the image file.
            category_id: id of the first kind; further kinds are numbered on from it, as they were asked for.
            categories: id for each kind instead.

        Raises:
            InputError: the label of a pose has no id in `categories`.
        """
        from visionllm_sdk.coco import poses_to_coco

        return poses_to_coco(
            self, image_id=image_id, file_name=file_name, category_id=category_id, categories=categories
        )
