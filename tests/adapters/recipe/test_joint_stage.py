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
from visionllm_adapters.recipe.train_joint import PARTS, Batch, Maker, Student, main, only_drawing
from visionllm_adapters.recipe.train_language import LanguageTrainee
from visionllm_adapters.recipe.train_vision import OUTPUTS, VISION, Eyes
from visionllm_adapters.recipe.warm import part, saved_module

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


def test_pictures_become_tokens_and_marks(student: Student) -> None:
    encoder = Eyes(256).vis_encoder.eval().requires_grad_(False)
    arguments = argparse.Namespace(skills=["regions"], pictures=2, questions=6, bf16=False, seed=1)
    packer = Packer.from_file(EMBEDDED / "tokenizer.model")
    student.region_encoder.requires_grad_(True)  # another test may have frozen it
    batch = Maker(student, encoder, packer, Random(3), arguments).pictures(0)
    assert batch.tokens.shape == (2 * 64, 256)
    assert len(batch.regions) == len(batch.packed.regions) > 0
    batch.aid.backward()
    assert any(value.grad is not None and value.grad.any() for value in student.region_encoder.parameters())


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


def test_eyes_named_beside_a_finished_model_are_those_that_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    eyes, looked = Eyes(256), list[torch.Tensor]()
    torch.save({"modules": {"eyes": eyes.state_dict()}, "extra": {}}, tmp_path / "vision.pt")

    def words(maker: Maker, step: int) -> Batch:
        looked.append(next(maker.encoder.parameters()).detach().clone())
        return maker.words(rows=1)

    monkeypatch.setattr(Maker, "batch", words)
    given = {"--warm": EMBEDDED, "--vision": tmp_path / "vision.pt", "--out": tmp_path / "joint", "--lr": 0}
    given |= {"--vocabulary": EMBEDDED / "tokenizer.model", "--minutes": 1e-4}
    monkeypatch.setattr("sys.argv", ["train_joint", *(str(one) for pair in given.items() for one in pair)])
    main()
    assert torch.equal(looked[0], next(eyes.vis_encoder.parameters()))
    kept = part(saved_module(tmp_path / "joint" / "last.pt", "student"), "vl_bridge.")
    assert all(torch.equal(kept[name], value) for name, value in eyes.vl_bridge.state_dict().items())
