"""Writing pictures: every failure names the file and says what to do."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionllm_sdk.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["encoded", "write_bytes", "write_image"]


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """A picture as the content of a file.

    Args:
        image: RGB.
        kind: Pillow's name of the format, ``"WEBP"``.
        options: of Pillow for that format.

    Raises:
        InputError: the format cannot hold it: most have a longest side, WebP 16,383 pixels.
    """
    buffer = io.BytesIO()
    try:
        image.save(buffer, format=kind, **options)
    except (OSError, RuntimeError, ValueError, struct.error) as error:
        raise InputError(
            f"the picture cannot be written as {kind}: {error}",
            value=f"{image.width} x {image.height} pixels",
            remedy="Write it as .png, or smaller.",
        ) from error
    return buffer.getvalue()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file; folders that do not exist are created.

    Raises:
        InputError: the place cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise InputError(
            f"the file cannot be written: {error.strerror or error}",
            value=str(path),
            remedy="Name another place, or check its permissions.",
        ) from error


def write_image(path: Path, image: Image.Image) -> None:
    """Write a picture in the format that the ending of the name tells; folders that do not exist are created.

    Raises:
        InputError: an unknown ending, a place that cannot be written to, or a picture that the format cannot
            hold.
    """
    from PIL import Image

    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind is None:
        raise InputError(
            "the picture's format is unknown", value=path.name, limit=".png, .jpg, .webp", remedy="Rename it."
        )
    write_bytes(path, encoded(image, kind))
