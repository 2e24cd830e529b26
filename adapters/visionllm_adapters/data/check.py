"""`visionllm data check`: everything that is wrong with a set, before any time is spent on training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from PIL import Image

from visionllm_adapters.data.faults import Fault, Faults, counted, errors
from visionllm_adapters.data.records import DataSet
from visionllm_adapters.data.sheet import draw_sheet
from visionllm_sdk.errors import DataError

_LONG_LABEL: Final = 60
_LONGEST_LABEL: Final = 400
"""Characters from which a label is no name: it would cost more than the picture."""
_TINY: Final = 4.0
"""Pixels below which a side of a box is hardly visible."""


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """What a check has found.

    Attributes:
        name: of the set.
        form: its format.
        pictures: usable ones.
        counts: things by class.
        other: numbers of references, questions, captions and edits.
        faults: of the items, of the set as a whole, and of its relation to the validation set.
        sheet: pictures with their labels; None if there is nothing to draw.
    """

    name: str
    form: str
    pictures: int
    counts: dict[str, int]
    other: dict[str, int]
    faults: tuple[Fault, ...]
    sheet: Image.Image | None = None

    @property
    def passed(self) -> bool:
        """Whether every item can be learnt from."""
        return not errors(self.faults)

    def as_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        return {
            "name": self.name,
            "form": self.form,
            "pictures": self.pictures,
            "classes": self.counts,
            **self.other,
            "passed": self.passed,
            "fault_counts": counted(self.faults),
            "faults": [fault.as_dict() for fault in self.faults],
        }

    def raise_if_broken(self) -> None:
        """Refuse what cannot be trained on even without its faulty items.

        Raises:
            DataError: no usable picture, or one that both sets share.
        """
        fatal = [fault for fault in self.faults if fault.kind in {"empty set", "leak", "label unusable"}]
        if fatal:
            raise DataError(
                f"{self.name} cannot be used: {fatal[0]}"
                + (f"; and {len(fatal) - 1} more" if len(fatal) > 1 else ""),
                remedy="Run `visionllm data check` for the whole list.",
            )


def check(
    data: DataSet,
    validation: DataSet | None = None,
    *,
    sheet: int = 24,
    edges: tuple[int, int] | None = None,
) -> DataReport:
    """Check a set, and its relation to the set it is validated on.

    Args:
        data: what is to be learnt from.
        validation: what the result is to be measured on.
        sheet: most pictures on the contact sheet; 0 draws none.
        edges: shortest and longest edge of the decoder's input, so that the sheet shows what it will see.
    """
    faults = Faults([*data.faults])
    _check_set(data, faults)
    _check_pictures(data, faults)
    if validation is not None:
        faults.found += [Fault(f"{validation.name}, {f.item}", f.kind, f.problem, f.severity)
                         for f in validation.faults]  # fmt: skip
        _check_set(validation, faults)
        _check_leakage(data, validation, faults)
    return DataReport(
        name=data.name,
        form=data.form,
        pictures=len(data),
        counts=data.counts,
        other={
            word: sum(len(getattr(record, word)) for record in data.records)
            for word in ("references", "exchanges", "captions", "changes")
        },
        faults=tuple(faults.found),
        sheet=draw_sheet(data, limit=sheet, edges=edges) if sheet else None,
    )


def _check_set(data: DataSet, faults: Faults) -> None:
    if not data.records:
        faults.error(data.name, "empty set", "no usable picture")
        return
    for label, number in data.counts.items():
        if not number and any(record.things for record in data.records):
            faults.warning(data.name, "class without examples", label)
    if len(data.labels) == 1 and data.counts[data.labels[0]]:
        faults.warning(
            data.name, "one class only", f"{data.labels[0]}: the model is never shown what is not one"
        )
    for label in data.twins():
        faults.error(data.name, "label unusable", f"{label!r} differs from another class in case alone")
    for label in data.labels:
        if len(label) > _LONGEST_LABEL:
            problem = f"{label[:_LONG_LABEL]}... has {len(label)} characters, at most {_LONGEST_LABEL}"
            faults.error(data.name, "label unusable", problem)
        elif len(label) > _LONG_LABEL:
            faults.warning(data.name, "label too long", f"{label[:_LONG_LABEL]}...: use a name")


def _check_pictures(data: DataSet, faults: Faults) -> None:
    first: dict[str, str] = {}
    for record in data.records:
        digest = record.load().digest
        if digest in first and data.form in {"COCO JSON", "YOLO folder", "class folders"}:
            faults.warning(record.key, "duplicate picture", f"the same pixels as {first[digest]}")
        first.setdefault(digest, record.key)
        for thing in record.learnable:
            if min(thing.box.width, thing.box.height) < _TINY:
                faults.warning(
                    record.key, "box tiny", f"{thing.label}, {thing.box.width:.1f} x {thing.box.height:.1f}"
                )


def _check_leakage(data: DataSet, validation: DataSet, faults: Faults) -> None:
    known = {record.load().digest: record.key for record in data.records}
    for record in validation.records:
        twin = known.get(record.load().digest)
        if twin is not None:
            faults.error(
                f"{validation.name}, {record.key}", "leak", f"the same picture is trained on: {twin}"
            )


def save_report(report: DataReport, folder: Path) -> list[Path]:
    """Write `data.json`, and `sheet.png` where there is one; returns the paths."""
    import json

    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = [folder / "data.json"]
    paths[0].write_text(json.dumps(report.as_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if report.sheet is not None:
        paths.append(folder / "sheet.png")
        report.sheet.save(paths[1])
    return paths


def lines_of(report: DataReport, *, limit: int = 50) -> Sequence[str]:
    """The report in plain lines for a terminal."""
    lines = [f"{report.name}: {report.form}, {report.pictures} usable picture(s)"]
    lines += [f"  {label}: {number}" for label, number in report.counts.items()]
    lines += [f"  {word}: {number}" for word, number in report.other.items() if number]
    for fault in report.faults[:limit]:
        lines.append(f"{fault.severity.upper()} {fault}")
    if len(report.faults) > limit:
        lines.append(f"... and {len(report.faults) - limit} more (all with --json)")
    bad = len(errors(report.faults))
    lines.append("no faulty item" if report.passed else f"{bad} faulty item(s)")
    return lines
