"""Training of drawing and editing: plans, pictures, stand-ins, one step after another, export."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch

from visionllm_adapters.recipe import train_diffusion
from visionllm_adapters.recipe.decoders import shipped_decoders
from visionllm_adapters.recipe.drawing_pictures import (
    CLEAN,
    edit_pair,
    editing_batch,
    generation_batch,
    random_layout,
    scene_of,
)
from visionllm_adapters.recipe.drawing_tokens import (
    TOKENS,
    WIDTH,
    EditTokens,
    SceneTokens,
    layout_tensors,
    order_tensors,
)
from visionllm_adapters.recipe.layouts import plan_layout
from visionllm_adapters.recipe.sources import Sources
from visionllm_adapters.recipe.warm import saved_module
from visionllm_sdk.scenes import render
from visionllm_sdk.scenes.captions import caption_text
from visionllm_sdk.scenes.checker import Asked, AskedObject, AskedRelation, check
from visionllm_sdk.scenes.drawing_language import EditWords, random_asked
from visionllm_sdk.scenes.edit_checker import check_edit
from visionllm_sdk.scenes.edits import edited
from visionllm_sdk.scenes.expressions import RELATIONS


@pytest.mark.parametrize("word", RELATIONS)
def test_a_plan_puts_things_into_their_relation(word: str) -> None:
    asked = Asked(
        (AskedObject("circle", "red"), AskedObject("star", "blue")), (AskedRelation(0, word, 1),), "white"
    )
    first, second = (thing.box for thing in plan_layout(asked).things)
    axis, sign = RELATIONS[word]
    assert (first[axis] - second[axis]) * sign > 0.4
    assert first[1 - axis] == second[1 - axis] == 0.5


def test_a_plan_puts_things_where_they_are_asked_for() -> None:
    asked = Asked((AskedObject("circle", "red", "small", "top right"), AskedObject("star", "blue", "large")))
    circle, star = (thing.box for thing in plan_layout(asked, aspect=2.0).things)
    assert circle[:2] == pytest.approx((0.78, 0.22))
    assert circle[2] * 2 == pytest.approx(circle[3])
    assert star[3] > 3 * circle[3]


def test_planned_pictures_show_what_was_asked() -> None:
    rng, right = Random(5), []
    for number in range(60):
        asked = random_asked(rng)
        scenes = (scene_of(plan_layout(asked), 100 * number + i, (64, 64)) for i in range(100))
        scene = next(one for one in scenes if one is not None)
        right.append(check(render(scene).image, asked).right)
        assert plan_layout(asked) == plan_layout(asked), caption_text(asked)
    assert np.mean(right) >= 0.95


def test_batches_follow_from_their_seeds() -> None:
    layouts, images = generation_batch(3, 5)
    again, same = generation_batch(3, 5)
    assert layouts == again
    assert torch.equal(images, same)
    assert images.shape[:2] == (5, 3)
    assert images.min() >= -1
    assert images.max() <= 1
    assert random_layout(7) == random_layout(7)


def test_edit_pairs_are_exact() -> None:
    pairs, before, after = editing_batch(2, 6)
    assert before.shape == after.shape == (6, 3, 64, 64)
    assert (before != after).flatten(1).any(1).all()
    assert [pair.words.operation for pair in pairs] == [pair.edit.kind for pair in pairs]
    clean = [edit_pair(seed, options=CLEAN) for seed in range(12)]
    done = [
        check_edit(render(edited(pair.before, pair.edit)).image, pair.before, pair.edit).done
        for pair in clean
        if pair is not None
    ]
    assert len(done) > 6
    assert all(done)
    one, same = edit_pair(11), edit_pair(11)
    assert one is not None
    assert same is not None
    assert (one.before, one.edit, one.words) == (same.before, same.edit, same.words)


def test_stand_ins_say_what_is_where() -> None:
    torch.manual_seed(0)
    asked = Asked((AskedObject("circle", "red", None, "top left"),), (), "white")
    other = Asked((AskedObject("circle", "blue", None, "top left"),), (), "white")
    tokens = SceneTokens()(*layout_tensors([plan_layout(asked), plan_layout(other)]))
    assert tokens.shape == (2, TOKENS, WIDTH)
    grid = (tokens[0] - tokens[1]).abs().sum(-1).reshape(8, 8)
    assert grid[0:3, 0:3].mean() > 20 * grid[5:, 5:].mean()


def test_stand_ins_of_instructions() -> None:
    torch.manual_seed(0)
    words = [EditWords("remove", kind="star"), EditWords("remove", kind="star", place="top left")]
    tokens = EditTokens()(*order_tensors(words))
    assert tokens.shape == (2, TOKENS, WIDTH)
    grid = (tokens[0] - tokens[1]).abs().sum(-1).reshape(8, 8)
    away = grid[5:, 5:]  # a token far from the place names it, and no more
    assert away.min() > 1
    torch.testing.assert_close(away, away[:1, :1].expand_as(away), rtol=1e-3, atol=1e-3)
    assert (grid[0:2, 0:2] - away.mean()).abs().mean() > 0.5


def test_training_blurs_where_but_not_what() -> None:
    torch.manual_seed(0)
    tokens = EditTokens()
    order = EditWords("add", new_kind="star", new_colour="red", place="bottom")
    exact = tokens(*order_tensors([order]))[0].reshape(8, 8, WIDTH)
    heard = train_diffusion._vague(tokens, [order] * 64).reshape(64, 8, 8, WIDTH)
    torch.testing.assert_close(heard[:, :3], exact[:3].expand(64, 3, 8, WIDTH), rtol=1e-3, atol=1e-3)
    off = (heard[:, 7, 3] - exact[7, 3]).abs().amax(-1)
    assert (off < 1e-5).sum() > 16  # half are sure of the place
    assert (off > 0.01).sum() > 16


@pytest.mark.parametrize("editing", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_training_goes_on_where_it_stopped(
    tmp_path: Path, editing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_diffusion, "_SHEET", 6)
    arguments = argparse.Namespace(
        out=tmp_path / ("editing" if editing else "generation"), editing=editing, minutes=0.02, lr=1e-3,
        batch=2, bf16=True, every=60.0, threads=1, seed=1, start=None, warm=None, keep_tokens=False,
        drop=None,
    )  # fmt: skip
    start = time.monotonic()
    train_diffusion.train(arguments)
    first = saved_module(arguments.out / "last.pt", "ema_unet")
    tokens = saved_module(arguments.out / "last.pt", "ema_tokens")
    arguments.minutes, arguments.keep_tokens = (time.monotonic() - start) / 60 + 0.02, True
    train_diffusion.train(arguments)
    for name, value in saved_module(arguments.out / "last.pt", "tokens").items():
        assert torch.equal(value, tokens[name]), name
    last = saved_module(arguments.out / "last.pt", "ema_unet")
    assert not torch.equal(first["conv_out.weight"], last["conv_out.weight"])
    lines = [json.loads(line) for line in (arguments.out / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] > lines[0]["step"] > 0
    assert {"loss", "recolour" if editing else "right"} <= lines[-1].keys()
    assert (arguments.out / "sheet.png").stat().st_size > 500


def test_decoders_are_shipped_once_the_language_model_speaks_to_them(tmp_path: Path) -> None:
    (tmp_path / "generation").mkdir()
    (tmp_path / "detector").mkdir()
    decoder = train_diffusion.decoder_for(False)
    state = decoder.state_dict()
    torch.save({"modules": {"ema_unet": decoder.sd_unet.state_dict()}}, tmp_path / "generation" / "last.pt")
    torch.save({"modules": {"detector": {}}}, tmp_path / "detector" / "last.pt")
    assert [one.tool for one in shipped_decoders(Sources(tmp_path), {})] == ["detect"]
    joint = {f"sd.{key}": value for key, value in state.items() if not key.startswith(("sd_unet", "sd_vae"))}
    joint["model.emb_embeddings_gen.weight"] = torch.zeros(64, 256)
    shipped = shipped_decoders(Sources(tmp_path), joint)[-1]
    assert shipped.tool == "generate"
    assert shipped.weights.keys() == state.keys()
    assert shipped.tables["gen"].shape == (64, 256)


def test_errors_count_where_things_may_lie_and_as_errors_of_the_picture() -> None:
    boxes = torch.tensor([[[0.25, 0.25, 0.3, 0.3], [0.75, 0.75, 0.3, 0.3]]])
    near = train_diffusion.inside(boxes, torch.tensor([[True, False]]), 8, 16)
    assert near.shape == (1, 1, 8, 16)
    assert near[0, 0, 2, 4] == 1
    assert near[0, 0, 6, 12] == 0  # that one is padding
    assert near[0, 0, :, 8:].sum() == 0


def test_editing_starts_from_what_drawing_knows(tmp_path: Path) -> None:
    drawing, editing = (train_diffusion.decoder_for(kind).sd_unet for kind in (False, True))
    torch.save({"modules": {"ema_unet": drawing.state_dict()}}, tmp_path / "last.pt")
    before = {key: value.clone() for key, value in editing.state_dict().items()}
    train_diffusion.start_from(editing, tmp_path / "last.pt")
    after, known = editing.state_dict(), drawing.state_dict()
    assert torch.equal(after["mid_block.resnets.0.conv1.weight"], known["mid_block.resnets.0.conv1.weight"])
    for kept in ("conv_in.weight", "grid_in.weight", "conv_out.weight"):
        assert torch.equal(after[kept], before[kept])


def test_a_last_layer_that_says_more_goes_on_from_what_it_said(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    old = {
        key: value.clone() for key, value in train_diffusion.decoder_for(True).sd_unet.state_dict().items()
    }
    old = {key: value[:-2] if key.startswith("conv_out.") else value for key, value in old.items()}
    del old["colour_in.weight"]
    monkeypatch.setattr(train_diffusion, "shipped_part", lambda folder, prefix: dict(old))
    decoder, tokens = train_diffusion.decoder_for(True), EditTokens()
    train_diffusion.start_warm(Path("anywhere"), decoder, tokens, editing=True)
    found = decoder.sd_unet.state_dict()
    assert torch.equal(found["conv_out.bias"][:-2], old["conv_out.bias"])
    assert torch.equal(found["conv_out.bias"][-2:], torch.zeros(2))
    assert all(torch.equal(found[key], old[key]) for key in old if not key.startswith("conv_out."))
