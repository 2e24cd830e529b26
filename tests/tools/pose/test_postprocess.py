"""From raw outputs to typed poses: equal to the recorded boxes, scores and keypoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from visionllm_tools.pose.postprocess import Found, build_poses, choose

SIZES = ((192, 256), (160, 208))
ALL = {"limit": 10, "floor": 0.0, "least": 0, "suppression": None}
NAMES = ("nose", "left eye", "right eye", "left ear", "right ear")


@pytest.fixture(scope="module")
def golden(goldens: Path) -> dict[str, Tensor]:
    return load_file(goldens / "golden_unipose_postprocess.safetensors")


def recorded(golden: dict[str, Tensor], image: int) -> Found:
    return Found(
        logits=golden["pred_logits"][image, :, :2],
        boxes=golden["pred_boxes"][image],
        points=golden["pred_points"][image],
        visible=None,
    )


@pytest.mark.parametrize("image", [0, 1])
def test_recorded_poses(golden: dict[str, Tensor], image: int) -> None:
    found, size = recorded(golden, image), SIZES[image]
    chosen = choose(found, size, **ALL)
    torch.testing.assert_close(chosen.scores, golden[f"pose.{image}.scores"])
    torch.testing.assert_close(chosen.boxes, golden[f"pose.{image}.boxes"], rtol=1e-4, atol=1e-3)
    poses = list(build_poses(found, chosen, size, labels=("dog", "cat"), names=NAMES, visible_threshold=0.5))
    names = {1: "dog", 7: "cat"}
    assert [pose.label for pose in poses] == [names[int(i)] for i in golden[f"pose.{image}.labels"]]
    points = torch.tensor([[(k.x, k.y) for k in pose.keypoints] for pose in poses])
    wanted = golden[f"pose.{image}.keypoints"].unflatten(1, (5, 3))
    torch.testing.assert_close(points, wanted[..., :2], rtol=1e-4, atol=1e-3)
    assert all(k.visible and k.score == pose.score for pose in poses for k in pose.keypoints)
    assert all(0 <= pose.box.x1 <= pose.box.x2 <= size[1] for pose in poses)


def made_up(groups: int, keypoints: int = 2) -> Found:
    generator = torch.Generator().manual_seed(groups)
    return Found(
        logits=torch.randn(groups, 2, generator=generator) * 3,
        boxes=torch.rand(groups, 4, generator=generator) * 0.4 + 0.2,
        points=torch.rand(groups, keypoints, 2, generator=generator),
        visible=torch.randn(groups, keypoints, generator=generator) * 3,
    )


@given(groups=st.integers(1, 12), limit=st.integers(1, 30), floor=st.floats(0, 1), least=st.integers(0, 4))
def test_choice(groups: int, limit: int, floor: float, least: int) -> None:
    chosen = choose(made_up(groups), (100, 200), limit=limit, floor=floor, least=least, suppression=None)
    scores = chosen.scores.tolist()
    assert scores == sorted(scores, reverse=True)
    assert len(scores) <= min(limit, 2 * groups)
    assert len(scores) >= min(least, limit, 2 * groups)
    assert all(score >= floor for score in scores[least:])


def test_worse_copies_are_dropped() -> None:
    found = made_up(1)
    twice = Found(
        logits=torch.cat([found.logits, found.logits - 1]),
        boxes=found.boxes.repeat(2, 1),
        points=found.points.repeat(2, 1, 1),
        visible=None,
    )
    kept = choose(twice, (100, 200), **{**ALL, "suppression": 0.7})
    assert sorted(kept.labels.tolist()) == [0, 1]
    assert kept.queries.tolist() == [0, 0]


def test_parts_of_a_better_pose_are_dropped() -> None:
    whole = torch.tensor([0.5, 0.5, 0.4, 0.8])
    legs = torch.tensor([0.5, 0.75, 0.4, 0.28])
    neighbour = torch.tensor([0.8, 0.5, 0.4, 0.8])
    found = Found(
        logits=torch.tensor([[2.0, 1.0], [1.0, -1.0], [0.0, -2.0]]),
        boxes=torch.stack([whole, legs, neighbour]),
        points=torch.rand(3, 2, 2),
        visible=None,
    )
    options = {**ALL, "suppression": 0.7}
    assert len(choose(found, (100, 200), **options).scores) == 6
    kept = choose(found, (100, 200), **options, covered=0.8)
    assert sorted(kept.queries.tolist()) == [0, 0, 2, 2]


def test_visibility_comes_from_its_head() -> None:
    found = made_up(3)
    assert found.visible is not None
    chosen = choose(found, (100, 200), **ALL)
    poses = build_poses(found, chosen, (100, 200), labels=("a", "b"), names=("x", "y"), visible_threshold=0.5)
    for pose, query in zip(poses, chosen.queries.tolist(), strict=True):
        for keypoint, logit in zip(pose.keypoints, found.visible[query].tolist(), strict=True):
            assert keypoint.visible == (logit >= 0)
            assert keypoint.score == pytest.approx(torch.tensor(logit).sigmoid().item(), abs=1e-6)
