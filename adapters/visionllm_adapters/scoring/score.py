"""What an evaluation on labelled data has found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from PIL import Image

Figures = dict[str, float | None]
_FILE: Final = "score.json"


@dataclass(frozen=True, kw_only=True)
class Score:
    """Figures of one skill on one set; shares and precisions are 0 to 1, None where nothing was measured.

    Attributes:
        skill: what was measured.
        metric: name of the figure by which models are compared.
        figures: name -> value.
        classes: class -> its figures.
        sizes: small, medium, large -> figures.
        counts: how many of what.
        confusion: true class -> predicted class -> cases; "nothing" stands for a miss or a false alarm.
        drawings: record -> its picture with what the model found; the first few.
        verdicts: item -> whether it was right, to see which examples change.
        seconds: time in all.
    """

    skill: str
    metric: str
    figures: Figures
    classes: dict[str, Figures] = field(default_factory=dict)
    sizes: dict[str, Figures] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    confusion: dict[str, dict[str, int]] = field(default_factory=dict)
    drawings: Mapping[str, Image.Image] = field(default_factory=dict)
    verdicts: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def value(self) -> float:
        """The figure by which models are compared; 0 where it was not measured."""
        return self.figures.get(self.metric) or 0.0

    def as_dict(self) -> dict[str, Any]:
        """JSON-safe, the figures at the top: `{"ap": .., "ap50": .., "skill": "detect", ...}`."""
        return {
            **self.figures,
            "skill": self.skill,
            "metric": self.metric,
            "classes": self.classes,
            "sizes": self.sizes,
            "counts": self.counts,
            "confusion": self.confusion,
            "seconds": round(self.seconds, 2),
        }

    def write(self, folder: Path) -> None:
        """Keep the score and its drawings in a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        names = {key: f"{number}.png" for number, key in enumerate(self.drawings)}
        for key, name in names.items():
            self.drawings[key].save(folder / name)
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "drawings"}
        content = json.dumps({**values, "drawings": names})
        unfinished = folder / f"{_FILE}.unfinished"
        unfinished.write_text(content, encoding="utf-8")
        unfinished.replace(folder / _FILE)

    @classmethod
    def read(cls, folder: Path) -> Score | None:
        """A score that was kept in a folder; None if there is none."""
        if not (folder / _FILE).is_file():
            return None
        values = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        drawings = {}
        for key, name in values.pop("drawings").items():
            with Image.open(folder / name) as picture:
                drawings[key] = picture.convert("RGB")
        return cls(**values, drawings=drawings)
