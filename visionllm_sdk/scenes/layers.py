"""Painting one object: a crop of colour and coverage, drawn large and reduced, to be laid on a canvas."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from visionllm_sdk.scenes import figures, outlines
from visionllm_sdk.scenes.spec import RGB, Look, ObjectSpec, Point, Shading, Texture

Coverage = NDArray[np.float32]
BLUEPRINT_FILL: RGB = (36, 76, 150)
BLUEPRINT_LINE: RGB = (240, 245, 255)


@dataclass(frozen=True, slots=True)
class Layer:
    """One painted object.

    Attributes:
        left, top: where the crop lies on the canvas, in pixels; may be negative.
        alpha: share of each pixel that the object covers, (h, w) float32 in 0..1.
        colour: the colour times `alpha`, (h, w, 3) float32 in 0..255.
    """

    left: int
    top: int
    alpha: Coverage
    colour: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Frame:
    """A crop of the canvas, drawn `zoom` times as large."""

    left: int
    top: int
    width: int
    height: int
    zoom: int

    @staticmethod
    def around(x1: float, y1: float, x2: float, y2: float) -> _Frame:
        left, top = math.floor(x1) - 1, math.floor(y1) - 1
        width, height = math.ceil(x2) + 1 - left, math.ceil(y2) + 1 - top
        longer = max(width, height)
        return _Frame(left, top, width, height, 4 if longer < 100 else 3 if longer < 200 else 2)

    def canvas(self, mode: str) -> Image.Image:
        return Image.new(mode, (self.width * self.zoom, self.height * self.zoom))

    def enlarge(self, point: Point) -> Point:
        """Canvas pixels to crop pixels; PIL counts pixel centres, hence the half."""
        return (point[0] - self.left) * self.zoom - 0.5, (point[1] - self.top) * self.zoom - 0.5

    def reduce(self, image: Image.Image) -> NDArray[np.float32]:
        return np.asarray(image.reduce(self.zoom), dtype=np.float32)


def coverage(item: ObjectSpec) -> tuple[int, int, Coverage]:
    """Left, top and (h, w) coverage of an object before anything hides it."""
    if item.figure is not None:
        layer = _paint_figure(item, "natural")
        return layer.left, layer.top, layer.alpha
    frame, rings = _placed(item)
    return frame.left, frame.top, _fill(frame, rings)


def paint(item: ObjectSpec, look: Look) -> Layer:
    """The object's layer in the given look."""
    return _paint_figure(item, look) if item.figure is not None else _paint_shape(item, look)


# ---- shapes ----


def _placed(item: ObjectSpec) -> tuple[_Frame, list[NDArray[np.float64]]]:
    turn = math.radians(item.rotation)
    cosine, sine = math.cos(turn), math.sin(turn)
    matrix = np.array([[cosine, sine], [-sine, cosine]]) * (item.diameter / 2)
    rings = [ring @ matrix + item.centre for ring in outlines.contour(item.kind, item.proportion)]
    (x1, y1), (x2, y2) = rings[0].min(axis=0), rings[0].max(axis=0)
    return _Frame.around(x1, y1, x2, y2), rings


def _enlarged(frame: _Frame, ring: NDArray[np.float64]) -> list[float]:
    values: list[float] = ((ring - (frame.left, frame.top)) * frame.zoom - 0.5).ravel().tolist()
    return values


def _fill(frame: _Frame, rings: list[NDArray[np.float64]]) -> Coverage:
    image = frame.canvas("L")
    draw = ImageDraw.Draw(image)
    for index, ring in enumerate(rings):
        draw.polygon(_enlarged(frame, ring), fill=0 if index else 255)
    return frame.reduce(image) / np.float32(255)


def _stroke(frame: _Frame, rings: list[NDArray[np.float64]], width: float) -> Coverage:
    """Coverage of a line `width` pixels wide on each side of every ring."""
    image = frame.canvas("L")
    draw = ImageDraw.Draw(image)
    for ring in rings:
        path = _enlarged(frame, ring)
        draw.line(path + path[:4], fill=255, width=max(round(2 * width * frame.zoom), 1), joint="curve")
    return frame.reduce(image) / np.float32(255)


def _paint_shape(item: ObjectSpec, look: Look) -> Layer:
    frame, rings = _placed(item)
    alpha = _fill(frame, rings)
    if look == "blueprint":
        surface = np.broadcast_to(np.array(BLUEPRINT_FILL, dtype=np.float32), (*alpha.shape, 3))
        line = _stroke(frame, rings, max(item.diameter * 0.03, 1.2))
        surface = _over(surface, BLUEPRINT_LINE, line)
    else:
        surface = _surface(item, frame)
        if item.outline is not None:
            surface = _over(
                surface, item.outline.rgb, _stroke(frame, rings, item.outline.width * item.diameter)
            )
    return Layer(frame.left, frame.top, alpha, surface * alpha[..., None])


def _over(surface: NDArray[np.float32], rgb: RGB, share: Coverage) -> NDArray[np.float32]:
    return surface + share[..., None] * (np.array(rgb, dtype=np.float32) - surface)


def _surface(item: ObjectSpec, frame: _Frame) -> NDArray[np.float32]:
    """Colour of every pixel of the crop, (h, w, 3): base tone, texture, shading."""
    surface = np.empty((frame.height, frame.width, 3), dtype=np.float32)
    surface[:] = item.rgb
    if item.texture is None and item.shading is None:
        return surface
    radius = item.diameter / 2
    x = ((np.arange(frame.width) + 0.5 + frame.left - item.centre[0]) / radius).astype(np.float32)
    y = ((np.arange(frame.height) + 0.5 + frame.top - item.centre[1]) / radius).astype(np.float32)[:, None]
    if item.texture is not None:
        share = _TEXTURES[item.texture.kind](item.texture, x, y, radius)
        surface = _over(surface, item.texture.rgb, share)
    if item.shading is not None:
        light = _SHADINGS[item.shading.kind](item.shading, x, y)
        surface = np.clip(surface + 255 * item.shading.strength * light[..., None], 0, 255)
    return surface


def _turned(angle: float, x: Coverage, y: Coverage) -> tuple[Coverage, Coverage]:
    turn = math.radians(angle)
    cosine, sine = np.float32(math.cos(turn)), np.float32(math.sin(turn))
    return x * cosine + y * sine, y * cosine - x * sine


def _soft(distance: Coverage, radius: float) -> Coverage:
    """1 where a distance (in radii) is positive, 0 where negative, with an edge of one pixel."""
    return (distance * np.float32(radius) + np.float32(0.5)).clip(0, 1)


def _stripes(texture: Texture, x: Coverage, y: Coverage, radius: float) -> Coverage:
    along, _ = _turned(texture.angle, x, y)
    period = np.float32(2 * texture.period)
    return _soft((np.abs(along / period % 1 - np.float32(0.5)) - np.float32(0.3)) * period, radius)


def _dots(texture: Texture, x: Coverage, y: Coverage, radius: float) -> Coverage:
    along, across = _turned(texture.angle, x, y)
    period = np.float32(2 * texture.period)
    u, v = (axis / period % 1 - np.float32(0.5) for axis in (along, across))
    return _soft((np.float32(0.3) - np.sqrt(u * u + v * v)) * period, radius)


def _ramp(shading: Shading, x: Coverage, y: Coverage) -> Coverage:
    along, _ = _turned(shading.angle, x, y)
    return np.clip(along, -1, 1)


def _gloss(shading: Shading, x: Coverage, y: Coverage) -> Coverage:
    turn = math.radians(shading.angle)
    u, v = x - np.float32(0.35 * math.cos(turn)), y - np.float32(0.35 * math.sin(turn))
    return np.exp(-(u * u + v * v) * np.float32(8))


_TEXTURES = {"stripes": _stripes, "dots": _dots}
_SHADINGS = {"gradient": _ramp, "gloss": _gloss}


# ---- figures ----


def _paint_figure(item: ObjectSpec, look: Look) -> Layer:
    assert item.figure is not None
    parts = figures.parts(item.kind, item.figure)
    frame = _Frame.around(*figures.extent(parts))
    cover, colour = frame.canvas("L"), frame.canvas("RGB")
    masks, colours = ImageDraw.Draw(cover), ImageDraw.Draw(colour)
    blueprint, wear = look == "blueprint", item.figure.colours
    inked, contour = wear.get("line"), BLUEPRINT_LINE if blueprint else wear.get("contour")
    line = max(item.diameter * 0.012, 0.8) if contour or inked else 0.0
    for part in parts:
        _draw_part(masks, frame, part, part.radius, 255)
        _draw_part(colours, frame, part, part.radius, contour or inked or part.rgb)
        if inked and not contour:  # a line around every part
            _draw_part(colours, frame, part, part.radius - line, part.rgb)
    if contour:  # a line around all of them
        for part in parts:
            _draw_part(colours, frame, part, part.radius - line, BLUEPRINT_FILL if blueprint else part.rgb)
    # Painted on black and reduced, the colours come out already multiplied by their coverage.
    return Layer(frame.left, frame.top, frame.reduce(cover) / np.float32(255), frame.reduce(colour))


def _draw_part(
    draw: ImageDraw.ImageDraw, frame: _Frame, part: figures.Part, radius: float, fill: int | RGB
) -> None:
    points = [frame.enlarge(point) for point in part.points]
    reach = max(radius * frame.zoom, 0.5)
    if len(points) > 1:
        path = [*points, points[0]] if part.filled else points
        draw.line(path, fill=fill, width=max(round(2 * reach), 1))
    if part.filled:
        draw.polygon(points, fill=fill)
    for x, y in points:
        draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=fill)
