"""The library's classes, and what it says while it is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from visionllm_sdk.errors import MissingExtraError
from visionllm_tools.diffusion.library import diffusers_class

ASKED = """
from visionllm_tools.diffusion.library import diffusers_class
print(diffusers_class("StableDiffusionPipeline").__name__)
"""


def test_a_pipeline_is_imported_without_a_word_about_torchvision() -> None:
    done = subprocess.run([sys.executable, "-c", ASKED], capture_output=True, text=True, check=True)
    assert done.stdout == "StableDiffusionPipeline\n"
    assert "torchvision" not in done.stderr


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingExtraError, match="generation"):
        diffusers_class("StableDiffusionPipeline")
