"""YOLO folders: `images/` beside `labels/`, one line of relative numbers for every object."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Final

from visionllm_adapters.data.faults import Faults
from visionllm_adapters.data.reading import (
    box_inside,
    listed_pictures,
    mask_of,
    name_of,
    open_picture,
    points_inside,
    read_text,
)
from visionllm_adapters.data.records import DataSet, Record, Thing, Triple
from visionllm_sdk.errors import DataError
from visionllm_sdk.extras import import_extra
from visionllm_sdk.geometry import Box, Mask

_SPLITS: Final = ("train", "val", "test")
"""Folders of `images/` that are no part of pictures which simply lie there."""


def read_yolo(source: Path, *, split: str = "train") -> DataSet:
    """Read a YOLO set.

    Lines are `class cx cy w h` (boxes), `class x1 y1 x2 y2 ...` (polygons), or, where the description has
    `kpt_shape`, a box followed by keypoints; all relative to the picture.

    Args:
        source: the description (`data.yaml`), or a folder that holds it or `images/` and `labels/`.
        split: `train`, `val` or `test`, where there are several.

    Raises:
        DataError: no description, no folder of pictures, or a description without names.
    """
    description, root = _description(source)
    names = _names(description, root)
    faults = Faults()
    shape = _shape(description, root)
    records = []
    pictures = _pictures_of(description, root, split)
    _check_lone_labels(pictures, description.get(split), root, faults)
    for path in pictures:
        record = _record(path, root, names, shape, faults)
        records += [record] if record is not None else []
    labels = tuple(dict.fromkeys(names.values()))
    return DataSet(
        name=f"{source.name} ({split})",
        form="YOLO folder",
        records=tuple(records),
        labels=labels,
        keypoints=_keypoints(description, names, shape, root) if shape else {},
        faults=tuple(faults.found),
    )


def _shape(description: Mapping[str, Any], root: Path) -> list[int] | None:
    """`kpt_shape`: number of keypoints, and of numbers for each; None where there are none."""
    said = description.get("kpt_shape")
    if said is None:
        return None
    whole = isinstance(said, list) and all(isinstance(one, int) for one in said)
    if not whole or len(said) != 2 or said[0] < 1 or said[1] not in {2, 3}:
        raise DataError(
            "`kpt_shape` does not tell number and dimensions of the keypoints",
            value=f"{said}"[:80],
            limit="[17, 3], or [17, 2] without visibility",
            remedy=f"Correct the description in {root}.",
        )
    return said


def _keypoints(
    description: Mapping[str, Any], names: Mapping[int, str], shape: list[int], root: Path
) -> dict[str, tuple[str, ...]]:
    """Names of each class's keypoints: one list for all, or `kpt_names` by number or name of the class."""
    said = description.get("kpt_names") or [f"keypoint {number}" for number in range(shape[0])]
    found = {}
    for number, label in names.items():
        own = said.get(number, said.get(label)) if isinstance(said, Mapping) else said
        if not isinstance(own, list) or len(own) != shape[0]:
            raise DataError(
                f"`kpt_names` does not name the keypoints of {label!r}",
                value=f"{own}"[:80],
                limit=f"{shape[0]} names, as `kpt_shape` says",
                remedy=f"Correct the description in {root}.",
            )
        found[label] = tuple(map(str, own))
    return found


def has_split(source: Path, split: str) -> bool:
    """Whether a YOLO set has pictures of a split of its own."""
    description, root = _description(source)
    return bool(description.get(split)) or (root / "images" / split).is_dir()


def _description(source: Path) -> tuple[Mapping[str, Any], Path]:
    yaml = import_extra("yaml", extra="finetune")
    path = source
    if source.is_dir():
        found = sorted([*source.glob("*.yaml"), *source.glob("*.yml")])
        if not found:
            return {}, source
        path = found[0]
    text = read_text(path)
    try:
        content = yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:  # the former: a date that is none
        raise DataError(f"the description cannot be read: {error}", value=str(path)) from error
    if not isinstance(content, Mapping):
        raise DataError("the description holds no names", value=str(path), limit="a mapping")
    base = Path(_text(content["path"], "path", path)) if content.get("path") else Path()
    return content, base if base.is_absolute() and base.is_dir() else path.parent / (
        base if (path.parent / base).is_dir() else Path()
    )


def _text(value: Any, key: str, place: Path) -> str:
    if not isinstance(value, str):
        raise DataError(
            f"`{key}` of the description does not name a place",
            value=f"{value}"[:80],
            limit="text, or for a split a list of it",
            remedy=f"Correct {place}.",
        )
    return value


def _names(description: Mapping[str, Any], root: Path) -> dict[int, str]:
    names = description.get("names")
    if names is None and (root / "classes.txt").is_file():
        names = [name.strip() for name in read_text(root / "classes.txt").split("\n") if name.strip()]
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, Mapping) or not names:
        raise DataError(
            "the YOLO set does not name its classes",
            value=str(root),
            limit="`names` in data.yaml, or classes.txt",
        )
    try:
        found = {int(str(number)): name_of(name) for number, name in names.items()}
    except ValueError as error:
        raise DataError(
            f"`names` of the YOLO set do not number its classes: {error}",
            value=f"{names}"[:80],
            limit="a list of names, or `0: name`",
            remedy=f"Correct the description in {root}.",
        ) from error
    nameless = [number for number, name in found.items() if name is None]
    if nameless:
        raise DataError(
            f"class {nameless[0]} of the YOLO set has no name",
            value=f"{names}"[:80],
            limit="text; YAML reads yes, no, on and off as truth values",
            remedy=f"Put the names in {root} into quotation marks.",
        )
    return {number: name for number, name in found.items() if name is not None}


def _pictures_of(description: Mapping[str, Any], root: Path, split: str) -> list[Path]:
    """Pictures of the places that are named for a split, or of the first usual place that has any."""
    said = description.get(split)
    listed = said if isinstance(said, list) else [said] if said else []
    named = [_text(place, split, root) for place in listed]
    places = [_place(root, place) for place in named] or [root / "images" / split, root / split / "images"]
    found = [pictures for place in places if (pictures := _pictures(place))]
    if not named and split == "train":
        places.append(root / "images")
        loose = [
            path for path in _pictures(places[-1]) if path.relative_to(places[-1]).parts[0] not in _SPLITS
        ]
        found += [loose] if loose else []
    if not found:
        raise DataError(
            f"the YOLO set has no pictures of the split {split!r}",
            value=str(root),
            limit=", ".join(map(str, places)),
        )
    return list(chain.from_iterable(found if named else found[:1]))


def _place(root: Path, place: str) -> Path:
    """Where a description says that pictures are; many exports say `../train/images` and mean no `../`."""
    path = root / place
    return path if path.exists() or not place.startswith("../") else root / place.removeprefix("../")


def _pictures(place: Path) -> list[Path]:
    """Pictures of a folder and those inside it, or those that a text file lists, relative to itself."""
    if place.is_dir():
        return listed_pictures(place, deep=True)
    if place.suffix != ".txt" or not place.is_file():
        return []
    return [place.parent / line.strip() for line in read_text(place).splitlines() if line.strip()]


def _label_file(picture: Path) -> Path:
    """`.../images/.../a.jpg` -> `.../labels/.../a.txt`, by the last folder of that name."""
    parts = list(picture.parent.parts)
    places = [place for place, part in enumerate(parts) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    return Path(*parts) / f"{picture.stem}.txt"


def _check_lone_labels(pictures: list[Path], said: Any, root: Path, faults: Faults) -> None:
    """Name label files whose pictures are not there; of lists, other splits may own them."""
    if any(str(place).endswith(".txt") for place in (said if isinstance(said, list) else [said])):
        return
    known = {_label_file(path) for path in pictures}
    for folder in sorted({path.parent for path in known if "labels" in path.parent.parts}):
        for path in sorted(folder.glob("*.txt")):
            if path not in known and path.name != "classes.txt":
                item = str(path.relative_to(root) if path.is_relative_to(root) else path)
                faults.error(item, "file missing", "there is no picture of this name beside the label file")


def _record(
    path: Path, root: Path, names: Mapping[int, str], shape: list[int] | None, faults: Faults
) -> Record | None:
    item = str(path.relative_to(root) if path.is_relative_to(root) else path)
    picture = open_picture(path, item, faults)
    if picture is None:
        return None
    labels = _label_file(path)
    if not labels.is_file():
        faults.warning(item, "label file missing", f"no {labels.name}: taken as a picture without objects")
    try:
        lines = read_text(labels).splitlines() if labels.is_file() else []
    except DataError as error:
        faults.error(item, "label file unreadable", str(error))
        return None
    reader = _LineReader(names, shape, (picture.width, picture.height), faults)
    things = tuple(reader.things(item, lines))
    return Record(key=item, source=path, width=picture.width, height=picture.height, things=things)


class _LineReader:
    def __init__(
        self, names: Mapping[int, str], shape: list[int] | None, size: tuple[int, int], faults: Faults
    ) -> None:
        self.names, self.shape, self.size, self.faults = names, shape, size, faults

    def things(self, picture: str, lines: list[str]) -> Iterator[Thing]:
        for number, line in enumerate(lines, start=1):
            item = f"{picture}, line {number}"
            if not line.strip():
                continue
            try:
                first, *rest = (float(word) for word in line.split())
            except ValueError:
                self.faults.error(item, "line malformed", line[:80])
                continue
            if first not in self.names:  # nor any fraction or infinity
                self.faults.error(item, "category unknown", f"class {first:g}")
                continue
            thing = self._thing(self.names[int(first)], rest, item)
            if thing is not None:
                yield thing

    def _thing(self, label: str, values: list[float], item: str) -> Thing | None:
        expected = 4 + self.shape[0] * self.shape[1] if self.shape else 4
        if len(values) == expected:
            return self._boxed(label, values, item)
        if self.shape is None and len(values) >= 6 and len(values) % 2 == 0:
            return self._outlined(label, values, item)
        self.faults.error(item, "line malformed", f"{len(values)} numbers after the class")
        return None

    def _boxed(self, label: str, values: list[float], item: str) -> Thing | None:
        wide, high = self.size
        x, y, width, height = (v * s for v, s in zip(values, (wide, high, wide, high), strict=False))
        corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        box = box_inside(corners, self.size, item, self.faults)
        if box is None:
            return None
        points: tuple[Triple, ...] | None = ()
        if self.shape:
            step, flat = self.shape[1], values[4:]
            scaled = [
                value
                for i in range(0, len(flat), step)
                for value in (flat[i] * wide, flat[i + 1] * high, flat[i + 2] if step == 3 else 2.0)
            ]
            order = [f"keypoint {number}" for number in range(self.shape[0])]
            points = points_inside(scaled, order, self.size, item, self.faults)
        return None if points is None else Thing(label=label, box=box, keypoints=points, area=box.area)

    def _outlined(self, label: str, values: list[float], item: str) -> Thing | None:
        wide, high = self.size
        scaled = [value * (wide, high)[place % 2] for place, value in enumerate(values)]
        mask: Mask | None = mask_of([scaled], self.size, item, self.faults)
        if mask is None:
            return None
        corners = (min(scaled[::2]), min(scaled[1::2]), max(scaled[::2]), max(scaled[1::2]))
        box: Box | None = box_inside(corners, self.size, item, self.faults)
        return None if box is None else Thing(label=label, box=box, mask=mask, area=float(mask.area))
