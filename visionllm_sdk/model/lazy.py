"""Tools whose decoders are built and loaded when they are first used, and may wait in main memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from visionllm_sdk.model.memory import PartMemory, absent, measure
from visionllm_sdk.tool import RoutedTool, ToolClass

AnyTool = RoutedTool[Any, Any]
_PARKED = torch.device("cpu")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LazyKind:
    """A tool that the checkpoint has a decoder for.

    Attributes:
        kind: its class.
        device: where its decoder works.
        parameters: of its decoder.
        build: makes it with its weights, on its device.
    """

    kind: ToolClass
    device: torch.device
    parameters: int
    build: Callable[[], AnyTool]


class LazyTools(Mapping[str, AnyTool]):
    """Tools by name; one that is asked for is built then, once.

    Args:
        kinds: the tools that the checkpoint has decoders for.
        offload: a decoder goes to main memory when one that is not there is needed.
    """

    def __init__(self, kinds: Mapping[str, LazyKind], *, offload: bool = False) -> None:
        self.offload = offload
        self._kinds = dict(kinds)
        self._built: dict[str, AnyTool] = {}
        self._parked: set[str] = set()
        self._lock = threading.RLock()

    @property
    def kinds(self) -> dict[str, ToolClass]:
        """The tool classes by name."""
        return {name: kind.kind for name, kind in self._kinds.items()}

    def __getitem__(self, name: str) -> AnyTool:
        kind = self._kinds[name]
        with self._lock:
            if name not in self._built:
                self._built[name] = kind.build()
            return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)

    def built(self, name: str) -> bool:
        """Whether a tool has been used already."""
        return name in self._built

    @contextmanager
    def in_use(self, names: set[str]) -> Iterator[dict[str, AnyTool]]:
        """The named tools, each on its device; with `offload` all others give their device free first."""
        with self._lock:
            if self.offload:
                for name in set(self._built) - names:
                    self._move(name, _PARKED)
            tools = {name: self[name] for name in sorted(names)}
            for name in names & self._parked:
                self._move(name, self._kinds[name].device)
            yield tools

    def _move(self, name: str, device: torch.device) -> None:
        home = self._kinds[name].device
        if home == _PARKED:
            return
        self._built[name].decoder.to(device)
        if device == home:
            self._parked.discard(name)
        else:
            self._parked.add(name)

    def memory(self) -> list[PartMemory]:
        """What each decoder takes."""
        return [
            measure(name, self._built[name].decoder, parked=name in self._parked)
            if name in self._built
            else absent(name, kind.parameters)
            for name, kind in self._kinds.items()
        ]
