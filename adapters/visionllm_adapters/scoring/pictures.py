"""Evaluation of pictures that a model makes, against those of the data.

A caption leaves open how its picture looks, so that generated pictures are compared by their colours; an edit
is compared with the wanted picture point by point.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from visionllm_adapters.data.records import DataSet
from visionllm_adapters.scoring.basics import chunks, need
from visionllm_adapters.scoring.score import Score
from visionllm_sdk.images import load_image

if TYPE_CHECKING:
    from visionllm_sdk import VisionLLM

_SEED: Final = 1
_DRAWN: Final = 24
_STEPS: Final = 64
"""Width of a colour bin, of 256."""


def generate(vlm: VisionLLM, data: DataSet, *, adapter: str | None, batch: int) -> Score:
    """Share of colour that a generated picture has in common with the one of its caption."""
    records = [record for record in data.records if record.captions]
    need(records, data, "generate", "captions")
    verdicts: dict[str, float] = {}
    drawings: dict[str, Image.Image] = {}
    for part in chunks(records, batch):
        drawn = vlm.generate([record.captions[0] for record in part], seed=_SEED, adapter=adapter)
        for record, made in zip(part, drawn, strict=True):
            verdicts[record.key] = common_colours(made.image, record.load().image)
            if len(drawings) < _DRAWN:
                drawings[record.key] = _beside(record.load().image, made.image)
    return Score(
        skill="generate",
        metric="colours",
        figures={"colours": float(np.mean(list(verdicts.values())))},
        counts={"captions": len(records)},
        drawings=drawings,
        verdicts=verdicts,
    )


def edit(vlm: VisionLLM, data: DataSet, *, adapter: str | None, batch: int) -> Score:
    """How near an edited picture is to the wanted one: 1 less the mean difference of its channels."""
    asked = [(record, change) for record in data.records for change in record.changes]
    need(asked, data, "edit", "edits")
    verdicts: dict[str, float] = {}
    drawings: dict[str, Image.Image] = {}
    for part in chunks(asked, batch):
        images: list[Any] = [record.load() for record, _ in part]
        edited = vlm.edit(images, [change.instruction for _, change in part], seed=_SEED, adapter=adapter)
        for (record, change), made in zip(part, edited, strict=True):
            wanted = load_image(change.after).image
            key = f"{record.key}: {change.instruction}"
            verdicts[key] = likeness(made.image, wanted)
            if len(drawings) < _DRAWN:
                drawings[key] = _beside(wanted, made.image)
    return Score(
        skill="edit",
        metric="likeness",
        figures={"likeness": float(np.mean(list(verdicts.values())))},
        counts={"edits": len(asked)},
        drawings=drawings,
        verdicts=verdicts,
    )


def common_colours(first: Image.Image, second: Image.Image) -> float:
    """Intersection of the histograms of colours, 0 to 1 (Swain and Ballard, 1991)."""
    return float(np.minimum(_histogram(first), _histogram(second)).sum())


def likeness(first: Image.Image, second: Image.Image) -> float:
    """1 less the mean absolute difference of channels in [0, 1]; the first takes the size of the second."""
    sized = first.convert("RGB").resize(second.size, Image.Resampling.BILINEAR)
    pair = (np.asarray(one.convert("RGB"), dtype=np.float32) for one in (sized, second))
    return 1 - float(np.abs(np.subtract(*pair)).mean()) / 255


def _histogram(image: Image.Image) -> Any:
    bins = np.asarray(image.convert("RGB"), dtype=np.int64) // _STEPS
    side = 256 // _STEPS
    flat = (bins[..., 0] * side + bins[..., 1]) * side + bins[..., 2]
    counts = np.bincount(flat.ravel(), minlength=side**3)
    return counts / counts.sum()


def _beside(wanted: Image.Image, made: Image.Image) -> Image.Image:
    """Wanted and made picture side by side."""
    both = Image.new("RGB", (2 * wanted.width + 4, wanted.height), "white")
    both.paste(wanted, (0, 0))
    both.paste(made.resize(wanted.size, Image.Resampling.BILINEAR), (wanted.width + 4, 0))
    return both
