"""New eyes that say what the old ones said."""

from __future__ import annotations

import argparse
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import visionllm_sdk
from visionllm_adapters.recipe import running
from visionllm_adapters.recipe.pictures import Drawn, draw
from visionllm_adapters.recipe.train_bridge import has_margins, occupied, train
from visionllm_adapters.recipe.train_vision import OUTPUTS, VISION, Eyes
from visionllm_adapters.recipe.warm import saved_module, shipped_part

EMBEDDED = Path(visionllm_sdk.__file__).parent / "embedded"


@pytest.mark.parametrize(("size", "margins"), [((160, 160), False), ((160, 120), False), ((300, 100), True)])
def test_only_pictures_without_margins_are_seen_alike(size: tuple[int, int], margins: bool) -> None:
    assert has_margins(draw(5, size)) == margins


def test_tokens_of_things() -> None:
    one = draw(5, (200, 150))
    taken = occupied([one, Drawn(np.zeros((9, 9, 3), np.uint8), np.zeros((0, 9, 9), bool), one.facts)], 64)
    assert taken.shape == (2, 64)
    assert 1 <= int(taken[0].sum()) <= len(one.facts.objects)
    assert torch.equal(taken[0], taken[1])


@pytest.mark.slow
def test_a_bridge_comes_near_to_what_the_finished_model_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = count(step=0.1)  # of its own: what a busy machine does in six seconds differs
    monkeypatch.setattr(running, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    torch.manual_seed(0)
    eyes, heads = Eyes(256), nn.Linear(VISION["hidden_sizes"][-1], OUTPUTS)
    eyes.vis_encoder.load_state_dict(shipped_part(EMBEDDED, "vis_encoder."))
    modules = {"eyes": eyes.state_dict(), "heads": heads.state_dict()}
    torch.save({"modules": modules}, tmp_path / "vision.pt")
    train(
        argparse.Namespace(
            vision=tmp_path / "vision.pt", warm=EMBEDDED, out=tmp_path / "bridge", minutes=0.09, lr=3e-3,
            batch=4, bf16=False, every=1.0, threads=2, seed=1,
        )
    )  # fmt: skip
    lines = (tmp_path / "bridge" / "log.jsonl").read_text().splitlines()
    first, last = (float(line.split('"elsewhere": ')[1].rstrip("}")) for line in (lines[0], lines[-1]))
    assert last < 0.9 * first
    kept = saved_module(tmp_path / "bridge" / "last.pt", "eyes")
    assert all(
        torch.equal(kept[f"vis_encoder.{name}"], v) for name, v in eyes.vis_encoder.state_dict().items()
    )
    assert torch.equal(saved_module(tmp_path / "bridge" / "last.pt", "heads")["weight"], heads.weight)
