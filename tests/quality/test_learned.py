"""The embedded model has not lost a skill: the bars of the evaluation, a little eased, on fewer scenes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import visionllm_sdk
from tests.foreign_scenes import foreign_scene
from visionllm_sdk.evaluation import BARS, Bar, EvaluationReport, run
from visionllm_sdk.evaluation.bars import lookup
from visionllm_sdk.evaluation.samples import Triple

if TYPE_CHECKING:
    from visionllm_sdk import VisionLLM

EMBEDDED = Path(visionllm_sdk.__file__).parent / "embedded" / "config.json"
pytestmark = [
    pytest.mark.quality,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not EMBEDDED.is_file(), reason="the embedded model is not trained yet"),
]

SCENES = 100
FOREIGN_SCENES = 40
MARGIN = 0.03
PART_MARGIN = 0.08
"""Parts of a slice are measured on fewer cases, and so less exactly."""
FOREIGN_MARGIN = 0.10


def eased(bar: Bar, margin: float) -> Bar:
    return bar.eased(PART_MARGIN if "." in bar.figure else margin)


@pytest.fixture(scope="module")
def report(vlm: VisionLLM) -> EvaluationReport:
    return run(vlm, scenes=SCENES, progress=False)


@pytest.fixture(scope="module")
def foreign(vlm: VisionLLM) -> EvaluationReport:
    return run(vlm, skills=["detection", "vqa"], source=foreign_scenes(), progress=False)


def foreign_scenes() -> Iterator[Triple]:
    """Scenes of another drawing code, saved as JPEG."""
    for seed in range(FOREIGN_SCENES):
        scene = foreign_scene(seed, width=192, height=160)
        yield scene.image, scene.facts, scene.masks


@pytest.mark.parametrize("bar", BARS, ids=lambda bar: f"{bar.skill}-{bar.figure}")
def test_bar(report: EvaluationReport, bar: Bar) -> None:
    result = eased(bar, MARGIN).judge(report.skills[bar.skill])
    assert result.passed, result


@pytest.mark.parametrize(
    "bar",
    [bar for bar in BARS if bar.skill == "detection" or (bar.skill, bar.figure) == ("vqa", "accuracy")],
    ids=lambda bar: f"{bar.skill}-{bar.figure}",
)
def test_bar_on_scenes_of_another_program(foreign: EvaluationReport, bar: Bar) -> None:
    result = bar.eased(FOREIGN_MARGIN).judge(foreign.skills[bar.skill])
    assert result.passed, result


def test_no_routing_token_is_confused_with_another(report: EvaluationReport) -> None:
    rows = report.skills["routing"].tables["tokens"]
    assert set(rows) >= {"none", "[DET]", "[GRD]", "[SEG]"}
    for wanted, given in rows.items():
        right = given.get(wanted, 0)
        assert right >= 0.9 * sum(given.values()), (wanted, given)


def test_every_kind_of_expression_is_grounded(report: EvaluationReport) -> None:
    kinds = report.skills["grounding"].slices["kind"]
    assert len(kinds) == 5
    for kind in kinds:
        found = lookup(report.skills["grounding"], f"kind.{kind}.acc50")
        assert found is not None
        assert found >= 0.75, (kind, found)
