"""What every evaluation of a skill needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from visionllm_adapters.data.records import DataSet
from visionllm_sdk.errors import DataError

Item = TypeVar("Item")


def chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Parts of at most `size` items, in order."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def with_things(data: DataSet) -> DataSet:
    """The pictures of a set whose objects are known; of others nobody can say if what is found is right."""
    return replace(data, records=tuple(record for record in data.records if record.things is not None))


def need(items: Sequence[Any], data: DataSet, skill: str, word: str) -> None:
    """Refuse data that says nothing about a skill.

    Raises:
        DataError: there is no item.
    """
    if not items:
        raise DataError(
            f"{data.name} holds no {word} to evaluate {skill!r} on",
            value=data.form,
            remedy="Name another skill, or data of another form.",
        )
