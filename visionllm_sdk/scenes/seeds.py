"""Which scenes may be learnt from, and which only measure.

A scene is its seed, so one frozen range of seeds is a test set that nobody needs to store.
"""

from __future__ import annotations

from typing import Final

from visionllm_sdk.errors import DataError

HELD_OUT_SEEDS: Final = range(900_000_000, 900_100_000)
"""Scenes of every evaluation. Never changed, never drawn in training."""


def training_seeds(start: int, count: int) -> range:
    """The seeds `start` .. `start + count - 1`, for training.

    Raises:
        DataError: when one of them is negative or held out.
    """
    seeds = range(start, start + count)
    if start < 0 or count < 0:
        raise DataError("training seeds must not be negative", value=seeds, remedy="Start at 0 or above.")
    if start < HELD_OUT_SEEDS.stop and seeds.stop > HELD_OUT_SEEDS.start and count:
        raise DataError(
            "these training seeds reach into the held-out scenes",
            value=seeds,
            limit=f"anything outside {HELD_OUT_SEEDS}",
            remedy="Choose another start: a model must not learn from the scenes it is measured on.",
        )
    return seeds


def training_seed(seed: int) -> int:
    """`seed` itself, when it may be trained on.

    Raises:
        DataError: when it is negative or held out.
    """
    return training_seeds(seed, 1)[0]


def held_out_seeds(count: int, *, start: int = 0) -> range:
    """`count` seeds for measuring, from the `start`-th held-out one on.

    Raises:
        DataError: when the range has fewer.
    """
    if start < 0 or count < 0 or start + count > len(HELD_OUT_SEEDS):
        raise DataError(
            "there are not that many held-out scenes",
            value=f"{count} from {start}",
            limit=f"{len(HELD_OUT_SEEDS)} in all",
            remedy="Ask for fewer.",
        )
    return HELD_OUT_SEEDS[start : start + count]
