"""Lists of entries about one picture each: conversations, questions, captions, expressions, edits.

A file of JSON lines or a JSON list; what an entry is follows from its keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeAlias

from visionllm_adapters.data.faults import Faults
from visionllm_adapters.data.reading import (
    box_inside,
    mask_of,
    name_of,
    numbers,
    open_picture,
    read_lines,
    text_of,
)
from visionllm_adapters.data.records import Change, DataSet, Exchange, Record, Reference, Thing
from visionllm_sdk.errors import DataError
from visionllm_sdk.images import LoadedImage

Entry: TypeAlias = Mapping[str, Any]
IMAGE: Final = ("image", "file_name", "image_path", "img", "before", "input_image", "original_image")
"""Keys under which an entry's picture may stand."""
_CAPTION: Final = ("caption", "text")
_ANSWER: Final = ("answers", "answer")
_EXPRESSION: Final = ("expressions", "expression", "sentences")
_INSTRUCTION: Final = ("instruction", "edit_prompt", "edit")
_AFTER: Final = ("after", "output_image", "edited_image", "target")


def is_lines(entry: Any) -> bool:
    """Whether an entry of a list is one that is read here."""
    return isinstance(entry, Mapping) and _form(entry) is not None


def read_entries(path: Path, images: Path | None = None) -> DataSet:
    """Read a file of entries.

    Args:
        path: JSON lines, or a JSON list.
        images: where the pictures lie; the file's own folder if not given.

    Raises:
        DataError: the file cannot be read, or its entries are of no known form.
    """
    return from_entries(read_lines(path), name=path.name, images=images or path.parent)


def from_entries(entries: Iterable[tuple[str, Any]], *, name: str, images: Path) -> DataSet:
    """A set of (name of the entry, entry) pairs; every entry is a record of its own.

    Raises:
        DataError: the entries are of no known form.
    """
    faults, records, forms = Faults(), [], set()
    for item, entry in entries:
        form = _form(entry) if isinstance(entry, Mapping) else None
        if form is None:
            keys = ", ".join(map(str, entry)) if isinstance(entry, Mapping) else type(entry).__name__
            faults.error(item, "entry unknown", f"its keys are {keys}")
            continue
        forms.add(form)
        record = _record(item, entry, form, images, faults)
        records += [record] if record is not None else []
    if not forms:
        raise DataError(
            "no entry is of a known form",
            value=name,
            limit="an image with `conversations`, `question` and `answer`, `caption`, `expression` and "
            "`bbox`, or `instruction` and `after`",
        )
    labels = dict.fromkeys(thing.label for record in records for thing in record.things or ())
    return DataSet(
        name=name,
        form=" and ".join(sorted(_FORMS[form][0] for form in forms)),
        records=tuple(records),
        labels=tuple(labels),
        faults=tuple(faults.found),
    )


def _form(entry: Entry) -> str | None:
    return next((name for name, (_, fits, _) in _FORMS.items() if fits(entry)), None)


def _record(item: str, entry: Entry, form: str, images: Path, faults: Faults) -> Record | None:
    name = first_of(entry, IMAGE)
    source = picture_in(name, images)
    if source is None:
        faults.error(item, "file missing", f"no picture among the keys {', '.join(map(str, entry))}")
        return None
    named = f"{item} ({name})" if isinstance(name, str) else item
    picture = open_picture(source, named, faults)
    if picture is None:
        return None
    blank = Record(key=named, source=source, width=picture.width, height=picture.height)
    return _FORMS[form][2](blank, entry, picture, images, faults)


def picture_in(value: Any, images: Path) -> Any:
    """What an entry says of a picture; None: nothing.

    Its name in a folder, or, in rows of the `datasets` library, a PIL image, or bytes or path in a dict.
    """
    if isinstance(value, Mapping):
        return value.get("bytes") or (Path(value["path"]) if value.get("path") else None)
    return images / value if isinstance(value, str) else value


def first_of(entry: Entry, names: Iterable[str]) -> Any:
    """The value of the first of several keys that an entry has; None without any."""
    return next((entry[name] for name in names if entry.get(name) is not None), None)


def _many(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


# -- one function per form ---------------------------------------------------------------------------------


def _conversation(record: Record, entry: Entry, _: LoadedImage, __: Path, faults: Faults) -> Record | None:
    """LLaVA: `conversations` of alternating `human` and `gpt` turns; `<image>` marks may stand in them."""
    turns = entry["conversations"]
    speakers = [turn.get("from") for turn in turns if isinstance(turn, Mapping)]
    pairs = len(turns) // 2
    if not pairs or speakers != ["human", "gpt"] * pairs:
        faults.error(record.key, "turns out of order", f"{speakers[:6]}, not human and gpt in turn")
        return None
    exchanges = []
    for asked, replied in zip(turns[::2], turns[1::2], strict=True):
        value = asked.get("value")
        said = value.replace("<image>", "") if isinstance(value, str) else value
        question = text_of(said, record.key, "question", faults)
        answer = text_of(replied.get("value"), record.key, "answer", faults)
        if question is None or answer is None:
            return None
        exchanges.append(Exchange(question, (answer,)))
    return replace(record, exchanges=tuple(exchanges))


def _question(record: Record, entry: Entry, _: LoadedImage, __: Path, faults: Faults) -> Record | None:
    question = text_of(entry["question"], record.key, "question", faults)
    given = [a.get("answer") if isinstance(a, Mapping) else a for a in _many(first_of(entry, _ANSWER))]
    answers = [text_of(str(a), record.key, "answer", faults) if a is not None else None for a in given]
    kept = tuple(answer for answer in answers if answer is not None)
    if not kept:
        faults.error(record.key, "answer missing", f"got {first_of(entry, _ANSWER)!r}")
    if question is None or not kept:
        return None
    return replace(record, exchanges=(Exchange(question, kept),))


def _caption(record: Record, entry: Entry, _: LoadedImage, __: Path, faults: Faults) -> Record | None:
    texts = [text_of(one, record.key, "caption", faults) for one in _many(first_of(entry, _CAPTION))]
    kept = tuple(text for text in texts if text is not None)
    if not texts:
        faults.error(record.key, "caption missing", "an empty list")
    return replace(record, captions=kept) if kept else None


def _expression(record: Record, entry: Entry, picture: LoadedImage, _: Path, faults: Faults) -> Record | None:
    size = (picture.width, picture.height)
    sides = numbers(entry["bbox"], 4, record.key, "box", faults)
    if sides is None:
        return None
    x, y, width, height = sides
    box = box_inside((x, y, x + width, y + height), size, record.key, faults)
    segmentation = entry.get("segmentation")
    mask = mask_of(segmentation, size, record.key, faults) if segmentation else None
    raw = _many(first_of(entry, _EXPRESSION))
    texts = [
        text_of(one.get("sent") if isinstance(one, Mapping) else one, record.key, "expression", faults)
        for one in raw
    ]
    if not texts:
        faults.error(record.key, "expression missing", "an empty list")
    if box is None or (segmentation and mask is None) or None in texts or not texts:
        return None
    label = name_of(entry.get("label")) or name_of(entry.get("category")) or "object"
    thing = Thing(label=label, box=box, mask=mask, area=float(mask.area if mask else box.area))
    return replace(record, references=tuple(Reference(text, thing) for text in texts if text))


def _edit(record: Record, entry: Entry, _: LoadedImage, images: Path, faults: Faults) -> Record | None:
    instruction = text_of(first_of(entry, _INSTRUCTION), record.key, "instruction", faults)
    after = picture_in(first_of(entry, _AFTER), images)
    if after is None:
        faults.error(record.key, "file missing", "no picture to be reached")
    if instruction is None or after is None:
        return None
    if open_picture(after, f"{record.key}, after", faults) is None:
        return None
    return replace(record, changes=(Change(instruction, after),))


_Read: TypeAlias = Callable[[Record, Entry, LoadedImage, Path, Faults], Record | None]
_FORMS: Final[Mapping[str, tuple[str, Callable[[Entry], bool], _Read]]] = {
    "conversation": (
        "LLaVA conversations",
        lambda e: isinstance(e.get("conversations"), list),
        _conversation,
    ),
    "edit": (
        "edit triples",
        lambda e: first_of(e, _INSTRUCTION) is not None and first_of(e, _AFTER) is not None,
        _edit,
    ),
    "question": (
        "questions",
        lambda e: "question" in e and first_of(e, _ANSWER) is not None,
        _question,
    ),
    "expression": (
        "expressions",
        lambda e: "bbox" in e and first_of(e, _EXPRESSION) is not None,
        _expression,
    ),
    "caption": ("captions", lambda e: first_of(e, _CAPTION) is not None, _caption),
}
"""Form -> its name, whether an entry has it, and its reader; the first that fits."""
