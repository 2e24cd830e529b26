"""Label a folder of images in batches, and write the result as one COCO data set.

python examples/folder_to_coco.py FOLDER "red circle, star, Dog" labels.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from visionllm_sdk import VisionLLM

BATCH = 16
KINDS = {".png", ".jpg", ".jpeg", ".webp"}


def main(folder: Path, labels: list[str], out: Path) -> None:
    vlm = VisionLLM.from_pretrained()
    categories = {label: number for number, label in enumerate(labels, 1)}
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in KINDS)
    coco: dict[str, list[Any]] = {"images": [], "categories": [], "annotations": []}
    for start in range(0, len(paths), BATCH):
        part = paths[start : start + BATCH]
        for offset, (path, found) in enumerate(zip(part, vlm.detect(part, labels), strict=True)):
            one = found.to_coco(image_id=start + offset + 1, file_name=path.name, categories=categories)
            coco["images"] += one["images"]
            coco["categories"] = one["categories"]
            coco["annotations"] += one["annotations"]
        print(f"{min(start + BATCH, len(paths))} of {len(paths)} images")
    for number, annotation in enumerate(coco["annotations"], 1):
        annotation["id"] = number
    out.write_text(json.dumps(coco))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    names = [name.strip() for name in sys.argv[2].split(",") if name.strip()]
    main(Path(sys.argv[1]), names, Path(sys.argv[3]))
