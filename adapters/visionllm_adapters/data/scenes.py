"""Drawn scenes as a labelled set on the disk: to try fine-tuning on, and to measure it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from visionllm_sdk.geometry import Mask
from visionllm_sdk.scenes import SceneOptions, render, sample_scene, truth
from visionllm_sdk.scenes.figures import KEYPOINTS
from visionllm_sdk.scenes.spec import ObjectSpec


def by_kind(item: ObjectSpec) -> str:
    """The class of an object: its shape."""
    return item.kind


def write_scenes(
    folder: Path,
    seeds: Sequence[int],
    *,
    options: SceneOptions | None = None,
    name_of: Callable[[ObjectSpec], str] = by_kind,
) -> Path:
    """Draw scenes into a folder, with COCO annotations; figures carry their keypoints.

    Args:
        folder: is created.
        seeds: one for each scene.
        options: limits of the scenes.
        name_of: class of an object.

    Returns:
        Path of the annotations.
    """
    folder.mkdir(parents=True, exist_ok=True)
    numbers: dict[str, int] = {}
    kinds: dict[str, str] = {}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, seed in enumerate(seeds, start=1):
        spec = sample_scene(seed, options=options)
        drawn = render(spec)
        known = truth(spec, drawn)
        file = f"{seed}.png"
        drawn.image.save(folder / file)
        images.append({"id": image_id, "file_name": file, "width": spec.width, "height": spec.height})
        for index, item in enumerate(spec.objects):
            mask = Mask.from_numpy(known.masks[index])
            if mask.area == 0:
                continue
            x1, y1, x2, y2 = map(float, known.boxes[index])
            name = name_of(item)
            kinds[name] = item.kind
            points = known.keypoints[index]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": numbers.setdefault(name, len(numbers) + 1),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": float(mask.area),
                    "iscrowd": 0,
                    "segmentation": mask.to_coco(),
                    **({} if points is None else {"keypoints": points.ravel().tolist()}),
                }
            )
    categories = [
        {
            "id": number,
            "name": name,
            **({"keypoints": list(KEYPOINTS[kinds[name]])} if kinds[name] in KEYPOINTS else {}),
        }
        for name, number in numbers.items()
    ]
    path = folder / "annotations.json"
    content = {"images": images, "categories": categories, "annotations": annotations}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
