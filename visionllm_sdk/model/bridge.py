"""The bridge from vision width to language width, and the pixel shuffle before it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from visionllm_sdk.errors import ConfigError


def linear(vision_width: int, width: int) -> nn.Sequential:
    """One linear layer."""
    return nn.Sequential(nn.Linear(vision_width, width))


def mlp2x_gelu(vision_width: int, width: int) -> nn.Sequential:
    """Linear, GELU, Linear (7B)."""
    return nn.Sequential(nn.Linear(vision_width, width), nn.GELU(), nn.Linear(width, width))


def internvl_mlp(vision_width: int, width: int) -> nn.Sequential:
    """LayerNorm, Linear, GELU, Linear (26B)."""
    return nn.Sequential(nn.LayerNorm(vision_width), *mlp2x_gelu(vision_width, width))


_BUILDERS: dict[str, Callable[[int, int], nn.Sequential]] = {
    "linear": linear,
    "mlp2x_gelu": mlp2x_gelu,
    "internvl_mlp": internvl_mlp,
}


def build_bridge(kind: str, vision_width: int, width: int) -> nn.Sequential:
    """The bridge of that kind, with random weights. (..., V) -> (..., C)

    Raises:
        ConfigError: unknown kind.
    """
    if kind not in _BUILDERS:
        raise ConfigError(
            "unknown vl_bridge_type", value=kind, limit=", ".join(_BUILDERS), remedy="Correct config.json."
        )
    return _BUILDERS[kind](vision_width, width)


def pixel_shuffle(tokens: Tensor, grid: int) -> Tensor:
    """Merge each 2x2 block of patches into one token of four times the width.

    Args:
        tokens: patches in row-major order. (T, grid * grid, V)
        grid: patches per side, even.

    Returns:
        Tokens in row-major order; the four patches of a block follow one another row by row.
        (T, grid * grid / 4, 4 V)

    Raises:
        ConfigError: an odd grid.
    """
    if grid % 2:
        raise ConfigError(
            "pixel shuffle needs an even number of patches per side",
            value=grid,
            remedy="Correct image_size or patch_size in config.json.",
        )
    half = grid // 2
    blocks = tokens.unflatten(1, (half, 2, half, 2))  # (T, y, dy, x, dx, V)
    return blocks.permute(0, 1, 3, 2, 4, 5).flatten(3).flatten(1, 2)
