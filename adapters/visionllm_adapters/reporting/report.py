"""A run's result as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visionllm_adapters.data.records import DataSet
from visionllm_adapters.scoring.score import Score
from visionllm_adapters.training.settings import FinetuneSettings
from visionllm_adapters.training.state import Progress


@dataclass(frozen=True, slots=True)
class SkillChange:
    """One skill before and after."""

    before: Score
    after: Score

    @property
    def gain(self) -> float:
        """How much the task metric rose."""
        return self.after.value - self.before.value

    def changed(self) -> list[tuple[str, float, float]]:
        """(item, before, after) of the items that are answered better or worse, the largest changes first."""
        pairs = [
            (key, self.before.verdicts[key], value)
            for key, value in self.after.verdicts.items()
            if key in self.before.verdicts and self.before.verdicts[key] != value
        ]
        return sorted(pairs, key=lambda one: -abs(one[2] - one[1]))


@dataclass(frozen=True, kw_only=True)
class FinetuneReport:
    """What a run has gained, and what it has cost.

    Attributes:
        skills: the taught skills on the validation set.
        progress: steps, time, measurements.
        settings: of the run.
        base_before: what the base could do on its own scenes.
        base_after: what it can do with the adapter.
        train: what was learnt from; None in a process that is not the first one.
        watched: what was measured on.
        parameters: how many numbers learnt.
        seconds: in all.
        path: folder of the adapter.
        score_shift: tool -> logits by which its scores were shifted to mean what they meant before.
    """

    skills: Mapping[str, SkillChange]
    progress: Progress
    settings: FinetuneSettings
    base_before: Mapping[str, float] = field(default_factory=dict)
    base_after: Mapping[str, float] = field(default_factory=dict)
    train: DataSet | None = None
    watched: DataSet | None = None
    parameters: int = 0
    seconds: float = 0.0
    path: Path = Path()
    score_shift: Mapping[str, float] = field(default_factory=dict)

    @property
    def by_heart(self) -> bool:
        """Whether it was measured on what it was taught from: that says nothing about other pictures."""
        same = self.train is not None and self.watched is not None
        return same and self.train.fingerprint == self.watched.fingerprint  # type: ignore[union-attr]

    def figures(self) -> dict[str, Any]:
        """Figures before and after, JSON-safe."""
        return {
            "skills": {
                name: {"before": change.before.figures, "after": change.after.figures, "gain": change.gain}
                for name, change in self.skills.items()
            },
            "base": {
                name: {"before": value, "after": self.base_after.get(name)}
                for name, value in self.base_before.items()
            },
        }

    def as_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        return {
            **self.figures(),
            "classes": {
                name: {
                    label: {"before": change.before.classes.get(label), "after": figures}
                    for label, figures in change.after.classes.items()
                }
                for name, change in self.skills.items()
            },
            "by_heart": self.by_heart,
            "parameters": self.parameters,
            "seconds": round(self.seconds, 1),
            "peak_memory_gb": peak_memory(),
            "progress": self.progress.as_dict(),
            "settings": self.settings.as_dict(),
            "path": str(self.path),
        }


def peak_memory() -> float:
    """Most memory that this process has held, in GB; of the accelerator, where one was used."""
    import resource

    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return round(torch.cuda.max_memory_allocated() / 1e9, 2)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2)
