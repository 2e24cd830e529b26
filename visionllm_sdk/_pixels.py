"""Pixels of decoded images of any mode: upright, as the RGB that people see, as the inside of a mask."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from visionllm_sdk.errors import ImageError

__all__ = ["BROKEN", "check_depth", "inside", "to_rgb", "turn_upright"]

BoolArray = npt.NDArray[np.bool_]

BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    UserWarning,  # where the program turns warnings into errors
    struct.error,
    zlib.error,
)
"""What Pillow's decoders raise on damaged data."""


def turn_upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation.

    An EXIF block that cannot be parsed holds no orientation, and the pixels stand as they are stored; this is
    what browsers do.
    """
    try:
        orientation = image.getexif().get(0x0112, 1)
    except BROKEN:
        orientation = 1
    if orientation not in range(2, 9):
        return image
    return ImageOps.exif_transpose(image)


def to_rgb(image: Image.Image, name: str) -> Image.Image:
    """8-bit RGB: transparency laid over white, 16-bit grey scaled; an image that is RGB passes unchanged.

    Args:
        image: decoded, of any mode.
        name: of the image, for messages.

    Raises:
        ImageError: values without an agreed range.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    _check_range(image, name)
    if image.mode.startswith("I"):
        return _grey16_to_rgb(image, name)
    if image.has_transparency_data:
        layer = _to_rgba(image)
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def inside(image: Image.Image, name: str) -> BoolArray:
    """Where an image is neither black nor transparent, however dark or faint it is there.

    Args:
        image: decoded, of any mode.
        name: of the image, for messages.

    Returns:
        bool [H, W].

    Raises:
        ImageError: values without an agreed range, of which none means black.
    """
    _check_range(image, name)
    opaque: npt.NDArray[Any] | bool = True
    if image.mode.startswith("I"):
        colours = np.asarray(image)[..., None]
        opaque = ~_clear(image, colours[..., 0])
    elif image.has_transparency_data:
        colours, alpha = np.split(np.asarray(_to_rgba(image)), [3], axis=2)
        opaque = alpha[..., 0] > 0
    else:
        colours = np.asarray(image.convert("RGB"))
    found: BoolArray = np.logical_and(colours.any(axis=2), opaque)
    return found


def check_depth(image: Image.Image, name: str) -> None:
    """Refuse colours of 16 bits, of which decoding keeps eight: what is faint would become black.

    Args:
        image: not decoded yet.
        name: of the image, for messages.

    Raises:
        ImageError: such colours.
    """
    stored = (
        str(part[3]) for part in getattr(image, "tile", ())
    )  # tells how the file holds its values, such as RGB;16B
    if not image.mode.startswith("I") and any(";16" in one for one in stored):
        raise ImageError(
            "a mask with colours of 16 bits cannot be read exactly",
            value=name,
            limit="8-bit images, and 16-bit grey",
            remedy="Save the mask as 8-bit, or as 16-bit grey without transparency.",
        )


def _check_range(image: Image.Image, name: str) -> None:
    if image.mode in ("F", "LAB"):
        raise ImageError(
            f"images of mode {image.mode!r} have no agreed range of brightness",
            value=name,
            limit="8-bit images, and 16-bit grey",
            remedy="Scale the values to 0..255 and pass a numpy uint8 array.",
        )


def _to_rgba(image: Image.Image) -> Image.Image:
    # Grey with premultiplied alpha is the one mode that Pillow converts only by way of another.
    return (image.convert("LA") if image.mode == "La" else image).convert("RGBA")


def _grey16_to_rgb(image: Image.Image, name: str) -> Image.Image:
    """16-bit grey -> RGB over the full range; Pillow's own conversion would cut everything above 255."""
    values = np.asarray(image).astype(np.int64)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ImageError(
            f"the grey values of {name} do not fit 16 bits", value=(low, high), limit="0 to 65535"
        )
    grey = np.where(_clear(image, values), 255, (values + 128) // 257)
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")


def _clear(image: Image.Image, values: npt.NDArray[np.generic]) -> BoolArray:
    """Where 16-bit grey has the one value that its file calls transparent. (as `values`)"""
    value = image.info.get("transparency")
    if not isinstance(value, int):
        return np.zeros(values.shape, dtype=bool)
    clear: BoolArray = np.asarray(values == value)
    return clear
