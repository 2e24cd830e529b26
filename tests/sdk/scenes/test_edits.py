from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from visionllm_sdk.errors import InputError
from visionllm_sdk.scenes import SceneOptions, render, sample_scene
from visionllm_sdk.scenes.edits import (
    EDIT_KINDS,
    Edit,
    Recolour,
    Remove,
    edited,
    sample_edit,
    touched,
    without_effects,
)
from visionllm_sdk.scenes.palette import background_word, colour_word
from visionllm_sdk.scenes.spec import Effects

OPTIONS = SceneOptions(canvas=(128, 128), objects=(2, 6), decoration=0.5)


@pytest.mark.parametrize("kind", EDIT_KINDS)
@given(seed=st.integers(0, 2**30))
@settings(max_examples=30, deadline=None)
def test_pixels_elsewhere_do_not_change(kind: str, seed: int) -> None:
    spec = without_effects(sample_scene(seed, options=OPTIONS))
    edit = sample_edit(seed, spec, kind=kind)
    if edit is None:
        return
    before, after = (np.asarray(render(scene).image) for scene in (spec, edited(spec, edit)))
    changed = (before != after).any(axis=-1)
    assert changed.any()
    assert not (changed & ~touched(spec, edit)).any()


@given(seed=st.integers(0, 2**30))
@settings(max_examples=30, deadline=None)
def test_sensor_noise_keeps_its_grain(seed: int) -> None:
    spec = sample_scene(seed, options=OPTIONS)
    spec = spec.model_copy(update={"effects": Effects(noise=5, seed=seed)})
    edit = sample_edit(seed, spec, kind="remove")
    if edit is not None:
        before, after = (np.asarray(render(scene).image) for scene in (spec, edited(spec, edit)))
        assert not ((before != after).any(axis=-1) & ~touched(spec, edit)).any()


@pytest.mark.parametrize("kind", EDIT_KINDS)
def test_most_scenes_can_be_edited_and_edits_are_data(kind: str) -> None:
    adapter: TypeAdapter[Edit] = TypeAdapter(Edit)
    found = 0
    for seed in range(40):
        spec = sample_scene(seed, options=OPTIONS)
        edit = sample_edit(seed, spec, kind=kind)
        if edit is not None:
            found += 1
            assert edit.kind == kind
            assert adapter.validate_json(adapter.dump_json(edit)) == edit
            assert sample_edit(seed, spec, kind=kind) == edit
    assert found >= 30


def test_edits_do_what_they_say() -> None:
    spec = sample_scene(12, options=OPTIONS)
    recolour = sample_edit(1, spec, kind="recolour")
    after = edited(spec, recolour).objects[recolour.index]
    assert after.colour == recolour.colour == colour_word(after.rgb) != spec.objects[recolour.index].colour
    remove = sample_edit(1, spec, kind="remove")
    assert edited(spec, remove).objects == tuple(o for i, o in enumerate(spec.objects) if i != remove.index)
    add = sample_edit(1, spec, kind="add")
    assert edited(spec, add).objects == (*spec.objects, add.item)
    change = sample_edit(1, spec, kind="background")
    assert edited(spec, change).background == change.background
    assert background_word(change.background.tones[0]) == change.colour


def test_patterns_follow_a_recoloured_shape() -> None:
    for seed in range(200):
        spec = sample_scene(seed, options=SceneOptions(canvas=(128, 128), decoration=1.0, figures=0.0))
        edit = sample_edit(seed, spec, kind="recolour")
        if isinstance(edit, Recolour) and spec.objects[edit.index].texture is not None:
            new = edited(spec, edit).objects[edit.index]
            assert max(abs(a - b) for a, b in zip(new.texture.rgb, new.rgb, strict=True)) < 50


def test_edits_of_what_is_not_there_are_refused() -> None:
    spec = sample_scene(1, options=SceneOptions(canvas=(128, 128), figures=1.0, objects=(1, 2)))
    with pytest.raises(InputError, match="not in the scene"):
        edited(spec, Remove(index=9))
    with pytest.raises(InputError, match="only shapes"):
        edited(spec, Recolour(index=0, colour="red", rgb=(200, 0, 0)))


def test_an_empty_scene_has_nothing_to_remove_or_recolour() -> None:
    spec = sample_scene(1, options=OPTIONS).model_copy(update={"objects": ()})
    assert sample_edit(0, spec, kind="remove") is None
    assert sample_edit(0, spec, kind="recolour") is None
    assert sample_edit(0, spec, kind="add") is not None
