"""From pictures to the detector's input: resize, normalise, pad, batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

MEAN = (0.485, 0.456, 0.406)
"""ImageNet mean of red, green and blue in [0, 1]."""
STD = (0.229, 0.224, 0.225)
"""ImageNet standard deviation."""
STEP = 32
"""Inputs are padded to a multiple of this, the coarsest stride of the backbone."""

Size = tuple[int, int]
"""Height and width in pixels."""


class InputSize(Protocol):
    """Any configuration that says how large inputs are, in pixels."""

    @property
    def shortest_edge(self) -> int:
        """Length of the shorter side after resizing."""

    @property
    def longest_edge(self) -> int:
        """Limit of the longer side."""


@dataclass(frozen=True, kw_only=True)
class ImageBatch:
    """Images of one padded size.

    Attributes:
        pixels: (B, 3, H, W) float, normalised; zeros in the padding at the right and bottom.
        mask: (B, H, W) bool, True where there is image.
        sizes: height and width of every resized image without padding.
        originals: height and width of every image as given.
    """

    pixels: Tensor
    mask: Tensor
    sizes: tuple[Size, ...]
    originals: tuple[Size, ...]

    def to(self, device: torch.device, dtype: torch.dtype) -> ImageBatch:
        """The batch on a device, pixels in a floating type."""
        return ImageBatch(
            pixels=self.pixels.to(device, dtype),
            mask=self.mask.to(device),
            sizes=self.sizes,
            originals=self.originals,
        )


def input_size(original: Size, *, shortest: int, longest: int) -> Size:
    """Size after resizing: the shorter side becomes `shortest`, unless the longer would exceed `longest`."""
    height, width = original
    scale = min(shortest / min(height, width), longest / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def padded_size(size: Size) -> Size:
    """The next multiples of 32."""
    return -(-size[0] // STEP) * STEP, -(-size[1] // STEP) * STEP


def normalise(image: Image.Image, size: Size) -> Tensor:
    """Resize (bilinear, anti-aliased) an RGB picture and normalise it, (3, *size) float."""
    if image.size != (size[1], size[0]):
        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    values = torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1).contiguous().float()
    mean, std = torch.tensor((MEAN, STD), dtype=torch.float32).view(2, 3, 1, 1) * 255
    return values.div_(std).sub_(mean / std)


def prepare(images: Sequence[Image.Image], at: InputSize | Sequence[InputSize]) -> ImageBatch:
    """One padded batch of images of any sizes.

    Args:
        images: RGB pictures.
        at: says the input size, of all of them or of each.
    """
    originals = [(image.height, image.width) for image in images]
    each = at if isinstance(at, Sequence) else [at] * len(images)
    sizes = [
        input_size(original, shortest=one.shortest_edge, longest=one.longest_edge)
        for original, one in zip(originals, each, strict=True)
    ]
    height, width = (max(side) for side in zip(*map(padded_size, sizes), strict=True))
    mask = torch.zeros(len(images), height, width, dtype=torch.bool)
    pixels = torch.zeros(len(images), 3, height, width, dtype=torch.float32)
    for i, (image, size) in enumerate(zip(images, sizes, strict=True)):
        pixels[i, :, : size[0], : size[1]] = normalise(image, size)
        mask[i, : size[0], : size[1]] = True
    return ImageBatch(pixels=pixels, mask=mask, sizes=tuple(sizes), originals=tuple(originals))


def group_by_size(images: Sequence[Image.Image], config: InputSize) -> dict[Size, list[int]]:
    """Positions of the images that share one padded size, so that no image is padded for another's sake.

    Convolutions and normalisation layers see padding; a result must not depend on what else is in the batch.
    """
    groups: dict[Size, list[int]] = {}
    for i, image in enumerate(images):
        size = input_size(
            (image.height, image.width), shortest=config.shortest_edge, longest=config.longest_edge
        )
        groups.setdefault(padded_size(size), []).append(i)
    return groups
