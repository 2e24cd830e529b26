"""Frames of animated images: chosen, bounded, and given back as the caller had them."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from visionllm_sdk.errors import ImageError
from visionllm_sdk.images import ImageLimits, load_image

LEVELS = (10, 120, 230)


@pytest.fixture(params=["GIF", "PNG", "TIFF", "WEBP"])
def opened(request: pytest.FixtureRequest) -> Image.Image:
    """An image of three grey frames, as a caller has opened it."""
    first, *others = (Image.new("RGB", (8, 6), (level,) * 3) for level in LEVELS)
    options = {"lossless": True} if request.param == "WEBP" else {}
    buffer = BytesIO()
    first.save(buffer, request.param, save_all=True, append_images=others, **options)
    return Image.open(buffer)


@pytest.mark.parametrize("stood", range(3))
@pytest.mark.parametrize("frame", range(3))
def test_the_frame_that_is_named_is_taken_wherever_the_image_stands(
    opened: Image.Image, stood: int, frame: int
) -> None:
    opened.seek(stood)
    loaded = load_image(opened, frame=frame)
    assert (loaded.to_numpy() == LEVELS[frame]).all()
    assert opened.tell() == stood
    assert opened.convert("L").getpixel((0, 0)) == LEVELS[stood]
    assert (loaded.to_numpy() == LEVELS[frame]).all()  # it does not follow the caller's


def test_an_image_of_one_frame_is_taken_as_it_is(picture: Image.Image) -> None:
    np.testing.assert_array_equal(load_image(picture, frame=0).to_numpy(), np.asarray(picture))
    with pytest.raises(ImageError, match="no such frame"):
        load_image(picture, frame=1)


def test_every_frame_is_bounded() -> None:
    buffer = BytesIO()
    large = Image.new("RGB", (50, 4))
    Image.new("RGB", (8, 6)).save(buffer, "TIFF", save_all=True, append_images=[large])
    limits = ImageLimits(max_side=20)
    assert load_image(buffer.getvalue(), frame=0, limits=limits).width == 8
    with pytest.raises(ImageError, match="too large"):
        load_image(buffer.getvalue(), frame=1, limits=limits)
