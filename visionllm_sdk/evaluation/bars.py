"""What the embedded model must reach on held-out scenes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from visionllm_sdk.evaluation.report import BarResult, SkillReport
from visionllm_sdk.scenes.language import VQA_KINDS


@dataclass(frozen=True, slots=True)
class Bar:
    """A figure and its limit. A part of a slice is written `division.part.figure`."""

    skill: str
    figure: str
    at_least: float | None = None
    at_most: float | None = None

    def judge(self, report: SkillReport) -> BarResult:
        """Hold a skill's figures against the limit."""
        value = lookup(report, self.figure)
        low, high = self.at_least, self.at_most
        return BarResult(
            skill=self.skill,
            figure=self.figure,
            value=value,
            at_least=low,
            at_most=high,
            passed=value is not None and (low is None or value >= low) and (high is None or value <= high),
        )

    def eased(self, margin: float) -> Bar:
        """The same bar, easier by `margin`: few scenes measure less exactly."""
        return Bar(
            self.skill,
            self.figure,
            None if self.at_least is None else self.at_least - margin,
            None if self.at_most is None else self.at_most + margin,
        )


BARS: Final[tuple[Bar, ...]] = (
    Bar("detection", "box_ap50", at_least=0.97),
    Bar("detection", "box_ap", at_least=0.87),
    Bar("detection", "mask_ap50", at_least=0.95),
    Bar("detection", "mask_ap", at_least=0.75),
    Bar("detection", "false_positive_rate", at_most=0.02),
    Bar("segmentation", "miou", at_least=0.85),
    Bar("grounding", "acc50", at_least=0.90),
    Bar("counting", "exact", at_least=0.90),
    Bar("vqa", "accuracy", at_least=0.92),
    *(Bar("vqa", f"kind.{kind}.accuracy", at_least=0.80) for kind in VQA_KINDS),
    Bar("caption", "f1", at_least=0.90),
    Bar("routing", "exact", at_least=0.98),
    Bar("pointed_routing", "exact", at_least=0.98),
    *(
        Bar("pose", f"kind.{kind}.{figure}", at_least=least)
        for kind in ("person", "dog")
        for figure, least in (("oks_ap", 0.75), ("oks_ap50", 0.93), ("pck", 0.95))
    ),
    *(
        Bar("region_recognition", f"prompt.{kind}.accuracy", at_least=least)
        for kind, least in (("mask", 0.97), ("box", 0.97), ("point", 0.92), ("scribble", 0.92))
    ),
    Bar("region_description", "f1", at_least=0.95),
    *(
        Bar("interactive_segmentation", f"prompt.{kind}.miou", at_least=least)
        for kind, least in (("mask", 0.85), ("box", 0.85), ("point", 0.78), ("scribble", 0.78))
    ),
    Bar("in_context_segmentation", "miou", at_least=0.80),
    Bar("generation", "kind.one object.objects", at_least=0.95),
    Bar("generation", "kind.two objects.right", at_least=0.85),
    Bar("generation", "background", at_least=0.97),
    Bar("editing", "kind.recolour.done", at_least=0.95),
    Bar("editing", "kind.remove.done", at_least=0.90),
    Bar("editing", "kind.add.done", at_least=0.90),
    Bar("editing", "kind.background.done", at_least=0.95),
    Bar("editing", "psnr_inside", at_least=25.0),
    Bar("editing", "psnr_outside", at_least=25.0),
)


def lookup(report: SkillReport, figure: str) -> float | None:
    """A figure of a skill, or of a part of one of its slices; None when it was not measured."""
    if "." not in figure:
        return report.figures.get(figure)
    division, part, name = figure.split(".")
    return report.slices.get(division, {}).get(part, {}).get(name)


def judge(reports: Mapping[str, SkillReport], bars: tuple[Bar, ...] = BARS) -> list[BarResult]:
    """Every bar on a skill that was measured."""
    return [bar.judge(reports[bar.skill]) for bar in bars if bar.skill in reports]
