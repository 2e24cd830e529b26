"""Random choices that are the same on every platform and with every numpy.

Everything is derived from one documented stream of doubles (PCG64), never from numpy's higher-level
distributions, whose algorithms may change between versions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Dice:
    """A stream of random choices from an integer seed.

    Args:
        seed: any non-negative integer.
        stream: tells independent uses of one seed apart.
    """

    def __init__(self, seed: int, *, stream: int = 0) -> None:
        sequence = np.random.SeedSequence((seed, stream))
        self._next = np.random.Generator(np.random.PCG64(sequence)).random

    def random(self) -> float:
        """A number in [0, 1)."""
        return self._next()

    def uniform(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * self._next()

    def integer(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return low + int((high - low + 1) * self._next())

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self._next() < probability

    def choice(self, options: Sequence[T]) -> T:
        """One of the options, all equally likely."""
        return options[int(len(options) * self._next())]

    def weighted(self, weights: Sequence[float]) -> int:
        """An index, drawn in proportion to its weight."""
        mark = self._next() * sum(weights)
        for index, weight in enumerate(weights):
            mark -= weight
            if mark < 0:
                return index
        return len(weights) - 1

    def seed(self) -> int:
        """A fresh seed for a part that draws its own numbers."""
        return int(self._next() * 2**32)
