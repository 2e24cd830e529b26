"""Measuring a model: scenes batch by batch, every skill on each, one report."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from visionllm_sdk.errors import InputError
from visionllm_sdk.evaluation import bars as requirements
from visionllm_sdk.evaluation.bars import BARS, Bar
from visionllm_sdk.evaluation.predictor import Predictor
from visionllm_sdk.evaluation.report import EvaluationReport, SkillReport
from visionllm_sdk.evaluation.samples import Sample, Source, as_samples, held_out_samples
from visionllm_sdk.evaluation.skills import SKILLS, Skill

if TYPE_CHECKING:
    from rich.progress import Progress

HELD_OUT = "held-out scenes"


def run(
    vlm: Predictor,
    *,
    scenes: int = 500,
    skills: Sequence[str] | None = None,
    batch: int = 16,
    source: Source | None = None,
    start: int = 0,
    out: Path | None = None,
    progress: bool = True,
    bars: tuple[Bar, ...] = BARS,
) -> EvaluationReport:
    """Measure a model on scenes that no training draws from.

    Everything asked about a scene follows from the scene alone: two runs of one model give the same figures.

    Args:
        vlm: the model, a `VisionLLM`.
        scenes: how many scenes; of `source`, at most so many.
        skills: names of `SKILLS`; None measures all that the model has.
        batch: requests that go to the model together.
        source: other pictures, each (RGB image, facts, (N, H, W) bool masks) or a `Sample`; None draws the
            held-out scenes.
        start: which held-out scene is the first; a `source` starts with its own first.
        out: folder for `report.json` and `sheet.png`; None writes nothing.
        progress: whether to show a bar on standard error.
        bars: requirements to hold the figures against.

    Raises:
        InputError: an unknown skill, or no scene.
        MissingExtraError: average precision needs `pycocotools` (extra `eval`).
    """
    began = time.perf_counter()
    measured = [SKILLS[name]() for name in _chosen(skills, vlm)]
    samples = held_out_samples(scenes, start=start) if source is None else as_samples(source)
    seconds = dict.fromkeys((skill.name for skill in measured), 0.0)
    used = 0
    with _bar(progress) as show:
        task = show.add_task("evaluating", total=scenes if source is None else None)
        for portion in _portions(islice(samples, scenes), batch):
            for skill in measured:
                show.update(task, description=f"{skill.name:12}")
                seconds[skill.name] += _timed(skill, vlm, portion)
            used += len(portion)
            show.update(task, completed=used)
    if not used:
        raise InputError("there is no scene to evaluate on", value=scenes, limit="at least 1")
    reports = {skill.name: _summed(skill, seconds[skill.name]) for skill in measured}
    judged = requirements.judge(reports, bars)
    report = EvaluationReport(
        source=HELD_OUT if source is None else "given scenes",
        scenes=used,
        skills=reports,
        bars=judged,
        passed=all(bar.passed for bar in judged),
        seconds=time.perf_counter() - began,
    )
    report = report.with_galleries({skill.name: skill.gallery for skill in measured})
    if out is not None:
        report.save(out)
    return report


def _chosen(names: Sequence[str] | None, vlm: Predictor) -> list[str]:
    unknown = [name for name in names or () if name not in SKILLS]
    if unknown or names == []:
        raise InputError(
            "unknown skill" if unknown else "no skill to evaluate", value=unknown, limit=", ".join(SKILLS)
        )
    if names is not None:
        return [name for name in SKILLS if name in names]
    offered = getattr(vlm, "skills", ())
    return [name for name, skill in SKILLS.items() if skill.needs is None or skill.needs in offered]


def _portions(samples: Iterator[Sample], size: int) -> Iterator[list[Sample]]:
    if size < 1:
        raise InputError("a batch holds at least one request", value=size, limit="1 or more")
    while portion := list(islice(samples, size)):
        yield portion


def _timed(skill: Skill, vlm: Predictor, portion: Sequence[Sample]) -> float:
    start = time.perf_counter()
    skill.measure(vlm, portion)
    return time.perf_counter() - start


def _summed(skill: Skill, seconds: float) -> SkillReport:
    start = time.perf_counter()
    report = skill.report()
    return report.model_copy(update={"seconds": round(seconds + time.perf_counter() - start, 3)})


def _bar(shown: bool) -> Progress:
    from rich.console import Console
    from rich.progress import Progress

    return Progress(console=Console(stderr=True), disable=not shown, transient=True)
