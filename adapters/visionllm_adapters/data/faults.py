"""What is wrong with a data set, item by item; nothing is left out without being named here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from visionllm_sdk.errors import DataError

_SHOWN: Final = 8

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        item: names the item: file, line, id.
        kind: what sort of fault, for counting: `file missing`, `box outside`, ...
        problem: what exactly, with the values.
        severity: items with an error cannot be learnt from; a warning leaves the item usable.
    """

    item: str
    kind: str
    problem: str
    severity: Severity = "error"

    def __str__(self) -> str:
        return f"{self.item}: {self.kind}: {self.problem}"

    def as_dict(self) -> dict[str, str]:
        """JSON-safe."""
        return {
            "item": self.item,
            "kind": self.kind,
            "problem": self.problem,
            "severity": self.severity,
        }


@dataclass(slots=True)
class Faults:
    """Collects faults while a data set is read."""

    found: list[Fault] = field(default_factory=list)

    def error(self, item: str, kind: str, problem: str) -> None:
        """An item that cannot be learnt from."""
        self.found.append(Fault(item, kind, problem))

    def warning(self, item: str, kind: str, problem: str) -> None:
        """Something to look at."""
        self.found.append(Fault(item, kind, problem, "warning"))

    def repeated(self, values: Iterable[tuple[str, Any]], kind: str) -> set[int]:
        """One error for every value that occurs again; pairs of (item, value). Returns their places."""
        first: dict[Any, str] = {}
        again = set()
        for place, (item, value) in enumerate(values):
            if value in first:
                self.error(item, kind, f"{value!r} is also that of {first[value]}")
                again.add(place)
            first.setdefault(value, item)
        return again


def errors(faults: Iterable[Fault]) -> list[Fault]:
    """Those that make an item unusable."""
    return [fault for fault in faults if fault.severity == "error"]


def counted(faults: Iterable[Fault]) -> dict[str, int]:
    """Number of faults of every kind, most frequent first."""
    return dict(Counter(fault.kind for fault in faults).most_common())


def raise_for(faults: Sequence[Fault], source: str) -> None:
    """Refuse a set that has faulty items.

    Raises:
        DataError: names how many items of each kind, and the first few.
    """
    bad = errors(faults)
    if not bad:
        return
    kinds = ", ".join(f"{number} x {kind}" for kind, number in counted(bad).items())
    listed = "; ".join(map(str, bad[:_SHOWN]))
    more = f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    raise DataError(
        f"{source} has {len(bad)} faulty item(s) ({kinds}): {listed}{more}",
        remedy="Correct them (`visionllm data check` lists all), or skip them, counted, with --skip-faulty.",
    )
