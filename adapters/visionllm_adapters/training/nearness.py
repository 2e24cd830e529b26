"""As little change as the task needs.

Weights on the way from the base to what was learnt often do the new task as well as those at its end, and
lose less of what the base could do (WiSE-FT, Wortsman et al., 2022).
The end of a run looks back along the way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from torch import Tensor, nn

from visionllm_adapters.training.selection import put_values

Validate = Callable[[], tuple[float, dict[str, float]]]
"""Measures the model as it is: the figure that decides, and all figures."""
SHARES: Final = (0.5, 0.75)
"""Of the way, shortest first; the first that is good enough is taken."""
_RANDOM_FACTOR: Final = "lora_A"
"""The factor of a low-rank update that starts at random; the other one starts at 0 and carries the way."""


def between(base: Mapping[str, Tensor], learnt: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Values at a share of the way, 0: the base, 1: what was learnt.

    Args:
        base: by name, as before the first step.
        learnt: the same names.
        share: 0 to 1.
    """
    return {
        name: value if _RANDOM_FACTOR in name.split(".") else base[name].lerp(value, share)
        for name, value in learnt.items()
    }


def stay_near(
    parameters: dict[str, nn.Parameter],
    base: Mapping[str, Tensor],
    learnt: Mapping[str, Tensor],
    validate: Validate,
    *,
    enough: float,
) -> float:
    """Put the nearest values to the base whose task metric is still good enough.

    Args:
        parameters: get the values.
        base: as before the first step.
        learnt: the best that were measured.
        validate: measures the model as it is.
        enough: lowest value of the metric.

    Returns:
        The share of the way that is left; 1 where nothing nearer will do, or nothing can be measured.
    """
    for share in SHARES:
        put_values(parameters, between(base, learnt, share))
        value, figures = validate()
        if not figures:
            break
        if value >= enough:
            return share
    put_values(parameters, dict(learnt))
    return 1.0
