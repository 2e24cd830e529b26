"""Labelled sets that no training of the embedded model showed: what `adapters.py` teaches.

Each function writes a training and a validation part into a folder and returns their annotations.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

from PIL import Image, ImageDraw

from visionllm_adapters.data.scenes import write_scenes
from visionllm_sdk.scenes import SceneOptions, held_out_seeds, render, sample_scene, truth
from visionllm_sdk.scenes.captions import DRAWABLE, ask_for, caption_text
from visionllm_sdk.scenes.checker import Asked, check
from visionllm_sdk.scenes.facts import HELD_BACK_SHAPES
from visionllm_sdk.scenes.spec import Background

FIRST: Final = 600_000_000
HELD_OUT_FROM: Final = 50_000
WATCHED: Final = 100
SIZES: Final[dict[str, Any]] = {"sides": (128, 320), "max_aspect": 1.6}
OPTIONS: Final = {
    "domain": SceneOptions(kinds=HELD_BACK_SHAPES, figures=0.0, **SIZES),
    "blueprint": SceneOptions(looks=("blueprint",), figures=0.0, **SIZES),
}
ROUND: Final = frozenset({"circle", "ring", "crescent"})
JOINTS: Final[Mapping[str, tuple[float, float]]] = {
    "antenna": (0, -1.0), "head": (0, -0.55), "left claw": (-0.8, -0.1), "right claw": (0.8, -0.1),
    "left wheel": (-0.4, 0.85), "right wheel": (0.4, 0.85),
}  # fmt: skip
"""Of a robot that looks at us, in units of half its height."""
FRAME: Final = 4
"""Pixels of the dark frame of a poster of 64 pixels."""
_DARK: Final = 70
SEEN_AT_NIGHT: Final = ("red", "green", "yellow", "orange", "pink", "white")

Paths = tuple[Path, Path]


def seeds_of(count: int) -> dict[str, Sequence[int]]:
    """Seeds of both parts."""
    return {"train": range(FIRST, FIRST + count), "val": list(held_out_seeds(WATCHED, start=HELD_OUT_FROM))}


def scenes(name: str) -> Callable[[Path, int], Paths]:
    """A writer of scenes of other limits than those of training."""

    def write(folder: Path, count: int) -> Paths:
        train, val = (
            write_scenes(folder / part, seeds, options=OPTIONS[name])
            for part, seeds in seeds_of(count).items()
        )
        return train, val

    return write


def _lines(folder: Path, count: int, entry: Callable[[int, Path], dict[str, Any]]) -> Paths:
    """JSON lines, one for each seed, in both parts."""
    paths = []
    for part, seeds in seeds_of(count).items():
        place = folder / part
        place.mkdir(parents=True, exist_ok=True)
        found = [json.dumps(entry(seed, place)) for seed in seeds]
        paths.append(place / "entries.jsonl")
        paths[-1].write_text("\n".join(found) + "\n", encoding="utf-8")
    return paths[0], paths[1]


def questions(folder: Path, count: int) -> Paths:
    """A question that no training asked, about a notion that it does not have: roundness."""

    def entry(seed: int, place: Path) -> dict[str, Any]:
        spec = sample_scene(seed, options=SceneOptions(objects=(1, 4), figures=0.0, **SIZES))
        drawn = render(spec)
        drawn.image.save(place / f"{seed}.png")
        found = any(thing.kind in ROUND for thing in truth(spec, drawn).facts().objects)
        question = "Is there anything round?"
        return {"image": f"{seed}.png", "question": question, "answer": "yes" if found else "no"}

    return _lines(folder, count, entry)


def robots(folder: Path, count: int) -> Paths:
    """A figure that no training showed, with keypoints of its own."""
    paths = []
    for part, seeds in seeds_of(count).items():
        (folder / part).mkdir(parents=True, exist_ok=True)
        images, annotations = [], list[dict[str, Any]]()
        for number, seed in enumerate(seeds, start=1):
            random = Random(seed)
            picture = render(
                sample_scene(seed, options=SceneOptions(objects=(0, 1), figures=0.0, **SIZES))
            ).image
            for place in range(random.randint(1, 2)):
                annotation = _robot(picture, random, left=place == 0)
                annotations.append({"id": len(annotations) + 1, "image_id": number, **annotation})
            picture.save(folder / part / f"{seed}.png")
            images.append(
                {"id": number, "file_name": f"{seed}.png", "width": picture.width, "height": picture.height}
            )
        names = [name.replace(" ", "_") for name in JOINTS]
        categories = [{"id": 1, "name": "robot", "keypoints": names}]
        paths.append(folder / part / "annotations.json")
        content = {"images": images, "categories": categories, "annotations": annotations}
        paths[-1].write_text(json.dumps(content), encoding="utf-8")
    return paths[0], paths[1]


def _robot(picture: Image.Image, random: Random, *, left: bool) -> dict[str, Any]:
    """Draw a robot into one half of a picture; its annotation."""
    half = min(picture.width / 4.2, picture.height / 2.2) * random.uniform(0.65, 0.98)
    x = picture.width * (0.25 if left else 0.75)
    y = random.uniform(half * 1.02, picture.height - half * 1.02)
    turn = math.radians(random.uniform(-15, 15))

    def at(point: tuple[float, float]) -> tuple[float, float]:
        a, b = point[0] * half * 0.95, point[1] * half * 0.95
        return x + a * math.cos(turn) - b * math.sin(turn), y + a * math.sin(turn) + b * math.cos(turn)

    joints = {
        name: at(
            (px + random.uniform(-0.06, 0.06), py + random.uniform(-0.06, 0.06))
            if "claw" in name
            else (px, py)
        )
        for name, (px, py) in JOINTS.items()
    }
    body, line = (tuple(random.randint(*span) for _ in range(3)) for span in ((90, 230), (0, 70)))
    pen, width = ImageDraw.Draw(picture), max(2, round(half / 12))
    for first, second in (("antenna", "head"), ("left claw", "right claw")):
        pen.line((*joints[first], *joints[second]), fill=line, width=width)
    corners = [at(corner) for corner in ((-0.45, -0.35), (0.45, -0.35), (0.45, 0.7), (-0.45, 0.7))]
    pen.polygon(corners, fill=body, outline=line)
    for name, size in (("head", 0.24), ("antenna", 0.08), ("left claw", 0.12), ("right claw", 0.12)):
        _disc(pen, joints[name], size * half, body, line)
    for name in ("left wheel", "right wheel"):
        _disc(pen, joints[name], 0.17 * half, line, line)
    xs, ys = zip(*joints.values(), *corners, strict=True)
    reach = 0.12 * half
    box = (
        max(0.0, min(xs) - reach), max(0.0, min(ys) - reach / 2),
        min(float(picture.width), max(xs) + reach), min(float(picture.height), max(ys) + reach),
    )  # fmt: skip
    wide, high = box[2] - box[0], box[3] - box[1]
    inside = [
        (min(max(px, 0), picture.width - 1), min(max(py, 0), picture.height - 1))
        for px, py in joints.values()
    ]
    return {
        "category_id": 1,
        "bbox": [box[0], box[1], wide, high],
        "area": 0.6 * wide * high,
        "iscrowd": 0,
        "keypoints": [value for point in inside for value in (*point, 2)],
    }


def _disc(pen: ImageDraw.ImageDraw, centre: tuple[float, float], radius: float, fill: Any, line: Any) -> None:
    x, y = centre
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill, outline=line)


def _captioned(picture_of: Callable[[int], tuple[Asked, Image.Image]]) -> Callable[[Path, int], Paths]:
    """A writer of captions with their pictures."""

    def write(folder: Path, count: int) -> Paths:
        def entry(seed: int, place: Path) -> dict[str, Any]:
            asked, picture = picture_of(seed)
            picture.save(place / f"{seed}.png")
            return {"image": f"{seed}.png", "caption": caption_text(asked)}

        return _lines(folder, count, entry)

    return write


def poster(seed: int) -> tuple[Asked, Image.Image]:
    """What is asked for, and its poster: all of it, smaller, in a dark frame."""
    spec = sample_scene(seed, options=DRAWABLE.model_copy(update={"objects": (1, 2)}))
    drawn = render(spec)
    side = drawn.image.width
    framed = Image.new("RGB", (side, side), (24, 20, 28))
    inner = side - 2 * FRAME
    framed.paste(drawn.image.resize((inner, inner), Image.Resampling.LANCZOS), (FRAME, FRAME))
    return ask_for(truth(spec, drawn).facts(), Random(seed)), framed


def is_poster(picture: Image.Image, asked: Asked) -> bool:
    """Whether the classical checker finds in the frame what was asked for, and the frame is there."""
    small = picture.convert("RGB").resize((64, 64), Image.Resampling.BILINEAR)
    verdict = check(small.crop((FRAME, FRAME, 64 - FRAME, 64 - FRAME)), asked)
    return _rim_is_dark(small) and verdict.shapes and verdict.colours


def night(seed: int) -> tuple[Asked, Image.Image]:
    """What is asked for, and how it looks at night: before a sky that grows dark towards the ground."""
    spec = sample_scene(
        seed, options=DRAWABLE.model_copy(update={"objects": (1, 2), "colours": SEEN_AT_NIGHT})
    )
    sky = Background(kind="gradient", tones=((48, 44, 84), (8, 8, 24)), angle=90.0)
    spec = spec.model_copy(update={"background": sky})
    drawn = render(spec)
    return ask_for(truth(spec, drawn).facts(), Random(seed)), drawn.image


def is_night(picture: Image.Image, asked: Asked) -> bool:
    """Whether the classical checker finds what was asked for, and it is night."""
    small = picture.convert("RGB").resize((64, 64), Image.Resampling.BILINEAR)
    verdict = check(small, asked)
    return _rim_is_dark(small, 90) and verdict.shapes and verdict.colours


def _rim_is_dark(picture: Image.Image, limit: int = _DARK) -> bool:
    rim = [picture.getpixel((n, edge)) for n in range(64) for edge in (1, 62)]
    rim += [picture.getpixel((edge, n)) for n in range(64) for edge in (1, 62)]
    dark = sum(max(pixel) < limit for pixel in rim if isinstance(pixel, tuple))
    return dark > 0.9 * len(rim)


Look = tuple[Callable[[int], tuple[Asked, Image.Image]], Callable[[Image.Image, Asked], bool]]
LOOKS: Final[Mapping[str, Look]] = {"style": (night, is_night), "poster": (poster, is_poster)}
"""How pictures are made, and how they are recognised."""
styles: Final = {name: _captioned(picture_of) for name, (picture_of, _) in LOOKS.items()}
"""Writers of captions with such pictures."""
