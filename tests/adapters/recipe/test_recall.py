"""What a finished model's super-links of drawing say is written down as stand-in tokens."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import pytest
import torch

import visionllm_sdk
from visionllm_adapters.recipe import recall
from visionllm_adapters.recipe.teachers import Teachers
from visionllm_adapters.recipe.warm import AIDS, load_aids
from visionllm_sdk.scenes.checker import Asked, AskedObject
from visionllm_sdk.scenes.drawing_language import EditWords

EMBEDDED = Path(visionllm_sdk.__file__).parent / "embedded"


def test_tokens_are_fitted_and_join_the_other_aids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aids = tmp_path / "aids.safetensors"
    shutil.copy(AIDS, aids)
    monkeypatch.setattr(recall, "AIDS", aids)
    monkeypatch.setattr(recall, "_BATCH", 4)
    recall.train(
        argparse.Namespace(
            warm=EMBEDDED, out=tmp_path / "recall", minutes=0.01, lr=1e-3, every=60.0, threads=1, seed=1,
            skills=["pose", "regions", "drawing"], generation=None, editing=None, student=None,
            only_drawing=True,
        )
    )  # fmt: skip
    before, after = load_aids(), load_aids(aids)
    assert before.keys() == after.keys()
    changed = {
        name for name in before if any(not torch.equal(after[name][k], v) for k, v in before[name].items())
    }
    assert changed == {"scene_tokens", "edit_tokens"}


def test_orders_of_both_tables_have_tokens() -> None:
    tokens = recall.Recalled()
    asked = Asked((AskedObject("star", "red"),), background="blue")
    assert tokens("gen", [asked, asked]).shape == (2, 64, 96)
    assert tokens("edit", [EditWords("background", new_colour="red")]).shape == (1, 64, 96)


def test_a_finished_model_teaches_every_decoder() -> None:
    teachers = Teachers.recalled()
    assert None not in (teachers.poses, teachers.scenes, teachers.edits)
    assert not any(parameter.requires_grad for parameter in teachers.parameters())
