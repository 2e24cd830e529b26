"""Post-processing equals the released one (recorded values) and plain definitions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from visionllm_tools.blocks.boxes import overlap
from visionllm_tools.detection.postprocess import (
    Candidates,
    binary_masks,
    drop_duplicates,
    full_size,
    how_many,
    keep_near_boxes,
    label_shares,
    select,
    semantic_map,
)

ORIGINALS = [(192, 256), (160, 208)]
SIZES = [(96, 128), (80, 104)]


@pytest.fixture(scope="module")
def golden(goldens: Path) -> dict[str, Tensor]:
    return load_file(goldens / "golden_gdino_postprocess.safetensors")


@pytest.mark.parametrize(("kind", "limit"), [("det", 10), ("seg", 6)])
@pytest.mark.parametrize("image", [0, 1])
def test_boxes(
    golden: dict[str, Tensor], golden_eval: dict[str, Tensor], image: int, kind: str, limit: int
) -> None:
    logits, boxes = golden_eval["logits"][image], golden_eval["pred_boxes"][image]
    found = select(logits, boxes, ORIGINALS[image], limit=limit)
    torch.testing.assert_close(found.scores, golden[f"{kind}.{image}.scores"])
    assert torch.equal(found.labels, golden[f"{kind}.{image}.labels"])
    torch.testing.assert_close(found.boxes, golden[f"{kind}.{image}.boxes"], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("image", [0, 1])
def test_masks(golden: dict[str, Tensor], golden_eval: dict[str, Tensor], image: int) -> None:
    logits, boxes = golden_eval["logits"][image], golden_eval["pred_boxes"][image]
    kept = select(logits, boxes, ORIGINALS[image], limit=6).queries
    found = full_size(golden_eval["pred_masks"][image, kept], SIZES[image], ORIGINALS[image]) > 0
    bits = golden[f"seg.{image}.masks.bits"].numpy()
    expected = np.unpackbits(bits, axis=-1, count=ORIGINALS[image][1]).astype(bool)
    assert np.array_equal(found.numpy(), expected)


def test_absent_labels_are_never_selected() -> None:
    logits = torch.full((4, 3), -torch.inf)
    logits[:, 1] = torch.tensor([-9.0, 2.0, 1.0, -8.0])
    found = select(logits, torch.rand(4, 4), (10, 20), limit=100)
    assert found.labels.tolist() == [1] * 4
    assert found.queries.tolist() == [1, 2, 3, 0]
    assert len(select(logits[:, :1], torch.rand(4, 4), (10, 20), limit=100).scores) == 0


def test_one_query_may_bear_two_labels() -> None:
    found = select(torch.tensor([[4.0, 5.0]]), torch.tensor([[0.5, 0.5, 0.2, 0.4]]), (100, 200), limit=9)
    assert found.labels.tolist() == [1, 0]
    torch.testing.assert_close(found.boxes[0], torch.tensor([80.0, 30.0, 120.0, 70.0]))


def random_pairs(seed: int, count: int) -> Candidates:
    """Boxes of two labels anywhere, best first."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, 2, generator=generator).sort(dim=1).values.flatten(1) * 50
    return Candidates(
        scores=torch.rand(count, generator=generator).sort(descending=True).values,
        labels=torch.randint(0, 2, (count,), generator=generator),
        queries=torch.arange(count),
        boxes=corners,
    )


@given(seed=st.integers(0, 300), count=st.integers(0, 12))
def test_duplicates(seed: int, count: int) -> None:
    given_ = random_pairs(seed, count)
    kept = drop_duplicates(given_, threshold=0.5)
    assert (kept.scores.diff() <= 0).all()
    dropped = set(range(count)) - set(kept.queries.tolist())
    for number in range(count):
        same = kept.labels == given_.labels[number]
        better = kept.scores > given_.scores[number]
        worst = overlap(given_.boxes[number], kept.boxes[same & better])[0]
        assert (number in dropped) == bool((worst > 0.5).any())


def test_copies_share_what_is_said() -> None:
    pairs = Candidates(
        scores=torch.tensor([0.6, 0.5, 0.4, 0.3, 0.2]),
        labels=torch.tensor([0, 0, 0, 0, 1]),
        queries=torch.arange(5),
        boxes=torch.tensor(
            [[0.0, 0, 9, 9], [20, 20, 30, 30], [20, 20, 30, 31], [20, 20, 31, 30], [0, 0, 9, 9]]
        ),
    )
    plain = drop_duplicates(pairs, threshold=0.7)
    assert plain.queries.tolist() == [0, 1, 4]
    assert plain.scores.tolist() == pytest.approx([0.6, 0.5, 0.2])
    shared = drop_duplicates(pairs, threshold=0.7, shared=True)
    assert shared.queries.tolist() == [1, 0, 4]  # and the better of both copies is the one that counts
    assert shared.scores.tolist() == pytest.approx([1 - 0.5 * 0.6, 0.6, 0.2])


@given(seed=st.integers(0, 100), count=st.integers(0, 12))
def test_shared_scores_keep_the_same_boxes(seed: int, count: int) -> None:
    pairs = random_pairs(seed, count)
    plain, shared = (drop_duplicates(pairs, threshold=0.3, shared=shared) for shared in (False, True))
    assert sorted(plain.queries.tolist()) == sorted(shared.queries.tolist())
    assert (shared.scores.diff() <= 0).all()
    before = dict(zip(plain.queries.tolist(), plain.scores.tolist(), strict=True))
    for query, score in zip(shared.queries.tolist(), shared.scores.tolist(), strict=True):
        assert before[query] - 1e-6 <= score <= 1


def test_binary_masks_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(7, 5, generator=generator)
    features = torch.randn(5, 8, 8, generator=generator)
    whole = binary_masks(embeddings, features, (30, 25), (60, 47))
    logits = torch.einsum("km,mhw->khw", embeddings, features)
    assert torch.equal(whole, full_size(logits, (30, 25), (60, 47)) > 0)
    monkeypatch.setattr("visionllm_tools.detection.postprocess._CHUNK", 1)
    assert torch.equal(binary_masks(embeddings, features, (30, 25), (60, 47)), whole)


def test_semantic_map_by_definition() -> None:
    generator = torch.Generator().manual_seed(1)
    scores = torch.rand(6, 3, generator=generator)
    embeddings = torch.randn(6, 5, generator=generator)
    features = torch.randn(5, 8, 8, generator=generator)
    size, original = (28, 32), (14, 50)
    logits = torch.einsum("km,mhw->khw", embeddings, features)
    large = F.interpolate(logits[None], scale_factor=4, mode="bilinear", align_corners=False)[0]
    shares = torch.zeros(3, *size)
    for query in range(6):
        for label in range(3):
            shares[label] += scores[query, label] * large[query, : size[0], : size[1]].sigmoid()
    expected = F.interpolate(shares[None], size=original, mode="bilinear", align_corners=False)[0]
    found = label_shares(scores, embeddings, features, size)
    torch.testing.assert_close(found, shares, rtol=1e-4, atol=1e-4)
    assert torch.equal(semantic_map([found], original), expected.argmax(0))
    assert torch.equal(semantic_map([found], size), shares.argmax(0))


def test_queries_below_the_gate_tell_a_map_nothing() -> None:
    generator = torch.Generator().manual_seed(3)
    embeddings, features = torch.randn(3, 5, generator=generator), torch.randn(5, 8, 8, generator=generator)
    scores, size = torch.tensor([[0.7, 0.05], [0.09, 0.1], [0.02, 0.3]]), (28, 32)
    found = label_shares(scores, embeddings, features, size, gate=0.1)
    heard = torch.tensor([[0.7, 0.0], [0.0, 0.1], [0.0, 0.3]])
    torch.testing.assert_close(found, label_shares(heard, embeddings, features, size))
    assert scores[0, 1] > 0  # the caller's are left as they are


def test_shares_end_with_grown_boxes() -> None:
    generator = torch.Generator().manual_seed(2)
    scores, embeddings = torch.rand(4, 2, generator=generator), torch.randn(4, 5, generator=generator)
    features, size = torch.randn(5, 8, 8, generator=generator), (28, 32)
    boxes = torch.tensor([[0.5, 0.5, 0.25, 0.5]] * 4)
    whole = label_shares(scores, embeddings, features, size)
    near = torch.ones(1, *size)
    keep_near_boxes(near, torch.tensor([[12.0, 7, 20, 21]]), 0.5)
    assert near.sum() == (8 + 2 * 4) * (14 + 2 * 7)
    found = label_shares(scores, embeddings, features, size, boxes=boxes, margin=0.5)
    torch.testing.assert_close(found, whole * near)


@given(
    corners=st.tuples(*[st.floats(-20, 60)] * 2, *[st.floats(0.5, 50)] * 2),
    margin=st.floats(0, 1),
    place=st.tuples(st.integers(0, 29), st.integers(0, 39)),
)
def test_what_is_near_boxes_by_definition(
    corners: tuple[float, float, float, float], margin: float, place: tuple[int, int]
) -> None:
    x, y, width, height = corners
    found = torch.ones(1, 30, 40, dtype=torch.bool)
    keep_near_boxes(found, torch.tensor([[x, y, x + width, y + height]]), margin)
    row, column = place
    across = max(x - width * margin - column - 0.5, column + 0.5 - x - width * (1 + margin))
    down = max(y - height * margin - row - 0.5, row + 0.5 - y - height * (1 + margin))
    if min(abs(across), abs(down)) > 1e-3:  # not within rounding of an edge
        assert bool(found[0, row, column]) == (across < 0 and down < 0)


class Largest(TorchDispatchMode):
    """Sees how many values the largest tensor holds that is made."""

    values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Look at what an operation returns."""
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else (made,):
            self.values = max(self.values, one.numel())
        return made


def test_a_semantic_map_holds_one_label_at_full_size() -> None:
    generator = torch.Generator().manual_seed(2)
    original = (90, 120)
    groups = [torch.rand(count, 20, 30, generator=generator) for count in (7, 5)]
    groups[1][0] = groups[0][2]  # of equals the first counts
    whole = F.interpolate(torch.cat(groups)[None], size=original, mode="bilinear", align_corners=False)[0]
    best, label = whole.max(0)
    with Largest() as seen:
        found = semantic_map(iter(groups), original, floor=0.8)
    assert torch.equal(found, label.masked_fill(best < 0.8, -1))
    assert seen.values == 90 * 120


def test_pixels_without_evidence_stay_unlabelled() -> None:
    shares = torch.tensor([[[0.9, 0.2]], [[0.1, 0.3]]])
    assert semantic_map([shares], (1, 2)).tolist() == [[0, 1]]
    assert semantic_map([shares], (1, 2), floor=0.5).tolist() == [[0, -1]]


def test_pairs_that_can_decide_what_is_reported() -> None:
    logits = torch.logit(torch.full((50, 4), 0.3))
    logits[:10] = torch.logit(torch.tensor(0.2))
    assert how_many(logits, floor=0.5, least=0) == 160  # two of .3 share more than .5; of .2 they do not
    assert how_many(logits, floor=0.9, least=0) == 100
    assert how_many(logits, floor=0.9, least=120) == 120
