"""Input sizes of decoders in training: small pictures cost less, and teach as well what is where."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from random import Random
from typing import Any, Final

from visionllm_sdk.model.assembly import Model

SMALL_DECODER: Final = 320
"""Input edge below which a decoder counts as small, in pixels."""
SHARE: Final = 0.62
"""Of the input edges of small decoders, on the average of the steps with small pictures."""
_SPREAD: Final = (0.8, 1.0, 1.2)
_FULL_FROM: Final = 0.7
"""Share of the run after which pictures have the size of use: exact edges need it."""
_LEAST: Final = 128


class InputSizes:
    """Changes the input size of decoders for the time of a step.

    Args:
        model: its decoders that take pictures are changed.
        tools: names of the tools that learn.
        share: of the size of use; None leaves the decoders of large models as they are.
        seed: of all choices.
    """

    def __init__(self, model: Model, tools: Sequence[str], *, share: float | None, seed: int) -> None:
        decoders: list[Any] = [model.tools[name].decoder for name in tools]
        self._decoders = [one for one in decoders if hasattr(one.config, "shortest_edge")]
        self._share = share
        self._seed = seed

    @contextmanager
    def at(self, step: int, fraction: float) -> Iterator[None]:
        """The sizes of a step; those of use come back afterwards.

        Args:
            step: number of the step.
            fraction: share of the run that is done, 0 to 1.
        """
        kept = [decoder.config for decoder in self._decoders]
        spread = Random(f"{self._seed}/{step}/size").choice(_SPREAD)
        if fraction < _FULL_FROM:
            for decoder in self._decoders:
                decoder.config = self._smaller(decoder.config, spread)
        try:
            yield
        finally:
            for decoder, config in zip(self._decoders, kept, strict=True):
                decoder.config = config

    def _smaller(self, config: Any, spread: float) -> Any:
        share = self._share
        if share is None:
            share = SHARE if config.shortest_edge < SMALL_DECODER else 1.0
        if share == 1.0:
            return config
        edges = {
            name: min(getattr(config, name), max(_LEAST, round(getattr(config, name) * share * spread)))
            for name in ("shortest_edge", "longest_edge")
        }
        return replace(config, **edges)
