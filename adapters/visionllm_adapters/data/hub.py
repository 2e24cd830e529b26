"""Rows of the `datasets` library: an image column with objects, captions, questions or a class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from visionllm_adapters.data.faults import Faults
from visionllm_adapters.data.folders import CLASS_QUESTION
from visionllm_adapters.data.lines import from_entries
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
            rows = library.load_dataset(name.removeprefix(PREFIX), split=split)
        else:
            loaded = library.load_from_disk(name)
            rows = loaded[split] if isinstance(loaded, Mapping) else loaded
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"the data set cannot be loaded: {error}", value=name) from error
    return from_rows(rows, name=name)


def is_saved(source: Path) -> bool:
    """Whether a folder was written by the `datasets` library."""
    return any((source / name).is_file() for name in ("dataset_dict.json", "dataset_info.json"))


def from_rows(rows: Iterable[Mapping[str, Any]], *, name: str = "rows") -> DataSet:
    """A set from rows in memory, such as a `datasets.Dataset`.

    Rows hold `image` and one of: `objects` (`bbox` as x, y, width, height; `category` or `categories`),
    `question` and `answers`, `caption` or `text`, `label` (a class).

    Raises:
        DataError: no row, or columns of no known form.
    """
    classes = _class_names(rows)
    listed = [(f"row {number}", row) for number, row in enumerate(rows)]
    if not listed:
        raise DataError("the data set holds no row", value=name)
    if "objects" in listed[0][1]:
        return _detections(listed, classes.get("objects", ()), name)
    if "label" in listed[0][1] and not {"caption", "question"} & listed[0][1].keys():
        names = classes.get("label", ())
        listed = [
            (item, {"image": row["image"], "question": CLASS_QUESTION, "answer": _named(row["label"], names)})
            for item, row in listed
        ]
    return from_entries(listed, name=name, images=Path())


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


def _detections(rows: list[tuple[str, Mapping[str, Any]]], names: Sequence[str], name: str) -> DataSet:
    faults, records = Faults(), []
    for item, row in rows:
        image = row.get("image")
        source = image.get("bytes") or Path(str(image.get("path"))) if isinstance(image, Mapping) else image
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
    objects: Mapping[str, Any], size: tuple[int, int], item: str, names: Sequence[str], faults: Faults
) -> list[Thing]:
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
