"""What a score means is kept: the move of known scores is measured and taken back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionllm_adapters.training.calibration import (
    found_from,
    kept_scores,
    known_scores,
    shift_between,
    shift_scores,
)
from visionllm_sdk import VisionLLM

LOGITS = st.floats(-6, 6)


@given(scores=st.lists(LOGITS, min_size=8, max_size=40), move=st.floats(-2.5, 2.5), limit=st.floats(-1, 1))
def test_as_much_is_found_as_before(scores: list[float], move: float, limit: float) -> None:
    after = [score - move for score in scores]
    shift = shift_between(scores, after, limit=limit)
    wanted = sum(score >= limit for score in scores)
    if wanted < 8:
        assert shift == 0
    elif abs(shift) < 3:
        assert sum(score + shift >= limit - 1e-9 for score in after) >= wanted
        assert sum(score + shift > limit + 1e-9 for score in after) <= wanted


def test_what_was_sure_and_what_was_never_found_say_nothing() -> None:
    before = [6.0] * 10 + [0.5] * 10 + [-0.5] * 10 + [-4.0] * 20
    after = [1.0] * 10 + [0.3] * 10 + [-0.7] * 10 + [-6.0] * 5
    assert shift_between(before, after, limit=0.0) == pytest.approx(0.2)


def test_too_little_to_tell_or_too_much_to_believe() -> None:
    assert shift_between([1.0] * 7, [0.0] * 7, limit=0.0) == 0
    assert shift_between([1.0] * 20, [], limit=0.0) == 0
    assert shift_between([6.0] * 8, [-6.0] * 8, limit=0.0) == 3.0
    assert shift_between([6.0] * 8 + [-6.0] * 8, [-1.0] * 5, limit=0.0) == 1.0  # fewer than there were


@pytest.mark.slow
def test_a_shift_moves_the_scores_of_the_model_by_so_much(tmp_path: Path) -> None:
    vlm = VisionLLM.from_pretrained()
    before = kept_scores(vlm, tmp_path / "scores.json")
    limit = found_from(vlm.engine.model)
    assert sum(score >= limit for score in before) > 60
    shift_scores(vlm.engine.model, -0.75)
    fresh = VisionLLM(vlm.engine.model, name=vlm.name)
    after = known_scores(fresh)
    # A score that two queries share moves a little more than the logits do.
    assert shift_between(before, after, limit=limit) == pytest.approx(0.75, abs=0.15)
    assert kept_scores(fresh, tmp_path / "scores.json") == before
