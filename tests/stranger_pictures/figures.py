"""Shapes, persons and dogs as lists of flat parts: polygons and thick lines."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Grid = NDArray[np.float64]  # points (N, 2), planes (H, W) or pictures (H, W, 3) with values 0 to 1
Mask = NDArray[np.bool_]
RGB = tuple[float, ...]
Part = tuple[
    RGB, list[tuple[Grid, float]], bool
]  # paint; lines with width (0: filled polygons); has it an edge?
Figure = tuple[
    list[Part], dict[str, Grid], tuple[str, ...]
]  # lowest part first; joints; which of them are hidden

STYLES: tuple[str, ...] = ("flat", "worksheet", "glossy", "crayon", "photo", "pixel", "night", "map")
SHAPES = ("circle", "square", "triangle", "star", "pentagon", "heart", "cross", "diamond", "ring", "crescent")
SIZES = {"small": (0.085, 0.155), "medium": (0.185, 0.275), "large": (0.305, 0.445)}
COLOURS = {  # hue in degrees, saturation, lightness: ranges within which everybody uses the name
    "red": ((354, 362), (0.8, 0.98), (0.4, 0.49)),
    "green": ((112, 138), (0.55, 0.85), (0.28, 0.41)),
    "blue": ((213, 232), (0.75, 0.98), (0.4, 0.52)),
    "yellow": ((51, 57), (0.92, 1), (0.48, 0.58)),
    "purple": ((272, 287), (0.5, 0.8), (0.36, 0.47)),
    "orange": ((25, 31), (0.95, 1), (0.48, 0.53)),
    "pink": ((328, 345), (0.8, 1), (0.71, 0.8)),
    "brown": ((20, 29), (0.5, 0.7), (0.22, 0.3)),
    "black": ((0, 360), (0, 0.1), (0.03, 0.1)),
    "white": ((0, 360), (0, 0.3), (0.95, 1)),
}
SIDES, PAD, FINE, BLACK = ("left", "right"), 28, 4, (0.05, 0.05, 0.06)  # FINE: sub-pixels per pixel and axis
INNER = (slice(PAD, -PAD), slice(PAD, -PAD))
SKIN = ((0.98, 0.82, 0.69), (0.91, 0.7, 0.53), (0.71, 0.48, 0.32), (0.45, 0.29, 0.2))
HAIR = ((0.1, 0.08, 0.07), (0.32, 0.2, 0.11), (0.62, 0.32, 0.12), (0.9, 0.75, 0.38), (0.6, 0.6, 0.6))
COAT = ((0.45, 0.28, 0.15), (0.8, 0.6, 0.36), (0.2, 0.19, 0.19), (0.94, 0.91, 0.86), (0.5, 0.5, 0.52))


def part(paint: RGB, *pieces: Grid | tuple[Grid, float], edge: bool = True, shade: float = 1.0) -> Part:
    """A part of filled polygons and (points, width) lines; `shade` below 1 darkens the paint."""
    return tuple(shade * c for c in paint), [p if isinstance(p, tuple) else (p, 0.0) for p in pieces], edge


def path(*points: float | tuple[float, ...] | Grid) -> Grid:
    """A polygon or line from its corners, or a point from its coordinates."""
    return np.array(points, dtype=float)


def ellipse(
    x: float, y: float, rx: float, ry: float, start: float = 0, end: float = 360, n: int = 48
) -> Grid:
    """Points of an ellipse's arc; degrees, clockwise on the screen, 0 to the right."""
    t = np.radians(np.linspace(start, end, n))
    return np.stack([x + rx * np.cos(t), y + ry * np.sin(t)], axis=1)


def soft(plane: NDArray[Any], radius: float) -> Grid:
    """A blurred plane or picture."""
    image = Image.fromarray(np.clip(plane * 255, 0, 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), dtype=float) / 255


@dataclass
class Hand:
    """Draws figures, each a little different."""

    rng: np.random.Generator

    def pick(self, *options: Any) -> Any:
        """One of the options."""
        return options[int(self.rng.integers(len(options)))]

    def paint(self, name: str) -> RGB:
        """A shade of the named colour."""
        hue, saturation, light = (self.rng.uniform(*span) for span in COLOURS[name])
        return colorsys.hls_to_rgb(hue / 360 % 1, light, saturation)

    def rim(self, kind: str) -> Grid:
        """A shape's upright outline around the origin."""
        a, tall, slim = self.rng.uniform((0.27, 0.75, 0.6), (0.38, 1, 0.78))
        if kind == "star":
            tips, inner = self.pick((5, self.rng.uniform(0.38, 0.5)), (5, 0.45), (5, 0.4), (6, 0.55))
            return ellipse(0, 0, 1, 1, -90, 270, 2 * tips + 1)[:-1] * path(*[(1,), (inner,)] * tips)
        if kind == "heart":
            t = np.linspace(0, 2 * np.pi, 80)
            y = (
                self.rng.uniform(4.2, 5.6) * np.cos(2 * t)
                + 2 * np.cos(3 * t)
                + np.cos(4 * t)
                - 13 * np.cos(t)
            )
            return np.stack([16 * np.sin(t) ** 3, y], axis=1)
        if kind == "cross":
            half = path((-a, -1), (a, -1), (a, -a), (1, -a), (1, a), (a, a))
            return np.concatenate([half, -half])
        if kind == "crescent":
            r, d = self.rng.uniform(0.78, 0.95), self.rng.uniform(0.42, 0.55)
            x = (1 - r * r + d * d) / (2 * d)
            a, b = (float(np.degrees(np.arctan2(np.sqrt(1 - x * x), u))) for u in (x, x - d))
            return np.concatenate([ellipse(0, 0, 1, 1, a, 360 - a), ellipse(d, 0, r, r, 360 - b, b)])
        if kind == "triangle":
            return path((self.pick(0, 0, 0, -0.9, 0.9), -tall), (1, tall), (-1, tall))
        corners, start = {"square": (4, -45), "diamond": (4, -90), "pentagon": (5, -90)}.get(kind, (64, 0))
        return ellipse(0, 0, slim if kind == "diamond" else 1, 1, start, start + 360, corners + 1)[:-1]

    def shape(self, kind: str, paint: RGB, round_off: float, upright: bool) -> Figure:
        """A coloured shape, mostly upright; squares and diamonds never turn into each other."""
        rim, most = (
            self.rim(kind),
            0 if upright else {"square": 22, "diamond": 22, "circle": 0}.get(kind, 180),
        )
        tilt = np.radians(self.pick(0, 0, 0, 0, 0, min(18, most), most, most) * self.rng.uniform(-1, 1))
        rim = rim @ path((np.cos(tilt), np.sin(tilt)), (-np.sin(tilt), np.cos(tilt)))
        loop, width = (
            np.concatenate([rim, rim[:1]]),
            self.pick(0, round_off) * float(np.ptp(rim)) * (len(rim) < 13),
        )
        pieces = [(loop, self.rng.uniform(0.35, 0.7))] if kind == "ring" else [rim, (loop, width)]
        return [part(paint, *pieces)], {}, ()

    def skeleton(self, head: float) -> tuple[dict[str, Grid], int]:
        """Joints of a body one unit tall with the given head, and where it faces: -1, 1 or 0 (to us)."""
        top, r, rest, pose = (
            head + 0.07,
            head / 2,
            0.92 - head,
            self.pick("stand", "walk", "arms up", "wave", "sit"),
        )
        turned, waver = self.pick(-1, 1) if pose in ("walk", "sit") else 0, self.pick(*SIDES)
        down, spread, shin = (
            self.pick((15, 8), (20, 15), (45, -40)),
            self.pick(4, 8, 16),
            self.pick(0, 5, -12),
        )
        joints = {"nose": path(turned * r * 0.55, r * 1.2)}
        for side, s in zip(SIDES, (1, -1), strict=True):  # facing us, the left side is to our right
            far = side != SIDES[turned > 0]  # who walks to our right shows us the right side
            upper = (148, 170) if pose == "arms up" or (pose == "wave" and side == waver) else down
            poses = {
                "walk": (25, 10, -25, -6) if far else (-18, -42, 25, 60),
                "sit": (88, shin, 22 - 10 * far, 70),
            }
            bends = poses.get(pose, (spread, spread * 0.7, *upper))  # thigh, shin, upper arm, forearm
            steps = [path((turned or s) * np.sin(a), np.cos(a)) * rest for a in np.radians(bends)]
            shoulder, hip = path((0.115, top), (0.0575, top - 0.02 + 0.38 * rest)) * (0 if turned else s, 1)
            knee, elbow = hip + 0.32 * steps[0], shoulder + 0.23 * steps[2]
            eye, ear = r * path((0.36 * s + 0.38 * turned, 0.9), (-0.55 * turned or 0.95 * s, 1.04))
            points = (shoulder, elbow, elbow + 0.22 * steps[3], hip, knee, knee + 0.3 * steps[1], eye, ear)
            names = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle", "eye", "ear")
            joints |= {f"{side} {name}": point for name, point in zip(names, points, strict=True)}
        return joints, turned

    def face(self, j: dict[str, Grid], turned: int, r: float, skin: RGB) -> tuple[list[Part], list[Part]]:
        """What lies behind the neck (long hair or nothing), and a cartoon's head."""
        hair, x = self.pick(*HAIR), 0.4 * r * turned
        cap = np.concatenate(
            [ellipse(0, r, r * 1.1, r * 1.12, 182, 358), ellipse(x, r * 0.75, r, r * 0.35, 0, -180)]
        )
        ears = part(skin, *(j[f"{s} ear"] + ellipse(0, 0, r * 0.2, r * 0.24) for s in SIDES), edge=not turned)
        long = part(hair, ellipse(-0.6 * x, r * 1.35, r * (0.9 if turned else 1.2), r * 1.3))
        return self.pick([long], []), [
            *(part(skin, ellipse(0, r, r, r * 1.02)), ears)[:: 1 if turned else -1],
            part(hair, cap, edge=False),
            part(skin, j["nose"] + ellipse(0, 0, r * 0.1, r * 0.1), edge=False, shade=0.75),
            part(BLACK, *(j[f"{s} eye"] + ellipse(0, 0, r * 0.12, r * 0.15) for s in SIDES), edge=False),
            part((0.6, 0.15, 0.15), (ellipse(x, r * 1.3, r * 0.35, r * 0.25, 20, 160), r * 0.12), edge=False),
        ]

    def person(self) -> Figure:
        """A cartoon with clothes, a road sign's pictogram or a thick stick man."""
        manner, head, arm, leg = self.pick(
            *[("toon", 0.23, 0.068, 0.083)] * 2, ("sign", 0.17, 0.068, 0.09), ("stick", 0.21, 0.05, 0.05)
        )
        head *= self.rng.uniform(0.85, 1.2 if manner == "toon" else 1.08)
        (j, turned), r, bare, stick = self.skeleton(head), head / 2, self.pick(True, False), manner == "stick"
        shirt, trousers, shoes = (self.paint(n) for n in self.rng.choice(list(COLOURS), 3, replace=False))
        skin, dress, far = (
            self.pick(*SKIN),
            not turned and bare and self.pick(True, False),
            SIDES[turned <= 0],
        )
        j |= {f"{s} {n}": j[f"{s} {n}"] * (0 if stick else 1, 1) for s in SIDES for n in ("shoulder", "hip")}
        arms, legs = list[Part](), list[Part]()
        for side in (far, SIDES[turned > 0]):
            dim, toe = (
                0.82 if turned and side == far else 1.0,
                0.06 * turned or (0.024 if side == "left" else -0.024),
            )
            a, b, c, h, k, n = (
                j[f"{side} {name}"] for name in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
            )
            legs.append(part(skin if bare else trousers, (path(h, k, n), leg), shade=dim))
            arms.append(part(skin, (path(a, b, c), arm), (path(c, c), arm), shade=dim))
            if manner == "toon":
                legs.append(part(shoes, (path(n + path(0, 0.008), n + path(toe, 0.016)), 0.06), shade=dim))
                legs.append(part(trousers, (path(h, 0.1 * h + 0.9 * k), leg * 1.1), shade=dim))
                arms.append(
                    part(shirt, (path(a, b, b if bare else 0.3 * b + 0.7 * c), arm * 1.05), shade=dim * 0.92)
                )
        (x, y), low, wide = (
            np.abs(j["left shoulder"]) + path(-0.015, 0.012),
            j["left hip"][1],
            0.075 + 0.06 * dress,
        )
        body = path((-x, y), (x, y), (wide, low + 0.1 * dress), (-wide, low + 0.1 * dress), (-x, y))
        spine = (path((0, r if stick else y + 0.02), (0, low - 0.015)), 0.05 if stick else 0.15)
        trunk = part(shirt, spine) if turned or stick else part(shirt, body, (body, 0.055))
        hidden = [f"{far} {n}" for n in ("ear", "shoulder", "hip") if turned]
        if manner == "toon":
            (back, face), behind = self.face(j, turned, r, skin), 2 * abs(turned)
            neck = part(skin, (path((0, head - 0.02), (0, head + 0.06)), 0.07), shade=0.9)
            return [*arms[:behind], *back, *legs, neck, trunk, *arms[behind:], *face], j, tuple(hidden)
        pieces = [piece for _, pieces, _ in (*arms, *legs, trunk) for piece in pieces]
        plain = part(
            self.paint(self.pick("black", "black", "blue", "brown", "white")), ellipse(0, r, r, r), *pieces
        )
        return [plain], j, (*hidden, "nose", *(f"{s} {n}" for s in SIDES for n in ("eye", "ear")))

    def dog(self) -> Figure:
        """A dog from the side, a cartoon or a dark silhouette, of many breeds."""
        toon, thick, feet, muzzle = (
            self.pick(1, 1, 0),
            *self.rng.uniform((0.3, 0.34, 0.2), (0.42, 0.66, 0.32)),
        )
        x, y, r, step, curl = 0.62, *self.rng.uniform((-0.45, 0.17, -0.08, 0.38), (-0.32, 0.2, 0.12, 0.48))
        coat = self.pick(*COAT) if toon else self.paint(self.pick("black", "brown"))
        spot, dark = self.pick(*COAT), BLACK if sum(coat) > 0.7 else (0.85, 0.85, 0.8)
        paws = [
            (path((u, 0.05), (u + step * s, feet - 0.05), (u + step * s + 0.05, feet - 0.04)), 0.115)
            for u, s in ((0.24, -1), (-0.22, 1), (0.36, 1), (-0.38, -1))
        ]
        tail = self.pick(
            path((-0.44, -0.08), (-0.58, -0.2), (-0.66, -curl)),
            path((-0.44, -0.05), (-0.68, 0.2)),
            ellipse(-0.46, -0.26, 0.15, 0.15, 70, 300, 16),
        )
        pointed = path((x - 0.17, y - 0.04), (x - 0.12, y - 0.4), (x + 0.06, y - 0.13))
        ear = self.pick(pointed, ellipse(x - 0.12, y + 0.08, 0.085, 0.2)) if toon else pointed
        body = part(
            coat,
            ellipse(x, y, r, r),
            ellipse(-0.36, 0.06, 0.15, 0.2),
            (path((-0.3, 0), (0.28, 0.02)), thick),
            (path((0.28, 0), (x - 0.06, y + 0.05)), 0.22),
            (path((x, y + 0.06), (x + muzzle, y + 0.08)), 0.17),
        )
        collar = part((0.8, 0.1, 0.12), (path((0.36, -0.2), (0.56, -0.05)), 0.06), edge=False)
        eye, nose = (
            ellipse(x + 0.07, y - 0.05, 0.03, 0.035),
            ellipse(x + muzzle + 0.06, y + 0.03, 0.05, 0.045),
        )
        parts = [
            part(coat, *paws[:2], shade=0.78),
            part(coat, (tail, 0.08)),
            part(coat, *paws[2:]),
            body,
            part(spot, ellipse(-0.08, -0.02, 0.16, thick * 0.34), edge=False),
            part(spot, ear, shade=0.75),
            collar,
            part(dark, eye, nose, edge=False),
        ]
        if not toon:
            parts = [part(coat, *(piece for _, pieces, _ in parts[:6] for piece in pieces))]
        flip = path(self.pick(-1, 1), 1)
        return [(paint, [(p * flip, w) for p, w in pieces], edge) for paint, pieces, edge in parts], {}, ()
