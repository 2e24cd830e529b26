"""The mappers of drawing learn from kept super-links, and nothing else changes."""

from __future__ import annotations

import argparse
from pathlib import Path
from random import Random

import torch

import visionllm_sdk
from visionllm_adapters.recipe.drawing_tokens import EditTokens, SceneTokens
from visionllm_adapters.recipe.packing import Packer
from visionllm_adapters.recipe.train_joint import Student
from visionllm_adapters.recipe.train_language import LanguageTrainee
from visionllm_adapters.recipe.train_mapper import Pool, train
from visionllm_adapters.recipe.train_vision import Eyes
from visionllm_adapters.recipe.warm import saved_extra, saved_module

PIECES = Path(visionllm_sdk.__file__).parent / "embedded" / "tokenizer.model"


def test_only_the_mappers_change(tmp_path: Path) -> None:
    student = Student(LanguageTrainee(Packer.from_file(PIECES).size), Eyes(256))
    torch.save(
        {"modules": {"student": student.state_dict()}, "extra": {"taught": ["pose"]}}, tmp_path / "joint.pt"
    )
    for name, tokens in (("generation", SceneTokens()), ("editing", EditTokens())):
        torch.save({"modules": {"ema_tokens": tokens.state_dict()}}, tmp_path / f"{name}.pt")
    train(
        argparse.Namespace(
            recalled=False,
            vocabulary=PIECES, student=tmp_path / "joint.pt", out=tmp_path / "mapper",
            generation=tmp_path / "generation.pt", editing=tmp_path / "editing.pt",
            minutes=0.001, lr=1e-3, every=60.0, threads=1, seed=1, skills=["pose", "regions", "drawing"],
        )
    )  # fmt: skip
    before, after = student.state_dict(), saved_module(tmp_path / "mapper" / "last.pt", "student")
    changed = {key for key, value in after.items() if not torch.equal(value, before[key])}
    assert changed
    assert all(key.startswith(("sd.", "ip2p.")) for key in changed)
    assert saved_extra(tmp_path / "mapper" / "last.pt")["taught"] == ["editing", "generation", "pose"]


def test_pairs_stay_together() -> None:
    pool = Pool(Random(0))
    numbers = torch.arange(5.0)[:, None, None]
    pool.add(numbers.expand(5, 64, 3), numbers.expand(5, 64, 2))
    states, wanted = pool.draw(20)
    assert states.shape == (20, 64, 3)
    assert torch.equal(states[..., 0], wanted[..., 0])
