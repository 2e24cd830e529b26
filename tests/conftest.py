"""What all tests share: quiet, bounded, offline, repeatable."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

# Before anything imports torch or the hub client.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("MKL_NUM_THREADS", "2")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from PIL import Image

if TYPE_CHECKING:
    from visionllm_sdk import VisionLLM

settings.register_profile(
    "tests",
    max_examples=60,
    deadline=None,
    derandomize=True,  # a red build must stay red when it is run again
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tests")


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Random weights and pixels of a test do not hang on the tests before it in the same process."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def goldens() -> Path:
    """Folder of the recorded reference values."""
    return Path(__file__).parent / "goldens"


@pytest.fixture(scope="session")
def vlm() -> VisionLLM:
    """The embedded model, loaded once for all tests."""
    from visionllm_sdk import VisionLLM

    return VisionLLM.from_pretrained()


@pytest.fixture
def picture() -> Image.Image:
    """A small colourful picture without symmetries, 60 x 40."""
    rows, columns = np.mgrid[:40, :60]
    pixels = np.stack([columns * 4, rows * 6, (rows + columns) * 2], axis=-1).astype(np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Write a PIL image under a name, and return its path."""

    def write(image: Image.Image, name: str, **options: object) -> Path:
        path = tmp_path / name
        image.save(path, **options)
        return path

    return write
