"""What every training stage shares: schedule, optimisers, checkpoints that survive a kill, logs."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn


def schedule(progress: float, *, warmup: float = 0.02, tail: float = 0.5, floor: float = 0.02) -> float:
    """Learning-rate factor at a share of the budget: warm-up, plateau, cosine over the last `tail`."""
    if progress < warmup:
        return max(progress / warmup, 0.01)
    if progress < 1 - tail:
        return 1.0
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - 1 + tail) / tail)))


def channels_last(module: nn.Module) -> None:
    """Lay the weights of convolutions out for bfloat16 on CPUs, in place."""
    for parameter in module.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


@dataclass
class Run:
    """A resumable training run in a folder: `last.pt` holds everything, `log.jsonl` one line a report.

    Args:
        folder: where to write.
        modules: what is trained, by name; saved and restored together.
        optimisers: saved and restored too; their learning rates follow `schedule`.
        minutes: budget of training time; time spent on reports does not count.
        every: seconds between reports.
    """

    folder: Path
    modules: Mapping[str, nn.Module]
    optimisers: list[torch.optim.Optimizer]
    minutes: float
    every: float = 300.0
    tail: float = 0.5
    elapsed: float = 0.0
    step: int = 0
    extra: dict[str, Any] = field(default_factory=dict)
    _base: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._base = [[group["lr"] for group in o.param_groups] for o in self.optimisers]
        if self.last.exists():
            state = torch.load(self.last, weights_only=True)
            for name, module in self.modules.items():
                module.load_state_dict(state["modules"][name])
            for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(saved)
            self.elapsed, self.step, self.extra = state["elapsed"], state["step"], state["extra"]

    @property
    def last(self) -> Path:
        """The checkpoint to resume from."""
        return self.folder / "last.pt"

    @property
    def progress(self) -> float:
        """Share of the budget used."""
        return self.elapsed / (self.minutes * 60)

    def steps(self, report: Callable[[], Mapping[str, Any]]) -> Iterator[int]:
        """Step numbers until the budget is used; sets learning rates, reports and saves on the way.

        Args:
            report: called now and then (and at the end); its numbers go to the log.
        """
        mark = clock = time.monotonic()
        while self.progress < 1:
            factor = schedule(self.progress, tail=self.tail)
            for optimiser, rates in zip(self.optimisers, self._base, strict=True):
                for group, rate in zip(optimiser.param_groups, rates, strict=True):
                    group["lr"] = rate * factor
            yield self.step
            self.step += 1
            now = time.monotonic()
            self.elapsed, mark = self.elapsed + now - mark, now
            if now - clock > self.every or self.progress >= 1:
                self.save()
                self._log(report())
                mark = clock = time.monotonic()

    def update(self, loss: torch.Tensor, *, clip: float = 1.0) -> None:
        """One optimiser step; a loss that is not finite raises FloatingPointError."""
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"loss is {float(loss.detach())} at step {self.step}; resume from {self.last}"
            )
        loss.backward()
        for module in self.modules.values():
            torch.nn.utils.clip_grad_norm_(module.parameters(), clip)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    def save(self) -> None:
        """Write `last.pt` in one move, so that a kill never leaves half a file."""
        state = {
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "optimisers": [o.state_dict() for o in self.optimisers],
            "elapsed": self.elapsed,
            "step": self.step,
            "extra": self.extra,
        }
        torch.save(state, self.last.with_suffix(".tmp"))
        self.last.with_suffix(".tmp").replace(self.last)

    def _log(self, numbers: Mapping[str, Any]) -> None:
        line = {"minutes": round(self.elapsed / 60, 1), "step": self.step, **numbers}
        with (self.folder / "log.jsonl").open("a") as stream:
            stream.write(json.dumps(line) + "\n")


class Averages:
    """Running means of named numbers since the last look."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, **numbers: float) -> None:
        """Add one observation of each number."""
        for name, number in numbers.items():
            self._sums[name] = self._sums.get(name, 0.0) + number
            self._counts[name] = self._counts.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        """The means, rounded; starts anew."""
        means = {name: round(total / self._counts[name], 4) for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        return means
