"""Contact sheet of labels as the model will see them: at its input size, crowds and masks included."""

from __future__ import annotations

from typing import Final

from PIL import Image, ImageDraw, ImageFont

from visionllm_adapters.data.records import DataSet, Record, Thing
from visionllm_sdk import drawing
from visionllm_sdk.geometry import Mask
from visionllm_sdk.results import Detection, Detections, Keypoint, Pose, Poses

_CELL: Final = 360
_TEXT: Final = 13
_EDGES: Final = (800, 1333)


def draw_sheet(data: DataSet, *, limit: int = 24, edges: tuple[int, int] | None = None) -> Image.Image | None:
    """The first pictures of every class, drawn; None for an empty set.

    Args:
        data: what to draw.
        limit: most pictures.
        edges: shortest and longest edge of the decoder's input; those of the released model if not given.
    """
    chosen = _spread(data, limit)
    if not chosen:
        return None
    cells = [_cell(record, data, edges or _EDGES) for record in chosen]
    return drawing.contact_sheet(cells, columns=min(6, len(cells)), cell=_CELL)


def _spread(data: DataSet, limit: int) -> list[Record]:
    """Pictures taken evenly from the whole set, after one of every class."""
    first: dict[str, Record] = {}
    for record in data.records:
        for thing in record.things or ():
            first.setdefault(thing.label, record)
    step = max(1, len(data.records) // max(1, limit))
    ordered = dict.fromkeys([*(r.key for r in first.values()), *(r.key for r in data.records[::step])])
    by_key = {record.key: record for record in data.records}
    return [by_key[key] for key in list(ordered)[:limit]]


def _cell(record: Record, data: DataSet, edges: tuple[int, int]) -> Image.Image:
    image = record.load().image
    scale = min(edges[0] / min(image.size), edges[1] / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    drawn = draw_labels(record, data, image.resize(size, Image.Resampling.BILINEAR))
    drawn.thumbnail((_CELL, _CELL))
    return _captioned(drawn, _words(record))


def draw_labels(record: Record, data: DataSet, image: Image.Image) -> Image.Image:
    """A record's labels over its picture, which may have been resized."""
    factors = (image.width / record.width, image.height / record.height)
    things = [*(record.things or ()), *(reference.thing for reference in record.references)]
    names = [*(thing.label for thing in record.things or ()), *(r.expression for r in record.references)]
    if not things:
        return image.copy()
    found = Detections(
        width=image.width,
        height=image.height,
        detections=tuple(
            Detection(
                label=f"{name} (crowd)" if thing.crowd else name,
                score=1.0,
                box=thing.box.scaled(*factors).clipped(image.width, image.height),
                mask=_resized(thing.mask, image.size),
            )
            for name, thing in zip(names, things, strict=True)
        ),
        labels=data.labels,
    )
    drawn = found.draw(image)
    for label, points in data.keypoints.items():
        poses = [
            _pose(thing, points, factors) for thing in things if thing.label == label and thing.keypoints
        ]
        if poses:
            result = Poses(
                width=image.width,
                height=image.height,
                label=label,
                names=points,
                skeleton=data.skeletons.get(label, ()),
                poses=tuple(poses),
            )
            drawn = result.draw(drawn)
    return drawn


def _pose(thing: Thing, names: tuple[str, ...], factors: tuple[float, float]) -> Pose:
    keypoints = tuple(
        Keypoint(name=name, x=x * factors[0], y=y * factors[1], score=1.0, visible=flag == 2)
        for name, (x, y, flag) in zip(names, thing.keypoints, strict=True)
        if flag
    )
    return Pose(label=thing.label, score=1.0, box=thing.box.scaled(*factors), keypoints=keypoints)


def _resized(mask: Mask | None, size: tuple[int, int]) -> Mask | None:
    if mask is None:
        return None
    shape = Image.fromarray(mask.to_numpy())
    import numpy as np

    return Mask.from_numpy(np.asarray(shape.resize(size, Image.Resampling.NEAREST)))


def _words(record: Record) -> list[str]:
    lines = [f"Q: {one.question}  A: {' | '.join(one.answers)}" for one in record.exchanges]
    lines += list(record.captions)
    lines += [f"edit: {one.instruction}" for one in record.changes]
    return [record.key, *lines[:3]]


def _captioned(picture: Image.Image, lines: list[str]) -> Image.Image:
    font = ImageFont.load_default(_TEXT)
    high = (_TEXT + 3) * len(lines)
    room = Image.new("RGB", (_CELL, _CELL), (255, 255, 255))
    shown = picture.copy()
    shown.thumbnail((_CELL, _CELL - high))
    room.paste(shown, ((_CELL - shown.width) // 2, 0))
    painter = ImageDraw.Draw(room)
    for number, line in enumerate(lines):
        painter.text((4, _CELL - high + number * (_TEXT + 3)), line[:56], font=font, fill=(32, 36, 44))
    return room
