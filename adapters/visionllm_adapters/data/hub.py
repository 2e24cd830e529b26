"""Rows of the `datasets` library: an image column with objects, captions, questions or a class."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, Final

from visionllm_adapters.data.faults import Faults
from visionllm_adapters.data.folders import CLASS_QUESTION
from visionllm_adapters.data.lines import IMAGE, first_of, from_entries, picture_in
from visionllm_adapters.data.reading import name_of, open_picture, thing_of
from visionllm_adapters.data.records import DataSet, Record, Thing
from visionllm_sdk.errors import DataError
from visionllm_sdk.extras import import_extra

PREFIX: Final = "hub:"
_CLASS: Final = ("category", "categories", "label")
"""Keys under which an object's class may stand."""
_COLUMNS: Final = ("bbox", "segmentation", "area", "iscrowd", *_CLASS)
"""What is read of an object."""


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

    Rows hold `image` and one of: `objects` (`bbox` as x, y, width, height; `category` or `categories`;
    `segmentation`, `area` and `iscrowd` as COCO has them; or a list of such, one of each), `question` and
    `answers`, `caption` or `text`, `label` (a class).

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
    if odd := [(item, row) for item, row in listed if not isinstance(row, Mapping)]:
        raise DataError(
            f"{odd[0][0]} of the data set is no mapping of columns",
            value=f"{odd[0][1]!r}"[:80],
            limit='{"image": ..., "caption": ...}',
        )
    if "objects" in listed[0][1]:
        return _detections(listed, classes.get("objects", ()), name, images or Path())
    if "label" in listed[0][1] and not {"caption", "question"} & listed[0][1].keys():
        names = classes.get("label", ())
        listed = [
            (item, {**row, "question": CLASS_QUESTION, "answer": _named(row.get("label"), names)})
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
    for column in _CLASS:
        feature = inner.get(column) if isinstance(inner, Mapping) else None
        names = getattr(getattr(feature, "feature", feature), "names", None)
        if names:
            found["objects"] = names
    return found


def _named(value: Any, names: Sequence[str]) -> str | None:
    """The name of a class that is told by its number or by itself; None where there is none."""
    if names and isinstance(value, Integral):  # arrays have integers of their own; -1 says "not labelled"
        return name_of(names[int(value)]) if 0 <= int(value) < len(names) else None
    return name_of(_plain(value))


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
        things = tuple(_things(row.get("objects"), size, item, names, faults))
        records.append(Record(key=item, source=source, width=size[0], height=size[1], things=things))
    known = [label for name in names if (label := name_of(name)) is not None]
    labels = dict.fromkeys([*known, *(thing.label for record in records for thing in record.things or ())])
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
    things = []
    for number, entry in enumerate(_entries(objects, item, faults)):
        own = f"{item}, object {number}"
        label = _named(first_of(entry, _CLASS), names)
        if label is None:
            faults.error(own, "category missing", f"its keys are {', '.join(map(str, entry))}")
            continue
        thing = thing_of(entry, label, size, own, faults)
        things += [thing] if thing is not None else []
    return things


def _entries(objects: Any, item: str, faults: Faults) -> list[dict[str, Any]]:
    """One mapping an object, of such a list or of one list a column; none, with a fault, if it is neither."""
    if isinstance(objects, Mapping):
        columns = {name: _plain(objects[name]) for name in _COLUMNS if objects.get(name) is not None}
        lengths = {len(column) if isinstance(column, list) else None for column in columns.values()}
        if len(lengths) > 1 or None in lengths or ("bbox" not in columns and objects):
            told = ", ".join(f"{name}: {str(column)[:40]}" for name, column in objects.items())
            faults.error(item, "objects malformed", f"`bbox` and others are no lists of one length: {told}")
            return []
        objects = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if not isinstance(objects, list | tuple) or not all(isinstance(one, Mapping) for one in objects):
        faults.error(item, "objects malformed", f"{str(objects)[:80]} is no list of objects")
        return []
    return [{name: _plain(value) for name, value in one.items()} for one in objects]


def _plain(value: Any) -> Any:
    """Lists and numbers of Python's own in place of those of arrays."""
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value.tolist() if hasattr(value, "tolist") else value
