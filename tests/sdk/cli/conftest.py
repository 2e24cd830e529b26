from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def scene(tmp_path: Path, picture: Image.Image) -> str:
    """File name of a 60 x 40 pixel image."""
    path = tmp_path / "scene.png"
    picture.save(path)
    return str(path)


@pytest.fixture(autouse=True)
def model(random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands load a checkpoint with random weights unless they are told otherwise."""
    monkeypatch.setenv("VISIONLLM_MODEL", str(random_checkpoint))
