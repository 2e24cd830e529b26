"""What decoders have seen of images, kept for the next question about the same picture.

A detector spends half of its time on its backbone, which needs no label: whoever asks twice about a picture,
as agents do, pays for it once.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from PIL import Image
from torch import Tensor, nn

from visionllm_sdk.model.contents import Contents
from visionllm_tools.blocks.pyramid import View
from visionllm_tools.detection.prepare import InputSize, Size, input_size, padded_size, prepare
from visionllm_tools.requests import ImageJob

_MAX_BYTES: Final = 64 * 2**20
_Key = tuple[str, Size]


class Looker(Protocol):
    """A decoder that looks at images before it knows any label."""

    @property
    def config(self) -> InputSize:
        """Says the input size."""

    def look(self, pixels: Tensor, pixel_mask: Tensor) -> View:
        """See (B, 3, H, W) pixels with their (B, H, W) mask."""

    def eyes(self) -> Iterable[nn.Module | Tensor]:
        """All that `look` depends on."""

    def parameters(self) -> Iterable[Tensor]:
        """Of the module."""


@dataclass(frozen=True, kw_only=True)
class Sight:
    """Images of one padded size as a decoder has seen them.

    Attributes:
        view: of all of them.
        sizes: height and width of every resized image without padding.
        originals: height and width of every image as given.
        padded: the input's height and width.
    """

    view: View
    sizes: tuple[Size, ...]
    originals: tuple[Size, ...]
    padded: Size


class Sights:
    """Views of images by their contents; the least recently used go first, all of them when weights change.

    Lanes may use one at the same time.

    Args:
        max_bytes: memory of all views.
    """

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._views: OrderedDict[_Key, View] = OrderedDict()
        self._bytes = 0
        self._contents: Contents | None = None
        self._lock = threading.Lock()

    def look(self, decoder: Looker, job: ImageJob, at: InputSize | None = None) -> Sight:
        """See the images of a job; of those that are known only the memory.

        Args:
            decoder: the same one each time.
            job: images of one padded size.
            at: the input size; None takes that of the decoder.
        """
        config = at or decoder.config
        originals = tuple((image.height, image.width) for image in job.images)
        edges = {"shortest": config.shortest_edge, "longest": config.longest_edge}
        sizes = tuple(input_size(original, **edges) for original in originals)
        view = self._view(decoder, job.images, list(zip(job.keys, sizes, strict=True)), config)
        return Sight(view=view, sizes=sizes, originals=originals, padded=padded_size(sizes[0]))

    def _view(
        self, decoder: Looker, images: Sequence[Image.Image], keys: Sequence[_Key], at: InputSize
    ) -> View:
        contents = self._refresh(decoder)
        views = [self._get(key) for key in keys]
        fresh = [place for place, view in enumerate(views) if view is None]
        if fresh:
            place = next(iter(decoder.parameters()))
            batch = prepare([images[i] for i in fresh], at).to(place.device, place.dtype)
            seen = decoder.look(batch.pixels, batch.mask)
            whole = len(fresh) == len(keys)
            if not whole or (contents is not None and any(name for name, _ in keys)):
                for i, own in zip(fresh, seen.apart(), strict=True):
                    views[i] = own
                    self._put(keys[i], own, contents)
            if whole:
                return seen
        known = [view for view in views if view is not None]
        return View.join(known, alike=len({size for _, size in keys}) == 1)

    def _refresh(self, decoder: Looker) -> Contents | None:
        """The state of the decoder's eyes; what other eyes saw is forgotten."""
        tensors = [tensor for part in decoder.eyes() for tensor in _tensors(part)]
        with self._lock:
            contents = Contents.of(tensors, self._contents)
            if contents is not self._contents:
                self._views.clear()
                self._bytes = 0
            self._contents = contents
        return contents

    def _get(self, key: _Key) -> View | None:
        with self._lock:
            if key in self._views:
                self._views.move_to_end(key)
            return self._views.get(key)

    def _put(self, key: _Key, view: View, contents: Contents | None) -> None:
        kept = replace(view, features=view.features[:1])  # coarser maps have become tokens
        with self._lock:
            if not key[0] or contents is None or contents is not self._contents or key in self._views:
                return
            self._views[key] = kept
            self._bytes += kept.nbytes
            while self._bytes > self._max_bytes:
                self._bytes -= self._views.popitem(last=False)[1].nbytes


def _tensors(part: nn.Module | Tensor) -> Iterable[Tensor]:
    return [part] if isinstance(part, Tensor) else [*part.parameters(), *part.buffers()]
