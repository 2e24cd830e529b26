"""Region prompts as the language model reads them: one embedding each, computed once for equal content."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from visionllm_sdk.model.core import VisionLLMCore
from visionllm_sdk.model.prompt import RegionPrompt, TiledImage
from visionllm_sdk.model.tiling import canvas_of
from visionllm_sdk.model.vision import VisionFeatures
from visionllm_sdk.regions import Region, Size, rasterise

_MAX_BYTES = 64 * 2**20
_REGIONS_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Place:
    """A region prompt on a seen image.

    Attributes:
        image: as the language side sees it, named by its content.
        size: width and height of the image as given, in pixels.
        region: the prompt.
    """

    image: TiledImage
    size: Size
    region: Region


class Pointer:
    """Encodes region prompts; thumbnails' feature maps and embeddings are kept, the least used go first.

    An adapter may change the region encoder, so that embeddings belong to the one that is active; the feature
    maps come from the vision encoder, which no adapter changes.

    Args:
        core: the model.
        side: of a tile in pixels.
        max_stretch: of thumbnails, see :func:`visionllm_sdk.model.tiling.canvas_of`.
        max_bytes: memory of feature maps; embeddings get as much again, with every adapter.

    Attributes:
        adapter: the one that is active.
    """

    adapter: str | None = None

    def __init__(
        self,
        core: VisionLLMCore,
        side: int,
        *,
        max_stretch: float | None = None,
        max_bytes: int = _MAX_BYTES,
    ) -> None:
        self._core = core
        self._side = side
        self._max_stretch = max_stretch
        self._levels = _Store(max_bytes)
        self._max_bytes = max_bytes
        self._embeddings: dict[str | None, _Store] = {}

    def forget(self, adapter: str) -> None:
        """Drop what was encoded with an adapter."""
        self._embeddings.pop(adapter, None)

    def keep(self, image: TiledImage, features: VisionFeatures) -> None:
        """Keep the feature maps of an image's thumbnail, which is its last tile."""
        self._levels.put(image.key, tuple(level[-1:].clone() for level in features.levels))

    @torch.no_grad()
    def prompts(self, places: Sequence[Place]) -> list[RegionPrompt]:
        """Region prompts with their embeddings, one per place; equal ones are encoded once.

        Raises:
            RegionError: a prompt that does not fit its image.
            InputError: the checkpoint has no region encoder.
        """
        marked = [
            mark_thumbnail(one.region, one.size, self._side, max_stretch=self._max_stretch) for one in places
        ]
        masks = [one.mask for one in marked]
        keys = [_key(one.image, mask) for one, mask in zip(places, masks, strict=True)]
        kept = self._embeddings.setdefault(self.adapter, _Store(self._max_bytes))
        found = {key: kept.get(key) for key in keys}
        missing = {key: at for at, key in enumerate(keys) if found[key] is None}
        fresh = list(missing.items())
        for start in range(0, len(fresh), _REGIONS_AT_ONCE):
            part = fresh[start : start + _REGIONS_AT_ONCE]
            embedded = self._encode([places[at].image for _, at in part], [marked[at] for _, at in part])
            for (key, _), one in zip(part, embedded, strict=True):
                found[key] = (one.clone(),)
                kept.put(key, (one.clone(),))
        return [
            replace(one, embedding=entry[0])
            for one, key in zip(marked, keys, strict=True)
            if (entry := found[key]) is not None
        ]

    def _encode(self, images: Sequence[TiledImage], marked: Sequence[RegionPrompt]) -> Tensor:
        unique = list({image.key: image for image in images}.values())
        levels = self._look(unique)
        order = {image.key: place for place, image in enumerate(unique)}
        return self._core.encode_regions(
            torch.cat([image.pixels[-1:] for image in unique]),
            [torch.cat(level) for level in zip(*levels, strict=True)],
            [one.mask for one in marked],
            [order[image.key] for image in images],
            [one.frame for one in marked],
        )

    def _look(self, images: Sequence[TiledImage]) -> list[tuple[Tensor, ...]]:
        """Feature maps of the images' thumbnails. Each (1, V_k, h_k, w_k)"""
        known = {image.key: self._levels.get(image.key) for image in images}
        missing = [image for image in images if known[image.key] is None]
        if missing:
            thumbnails = [TiledImage(image.pixels[-1:], key=image.key) for image in missing]
            for image, features in zip(missing, self._core.see_each(thumbnails, levels=True), strict=True):
                known[image.key] = features.levels
                self.keep(image, features)
        return [levels for image in images if (levels := known[image.key]) is not None]


def mark_thumbnail(
    region: Region, size: Size, side: int, *, max_stretch: float | None = None
) -> RegionPrompt:
    """A region prompt as a mask over its image's thumbnail, not yet encoded.

    Args:
        region: the prompt, in pixels of the image.
        size: width and height of the image in pixels.
        side: of the thumbnail in pixels.
        max_stretch: of the thumbnail, see :func:`visionllm_sdk.model.tiling.canvas_of`.

    Raises:
        RegionError: a prompt that does not fit its image.
    """
    mask = rasterise(region, size, side, max_stretch=max_stretch)
    return RegionPrompt(torch.from_numpy(mask), frame=canvas_of(*size, max_stretch=max_stretch).frame)


class _Store:
    """Tensors by content key, within a memory limit."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._items: OrderedDict[str, tuple[Tensor, ...]] = OrderedDict()
        self._bytes = 0

    def get(self, key: str) -> tuple[Tensor, ...] | None:
        if key in self._items:
            self._items.move_to_end(key)
        return self._items.get(key)

    def put(self, key: str, tensors: tuple[Tensor, ...]) -> None:
        if key in self._items:
            return
        self._items[key] = tensors
        self._bytes += sum(tensor.nbytes for tensor in tensors)
        while self._bytes > self._max_bytes and self._items:
            _, dropped = self._items.popitem(last=False)
            self._bytes -= sum(tensor.nbytes for tensor in dropped)


def _key(image: TiledImage, mask: Tensor) -> str:
    return f"{image.key} {hashlib.blake2b(mask.numpy().tobytes(), digest_size=16).hexdigest()}"


def on_image(prompts: Sequence[RegionPrompt], image: int) -> list[RegionPrompt]:
    """The same prompts on another image of their conversation."""
    return [replace(prompt, image=image) for prompt in prompts]
