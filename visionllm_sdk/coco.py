"""Results in the forms of other libraries: COCO dictionaries and `supervision` objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from visionllm_sdk._numbers import as_whole
from visionllm_sdk.errors import InputError
from visionllm_sdk.extras import import_extra

if TYPE_CHECKING:
    from visionllm_sdk.results import Detections, Poses

__all__ = ["detections_to_coco", "detections_to_supervision", "poses_to_coco"]


def detections_to_coco(
    result: Detections, *, image_id: int, file_name: str, categories: dict[str, int] | None
) -> dict[str, Any]:
    """See `Detections.to_coco`.

    Raises:
        InputError: a detected label is not among the categories, or an id is no whole number.
    """
    ids = _ids(categories, result.class_names(), start=1)
    image, annotations = _image_entry(result, image_id, file_name), []
    for number, detection in enumerate(result.detections, start=1):
        entry: dict[str, Any] = {
            "id": number,
            "image_id": image["id"],
            "category_id": _category_id(detection.label, ids),
            "bbox": list(detection.box.xywh),
            "area": detection.box.area,
            "iscrowd": 0,
            "score": detection.score,
        }
        if detection.mask is not None:
            entry |= {"segmentation": detection.mask.to_coco(), "area": float(detection.mask.area)}
        annotations.append(entry)
    return {
        "images": [image],
        "categories": [{"id": number, "name": name} for name, number in ids.items()],
        "annotations": annotations,
    }


def poses_to_coco(
    result: Poses, *, image_id: int, file_name: str, category_id: int, categories: dict[str, int] | None
) -> dict[str, Any]:
    """See `Poses.to_coco`.

    Raises:
        InputError: the label of a pose is not among the categories, or an id is no whole number.
    """
    ids = _ids(categories, _kinds(result), start=category_id)
    image, annotations = _image_entry(result, image_id, file_name), []
    for number, pose in enumerate(result.poses, start=1):
        triples = [value for k in pose.keypoints for value in (k.x, k.y, 2 if k.visible else 1)]
        annotations.append(
            {
                "id": number,
                "image_id": image["id"],
                "category_id": _category_id(pose.label, ids),
                "keypoints": triples,
                "num_keypoints": len(pose.keypoints),
                "bbox": list(pose.box.xywh),
                "area": pose.box.area,
                "iscrowd": 0,
                "score": pose.score,
            }
        )
    order = {name: position for position, name in enumerate(result.names, start=1)}
    bones = [[order[a], order[b]] for a, b in result.skeleton if a in order and b in order]
    return {
        "images": [image],
        "categories": [
            {"id": number, "name": name, "keypoints": list(result.names), "skeleton": bones}
            for name, number in ids.items()
        ],
        "annotations": annotations,
    }


def _kinds(result: Poses) -> list[str]:
    """The kinds that were asked for, each once; those of the poses where a kind has a comma in its name."""
    found = [pose.label for pose in result.poses]
    asked = result.label.split(", ") if result.label else []
    return list(dict.fromkeys(asked if set(found) <= set(asked) else found))


def _ids(categories: Mapping[str, int] | None, names: Sequence[str], *, start: int) -> dict[str, int]:
    """Id by label, as given or numbered in the order of the names."""
    if categories is None:
        return {name: _whole("category_id", start) + place for place, name in enumerate(names)}
    if not isinstance(categories, Mapping) or not all(isinstance(name, str) for name in categories):
        raise InputError(
            "categories are no ids by label",
            value=categories,
            limit="a dict such as {'dog': 1}",
            remedy="Leave it out to number the labels from 1.",
        )
    return {name: _whole(f"the id of category {name!r}", number) for name, number in categories.items()}


def _whole(name: str, value: object) -> int:
    number = as_whole(value)
    if number is None:
        raise InputError(f"{name} is no whole number", value=value, limit="an int", remedy="Pass an int.")
    return number


def _category_id(label: str, ids: dict[str, int]) -> int:
    if label not in ids:
        raise InputError("a detected label has no category id", value=label, limit=sorted(ids))
    return ids[label]


def _image_entry(result: Detections | Poses, image_id: int, file_name: str) -> dict[str, Any]:
    number = _whole("image_id", image_id)
    if not isinstance(file_name, str):
        raise InputError("file_name is no text", value=file_name, limit="a string", remedy="Pass path.name.")
    return {"id": number, "width": result.width, "height": result.height, "file_name": file_name}


def detections_to_supervision(result: Detections) -> Any:
    """See `Detections.to_supervision`."""
    supervision = import_extra("supervision", extra="eval")
    names = result.class_names()
    masks = [d.mask for d in result.detections if d.mask is not None]
    whole = len(masks) == len(result.detections) and len(masks) > 0
    return supervision.Detections(
        xyxy=result.boxes().astype(np.float32),
        mask=np.stack([mask.to_numpy() for mask in masks]) if whole else None,
        confidence=np.array([d.score for d in result.detections], dtype=np.float32),
        class_id=np.array([names.index(d.label) for d in result.detections], dtype=int),
        data={"class_name": np.array([d.label for d in result.detections], dtype=str)},
    )
