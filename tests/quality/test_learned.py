"""The embedded model has not lost a skill.

`reached.json` holds what the shipped checkpoint reached on exactly these scenes, and
`python -m tests.quality.measure` writes it anew after a training. A figure may fall a little below it,
or below its bar where the bar was reached. Whether a bar is met at all is the business of
`visionllm evaluate`, which exits with 1 if one is not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import visionllm_sdk
from tests.quality.measure import (
    FOREIGN_BARS,
    PLAIN_PICTURES,
    REACHED,
    foreign_report,
    right_tokens,
    skill_report,
    stranger_report,
    wording_figures,
)
from tests.quality.plain import plain_figures
from visionllm_sdk.evaluation import BARS, Bar, EvaluationReport, SkillReport
from visionllm_sdk.scenes import render, sample_scene
from visionllm_sdk.skills import ReplyDone

if TYPE_CHECKING:
    from visionllm_sdk import VisionLLM

EMBEDDED = Path(visionllm_sdk.__file__).parent / "embedded" / "config.json"
pytestmark = [
    pytest.mark.quality,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not EMBEDDED.is_file(), reason="the embedded model is not trained yet"),
]

MARGIN = 0.03
PART_MARGIN = 0.08
"""Parts of a slice are measured on fewer cases, and so less exactly."""

Measure = Callable[[str], SkillReport]


@pytest.fixture(scope="module")
def measure(vlm: VisionLLM) -> Measure:
    """Measures a skill once, when the first test asks for it."""
    return cache(lambda skill: skill_report(vlm, skill))


@pytest.fixture(scope="module")
def foreign(vlm: VisionLLM) -> EvaluationReport:
    """Detection and questions on scenes of another drawing code."""
    return foreign_report(vlm)


@pytest.fixture(scope="module")
def reached() -> dict[str, dict[str, float]]:
    """Figures of the shipped checkpoint, by source and bar."""
    return json.loads(REACHED.read_text())


def held(bar: Bar, reached: float) -> Bar:
    """The bar, or what was reached where that is less."""
    if bar.at_most is not None:
        return replace(bar, at_most=max(bar.at_most, reached))
    return replace(bar, at_least=min(bar.at_least or 0.0, reached))


@pytest.mark.parametrize("bar", BARS, ids=lambda bar: f"{bar.skill}-{bar.figure}")
def test_no_skill_is_lost(measure: Measure, reached: dict[str, dict[str, float]], bar: Bar) -> None:
    margin = PART_MARGIN if "." in bar.figure else MARGIN
    before = reached["held_out"].get(f"{bar.skill}.{bar.figure}")
    if before is None:
        pytest.skip("the shipped checkpoint was measured without this skill")
    limit = held(bar, before)
    result = limit.eased(margin).judge(measure(bar.skill))
    assert result.passed, result


@pytest.mark.parametrize("bar", FOREIGN_BARS, ids=lambda bar: f"{bar.skill}-{bar.figure}")
def test_no_skill_is_lost_on_scenes_of_another_program(
    foreign: EvaluationReport, reached: dict[str, dict[str, float]], bar: Bar
) -> None:
    limit = held(bar, reached["foreign"][f"{bar.skill}.{bar.figure}"])
    result = limit.eased(MARGIN).judge(foreign.skills[bar.skill])
    assert result.passed, result


def test_labels_that_are_not_there_raise_few_alarms(measure: Measure) -> None:
    figures = measure("detection").figures
    for name, most in (("false_positive_rate", 0.1), ("false_positive_rate_alone", 0.08)):
        rate = figures[name]
        assert rate is not None
        assert rate < most, name


def test_no_routing_token_is_confused_with_another(
    measure: Measure, reached: dict[str, dict[str, float]]
) -> None:
    shares = right_tokens(measure("routing"))
    for wanted, share in reached["tokens"].items():
        assert shares[wanted] >= min(0.95, share) - PART_MARGIN, (wanted, shares)


def test_anybodys_words_are_understood(vlm: VisionLLM, reached: dict[str, dict[str, float]]) -> None:
    figures = wording_figures(vlm)
    for name, before in reached["wordings"].items():
        assert figures[name] >= before - PART_MARGIN, (name, figures[name], before)


def test_anybodys_pictures_are_seen(vlm: VisionLLM, reached: dict[str, dict[str, float]]) -> None:
    figures = stranger_report(vlm)
    for name, before in reached["strangers"].items():
        assert figures[name] >= before - PART_MARGIN, (name, figures[name], before)


def test_shapes_of_any_size_in_crowds_and_on_photographs_are_seen(
    vlm: VisionLLM, reached: dict[str, dict[str, float]]
) -> None:
    figures = plain_figures(vlm, pictures=PLAIN_PICTURES)
    for name, before in reached["plain"].items():
        lost = figures[name] - before if name.endswith(".wrong") else before - figures[name]
        # One shape a picture: one more or less of four is no loss of a skill.
        margin = 0.34 if name.startswith(("large", "huge")) else PART_MARGIN
        assert lost <= margin, (name, figures[name], before)


def test_a_request_for_poses_ends_with_what_was_found(vlm: VisionLLM) -> None:
    scenes = [render(sample_scene(seed)).image for seed in range(3)]
    wishes = [
        "Estimate the pose of every person.",
        "Find the keypoints of each dog",
        "Pose estimation for people",
    ]
    talks = [(wish, scene) for wish in wishes for scene in scenes]
    replies = vlm.chat([wish for wish, _ in talks], [[scene] for _, scene in talks])
    for reply in replies:
        assert [call.token for call in reply.calls][-1:] == ["[POSE]"]
        assert re.fullmatch(r"I found (no|\d+) (person|people|dogs?)\.", reply.text), reply.text
    *_, done = vlm.stream(wishes[0], [scenes[0]])
    assert isinstance(done, ReplyDone)
    assert done.reply.text == replies[0].text
