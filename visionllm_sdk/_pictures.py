"""Results that are pictures: generated and edited images, with what made them."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt, PrivateAttr

from visionllm_sdk._result import Result
from visionllm_sdk._saving import encoded, write_bytes
from visionllm_sdk.errors import ArtifactError, GenerationError, HandleError, InputError

if TYPE_CHECKING:
    from PIL import Image

    from visionllm_sdk.images import ImageLimits, ImageSource

__all__ = ["EditedImage", "GeneratedImage", "Picture"]

_RECORD: Final = "visionllm_sdk"  # name of the PNG text that holds the record
_PRIVATE: Final = {"handle", "source"}  # handles belong to a session, not to a file
_DESCRIPTION: Final = 0x010E  # EXIF ImageDescription
FORMATS: Final = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


class Picture(Result):
    """Base of the results that are pictures.

    The pixels are not part of the data: a picture that comes back from a store or a wire has to be given
    them again by `with_image`, from wherever `handle` leads to.

    `prompt` is the caption or instruction, `seed` fixes the noise, `steps`, `guidance` and `sampler` (None:
    the checkpoint's own) say how it was made, `model` and `adapter` by what. `refused` is the reason why a
    safety checker holds the picture back; then there are no pixels to be had.
    """

    width: PositiveInt
    height: PositiveInt
    prompt: str
    negative_prompt: str | None = None
    seed: NonNegativeInt
    steps: PositiveInt
    guidance: NonNegativeFloat
    sampler: str | None = None
    model: str = ""
    adapter: str | None = None
    handle: str | None = None
    refused: str | None = None

    _image: Image.Image | None = PrivateAttr(default=None)

    @property
    def image(self) -> Image.Image:
        """The picture, RGB.

        Raises:
            GenerationError: a safety checker refused it.
            HandleError: the pixels did not travel with the data.
        """
        if self.refused is not None:
            raise GenerationError(
                "the safety checker refused this picture",
                value=self.refused,
                remedy="Ask for something else.",
            )
        if self._image is None:
            raise HandleError(
                "the pixels of this picture are not here",
                value=self.handle,
                remedy="Open its handle where it was made, and attach them by with_image().",
            )
        return self._image

    @property
    def has_pixels(self) -> bool:
        """Whether the picture is here, and not only what is known about it."""
        return self._image is not None

    def with_image(self, image: ImageSource) -> Self:
        """The same result with its pixels; a refused picture stays without.

        The handle does not lead to other pixels than the picture had: with these it is left out.

        Raises:
            InputError: pixels of another size.
        """
        from visionllm_sdk.images import ImageLimits, load_image

        pixels, handle = None, self.handle
        if self.refused is None:
            loaded = load_image(image, limits=ImageLimits.for_size(self.width, self.height))
            if (loaded.width, loaded.height) != (self.width, self.height):
                raise InputError(
                    "these are the pixels of a picture of another size",
                    value=(loaded.width, loaded.height),
                    limit=(self.width, self.height),
                )
            pixels = loaded.image
            if self._image is not None and self._image.tobytes() != pixels.tobytes():
                handle = None
        copy = self.model_copy(update={"handle": handle})
        copy._image = pixels
        return copy

    def with_origin(
        self, *, model: str | None = None, adapter: str | None = None, handle: str | None = None
    ) -> Self:
        """The same picture with who made it and where it is kept; None leaves a field as it is."""
        given = {"model": model, "adapter": adapter, "handle": handle}
        copy = self.model_copy(update={name: value for name, value in given.items() if value is not None})
        copy._image = self._image
        return copy

    def save(self, path: str | os.PathLike[str], *, metadata: bool = True) -> Path:
        """Write the picture; the ending of the name says how: .png, .jpg or .webp. Folders are created.

        Args:
            path: the file.
            metadata: also write prompt, seed, model and adapter into the file.

        Returns:
            The path.

        Raises:
            InputError: another ending, a place that cannot be written to, or a picture that the format cannot
                hold.
        """
        target = Path(path)
        kind = FORMATS.get(target.suffix.lower())
        if kind is None:
            raise InputError(
                "a picture cannot be written under this name",
                value=target.name,
                limit=", ".join(FORMATS),
                remedy="Choose one of these endings.",
            )
        write_bytes(target, self._encoded(kind, metadata))
        return target

    def to_png(self, *, metadata: bool = True) -> bytes:
        """The picture as the bytes of a PNG file; with `metadata`, `from_png` turns them back."""
        return self._encoded("PNG", metadata)

    @classmethod
    def from_png(cls, data: bytes, *, limits: ImageLimits | None = None) -> Self:
        """The result that `to_png` or `save` wrote, with its pixels.

        Args:
            data: content of the file.
            limits: what is refused for its size; the defaults of `ImageLimits` if not given.

        Raises:
            ImageError: no image, or one that is too large.
            ArtifactError: no PNG with such a record, or that of another kind of result.
        """
        from PIL import Image

        from visionllm_sdk.images import load_image
        from visionllm_sdk.results import revive

        loaded = load_image(data, limits=limits)
        with Image.open(io.BytesIO(data)) as file:
            record = getattr(file, "text", {}).get(_RECORD)
        try:
            result = revive(json.loads(record)) if record else None
        except json.JSONDecodeError as error:
            raise ArtifactError("the record in this picture is damaged", value=record) from error
        if not isinstance(result, cls):
            raise ArtifactError(
                "this picture does not say how it was made",
                value=None if result is None else type(result).__name__,
                limit=cls.__name__,
                remedy="Pass a PNG file that this SDK wrote with its metadata.",
            )
        return result.with_image(loaded)

    def _encoded(self, kind: str, metadata: bool) -> bytes:
        from PIL.Image import Exif
        from PIL.PngImagePlugin import PngInfo

        options: dict[str, Any] = {}
        if metadata and kind == "PNG":
            options["pnginfo"] = text = PngInfo()
            text.add_itxt("Description", self.prompt)
            text.add_itxt("Software", "visionllm-sdk")
            text.add_itxt(_RECORD, self._record())
        elif metadata:
            options["exif"] = exif = Exif()
            exif[_DESCRIPTION] = json.dumps(json.loads(self._record()))  # EXIF text is ASCII
        return encoded(self.image, kind, **options)

    def _record(self) -> str:
        return self.model_dump_json(exclude=_PRIVATE)

    def _repr_png_(self) -> bytes | None:
        return None if self._image is None else self.to_png()


class GeneratedImage(Picture):
    """A picture drawn from a caption."""

    type: Literal["generated_image"] = "generated_image"


class EditedImage(Picture):
    """An image changed by an instruction, of the size of its input.

    `image_guidance` says how closely it keeps to the input; `source` is the handle of the input image, where
    a session keeps it.
    """

    type: Literal["edited_image"] = "edited_image"
    image_guidance: NonNegativeFloat
    source: str | None = None

    def from_source(self, handle: str | None) -> Self:
        """The same picture with the handle of the image that was edited."""
        copy = self.model_copy(update={"source": handle})
        copy._image = self._image
        return copy
