from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from visionllm_sdk.evaluation.tallies import BagScore, Overlaps, Tally, share


def test_share_of_nothing_is_none() -> None:
    assert share(0, 0) is None
    assert share(1, 4) == 0.25


def test_tally_weighs_every_case_the_same() -> None:
    tally = Tally()
    for right in (True, False, False, False):
        tally.add("long", right)
    tally.add("short", True)
    assert tally.overall == 0.4
    assert tally.rate("unseen") is None
    assert tally.slices("exact") == {"long": {"exact": 0.25, "cases": 4}, "short": {"exact": 1.0, "cases": 1}}


def test_cumulative_and_mean_overlap() -> None:
    whole = np.ones((10, 10), dtype=bool)
    half, dot, empty = whole.copy(), ~whole, ~whole
    half[:5] = False
    dot[0, 0] = True
    overlaps = Overlaps()
    assert overlaps.add("a", whole, half) == 0.5
    assert overlaps.add("b", dot, dot) == 1.0
    assert overlaps.add("b", empty, empty) == 1.0
    assert overlaps.add("b", empty, dot) == 0.0
    assert overlaps.cumulative() == pytest.approx(51 / 102)
    assert overlaps.mean() == pytest.approx(2.5 / 4)
    assert overlaps.cumulative("b") == pytest.approx(1 / 2)
    assert overlaps.mean("b") == pytest.approx(2 / 3)
    assert overlaps.mean("unseen") is None


def test_bags_count_what_occurs_twice_twice() -> None:
    score = BagScore()
    score.add(Counter({"red star": 2, "dog": 1}), Counter({"red star": 1, "ring": 1}))
    assert (score.precision, score.recall) == (1 / 2, 1 / 3)
    assert score.f1 == pytest.approx(2 * 1 / 5)
    score.add(Counter(), Counter())
    assert score.f1 == pytest.approx(2 * 1 / 5)
