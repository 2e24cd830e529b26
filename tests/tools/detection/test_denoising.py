"""Denoising queries: shapes, who sees whom, and what noise may do."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from visionllm_tools.blocks.boxes import to_centres, to_corners
from visionllm_tools.detection.denoising import DenoisingConfig, DenoisingPlan, plan_denoising
from visionllm_tools.detection.targets import DetectionTargets, ImageTargets

LABELS = 4


def random_targets(counts: list[int], seed: int = 0) -> DetectionTargets:
    generator = torch.Generator().manual_seed(seed)
    items = []
    for count in counts:
        corners = torch.rand(count, 2, 2, generator=generator).sort(dim=1).values.flatten(1)
        labels = torch.randint(0, LABELS, (count,), generator=generator)
        items.append(ImageTargets(boxes=to_centres(corners), labels=labels))
    return DetectionTargets.collate(items)


def make_plan(targets: DetectionTargets, *, learned: int, queries: int) -> DenoisingPlan | None:
    batch = len(targets.boxes)
    labels = torch.arange(batch * LABELS * 8, dtype=torch.float32).view(batch, LABELS, 8)
    present = torch.ones(batch, LABELS, dtype=torch.bool)
    config = DenoisingConfig(queries=queries)
    return plan_denoising(targets, labels, present, learned=learned, config=config)


@given(
    counts=st.lists(st.integers(0, 5), min_size=1, max_size=3),
    learned=st.integers(1, 6),
    queries=st.integers(1, 20),
)
def test_shapes(counts: list[int], learned: int, queries: int) -> None:
    plan = make_plan(random_targets(counts), learned=learned, queries=queries)
    most = max(counts)
    if most == 0:
        assert plan is None
        return
    assert plan is not None
    assert plan.groups == max(1, queries // most)
    size = plan.groups * 2 * most
    assert plan.queries.content.shape == (len(counts), size, 8)
    assert plan.queries.boxes.shape == (len(counts), size, 4)
    assert plan.queries.mask.shape == (size + learned, size + learned)
    assert torch.isfinite(plan.queries.boxes).all()


@given(counts=st.lists(st.integers(1, 4), min_size=1, max_size=3), learned=st.integers(1, 5))
def test_who_sees_whom(counts: list[int], learned: int) -> None:
    plan = make_plan(random_targets(counts), learned=learned, queries=9)
    assert plan is not None
    size = 2 * max(counts)
    total = plan.groups * size
    seen = plan.queries.mask
    assert seen[:, total:].all(), "everyone sees the learned queries"
    assert not seen[total:, :total].any(), "learned queries never see the truth"
    for group in range(plan.groups):
        rows = seen[group * size : (group + 1) * size, :total]
        assert rows.sum() == size * size
        assert rows[:, group * size : (group + 1) * size].all()


@given(counts=st.lists(st.integers(0, 4), min_size=1, max_size=3), layers=st.integers(1, 3))
def test_pairs_name_the_positive_copies(counts: list[int], layers: int) -> None:
    targets = random_targets(counts)
    plan = make_plan(targets, learned=3, queries=8)
    if plan is None:
        return
    pairs = plan.pairs(layers)
    assert len(pairs) == layers * plan.groups * sum(counts)
    most = max(counts)
    assert ((pairs.query % (2 * most)) == pairs.target).all(), "the first half of a group is positive"
    assert targets.valid[pairs.image, pairs.target].all()


def test_positive_copies_stay_near_negative_ones_do_not() -> None:
    targets = random_targets([3, 2], seed=5)
    torch.manual_seed(0)
    plan = make_plan(targets, learned=3, queries=60)
    assert plan is not None
    boxes = to_corners(plan.queries.boxes.sigmoid()).unflatten(1, (plan.groups, 2, 3))
    truth = to_corners(targets.boxes)[:, None]
    half = targets.boxes[:, None, :, 2:].repeat(1, 1, 1, 2) / 2
    shift = (boxes - truth[:, :, None]).abs()
    real = targets.valid[:, None, :, None].expand_as(shift[:, :, 0])
    assert (shift[:, :, 0] <= half + 1e-4)[real].all()
    free = (boxes > 1e-3) & (boxes < 1 - 1e-3)  # where the image's border did not cut the noise off
    free &= (boxes[..., 2:] - boxes[..., :2] > 1e-3).repeat(1, 1, 1, 1, 2)  # and the corners did not cross
    checked = real & free[:, :, 1]
    assert checked.sum() > 20
    assert (shift[:, :, 1] >= half - 1e-4)[checked].all()


def test_labels_flip_about_as_often_as_asked() -> None:
    targets = random_targets([5] * 8)
    torch.manual_seed(1)
    plan = make_plan(targets, learned=1, queries=500)
    assert plan is not None
    labels = (plan.queries.content[..., 0] / 8 % LABELS).long().unflatten(1, (plan.groups, 2, 5))
    changed = (labels != targets.labels[:, None, None]).float().mean()
    expected = 0.25 * (1 - 1 / LABELS)
    assert abs(float(changed) - expected) < 0.02
