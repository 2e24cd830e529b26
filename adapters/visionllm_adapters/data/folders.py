"""A folder of folders of pictures, each named by its class."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from visionllm_adapters.data.faults import Faults
from visionllm_adapters.data.reading import listed_pictures, open_picture
from visionllm_adapters.data.records import DataSet, Exchange, Record
from visionllm_sdk.errors import DataError

CLASS_QUESTION: Final = "What is in the image?"
"""How the class of a picture is asked for."""


def is_class_folder(source: Path) -> bool:
    """Whether every picture below lies in a folder of its class."""
    return source.is_dir() and any(
        child.is_dir() and child.name not in {"images", "labels"} and listed_pictures(child)
        for child in source.iterdir()
    )


def _class_of(folder: Path) -> str:
    return " ".join(folder.name.replace("_", " ").split())


def read_class_folder(source: Path) -> DataSet:
    """Read class folders; every picture becomes a question for its class.

    Args:
        source: holds one folder for each class.

    Raises:
        DataError: no such folder, or none with pictures.
    """
    if not is_class_folder(source):
        raise DataError("no folder of a class with pictures in it", value=str(source))
    faults, records = Faults(), []
    for path in listed_pictures(source):
        faults.warning(path.name, "picture without class", "left out: it lies in no folder of a class")
    classes = sorted(child for child in source.iterdir() if child.is_dir())
    for folder in classes:
        label = _class_of(folder)
        pictures = listed_pictures(folder)
        for path in listed_pictures(folder, deep=True):
            if path.parent != folder:
                item = str(path.relative_to(source))
                faults.warning(
                    item, "picture too deep", "left out: only the pictures of the class's own folder are read"
                )
        if not pictures:
            faults.warning(folder.name, "class without examples", "the folder holds no picture")
        for path in pictures:
            item = f"{folder.name}/{path.name}"
            picture = open_picture(path, item, faults)
            if picture is not None:
                records.append(
                    Record(
                        key=item,
                        source=path,
                        width=picture.width,
                        height=picture.height,
                        exchanges=(Exchange(CLASS_QUESTION, (label,)),),
                    )
                )
    return DataSet(
        name=source.name,
        form="class folders",
        records=tuple(records),
        labels=tuple(map(_class_of, classes)),
        faults=tuple(faults.found),
    )
