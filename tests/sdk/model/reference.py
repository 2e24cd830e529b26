"""Recorded reference values, and the small reference checkpoints they were recorded with."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from visionllm_sdk.model.assembly import Model, load_model
from visionllm_sdk.model.prompt import Batch, Prompt, RegionPrompt, TiledImage
from visionllm_sdk.registry import ToolRegistry

GOLDENS = Path(__file__).parents[2] / "goldens"
TOLERANCE = 1e-4
MM_CASES = (
    *((("tiny_core", f"golden_mm_{name}")) for name in
      ("vqa", "det", "pose", "gen", "edit", "incontext", "interactive_anyres")),
    *((("variant_core", f"variant_golden_mm_{name}")) for name in ("vqa", "det", "interactive_anyres")),
)  # fmt: skip
GENERATE_CASES = (
    *(("tiny_core", f"golden_generate_{name}") for name in ("text", "det", "pose", "gen", "edit")),
    ("variant_core", "variant_golden_generate_det"),
)
# How the tiles of a case are spread over its images, where it is not one image a row.
_TILES = {"golden_mm_incontext": [3, 1], "golden_mm_gen": []}


@functools.lru_cache(maxsize=4)
def reference_model(name: str) -> Model:
    """A reference checkpoint without tools. Shared: tests leave it as it is."""
    return load_model(GOLDENS / name, registry=ToolRegistry())


def fresh_model(name: str = "tiny_core") -> Model:
    """A reference checkpoint that a test may change."""
    return load_model(GOLDENS / name, registry=ToolRegistry())


def golden(name: str) -> dict[str, Tensor]:
    """Recorded tensors."""
    return load_file(GOLDENS / f"{name}.safetensors")


def error(found: Tensor, wanted: Tensor) -> float:
    """Relative error in the Euclidean norm."""
    found, wanted = found.detach().double(), wanted.double()
    return float((found - wanted).norm() / wanted.norm())


def golden_batch(name: str, values: dict[str, Tensor]) -> Batch:
    """The recorded inputs as a batch."""
    rows = values["input_ids"].shape[0]
    images: list[tuple[TiledImage, ...]] = []
    for row in range(rows):
        pixels = values.get("images", values.get(f"images.{row}"))
        assert pixels is not None
        tiles = _TILES.get(name, [len(pixels)])
        images.append(tuple(map(TiledImage, pixels.split(tiles))) if tiles else ())
    regions = tuple(
        tuple(RegionPrompt(mask) for mask in values.get(f"regions.{row}", [])) for row in range(rows)
    )
    return Batch(
        ids=values["input_ids"].long(),
        mask=values["attention_mask"].bool(),
        labels=values["labels"].long(),
        images=tuple(images),
        regions=regions,
    )


def golden_prompt(model: Model, values: dict[str, Tensor]) -> Prompt:
    """The recorded prompt of a generation."""
    ids = values["prompt_ids"][0].tolist()
    has_image = model.core.patch_id in ids
    images = (TiledImage(values["images.0"]),) if has_image else ()
    return Prompt(ids=ids, marks=[False] * len(ids), images=images)


class Planned:
    """Logits processor of the recorded generations: planned tokens at some steps, ordinary ones elsewhere."""

    def __init__(self, *, prompt_length: int, plan: dict[int, int], first_control: int, end: int) -> None:
        self._prompt_length = prompt_length
        self._plan = plan
        self._first_control = first_control
        self._end = end

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        step = ids.shape[1] - self._prompt_length
        changed = scores.clone()
        if step in self._plan:
            changed[:] = -torch.inf
            changed[:, self._plan[step]] = 0
        else:
            changed[:, self._first_control :] = -torch.inf
            changed[:, self._end] = -torch.inf
        return changed


def released_config(name: str = "tiny_core") -> dict[str, Any]:
    """The released configuration of a reference checkpoint, to be changed at will."""
    return dict(reference_model(name).config.to_released())
