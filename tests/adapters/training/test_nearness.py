"""The way back towards the base, and where it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from tests.adapters.conftest import QUICK
from visionllm_adapters import finetune
from visionllm_adapters.folder import LORA, MODULES
from visionllm_adapters.places import place_of
from visionllm_adapters.training.job import Job
from visionllm_adapters.training.nearness import SHARES, between, stay_near
from visionllm_sdk import VisionLLM

BASE = {"row": torch.tensor([0.0, 4.0]), "layer.lora_A.default.weight": torch.tensor([1.0])}
LEARNT = {"row": torch.tensor([1.0, 0.0]), "layer.lora_A.default.weight": torch.tensor([3.0])}


def parameters() -> dict[str, nn.Parameter]:
    return {name: nn.Parameter(value.clone()) for name, value in LEARNT.items()}


@given(share=st.floats(0, 1))
def test_a_share_of_the_way_is_a_share_of_the_change(share: float) -> None:
    found = between(BASE, LEARNT, share)
    assert found["row"] == pytest.approx([share, 4 - 4 * share], abs=1e-6)
    assert torch.equal(found["layer.lora_A.default.weight"], torch.tensor([3.0]))


@pytest.mark.parametrize(("enough", "kept"), [(0.4, 0.5), (0.5, 0.5), (0.6, 0.75), (0.9, 1.0)])
def test_the_nearest_that_is_good_enough_is_kept(enough: float, kept: float) -> None:
    learning = parameters()

    def validate() -> tuple[float, dict[str, float]]:
        value = float(learning["row"][0].detach())
        return value, {"figure": value}

    assert stay_near(learning, BASE, LEARNT, validate, enough=enough) == kept
    assert learning["row"].detach() == pytest.approx([kept, 4 - 4 * kept])


def test_what_is_not_measured_stays_as_it_was_learnt() -> None:
    learning = parameters()
    assert stay_near(learning, BASE, LEARNT, lambda: (0.0, {}), enough=0.0) == 1.0
    assert torch.equal(learning["row"].detach(), LEARNT["row"])


def test_an_adapter_has_the_weights_that_were_kept(
    tiny_checkpoint: Path, labels: Path, val_labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are said to do the task as well: the first share is taken."""
    monkeypatch.setattr(Job, "validate", lambda self: (1.0, {"detect_ap50": 1.0}))
    settings: dict[str, Any] = {**QUICK, "steps": 2, "preset": "light"}

    def run(name: str, slack: float) -> Any:
        return finetune(
            labels, val=val_labels, output=tmp_path / name, model=tiny_checkpoint, slack=slack, **settings
        )

    whole, near = run("whole", 0.0), run("near", 0.5)
    assert not whole.progress.notes
    assert near.progress.notes == [
        f"kept {SHARES[0]:.0%} of the way from the base: within 50% of the best measured"
    ]
    model = VisionLLM.from_pretrained(tiny_checkpoint).engine.model
    far, kept = (load_file(tmp_path / name / MODULES) for name in ("whole", "near"))
    for key, value in far.items():
        before = place_of(model, key).parameter.detach()
        torch.testing.assert_close(kept[key], before.lerp(value, SHARES[0]))
        assert not torch.equal(value, before)
    factors = [load_file(tmp_path / name / LORA) for name in ("whole", "near")]
    halved = [name for name in factors[0] if "lora_B" in name]
    assert halved
    for name in halved:
        torch.testing.assert_close(factors[1][name], factors[0][name] * SHARES[0])


def test_of_nothing_learnt_no_share_is_taken(
    tiny_checkpoint: Path, labels: Path, val_labels: Path, tmp_path: Path
) -> None:
    """After two steps nothing is found yet."""
    settings: dict[str, Any] = {**QUICK, "steps": 2, "preset": "light"}
    report = finetune(labels, val=val_labels, output=tmp_path / "out", model=tiny_checkpoint, **settings)
    assert report.progress.best == 0
    assert not report.progress.notes
