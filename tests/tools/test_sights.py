"""What decoders have seen is kept by content, shape and weights, and gives the same answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from visionllm_tools.blocks.pyramid import View
from visionllm_tools.detection.config import DetectorConfig
from visionllm_tools.detection.decoder import Detector
from visionllm_tools.requests import ImageJob
from visionllm_tools.sights import Sights

BACKBONE = {
    "model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1],
    "layer_type": "basic", "out_indices": [1, 2, 3, 4],
}  # fmt: skip


class Watched(Detector):
    """Counts the images that it looks at."""

    seen = 0

    def look(self, pixels: Tensor, pixel_mask: Tensor) -> View:
        self.seen += len(pixels)
        return super().look(pixels, pixel_mask)


@pytest.fixture
def detector() -> Watched:
    torch.manual_seed(0)
    config = DetectorConfig(
        backbone_config=BACKBONE, d_model=32, num_queries=6, encoder_layers=1, decoder_layers=1,
        shortest_edge=64, longest_edge=128,
    )  # fmt: skip
    with torch.inference_mode(False):
        return Watched(config).eval()


@pytest.fixture(autouse=True)
def nothing_is_learnt() -> Iterator[None]:
    with torch.inference_mode():
        yield


def picture(seed: int, width: int = 90, height: int = 64) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def job(*named: tuple[str, Image.Image]) -> ImageJob:
    keys, images = zip(*named, strict=True)
    return ImageJob(images=list(images), keys=list(keys), requests=[], places=[])


def parts(view: View) -> tuple[Tensor, ...]:
    pyramid = view.pyramid
    count = len(pyramid.tokens)
    padding = torch.zeros(pyramid.tokens.shape[:2], dtype=torch.bool)
    return (
        view.features[0],
        pyramid.tokens,
        padding if pyramid.padding is None else pyramid.padding,
        view.positions.expand(count, -1, -1),
        pyramid.ratios.expand(count, -1, -1),
    )


def same(one: View, other: View) -> None:
    for mine, yours in zip(parts(one), parts(other), strict=True):
        torch.testing.assert_close(mine, yours, atol=1e-3, rtol=1e-3)  # the coarsest map has two cells


NAMED = {"a": picture(1), "b": picture(2), "narrow": picture(3, width=80), "c": picture(4)}


@pytest.mark.parametrize("first", [["a"], ["b", "c"], ["narrow"], ["narrow", "a"], ["a", "b", "narrow", "c"]])
@pytest.mark.parametrize("then", [["a"], ["a", "b", "c"], ["c", "narrow", "a"]])
def test_known_and_new_pictures_together(detector: Watched, first: list[str], then: list[str]) -> None:
    sights = Sights()
    sights.look(detector, job(*((key, NAMED[key]) for key in first)))
    assert detector.seen == len(first)
    again = sights.look(detector, job(*((key, NAMED[key]) for key in then)))
    assert detector.seen == len(first) + len(set(then) - set(first))
    fresh = Sights().look(detector, job(*(("", NAMED[key]) for key in then)))
    same(again.view, fresh.view)
    assert (again.sizes, again.originals, again.padded) == (fresh.sizes, fresh.originals, fresh.padded)
    assert again.padded == (64, 96)


def test_nothing_is_kept_without_a_name(detector: Watched) -> None:
    sights = Sights()
    for _ in range(2):
        sights.look(detector, job(("", NAMED["a"]), ("b", NAMED["b"])))
    assert detector.seen == 3


def test_other_weights_see_anew(detector: Watched) -> None:
    sights, asked = Sights(), job(("a", NAMED["a"]))
    before = sights.look(detector, asked).view
    with torch.inference_mode(False), torch.no_grad():
        detector.model.level_embed.add_(1.0)
    after = sights.look(detector, asked).view
    assert detector.seen == 2
    torch.testing.assert_close(after.positions, before.positions + 1.0)
    with torch.inference_mode(False), torch.no_grad():
        detector.bbox_embed[0].layers[0].weight.add_(1.0)  # no eye  # type: ignore[union-attr, operator, index]
    sights.look(detector, asked)
    assert detector.seen == 2


def test_another_input_size_is_another_picture(detector: Watched) -> None:
    sights, asked = Sights(), job(("a", NAMED["a"]))
    sights.look(detector, asked)
    detector.config = replace(detector.config, shortest_edge=96)
    assert sights.look(detector, asked).padded == (96, 128)
    assert detector.seen == 2


def test_memory_is_bounded(detector: Watched) -> None:
    one = Sights()
    one.look(detector, job(("a", NAMED["a"])))
    size = next(iter(one._views.values())).nbytes
    sights = Sights(max_bytes=2 * size)
    for key in ("a", "b", "a", "c", "a", "b"):  # b is what goes for c
        sights.look(detector, job((key, NAMED[key])))
    assert detector.seen == 1 + 4
    assert sights._bytes == 2 * size
    nothing = Sights(max_bytes=size - 1)
    nothing.look(detector, job(("a", NAMED["a"])))
    assert (nothing._bytes, len(nothing._views)) == (0, 0)


def test_kept_views_hold_only_what_is_read_again(detector: Watched) -> None:
    sights = Sights()
    sights.look(detector, job(("a", NAMED["a"]), ("b", NAMED["b"])))
    for view in sights._views.values():
        assert len(view.features) == 1
        assert all(len(one) == 1 for one in parts(view))
        assert view.pyramid.tokens.untyped_storage().nbytes() == view.pyramid.tokens.nbytes
