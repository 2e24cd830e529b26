"""Both ways of sampling a pyramid equal the library's, for every geometry."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers.models.grounding_dino.modeling_grounding_dino import MultiScaleDeformableAttention

from visionllm_tools.blocks import sampling
from visionllm_tools.blocks.sampling import GridMaps, RowTable, TokenTable, in_cells, readable, reads_first

Shapes = list[tuple[int, int]]
sides = st.integers(1, 6)
POINTS = 2


def library_samples(values: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """Locations (B, Q, heads, L, P, 2) in [0, 1] of each level."""
    return MultiScaleDeformableAttention()(values, None, shapes, None, locations, weights, 64)


def own_samples(source: GridMaps | RowTable, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    sizes = torch.tensor([[width, height] for height, width in shapes])[:, None]
    x, y = (part.flatten(3) for part in (locations * sizes).unbind(-1))
    return source.sample(x, y, weights.flatten(3))


@given(
    shapes=st.lists(st.tuples(sides, sides), min_size=1, max_size=3),
    batch=st.integers(1, 2),
    heads=st.integers(1, 3),
    queries=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_samples(shapes: Shapes, batch: int, heads: int, queries: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    count = sum(height * width for height, width in shapes)
    values = torch.randn(batch, count, heads, 4, generator=generator)
    locations = torch.rand(batch, queries, heads, len(shapes), POINTS, 2, generator=generator) * 1.8 - 0.4
    weights = torch.rand(batch, queries, heads, len(shapes), POINTS, generator=generator)
    expected = library_samples(values, shapes, locations, weights)
    for source in (GridMaps(values, shapes), RowTable(values, shapes, points=POINTS)):
        found = own_samples(source, shapes, locations, weights)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("place", [-1e9, -1.0, -0.5, 0.0, 0.5, 2.5, 3.0, 3.5, 1e9])
def test_borders(place: float) -> None:
    values = torch.rand(1, 6, 1, 3)
    x, y = torch.full((1, 1, 1, 1), place), torch.full((1, 1, 1, 1), 1.0)
    weights = torch.ones(1, 1, 1, 1)
    expected = GridMaps(values, [(2, 3)]).sample(x, y, weights)
    found = RowTable(values, [(2, 3)], points=1).sample(x, y, weights)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    if not -0.5 < place < 3.5:
        assert (found == 0).all()


def test_gradients_equal_the_librarys() -> None:
    torch.manual_seed(0)
    shapes = [(4, 5), (2, 3)]
    inputs = torch.randn(2, 26, 2, 4), torch.rand(2, 3, 2, 2, 2, 2), torch.rand(2, 3, 2, 2, 2)
    gradients = []
    for own in (True, False):
        values, locations, weights = (x.clone().requires_grad_() for x in inputs)
        sample = own_samples if own else library_samples
        source = readable(values, shapes, points=POINTS) if own else values
        sample(source, shapes, locations, weights).square().sum().backward()
        gradients.append((values.grad, locations.grad, weights.grad))
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_which_way(monkeypatch: pytest.MonkeyPatch) -> None:
    values, shapes = torch.rand(1, 6, 1, 3), [(2, 3)]
    assert isinstance(readable(values, shapes, points=1), GridMaps)
    with torch.no_grad():
        assert isinstance(readable(values, shapes, points=1), RowTable)
        assert isinstance(readable(values.bfloat16(), shapes, points=1), GridMaps)
        monkeypatch.setattr(sampling, "_MOST_ROWS", 10)
        assert isinstance(readable(values, shapes, points=1), GridMaps)


def test_in_cells() -> None:
    boxes = torch.tensor([0.5, 0.25, 1.0, 0.1]).expand(1, 1, 2, 4)
    found = in_cells(boxes, [(10, 20), (4, 8)], points=3)
    assert found.shape == (1, 1, 4, 6)
    torch.testing.assert_close(found[0, 0, :, 0], torch.tensor([10.0, 2.5, 20.0, 1.0]))
    torch.testing.assert_close(found[0, 0, :, 3], torch.tensor([4.0, 1.0, 8.0, 0.4]))


@given(
    shapes=st.lists(st.tuples(sides, sides), min_size=1, max_size=4),
    heads=st.integers(1, 3),
    queries=st.integers(1, 5),
    padded=st.booleans(),
    seed=st.integers(0, 99),
)
def test_reading_before_projecting(shapes: Shapes, heads: int, queries: int, padded: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    count, width = sum(height * width for height, width in shapes), 4 * heads
    tokens = torch.randn(2, count, 6, generator=generator)
    projection = torch.randn(width, 6, generator=generator)
    bias = torch.randn(width, generator=generator)
    padding = torch.rand(2, count, generator=generator) < 0.3 if padded else None
    places = torch.rand(2, queries, heads, len(shapes) * POINTS, 2, generator=generator) * 9 - 1.5
    weights = torch.rand(2, queries, heads, len(shapes) * POINTS, generator=generator)
    x, y = places.unbind(-1)
    values = (tokens @ projection.T + bias).unflatten(-1, (heads, 4))
    expected = GridMaps(values, shapes, padding=padding).sample(x, y, weights)
    for source in (RowTable, readable):
        with torch.no_grad():
            found = source(values, shapes, points=POINTS, padding=padding).sample(x, y, weights)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    table = TokenTable(tokens, padding, shapes, points=POINTS)
    found = table.sample(x, y, weights, projection=projection, bias=bias)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_few_queries_read_first() -> None:
    tokens = torch.rand(2, 1872, 128)
    with torch.no_grad():
        assert reads_first(torch.rand(2, 40, 128), tokens, samples=64)
        assert not reads_first(torch.rand(2, 300, 128), tokens, samples=64)
        assert not reads_first(torch.rand(2, 40, 128), tokens.bfloat16(), samples=64)
    assert not reads_first(torch.rand(2, 40, 128), tokens, samples=64)  # gradients would not flow back
