from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from visionllm_sdk.errors import InputError
from visionllm_sdk.scenes import SceneOptions, held_out_seeds, render, sample_scene
from visionllm_sdk.scenes.edit_checker import check_edit, psnr
from visionllm_sdk.scenes.edits import EDIT_KINDS, AnyEdit, EditKind, edited, sample_edit
from visionllm_sdk.scenes.spec import SceneSpec

OPTIONS = SceneOptions(canvas=(96, 96), objects=(1, 4), figures=0.0, effects=0.0, overlap=0.2)


def edits(kind: EditKind, count: int) -> list[tuple[SceneSpec, AnyEdit]]:
    found = []
    for seed in held_out_seeds(4 * count, start=70_000):
        spec = sample_scene(seed, options=OPTIONS)
        edit = sample_edit(seed, spec, kind=kind)
        if edit is not None and spec.objects:
            found.append((spec, edit))
    return found[:count]


@pytest.mark.parametrize("kind", EDIT_KINDS)
def test_exact_edits_are_accepted_and_untouched_pictures_are_not(kind: EditKind) -> None:
    done, undone = [], []
    for spec, edit in edits(kind, 12):
        exact = check_edit(render(edited(spec, edit)).image, spec, edit)
        assert exact.psnr == math.inf
        done.append(exact.done)
        untouched = check_edit(render(spec).image, spec, edit)
        if untouched.inside < 20:  # a nearly white background that shall become white may stay as it is
            undone.append(untouched.done)
    assert len(done) == 12
    assert np.mean(done) >= 0.99
    assert len(undone) >= 8
    assert not any(undone)


def test_the_wrong_colour_is_rejected() -> None:
    spec, edit = edits("recolour", 1)[0]
    wrong = edit.model_copy(update={"colour": "red" if edit.colour != "red" else "blue"})
    assert not check_edit(render(edited(spec, edit)).image, spec, wrong).done


def test_damage_elsewhere_shows_outside() -> None:
    spec, edit = edits("remove", 1)[0]
    exact = np.asarray(render(edited(spec, edit)).image)
    noisy = np.clip(exact.astype(int) + np.random.default_rng(0).normal(0, 12, exact.shape), 0, 255)
    verdict = check_edit(Image.fromarray(noisy.astype(np.uint8)), spec, edit)
    assert verdict.done
    assert 20 < verdict.outside < 30
    assert 20 < verdict.psnr < 30


def test_psnr() -> None:
    black = np.zeros((4, 4, 3), np.uint8)
    assert psnr(black, black) == math.inf
    assert psnr(black, black + np.uint8(255)) == 0
    half = black.copy()
    half[:2] = 255
    where = np.zeros((4, 4), bool)
    where[2:] = True
    assert psnr(black, half, where) == math.inf
    assert psnr(black, half) == pytest.approx(10 * math.log10(2))


def test_another_size_is_an_error() -> None:
    spec, edit = edits("remove", 1)[0]
    with pytest.raises(InputError, match="size"):
        check_edit(Image.new("RGB", (50, 50)), spec, edit)
