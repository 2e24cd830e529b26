"""Adapters of a model: load, forget, combine, merge."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from visionllm_sdk.skills.engine import Engine


class AdapterSkills:
    """Adds ``load_adapter`` and what belongs to it. Requests choose one with ``adapter=name``."""

    engine: Engine

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of the loaded adapters."""
        return self.engine.adapter_names

    def load_adapter(self, path: str | os.PathLike[str], name: str | None = None) -> str:
        """Load an adapter; requests that name it use it, all others answer exactly as before.

        Args:
            path: folder of the adapter.
            name: under which requests choose it; None takes the folder's name.

        Returns:
            The name.

        Raises:
            AdapterError: no such adapter, one that was made for another model, is incomplete or was changed,
                or a name that is taken.
            MissingExtraError: `peft` is not installed.
        """
        with self.engine.turn():
            return self.engine.rack().load(path, name)

    def unload_adapter(self, name: str) -> None:
        """Forget an adapter and free its memory.

        Raises:
            AdapterError: no such adapter is loaded.
        """
        with self.engine.turn():
            self.engine.rack().unload(name)
            self.engine.forget(name)

    def combine_adapters(self, weights: Mapping[str, float], name: str) -> str:
        """A new adapter, the weighted sum of loaded ones.

        Args:
            weights: adapter name -> weight.
            name: of the new adapter.

        Raises:
            AdapterError: adapters that cannot be added, because they trained more than low-rank updates.
        """
        with self.engine.turn():
            return self.engine.rack().combine(weights, name)


def paced(engine: Engine, adapter: str | None, events: Iterator[Any]) -> Iterator[Any]:
    """Events of a stream, each made while the adapter is active."""
    while True:
        with engine.using(adapter):
            event = next(events, None)
        if event is None:
            return
        yield event
