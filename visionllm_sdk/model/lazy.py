"""Tools whose decoders are built and loaded when they are first used."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from visionllm_sdk.tool import RoutedTool, ToolClass

AnyTool = RoutedTool[Any, Any]


class LazyTools(Mapping[str, AnyTool]):
    """Tools by name; one that is asked for is built then, once.

    Args:
        kinds: the tool classes that the checkpoint has decoders for.
        build: makes a tool with its weights.
    """

    def __init__(self, kinds: Sequence[ToolClass], build: Callable[[ToolClass], AnyTool]) -> None:
        self.kinds = {kind.name: kind for kind in kinds}
        self._build = build
        self._built: dict[str, AnyTool] = {}
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> AnyTool:
        kind = self.kinds[name]
        with self._lock:
            if name not in self._built:
                self._built[name] = self._build(kind)
            return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.kinds)

    def __len__(self) -> int:
        return len(self.kinds)

    def built(self, name: str) -> bool:
        """Whether a tool has been used already."""
        return name in self._built
