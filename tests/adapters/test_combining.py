"""Sums of low-rank adapters, and which base an adapter is for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from visionllm_adapters.base import base_fingerprint, same_base
from visionllm_adapters.folder import Manifest, write_folder
from visionllm_adapters.rack import AdapterRack
from visionllm_adapters.training.selection import NAME, prepare
from visionllm_adapters.training.settings import FinetuneSettings
from visionllm_sdk import VisionLLM
from visionllm_sdk.errors import AdapterError


def low_rank(folder: Path, checkpoint: Path, *, seed: int, **settings: bool) -> Path:
    """An adapter of nothing but low-rank updates, as if it had been trained."""
    model = VisionLLM.from_pretrained(checkpoint).engine.model
    base = base_fingerprint(model)
    learning = prepare(model, FinetuneSettings.of({"preset": "light", **settings}), [])
    random = torch.Generator().manual_seed(seed)
    for name, parameter in learning.peft.named_parameters():
        if "lora_B" in name:
            parameter.data.copy_(0.05 * torch.randn(parameter.shape, generator=random))
    write_folder(
        folder,
        Manifest(base=base, base_name="tiny", skills=("vqa",)),
        lora=lambda path: learning.peft.save_pretrained(
            str(path), selected_adapters=[NAME], save_embedding_layers=False
        ),
        modules={},
    )
    return folder


def read(rack: AdapterRack, name: str | None) -> Tensor:
    rack.activate(name)
    return rack._probe()


def test_the_sum_of_one_is_that_one(tiny_checkpoint: Path, tmp_path: Path) -> None:
    rack = AdapterRack(VisionLLM.from_pretrained(tiny_checkpoint).engine.model)
    base = read(rack, None)
    plain = rack.load(low_rank(tmp_path / "plain", tiny_checkpoint, seed=1))
    stable = rack.load(low_rank(tmp_path / "stable", tiny_checkpoint, seed=2, rslora=True))
    for number, name in enumerate((plain, stable)):
        alone = read(rack, name)
        assert (alone - base).abs().max() > 0.01
        torch.testing.assert_close(read(rack, rack.combine({name: 1.0}, f"one-{number}")), alone)
    one, other = (
        read(rack, rack.combine(dict.fromkeys(names, 0.5), "-".join(names)))
        for names in ((plain, stable), (stable, plain))
    )
    torch.testing.assert_close(one, other)


def test_weights_may_be_negative(tiny_checkpoint: Path, tmp_path: Path) -> None:
    rack = AdapterRack(VisionLLM.from_pretrained(tiny_checkpoint).engine.model)
    base = read(rack, None)
    name = rack.load(low_rank(tmp_path / "plain", tiny_checkpoint, seed=1))
    twin = rack.load(tmp_path / "plain", "twin")
    torch.testing.assert_close(read(rack, rack.combine({name: 1.0, twin: -1.0}, "nothing")), base)
    torch.testing.assert_close(read(rack, rack.combine({name: 0.0, twin: 1.0}, "one")), read(rack, name))


def test_sums_that_cannot_be(tiny_checkpoint: Path, tmp_path: Path) -> None:
    rack = AdapterRack(VisionLLM.from_pretrained(tiny_checkpoint).engine.model)
    name = rack.load(low_rank(tmp_path / "plain", tiny_checkpoint, seed=1))
    for weights in ({}, {name: 0.0}, {name: float("nan")}, {name: "1"}, {name: None}):
        with pytest.raises(AdapterError, match="finite number"):
            rack.combine(weights, "sum")  # type: ignore[arg-type]
    for odd in ("a.b", "", "a b", name, None):
        with pytest.raises(AdapterError, match=r"no name for|of this name"):
            rack.combine({name: 1.0}, odd)  # type: ignore[arg-type]
    assert rack.names == (name,)


def test_magnitudes_cannot_be_added(tiny_checkpoint: Path, tmp_path: Path) -> None:
    rack = AdapterRack(VisionLLM.from_pretrained(tiny_checkpoint).engine.model)
    name = rack.load(low_rank(tmp_path / "scaled", tiny_checkpoint, seed=1, dora=True))
    with pytest.raises(AdapterError, match="DoRA"):
        rack.combine({name: 1.0}, "sum")


def test_a_quantised_base_is_the_same_base(tiny_checkpoint: Path) -> None:
    model = VisionLLM.from_pretrained(tiny_checkpoint).engine.model
    whole = base_fingerprint(model)
    outline, matrices = whole.split("-")
    assert same_base(whole, outline)  # what a model with packed matrices says
    assert same_base(outline, whole)
    with torch.no_grad():
        model.core.llm.model.layers[0].mlp.up_proj.weight.neg_()
    other = base_fingerprint(model)
    assert other.split("-")[0] == outline
    assert other.split("-")[1] != matrices
    assert not same_base(other, whole)
    with torch.no_grad():
        model.core.llm.model.norm.weight.neg_()
    assert not same_base(base_fingerprint(model), outline)
