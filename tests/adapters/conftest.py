"""A tiny model with random weights, a small labelled set, and an adapter trained on it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from tests.sdk.conftest import random_config
from visionllm_sdk import VisionLLM

COLOURS = {"cup": (220, 40, 40), "plate": (40, 60, 220)}
QUICK: dict[str, Any] = {
    "steps": 2, "batch": 2, "micro_batch": 1, "validate": 1, "base_scenes": 0, "replay": 0.0, "quiet": True,
    "points": 64,
}  # fmt: skip
"""Settings of a run that only has to go through."""


def write_labels(folder: Path, count: int, *, seed: int = 0) -> Path:
    """Pictures with a red cup and a blue plate each; COCO annotations with polygons and expressions."""
    folder.mkdir(parents=True)
    rng = random.Random(seed)
    images, annotations = [], []
    for number in range(count):
        image = Image.new("RGB", (96, 64), (rng.randint(180, 250),) * 3)
        for category, (name, colour) in enumerate(COLOURS.items(), start=1):
            x, y = rng.randint(2, 20) + 46 * (category - 1), rng.randint(2, 34)
            ImageDraw.Draw(image).rectangle((x, y, x + 23, y + 23), fill=colour)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": category,
                    "bbox": [x, y, 24, 24],
                    "segmentation": [[x, y, x + 24, y, x + 24, y + 24, x, y + 24]],
                    "area": 576,
                    "iscrowd": 0,
                    "expression": f"the {name}",
                }
            )
        images.append({"id": number, "file_name": f"{number}.png", "width": 96, "height": 64})
        image.save(folder / f"{number}.png")
    categories = [{"id": number, "name": name} for number, name in enumerate(COLOURS, start=1)]
    path = folder / "labels.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def write_tiny_checkpoint(folder: Path, *, seed: int = 0) -> Path:
    """A checkpoint with a detector alone, so that building it takes no time."""
    import torch

    from visionllm_adapters.recipe.vocabulary import train_vocabulary
    from visionllm_sdk.model.assembly import Model
    from visionllm_sdk.model.config import ModelConfig
    from visionllm_sdk.model.core import build_core
    from visionllm_sdk.model.tokenizer import CONTROL_TOKENS, TextTokenizer
    from visionllm_tools.detection.tool import DetectionTool

    size = 420
    pieces = train_vocabulary(folder / "vocabulary", size=size, count=1500).read_bytes()
    tokenizer = TextTokenizer(pieces, {text: size + i for i, text in enumerate(CONTROL_TOKENS)})
    released = random_config(tokenizer.vocab_size)
    released |= {name: False for name in released if name.startswith("use_") and name != "use_gdino"}
    released["gdino_config"] |= {"shortest_edge": 64, "longest_edge": 96}
    released["vis_encoder_config"]["image_size"] = 64
    torch.manual_seed(seed)
    config = ModelConfig.from_released(released)
    tool = DetectionTool.from_config(released)
    assert tool is not None
    core = build_core(config, tokenizer)
    model = Model(config=config, tokenizer=tokenizer, core=core, tools={tool.name: tool})
    model.save(folder / "checkpoint")
    return folder / "checkpoint"


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labels(tmp_path_factory.mktemp("data") / "train", 6)


@pytest.fixture(scope="session")
def val_labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labels(tmp_path_factory.mktemp("data") / "val", 2, seed=1)


@pytest.fixture(scope="session")
def adapter(
    tiny_checkpoint: Path, labels: Path, val_labels: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Folder of an adapter that has learnt a little with everything that can learn."""
    from visionllm_adapters import finetune

    output = tmp_path_factory.mktemp("adapters") / "kitchen"
    skills = ["detect", "ground"]
    finetune(
        labels, val=val_labels, output=output, model=tiny_checkpoint, skill=skills, preset="full", **QUICK
    )
    return output


@pytest.fixture
def tiny_vlm(tiny_checkpoint: Path) -> VisionLLM:
    return VisionLLM.from_pretrained(tiny_checkpoint)
