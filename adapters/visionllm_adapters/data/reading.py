"""What all readers need: pictures that open, boxes that lie inside, masks that fit."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from PIL import Image

from visionllm_adapters.data.faults import Faults
from visionllm_adapters.data.records import Thing, Triple
from visionllm_sdk.errors import DataError, ImageError, InputError
from visionllm_sdk.geometry import Box, Mask
from visionllm_sdk.images import LoadedImage, load_image

MIN_SIDE: Final = 16
"""Pixels below which a picture shows nothing that could be learnt."""
ROUNDING: Final = 1.0
"""Pixels by which a box may stick out: annotation tools round; such a box is cut at the border."""
PICTURES: Final = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
"""File names that count as pictures when a folder is listed."""
_SHOWN: Final = 300
"""Characters of a path in a message: some sets hold pictures themselves in the place of their names."""


def open_picture(source: Path | bytes | Image.Image, item: str, faults: Faults) -> LoadedImage | None:
    """Decode a picture fully; None, with a fault, if it cannot be learnt from."""
    if isinstance(source, Path) and not os.path.isfile(
        source
    ):  # unlike `is_file` it takes names of any length
        faults.error(item, "file missing", f"there is no {str(source)[:_SHOWN]}")
        return None
    try:
        loaded = load_image(source)
    except ImageError as error:
        faults.error(item, "picture unreadable", error.problem)
        return None
    if min(loaded.width, loaded.height) < MIN_SIDE:
        faults.error(
            item, "picture too small", f"{loaded.width} x {loaded.height} pixels, at least {MIN_SIDE} a side"
        )
        return None
    return loaded


def box_inside(corners: Sequence[float], size: tuple[int, int], item: str, faults: Faults) -> Box | None:
    """(x1, y1, x2, y2) pixels as a box in a picture of (width, height); None, with a fault, if none."""
    x1, y1, x2, y2 = corners
    width, height = size
    if not all(math.isfinite(value) for value in corners):
        faults.error(item, "box not finite", f"{list(corners)}")
        return None
    if x2 - x1 <= 0 or y2 - y1 <= 0:
        faults.error(item, "box empty", f"{x2 - x1:g} x {y2 - y1:g} pixels at ({x1:g}, {y1:g})")
        return None
    outside = min(x1, y1) < -ROUNDING or x2 > width + ROUNDING or y2 > height + ROUNDING
    box = Box(x1, y1, x2, y2).clipped(width, height)
    if outside or box.width <= 0 or box.height <= 0:  # or nothing would be left at the border
        faults.error(
            item, "box outside", f"({x1:g}, {y1:g}, {x2:g}, {y2:g}) in a picture of {width} x {height}"
        )
        return None
    return box


def numbers(value: Any, count: int | None, item: str, word: str, faults: Faults) -> list[float] | None:
    """A list of numbers of a given length (None: any); None, with a fault, if it is none."""
    fits = isinstance(value, list | tuple) and all(map(_is_number, value))
    if not fits or (count is not None and len(value) != count):
        faults.error(item, f"{word} malformed", f"{str(value)[:80]} is not a list of {count or ''} numbers")
        return None
    return [float(one) for one in value]


def _is_number(value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        float(value)
    except OverflowError:  # an integer of hundreds of digits
        return False
    return True


def points_inside(
    flat: Sequence[float], names: Sequence[str], size: tuple[int, int], item: str, faults: Faults
) -> tuple[Triple, ...] | None:
    """x, y (pixels) and visibility of every keypoint; None, with a fault, if they are not of the picture."""
    if not all(math.isfinite(value) for value in flat):
        faults.error(item, "keypoint not finite", f"{list(flat)[:12]}")
        return None
    points = tuple((flat[i], flat[i + 1], int(flat[i + 2])) for i in range(0, len(flat), 3))
    outside = [name for name, (x, y, v) in zip(names, points, strict=True) if v and not _within(x, y, size)]
    if outside:
        faults.error(item, "keypoint outside", f"{', '.join(outside)} of a picture of {size[0]} x {size[1]}")
        return None
    return points


def _within(x: float, y: float, size: tuple[int, int]) -> bool:
    return -ROUNDING <= x <= size[0] + ROUNDING and -ROUNDING <= y <= size[1] + ROUNDING


def area_of(value: Any, known: float, item: str, faults: Faults) -> float | None:
    """The area that a file tells, or `known` where it tells none; None, with a fault, if it is none.

    Many converters write 0 for "not measured".
    """
    if value is None or value == 0:
        return known
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        faults.error(item, "area malformed", f"{str(value)[:80]} is not a number above 0")
        return None
    return float(value)


def mask_of(segmentation: Any, size: tuple[int, int], item: str, faults: Faults) -> Mask | None:
    """COCO's polygons or run-length codes as a mask of (width, height); None, with a fault, if broken."""
    width, height = size
    try:
        if isinstance(segmentation, Mapping):
            return _from_code(segmentation, size, item, faults)
        mask = Mask.from_polygons(segmentation, height, width)
    except (InputError, TypeError, ValueError, OverflowError) as error:
        problem = error.problem if isinstance(error, InputError) else str(error)
        faults.error(item, "mask broken", problem)
        return None
    if mask.area == 0:
        faults.error(item, "mask empty", "no pixel centre lies inside")
        return None
    return mask


def _from_code(code: Mapping[str, Any], size: tuple[int, int], item: str, faults: Faults) -> Mask | None:
    from visionllm_sdk.masks import text_from_runs

    height, width = code.get("size", (0, 0))
    if (width, height) != size:
        faults.error(item, "mask of another size", f"{width} x {height} on {size[0]} x {size[1]}")
        return None
    counts = code.get("counts")
    text = text_from_runs(counts) if isinstance(counts, list) else counts
    mask = Mask((height, width), text.decode() if isinstance(text, bytes) else str(text))
    if mask.area == 0:
        faults.error(item, "mask empty", "no pixel lies inside")
        return None
    return mask


def thing_of(
    entry: Mapping[str, Any], label: str, size: tuple[int, int], item: str, faults: Faults
) -> Thing | None:
    """COCO's `bbox`, `segmentation`, `area` and `iscrowd` in a picture of (width, height), without keypoints.

    None, with a fault, if the object cannot be learnt from.
    """
    segmentation = entry.get("segmentation")
    mask = mask_of(segmentation, size, item, faults) if segmentation else None
    if segmentation and mask is None:
        return None
    sides = numbers(entry.get("bbox"), 4, item, "box", faults)
    if sides is None:
        return None
    x, y, width, height = sides
    box = box_inside((x, y, x + width, y + height), size, item, faults)
    if box is None:
        return None
    area = area_of(entry.get("area"), float(mask.area if mask else box.area), item, faults)
    crowd = entry.get("iscrowd") or 0
    if crowd not in (0, 1):  # "0" would pass for true
        faults.error(item, "crowd malformed", f"iscrowd is {str(crowd)[:80]!r}, neither 0 nor 1")
        return None
    return None if area is None else Thing(label=label, box=box, mask=mask, crowd=bool(crowd), area=area)


def text_of(value: Any, item: str, word: str, faults: Faults) -> str | None:
    """Text with blanks squeezed; None, with a fault, if there is none."""
    if not isinstance(value, str) or not value.strip():
        faults.error(item, f"{word} missing", f"got {value!r}")
        return None
    return " ".join(value.split())


def name_of(value: Any) -> str | None:
    """A class's name with blanks squeezed, as results will spell it; None if it is none.

    YAML reads the words yes, no, on and off as truth values, which are no names.
    """
    known = isinstance(value, str | int | float) and not isinstance(value, bool)
    return " ".join(str(value).split()) or None if known else None


def read_text(path: Path) -> str:
    """A file's text in UTF-8, without the byte order mark that some editors put in front.

    Raises:
        DataError: no such file, or one in another encoding.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError("there is no such annotation file", value=str(path)) from error
    except UnicodeDecodeError as error:
        raise _not_utf8(path) from error
    except OSError as error:
        raise DataError(f"the annotation file cannot be read: {error}", value=str(path)) from error
    if "\0" in text:  # UTF-16 without a mark passes for UTF-8
        raise _not_utf8(path)
    return text


def _not_utf8(path: Path) -> DataError:
    return DataError(
        f"{path.name} cannot be read as text", value=str(path), limit="UTF-8", remedy="Save it in UTF-8."
    )


def read_json(path: Path) -> Any:
    """A JSON file.

    Raises:
        DataError: no such file, one in another encoding than UTF-8, or not JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(f"the annotation file cannot be read: {error}", value=str(path)) from error


def read_lines(path: Path) -> list[tuple[str, Any]]:
    """(name of the line, value) of a file of JSON lines, or of a JSON list.

    Raises:
        DataError: no such file, one in another encoding than UTF-8, or a line that is not JSON.
    """
    if path.suffix == ".json":
        values = read_json(path)
        if not isinstance(values, list):
            raise DataError("the annotation file holds no list", value=type(values).__name__)
        return [(f"entry {number}", value) for number, value in enumerate(values)]
    found = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):  # strings may hold other separators
        if not line.strip():
            continue
        try:
            found.append((f"line {number}", json.loads(line)))
        except ValueError as error:
            raise DataError(f"{path.name}, line {number} is not JSON: {error}", value=line[:80]) from error
    return found


def listed_pictures(folder: Path, *, deep: bool = False) -> list[Path]:
    """Pictures in a folder, by name; `deep`: in the folders inside it, too."""
    paths = folder.rglob("*") if deep else folder.iterdir()
    return sorted(path for path in paths if path.suffix.lower() in PICTURES and path.is_file())
