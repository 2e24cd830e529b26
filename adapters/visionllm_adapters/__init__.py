"""Training: the recipe of the embedded model, and LoRA adapters for a user's own domain.

report = finetune("train.json", images="photos", val="val.json", output="my-adapters/domain")
evaluate("val.json", images="photos", adapter="my-adapters/domain").figures
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visionllm_adapters.data import check, read_data
    from visionllm_adapters.exporting import export_merged
    from visionllm_adapters.reporting.report import FinetuneReport
    from visionllm_adapters.scoring import Score, evaluate
    from visionllm_adapters.training.finetune import finetune
    from visionllm_adapters.training.settings import FinetuneSettings

__all__ = [
    "FinetuneReport",
    "FinetuneSettings",
    "Score",
    "check",
    "evaluate",
    "export_merged",
    "finetune",
    "read_data",
]

_HOME = {
    "FinetuneReport": "visionllm_adapters.reporting.report",
    "FinetuneSettings": "visionllm_adapters.training.settings",
    "Score": "visionllm_adapters.scoring",
    "check": "visionllm_adapters.data",
    "evaluate": "visionllm_adapters.scoring",
    "export_merged": "visionllm_adapters.exporting",
    "finetune": "visionllm_adapters.training.finetune",
    "read_data": "visionllm_adapters.data",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
