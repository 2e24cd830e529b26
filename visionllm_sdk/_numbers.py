"""Numbers as callers pass them - Python's, numpy's, tensors of one element - as Python's own."""

from __future__ import annotations

import math
import operator
from numbers import Real
from typing import Any

__all__ = ["as_real", "as_whole"]


def as_whole(value: Any) -> int | None:
    """A whole number of any integer type as an int; None for anything else, such as 2.0 or True."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def as_real(value: Any) -> float | None:
    """A finite number of any real type as a float; None for anything else, such as infinity or True."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None
