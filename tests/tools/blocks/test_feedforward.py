"""Blocks of rows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from visionllm_tools.blocks.feedforward import ROWS, spans


@given(count=st.integers(0, 5000), batch=st.integers(1, 3000), width=st.sampled_from([64, 512, 513, 2048]))
def test_spans_follow_one_another_and_stay_small(count: int, batch: int, width: int) -> None:
    found = list(spans(count, batch, width=width))
    assert [place for span in found for place in range(span.start, span.stop)] == list(range(count))
    most = ROWS if width > 512 else 2 * ROWS
    assert all(span.stop - span.start == 1 or (span.stop - span.start) * batch <= most for span in found)
