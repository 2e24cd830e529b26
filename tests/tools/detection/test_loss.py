"""The training loss against plain definitions, and its options."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from visionllm_sdk.errors import DataError
from visionllm_tools.blocks.boxes import generalised_iou, to_corners
from visionllm_tools.detection.decoder import Detector
from visionllm_tools.detection.denoising import DenoisingConfig, plan_denoising
from visionllm_tools.detection.loss import LossConfig, detection_loss, lookup
from visionllm_tools.detection.outputs import DetectorOutput
from visionllm_tools.detection.targets import DetectionTargets, ImageTargets

SIZE = 64


def targets(counts: list[int] | None = None, *, masks: bool = True) -> DetectionTargets:
    generator = torch.Generator().manual_seed(4)
    items = []
    for count in counts or [2, 0, 3]:
        boxes = torch.rand(count, 4, generator=generator) * 0.3 + 0.3
        drawn = torch.zeros(count, SIZE, SIZE, dtype=torch.bool)
        for number, (cx, cy, w, h) in enumerate((boxes * SIZE).tolist()):
            drawn[number, int(cy - h / 2) : int(cy + h / 2), int(cx - w / 2) : int(cx + w / 2)] = True
        labels = torch.randint(0, 3, (count,), generator=generator)
        items.append(ImageTargets(boxes=boxes, labels=labels, masks=drawn if masks else None))
    return DetectionTargets.collate(items, size=(SIZE, SIZE))


def forward(detector: Detector, truth: DetectionTargets, **more: Any) -> DetectorOutput:
    torch.manual_seed(2)
    batch = len(truth.boxes)
    pixels, whole = torch.randn(batch, 3, SIZE, SIZE), torch.ones(batch, SIZE, SIZE, dtype=torch.bool)
    labels, present = torch.randn(batch, 4, 64), torch.ones(batch, 4, dtype=torch.bool)
    present[0, 3] = False
    return detector(pixels, whole, labels, present, **more)


FAST = LossConfig(points=64, mask_layers=1, mask_encoder=False, mask_denoising=False, one_to_many=2)


def focal_by_definition(logits: Tensor, wanted: Tensor) -> Tensor:
    share = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    miss = share * (1 - wanted) + (1 - share) * wanted
    balance = 0.25 * wanted + 0.75 * (1 - wanted)
    return (balance * miss**2 * entropy).sum()


def test_last_layer_by_definition(scratch: Detector) -> None:
    """One image, one object: the loss terms spelled out."""
    truth = targets([1], masks=False)
    output = forward(scratch.train(), truth)
    _, terms = detection_loss(scratch, output, truth, FAST)
    label = int(truth.labels[0, 0])
    best = None
    for query in range(output.boxes.shape[1]):
        logits = output.logits[0, :, :3]
        wanted = torch.zeros_like(logits)
        wanted[query, label] = 1.0
        box = output.boxes[0, query]
        giou = generalised_iou(to_corners(box), to_corners(truth.boxes[0, 0]))
        parts = focal_by_definition(logits, wanted), (box - truth.boxes[0, 0]).abs().sum(), 1 - giou
        cost = 2 * parts[0] + 5 * parts[1] + 2 * parts[2]
        if best is None or cost < best[0]:
            best = (cost, parts)
    assert best is not None
    expected = [float(part.detach()) for part in best[1]]
    assert [float(terms[name].detach()) for name in ("label", "box", "giou")] == pytest.approx(
        expected, rel=1e-4
    )


def test_terms_and_gradients_of_the_fast_options(scratch: Detector) -> None:
    truth = targets()
    labels, present = torch.randn(3, 4, 64), torch.ones(3, 4, dtype=torch.bool)
    plan = plan_denoising(truth, labels, present, learned=10, config=DenoisingConfig(queries=6))
    assert plan is not None
    output = forward(scratch.train(), truth, extra=plan.queries)
    total, terms = detection_loss(scratch, output, truth, FAST, denoising=plan)
    kinds = {"label", "box", "giou"}
    places = ["", "_0", "_encoder", "_denoising", "_denoising_0"]
    assert set(terms) == {kind + place for kind in kinds for place in places} | {"mask", "dice"}
    total.backward()
    assert torch.isfinite(total)
    without = [name for name, weight in scratch.named_parameters() if weight.grad is None]
    assert {name.split(".")[0] for name in without} == {"patch2query", "model"}
    assert all("patch2query" in name or name.startswith("model.mask_embed") for name in without)


@pytest.mark.parametrize(("layers", "expected"), [(None, {"", "_0"}), (2, {"", "_0"}), (1, {""}), (0, set())])
def test_mask_layers(scratch: Detector, layers: int | None, expected: set[str]) -> None:
    truth = targets()
    config = LossConfig(points=32, mask_layers=layers, mask_encoder=False)
    _, terms = detection_loss(scratch, forward(scratch.train(), truth), truth, config)
    assert {name.removeprefix("dice") for name in terms if name.startswith("dice")} == expected


def test_a_batch_without_objects_learns_that_nothing_is_there(scratch: Detector) -> None:
    truth = targets([0, 0])
    total, terms = detection_loss(scratch, forward(scratch.train(), truth), truth, FAST)
    assert torch.isfinite(total)
    assert float(terms["label"].detach()) > 0
    assert float(terms["box"].detach()) == 0
    total.backward()


def test_without_masks_there_are_no_mask_terms(scratch: Detector) -> None:
    truth = targets(masks=False)
    _, terms = detection_loss(scratch, forward(scratch.train(), truth), truth, FAST)
    assert not any(name.startswith(("mask", "dice")) for name in terms)


def test_a_step_lowers_the_loss(scratch: Detector) -> None:
    truth = targets()
    optimiser = torch.optim.AdamW(scratch.parameters(), lr=1e-3)
    scratch.train()
    values = []
    for _ in range(6):
        torch.manual_seed(0)
        total, _ = detection_loss(scratch, forward(scratch, truth), truth, FAST)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        values.append(float(total.detach()))
    assert values[-1] < 0.8 * values[0]


def test_labels_that_overlap_are_all_positive(scratch: Detector) -> None:
    """An object that bears two labels must not be punished for the second."""
    truth = targets([1], masks=False)
    output = forward(scratch.train(), truth)
    bears = F.one_hot(truth.labels, 4).bool()
    alone = DetectionTargets(boxes=truth.boxes, labels=truth.labels, valid=truth.valid, bears=bears)
    both = bears.clone()
    both[0, 0, (int(truth.labels[0, 0]) + 1) % 3] = True
    second = DetectionTargets(boxes=truth.boxes, labels=truth.labels, valid=truth.valid, bears=both)
    plain = detection_loss(scratch, output, truth, FAST)[1]["label"]
    torch.testing.assert_close(detection_loss(scratch, output, alone, FAST)[1]["label"], plain)
    assert detection_loss(scratch, output, second, FAST)[1]["label"] > plain


def test_all_tokens_are_needed_for_one_to_many(scratch: Detector) -> None:
    truth = targets()
    with pytest.raises(DataError, match="training mode"):
        detection_loss(scratch, forward(scratch.eval(), truth), truth, FAST)


@given(seed=st.integers(0, 200), height=st.integers(1, 9), width=st.integers(1, 9))
def test_lookup_is_grid_sample(seed: int, height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(3, height, width, generator=generator)
    which = torch.tensor([2, 0, 2, 1])
    points = torch.rand(4, 11, 2, generator=generator) * 1.2 - 0.1
    expected = F.grid_sample(maps[which][:, None], points[:, None] * 2 - 1, align_corners=False)[:, 0, 0]
    torch.testing.assert_close(lookup(maps, which, points), expected, atol=1e-4, rtol=1e-4)


def test_overlapping_labels_are_padded_with_the_objects() -> None:
    label = torch.zeros(1, dtype=torch.long)
    items = [
        ImageTargets(boxes=torch.rand(1, 4), labels=label, bears=torch.tensor([[True, False, True]])),
        ImageTargets(boxes=torch.rand(0, 4), labels=label[:0], bears=torch.zeros(0, 2, dtype=torch.bool)),
    ]
    truth = DetectionTargets.collate(items)
    assert truth.bears is not None
    assert truth.bears.tolist() == [[[True, False, True]], [[False] * 3]]
    moved = truth.to(torch.device("cpu"))
    assert moved.bears is not None
    assert moved.masks is None


def test_targets_that_do_not_fit() -> None:
    item = ImageTargets(boxes=torch.rand(2, 4), labels=torch.zeros(1, dtype=torch.long))
    with pytest.raises(DataError, match="different numbers"):
        DetectionTargets.collate([item])
    masks = torch.zeros(1, 80, 20, dtype=torch.bool)
    item = ImageTargets(boxes=torch.rand(1, 4), labels=torch.zeros(1, dtype=torch.long), masks=masks)
    with pytest.raises(DataError, match="larger than the padded input"):
        DetectionTargets.collate([item], size=(64, 64))
