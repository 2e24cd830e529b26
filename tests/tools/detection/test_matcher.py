"""Matching costs and assignments."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visionllm_tools.detection.matcher import (
    MatchCosts,
    cost_matrix,
    match_one_to_many,
    match_one_to_one,
)
from visionllm_tools.detection.targets import DetectionTargets, ImageTargets


def one_image(count: int, labels: int = 3, seed: int = 0) -> DetectionTargets:
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(count, 4, generator=generator) * 0.4 + 0.2
    chosen = torch.randint(0, labels, (count,), generator=generator)
    return DetectionTargets.collate([ImageTargets(boxes=boxes, labels=chosen)])


@given(objects=st.integers(1, 3), queries=st.integers(3, 4), seed=st.integers(0, 99))
def test_one_to_one_is_the_cheapest(objects: int, queries: int, seed: int) -> None:
    cost = torch.randn(1, 1, queries, objects, generator=torch.Generator().manual_seed(seed))
    pairs = match_one_to_one(cost, [objects])
    assert len(set(pairs.query.tolist())) == objects
    assert sorted(pairs.target.tolist()) == list(range(objects))
    found = cost[0, 0, pairs.query, pairs.target].sum()
    best = min(
        sum(float(cost[0, 0, query, target]) for target, query in enumerate(order))
        for order in itertools.permutations(range(queries), objects)
    )
    assert float(found) == pytest.approx(best, abs=1e-5)


def test_layers_and_images_are_matched_apart() -> None:
    cost = torch.rand(2, 3, 5, 4)
    pairs = match_one_to_one(cost, [4, 0, 2])
    assert len(pairs) == 2 * 6
    order = (pairs.layer * 3 + pairs.image) * 5 + pairs.query
    assert (order.diff() > 0).all()
    assert 1 not in pairs.image


def test_a_perfect_query_costs_least() -> None:
    targets = one_image(2)
    logits = torch.full((1, 1, 4, 3), -4.0)
    boxes = torch.full((1, 1, 4, 4), 0.9)
    for target, query in ((0, 3), (1, 1)):
        logits[0, 0, query, targets.labels[0, target]] = 4.0
        boxes[0, 0, query] = targets.boxes[0, target]
    pairs = match_one_to_one(cost_matrix(logits, boxes, targets, MatchCosts()), targets.counts)
    assert dict(zip(pairs.target.tolist(), pairs.query.tolist(), strict=True)) == {0: 3, 1: 1}


def test_infinite_predictions_do_not_break_the_assignment() -> None:
    cost = torch.tensor([[[[float("nan")], [1.0], [float("inf")]]]])
    assert match_one_to_one(cost, [1]).query.tolist() == [1]


@given(objects=st.integers(1, 4), copies=st.integers(1, 4), seed=st.integers(0, 99))
def test_one_to_many_gives_each_query_one_object(objects: int, copies: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    targets = one_image(objects, seed=seed)
    cost = torch.rand(1, 1, 12, objects, generator=generator)
    usable = torch.rand(1, 12, generator=generator) > 0.3
    usable[0, :4] = True
    pairs = match_one_to_many(cost, targets, usable, copies=copies)
    assert len(set(pairs.query.tolist())) == len(pairs)
    assert usable[0, pairs.query].all()
    counts = torch.bincount(pairs.target, minlength=objects)
    assert (counts <= copies).all()
    cheapest = cost[0, 0].masked_fill(~usable[0, :, None], torch.inf)
    for query, target in zip(pairs.query.tolist(), pairs.target.tolist(), strict=True):
        rivals = [other for other in range(objects) if cheapest[query, other] < cheapest[query, target]]
        for other in rivals:  # a cheaper object did not want this query
            assert (
                cheapest[:, other].topk(min(copies, 12), largest=False).values.max() < cheapest[query, other]
            )
