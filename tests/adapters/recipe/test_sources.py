"""A checkpoint from stages that were run, and a finished model for the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import visionllm_sdk
from visionllm_adapters.recipe.export import SHARD_BYTES, assemble
from visionllm_adapters.recipe.sources import Sources
from visionllm_adapters.recipe.train_diffusion import decoder_for
from visionllm_adapters.recipe.train_joint import PARTS
from visionllm_sdk.errors import CheckpointError

EMBEDDED = Path(visionllm_sdk.__file__).parent / "embedded"


def test_without_any_stage_the_finished_model_comes_out_as_it_is(tmp_path: Path) -> None:
    assemble(Sources(tmp_path / "runs", EMBEDDED)).save(
        tmp_path / "model", dtype=torch.float16, shard_bytes=SHARD_BYTES
    )
    for path in EMBEDDED.iterdir():
        assert (tmp_path / "model" / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_stage_that_was_run_takes_the_finished_models_place(tmp_path: Path) -> None:
    unet = decoder_for(editing=False).sd_unet.state_dict()
    (tmp_path / "generation").mkdir()
    tokens = {"kinds.weight": torch.ones(2, 2)}
    modules = {"ema_unet": unet, "ema_tokens": tokens}
    torch.save({"modules": modules}, tmp_path / "generation" / "last.pt")
    sources = Sources(tmp_path, EMBEDDED)
    model = assemble(sources)
    drawn = model.tools["generate"].decoder.state_dict()
    assert all(torch.equal(drawn[f"sd_unet.{name}"], value) for name, value in unet.items())
    finished = sources.finished
    kept = finished.tools["edit"].decoder.state_dict()
    for name, value in model.tools["edit"].decoder.state_dict().items():
        assert torch.equal(value, kept[name]), name
    for name, value in model.core.state_dict().items():
        assert torch.equal(value, finished.core.state_dict()[name]), name
    aids = sources.aids()
    assert torch.equal(aids["scene_tokens"]["kinds.weight"], tokens["kinds.weight"])
    assert "names" in aids


def test_without_a_finished_model_every_stage_is_needed(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has left no checkpoint"):
        Sources(tmp_path).student()
    assert not Sources(tmp_path).has("pose")


def test_weights_between_a_run_and_the_finished_model(tmp_path: Path) -> None:
    known = Sources(tmp_path, EMBEDDED).decoder("detector", "detector")
    (tmp_path / "detector").mkdir()
    moved = {name: value + 1 for name, value in known.items()}
    torch.save({"modules": {"detector": moved}}, tmp_path / "detector" / "last.pt")
    between = Sources(tmp_path, EMBEDDED, 0.25).decoder("detector", "detector")
    for name, value in known.items():
        if value.is_floating_point():
            torch.testing.assert_close(between[name], value.float() + 0.25, msg=name)
        else:
            assert torch.equal(between[name], moved[name]), name


def test_eyes_and_words_between_two_runs(tmp_path: Path) -> None:
    finished = Sources(tmp_path, EMBEDDED)
    eyes, words = finished.eyes(), finished.student()
    for stage in ("vision", "joint"):
        (tmp_path / stage).mkdir()
    seen = {f"vis_encoder.{name}": value + 1 for name, value in eyes.items()}
    torch.save({"modules": {"eyes": seen, "heads": {}}}, tmp_path / "vision" / "last.pt")
    taught = {name: value + 1 for name, value in words.items()} | {"model.symbols.x": torch.ones(2)}
    saved = {"modules": {"student": taught}, "extra": {"taught": list(PARTS)}}
    torch.save(saved, tmp_path / "joint" / "last.pt")
    between = Sources(tmp_path, EMBEDDED, 0.5)
    for old, new in ((eyes, between.eyes()), (words, between.student())):
        for name, value in old.items():
            if value.is_floating_point():
                torch.testing.assert_close(new[name], value.float() + 0.5, msg=name)
    assert torch.equal(between.student()["model.symbols.x"], torch.ones(2))
    assert torch.equal(between.aids()["symbols"]["x"], torch.ones(2))
