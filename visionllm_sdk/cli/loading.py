"""What commands load: images by name, and the model."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from visionllm_sdk.images import LoadedImage
    from visionllm_sdk.skills import VisionLLM


def load_images(names: Sequence[str], allow_urls: bool) -> list[LoadedImage]:
    """Images by file name or URL; `-` is standard input.

    Raises:
        ImageError: one that cannot be used.
    """
    from visionllm_sdk.images import load_image

    return [
        load_image(sys.stdin.buffer.read() if name == "-" else name, allow_urls=allow_urls) for name in names
    ]


def load_model(model: str | None, device: str | None) -> VisionLLM:
    """The model; says on standard error that it is being loaded.

    Raises:
        CheckpointError: no such checkpoint.
    """
    from visionllm_sdk import VisionLLM
    from visionllm_sdk.cli import show

    with show.messages().status("Loading the model"):
        return VisionLLM.from_pretrained(model, device=device)
