"""Rows of the `datasets` library: an image column with objects, captions, questions or a class."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from visionllm_adapters.data.faults import Faults
from visionllm_adapters.data.folders import CLASS_QUESTION
from visionllm_adapters.data.lines import IMAGE, first_of, from_entries, picture_in
from visionllm_adapters.data.reading import box_inside, numbers, open_picture
from visionllm_adapters.data.records import DataSet, Record, Thing
from visionllm_sdk.errors import DataError
from visionllm_sdk.extras import import_extra

PREFIX: Final = "hub:"


def read_hub(source: str | Path, *, split: str = "train") -> DataSet:
    """Load a set of the `datasets` library.

    Args:
        source: `hub:owner/name` on the hub or in its cache, or a folder written by `save_to_disk`.
        split: which part.

    Raises:
        DataError: it cannot be loaded, or its columns are of no known form.
        MissingExtraError: the `datasets` package is not installed.
    """
    library = import_extra("datasets", extra="datasets")
    name = str(source)
    try:
        if name.startswith(PREFIX):
            rows = _from_hub(library, name.removeprefix(PREFIX), split)
        else:
            rows = part_of(library.load_from_disk(name), split, name)
    except (OSError, ValueError) as error:
        raise DataError(
            f"the data set cannot be loaded: {error}", value=name, remedy="Correct the name or the split."
        ) from error
    return from_rows(rows, name=name)


def _from_hub(library: Any, name: str, split: str) -> Any:
    *others, last = _spellings(split)
    for spelling in others:
        try:
            return library.load_dataset(name, split=spelling)
        except ValueError as error:
            if "split" not in str(error):
                raise
    return library.load_dataset(name, split=last)


def part_of(loaded: Any, split: str, name: str) -> Any:
    """The split of a saved set; a set without splits is taken whole."""
    if not isinstance(loaded, Mapping):
        return loaded
    found = next((loaded[spelling] for spelling in _spellings(split) if spelling in loaded), None)
    if found is None:
        raise DataError(
            f"the data set has no split {split!r}",
            value=name,
            limit=", ".join(loaded),
            remedy="Name one of these.",
        )
    return found


def _spellings(split: str) -> tuple[str, ...]:
    """What sets of the library call it: most of them say `validation`."""
    return (split, "validation") if split == "val" else (split,)


def has_split(folder: Path, split: str) -> bool:
    """Whether a saved set has a split."""
    path = folder / "dataset_dict.json"
    names = json.loads(path.read_text(encoding="utf-8")).get("splits", ()) if path.is_file() else ()
    return any(spelling in names for spelling in _spellings(split))


def is_saved(source: Path) -> bool:
    """Whether a folder was written by the `datasets` library."""
    return any((source / name).is_file() for name in ("dataset_dict.json", "dataset_info.json"))


def from_rows(
    rows: Iterable[Mapping[str, Any]], *, name: str = "rows", images: Path | None = None
) -> DataSet:
    """A set from rows in memory, such as a `datasets.Dataset`.

    Rows hold `image` and one of: `objects` (`bbox` as x, y, width, height; `category` or `categories`; or a
    list of such, one of each), `question` and `answers`, `caption` or `text`, `label` (a class).

    Args:
        rows: one mapping a picture.
        name: of the set, for messages.
        images: folder of the pictures that rows name.

    Raises:
        DataError: no row, or columns of no known form.
    """
    classes = _class_names(rows)
    listed = [(f"row {number}", row) for number, row in enumerate(rows)]
    if not listed:
        raise DataError("the data set holds no row", value=name)
    if "objects" in listed[0][1]:
        return _detections(listed, classes.get("objects", ()), name, images or Path())
    if "label" in listed[0][1] and not {"caption", "question"} & listed[0][1].keys():
        names = classes.get("label", ())
        listed = [
            (item, {**row, "question": CLASS_QUESTION, "answer": _named(row["label"], names)})
            for item, row in listed
        ]
    return from_entries(listed, name=name, images=images or Path())


def _class_names(rows: Any) -> dict[str, Sequence[str]]:
    """Names behind class numbers, as the columns of a `datasets.Dataset` tell them."""
    features = getattr(rows, "features", None) or {}
    found: dict[str, Sequence[str]] = {}
    if "label" in features and getattr(features["label"], "names", None):
        found["label"] = features["label"].names
    objects = features.get("objects")
    inner = getattr(objects, "feature", objects)
    for column in ("category", "categories", "label"):
        feature = inner.get(column) if isinstance(inner, Mapping) else None
        names = getattr(getattr(feature, "feature", feature), "names", None)
        if names:
            found["objects"] = names
    return found


def _named(value: Any, names: Sequence[str]) -> str:
    return str(names[value]) if isinstance(value, int) and 0 <= value < len(names) else str(value)


def _detections(
    rows: list[tuple[str, Mapping[str, Any]]], names: Sequence[str], name: str, images: Path
) -> DataSet:
    faults, records = Faults(), []
    for item, row in rows:
        source = picture_in(first_of(row, IMAGE), images)
        if source is None:
            faults.error(item, "file missing", "the row has no image")
            continue
        picture = open_picture(source, item, faults)
        if picture is None:
            continue
        size = (picture.width, picture.height)
        things = tuple(_things(row["objects"], size, item, names, faults))
        records.append(Record(key=item, source=source, width=size[0], height=size[1], things=things))
    labels = dict.fromkeys([*names, *(thing.label for record in records for thing in record.things or ())])
    return DataSet(
        name=name,
        form="rows with objects",
        records=tuple(records),
        labels=tuple(labels),
        faults=tuple(faults.found),
    )


def _things(
    objects: Any, size: tuple[int, int], item: str, names: Sequence[str], faults: Faults
) -> list[Thing]:
    if isinstance(objects, list):  # one mapping an object instead of one list a column
        objects = {key: [one.get(key) for one in objects] for key in (objects[0] if objects else {})}
        objects = objects or {"bbox": [], "category": []}
    labels = next((objects[key] for key in ("category", "categories", "label") if key in objects), None)
    boxes = objects.get("bbox", [])
    if labels is None or len(labels) != len(boxes):
        faults.error(item, "labels missing", f"{len(boxes)} boxes, {len(labels or ())} classes")
        return []
    things = []
    for number, (label, box) in enumerate(zip(labels, boxes, strict=True)):
        own = f"{item}, object {number}"
        sides = numbers(list(box), 4, own, "box", faults)
        if sides is None:
            continue
        x, y, width, height = sides
        inside = box_inside((x, y, x + width, y + height), size, own, faults)
        if inside is not None:
            things.append(Thing(label=_named(label, names), box=inside, area=inside.area))
    return things
