from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionllm_sdk.errors import InputError
from visionllm_sdk.scenes import SceneOptions, SceneTruth, render, sample_scene, truth
from visionllm_sdk.scenes.figures import (
    DOG_KEYPOINTS,
    KEYPOINTS,
    PERSON_KEYPOINTS,
    SKELETONS,
)
from visionllm_sdk.scenes.spec import Background, ObjectSpec, SceneSpec
from visionllm_sdk.scenes.truth import by_colour, by_colour_and_kind, by_kind

SEEDS = st.integers(0, 2**30)
FIGURES_ONLY = SceneOptions(
    canvas=(128, 128), figures=1.0, objects=(1, 3), overlap=1.0, figure_extent=(0.4, 0.9)
)


def known_of(seed: int, options: SceneOptions) -> SceneTruth:
    spec = sample_scene(seed, options=options)
    return truth(spec, render(spec))


@given(SEEDS)
@settings(max_examples=50, deadline=None)
def test_boxes_hold_the_visible_mask_tightly(seed: int) -> None:
    known = known_of(seed, SceneOptions(canvas=(112, 96)))
    for box, mask in zip(known.boxes.astype(int), known.masks, strict=True):
        x1, y1, x2, y2 = box
        assert mask.sum() == mask[y1:y2, x1:x2].sum() > 0
        assert mask[y1].any()
        assert mask[y2 - 1].any()
        assert mask[:, x1].any()
        assert mask[:, x2 - 1].any()


def test_facts_repeat_the_scene() -> None:
    known = known_of(5, SceneOptions(canvas=(128, 96), objects=(4, 6)))
    facts = known.facts()
    assert (facts.width, facts.height) == (128, 96)
    for fact, item, box in zip(facts.objects, known.spec.objects, known.boxes, strict=True):
        assert (fact.kind, fact.colour, fact.size) == (item.kind, item.colour, item.size)
        assert fact.diameter == item.diameter
        assert fact.box == tuple(box.tolist())
        assert all(type(value) is float for value in fact.box)


@pytest.mark.parametrize("name_of", [by_kind, by_colour, by_colour_and_kind])
def test_the_semantic_map_is_the_union_of_the_masks(name_of: object) -> None:
    known = known_of(11, SceneOptions(canvas=(128, 128), objects=(6, 8), figures=0.2))
    names = sorted({name_of(item) for item in known.spec.objects} - {None})
    semantic = known.semantic_map(names, name_of)
    for place, name in enumerate(names):
        members = [name_of(item) == name for item in known.spec.objects]
        assert np.array_equal(semantic == place, known.masks[members].any(axis=0))
    assert np.array_equal(known.semantic_map(["car"], name_of), np.full((128, 128), -1))


def test_a_class_named_twice_is_refused() -> None:
    with pytest.raises(InputError, match="twice"):
        known_of(1, SceneOptions()).semantic_map(["star", "star"], by_kind)


# ---- keypoints ----


def test_keypoint_names_are_those_of_coco_and_ap10k() -> None:
    assert PERSON_KEYPOINTS == (
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
        "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee",
        "right_knee", "left_ankle", "right_ankle",
    )  # fmt: skip
    assert DOG_KEYPOINTS == (
        "left_eye", "right_eye", "nose", "neck", "root_of_tail", "left_shoulder", "left_elbow",
        "left_front_paw", "right_shoulder", "right_elbow", "right_front_paw", "left_hip", "left_knee",
        "left_back_paw", "right_hip", "right_knee", "right_back_paw",
    )  # fmt: skip
    for kind, bones in SKELETONS.items():
        assert {joint for bone in bones for joint in bone} == set(KEYPOINTS[kind])


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_visible_joints_lie_on_the_figure_and_hidden_ones_under_others(seed: int) -> None:
    known = known_of(seed, FIGURES_ONLY)
    amodal = render(known.spec).amodal
    for index, points in enumerate(known.keypoints):
        assert points is not None
        for x, y, flag in points:
            if flag == 0:
                assert (x, y) == (0, 0)
                continue
            column, row = int(x), int(y)
            around = amodal[index, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            assert around.any(), "a joint lies on its own figure"
            assert (flag == 1) == bool(amodal[index + 1 :, row, column].any())


def test_left_is_the_figures_own_left() -> None:
    for seed in range(60):
        known = known_of(seed, FIGURES_ONLY)
        for item in known.spec.objects:
            at = item.figure.joints
            if item.kind == "person":
                assert at["left_shoulder"][0] > at["right_shoulder"][0]
            else:
                # The nearer eye is the one farther from the nose; a dog that looks left shows its left side.
                left, right = (np.hypot(*np.subtract(at[f"{s}_eye"], at["nose"])) for s in ("left", "right"))
                assert (left > right) == (at["nose"][0] < at["neck"][0])


def test_shapes_have_no_keypoints_and_joints_outside_count_as_absent() -> None:
    spec = sample_scene(3, options=SceneOptions(canvas=(128, 128), figures=1.0, objects=(1, 1)))
    item = spec.objects[0]
    cut = spec.model_copy(update={"width": int(item.centre[0]) + 1, "objects": (item,)})
    points = truth(cut, render(cut)).keypoints[0]
    outside = [item.figure.joints[name][0] >= cut.width for name in KEYPOINTS[item.kind]]
    assert any(outside)
    assert (points[:, 2] == 0).tolist() == outside
    circle = ObjectSpec(kind="circle", colour="red", rgb=(200, 0, 0), size="large", centre=(8, 8), diameter=9)
    plain = SceneSpec(
        width=64, height=64, background=Background(kind="plain", tones=((9, 9, 9),)), objects=(circle,)
    )
    assert truth(plain, render(plain)).keypoints == (None,)
