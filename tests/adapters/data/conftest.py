"""Small labelled sets, written in the formats that people have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

LINE = "0 0.5 0.5 0.5 0.5\n"
"""A label of YOLO: a box in the middle."""


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with three different pictures, 60 x 40."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, colour in enumerate(("red", "green", "blue")):
        Image.new("RGB", (60, 40), colour).save(folder / f"{number}.png")
    return folder


def coco(annotations: list[dict[str, Any]], **parts: Any) -> dict[str, Any]:
    return {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 60, "height": 40} for n in range(3)],
        "categories": [{"id": 1, "name": "cup"}, {"id": 2, "name": "plate"}],
        "annotations": annotations,
        **parts,
    }


def yolo(root: Path, pictures: Path, places: dict[str, str], description: str) -> Path:
    """A set with a labelled picture at each place: label line by path of the picture."""
    for number, (place, line) in enumerate(places.items()):
        picture = root / place
        labels = Path(str(picture).replace("images", "labels")).with_suffix(".txt")
        for folder in (picture.parent, labels.parent):
            folder.mkdir(parents=True, exist_ok=True)
        Image.open(pictures / f"{number}.png").save(picture)
        labels.write_text(line)
    (root / "data.yaml").write_text(description)
    return root


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write JSON under a name."""

    def dump(content: Any, name: str = "labels.json") -> Path:
        path = tmp_path / name
        if name.endswith(".jsonl"):
            path.write_text("".join(json.dumps(line) + "\n" for line in content))
        else:
            path.write_text(json.dumps(content))
        return path

    return dump
