"""The joint stage: what a run teaches, what it leaves alone, and what may be shipped of it."""

from __future__ import annotations

import argparse
from pathlib import Path
from random import Random

import pytest
import torch
from torch import nn

import visionllm_sdk
from visionllm_adapters.recipe.packing import Packer
from visionllm_adapters.recipe.sources import Sources, taught_weights
from visionllm_adapters.recipe.train_joint import PARTS, Maker, Student, only_drawing
from visionllm_adapters.recipe.train_language import LanguageTrainee
from visionllm_adapters.recipe.train_vision import OUTPUTS, VISION, Eyes

EMBEDDED = Path(visionllm_sdk.__file__).parent / "embedded"


@pytest.fixture(scope="module")
def student() -> Student:
    return Student(LanguageTrainee(300), Eyes(256))


def test_only_what_was_taught_is_shipped(student: Student, tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    state = student.state_dict()
    torch.save({"modules": {"student": state}, "extra": {"taught": ["pose", "regions"]}}, path)
    shipped = taught_weights(path)
    chance = tuple(prefix for name in ("generation", "editing") for prefix in PARTS[name])
    assert chance
    assert shipped.keys() == {key for key in state if not key.startswith(chance)}
    assert any(key.startswith("region_encoder.") for key in shipped)


def test_every_part_that_may_be_left_out_has_weights(student: Student) -> None:
    keys = student.state_dict().keys()
    for prefixes in PARTS.values():
        for prefix in prefixes:
            assert any(key.startswith(prefix) for key in keys), prefix


def test_drawing_alone_leaves_the_language_model_as_it_is(student: Student) -> None:
    only_drawing(student, 1e-3)
    taught = {name for name, value in student.named_parameters() if value.requires_grad}
    prefixes = (*PARTS["generation"], *PARTS["editing"], "order_reader.")
    assert taught
    assert all(name.startswith(prefixes) for name in taught)
    assert {name.split(".")[0] for name in taught} == {"sd", "ip2p", "model", "order_reader"}


@pytest.mark.parametrize("learns", [True, False])
def test_the_vision_encoder_learns_what_lies_where_if_it_learns(student: Student, learns: bool) -> None:
    encoder = Eyes(256).vis_encoder.eval().requires_grad_(learns)
    heads = nn.Linear(VISION["hidden_sizes"][-1], OUTPUTS) if learns else None
    arguments = argparse.Namespace(
        skills=["regions"], generation=None, editing=None, pictures=2, questions=2, bf16=False, seed=1
    )
    packer = Packer.from_file(EMBEDDED / "tokenizer.model")
    batch = Maker(student, encoder, packer, Random(3), arguments, heads).pictures(0)
    assert ("kind_ok" in batch.figures) == learns
    if heads is not None:
        batch.aid.backward()
        assert all(value.grad is not None for value in heads.parameters())
        assert any(value.grad is not None and value.grad.any() for value in encoder.parameters())


def test_eyes_that_learnt_with_the_language_model_are_shipped(tmp_path: Path) -> None:
    encoder, heads = Eyes(256).vis_encoder, nn.Linear(VISION["hidden_sizes"][-1], OUTPUTS)
    sources = Sources(tmp_path, EMBEDDED)
    modules = {"student": sources.student(), "vis_encoder": encoder.state_dict(), "heads": heads.state_dict()}
    (tmp_path / "joint").mkdir()
    torch.save({"modules": modules, "extra": {"taught": sorted(PARTS)}}, tmp_path / "joint" / "last.pt")
    shipped = sources.eyes()
    assert all(torch.equal(shipped[name], value) for name, value in encoder.state_dict().items())
    assert torch.equal(sources.aids()["heads"]["weight"], heads.weight)


def test_new_eyes_come_with_the_bridge_that_was_fitted_to_them(tmp_path: Path) -> None:
    eyes, heads = Eyes(256), nn.Linear(VISION["hidden_sizes"][-1], OUTPUTS)
    (tmp_path / "vision").mkdir()
    modules = {"eyes": eyes.state_dict(), "heads": heads.state_dict()}
    torch.save({"modules": modules, "extra": {}}, tmp_path / "vision" / "last.pt")
    sources = Sources(tmp_path, EMBEDDED)
    shipped = sources.student()
    for name, value in eyes.vl_bridge.state_dict().items():
        assert torch.equal(shipped[f"vl_bridge.{name}"], value)
    assert all(torch.equal(sources.eyes()[name], v) for name, v in eyes.vis_encoder.state_dict().items())
