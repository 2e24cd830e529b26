"""Adapters as the core knows them: who holds them, and how requests choose one.

An adapter is a small set of weights for one domain. The core never loads one itself: a rack does, which a
package offers as the extension `adapters`. At any time one adapter of a model is active, or none; requests
that name different adapters run one group after another, each on its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from visionllm_sdk.errors import AdapterError, InputError

if TYPE_CHECKING:
    from visionllm_sdk.model.assembly import Model
    from visionllm_sdk.skills.engine import Engine

Item = TypeVar("Item")
Result = TypeVar("Result")
AdapterChoice: TypeAlias = str | Sequence[str | None] | None
"""Name of a loaded adapter for all items, None for the model as it is, or one of these for each item."""


class AdapterRack(Protocol):
    """Holds the adapters of one model."""

    @property
    def names(self) -> tuple[str, ...]:
        """Loaded adapters."""

    def load(self, path: str | os.PathLike[str], name: str | None = None) -> str:
        """Load an adapter folder; returns the name under which requests choose it."""

    def unload(self, name: str) -> None:
        """Forget an adapter."""

    def activate(self, name: str | None) -> None:
        """Let the model answer with this adapter; None: as if there were none."""

    def combine(self, weights: Mapping[str, float], name: str) -> str:
        """A new adapter that is a weighted sum of loaded ones."""


RackFactory: TypeAlias = Callable[["Model"], AdapterRack]


def unknown_adapter(name: object, known: Sequence[str]) -> AdapterError:
    """The error for a name that is not loaded."""
    return AdapterError(
        "no such adapter is loaded",
        value=name,
        limit=", ".join(known) or "none is loaded",
        remedy="Load it with vlm.load_adapter(folder), which returns its name.",
    )


def each_adapter(choice: AdapterChoice, count: int, *, single: bool) -> list[str | None]:
    """The adapter of every item.

    Args:
        choice: as the caller gave it.
        count: number of items.
        single: the caller passed one item, not a list.

    Raises:
        InputError: something other than names, or a list of another length than that of the items.
    """
    if choice is None or isinstance(choice, str):
        return [choice] * count
    if not isinstance(choice, Sequence) or not all(isinstance(one, str | None) for one in choice):
        raise InputError(
            "an adapter is chosen by its name",
            value=choice,
            limit="the name that load_adapter() returned, None, or a list with one of these for each item",
            remedy="Load a folder once, name = vlm.load_adapter(folder), and pass adapter=name.",
        )
    if single or len(choice) != count:
        raise InputError(
            "a list of adapters needs one entry for every item",
            value=len(choice),
            limit="one name" if single else count,
            remedy="Pass one name for all, or a list with one name or None for each item.",
        )
    return list(choice)


def by_adapter(
    engine: Engine,
    adapters: Sequence[str | None],
    items: Sequence[Item],
    run: Callable[[Sequence[Item]], Sequence[Result]],
) -> list[Result]:
    """Answer items, those of one adapter together; result i belongs to item i.

    Args:
        engine: the model.
        adapters: of every item.
        items: what to answer.
        run: answers items with whatever adapter is active.

    Raises:
        AdapterError: a name that is not loaded; nothing has run then.
    """
    groups: dict[str | None, list[int]] = {}
    for place, name in enumerate(adapters):
        groups.setdefault(name, []).append(place)
    for name in groups:
        if name is not None and name not in engine.adapter_names:
            raise unknown_adapter(name, engine.adapter_names)
    results: dict[int, Any] = {}
    for name, places in groups.items():
        with engine.using(name):
            answers = run([items[place] for place in places])
        results |= dict(zip(places, answers, strict=True))
    return [results[place] for place in range(len(items))]
