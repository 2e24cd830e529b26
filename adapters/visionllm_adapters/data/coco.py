"""COCO JSON: boxes, polygons, run-length codes, keypoints - and expressions, where annotations carry some."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from visionllm_adapters.data.faults import Faults
from visionllm_adapters.data.reading import (
    name_of,
    numbers,
    open_picture,
    points_inside,
    read_json,
    thing_of,
)
from visionllm_adapters.data.records import DataSet, Record, Reference, Thing, Triple
from visionllm_sdk.errors import DataError

_LISTS = ("images", "annotations", "categories", "refs")
_IDS = ("id", "image_id", "category_id", "ann_id", "file_name", "split")
_EXPRESSIONS = ("expression", "expressions", "sentences", "caption", "captions")
EXPORTED: Final = "_annotations.coco.json"
"""What annotations are called in an export that has a folder for each split."""


def is_coco(data: Any) -> bool:
    """Whether parsed JSON has COCO's form."""
    return isinstance(data, Mapping) and {"images", "annotations"} <= data.keys()


def read_coco(path: Path, images: Path | None = None, *, data: Any = None, split: str = "train") -> DataSet:
    """Read a COCO file.

    Expressions are taken from annotations (`expression`, `sentences`), from the list `refs` of RefCOCO
    (`ann_id`, `sentences`, `split`), or from the captions of images that have one annotation. Annotations
    of a caption and no box describe their image. Where refs name splits, images without one of the split
    asked for are left out.

    Args:
        path: the JSON file.
        images: where the pictures lie; the file's own folder if not given.
        data: its content, if already parsed.
        split: which refs, where they name one.

    Raises:
        DataError: the file is not COCO JSON, or its refs are all of other splits.
    """
    content = read_json(path) if data is None else data
    if not is_coco(content):
        raise DataError(
            "this is not COCO JSON", value=str(path), limit="an object with `images` and `annotations`"
        )
    for part in _LISTS:
        entries = content.get(part)
        if part in {"images", "annotations"} or entries is not None:
            _check_entries(entries, part, path)
    return _CocoReader(content, path, images or path.parent, split).read()


def has_refs(path: Path, split: str) -> bool:
    """Whether a JSON file has refs of a split, as RefCOCO's are."""
    content = read_json(path)
    refs = content.get("refs") if is_coco(content) else None
    return isinstance(refs, list) and any(isinstance(r, Mapping) and r.get("split") == split for r in refs)


def is_export(source: Path) -> bool:
    """Whether a folder is an export: annotations in it, or in a folder for each split."""
    return (source / EXPORTED).is_file() or any(source.glob(f"*/{EXPORTED}"))


def has_split(source: Path, split: str) -> bool:
    """Whether an export has a folder of a split."""
    return _exported(source, split) is not None


def read_export(source: Path, *, split: str = "train") -> DataSet:
    """Read an export; one without a folder for each split is read whole.

    Raises:
        DataError: it has no such split, or the file in it is not COCO JSON.
    """
    path = source / EXPORTED if (source / EXPORTED).is_file() else _exported(source, split)
    if path is None:
        raise DataError(
            f"the data set has no split {split!r}",
            value=str(source),
            limit=", ".join(sorted(path.parent.name for path in source.glob(f"*/{EXPORTED}"))),
            remedy="Name one of these, or the JSON file itself.",
        )
    return replace(read_coco(path, split=split), name=f"{source.name} ({split})")


def _exported(source: Path, split: str) -> Path | None:
    names = ("val", "valid", "validation") if split == "val" else (split,)
    return next((path for name in names if (path := source / name / EXPORTED).is_file()), None)


def _check_entries(entries: Any, part: str, path: Path) -> None:
    fits = isinstance(entries, list) and all(isinstance(entry, Mapping) for entry in entries)
    if not fits:
        raise DataError(
            f"`{part}` of the COCO file is no list of objects",
            value=str(entries)[:80],
            limit='[{"id": 1, ...}, ...]',
            remedy=f"Correct {path.name}.",
        )
    for entry in entries:
        for key in _IDS:
            if not isinstance(entry.get(key), Hashable):
                raise DataError(
                    f"`{key}` of an entry of `{part}` is neither a number nor text",
                    value=str(entry[key])[:80],
                    limit='"id": 1',
                    remedy=f"Correct {path.name}.",
                )


class _CocoReader:
    def __init__(self, content: Mapping[str, Any], path: Path, images: Path, split: str) -> None:
        self.content = content
        self.path = path
        self.images = images
        self.faults = Faults()
        categories: list[Mapping[str, Any]] = content.get("categories") or [{"id": 1, "name": "object"}]
        self.faults.repeated(((f"category {c.get('id')}", c.get("id")) for c in categories), "duplicate id")
        named: list[dict[str, Any]] = [{**c, "name": name_of(c.get("name"))} for c in categories]
        for c, spelt in zip(categories, named, strict=True):
            if "id" not in c or spelt["name"] is None:
                told = f"name {c['name']!r}" if "name" in c else f"its keys are {', '.join(c)}"
                self.faults.error(f"category {c.get('id', '?')}", "category unnamed", told)
        categories = [c for c in named if "id" in c and c["name"] is not None]
        self.names: dict[Any, str] = {c["id"]: c["name"] for c in categories}
        posed = [c for c in categories if c.get("keypoints") and _names_keypoints(c, self.faults)]
        self.keypoints = {c["name"]: tuple(map(str, c["keypoints"])) for c in posed}
        self.skeletons = {c["name"]: _bones(c, self.faults) for c in posed if c.get("skeleton")}
        refs = content.get("refs") or []
        own = self._of_split(refs, split)
        self.chosen = self._images_of(own) if any("split" in ref for ref in refs) else None
        self.refs: dict[Any, list[str]] = defaultdict(list)
        for ref in own:
            self.refs[ref.get("ann_id")] += _expressions_of(ref)

    def _of_split(self, refs: list[Mapping[str, Any]], split: str) -> list[Mapping[str, Any]]:
        own = [ref for ref in refs if ref.get("split", split) == split]
        if refs and not own:
            raise DataError(
                f"the refs have no split {split!r}",
                value=str(self.path),
                limit=", ".join(sorted({str(ref["split"]) for ref in refs})),
                remedy="Name one of these.",
            )
        return own

    def _images_of(self, refs: list[Mapping[str, Any]]) -> set[Any]:
        """Ids of the images that refs speak of: other images may belong to another split."""
        images = {e["id"]: e.get("image_id") for e in self.content["annotations"] if "id" in e}
        return {images.get(ref.get("ann_id"), ref.get("image_id")) for ref in refs}

    def read(self) -> DataSet:
        entries = self.content["images"]
        self.faults.repeated(((_image_name(e), e.get("id")) for e in entries), "duplicate id")
        again = self.faults.repeated(
            ((_image_name(e), e.get("file_name")) for e in entries), "duplicate file"
        )
        annotations = self._by_image({entry.get("id") for entry in entries})
        records, seen = [], set()
        for place, entry in enumerate(entries):
            if entry.get("id") in seen or place in again:
                continue
            if self.chosen is not None and entry.get("id") not in self.chosen:
                continue
            seen.add(entry.get("id"))
            record = self._record(entry, annotations[entry.get("id")])
            records += [record] if record is not None else []
        return DataSet(
            name=self.path.name,
            form="COCO JSON",
            records=tuple(records),
            labels=tuple(dict.fromkeys(self.names.values())),
            keypoints=self.keypoints,
            skeletons=self.skeletons,
            faults=tuple(self.faults.found),
        )

    def _by_image(self, known: set[Any]) -> dict[Any, list[Mapping[str, Any]]]:
        grouped: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
        entries = self.content["annotations"]
        ids = [(_name(e), e.get("id", f"none, place {place}")) for place, e in enumerate(entries)]
        again = self.faults.repeated(ids, "duplicate id")
        for place, entry in enumerate(entries):
            if place in again:
                continue
            if entry.get("image_id") in known:
                grouped[entry["image_id"]].append(entry)
            else:
                self.faults.error(_name(entry), "image unknown", f"no image has id {entry.get('image_id')!r}")
        return grouped

    def _record(self, entry: Mapping[str, Any], annotations: list[Mapping[str, Any]]) -> Record | None:
        item = _image_name(entry)
        picture = open_picture(self.images / str(entry.get("file_name")), item, self.faults)
        if picture is None:
            return None
        size = (picture.width, picture.height)
        said = (entry.get("width", size[0]), entry.get("height", size[1]))
        if said != size:
            self.faults.error(
                item,
                "size differs",
                f"the file says {said[0]} x {said[1]}, the picture is {size[0]} x {size[1]}",
            )
            return None
        said_of_all = [a for a in annotations if _describes(a)]
        boxed = [a for a in annotations if not _describes(a)]
        found = [(a, thing) for a in boxed if (thing := self._thing(a, size)) is not None]
        references = [Reference(text, thing) for a, thing in found for text in self._expressions(a)]
        captions = _expressions_of(entry)
        if captions and len(found) == 1:  # one expression an image, as in the MDETR files
            references += [Reference(text, found[0][1]) for text in captions]
            captions = []
        captions += [text for a in said_of_all for text in _expressions_of(a)]
        return Record(
            key=str(entry.get("file_name")),
            source=self.images / str(entry["file_name"]),
            width=size[0],
            height=size[1],
            things=None if said_of_all and not boxed else tuple(thing for _, thing in found),
            references=tuple(references),
            captions=tuple(captions),
        )

    def _thing(self, entry: Mapping[str, Any], size: tuple[int, int]) -> Thing | None:
        item = _name(entry)
        if "category_id" not in entry and len(self.names) > 1:
            self.faults.error(item, "category missing", f"one of {', '.join(self.names.values())}")
            return None
        category = entry.get("category_id", next(iter(self.names), None))
        if category not in self.names:
            self.faults.error(item, "category unknown", f"no category has id {category!r}")
            return None
        label = self.names[category]
        thing = thing_of(entry, label, size, item, self.faults)
        points = self._points(entry, label, size)
        return None if thing is None or points is None else replace(thing, keypoints=points)

    def _points(
        self, entry: Mapping[str, Any], label: str, size: tuple[int, int]
    ) -> tuple[Triple, ...] | None:
        """Keypoints; () where there are none, None with a fault where they do not fit the category."""
        values = entry.get("keypoints")
        if not values:
            return ()
        item, names = _name(entry), self.keypoints.get(label, ())
        flat = numbers(values, 3 * len(names), item, "keypoints", self.faults)
        if flat is None:
            return None
        return points_inside(flat, names, size, item, self.faults)

    def _expressions(self, entry: Mapping[str, Any]) -> list[str]:
        return _expressions_of(entry) + self.refs.get(entry.get("id"), [])


def _describes(entry: Mapping[str, Any]) -> bool:
    """Whether an annotation is about its whole image, as in COCO's caption files."""
    return not {"bbox", "segmentation", "category_id"} & entry.keys() and bool(_expressions_of(entry))


def _expressions_of(entry: Mapping[str, Any]) -> list[str]:
    """Texts of an entry: one, a list, or RefCOCO's list of `{"sent": ...}`."""
    texts: list[str] = []
    for name in _EXPRESSIONS:
        value = entry.get(name)
        for one in value if isinstance(value, list) else [value]:
            text = one.get("sent", one.get("raw")) if isinstance(one, Mapping) else one
            texts += [" ".join(text.split())] if isinstance(text, str) and text.strip() else []
    return list(dict.fromkeys(texts))


def _names_keypoints(category: Mapping[str, Any], faults: Faults) -> bool:
    """Whether a category's keypoints are a list of names, all unlike; False with a fault."""
    names = category["keypoints"]
    fits = isinstance(names, list) and all(isinstance(name, str | int) for name in names)
    if not fits or len(set(map(str, names))) < len(names):
        problem = f"{str(names)[:80]} is no list of unlike names"
        faults.error(f"category {category['id']}", "keypoints malformed", problem)
        return False
    return True


def _bones(category: Mapping[str, Any], faults: Faults) -> tuple[tuple[str, str], ...]:
    """Names of the keypoints to be joined; what is no pair of their numbers is left out, with a warning."""
    names, said = category["keypoints"], category["skeleton"]
    known, bones = range(1, len(names) + 1), []
    for pair in said if isinstance(said, list) else [said]:
        if isinstance(pair, list) and len(pair) == 2 and all(number in known for number in pair):
            a, b = (str(names[int(number) - 1]) for number in pair)
            bones.append((a, b))
        else:
            problem = f"{str(pair)[:80]} is no pair of numbers from 1 to {len(names)}"
            faults.warning(f"category {category['id']}", "skeleton malformed", problem)
    return tuple(bones)


def _name(entry: Mapping[str, Any]) -> str:
    return f"annotation {entry.get('id', '?')} (image {entry.get('image_id', '?')})"


def _image_name(entry: Mapping[str, Any]) -> str:
    return f"image {entry.get('id', '?')} ({entry.get('file_name', 'without file name')})"
