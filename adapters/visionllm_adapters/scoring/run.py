"""`evaluate`: how well a model does one thing on labelled data."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from visionllm_adapters.data.formats import Source, read_data
from visionllm_adapters.scoring.measures import MEASURES
from visionllm_adapters.scoring.score import Score
from visionllm_sdk.errors import InputError

if TYPE_CHECKING:
    from visionllm_sdk import VisionLLM


def evaluate(
    data: Source,
    *,
    images: str | os.PathLike[str] | None = None,
    skill: str = "detect",
    adapter: str | os.PathLike[str] | None = None,
    model: VisionLLM | str | os.PathLike[str] | None = None,
    split: str = "val",
    skip_faulty: bool = False,
    batch: int = 16,
) -> Score:
    """Measure a model on labelled pictures.

    Args:
        data: annotations of any format of `read_data`.
        images: folder of the pictures.
        skill: `detect` (COCO AP of boxes and masks), `ground` (Acc@0.5, cIoU), `pose`, `vqa`, `caption`;
            `describe`, `classify`, `segment_regions`; `generate`, `edit`.
        adapter: name of a loaded adapter, or the folder of one, which is loaded for the time of the call.
        model: a model, or its name or folder; None is the embedded one.
        split: part of a set that has several.
        skip_faulty: leave faulty items out instead of refusing the set.
        batch: pictures that go to the model together.

    Raises:
        DataError: data that cannot be read, is faulty, or has nothing for the skill.
        InputError: no such skill.
        AdapterError: an adapter that does not fit.
    """
    from visionllm_sdk import VisionLLM

    measure = MEASURES.get(skill)
    if measure is None:
        raise InputError("this skill cannot be measured on data", value=skill, limit=", ".join(MEASURES))
    known = read_data(data, images=images, split=split).usable(skip_faulty=skip_faulty)
    vlm = model if isinstance(model, VisionLLM) else VisionLLM.from_pretrained(model)
    start = time.perf_counter()
    name, loaded = _chosen(vlm, adapter)
    try:
        score = measure(vlm, known, adapter=name, batch=batch)
    finally:
        if loaded and name is not None:
            vlm.unload_adapter(name)
    return replace(score, seconds=time.perf_counter() - start)


def _chosen(vlm: VisionLLM, adapter: str | os.PathLike[str] | None) -> tuple[str | None, bool]:
    """Name of the adapter, and whether it was loaded just now."""
    if adapter is None or (isinstance(adapter, str) and adapter in vlm.adapters):
        return adapter, False
    return vlm.load_adapter(adapter), True
