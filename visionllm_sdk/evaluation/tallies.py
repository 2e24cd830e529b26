"""Counting: shares, overlaps and F1, in total and per slice."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Figures = dict[str, int | float | None]
BoolArray = NDArray[np.bool_]


def share(hits: float, total: float) -> float | None:
    """`hits / total`, None when there is nothing to divide by."""
    return hits / total if total else None


@dataclass(slots=True)
class Tally:
    """Rights and wrongs per slice."""

    hits: Counter[str] = field(default_factory=Counter)
    totals: Counter[str] = field(default_factory=Counter)

    def add(self, part: str, right: bool) -> None:
        """Count one case of a slice."""
        self.hits[part] += right
        self.totals[part] += 1

    @property
    def overall(self) -> float | None:
        """Share of rights over all cases."""
        return share(self.hits.total(), self.totals.total())

    def rate(self, part: str) -> float | None:
        """Share of rights in a slice."""
        return share(self.hits[part], self.totals[part])

    def slices(self, figure: str) -> dict[str, Figures]:
        """Share and number of cases of every slice."""
        return {part: {figure: self.rate(part), "cases": self.totals[part]} for part in self.totals}


@dataclass(slots=True)
class Overlaps:
    """Intersections and unions per slice: cIoU is their ratio of sums, gIoU the mean of their ratios."""

    common: Counter[str] = field(default_factory=Counter)
    union: Counter[str] = field(default_factory=Counter)
    ratios: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, part: str, truth: BoolArray, found: BoolArray) -> float:
        """Count one pair of masks [H, W]; returns its IoU, 1 when both are empty."""
        common, union = int((truth & found).sum()), int((truth | found).sum())
        ratio = common / union if union else 1.0
        self.common[part] += common
        self.union[part] += union
        self.ratios[part].append(ratio)
        return ratio

    def cumulative(self, part: str | None = None) -> float | None:
        """cIoU of a slice, None for all of them together."""
        if part is None:
            return share(self.common.total(), self.union.total())
        return share(self.common[part], self.union[part])

    def mean(self, part: str | None = None) -> float | None:
        """gIoU of a slice, None for all of them together."""
        kept = list(self.ratios) if part is None else [part]
        values = [ratio for name in kept for ratio in self.ratios[name]]
        return share(sum(values), len(values))


@dataclass(slots=True)
class BagScore:
    """Precision and recall of bags: things may occur more than once."""

    both: int = 0
    wanted: int = 0
    given: int = 0

    def add(self, wanted: Counter[str], given: Counter[str]) -> None:
        """Count one pair of bags."""
        self.both += (wanted & given).total()
        self.wanted += wanted.total()
        self.given += given.total()

    @property
    def precision(self) -> float | None:
        """Share of the given that was wanted."""
        return share(self.both, self.given)

    @property
    def recall(self) -> float | None:
        """Share of the wanted that was given."""
        return share(self.both, self.wanted)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall over all bags."""
        return share(2 * self.both, self.wanted + self.given)
