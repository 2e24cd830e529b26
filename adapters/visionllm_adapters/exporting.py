"""An adapter written into its base: a full checkpoint that needs neither this package nor PEFT."""

from __future__ import annotations

import os
from pathlib import Path

from visionllm_adapters.rack import AdapterRack
from visionllm_sdk.errors import AdapterError


def export_merged(
    adapter: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | None = None,
) -> Path:
    """Write a checkpoint that answers as the base does with the adapter.

    Args:
        adapter: folder of the adapter.
        output: folder of the checkpoint; must not exist.
        model: the base; None is the embedded model.

    Raises:
        AdapterError: the output exists, the adapter does not fit, or merging changes what is answered.
    """
    from visionllm_sdk import VisionLLM

    target = Path(output)
    if target.exists():
        raise AdapterError("the output folder exists already", value=str(target), remedy="Choose another.")
    vlm = VisionLLM.from_pretrained(model, dtype="float32")
    rack = AdapterRack(vlm.engine.model)
    rack.merge(rack.load(adapter)).save(target)
    return target
