"""Losses: equal to the recorded ones, right on easy cases, and good to learn from."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from visionllm_sdk.errors import DataError
from visionllm_sdk.keypoints import COCO
from visionllm_tools.blocks.two_stage import label_logits
from visionllm_tools.detection.denoising import DenoisingConfig, DenoisingPlan, plan_denoising
from visionllm_tools.detection.outputs import ExtraQueries, LayerOutput
from visionllm_tools.detection.targets import ImageTargets
from visionllm_tools.pose.decoder import PoseEstimator
from visionllm_tools.pose.loss import PoseLossConfig, oks, pose_loss
from visionllm_tools.pose.outputs import KeypointOutput, PoseOutput
from visionllm_tools.pose.targets import ImagePoses, PoseTargets

TOLERANCE = 1e-4
NAMES = {"label": "ce", "box": "bbox", "giou": "giou", "keypoint": "keypoints", "oks": "oks"}


@pytest.fixture(scope="module")
def golden(goldens: Path) -> dict[str, Tensor]:
    return load_file(goldens / "golden_unipose_losses.safetensors")


@pytest.fixture(scope="module")
def recorded_targets(goldens: Path, golden: dict[str, Tensor]) -> PoseTargets:
    with safe_open(goldens / "golden_unipose_losses.safetensors", "pt") as file:
        metadata = file.metadata()
    items = []
    for image in (0, 1):
        ids = [0 if place is None else place for place in json.loads(metadata[f"ids.{image}"])]
        items.append(
            ImagePoses(
                objects=ImageTargets(
                    boxes=golden[f"target.{image}.boxes"], labels=golden[f"target.{image}.labels"]
                ),
                keypoints=golden[f"target.{image}.keypoints"],
                areas=golden[f"target.{image}.areas"],
                sigmas=torch.tensor([COCO.sigmas[place] for place in ids]),
            )
        )
    return PoseTargets.collate(items)


def layer(logits: Tensor, boxes: Tensor) -> LayerOutput:
    return LayerOutput(logits=logits, boxes=boxes, queries=logits)


def recorded_output(golden: dict[str, Tensor], case: str) -> PoseOutput:
    """What was recorded of a training step: the last layer, and the encoder's proposals."""
    label_mask = torch.tensor([[True, True, False, False], [True, False, False, False]])
    last = layer(golden[f"{case}.pred_logits"], golden[f"{case}.pred_boxes"])
    points = torch.stack([golden[f"{case}.points.{image}"] for image in (0, 1)])
    proposals = label_logits(golden["hs_enc"], golden["memory_text"], label_mask)
    encoder = layer(proposals, golden["ref_enc"])
    return PoseOutput(
        boxes=[encoder],  # a stand-in: no box layer was recorded as a whole
        poses=[last],
        keypoints=[KeypointOutput(points=points)],
        encoder=encoder,
        tokens=None,
        usable=torch.ones(2, 1, dtype=torch.bool),
        label_mask=label_mask,
        keypoint_mask=torch.ones(2, 5, dtype=torch.bool),
    )


@pytest.mark.parametrize("case", ["nodn", "dn"])
def test_recorded_terms(golden: dict[str, Tensor], recorded_targets: PoseTargets, case: str) -> None:
    _, terms = pose_loss(recorded_output(golden, case), recorded_targets, PoseLossConfig())
    for kind, recorded in NAMES.items():
        wanted = golden[f"{case}.loss_{recorded}"]
        torch.testing.assert_close(terms[kind], wanted, rtol=TOLERANCE, atol=1e-6)
        if kind in ("label", "box", "giou"):
            wanted = golden[f"{case}.loss_{recorded}_interm"]
            torch.testing.assert_close(terms[f"{kind}_encoder"], wanted, rtol=TOLERANCE, atol=1e-6)


def test_recorded_denoising_terms(golden: dict[str, Tensor], recorded_targets: PoseTargets) -> None:
    extra = layer(golden["denoising.pred_logits"], golden["denoising.pred_boxes"])
    output = dataclasses.replace(recorded_output(golden, "dn"), extra=[extra])
    nothing = torch.zeros(0)
    plan = DenoisingPlan(
        queries=ExtraQueries(content=nothing, boxes=nothing, mask=nothing),
        groups=2,
        valid=recorded_targets.objects.valid,
    )
    _, terms = pose_loss(output, recorded_targets, PoseLossConfig(), denoising=plan)
    for kind in ("label", "box", "giou"):
        wanted = golden[f"dn.loss_{NAMES[kind]}_dn"]
        torch.testing.assert_close(terms[f"{kind}_denoising"], wanted, rtol=TOLERANCE, atol=1e-6)


def one_image(count: int = 2, keypoints: int = 3, *, flag: float = 2.0, seed: int = 0) -> ImagePoses:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.rand(count, 2, generator=generator) * 0.5 + 0.25
    places = torch.rand(count, keypoints, 2, generator=generator)
    return ImagePoses(
        objects=ImageTargets(
            boxes=torch.cat([centres, torch.full((count, 2), 0.3)], dim=-1),
            labels=torch.zeros(count, dtype=torch.long),
        ),
        keypoints=torch.cat([places, torch.full((count, keypoints, 1), flag)], dim=-1),
        areas=torch.full((count,), 0.05),
        sigmas=torch.full((keypoints,), 0.05),
    )


def perfect(item: ImagePoses, *, groups: int = 4) -> PoseOutput:
    """An output that says just the truth, in reverse order, and nothing beside it."""
    count = len(item.objects.boxes)
    logits = torch.full((1, groups, 1), -20.0)
    logits[0, :count] = 20.0
    boxes, points = torch.full((1, groups, 4), 0.5), torch.full((1, groups, len(item.sigmas), 2), 0.5)
    boxes[0, :count] = item.objects.boxes.flip(0)
    points[0, :count] = item.keypoints[..., :2].flip(0)
    whole = layer(logits, boxes)
    return PoseOutput(
        boxes=[whole],
        poses=[whole],
        keypoints=[KeypointOutput(points=points, visible=torch.full(points.shape[:3], 20.0))],
        encoder=whole,
        tokens=None,
        usable=torch.ones(1, groups, dtype=torch.bool),
        label_mask=torch.ones(1, 1, dtype=torch.bool),
        keypoint_mask=torch.ones(1, len(item.sigmas), dtype=torch.bool),
    )


def test_the_truth_costs_nothing() -> None:
    item = one_image()
    total, terms = pose_loss(perfect(item), PoseTargets.collate([item]), PoseLossConfig())
    assert set(terms) == {
        *(f"{kind}{place}" for kind in ("label", "box", "giou") for place in ("_0", "_encoder", "")),
        "keypoint", "oks", "visible",
    }  # fmt: skip
    assert total < 1e-3


def test_unplaced_keypoints_do_not_count() -> None:
    item = one_image(flag=0.0)
    moved = one_image(flag=0.0, seed=0)
    moved.keypoints[..., :2] = 0.9
    for truth in (item, moved):
        _, terms = pose_loss(perfect(item), PoseTargets.collate([truth]), PoseLossConfig())
        assert terms["keypoint"] == 0
        assert terms["visible"] > 1  # they cannot be seen, but the output says they can


def test_covered_keypoints_have_a_place_and_are_not_visible() -> None:
    item = one_image(flag=1.0)
    targets = PoseTargets.collate([item])
    assert targets.placed.all()
    assert not targets.visible.any()


def test_images_without_objects() -> None:
    item = one_image()
    empty = one_image(0)
    total, terms = pose_loss(perfect(item), PoseTargets.collate([empty]), PoseLossConfig())
    assert math.isfinite(total)
    assert terms["label"] > 1
    assert terms["keypoint"] == 0


def test_images_of_different_sizes_in_a_batch() -> None:
    targets = PoseTargets.collate([one_image(2, 3), one_image(1, 5), one_image(0, 1)])
    assert targets.points.shape == (3, 2, 5, 2)
    assert targets.placed.sum((1, 2)).tolist() == [6, 5, 0]


def test_truth_that_does_not_fit() -> None:
    item = one_image(2, 3)
    bad = ImagePoses(objects=item.objects, keypoints=item.keypoints[:1], areas=item.areas, sigmas=item.sigmas)
    with pytest.raises(DataError, match="item 1 has different numbers"):
        PoseTargets.collate([item, bad])


@given(offset=st.floats(0, 1), area=st.floats(1e-4, 1), sigma=st.floats(0.01, 0.2))
def test_oks_falls_with_the_distance(offset: float, area: float, sigma: float) -> None:
    place = torch.ones(1, dtype=torch.bool)
    near, far = (
        float(oks(torch.tensor([d * d]), place, torch.tensor(area), torch.tensor([sigma])))
        for d in (offset / 2, offset)
    )
    assert 0 <= far <= near <= 1
    wanted = math.exp(-(offset**2) / (2 * area * (2 * sigma) ** 2))
    assert far == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("one_to_many", [0, 3])
def test_learning(make_small: Callable[..., PoseEstimator], one_to_many: int) -> None:
    """A few steps on one image bring every kind of term down, gradients reach the super-links."""
    torch.manual_seed(0)
    estimator = make_small(
        keypoint_visibility=True, usable_only=True, logit_scale=0.18, logit_bias=-2.0
    ).train()
    config = PoseLossConfig(one_to_many=one_to_many)
    targets = PoseTargets.collate([one_image()])
    pixels, mask = torch.randn(1, 3, 96, 96), torch.ones(1, 96, 96, dtype=torch.bool)
    label_mask, keypoint_mask = (torch.ones(1, n, dtype=torch.bool) for n in (1, 3))
    states = torch.randn(1, 1, 4, 24), torch.randn(1, 3, 4, 24).requires_grad_()
    optimizer = torch.optim.AdamW(estimator.parameters(), lr=2e-3)
    history = []
    for _ in range(25):
        labels, keypoints = estimator.encode_labels(states[0]), estimator.encode_keypoints(states[1])
        plan = plan_denoising(
            targets.objects, labels, label_mask, learned=14, config=DenoisingConfig(queries=8)
        )
        assert plan is not None
        output = estimator(pixels, mask, labels, label_mask, keypoints, keypoint_mask, extra=plan.queries)
        total, terms = pose_loss(output, targets, config, denoising=plan)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append({name: float(term.detach()) for name, term in terms.items()})
    assert states[1].grad is not None
    assert states[1].grad.abs().sum() > 0
    for kind in ("box", "keypoint", "box_denoising", "visible"):
        early, late = (sum(one[kind] for one in part) for part in (history[:5], history[-5:]))
        assert late < 0.8 * early, kind
