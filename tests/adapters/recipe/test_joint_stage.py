"""The joint stage: what a run teaches, what it leaves alone, and what may be shipped of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from visionllm_adapters.recipe.sources import taught_weights
from visionllm_adapters.recipe.train_joint import PARTS, Student, only_drawing
from visionllm_adapters.recipe.train_language import LanguageTrainee
from visionllm_adapters.recipe.train_vision import Eyes


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
