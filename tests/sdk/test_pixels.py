"""Pixels of unusual modes, as pictures and as masks."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visionllm_sdk import _pixels
from visionllm_sdk.errors import ImageError
from visionllm_sdk.images import ImageLimits, load_image, load_mask

Save = Callable[..., Path]


def marked(value: object, ground: object, mode: str) -> Image.Image:
    """A 5 x 5 square of one value on 20 x 10 pixels of another."""
    image = Image.new(mode, (20, 10), ground)  # type: ignore[arg-type]
    image.paste(value, (12, 3, 17, 8))  # type: ignore[call-overload]
    return image


def square() -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    expected = np.zeros((10, 20), dtype=bool)
    expected[3:8, 12:17] = True
    return expected


@pytest.mark.parametrize(
    ("value", "ground", "mode"),
    [
        (1, 0, "1"),
        (1, 0, "L"),
        (1, 0, "P"),
        ((0, 1, 0), (0, 0, 0), "RGB"),
        ((1, 255), (0, 255), "LA"),
        ((9, 1), (9, 0), "LA"),
        ((255, 255, 255, 255), (0, 0, 0, 0), "RGBA"),
        ((255, 255, 255, 255), (0, 0, 0, 255), "RGBA"),
        ((9, 9, 9, 1), (9, 9, 9, 0), "RGBA"),
    ],
)
def test_inside_is_what_is_neither_black_nor_transparent(
    value: object, ground: object, mode: str, save: Save
) -> None:
    image = marked(value, ground, mode)
    if mode == "P":
        image.putpalette([0, 0, 0, 0, 0, 1])
    found = load_mask(save(image, "mask.png"))
    assert found.dtype == np.bool_
    np.testing.assert_array_equal(found, square())


@pytest.mark.parametrize("value", [1, 128, 300, 65535])
@pytest.mark.parametrize("name", ["mask.png", "mask.tiff"])
def test_every_value_of_16_bits_is_inside(value: int, name: str, save: Save) -> None:
    image = Image.fromarray((square() * value).astype(np.uint16))
    np.testing.assert_array_equal(load_mask(save(image, name)), square())


def test_values_that_a_file_calls_transparent_are_outside(save: Save) -> None:
    grey = Image.fromarray(np.where(square(), 7, 300).astype(np.uint16))
    np.testing.assert_array_equal(load_mask(save(grey, "16.png", transparency=300)), square())
    colours = marked((1, 2, 3), (4, 5, 6), "RGB")
    np.testing.assert_array_equal(load_mask(save(colours, "rgb.png", transparency=(4, 5, 6))), square())


def test_masks_stand_upright(save: Save) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    path = save(marked(1, 0, "L").transpose(Image.Transpose.ROTATE_180), "mask.png", exif=exif)
    np.testing.assert_array_equal(load_mask(path), square())


def test_masks_pass_the_checks_of_images(save: Save, tmp_path: Path) -> None:
    path = save(marked(1, 0, "L"), "mask.png")
    for limits in (ImageLimits(max_side=19), ImageLimits(max_bytes=10)):
        with pytest.raises(ImageError, match="too large"):
            load_mask(path, limits=limits)
    moving = save(marked(1, 0, "L"), "two.tiff", save_all=True, append_images=[marked(0, 0, "L")])
    with pytest.raises(ImageError, match="several frames"):
        load_mask(moving)
    (tmp_path / "text.png").write_text("I am no image")
    with pytest.raises(ImageError, match="not an image of a known format"):
        load_mask(tmp_path / "text.png")
    with pytest.raises(ImageError, match="no agreed range"):
        load_mask(save(marked(0.5, 0.0, "F"), "mask.tiff"))


def test_the_transparent_value_of_16_bit_grey_becomes_white(save: Save) -> None:
    grey = Image.fromarray(np.array([[0, 300, 65535, 257]], dtype=np.uint16))
    pixels = load_image(save(grey, "grey.png", transparency=300)).to_numpy()
    assert pixels[0].tolist() == [[0] * 3, [255] * 3, [255] * 3, [1] * 3]


@pytest.mark.parametrize("mode", ["La", "RGBa"])
def test_premultiplied_transparency(mode: str) -> None:
    plain = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    plain.putpixel((1, 0), (90, 90, 90, 255))
    image = (plain.convert("LA") if mode == "La" else plain).convert(mode)
    assert load_image(image).to_numpy().tolist() == [[[255] * 3, [90] * 3]]
    assert _pixels.inside(image, "mask").tolist() == [[False, True]]


def png_of_16_bits(colour_type: int, channels: int, value: int) -> bytes:
    """One pixel; Pillow writes such files in grey only."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, colour_type, 0, 0, 0))
    pixel = b"\0" + struct.pack(f">{channels}H", *[value] * channels)
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(pixel)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_colours_of_16_bits_make_no_mask(tmp_path: Path, colour_type: int, channels: int) -> None:
    path = tmp_path / "mask.png"
    path.write_bytes(png_of_16_bits(colour_type, channels, 1))
    with pytest.raises(ImageError, match=r"mask\.png.*16-bit grey without transparency"):
        load_mask(path)
    assert load_image(path).width == 1
    path.write_bytes(png_of_16_bits(0, 1, 1))
    assert load_mask(path).all()
