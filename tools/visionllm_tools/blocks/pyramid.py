"""From backbone maps to the token pyramid that the transformers read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visionllm_tools.blocks.deformable import Pyramid
from visionllm_tools.blocks.positions import valid_ratios


@dataclass(frozen=True, kw_only=True)
class View:
    """A batch of images as a decoder has seen it, before any label is known.

    Attributes:
        features: backbone maps, finest first; empty where the decoder needs them no more.
        pyramid: projected tokens.
        positions: (B or 1, S, C) position and level embeddings of the tokens.
    """

    features: Sequence[Tensor] = ()
    pyramid: Pyramid
    positions: Tensor

    def rows(self, index: Tensor) -> View:
        """Chosen images, possibly repeated, (K,) long."""
        single = len(self.positions) == 1
        return View(
            features=[feature[index] for feature in self.features],
            pyramid=self.pyramid.rows(index),
            positions=self.positions if single else self.positions[index],
        )

    def of(self, places: Sequence[int]) -> View:
        """Images at some positions, possibly repeated; this very view if that are all, in order."""
        if list(places) == list(range(len(self.pyramid.tokens))):
            return self
        return self.rows(torch.tensor(places, device=self.positions.device))

    def apart(self) -> list[View]:
        """One view of each image, with memory of its own."""
        count = len(self.pyramid.tokens)
        if count == 1:
            return [self]
        return [self.of([i]) for i in range(count)]

    @classmethod
    def join(cls, views: Sequence[View], *, alike: bool) -> View:
        """A batch out of views of one image each.

        Args:
            views: of inputs of one padded size.
            alike: whether there is as much padding in all of them, so that places are the same.
        """
        placed = views[:1] if alike else views
        pyramids = [view.pyramid for view in views]
        padding = [one.padding for one in pyramids if one.padding is not None]
        if 0 < len(padding) < len(views):
            none = torch.zeros_like(padding[0])
            padding = [none if one.padding is None else one.padding for one in pyramids]
        return cls(
            features=[torch.cat(maps) for maps in zip(*(view.features for view in views), strict=False)],
            pyramid=Pyramid(
                tokens=torch.cat([one.tokens for one in pyramids]),
                shapes=pyramids[0].shapes,
                ratios=torch.cat([view.pyramid.ratios for view in placed]),
                padding=torch.cat(padding) if padding else None,
            ),
            positions=torch.cat([view.positions for view in placed]),
        )

    @property
    def nbytes(self) -> int:
        """Memory."""
        held = (*self.features, self.pyramid.tokens, self.pyramid.padding, self.positions)
        return sum(tensor.nbytes for tensor in held if tensor is not None)


def level_projections(channels: Sequence[int], *, width: int, levels: int) -> list[nn.Sequential]:
    """1x1 convolutions to the common width, then 3x3 convolutions of stride 2 for coarser levels."""
    made, last = [], channels[-1]
    for count in channels:
        made.append(nn.Sequential(nn.Conv2d(count, width, 1), nn.GroupNorm(32, width)))
    for _ in range(levels - len(channels)):
        coarser = nn.Conv2d(last, width, 3, stride=2, padding=1)
        made.append(nn.Sequential(coarser, nn.GroupNorm(32, width)))
        last = width
    return made


def lay_out(
    features: Sequence[Tensor],
    pixel_mask: Tensor,
    *,
    projections: Iterable[nn.Module],
    position_embedding: Callable[[Tensor, Tensor], Tensor],
    level_embed: Tensor,
) -> tuple[Pyramid, Tensor]:
    """Project the backbone's maps and lay them out as one sequence.

    Args:
        features: maps of strides 8, 16 and 32, each (B, C_i, H_i, W_i).
        pixel_mask: (B, H, W) bool, True where there is image.
        projections: of `level_projections`; those beyond the maps make coarser levels.
        position_embedding: (B, C, h, w) map and (B or 1, h, w) bool mask -> (B or 1, C, h, w).
        level_embed: (L, C).

    Returns:
        The pyramid and the embeddings of its tokens (B or 1, S, C).
    """
    inputs = [*features, features[-1]]  # stride 64 is made from stride 32
    maps: list[Tensor] = []
    for i, project in enumerate(projections):
        maps.append(project(inputs[i] if i < len(inputs) else maps[-1]))
    padded = not bool(pixel_mask.all())
    if bool((pixel_mask == pixel_mask[:1]).all()):
        pixel_mask = pixel_mask[:1]  # positions and geometry are the same for all images
    shapes = [(x.shape[2], x.shape[3]) for x in maps]
    masks = [_shrink(pixel_mask, shape) for shape in shapes]
    positions = [
        position_embedding(x, mask).flatten(2).transpose(1, 2) + level_embed[level]
        for level, (x, mask) in enumerate(zip(maps, masks, strict=True))
    ]
    form = features[0].dtype  # also where products are computed in bfloat16
    tokens = torch.cat([x.flatten(2).transpose(1, 2) for x in maps], dim=1).to(form)
    padding = ~torch.cat([mask.flatten(1) for mask in masks], dim=1)
    pyramid = Pyramid(
        tokens=tokens,
        shapes=shapes,
        ratios=torch.stack([valid_ratios(mask) for mask in masks], dim=1),  # float32: places must be exact
        padding=padding.expand(len(tokens), -1) if padded else None,
    )
    return pyramid, torch.cat(positions, dim=1).to(form)


def _shrink(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Nearest-neighbour (B, H, W) bool mask at a feature map's size, (B, *size)."""
    return F.interpolate(mask[None].float(), size=size)[0].bool()
