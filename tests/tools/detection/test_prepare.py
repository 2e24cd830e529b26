"""Input sizes, normalisation and batching."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from visionllm_tools.detection.config import DetectorConfig
from visionllm_tools.detection.prepare import (
    MEAN,
    STD,
    group_by_size,
    input_size,
    normalise,
    padded_size,
    prepare,
)

SIDES = st.integers(1, 3000)


@given(height=SIDES, width=SIDES)
def test_input_size(height: int, width: int) -> None:
    size = input_size((height, width), shortest=800, longest=1333)
    assert max(size) <= 1333
    assert min(size) >= 1
    assert min(size) == 800 or max(size) == 1333
    padded = padded_size(size)
    assert all(whole % 32 == 0 and 0 <= whole - part < 32 for whole, part in zip(padded, size, strict=True))


@pytest.mark.parametrize(
    ("original", "expected"),
    [((480, 640), (800, 1067)), ((100, 100), (800, 800)), ((500, 2000), (333, 1333))],
)
def test_known_input_sizes(original: tuple[int, int], expected: tuple[int, int]) -> None:
    assert input_size(original, shortest=800, longest=1333) == expected


def test_normalise() -> None:
    image = Image.fromarray(np.full((10, 20, 3), (255, 0, 128), dtype=np.uint8))
    found = normalise(image, (5, 7))
    assert found.shape == (3, 5, 7)
    expected = (torch.tensor([1.0, 0.0, 128 / 255]) - torch.tensor(MEAN)) / torch.tensor(STD)
    torch.testing.assert_close(found.mean((1, 2)), expected, atol=1e-5, rtol=1e-5)


def test_mixed_sizes_make_one_padded_batch(scratch_config: DetectorConfig, picture: Image.Image) -> None:
    images = [picture, picture.rotate(90, expand=True)]
    batch = prepare(images, scratch_config)
    assert batch.originals == ((40, 60), (60, 40))
    assert batch.sizes == ((64, 96), (96, 64))
    assert batch.pixels.shape == (2, 3, 96, 96)
    for pixels, mask, (height, width) in zip(batch.pixels, batch.mask, batch.sizes, strict=True):
        assert mask[:height, :width].all()
        assert mask.sum() == height * width
        assert (pixels[:, ~mask] == 0).all()


def test_groups_never_pad_for_one_another(scratch_config: DetectorConfig, picture: Image.Image) -> None:
    images = [picture, picture.rotate(90, expand=True), picture.resize((61, 40)), picture]
    groups = group_by_size(images, scratch_config)
    assert sorted(i for members in groups.values() for i in members) == [0, 1, 2, 3]
    for size, members in groups.items():
        for member in members:
            assert prepare([images[member]], scratch_config).mask.shape[1:] == size


def test_embedded_sizes_come_from_the_configuration(
    scratch_config: DetectorConfig, picture: Image.Image
) -> None:
    config = dataclasses.replace(scratch_config, shortest_edge=256, longest_edge=300)
    assert prepare([picture], config).sizes == ((200, 300),)
