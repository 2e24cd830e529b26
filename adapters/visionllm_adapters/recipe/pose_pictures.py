"""Training pictures for the pose estimator: mostly figures, of any size, and questions about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from visionllm_adapters.recipe.pictures import MEAN, STD, now_and_then_coarse
from visionllm_adapters.recipe.pose_names import CLASSES, KEYPOINTS, class_index, keypoint_index
from visionllm_sdk.keypoints import AP10K, COCO, DEFAULT_SIGMA, sigmas_of
from visionllm_sdk.scenes import SceneOptions, render, sample_scene, training_seed, truth
from visionllm_sdk.scenes.figures import KEYPOINTS as JOINTS
from visionllm_tools.blocks.boxes import to_centres
from visionllm_tools.detection.targets import ImageTargets
from visionllm_tools.pose.targets import ImagePoses, PoseTargets

_ASPECTS: Final = (1.0, 1.0, 4 / 3, 4 / 3, 3 / 4, 1.5, 2 / 3, 2.0, 0.5, 3.0, 1 / 3)
_OWN_SET: Final = {"person": COCO, "dog": AP10K}
_FIGURES: Final = SceneOptions(figures=0.6, objects=(1, 5), figure_extent=(0.26, 0.85), manners=0.5)
_CLUTTERED: Final = _FIGURES.model_copy(update={"backgrounds": ("clutter",), "effects": 0.3})
_CLUTTER: Final = 0.25
_STRANGE: Final = "anything else"


@dataclass(frozen=True)
class Figure:
    """One figure of a picture.

    Attributes:
        kind: of `CLASSES`.
        box: (4,) (x1, y1, x2, y2) as shares of the picture.
        area: share of the picture that it covers.
        places: name -> (x, y, flag), x and y as shares of the picture, flag as COCO's.
    """

    kind: str
    box: Tensor
    area: float
    places: dict[str, tuple[float, float, float]]


@dataclass(frozen=True)
class Scene:
    """A drawn scene: image (h, w, 3) uint8 and its figures."""

    image: np.ndarray
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Question:
    """What is asked of one picture: object classes and keypoint names, both without repetition."""

    classes: tuple[str, ...]
    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PosePictures:
    """A batch.

    Attributes:
        pixels: (B, 3, H, W) normalised, zeros in the padding.
        pixel_mask: (B, H, W) bool, True where there is image.
        classes: (B, N) long, rows of the class table; `keypoints` (B, K) long of the keypoint table.
        targets: the truth.
        heat: (B, rows, H / 8, W / 8) float, 1 near visible keypoints of each row of the keypoint table.
    """

    pixels: Tensor
    pixel_mask: Tensor
    classes: Tensor
    keypoints: Tensor
    targets: PoseTargets
    heat: Tensor


def draw_figures(seed: int, canvas: tuple[int, int], *, options: SceneOptions = _FIGURES) -> Scene:
    """Draw training scene `seed` on a canvas of (width, height)."""
    spec = sample_scene(training_seed(seed), options=options.model_copy(update={"canvas": canvas}))
    rendered = render(spec)
    known = truth(spec, rendered)
    width, height = canvas
    scale = torch.tensor([width, height, width, height])
    figures = tuple(
        Figure(
            kind=item.kind,
            box=torch.from_numpy(known.boxes[i]) / scale,
            area=float(known.masks[i].mean()),
            places={
                name.replace("_", " "): (float(x) / width, float(y) / height, float(flag))
                for name, (x, y, flag) in zip(JOINTS[item.kind], table, strict=True)
            },
        )
        for i, item in enumerate(spec.objects)
        if (table := known.keypoints[i]) is not None
    )
    return Scene(np.asarray(rendered.image), figures)


def draw_batch(rng: Random, seeds: Sequence[int], *, sides: tuple[int, int], area: int) -> list[Scene]:
    """Scenes that fit one input size: one aspect ratio with a little jitter, at most `area` pixels each."""
    aspect, side = rng.choice(_ASPECTS), rng.randint(*sides)
    side = min(side, int((area / max(aspect, 1 / aspect)) ** 0.5))
    drawn = []
    for seed in seeds:
        ratio = min(3.0, max(1 / 3, aspect * rng.uniform(0.93, 1.07)))
        size = round(side * max(1.0, ratio)), round(side * max(1.0, 1 / ratio))
        scale = rng.choice((1.0, rng.uniform(0.5, 2.2)))
        stretch = rng.uniform(0.93, 1.07) if scale != 1.0 else 1.0
        width, height = (
            min(640, max(96, round(v * scale * s))) for v, s in zip(size, (stretch, 1 / stretch), strict=True)
        )
        options = _CLUTTERED if rng.random() < _CLUTTER else _FIGURES
        scene = draw_figures(seed, (width, height), options=options)
        if (width, height) != size:
            image = Image.fromarray(scene.image).resize(size, Image.Resampling.BILINEAR)
            scene = Scene(np.asarray(image), scene.figures)
        drawn.append(Scene(now_and_then_coarse(scene.image, rng), scene.figures))
    return drawn


def questions(scenes: Sequence[Scene], rng: Random) -> list[Question]:
    """One question per picture, all with equally many classes and equally many names.

    Mostly a class that is there with the set of its kind, as users ask; now and then an absent class, a few
    free names, or names that the class does not have.
    """
    classes, names = rng.choice((1, 1, 1, 2, 3)), 17 if rng.random() < 0.6 else rng.randint(1, 17)
    return [_question(scene, rng, classes, names) for scene in scenes]


def _question(scene: Scene, rng: Random, classes: int, names: int) -> Question:
    kinds = [*CLASSES, _STRANGE]
    there = sorted({figure.kind for figure in scene.figures})
    away = [kind for kind in kinds if kind not in there]
    first = rng.choice(there) if there and rng.random() < 0.75 else rng.choice(away or kinds)
    rest = [kind for kind in kinds if kind != first]
    chosen = [first, *rng.sample(rest, classes - 1)]
    rng.shuffle(chosen)
    known = _OWN_SET[first if first in CLASSES and rng.random() < 0.9 else rng.choice(CLASSES)].names
    if names == len(known) and rng.random() < 0.8:
        return Question(tuple(chosen), known)
    pool = list(known) if rng.random() < 0.7 and names <= len(known) else [*KEYPOINTS, _STRANGE]
    return Question(tuple(chosen), tuple(rng.sample(pool, names)))


def collate(scenes: Sequence[Scene], asked: Sequence[Question]) -> PosePictures:
    """Pad to a common size (a multiple of 32) and lay out questions and truth."""
    height = -(-max(scene.image.shape[0] for scene in scenes) // 32) * 32
    width = -(-max(scene.image.shape[1] for scene in scenes) // 32) * 32
    pixels = torch.zeros(len(scenes), 3, height, width)
    mask = torch.zeros(len(scenes), height, width, dtype=torch.bool)
    heat = torch.zeros(len(scenes), len(KEYPOINTS), height // 8, width // 8)
    mean, std = (torch.tensor(v)[:, None, None] for v in (MEAN, STD))
    for row, scene in enumerate(scenes):
        h, w = scene.image.shape[:2]
        pixels[row, :, :h, :w] = (torch.from_numpy(scene.image.copy()).permute(2, 0, 1) / 255 - mean) / std
        mask[row, :h, :w] = True
        for figure in scene.figures:
            _warm(heat[row], figure, (w / 8, h / 8))
    return PosePictures(
        pixels=pixels,
        pixel_mask=mask,
        classes=torch.tensor([[class_index(kind) for kind in one.classes] for one in asked]),
        keypoints=torch.tensor([[keypoint_index(name) for name in one.names] for one in asked]),
        targets=PoseTargets.collate([poses_of(s, q) for s, q in zip(scenes, asked, strict=True)]),
        heat=heat,
    )


def poses_of(scene: Scene, asked: Question) -> ImagePoses:
    """The truth of one question: the figures of the classes asked for, and their named keypoints."""
    meant = [figure for figure in scene.figures if figure.kind in asked.classes]
    table = [[figure.places.get(name, (0.0, 0.0, 0.0)) for name in asked.names] for figure in meant]
    boxes = torch.stack([figure.box for figure in meant]) if meant else torch.zeros(0, 4)
    return ImagePoses(
        objects=ImageTargets(
            boxes=to_centres(boxes),
            labels=torch.tensor([asked.classes.index(figure.kind) for figure in meant], dtype=torch.long),
        ),
        keypoints=torch.tensor(table).reshape(len(meant), len(asked.names), 3),
        areas=torch.tensor([figure.area for figure in meant]),
        sigmas=torch.tensor(_sigmas(asked.names)),
    )


def _sigmas(names: Sequence[str]) -> list[float]:
    return [DEFAULT_SIGMA if n == _STRANGE else s for n, s in zip(names, sigmas_of(names), strict=True)]


def _warm(heat: Tensor, figure: Figure, cells: tuple[float, float]) -> None:
    """Add one figure to (rows, h, w): bells of one cell's width at its visible keypoints, in place."""
    rows, columns = torch.arange(heat.shape[1])[:, None] + 0.5, torch.arange(heat.shape[2])[None] + 0.5
    for name, (x, y, flag) in figure.places.items():
        if flag >= 2:
            squared = (columns - x * cells[0]).square() + (rows - y * cells[1]).square()
            row = heat[keypoint_index(name)]
            torch.maximum(row, torch.exp(-squared / 2), out=row)
