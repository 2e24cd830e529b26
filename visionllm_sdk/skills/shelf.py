"""Produced pictures on their way to the caller: looked at, signed, and kept under a handle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from visionllm_sdk.handles import ImageHandles
from visionllm_sdk.images import ImageLimits, load_image
from visionllm_sdk.results import Picture, Result

if TYPE_CHECKING:
    from PIL import Image

_SHOWN = 60


class SafetyChecker(Protocol):
    """An application's own look at every picture before anyone sees it."""

    def __call__(self, image: Image.Image, prompt: str, /) -> str | None:
        """Why the picture must not be shown, in words; None lets it pass."""


class PictureShelf:
    """What happens to every picture that a model makes, by whatever way it was asked for.

    Args:
        model: name of the checkpoint, written into the pictures' metadata.

    Attributes:
        adapter: name of the adapter in use, written into the metadata too.
        safety: looks at every finished picture; a refused one comes back without pixels, with the reason in
            `refused`. None, the default, lets all pass. Previews of unfinished pictures do not go through it.
        handles: the pictures, by the handles in the results.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self.adapter: str | None = None
        self.safety: SafetyChecker | None = None
        self.handles = ImageHandles()

    def keep(self, results: Sequence[Result]) -> list[Result]:
        """The results, with pictures checked, signed and kept."""
        return [self._keep(result) if isinstance(result, Picture) else result for result in results]

    def _keep(self, picture: Picture) -> Picture:
        picture = picture.with_origin(model=self.model, adapter=self.adapter)
        if picture.refused is None and self.safety is not None:
            reason = self.safety(picture.image, picture.prompt)
            if reason is not None:
                refused = picture.model_copy(update={"refused": reason})
                return refused.with_image(picture.image)
        if picture.refused is not None:
            return picture
        origin = f"{picture.model_dump(include={'type'})['type']}: {picture.prompt[:_SHOWN]}"
        limits = ImageLimits.for_size(picture.width, picture.height)  # an edit is as large as its input
        kept = load_image(picture.image, limits=limits)
        return picture.with_origin(handle=self.handles.add(kept, origin=origin))
