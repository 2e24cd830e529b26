"""Whole sentences as people write them, for training: a text file for each kind of request, one a line.

Other than the short orders of `TRAINING` they stand for themselves and take no lead such as "can you". What
can stand around any request is in `before.txt` and `after.txt`.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def freely(kind: str) -> tuple[str, ...]:
    """The sentences of that kind, with slots such as `{x}`; none if there is no such file."""
    file = files(__name__) / f"{kind}.txt"
    return tuple(file.read_text(encoding="utf-8").splitlines()) if file.is_file() else ()
