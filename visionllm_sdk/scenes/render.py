"""From a scene's description to its pixels and masks."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from visionllm_sdk.scenes.backgrounds import Pixels, draw_background
from visionllm_sdk.scenes.layers import Layer, paint
from visionllm_sdk.scenes.spec import Effects, SceneSpec

Mask = NDArray[np.bool_]
Masks = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A drawn scene.

    Attributes:
        image: the picture, RGB.
        visible: (N, H, W) bool, the pixels that show each object, in the order of the spec.
        amodal: (N, H, W) bool, each object's pixels on the canvas as if nothing lay above it.
        areas: (N,) pixels of each object as if nothing hid it and the canvas had no border.
    """

    image: Image.Image
    visible: Masks
    amodal: Masks
    areas: NDArray[np.int64]


def render(spec: SceneSpec) -> Rendered:
    """Draws a scene. The same spec gives the same pixels every time."""
    canvas = draw_background(spec.background, spec.width, spec.height)
    amodal = np.zeros((len(spec.objects), spec.height, spec.width), dtype=bool)
    areas = np.zeros(len(spec.objects), dtype=np.int64)
    for index, item in enumerate(spec.objects):
        layer = paint(item, spec.look)
        areas[index] = int((layer.alpha > 0.5).sum())
        _lay(layer, canvas, amodal[index])
    image = _through_camera(canvas, spec.effects)
    return Rendered(image=image, visible=visible_masks(amodal), amodal=amodal, areas=areas)


def visible_masks(amodal: Masks) -> Masks:
    """What remains of each of the (N, H, W) masks when the later ones lie on top."""
    visible = amodal.copy()
    for index in range(len(amodal) - 1, 0, -1):
        visible[:index] &= ~amodal[index]
    return visible


def on_canvas(
    left: int, top: int, size: tuple[int, ...], canvas: tuple[int, ...]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where a crop of `size` (h, w) at (left, top) meets a canvas (H, W): slices of the canvas and the crop.

    Both are empty when they do not meet.
    """
    y1, x1 = max(top, 0), max(left, 0)
    y2, x2 = min(top + size[0], canvas[0]), min(left + size[1], canvas[1])
    if y1 >= y2 or x1 >= x2:
        return np.s_[:0, :0], np.s_[:0, :0]
    return np.s_[y1:y2, x1:x2], np.s_[y1 - top : y2 - top, x1 - left : x2 - left]


def _lay(layer: Layer, canvas: Pixels, mask: Mask) -> None:
    """Blends a layer into `canvas` and marks in `mask` the pixels that it covers by more than half."""
    target, crop = on_canvas(layer.left, layer.top, layer.alpha.shape, mask.shape)
    alpha = layer.alpha[crop]
    pixels = canvas[target]
    pixels *= 1 - alpha[..., None]
    pixels += layer.colour[crop]
    mask[target] = alpha > 0.5


def _through_camera(canvas: Pixels, effects: Effects) -> Image.Image:
    if effects.noise and not effects.blur:
        canvas = _noisy(canvas, effects)
    image = Image.fromarray(_bytes(canvas))
    if effects.blur:
        image = image.filter(ImageFilter.GaussianBlur(effects.blur))
        if effects.noise:
            image = Image.fromarray(_bytes(_noisy(np.asarray(image, dtype=np.float32), effects)))
    if effects.jpeg is not None:
        image = _jpeg(image, effects.jpeg)
    return image


def _bytes(canvas: Pixels) -> NDArray[np.uint8]:
    # Half up, not rint: the same cut on every platform, and cheaper.
    rounded: NDArray[np.uint8] = (np.clip(canvas, 0, 255) + np.float32(0.5)).astype(np.uint8)
    return rounded


def _noisy(canvas: Pixels, effects: Effects) -> Pixels:
    """Adds zero-mean noise of the wanted deviation: two uniform bytes summed, which is bell-shaped enough."""
    random = np.random.Generator(np.random.PCG64(effects.seed))
    raw = np.frombuffer(random.bytes(2 * canvas.size), dtype=np.uint8).reshape(2, *canvas.shape)
    bell = raw[0].astype(np.float32) + raw[1] - np.float32(255)
    noisy: Pixels = canvas + bell * np.float32(effects.noise / 104.5)
    return noisy


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=quality)
    with Image.open(buffer) as stored:
        return stored.convert("RGB")
