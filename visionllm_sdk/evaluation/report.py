"""What an evaluation found, as data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import BaseModel, ConfigDict, PrivateAttr

from visionllm_sdk.evaluation.gallery import Gallery, sheet
from visionllm_sdk.evaluation.tallies import Figures

REPORT_NAME = "report.json"
SHEET_NAME = "sheet.png"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SkillReport(_Part):
    """The figures of one skill.

    Attributes:
        figures: name -> value; shares and precisions are 0..1, None where there was nothing to measure.
        slices: name of a division -> part -> figures of that part.
        counts: how many of what were measured.
        tables: contingency tables, row -> column -> count.
        seconds: time for predictions and scoring.
    """

    figures: Figures
    slices: dict[str, dict[str, Figures]] = {}
    counts: dict[str, int] = {}
    tables: dict[str, dict[str, dict[str, int]]] = {}
    seconds: float = 0.0


class BarResult(_Part):
    """One requirement: `figure` of `skill` ("kind.existence.accuracy" for a part of a slice) against a limit.

    A value of None did not get measured and does not pass.
    """

    skill: str
    figure: str
    value: float | None
    at_least: float | None = None
    at_most: float | None = None
    passed: bool


class EvaluationReport(_Part):
    """Everything that `visionllm evaluate` measures.

    Attributes:
        source: where the pictures came from.
        scenes: how many pictures were used.
        skills: reports by name of the skill.
        bars: the requirements on the skills that were measured.
        passed: whether every bar is met.
        seconds: time in all, drawing of scenes included.
    """

    source: str
    scenes: int
    skills: dict[str, SkillReport]
    bars: list[BarResult]
    passed: bool
    seconds: float

    _galleries: dict[str, Gallery] = PrivateAttr(default_factory=dict)

    def with_galleries(self, galleries: dict[str, Gallery]) -> EvaluationReport:
        """The same report with examples to draw; they are not part of the data."""
        copy = self.model_copy()
        copy._galleries = galleries
        return copy

    def sheet(self) -> Image.Image | None:
        """Successes and failures to look at; None without examples."""
        return sheet(self._galleries)

    def failed(self) -> list[BarResult]:
        """The bars that are not met."""
        return [bar for bar in self.bars if not bar.passed]

    def save(self, folder: Path) -> list[Path]:
        """Write `report.json`, and `sheet.png` where there is a sheet; returns the paths."""
        folder.mkdir(parents=True, exist_ok=True)
        written = [folder / REPORT_NAME]
        written[0].write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
        drawn = self.sheet()
        if drawn is not None:
            written.append(folder / SHEET_NAME)
            drawn.save(written[1])
        return written

    def __rich_console__(self, console: Any, options: Any) -> Any:
        from visionllm_sdk.evaluation.tables import tables

        yield from tables(self)
