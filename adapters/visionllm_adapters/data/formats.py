"""One entry for all formats: what a path holds is seen from the path and its content."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from visionllm_adapters.data import coco, folders, hub, lines, yolo
from visionllm_adapters.data.reading import read_json
from visionllm_adapters.data.records import DataSet
from visionllm_sdk.errors import DataError

Source = str | os.PathLike[str] | DataSet | Iterable[Mapping[str, Any]]
"""Path of annotations or folder, `hub:owner/name`, rows in memory, or a set that is read already."""

_KNOWN = (
    f"COCO JSON or folders with {coco.EXPORTED}, a YOLO folder or data.yaml, LLaVA conversations (.json), "
    "JSON lines of captions, questions, expressions or edits (.jsonl), class folders, a saved `datasets` "
    "folder, hub:owner/name"
)


def read_data(
    source: Source, *, images: str | os.PathLike[str] | None = None, split: str = "train"
) -> DataSet:
    """Read labelled pictures of any supported format.

    Every picture is decoded, and every faulty item is named in `DataSet.faults`.

    Args:
        source: see `Source`.
        images: folder of the pictures, where the annotations do not lie beside them.
        split: which part of a set that has several (YOLO, `datasets`, COCO's refs or folders).

    Raises:
        DataError: no such file, or one of no known format.
    """
    if isinstance(source, DataSet):
        return source
    if isinstance(source, str) and source.startswith(hub.PREFIX):
        return hub.read_hub(source, split=split)
    if not isinstance(source, str | os.PathLike):
        if isinstance(source, Mapping) or not isinstance(source, Iterable):
            raise DataError(
                "this is no labelled data", value=type(source).__name__, limit=f"rows, or {_KNOWN}"
            )
        return hub.from_rows(source, images=None if images is None else Path(images))
    path, pictures = Path(source), None if images is None else Path(images)
    if pictures is not None and not pictures.is_dir():
        raise DataError("the folder of pictures does not exist", value=str(pictures))
    if os.path.isdir(path):  # unlike the methods of a path these take names of any length
        return _read_folder(path, split)
    if not os.path.isfile(path):
        raise DataError("there are no such annotations", value=str(path)[:300], limit=_KNOWN)
    if path.suffix.lower() in {".yaml", ".yml"}:
        return yolo.read_yolo(path, split=split)
    if path.suffix.lower() in {".jsonl", ".ndjson"}:
        return lines.read_entries(path, pictures)
    return _read_json_file(path, pictures, split)


def has_own_split(source: str | os.PathLike[str], split: str = "val") -> bool:
    """Whether a set holds a part to be validated on beside the one to be learnt."""
    path = Path(source)
    if path.is_dir() and hub.is_saved(path):
        return hub.has_split(path, split)
    if path.is_dir() and not _is_yolo(path) and coco.is_export(path):
        return coco.has_split(path, split)
    if path.suffix == ".json" and path.is_file():
        return coco.has_refs(path, split)
    described = path.suffix in {".yaml", ".yml"} and path.is_file()
    return (described or path.is_dir()) and yolo.has_split(path, split)


def _is_yolo(path: Path) -> bool:
    return any([*path.glob("*.yaml"), *path.glob("*.yml")]) or (path / "labels").is_dir()


def _read_folder(path: Path, split: str) -> DataSet:
    if hub.is_saved(path):
        return hub.read_hub(path, split=split)
    if _is_yolo(path):
        return yolo.read_yolo(path, split=split)
    if coco.is_export(path):
        return coco.read_export(path, split=split)
    for name in ("metadata.jsonl", "annotations.jsonl"):
        if (path / name).is_file():
            return lines.read_entries(path / name, path)
    if folders.is_class_folder(path):
        return folders.read_class_folder(path)
    raise DataError("the folder holds no known kind of labels", value=str(path), limit=_KNOWN)


def _read_json_file(path: Path, images: Path | None, split: str) -> DataSet:
    data = read_json(path)
    if coco.is_coco(data):
        return coco.read_coco(path, images, data=data, split=split)
    if isinstance(data, list) and (not data or any(lines.is_lines(entry) for entry in data)):
        return lines.read_entries(path, images)
    raise DataError("the annotations are of no known format", value=str(path), limit=_KNOWN)
