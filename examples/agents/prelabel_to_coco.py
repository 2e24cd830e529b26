"""Label a folder of pictures for people to correct: one COCO file of boxes and masks, and a sheet to look at.

python examples/agents/prelabel_to_coco.py FOLDER "circle, star" [OUT.json]
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from visionllm_sdk import Detections, VisionAgent
from visionllm_sdk.drawing import contact_sheet

KINDS = {".png", ".jpg", ".jpeg", ".webp"}


def named_as_asked(found: Detections, labels: list[str]) -> Detections:
    """The same with the labels as they were given: an agent writes "dog" where it was asked for "Dogs".

    What it named in quite other words is left out.
    """
    asked = {name.casefold().removesuffix(end): name for end in ("es", "s", "") for name in labels}
    known = [
        one.model_copy(update={"label": asked[one.label.casefold()]})
        for one in found
        if one.label.casefold() in asked
    ]
    return found.model_copy(update={"detections": tuple(known), "labels": tuple(labels)})


async def label(folder: Path, labels: list[str]) -> tuple[dict[str, Any], list[Image.Image]]:
    """Ask about all pictures at once; the agent answers them in batches. The labels, and pictures of them."""
    agent = VisionAgent(force="detect")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in KINDS)
    request = f"Detect {', '.join(labels)}."
    replies = await asyncio.gather(*(agent.ainvoke(request, images=[path]) for path in paths))
    categories = {name: number for number, name in enumerate(labels, start=1)}
    coco: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
    drawn: list[Image.Image] = []
    for number, (path, reply) in enumerate(zip(paths, replies, strict=True), start=1):
        for found in reply.results:
            if not isinstance(found, Detections):
                continue
            known = named_as_asked(found, labels)
            drawn.append(known.draw(path))
            part = known.to_coco(image_id=number, file_name=path.name, categories=categories)
            coco["images"] += [one for one in part["images"] if one not in coco["images"]]
            coco["categories"] = part["categories"]
            for annotation in part["annotations"]:
                coco["annotations"].append({**annotation, "id": len(coco["annotations"]) + 1})
    return coco, drawn


def main(arguments: list[str]) -> None:
    if len(arguments) not in (2, 3):
        sys.exit(__doc__)
    labels = [name.strip() for name in arguments[1].split(",") if name.strip()]
    out = Path(arguments[2] if len(arguments) > 2 else "labels.json")
    coco, drawn = asyncio.run(label(Path(arguments[0]), labels))
    out.write_text(json.dumps(coco), encoding="utf-8")
    if drawn:
        contact_sheet(drawn[:12], cell=200).save(out.with_suffix(".png"))
    print(f"{len(coco['annotations'])} objects in {len(coco['images'])} pictures: {out}")


if __name__ == "__main__":
    main(sys.argv[1:])
