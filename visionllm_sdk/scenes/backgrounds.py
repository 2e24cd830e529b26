"""Drawing what lies behind the objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from visionllm_sdk.scenes.spec import Background

Pixels = NDArray[np.float32]
"""(H, W, 3), 0..255."""


_Random = Callable[..., Any]
"""numpy's stream of doubles: the only one of its draws that stays the same with every version."""
_CLUTTER_SIDE: Final = 288


def draw_background(background: Background, width: int, height: int) -> Pixels:
    """The background alone, (H, W, 3) float32 in 0..255."""
    return _PAINTERS[background.kind](background, width, height)


def _tones(background: Background) -> Pixels:
    return np.asarray(background.tones, dtype=np.float32)  # (T, 3)


def _mixed(background: Background, share: Pixels) -> Pixels:
    """The first tone blended towards the last by `share` (H, W)."""
    tones = _tones(background)
    mixed: Pixels = tones[0] + share[..., None] * (tones[-1] - tones[0])
    return mixed


def _axes(background: Background, width: int, height: int) -> tuple[Pixels, Pixels]:
    """Pixel centres along and across the background's direction, from the middle of the canvas, in pixels."""
    angle = np.float32(np.radians(background.angle))
    x = np.arange(width, dtype=np.float32) + np.float32(0.5 - width / 2)
    y = (np.arange(height, dtype=np.float32) + np.float32(0.5 - height / 2))[:, None]
    cosine, sine = np.cos(angle), np.sin(angle)
    return x * cosine + y * sine, y * cosine - x * sine


def _wave(position: Pixels, period: float) -> Pixels:
    """0 and 1 by turns over `period` pixels, with edges one pixel soft."""
    phase: Pixels = np.abs(position / np.float32(period) % 1 - np.float32(0.5)) - np.float32(0.25)
    return (phase * np.float32(period) + np.float32(0.5)).clip(0, 1)


def _plain(background: Background, width: int, height: int) -> Pixels:
    return np.broadcast_to(_tones(background)[0], (height, width, 3)).copy()


def _gradient(background: Background, width: int, height: int) -> Pixels:
    along, _ = _axes(background, width, height)
    low, high = float(along.min()), float(along.max())
    return _mixed(background, (along - np.float32(low)) / np.float32(max(high - low, 1.0)))


def _noise(background: Background, width: int, height: int) -> Pixels:
    """Grains of `period` pixels between the two tones."""
    grain = max(round(background.period), 1)
    rows, columns = -(-height // grain), -(-width // grain)
    random = np.random.Generator(np.random.PCG64(background.seed)).random((rows, columns), dtype=np.float32)
    share = random if grain == 1 else random.repeat(grain, axis=0).repeat(grain, axis=1)
    return _mixed(background, share[:height, :width])


def _stripes(background: Background, width: int, height: int) -> Pixels:
    along, _ = _axes(background, width, height)
    return _mixed(background, _wave(along, background.period))


def _checks(background: Background, width: int, height: int) -> Pixels:
    along, across = _axes(background, width, height)
    first, second = _wave(along, background.period), _wave(across, background.period)
    return _mixed(background, first + second - 2 * first * second)


def _blobs(background: Background, width: int, height: int) -> Pixels:
    """Soft patches of all tones: random weights on a coarse grid, smoothly enlarged."""
    rows, columns = (int(side / background.period) + 2 for side in (height, width))
    random = np.random.Generator(np.random.PCG64(background.seed)).random((rows, columns, 4))
    tones = _tones(background)
    weight = random[..., : len(tones)] ** 4 + 1e-3
    coarse = (weight / weight.sum(axis=-1, keepdims=True)) @ tones.astype(np.float64)
    small = Image.fromarray(np.rint(coarse).astype(np.uint8))
    smooth = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
    # The cubic overshoots a little; between the tones is where contrast was promised.
    return smooth.clip(tones.min(axis=0), tones.max(axis=0))


def _grid(background: Background, width: int, height: int) -> Pixels:
    """Thin lines of the last tone on the first, as on drafting paper."""
    x, y = (np.arange(side, dtype=np.float32) % np.float32(background.period) < 1 for side in (width, height))
    return _mixed(background, (x[None, :] | y[:, None]).astype(np.float32))


def _clutter(background: Background, width: int, height: int) -> Pixels:
    """Torn leaves upon leaves of all sizes, shaded and grainy: to a net much like a photograph.

    Dead leaves with a power law of sizes share the statistics of natural images (Lee, Mumford and Huang,
    2001; as training pictures: Baradad et al., 2021). No leaf has an outline that a shape of scenes has.
    """
    dice = np.random.Generator(np.random.PCG64(background.seed)).random
    scale = min(1.0, _CLUTTER_SIDE / max(width, height))
    w, h = max(round(width * scale), 8), max(round(height * scale), 8)
    canvas = Image.new("RGB", (w, h), background.tones[0])
    pen = ImageDraw.Draw(canvas)
    largest, depth, tones = background.period * scale, 0.2 + 0.8 * dice(), _tones(background)
    for extent in -np.sort(-np.maximum(largest * dice(80 + int(220 * dice())) ** 2, 1.5)):
        first, second = (tones[int(len(tones) * dice())] for _ in range(2))
        tone = (first + dice() * (second - first)) * (1 + depth * (dice() - 0.55))
        pen.polygon(_leaf(dice, w, h, float(extent)), fill=tuple(int(c) for c in tone.clip(0, 255)))
    if dice() < 0.5:
        canvas = canvas.filter(ImageFilter.GaussianBlur(2 * dice()))
    light = 1 + dice() * (_smooth(dice((3, 4)), w, h) - 0.5)
    grain = 24 * dice() * (_smooth(dice((h // 4 + 1, w // 4 + 1)), w, h) + dice((h, w)) - 1)
    painted = np.asarray(canvas, dtype=np.float32) * light[..., None] + grain[..., None]
    whole = Image.fromarray(painted.clip(0, 255).astype(np.uint8))
    return np.asarray(whole.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)


def _leaf(dice: _Random, width: int, height: int, extent: float) -> list[tuple[float, float]]:
    """Corners of a torn, stretched patch somewhere on the canvas; one in four is a mere streak."""
    corners = 4 + int(8 * dice())
    angles = 2 * np.pi * (np.arange(corners) + 0.8 * dice(corners)) / corners
    radii = extent * (0.35 + 0.65 * dice(corners))
    stretch = 0.08 + 0.1 * dice() if dice() < 0.25 else 0.3 + 0.5 * dice()
    turn = 2 * np.pi * dice()
    x, y = radii * np.cos(angles), radii * np.sin(angles) * stretch
    across, down = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)
    return list(zip(across + width * dice(), down + height * dice(), strict=True))


def _smooth(coarse: NDArray[np.float64], width: int, height: int) -> Pixels:
    """A coarse grid of 0..1, smoothly enlarged to (height, width)."""
    grid = Image.fromarray(coarse.astype(np.float32))
    return np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)


_PAINTERS: Final[dict[str, Callable[[Background, int, int], Pixels]]] = {
    "plain": _plain, "gradient": _gradient, "noise": _noise, "stripes": _stripes, "checks": _checks,
    "blobs": _blobs, "grid": _grid, "clutter": _clutter,
}  # fmt: skip
