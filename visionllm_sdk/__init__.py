"""visionllm-sdk: an image and a sentence in, typed visual results out, from one model that routes by itself.

Importing this package is cheap: names are imported on first use, and torch only when a model is loaded.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visionllm_sdk.agent import ChatVisionLLM, VisionAgent
    from visionllm_sdk.errors import VisionLLMError
    from visionllm_sdk.images import ImageLimits, LoadedImage, load_image
    from visionllm_sdk.results import (
        Answer,
        Box,
        Count,
        Detection,
        Detections,
        EditedImage,
        GeneratedImage,
        Grounding,
        Keypoint,
        Mask,
        Point,
        Pose,
        Poses,
        RegionDescription,
        RegionLabel,
        Reply,
        RoutedCall,
        Scribble,
        SemanticMap,
        revive,
    )
    from visionllm_sdk.skills import VisionLLM

__version__ = "0.1.0"

__all__ = [
    # entry points
    "VisionLLM",
    "ChatVisionLLM",
    "VisionAgent",
    # images
    "ImageLimits",
    "LoadedImage",
    "load_image",
    # results
    "Answer",
    "Box",
    "Count",
    "Detection",
    "Detections",
    "EditedImage",
    "GeneratedImage",
    "Grounding",
    "Keypoint",
    "Mask",
    "Point",
    "Pose",
    "Poses",
    "RegionDescription",
    "RegionLabel",
    "Reply",
    "RoutedCall",
    "Scribble",
    "SemanticMap",
    "revive",
    # errors
    "VisionLLMError",
]

_HOME = {
    "VisionLLM": "visionllm_sdk.skills",
    "ChatVisionLLM": "visionllm_sdk.agent",
    "VisionAgent": "visionllm_sdk.agent",
    "ImageLimits": "visionllm_sdk.images",
    "LoadedImage": "visionllm_sdk.images",
    "load_image": "visionllm_sdk.images",
    "VisionLLMError": "visionllm_sdk.errors",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME.get(name, "visionllm_sdk.results")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
