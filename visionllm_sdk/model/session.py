"""What one conversation keeps between its turns: image features and the keys and values of its prefix.

Everything is found again by content - ids of the text, and the content keys of images and regions - so that a
changed history or image can never be answered from stale state.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from visionllm_sdk.model.cache import KeyValues
from visionllm_sdk.model.prompt import Prompt, RegionPrompt, SequenceLayout, TiledImage
from visionllm_sdk.model.vision import VisionFeatures


@dataclass(frozen=True, slots=True, eq=False)
class _Prefix:
    content: Tensor  # (n,) int64
    cache: list[KeyValues]


@dataclass(slots=True, eq=False)
class Session:
    """State of one conversation. One request at a time; its prefixes may be read and kept by several lanes.

    Attributes:
        max_images: images whose features are kept, the latest ones.
        max_prefixes: prefixes whose keys and values are kept, those used last.
    """

    max_images: int = 8
    max_prefixes: int = 2
    _features: OrderedDict[str, VisionFeatures] = field(default_factory=OrderedDict)
    _prefixes: list[_Prefix] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    reused_tokens: int = 0
    """Prompt tokens that the last request did not have to compute."""

    def recall(self, image: TiledImage) -> TiledImage:
        """The image with its features, if they are known."""
        features = self._features.get(image.key) if image.key and image.features is None else None
        if features is None:
            return image
        self._features.move_to_end(image.key)
        return TiledImage(image.pixels, features, image.key)

    def remember(self, image: TiledImage, features: VisionFeatures) -> None:
        """Keep an image's features; an image without key is not kept."""
        if not image.key:
            return
        self._features[image.key] = features
        self._features.move_to_end(image.key)
        while len(self._features) > self.max_images:
            self._features.popitem(last=False)

    def longest_prefix(self, content: Tensor) -> tuple[int, list[KeyValues]]:
        """Most leading positions whose keys and values are known.

        Args:
            content: see :func:`content_ids`. (L,)

        Returns:
            Their number (less than L: at least one token has to run), and per layer keys and values of at
            least that length.
        """
        best, found = 0, None
        with self._lock:
            for prefix in self._prefixes:
                length = min(len(prefix.content), len(content) - 1)
                differs = np.flatnonzero(prefix.content[:length].numpy() != content[:length].numpy())
                common = int(differs[0]) if len(differs) else length
                if common > best:
                    best, found = common, prefix
            if found is not None:  # used now, so that others go first
                self._prefixes.remove(found)
                self._prefixes.append(found)
        return best, found.cache if found is not None else []

    def keep_prefix(self, content: Tensor, cache: list[KeyValues]) -> None:
        """Keep a row's keys and values; shorter prefixes of the same content are dropped."""
        with self._lock:
            others = [
                prefix
                for prefix in self._prefixes
                if len(prefix.content) > len(content)
                or not torch.equal(prefix.content, content[: len(prefix.content)])
            ]
            self._prefixes = [*others, _Prefix(content, cache)][-self.max_prefixes :]

    def clear(self) -> None:
        """Forget everything."""
        self._features.clear()
        self._prefixes.clear()


def image_key(pixels: Tensor) -> str:
    """Content key of normalised tiles: a hash of their values and shape."""
    values = pixels.detach().cpu().contiguous()
    digest = hashlib.blake2b(values.numpy().tobytes(), digest_size=16)
    digest.update(str(tuple(values.shape)).encode())
    return digest.hexdigest()


def content_ids(prompt: Prompt, layout: SequenceLayout) -> Tensor:
    """What stands at every position of a prompt, as comparable numbers.

    Text is its id; an image patch or a region is a negative number made from its content key and offset.

    Returns:
        (L,) int64
    """
    content = torch.tensor(prompt.ids, dtype=torch.long)
    seeds = [_seed(image.key or _fresh_key()) for image in prompt.images]
    patches = [
        seed - offset
        for seed, image in zip(seeds, prompt.images, strict=True)
        for offset in range(image.tiles * layout.tokens_per_tile)
    ]
    content[content == layout.patch_id] = torch.tensor(patches, dtype=torch.long)
    regions = [_region_seed(region, prompt.images) for region in prompt.regions]
    content[content == layout.region_id] = torch.tensor(regions, dtype=torch.long)
    return content


def _fresh_key() -> str:
    """For an image without key: equals nothing."""
    return "unnamed " + secrets.token_hex(16)


def _seed(key: str) -> int:
    # Negative, and far enough from the lower end of int64 to count down from.
    number = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=7).digest())
    return -number - 2**60


def _region_seed(region: RegionPrompt, images: Sequence[TiledImage]) -> int:
    mask = region.mask.detach().cpu().to(torch.uint8).contiguous().numpy().tobytes()
    image = images[region.image].key or _fresh_key()
    return _seed(f"{image} {hashlib.blake2b(mask).hexdigest()}")


def cut_prompt(prompt: Prompt, length: int, layout: SequenceLayout) -> int:
    """The latest position up to ``length`` at which a prompt may be cut.

    An image must lie wholly before or after the cut, the image of a region after the cut must too unless the
    region's embedding is known, and a routing token stays with its queries.
    """
    starts = _image_starts(prompt, layout)
    cut = length
    for start, image in zip(starts, prompt.images, strict=True):
        if start < cut < start + image.tiles * layout.tokens_per_tile:
            cut = start
    columns = [column for column, index in enumerate(prompt.ids) if index == layout.region_id]
    for column, region in reversed(list(zip(columns, prompt.regions, strict=True))):
        if column >= cut and region.embedding is None:
            cut = min(cut, starts[region.image])
    while 0 < cut < len(prompt.ids) and prompt.ids[cut] in layout.placeholder_ids:
        cut -= 1
    return cut


def _image_starts(prompt: Prompt, layout: SequenceLayout) -> list[int]:
    patches = [column for column, index in enumerate(prompt.ids) if index == layout.patch_id]
    starts, passed = [], 0
    for image in prompt.images:
        starts.append(patches[passed])
        passed += image.tiles * layout.tokens_per_tile
    return starts


def begin_of(prompt: Prompt, cut: int, layout: SequenceLayout) -> Prompt:
    """The part of a prompt before ``cut``, with the images and regions that belong to it."""
    count = sum(start < cut for start in _image_starts(prompt, layout))
    passed = sum(index == layout.region_id for index in prompt.ids[:cut])
    return Prompt(
        ids=prompt.ids[:cut],
        marks=prompt.marks[:cut],
        images=prompt.images[:count],
        regions=prompt.regions[:passed],
    )


def images_end(prompt: Prompt, layout: SequenceLayout) -> int:
    """The position after the last image; 0 without any."""
    starts = _image_starts(prompt, layout)
    return starts[-1] + prompt.images[-1].tiles * layout.tokens_per_tile if starts else 0


def rest_of(prompt: Prompt, cut: int, layout: SequenceLayout) -> Prompt:
    """The part of a prompt from ``cut`` on, with the images and regions that belong to it."""
    starts = _image_starts(prompt, layout)
    first = sum(start < cut for start in starts)
    passed = sum(index == layout.region_id for index in prompt.ids[:cut])
    regions = tuple(replace(one, image=one.image - first) for one in prompt.regions[passed:])
    return Prompt(
        ids=prompt.ids[cut:], marks=prompt.marks[cut:], images=prompt.images[first:], regions=regions
    )
