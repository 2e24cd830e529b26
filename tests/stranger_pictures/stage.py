"""Pictures in eight quite different styles: a style decides ground, paint and finish.

The canvas has a margin (PAD), so that figures may reach over the border.
"""

from __future__ import annotations

import colorsys
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tests.stranger_pictures.figures import (
    BLACK,
    COLOURS,
    FINE,
    INNER,
    PAD,
    SHAPES,
    SIDES,
    SIZES,
    STYLES,
    Figure,
    Grid,
    Hand,
    Mask,
    path,
    soft,
)


@dataclass(frozen=True)
class StrangerObject:
    """One drawn thing and the truth about it (facial points of a faceless person count as hidden)."""

    kind: str
    colour: str | None
    size: str | None
    mask: Mask
    keypoints: dict[str, tuple[float, float, int]] | None


@dataclass(frozen=True)
class StrangerScene:
    """A picture with its objects, the lowest first."""

    image: Image.Image
    objects: tuple[StrangerObject, ...]
    style: str


class Stage(Hand):
    """A canvas on which figures are placed and painted one after the other."""

    def __init__(self, seed: int, width: int, height: int) -> None:
        """An empty picture in a random style, the same for the same seed; `zoom`: its pixels' size."""
        super().__init__(np.random.default_rng(seed))
        self.style = self.pick(*STYLES)
        self.zoom = 3 if self.style == "pixel" else 1
        self.size = np.array((-(-width // self.zoom), -(-height // self.zoom)))
        y, x = np.mgrid[: self.size[1] + 2 * PAD, : self.size[0] + 2 * PAD]
        self.canvas = np.clip(self.photo(x, y) if self.style == "photo" else self.ground(x, y), 0, 1)
        self.edge = {"worksheet": 2.2, "pixel": self.pick(0, 1), "map": self.pick(0, 1.3)}.get(self.style, 0)
        self.masks, self.areas = list[Mask](), list[int]()

    def noise(self, w: int, h: int, cell: float, cell_y: float = 0) -> Grid:
        """A smooth random plane, 0 to 1."""
        plane = self.rng.random((int(h / (cell_y or cell)) + 3, int(w / cell) + 3)).astype(np.float32)
        return np.asarray(
            Image.fromarray(plane).resize((w, h), Image.Resampling.BICUBIC), dtype=np.float64
        ).clip(0, 1)

    def cells(self, x: Grid, y: Grid, count: int) -> tuple[NDArray[np.int64], Grid]:
        """Which of random seeds is nearest, and how far each pixel lies from its cell's border."""
        u, v = self.rng.random((2, count, 1, 1))
        far = np.hypot(x - u * x.shape[1], y - v * x.shape[0])
        return far.argmin(axis=0), np.diff(np.partition(far, 1, axis=0)[:2], axis=0)[0]

    def photo(self, x: Grid, y: Grid) -> Grid:
        """Wood planks, stones, grass or cloth."""
        (h, w), kind = x.shape, self.pick("wood", "stones", "grass", "cloth")
        if kind == "wood":
            tall, base = (
                self.pick(24, 31, 40),
                self.pick((0.72, 0.55, 0.38), (0.5, 0.36, 0.25), (0.8, 0.72, 0.6)),
            )
            tone = (
                0.8
                + 0.25 * self.rng.random(h // tall + 1)[y // tall]
                + 0.3 * (self.noise(w, h, 60, 2.2) - 0.5)
            )
            tone[y % tall < 1] *= 0.45
        elif kind == "stones":
            (index, gap), base = self.cells(x, y, 90), (0.62, 0.6, 0.57)
            tone = (0.75 + 0.35 * self.rng.random(90)[index]) * np.clip(0.45 + gap / 7, 0, 1)
        elif kind == "grass":
            tone, base = 0.5 + 0.5 * self.noise(w, h, 1.8, 6) + 0.4 * self.noise(w, h, 25), (0.42, 0.56, 0.24)
        else:
            tone = 0.92 + 0.05 * np.sin(x * 1.9) * np.sin(y * 1.9) + 0.25 * (self.noise(w, h, 70) - 0.5)
            base = self.pick((0.3, 0.4, 0.55), (0.85, 0.8, 0.7), (0.6, 0.6, 0.62), (0.75, 0.85, 0.85))
        return np.asarray(
            tone[:, :, None] * path(*base) + self.rng.normal(0, 0.03, (h, w, 1)), dtype=np.float64
        )

    def ground(self, x: Grid, y: Grid) -> Grid:
        """The empty picture of the other styles."""
        (h, w), flip, style = x.shape, self.pick(True, False), self.style
        pastel = path(*colorsys.hls_to_rgb(*self.rng.uniform((0, 0.82, 0.3), (1, 0.95, 0.8))))
        plain = np.ones((h, w, 3)) * self.pick(pastel, pastel, 1)
        if style == "worksheet":
            plain, gap = np.full((h, w, 3), 0.985), self.pick(14, 17, 20)
            plain[flip & ((y % gap == 0) | ((x % gap == 0) & (gap > 18)))] = (0.68, 0.8, 0.93)
        elif style == "glossy":
            t = (y / h if flip else np.clip(np.hypot(x / w - 0.5, y / h - 0.5) * 1.5, 0, 1))[:, :, None]
            plain = pastel * (1 - t) + path(*colorsys.hls_to_rgb(self.rng.random(), 0.62, 0.4)) * t
        elif style == "crayon":
            paper = path(*self.pick((1, 1, 0.99), (0.98, 0.95, 0.87), (0.78, 0.66, 0.5), (0.8, 0.89, 0.95)))
            plain = paper + 0.05 * (self.noise(w, h, 1.5) - 0.6)[:, :, None]
        elif style == "pixel":
            speck = np.where(self.rng.random((h, w, 1)) < 0.08, 0.88, 1)
            soil = speck * self.pick((0.55, 0.8, 0.4), (0.93, 0.84, 0.6), (0.6, 0.6, 0.65))
            checks = pastel * np.where((x // 6 + y // 6) % 2, 0.93, 1)[:, :, None]
            plain = (
                np.where((y < h * self.rng.uniform(0.5, 0.7))[:, :, None], pastel, soil) if flip else checks
            )
        elif style == "night":
            plain = (0.03, 0.04, 0.1) + path(0.05, 0.06, 0.12) * (y / h)[:, :, None]
            for _ in range(self.pick(8, 16, 30)):
                far = np.hypot(x - self.rng.uniform(0, w), y - self.rng.uniform(0, h)) / self.pick(
                    1.2, 2, 7, 14
                )
                light = self.rng.uniform(0.06, 0.2) * np.clip(3 - 2.5 * far, 0, 1)[:, :, None]
                plain = plain + light * self.pick((1, 0.85, 0.5), (0.6, 0.75, 1), (1, 0.6, 0.45))
        elif style == "map":
            (index, gap), line = self.cells(x, y, 12), self.pick(0.99, 0.6)
            tones = path(
                (0.93, 0.9, 0.82), (0.8, 0.88, 0.74), (0.7, 0.82, 0.88), (0.87, 0.86, 0.85), (0.9, 0.84, 0.76)
            )
            plain = np.where(gap[:, :, None] < 1.3, line, tones[self.rng.integers(0, 5, 12)][index])
        return np.asarray(plain, dtype=np.float64)

    def render(self, figure: Figure, scale: float, shift: Grid, size: Grid, edge: float) -> Grid:
        """Mean colours and coverage (R, G, B, A) of the figure in a window of the canvas."""
        w, h = (int(n) * FINE for n in size)
        image = Image.new("RGBA", (w, h))
        draw = ImageDraw.Draw(image)
        for colour, pieces, edged in figure[0]:
            ink = BLACK if self.style in ("worksheet", "pixel") else tuple(0.55 * c for c in colour)
            for extra, paint in ((edge, ink), (0, colour))[not (edge and edged) :]:
                fill = tuple(round(255 * c) for c in (*paint, 1))
                for points, width in pieces:
                    fine, half = (points * scale + shift) * FINE, (width * scale / 2 + extra) * FINE
                    if not width:
                        draw.polygon([tuple(p) for p in fine], fill=fill)
                    if half:
                        draw.line(
                            [tuple(p) for p in (*fine, *fine[: not width])], fill=fill, width=round(2 * half)
                        )
                        for u, v in fine:
                            draw.ellipse((u - half, v - half, u + half, v + half), fill=fill)
        fine = np.asarray(image, dtype=np.float64) / 255
        if self.style == "crayon":  # a shaky hand
            y, x = np.mgrid[:h, :w]
            dy, dx = (
                ((self.noise(w, h, max(36, w / 6)) - 0.5) * min(12, 0.04 * min(w, h))).astype(int)
                for _ in SIDES
            )
            fine = fine[np.clip(y + dy, 0, h - 1), np.clip(x + dx, 0, w - 1)]
        return np.asarray(
            fine.reshape(h // FINE, FINE, w // FINE, FINE, 4).mean(axis=(1, 3)), dtype=np.float64
        )

    def place(self, figure: Figure, length: float, tall: bool) -> dict[str, Grid] | None:
        """Tries one place; the joints there, or None where it would hide too much or be hard to see."""
        rims = [
            (p.min(axis=0) - w / 2, p.max(axis=0) + w / 2) for _, pieces, _ in figure[0] for p, w in pieces
        ]
        low, high = np.min([a for a, _ in rims], axis=0), np.max([b for _, b in rims], axis=0)
        span, edge = high - low, min(self.edge, length / 10)
        scale = min((length - 2 * edge) / (span[1] if tall else span.max()), 0.8 * self.size[0] / span[0])
        half = span * scale / 2 + edge
        reach = np.maximum(
            self.size / 2 - half * self.pick(*[1.03] * 6, 0.9), 0
        )  # one in seven may leave the picture
        centre = self.size / 2 + PAD + self.rng.uniform(-1, 1, 2) * reach
        start = np.maximum(centre - half - 10, 0).astype(int)
        end = np.minimum(centre + half + 11, self.size + 2 * PAD).astype(int)
        shift = centre - scale * (low + high) / 2
        mean = self.render(figure, scale, shift - start, end - start, edge)
        alpha, colour = mean[:, :, 3], mean[:, :, :3] / np.maximum(mean[:, :, 3:], 0.01)
        spot, mask = (slice(start[1], end[1]), slice(start[0], end[0])), np.zeros(self.canvas.shape[:2], bool)
        mask[spot] = alpha >= 0.5
        masks, areas = [*(old & ~mask for old in self.masks), mask], [*self.areas, int(mask.sum())]
        differ = (soft(self.canvas[spot], 2) - colour)[mask[spot]]
        luma = differ @ (0.3, 0.59, 0.11)
        contrast = np.hypot(luma, 0.6 * np.linalg.norm(differ - luma[:, None], axis=1))
        touches = any(old[spot][soft(alpha, 3) > 0.1].any() for old in self.masks)
        if (
            (touches and (self.style in ("worksheet", "pixel") or self.rng.random() < 0.9))
            or (any(seen[INNER].sum() < 0.78 * area for seen, area in zip(masks, areas, strict=True)))
            or (np.quantile(contrast, 0.3 if tall else 0.05) < 0.28 and self.style != "worksheet")
        ):
            return None
        self.masks, self.areas = masks, areas
        self.lay(spot, (alpha >= 0.5).astype(float) if self.style == "pixel" else alpha, colour)
        return {name: point * scale + shift for name, point in figure[1].items()}

    def lay(self, spot: tuple[slice, slice], alpha: Grid, colour: Grid) -> None:
        """Lays colour on the canvas, as the style does it."""
        rows, (h, w) = np.linspace(1, 0, len(alpha))[:, None], alpha.shape
        shadow = (
            0.45 * (self.style in ("glossy", "photo")) * np.roll(soft(alpha, 2), (2, 2), (0, 1))[:, :, None]
        )
        view = self.canvas[spot] * (1 - shadow)
        if self.style == "glossy":
            shine = soft((soft(alpha, 2) > 0.85) * (rows > 0.56), 1.5) * rows * 0.32
            colour = colour * (0.86 + 0.14 * rows)[:, :, None] + (1 - colour) * shine[:, :, None]
        elif self.style == "night":
            view = view + 0.3 * colour.max(axis=(0, 1)) * soft(alpha, 5)[:, :, None]
        elif self.style == "crayon":
            slant = np.add.outer(0.8 * np.arange(h), 1.3 * np.arange(w))
            hatch = np.sin(slant + 5 * self.noise(w, h, 14)) + 2.4 * self.noise(w, h, 1.2)
            alpha = alpha * np.clip(1.1 - 0.22 * hatch, 0.55, 0.97)
        self.canvas[spot] = np.clip(view + (colour - view) * alpha[:, :, None], 0, 1)

    def finish(self) -> Image.Image:
        """The picture as it leaves the style's camera or program; every second one has been a JPEG."""
        picture = self.canvas[INNER].repeat(self.zoom, 0).repeat(self.zoom, 1)
        if self.style == "photo":
            light = 0.88 + 0.25 * self.noise(picture.shape[1], picture.shape[0], 240)[:, :, None]
            grain = self.rng.normal(0, self.rng.uniform(0.01, 0.03), picture.shape)
            picture = soft(picture * light, self.rng.uniform(0.4, 0.9)) + grain
        image, buffer = Image.fromarray(np.clip(picture * 255, 0, 255).astype(np.uint8)), io.BytesIO()
        if self.pick(True, False):
            image.save(buffer, "JPEG", quality=int(self.rng.integers(60, 96)))
        return Image.open(buffer).convert("RGB") if buffer.getvalue() else image

    def truth(
        self, figure: Figure, joints: dict[str, Grid], over: Mask
    ) -> dict[str, tuple[float, float, int]]:
        """A person's keypoints with their visibility, given what lies over the person."""
        (h, w), points = over.shape, {name: (point - PAD) * self.zoom for name, point in joints.items()}
        return {
            name: (
                float(x),
                float(y),
                0
                if not (0 <= x < w and 0 <= y < h)
                else 1
                if name in figure[2] or over[int(y), int(x)]
                else 2,
            )
            for name, (x, y) in points.items()
        }


def stranger_scene(seed: int, *, width: int = 240, height: int = 200) -> StrangerScene:
    """A scene of one to six objects, the same for the same seed."""
    stage = Stage(seed, width, height)
    found: list[tuple[str, str | None, str | None, Figure, dict[str, Grid]]] = []
    living = stage.pick(*[()] * 8, ("person",), ("person",), ("dog",), ("dog",), ("dog", "person"))
    for kind in (
        *living,
        *stage.rng.choice(SHAPES, int(stage.rng.integers(not living, 7 - len(living)))).tolist(),
    ):
        for _ in range(40):
            colour, size, tall = None, None, kind in living
            if tall:
                figure = stage.person() if kind == "person" else stage.dog()
                length = stage.rng.uniform(0.32 if stage.zoom == 1 else 0.45, 0.6) * stage.size[1]
            else:
                colour, size = stage.pick(*COLOURS), stage.pick(*SIZES)
                if stage.zoom > 1 and kind not in ("circle", "square"):  # coarse pixels need room
                    size = "large" if kind in ("pentagon", "crescent", "star", "heart") else "medium"
                figure = stage.shape(
                    kind, stage.paint(colour), 0.08 * (stage.style == "glossy"), stage.zoom > 1
                )
                length = stage.rng.uniform(*SIZES[size]) * min(stage.size)
            joints = stage.place(figure, float(length), tall)
            if joints is not None:
                found.append((kind, colour, size, figure, joints))
                break
    masks = [m[INNER].repeat(stage.zoom, 0).repeat(stage.zoom, 1)[:height, :width] for m in stage.masks]
    overs = [np.logical_or.reduce([mask & False, *masks[k + 1 :]]) for k, mask in enumerate(masks)]
    objects = [
        StrangerObject(kind, colour, size, mask, stage.truth(figure, joints, over) if joints else None)
        for (kind, colour, size, figure, joints), mask, over in zip(found, masks, overs, strict=True)
    ]
    return StrangerScene(stage.finish().crop((0, 0, width, height)), tuple(objects), stage.style)
