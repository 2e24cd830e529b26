"""Scenes drawn by other code: other formulas, other palettes, other backgrounds, JPEG.

What a model has learnt on `visionllm_sdk.scenes` must hold here too. Nothing but the words of a scene is
shared with the generator: shapes are inequalities evaluated on a 4x4 grid inside every pixel, colours are the
named ones of web pages and drawing programs, backgrounds imitate photographs of walls, cloth, wood and paper.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from visionllm_sdk.scenes.facts import SHAPES, SIZE_RANGES, ObjectFacts, SceneFacts

Array = NDArray[np.float64]
Inside = Callable[[Array, Array], NDArray[np.bool_]]
RGB = tuple[int, int, int]

COLOURS: dict[str, tuple[RGB, ...]] = {
    "red": ((255, 0, 0), (228, 26, 28), (220, 20, 60), (211, 47, 47)),
    "green": ((0, 128, 0), (34, 139, 34), (44, 160, 44), (76, 175, 80), (50, 205, 50)),
    "blue": ((0, 0, 255), (65, 105, 225), (31, 119, 180), (30, 144, 255), (25, 118, 210)),
    "yellow": ((255, 255, 0), (255, 235, 59), (255, 221, 0), (250, 220, 40)),
    "purple": ((128, 0, 128), (148, 0, 211), (106, 27, 154), (120, 60, 170)),
    "orange": ((255, 165, 0), (255, 127, 14), (255, 140, 0), (251, 140, 0)),
    "pink": ((255, 192, 203), (255, 105, 180), (244, 143, 177), (255, 150, 190)),
    "brown": ((139, 69, 19), (121, 85, 72), (101, 67, 33), (93, 64, 55)),
    "black": ((0, 0, 0), (17, 17, 17), (33, 33, 33)),
    "white": ((255, 255, 255), (250, 250, 250), (245, 245, 245)),
}
GRID = 4
"""Sample points along each side of a pixel."""


@dataclass(frozen=True)
class ForeignScene:
    """A picture, what is on it, and (N, H, W) masks of the visible pixels in the order of `facts.objects`."""

    image: Image.Image
    facts: SceneFacts
    masks: NDArray[np.bool_]


# ---- shapes: inequalities in x (right) and y (down), the longer side of each from -1 to 1 ----


def _star(x: Array, y: Array) -> NDArray[np.bool_]:
    """Five points: one tenth of the circle is a half plane between an outer and an inner corner."""
    inner, outer = 0.4, 1 / math.sin(math.radians(72))
    x, y = x / outer, y / outer - (1 - math.cos(math.radians(36))) / 2
    angle = np.abs((np.arctan2(x, -y) + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)
    radius = np.hypot(x, y)
    u, v = radius * np.cos(angle), radius * np.sin(angle)
    corner_u, corner_v = inner * math.cos(math.pi / 5), inner * math.sin(math.pi / 5)
    return (u - 1) * corner_v - (corner_u - 1) * v <= 0


def _pentagon(x: Array, y: Array) -> NDArray[np.bool_]:
    outer = 1 / math.sin(math.radians(72))
    y = y - (outer - outer * math.cos(math.radians(36))) / 2
    sides = [math.radians(36 + 72 * k) for k in range(5)]
    reach = np.max([x * math.sin(side) - y * math.cos(side) for side in sides], axis=0)
    return reach <= outer * math.cos(math.radians(36))


def _heart(x: Array, y: Array) -> NDArray[np.bool_]:
    x, y = x * 1.139, -y * 1.139 + 0.11
    return (x * x + y * y - 1) ** 3 - x * x * y**3 <= 0


def _cross(x: Array, y: Array) -> NDArray[np.bool_]:
    return (np.minimum(np.abs(x), np.abs(y)) <= 0.32) & (np.maximum(np.abs(x), np.abs(y)) <= 1)


def _crescent(x: Array, y: Array) -> NDArray[np.bool_]:
    x = x - 0.19
    return (x * x + y * y <= 1) & ((x - 0.48) ** 2 + y * y >= 0.8**2)


INSIDE: dict[str, Inside] = {
    "circle": lambda x, y: x * x + y * y <= 1,
    "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) <= 1,
    "triangle": lambda x, y: (y <= 0.866) & (np.abs(x) <= (y + 0.866) / 1.732),
    "star": _star,
    "pentagon": _pentagon,
    "heart": _heart,
    "cross": _cross,
    "diamond": lambda x, y: np.abs(x) / 0.58 + np.abs(y) <= 1,
    "ring": lambda x, y: (x * x + y * y <= 1) & (x * x + y * y >= 0.55**2),
    "crescent": _crescent,
}


def coverage(
    inside: Inside, width: int, height: int, *, x: float, y: float, radius: float, turn: float
) -> Array:
    """Share of every pixel (H, W) that a shape covers, by counting sample points."""
    columns = (np.arange(width * GRID) + 0.5) / GRID - x
    rows = ((np.arange(height * GRID) + 0.5) / GRID - y)[:, None]
    cosine, sine = math.cos(turn), math.sin(turn)
    hit = inside((columns * cosine + rows * sine) / radius, (rows * cosine - columns * sine) / radius)
    return hit.reshape(height, GRID, width, GRID).mean(axis=(1, 3))


# ---- backgrounds ----


def _spectrum_noise(random: np.random.Generator, width: int, height: int, power: float) -> Array:
    """Noise in -1..1 whose strength falls with frequency as in photographs."""
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    strength = 1 / np.maximum(np.hypot(down, across), 1 / max(width, height)) ** power
    waves = np.fft.rfft2(random.standard_normal((height, width))) * strength
    field = np.fft.irfft2(waves, s=(height, width))
    field -= field.mean()
    return field / (np.abs(field).max() + 1e-9)


def _wall(random: np.random.Generator, width: int, height: int) -> Array:
    return _spectrum_noise(random, width, height, 1.0)


def _clouds(random: np.random.Generator, width: int, height: int) -> Array:
    return _spectrum_noise(random, width, height, 1.8)


def _cloth(random: np.random.Generator, width: int, height: int) -> Array:
    x, y = np.arange(width), np.arange(height)[:, None]
    weave = np.sin(x * random.uniform(0.8, 1.6)) + np.sin(y * random.uniform(0.8, 1.6))
    return 0.35 * weave + 0.3 * _spectrum_noise(random, width, height, 1.0)


def _wood(random: np.random.Generator, width: int, height: int) -> Array:
    warp = _spectrum_noise(random, width, height, 1.8) * 6
    return 0.6 * np.sin(np.arange(height)[:, None] * random.uniform(0.15, 0.5) + warp)


def _paper(random: np.random.Generator, width: int, height: int) -> Array:
    x, y = np.linspace(-1, 1, width), np.linspace(-1, 1, height)[:, None]
    return 0.2 * _spectrum_noise(random, width, height, 0.3) - 0.6 * (x * x + y * y)


GROUNDS = (_wall, _clouds, _cloth, _wood, _paper)


def _ground(random: np.random.Generator, width: int, height: int) -> Array:
    """(H, W, 3): a muted base colour, made lighter and darker by a texture."""
    base = random.uniform(0.05, 1) * 255 + random.uniform(-30, 30, 3)
    texture = GROUNDS[random.integers(len(GROUNDS))](random, width, height)
    tint = random.uniform(0.7, 1.3, 3) * random.uniform(8, 26)
    return np.clip(base + texture[..., None] * tint, 0, 255)


# ---- scenes ----


def foreign_scene(
    seed: int, *, width: int = 128, height: int = 128, objects: tuple[int, int] = (1, 6), jpeg: int = 70
) -> ForeignScene:
    """A scene of `objects` shapes at most (fewer where there is no room), saved and read back as JPEG."""
    random = np.random.default_rng([seed, 77])
    canvas = _ground(random, width, height)
    facts: list[ObjectFacts] = []
    masks: list[NDArray[np.bool_]] = []
    whole: list[int] = []
    for _ in range(int(random.integers(objects[0], objects[1] + 1))):
        for _ in range(30):
            if _add(random, canvas, facts, masks, whole):
                break
    boxed = [_with_box(fact, mask) for fact, mask in zip(facts, masks, strict=True)]
    return ForeignScene(
        image=_as_jpeg(canvas, jpeg),
        facts=SceneFacts(width=width, height=height, objects=tuple(boxed)),
        masks=np.array(masks, dtype=bool).reshape(-1, height, width),
    )


def _add(
    random: np.random.Generator,
    canvas: Array,
    facts: list[ObjectFacts],
    masks: list[NDArray[np.bool_]],
    whole: list[int],
) -> bool:
    """Draws one more shape, where it can be seen and hides little; False when this try failed."""
    height, width = canvas.shape[:2]
    kind = str(random.choice(SHAPES))
    size = str(random.choice(list(SIZE_RANGES), p=(0.35, 0.4, 0.25)))
    diameter = random.uniform(*SIZE_RANGES[size]) * min(width, height)
    colour = str(random.choice(list(COLOURS)))
    rgb = np.array(COLOURS[colour][random.integers(len(COLOURS[colour]))], dtype=float)
    turn = random.choice((0.0, random.normal(0, 0.2), random.uniform(0, 2 * math.pi)))
    margin = diameter * 0.72
    if 2 * margin >= min(width, height):
        return False
    x, y = random.uniform(margin, width - margin), random.uniform(margin, height - margin)
    share = coverage(INSIDE[kind], width, height, x=x, y=y, radius=diameter / 2, turn=turn)
    mask = share > 0.5
    around = coverage(INSIDE["circle"], width, height, x=x, y=y, radius=diameter * 0.8, turn=0) > 0
    if np.quantile(np.abs(canvas[around] - rgb).sum(axis=-1), 0.03) < 150:
        return False
    if any((other & ~mask).sum() < 0.7 * area for other, area in zip(masks, whole, strict=True)):
        return False
    light = _light(random, width, height, x, y, diameter)
    paint = np.clip(rgb + light[..., None], 0, 255)
    canvas += share[..., None] * (paint - canvas)
    for index, other in enumerate(masks):
        masks[index] = other & ~mask
    masks.append(mask)
    whole.append(int(mask.sum()))
    facts.append(ObjectFacts(kind=kind, colour=colour, size=size, box=(0, 0, 0, 0), diameter=float(diameter)))
    return True


def _light(
    random: np.random.Generator, width: int, height: int, x: float, y: float, diameter: float
) -> Array:
    """Uneven light on half of the shapes, in 8-bit steps."""
    if random.random() < 0.5:
        return np.zeros((height, width))
    slope = random.normal(0, 10, 2) / diameter
    return slope[0] * (np.arange(width) - x) + slope[1] * (np.arange(height)[:, None] - y)


def _with_box(fact: ObjectFacts, mask: NDArray[np.bool_]) -> ObjectFacts:
    rows, columns = np.nonzero(mask)
    box = (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
    return ObjectFacts(kind=fact.kind, colour=fact.colour, size=fact.size, box=box, diameter=fact.diameter)


def _as_jpeg(canvas: Array, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    Image.fromarray(np.rint(canvas).astype(np.uint8)).save(buffer, format="JPEG", quality=quality)
    with Image.open(buffer) as stored:
        return stored.convert("RGB")
