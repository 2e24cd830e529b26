from __future__ import annotations

import base64
import os
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from visionllm_sdk.errors import ImageError
from visionllm_sdk.images import ImageLimits, LoadedImage, load_image

Save = Callable[..., Path]

# A program that does not turn warnings into errors is the harder case: it must not get a broken picture.
PILLOW_COMPLAINS = pytest.mark.filterwarnings("ignore::UserWarning")


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def difference(a: Image.Image, b: Image.Image) -> float:
    return float(np.abs(np.asarray(a, dtype=float) - np.asarray(b, dtype=float)).mean())


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size, without pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + crc + struct.pack(">I", 99) + b"IDAT"


def test_every_source_gives_the_same_picture(picture: Image.Image, save: Save) -> None:
    path = save(picture, "picture.png")
    content = path.read_bytes()
    sources: list[Any] = [
        path,
        str(path),
        content,
        bytearray(content),
        memoryview(content),
        picture,
        np.asarray(picture),
        "data:image/png;base64," + base64.b64encode(content).decode(),
    ]
    for source in sources:
        loaded = load_image(source)
        assert (loaded.width, loaded.height, loaded.image.mode) == (60, 40, "RGB")
        np.testing.assert_array_equal(loaded.to_numpy(), np.asarray(picture))
    assert len({load_image(source).digest for source in sources}) == 1


def test_loaded_image_passes_unchanged(picture: Image.Image) -> None:
    loaded = load_image(picture)
    assert load_image(loaded) is loaded


def test_callers_image_stays_its_own(picture: Image.Image) -> None:
    loaded = load_image(picture)
    digest = loaded.digest
    picture.paste((0, 0, 0), (0, 0, 60, 40))
    assert load_image(loaded.image).digest == digest
    pixels = np.full((4, 5, 3), 7, dtype=np.uint8)
    loaded = load_image(pixels)
    pixels[:] = 0
    assert loaded.to_numpy().min() == 7


def test_digest_depends_on_size_and_pixels() -> None:
    wide, high = np.zeros((2, 6, 3), dtype=np.uint8), np.zeros((3, 4, 3), dtype=np.uint8)
    other = wide.copy()
    other[0, 0, 0] = 1
    digests = {load_image(array).digest for array in (wide, high, other)}
    assert len(digests) == 3
    assert all(len(digest) == 32 for digest in digests)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(picture: Image.Image, save: Save, orientation: int) -> None:
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = picture if undo is None else picture.transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(stored, "turned.png", exif=exif)
    np.testing.assert_array_equal(load_image(path).to_numpy(), np.asarray(picture))
    with Image.open(path) as opened:
        np.testing.assert_array_equal(load_image(opened).to_numpy(), np.asarray(picture))


@PILLOW_COMPLAINS
def test_exif_that_cannot_be_parsed(picture: Image.Image) -> None:
    data = encoded(picture, "JPEG", exif=b"Exif\x00\x00MM\x00*garbage that is no directory")
    assert load_image(data).width == 60


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "GIF", "JPEG", "PPM", "JPEG2000"])
def test_formats(picture: Image.Image, kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    assert difference(load_image(encoded(picture, kind, **options)).image, picture) < 6


def test_palette(picture: Image.Image) -> None:
    palette = picture.quantize(256)
    assert palette.mode == "P"
    assert difference(load_image(encoded(palette)).image, palette.convert("RGB")) == 0


def test_cmyk(picture: Image.Image) -> None:
    data = encoded(picture.convert("CMYK"), "JPEG", quality=98)
    with Image.open(BytesIO(data)) as stored:
        assert stored.mode == "CMYK"
    assert difference(load_image(data).image, picture) < 6


@pytest.mark.parametrize("mode", ["1", "L", "YCbCr", "HSV"])
def test_other_modes(picture: Image.Image, mode: str) -> None:
    converted = picture.convert(mode)
    assert difference(load_image(converted).image, converted.convert("RGB")) == 0


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_is_laid_over_white(mode: str) -> None:
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0)).convert(mode)
    assert load_image(image).to_numpy().min() == 255
    half = Image.new("RGBA", (1, 1), (255, 0, 0, 128))
    np.testing.assert_allclose(load_image(half).to_numpy()[0, 0], (255, 127, 127), atol=1)


def test_transparent_colour_of_a_palette_and_of_rgb() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.putpixel((1, 0), 1)
    pixels = load_image(encoded(palette, transparency=0)).to_numpy()
    assert pixels.tolist() == [[[255, 255, 255], [0, 255, 0]]]
    rgb = Image.new("RGB", (2, 1), (0, 255, 0))
    rgb.putpixel((0, 0), (1, 2, 3))
    pixels = load_image(encoded(rgb, transparency=(1, 2, 3))).to_numpy()
    assert pixels.tolist() == [[[255, 255, 255], [0, 255, 0]]]


def test_16_bit_grey_keeps_its_range(save: Save) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None]
    for name in ("ramp.png", "ramp.tiff"):
        pixels = load_image(save(Image.fromarray(ramp), name)).to_numpy()
        np.testing.assert_allclose(pixels[0, :, 0], np.arange(256), atol=1)
        assert (pixels[..., 0] == pixels[..., 2]).all()


def test_grey_beyond_16_bits() -> None:
    with pytest.raises(ImageError, match="do not fit 16 bits"):
        load_image(Image.fromarray(np.array([[70000]], dtype=np.int32)))


def test_float_images_are_refused() -> None:
    with pytest.raises(ImageError, match="no agreed range"):
        load_image(Image.fromarray(np.zeros((3, 3), dtype=np.float32)))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animated(picture: Image.Image, kind: str) -> None:
    blank = Image.new("RGB", picture.size, (255, 255, 255))
    data = encoded(picture, kind, save_all=True, append_images=[blank])
    with pytest.raises(ImageError, match="several frames") as caught:
        load_image(data)
    assert "frame=0" in str(caught.value)
    assert difference(load_image(data, frame=0).image, picture) < 20
    assert difference(load_image(data, frame=1).image, blank) < 2
    with pytest.raises(ImageError, match="no such frame"):
        load_image(data, frame=2)


def test_multi_picture_photographs_are_no_animation(picture: Image.Image) -> None:
    data = encoded(picture, "MPO", save_all=True, append_images=[picture.resize((15, 10))])
    assert load_image(data).width == 60


def test_one_pixel_and_extreme_shapes() -> None:
    assert load_image(encoded(Image.new("RGB", (1, 1), (9, 8, 7)))).to_numpy().tolist() == [[[9, 8, 7]]]
    assert load_image(encoded(Image.new("L", (20_000, 1)))).width == 20_000


def test_missing_empty_and_wrong_files(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("I am no image")
    (tmp_path / "page.png").write_text("<html><body>404</body></html>")
    for name, match in [
        ("missing.png", "does not exist"),
        ("empty.png", "is empty"),
        ("text.png", "not an image of a known format"),
        ("page.png", "not an image of a known format"),
        (".", "not a file"),
        ("x" * 4000, "cannot be read"),
        ("a\0b.png", "does not exist|cannot be read"),
    ]:
        with pytest.raises(ImageError, match=match):
            load_image(tmp_path / name)
    with pytest.raises(ImageError, match="is empty"):
        load_image("")
    with pytest.raises(ImageError, match="is empty"):
        load_image(b"")


def test_a_path_in_bytes(picture: Image.Image, save: Save) -> None:
    path = save(picture, "picture.png")
    with os.scandir(os.fsencode(path.parent)) as entries:
        (entry,) = entries
        loaded = load_image(entry)  # type: ignore[arg-type]
    assert (loaded.width, loaded.source) == (60, str(path))


def test_a_device_is_not_read() -> None:
    with pytest.raises(ImageError, match="not a file"):
        load_image("/dev/zero")


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_no_permission(picture: Image.Image, save: Save) -> None:
    path = save(picture, "secret.png")
    path.chmod(0)
    with pytest.raises(ImageError, match="cannot be read"):
        load_image(path)


@PILLOW_COMPLAINS
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.9])
def test_truncated(picture: Image.Image, kind: str, part: float) -> None:
    data = encoded(picture.resize((200, 150)), kind)
    with pytest.raises(ImageError, match=r"damaged|not an image of a known format"):
        load_image(data[: int(len(data) * part)])


@PILLOW_COMPLAINS
@given(st.data())
def test_flipped_bytes_never_crash(data: st.DataObject) -> None:
    """Damage gives a picture or an ImageError, and nothing else."""
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"]))
    content = bytearray(encoded(Image.new("RGB", (23, 17), (10, 200, 90)), kind))
    for _ in range(3):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        loaded = load_image(bytes(content), frame=0)
    except ImageError:
        return
    assert loaded.image.mode == "RGB"


def test_limits_are_checked_before_decoding() -> None:
    """The file has no pixels at all: only its header can have been read."""
    with pytest.raises(ImageError, match="too large") as caught:
        load_image(png_header(10_000, 8_000))
    assert "80.0 megapixels" in str(caught.value)
    with pytest.raises(ImageError, match="too large"):
        load_image(png_header(40_000, 2))
    with pytest.raises(ImageError, match="damaged"):
        load_image(png_header(100, 100))


@pytest.mark.parametrize("side", [10_000, 60_000, 2_000_000_000])
def test_decompression_bombs(side: int) -> None:
    with pytest.raises(ImageError, match="too large"):
        load_image(png_header(side, side))


def test_own_limits(picture: Image.Image, save: Save) -> None:
    path = save(picture, "picture.png")
    for limits in (
        ImageLimits(max_bytes=10),
        ImageLimits(max_pixels=60 * 40 - 1),
        ImageLimits(max_side=59),
    ):
        with pytest.raises(ImageError, match="too large"):
            load_image(path, limits=limits)
    exact = ImageLimits(max_pixels=60 * 40, max_side=60)
    assert load_image(path, limits=exact).width == 60
    with pytest.raises(ImageError, match="too large"):
        load_image(picture, limits=ImageLimits(max_side=59))
    with pytest.raises(ImageError, match="too large"):
        load_image(np.asarray(picture), limits=ImageLimits(max_side=59))


def test_postscript_is_not_interpreted() -> None:
    """Pillow would hand this format to another program."""
    with pytest.raises(ImageError, match="not an image of a known format"):
        load_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")


@pytest.mark.parametrize(
    ("shape", "expected"), [((4, 5), 3), ((4, 5, 1), 3), ((4, 5, 3), 3), ((4, 5, 4), 3), ((1, 1, 3), 3)]
)
def test_arrays(shape: tuple[int, ...], expected: int) -> None:
    loaded = load_image(np.full(shape, 255, dtype=np.uint8))
    assert loaded.to_numpy().shape == (*shape[:2], expected)
    assert loaded.to_numpy().min() == 255


def test_array_that_is_a_view(picture: Image.Image) -> None:
    pixels = np.asarray(picture)
    np.testing.assert_array_equal(load_image(pixels[::2, ::-1]).to_numpy(), pixels[::2, ::-1])


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (np.zeros((4, 5, 3)), "8-bit"),
        (np.zeros((4, 5, 3), dtype=np.float32), r"array \* 255"),
        (np.zeros((4, 5), dtype=bool), "8-bit"),
        (np.zeros((3, 40, 50), dtype=np.uint8), r"transpose\(1, 2, 0\)"),
        (np.zeros((2, 4, 5, 3), dtype=np.uint8), "one image at a time"),
        (np.zeros((4, 5, 2), dtype=np.uint8), "height, width and channels"),
        (np.zeros(5, dtype=np.uint8), "height, width and channels"),
        (np.zeros((0, 5, 3), dtype=np.uint8), "no pixels"),
    ],
)
def test_arrays_that_are_no_images(array: np.ndarray[Any, Any], match: str) -> None:
    with pytest.raises(ImageError, match=match):
        load_image(array)


@pytest.mark.parametrize("source", [None, 3, ["a.png"], {"url": "x"}, BytesIO(b"")])
def test_what_is_no_source(source: Any) -> None:
    with pytest.raises(ImageError, match="not an image source"):
        load_image(source)


@pytest.mark.parametrize(
    ("url", "match"), [("data:image/png;base64,@@@", "damaged"), ("data:image/png,abc", "not in base64")]
)
def test_data_urls_that_are_damaged(url: str, match: str) -> None:
    with pytest.raises(ImageError, match=match):
        load_image(url)


def test_urls_need_permission() -> None:
    with pytest.raises(ImageError, match="allow_urls=True") as caught:
        load_image("https://example.com/cat.png?token=secret")
    assert "secret" not in str(caught.value)


def test_source_says_where_it_came_from(picture: Image.Image, save: Save) -> None:
    path = save(picture, "picture.png")
    assert load_image(path).source == str(path)
    assert load_image(path.read_bytes()).source.endswith("bytes")
    assert isinstance(load_image(picture), LoadedImage)


@pytest.mark.parametrize("size", range(1, 12))
def test_a_few_bytes_are_no_image(size: int) -> None:
    """Shorter than what decoders look at to tell whether the data is theirs."""
    with pytest.raises(ImageError, match=r"damaged|not an image of a known format"):
        load_image(bytes(size))


def test_sketches_of_equal_pictures_are_equal(picture: Image.Image) -> None:
    loaded = load_image(picture)
    assert load_image(encoded(picture)).sketch == loaded.sketch
    assert load_image(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)).sketch != loaded.sketch
    assert load_image(picture.crop((0, 0, 60, 39))).sketch != loaded.sketch
