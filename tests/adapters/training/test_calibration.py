"""What a score means is kept: the move of known scores is measured and taken back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionllm_adapters.training.calibration import (
    kept_scores,
    known_scores,
    shift_between,
    shift_scores,
)
from visionllm_sdk import VisionLLM

LOGITS = st.floats(-6, 6)


@given(scores=st.lists(LOGITS, min_size=8, max_size=40), move=st.floats(-2.5, 2.5))
def test_a_move_of_all_scores_is_found(scores: list[float], move: float) -> None:
    assert shift_between(scores, [score - move for score in scores]) == pytest.approx(move)


def test_few_outliers_and_what_was_not_found_say_nothing() -> None:
    before: list[float | None] = [1.0] * 20
    after: list[float | None] = [0.5] * 16 + [9.0, -9.0, None, None]
    assert shift_between(before, after) == 0.5
    assert shift_between([None] * 4 + before, [1.0] * 4 + after) == 0.5


def test_too_little_to_tell_or_too_much_to_believe() -> None:
    assert shift_between([1.0] * 7, [0.0] * 7) == 0
    assert shift_between([None] * 20, [0.0] * 20) == 0
    assert shift_between([6.0] * 8, [-6.0] * 8) == 3.0


@pytest.mark.slow
def test_a_shift_moves_the_scores_of_the_model_by_so_much(tmp_path: Path) -> None:
    vlm = VisionLLM.from_pretrained()
    before = kept_scores(vlm, tmp_path / "scores.json")
    assert len(before) > 40
    assert sum(score is not None for score in before) > 0.9 * len(before)
    shift_scores(vlm.engine.model, -0.75)
    fresh = VisionLLM(vlm.engine.model, name=vlm.name)
    after = known_scores(fresh)
    # A score that two queries share moves a little more than the logits do.
    assert shift_between(before, after) == pytest.approx(0.75, abs=0.04)
    assert kept_scores(fresh, tmp_path / "scores.json") == before
