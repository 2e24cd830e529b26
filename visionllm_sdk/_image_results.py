"""Results that speak about places in one image: detections, groundings, counts, semantic maps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import NonNegativeInt, PositiveInt, PrivateAttr, model_validator

from visionllm_sdk._numbers import as_real
from visionllm_sdk._pictures import Picture
from visionllm_sdk._result import Probability, Result
from visionllm_sdk.errors import InputError
from visionllm_sdk.geometry import Box, Mask
from visionllm_sdk.masks import as_array

if TYPE_CHECKING:
    from PIL import Image

    from visionllm_sdk.images import ImageSource

__all__ = ["Count", "Detection", "Detections", "Grounding", "ImageResult", "SemanticMap"]


class ImageResult(Result):
    """Base of the results that speak about places in one image.

    `width` and `height` are the size of that image in pixels, and all coordinates are its pixels.
    """

    width: PositiveInt
    height: PositiveInt
    frame: Literal["pixels"] = "pixels"

    _image: Image.Image | None = PrivateAttr(default=None)

    def with_image(self, image: ImageSource | Picture) -> Self:
        """The same result, showing `image` behind it in a notebook; the image is not part of the data."""
        copy = self.model_copy()
        copy._image = self._matching(image)
        return copy

    def draw(self, image: ImageSource | Picture) -> Image.Image:
        """Draw the result over its image, which may be a produced picture; RGB of the same size.

        Raises:
            ImageError: the image cannot be used.
            GenerationError: a picture that a safety checker refused.
            HandleError: a picture whose pixels did not travel with its data.
            InputError: the image is not of the size that this result speaks about.
        """
        from visionllm_sdk import drawing

        return drawing.draw(self, self._matching(image))

    def _matching(self, image: ImageSource | Picture) -> Image.Image:
        from visionllm_sdk.images import ImageLimits, load_image

        pixels = image.image if isinstance(image, Picture) else image
        # The caller may have raised the limits for the image of this result: its size is allowed.
        loaded = load_image(pixels, limits=ImageLimits.for_size(self.width, self.height))
        if (loaded.width, loaded.height) != (self.width, self.height):
            raise InputError(
                "the result belongs to an image of another size",
                value=(loaded.width, loaded.height),
                limit=(self.width, self.height),
                remedy="Pass the image that the result was computed from.",
            )
        return loaded.image

    def _repr_png_(self) -> bytes:
        from visionllm_sdk import drawing

        return drawing.preview_png(self, self._image)


class Detection(Result):
    """One found object.

    `region` is the position of the region prompt that it answers (0 is the first), None if there was no
    prompt.
    """

    type: Literal["detection"] = "detection"
    label: str
    score: Probability
    box: Box
    mask: Mask | None = None
    region: NonNegativeInt | None = None


class Detections(ImageResult):
    """Objects found in one image, best first unless they answer region prompts; may be empty.

    `labels` are the labels that were asked for.
    """

    type: Literal["detections"] = "detections"
    detections: tuple[Detection, ...] = ()
    labels: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _masks_fit(self) -> Self:
        for number, detection in enumerate(self.detections):
            if detection.mask is not None and detection.mask.size != (self.height, self.width):
                raise InputError(
                    f"the mask of detection {number} ({detection.label!r}) is not of the image's size",
                    value=detection.mask.size,
                    limit=(self.height, self.width),
                )
        return self

    def __len__(self) -> int:
        return len(self.detections)

    def __iter__(self) -> Iterator[Detection]:  # type: ignore[override]
        return iter(self.detections)

    def __getitem__(self, index: int) -> Detection:
        return self.detections[index]

    def filter(
        self,
        labels: str | Iterable[str] | None = None,
        *,
        min_score: float = 0.0,
        min_area: float = 0.0,
        inside: Box | None = None,
    ) -> Self:
        """Keep what fulfils every condition.

        Args:
            labels: one label or several; None keeps all.
            min_score: lowest score, 0..1.
            min_area: smallest area in pixels, of the mask where there is one, else of the box.
            inside: the middle of the box must lie in this box.

        Raises:
            InputError: labels that are no text, a number that is none, or no box.
        """
        wanted = None if labels is None else _wanted(labels)
        for name, value in (("min_score", min_score), ("min_area", min_area)):
            if as_real(value) is None:
                raise InputError(f"{name} is not a number", value=value, limit="a finite number")
        if inside is not None and not isinstance(inside, Box):
            raise InputError(
                "inside is not a box", value=inside, limit="a Box", remedy="Pass Box(x1, y1, x2, y2)."
            )
        kept = [
            d
            for d in self.detections
            if (wanted is None or d.label in wanted)
            and d.score >= min_score
            and (d.mask.area if d.mask else d.box.area) >= min_area
            and (inside is None or inside.contains(*d.box.center))
        ]
        return self.model_copy(update={"detections": tuple(kept)})

    def boxes(self) -> npt.NDArray[np.float64]:
        """All boxes, float64 [N, 4] as x1, y1, x2, y2 in pixels."""
        return np.array([d.box.xyxy for d in self.detections], dtype=np.float64).reshape(-1, 4)

    def to_coco(
        self, *, image_id: int = 1, file_name: str = "", categories: dict[str, int] | None = None
    ) -> dict[str, Any]:
        """A COCO data set of this one image: `images`, `categories`, `annotations` (with `score`).

        Args:
            image_id: id of the image.
            file_name: name of the image file.
            categories: id for each label; without it the labels are numbered from 1 in the order of `labels`,
                then of appearance.

        Raises:
            InputError: a detected label has no id in `categories`, or an id is no whole number.
        """
        from visionllm_sdk.coco import detections_to_coco

        return detections_to_coco(self, image_id=image_id, file_name=file_name, categories=categories)

    def to_supervision(self) -> Any:
        """The same as a `supervision.Detections`: xyxy, confidence, class_id (position in `class_names()`),
        mask (only if every detection has one), and the labels as `data["class_name"]`.

        Raises:
            MissingExtraError: `supervision` is not installed.
        """
        from visionllm_sdk.coco import detections_to_supervision

        return detections_to_supervision(self)

    def class_names(self) -> list[str]:
        """Asked labels, then further detected ones, each once."""
        return list(dict.fromkeys((*self.labels, *(d.label for d in self.detections))))


class Grounding(Detections):
    """What a referring expression points at: detections labelled with the expression, best first."""

    type: Literal["grounding"] = "grounding"  # type: ignore[assignment]
    expression: str


class Count(ImageResult):
    """How many objects of one label there are, with the detections that were counted."""

    type: Literal["count"] = "count"
    label: str
    count: NonNegativeInt
    detections: Detections

    def __int__(self) -> int:
        return self.count


class SemanticMap(ImageResult):
    """One label for every pixel, as one mask per label; masks do not overlap, and may leave pixels
    unlabelled."""

    type: Literal["semantic_map"] = "semantic_map"
    labels: tuple[str, ...]
    masks: tuple[Mask, ...]

    @model_validator(mode="after")
    def _one_mask_per_label(self) -> Self:
        if len(self.masks) != len(self.labels) or len(set(self.labels)) != len(self.labels):
            raise InputError(
                "a semantic map needs one mask for every label, and every label once",
                value=f"{len(self.masks)} masks for labels {list(self.labels)}",
            )
        for label, mask in zip(self.labels, self.masks, strict=True):
            if mask.size != (self.height, self.width):
                raise InputError(
                    f"the mask of {label!r} is not of the image's size",
                    value=mask.size,
                    limit=(self.height, self.width),
                )
        if sum(mask.area for mask in self.masks) > np.count_nonzero(self.to_numpy() >= 0):
            raise InputError("the masks of a semantic map overlap", limit="one label per pixel")
        return self

    @classmethod
    def from_numpy(cls, indices: npt.ArrayLike, labels: Iterable[str]) -> SemanticMap:
        """Semantic map from label positions, integers [H, W]; -1 is unlabelled.

        Raises:
            InputError: not two-dimensional, not integer, an index without a label, or labels that are none.
        """
        array, names = as_array(indices, "a semantic map"), _label_names(labels)
        if array.ndim != 2 or array.size == 0 or array.dtype.kind not in "iu":
            raise InputError(
                "a semantic map is an integer array",
                value=f"{array.dtype} {array.shape}",
                limit="integers [H, W]",
            )
        if array.min() < -1 or array.max() >= len(names):
            raise InputError(
                "an index of the semantic map has no label",
                value=(int(array.min()), int(array.max())),
                limit=f"-1 to {len(names) - 1}",
            )
        masks = tuple(Mask.from_numpy(array == number) for number in range(len(names)))
        return cls(width=array.shape[1], height=array.shape[0], labels=names, masks=masks)

    def to_numpy(self) -> npt.NDArray[np.int32]:
        """Position in `labels` of every pixel, int32 [H, W]; -1 is unlabelled."""
        indices = np.full((self.height, self.width), -1, dtype=np.int32)
        for number, mask in enumerate(self.masks):
            indices[mask.to_numpy()] = number
        return indices

    def mask(self, label: str) -> Mask:
        """The mask of one label.

        Raises:
            InputError: the map has no such label.
        """
        if label not in self.labels:
            raise InputError("the semantic map has no such label", value=label, limit=list(self.labels))
        return self.masks[self.labels.index(label)]


def _wanted(labels: str | Iterable[str]) -> set[str]:
    """One label or several."""
    names = (labels,) if isinstance(labels, str) else tuple(labels) if isinstance(labels, Iterable) else None
    if names is None or not all(isinstance(name, str) for name in names):
        raise InputError(
            "labels to keep are text", value=labels, limit="a string, several strings, or None for all"
        )
    return set(names)


def _label_names(labels: Iterable[str]) -> tuple[str, ...]:
    """The labels, read once: what gives them may give them only once."""
    if not isinstance(labels, Iterable):
        raise InputError(
            "the labels of a semantic map are not a list",
            value=labels,
            limit="strings, in the order of the indices",
            remedy="Pass a list, such as ['sky', 'sea'].",
        )
    return tuple(labels)
