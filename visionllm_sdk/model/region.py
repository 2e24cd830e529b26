"""The region encoder: a user's mask over the thumbnail becomes one token for the language model."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visionllm_sdk.errors import RegionError

_BANDS = 6  # waves per number in which a place is told


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of a map. (N, C, H, W)"""

    def forward(self, maps: Tensor) -> Tensor:
        """Normalise every pixel's channels."""
        return super().forward(maps.movedim(1, -1)).movedim(-1, 1)


class RegionEncoder(nn.Module):
    """Image and mask -> conv stem -> three feature levels added in turn -> average under the mask -> token.

    Paper, section 3.2. The released code averages at most 2304 mask pixels, drawn at random; here the average
    goes over all of them, in closed form: equal where the mask is small, its expectation where it is large.

    Args:
        level_widths: channels of the three feature maps of the vision encoder.
        stem_width: channels of the mask embedding; equal to the level widths in the released models.
        width: C, width of the language model.
        kernels: kernel = stride of the two stem convolutions.
        stem_widths: channels of the two stem convolutions.
        place: add where the region lies. A vision transformer's features know their place; those of a conv
            net do not, and two equal things could not be told apart.
    """

    def __init__(
        self,
        *,
        level_widths: tuple[int, ...],
        stem_width: int,
        width: int,
        kernels: tuple[int, int] = (7, 2),
        stem_widths: tuple[int, int] = (64, 256),
        place: bool = False,
    ) -> None:
        super().__init__()
        first, second = stem_widths
        self.cell = kernels[0] * kernels[1]
        self.mask_embedding = nn.Sequential(
            nn.Conv2d(4, first, kernel_size=kernels[0], stride=kernels[0]),
            ChannelNorm(first, eps=1e-6),
            nn.GELU(),
            nn.Conv2d(first, second, kernel_size=kernels[1], stride=kernels[1]),
            ChannelNorm(second, eps=1e-6),
            nn.GELU(),
            nn.Conv2d(second, stem_width, kernel_size=1),
        )
        # A conv encoder's levels differ in width; a transformer's do not and need no lateral.
        self.laterals = nn.ModuleList(
            nn.Identity() if level == stem_width else nn.Conv2d(level, stem_width, kernel_size=1)
            for level in level_widths
        )
        self.up_dim = nn.Linear(stem_width, width)
        self.place = nn.Linear(4 * 2 * _BANDS, width) if place else None

    def forward(
        self,
        pixels: Tensor,
        masks: Tensor,
        levels: tuple[Tensor, ...],
        owners: Tensor | None = None,
        frames: Tensor | None = None,
    ) -> Tensor:
        """Encode regions.

        Args:
            pixels: thumbnails, normalised. (N, 3, S, S)
            masks: region at thumbnail resolution, 1 inside. (R, S, S)
            levels: the vision encoder's maps of those thumbnails. Each (N, V_k, h_k, w_k)
            owners: which thumbnail each region lies in; None: one thumbnail a region, N = R. (R,) int64
            frames: where each region's image lies on its thumbnail: left, top, width, height as shares; None:
                it fills the thumbnail. (R, 4)

        Returns:
            One embedding per region. (R, C)

        Raises:
            RegionError: an empty mask.
        """
        empty = (masks.flatten(1).sum(1) == 0).nonzero().flatten().tolist()
        if empty:
            raise RegionError(
                "a region mask is empty", value=f"region {empty[0]}", remedy="Mark at least one pixel."
            )
        owners = torch.arange(len(masks), device=pixels.device) if owners is None else owners
        masks = masks.to(pixels.dtype)
        grid = (masks.shape[1] // self.cell, masks.shape[2] // self.cell)
        weights = mask_weights(masks, grid)  # (R, g, g)
        pooled = self._embed_masks(pixels, masks, owners, weights)  # (R, V)
        levels_seen = []
        for lateral, level in zip(self.laterals, levels, strict=True):
            feature = lateral(level)  # (N, V, h, w)
            if tuple(feature.shape[-2:]) != grid:
                feature = F.interpolate(feature, grid, mode="bilinear", align_corners=False)
            pooled = pooled + _pool_shared(feature, weights, owners)
            levels_seen.append(pooled)
        embedded: Tensor = self.up_dim(torch.stack(levels_seen)).mean(0)
        return embedded if self.place is None else embedded + self.place(_waves(mask_boxes(masks, frames)))

    def _embed_masks(self, pixels: Tensor, masks: Tensor, owners: Tensor, weights: Tensor) -> Tensor:
        """The average of the mask embedding under each mask. (R, V)

        Its convolutions do not overlap, so that each cell depends on its own pixels alone: only cells that
        count are computed.
        """
        region, row, column = weights.nonzero(as_tuple=True)  # each (M,)
        seen = _cells(pixels, self.cell)[owners[region], row, column]  # (M, 3, c, c)
        marked = _cells(masks[:, None], self.cell)[region, row, column]  # (M, 1, c, c)
        embedded = self.mask_embedding(torch.cat([seen, marked], dim=1)).flatten(1)  # (M, V)
        parts = embedded * weights[region, row, column, None]
        return parts.new_zeros(len(masks), parts.shape[1]).index_add(0, region, parts)


def _cells(maps: Tensor, size: int) -> Tensor:
    """Maps cut into square cells. (N, C, H, W) -> (N, H / size, W / size, C, size, size)"""
    rows, columns = maps.shape[2] // size, maps.shape[3] // size
    whole = maps[:, :, : rows * size, : columns * size]
    return whole.unflatten(3, (columns, size)).unflatten(2, (rows, size)).permute(0, 2, 4, 1, 3, 5)


def mask_boxes(masks: Tensor, frames: Tensor | None = None) -> Tensor:
    """Tight boxes of masks, none of them empty: (centre x, centre y, width, height) as shares of the sides.

    Args:
        masks: 1 inside. (R, H, W)
        frames: left, top, width, height of what the shares are of, themselves shares; None: all. (R, 4)

    Returns:
        (R, 4)
    """
    spans = []
    for axis in (1, 2):
        along = (masks > 0).any(axis).to(masks.dtype)  # columns first, then rows
        size = along.shape[1]
        start = along.argmax(1)
        end = size - along.flip(1).argmax(1)
        spans.append(((start + end) / 2 / size, (end - start) / size))
    (x, width), (y, height) = spans
    boxes = torch.stack([x, y, width, height], dim=1).to(masks.dtype)
    if frames is None:
        return boxes
    start, size = frames.to(boxes).split(2, dim=1)
    return torch.cat([(boxes[:, :2] - start) / size, boxes[:, 2:] / size], dim=1)


def _waves(values: Tensor) -> Tensor:
    """Sines and cosines of growing frequency. (R, n) in 0..1 -> (R, n * 2 * bands)"""
    angles = values[..., None] * (2.0 ** torch.arange(_BANDS, device=values.device)) * torch.pi
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2).to(values.dtype)


def average_under_mask(maps: Tensor, masks: Tensor) -> Tensor:
    """Mean of bilinear samples of a coarse map at all mask pixels.

    Args:
        maps: feature maps. (R, V, h, w)
        masks: 1 inside, at a finer resolution. (R, H, W)

    Returns:
        (R, V)
    """
    return _pool(maps, mask_weights(masks, (maps.shape[2], maps.shape[3])))


def mask_weights(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """How much each cell of a coarse map counts in the mean of samples at all mask pixels.

    Bilinear sampling is separable, so the sum over pixels is a weighting of the map's cells: W = Ay^T M Ax.
    Sums are float32: float16 counts no more than 65,504 pixels, bfloat16 no more than 256 exactly.

    Args:
        masks: 1 inside, at a finer resolution. (R, H, W)
        grid: height and width of the map.

    Returns:
        In the format of the masks. (R, h, w)
    """
    inside = masks.float()
    down = _sampling_matrix(inside.shape[1], grid[0], inside)  # (H, h)
    across = _sampling_matrix(inside.shape[2], grid[1], inside)  # (W, w)
    weights = (down.T @ (inside @ across)) / inside.sum((1, 2))[:, None, None]
    return weights.to(masks.dtype)


def _pool(maps: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum over the cells of each map. (R, V, h, w), (R, h, w) -> (R, V)"""
    return (maps.flatten(2) @ weights.flatten(1)[..., None])[..., 0]


def _pool_shared(maps: Tensor, weights: Tensor, owners: Tensor) -> Tensor:
    """As :func:`_pool`, with maps that several weightings share. (N, V, h, w), (R, h, w), (R,) -> (R, V)"""
    groups = [(owners == number).nonzero()[:, 0] for number in range(len(maps))]
    pooled = [weights[own].flatten(1) @ one.T for one, own in zip(maps.flatten(2), groups, strict=True)]
    return torch.cat(pooled)[torch.cat(groups).argsort()]


def _sampling_matrix(pixels: int, cells: int, like: Tensor) -> Tensor:
    """Bilinear weight of every cell for every pixel along one axis. (pixels, cells)

    A pixel is read at index / pixels of the axis (not at its centre), as in the released model; outside the
    outermost cell centres the missing neighbour counts as zero.
    """
    position = torch.arange(pixels, device=like.device, dtype=torch.float32) / pixels * cells - 0.5
    distance = (position[:, None] - torch.arange(cells, device=like.device)).abs()
    return (1 - distance).clamp_min(0).to(like.dtype)
