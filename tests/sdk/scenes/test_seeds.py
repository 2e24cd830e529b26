from __future__ import annotations

import pytest

from visionllm_sdk.errors import DataError
from visionllm_sdk.scenes import HELD_OUT_SEEDS, held_out_seeds, training_seed, training_seeds


def test_the_held_out_range_is_frozen() -> None:
    assert range(900_000_000, 900_100_000) == HELD_OUT_SEEDS


def test_training_may_use_everything_around_it() -> None:
    assert training_seeds(0, 10) == range(10)
    assert training_seeds(HELD_OUT_SEEDS.start - 5, 5).stop == HELD_OUT_SEEDS.start
    assert training_seeds(HELD_OUT_SEEDS.stop, 5).start == HELD_OUT_SEEDS.stop
    assert training_seed(3) == 3


@pytest.mark.parametrize(
    ("start", "count"),
    [
        (HELD_OUT_SEEDS.start - 5, 6),
        (HELD_OUT_SEEDS.start + 10, 3),
        (HELD_OUT_SEEDS.stop - 1, 1),
        (0, HELD_OUT_SEEDS.stop + 7),
        (-1, 5),
    ],
)
def test_training_never_reaches_into_it(start: int, count: int) -> None:
    with pytest.raises(DataError):
        training_seeds(start, count)


def test_one_held_out_seed_is_refused_too() -> None:
    with pytest.raises(DataError, match="held-out"):
        training_seed(HELD_OUT_SEEDS[0])


def test_held_out_seeds_come_from_the_range_alone() -> None:
    assert held_out_seeds(500, start=100) == HELD_OUT_SEEDS[100:600]
    with pytest.raises(DataError, match="that many"):
        held_out_seeds(1, start=len(HELD_OUT_SEEDS))
