"""Images in: read, verify, turn upright, and make RGB.

Whatever the source, what comes out is 8-bit RGB as a person would see it: EXIF orientation applied, palettes
and CMYK resolved, transparency laid over white, 16-bit grey scaled to 8 bits (65535 becomes 255). Limits are
checked on the header, before a single pixel is decoded. Only raster formats that Pillow decodes by itself are
read; nothing that runs another program (EPS) or executes anything.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Self, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from visionllm_sdk._pixels import BROKEN, check_depth, inside, to_rgb, turn_upright
from visionllm_sdk.errors import ImageError
from visionllm_sdk.fetch import UrlPolicy, fetch, is_url

__all__ = ["ImageLimits", "ImageSource", "LoadedImage", "UrlPolicy", "load_image", "load_mask"]

Made = TypeVar("Made")

FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF")
"""What is read; all of them are decoded inside Pillow."""
_MOST_BYTES: Final = 8
"""Bytes that a pixel takes in a file at most: four channels of 16 bits."""


@dataclass(frozen=True, kw_only=True)
class ImageLimits:
    """What is refused before decoding.

    Attributes:
        max_bytes: largest file or download, in bytes.
        max_pixels: largest width x height.
        max_side: largest width and largest height, in pixels.
    """

    max_bytes: int = 128 * 2**20
    max_pixels: int = 64_000_000
    max_side: int = 32_768

    @classmethod
    def for_size(cls, width: int, height: int) -> Self:
        """The default limits, raised where an image of this size in pixels needs it."""
        least = cls()
        return cls(
            max_bytes=max(least.max_bytes, width * height * _MOST_BYTES),
            max_pixels=max(least.max_pixels, width * height),
            max_side=max(least.max_side, width, height),
        )


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """An image that has passed: 8-bit RGB, upright.

    Attributes:
        image: PIL image, mode RGB; treat it as read-only.
        source: where it came from, in words fit for messages.
    """

    image: Image.Image
    source: str

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.image.width

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.image.height

    @cached_property
    def digest(self) -> str:
        """Fingerprint of size and pixels (hexadecimal, 128 bits): equal exactly if the pictures are equal."""
        found = hashlib.blake2b(f"{self.width}x{self.height};".encode(), digest_size=16)
        found.update(self.image.tobytes())
        return found.hexdigest()

    @property
    def sketch(self) -> bytes:
        """Some pixels and the size, at next to no cost: equal pictures agree, different ones seldom do."""
        few = self.image.resize((8, 8), Image.Resampling.NEAREST)
        return f"{self.width}x{self.height};".encode() + few.tobytes()

    def to_numpy(self) -> npt.NDArray[np.uint8]:
        """The pixels, uint8 [H, W, 3], RGB."""
        return np.array(self.image)


ImageSource: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[Any] | LoadedImage
"""Path, content of a file, PIL image, numpy array (uint8 [H, W, 3]), URL (where allowed), or loaded image."""


def load_image(
    source: ImageSource,
    *,
    allow_urls: bool | UrlPolicy = False,
    limits: ImageLimits | None = None,
    frame: int | None = None,
) -> LoadedImage:
    """Load one image.

    Args:
        source: path (str or path-like), file content (bytes), PIL image, numpy array (uint8, [H, W, 3] RGB,
            [H, W, 4] RGBA or [H, W] grey), http(s) URL, or a `LoadedImage`, which passes unchanged.
        allow_urls: whether a URL may be fetched; a `UrlPolicy` says from where and how.
        limits: what is refused; the defaults of `ImageLimits` if not given.
        frame: which frame of an animated file to take, from 0. Without it an animated file is an error,
            because an answer about one silently chosen frame would be a wrong answer.

    Raises:
        ImageError: missing, unreadable, truncated, not an image, animated, too large, or of an unsupported
            kind.
    """
    limits = limits or ImageLimits()
    if isinstance(source, LoadedImage):
        return source
    if isinstance(source, Image.Image):
        return _finish(source, "PIL image", limits, frame, owned=False)
    if isinstance(source, np.ndarray):
        return _from_array(source, limits)
    if isinstance(source, bytes | bytearray | memoryview):
        return _from_bytes(bytes(source), f"{len(source)} bytes", limits, frame)
    if isinstance(source, str) and source.startswith("data:"):
        return _from_bytes(_data_url(source), "data URL", limits, frame)
    if isinstance(source, str) and is_url(source):
        data, name = fetch(source, policy=_policy(source, allow_urls), max_bytes=limits.max_bytes)
        return _from_bytes(data, name, limits, frame)
    if isinstance(source, str | os.PathLike):
        path = os.fsdecode(source)  # a path-like may hold bytes, as those of os.scandir(b".") do
        if not path:
            raise ImageError("the path of the image is empty", value=repr(source), remedy="Pass a path.")
        return _from_bytes(_read(Path(path), limits), str(Path(path)), limits, frame)
    raise ImageError(
        "this is not an image source",
        value=type(source).__name__,
        limit="path, bytes, PIL image, numpy array, or URL",
        remedy="Convert it to one of these.",
    )


def load_mask(path: str | os.PathLike[str], *, limits: ImageLimits | None = None) -> npt.NDArray[np.bool_]:
    """Which pixels of an image file are neither black nor transparent.

    The file has to pass what `load_image` checks, but its values are taken as they are stored: a mask may
    be 16-bit grey with values of 1, or opaque on a transparent ground.

    Args:
        path: the file.
        limits: what is refused; the defaults of `ImageLimits` if not given.

    Returns:
        bool [H, W], upright.

    Raises:
        ImageError: missing, unreadable, truncated, not an image, animated, too large, or of an unsupported
            kind, such as colours of 16 bits.
    """
    limits, name = limits or ImageLimits(), os.fsdecode(path)
    image = _open(_read(Path(name), limits), name)
    check_depth(image, name)
    return _decoded(image, name, limits, None, lambda upright: inside(upright, name))


def _policy(url: str, allow_urls: bool | UrlPolicy) -> UrlPolicy:
    if isinstance(allow_urls, UrlPolicy):
        return allow_urls
    if not allow_urls:
        raise ImageError(
            "URLs are not fetched unless allowed",
            value=url.partition("?")[0],
            limit="local images",
            remedy="Download the image first, or pass allow_urls=True to load_image().",
        )
    return UrlPolicy()


def _data_url(url: str) -> bytes:
    """The bytes inside `data:image/png;base64,...`; nothing is fetched."""
    head, _, body = url.partition(",")
    if not head.endswith(";base64"):
        raise ImageError("the data URL is not in base64", value=head, limit="data:image/...;base64,...")
    try:
        return base64.b64decode("".join(body.split()), validate=True)
    except ValueError as error:
        raise ImageError(f"the data URL is damaged: {error}", value=head) from error


def _read(path: Path, limits: ImageLimits) -> bytes:
    """The content of an image file, of bounded size."""
    try:
        if not path.exists():
            raise ImageError("the image file does not exist", value=str(path), remedy="Check the path.")
        if not path.is_file():
            raise ImageError("this is not a file", value=str(path), remedy="Pass the path of one image file.")
        _check_bytes(path.stat().st_size, str(path), limits)
        return path.read_bytes()
    except (OSError, ValueError) as error:  # no permission, name too long, null byte in the name
        if isinstance(error, ImageError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"the image file cannot be read: {reason}", value=str(path)) from error


def _check_bytes(size: int, name: str, limits: ImageLimits) -> None:
    if size > limits.max_bytes:
        raise ImageError(
            f"the image file {name} is too large",
            value=f"{size} bytes",
            limit=f"{limits.max_bytes} bytes",
            remedy="Save it smaller, or raise ImageLimits.max_bytes.",
        )
    if size == 0:
        raise ImageError("the image file is empty", value=name, remedy="Check how the file was written.")


def _from_bytes(data: bytes, name: str, limits: ImageLimits, frame: int | None) -> LoadedImage:
    _check_bytes(len(data), name, limits)
    return _finish(_open(data, name), name, limits, frame, owned=True)


def _open(data: bytes, name: str) -> Image.Image:
    """Read the header with the first decoder that knows the format.

    `Image.open` would do the same, but warn or refuse by a limit that is global to the process, before the
    limits given here could be checked.
    """
    Image.init()
    failure: Exception | None = None
    for kind in FORMATS:
        if kind not in Image.OPEN:  # Pillow may be built without a library
            continue
        factory, accept = Image.OPEN[kind]
        if not _begins_as(accept, data):
            continue
        try:
            return factory(BytesIO(data), "")
        except BROKEN as error:
            failure = error
    if failure is not None:
        raise _damaged(name, failure) from failure
    raise ImageError(
        "the data is not an image of a known format",
        value=name,
        limit=", ".join(FORMATS),
        remedy="Convert it to PNG or JPEG.",
    )


def _begins_as(accept: Callable[[bytes], bool | str] | None, data: bytes) -> bool:
    """Whether a decoder takes the data for its own; one that needs more bytes than there are does not."""
    try:
        return accept is None or accept(data[:16]) is True
    except BROKEN:
        return False


def _finish(
    image: Image.Image, name: str, limits: ImageLimits, frame: int | None, *, owned: bool
) -> LoadedImage:
    """Check the header, then decode, turn upright, make RGB."""

    def convert(upright: Image.Image) -> Image.Image:
        rgb = to_rgb(upright, name)
        # The caller may go on drawing on its own image, and an animated one leaves the frame again.
        return rgb.copy() if rgb is image and (frame is not None or not owned) else rgb

    return LoadedImage(_decoded(image, name, limits, frame, convert), name)


def _decoded(
    image: Image.Image,
    name: str,
    limits: ImageLimits,
    frame: int | None,
    convert: Callable[[Image.Image], Made],
) -> Made:
    """What is made of the upright picture, once its header is checked and its pixels are decoded."""
    _check_size(image.width, image.height, name, limits)
    try:
        _check_frame(image, name, frame)
        with _at_frame(image, frame):
            _check_size(image.width, image.height, name, limits)  # frames may be of different sizes
            image.load()
            return convert(turn_upright(image))
    except ImageError:
        raise
    except BROKEN as error:
        raise _damaged(name, error) from error


def _check_size(width: int, height: int, name: str, limits: ImageLimits) -> None:
    if width < 1 or height < 1:
        raise ImageError("the image has no pixels", value=f"{name}: {width} x {height}")
    if width * height > limits.max_pixels or max(width, height) > limits.max_side:
        raise ImageError(
            "the image is too large",
            value=f"{name}: {width} x {height} = {width * height / 1e6:.1f} megapixels",
            limit=_say(limits),
            remedy="Shrink it, or raise ImageLimits.",
        )


def _say(limits: ImageLimits) -> str:
    return f"{limits.max_pixels / 1e6:g} megapixels, {limits.max_side} pixels a side"


def _damaged(name: str, error: Exception) -> ImageError:
    return ImageError(
        f"the image is damaged or incomplete: {error}",
        value=name,
        remedy="Fetch or save the file again, or open it in an image editor and export it as PNG.",
    )


def _check_frame(image: Image.Image, name: str, frame: int | None) -> None:
    # The further pictures of an MPO file (many phones and cameras) are previews, not an animation.
    frames = 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))
    if frame is None and frames > 1:
        raise ImageError(
            "the image has several frames",
            value=f"{name}: {frames} frames",
            limit="one",
            remedy="Choose one with load_image(..., frame=0), or save a single frame.",
        )
    if frame is not None and not 0 <= frame < frames:
        raise ImageError(f"the image {name} has no such frame", value=frame, limit=f"0 to {frames - 1}")


@contextmanager
def _at_frame(image: Image.Image, frame: int | None) -> Iterator[None]:
    """The image at the chosen frame, then again where it stood: it may be the caller's."""
    stood = image.tell()
    if frame is None or frame == stood:
        yield
        return
    try:
        image.seek(frame)
        yield
    finally:
        image.seek(stood)


def _from_array(array: npt.NDArray[Any], limits: ImageLimits) -> LoadedImage:
    shape = array.shape
    if array.dtype != np.uint8:
        raise ImageError(
            "an image array holds 8-bit values",
            value=f"{array.dtype} {shape}",
            limit="uint8 [H, W, 3]",
            remedy="Scale to 0..255 and convert: (array * 255).round().astype(np.uint8) if it is in 0..1.",
        )
    if not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))):
        chw = len(shape) == 3 and shape[0] in (1, 3, 4)
        raise ImageError(
            "an image array has height, width and channels, in this order",
            value=shape,
            limit="[H, W, 3], [H, W, 4], [H, W, 1] or [H, W]",
            remedy="Channels come first here: use array.transpose(1, 2, 0)."
            if chw
            else "Pass one image at a time.",
        )
    name = f"array {shape}"
    _check_size(shape[1], shape[0], name, limits)
    plane = array[..., 0] if len(shape) == 3 and shape[2] == 1 else array
    image = Image.fromarray(np.ascontiguousarray(plane))
    return _finish(image, name, limits, None, owned=False)
