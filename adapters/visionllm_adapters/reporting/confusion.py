"""What was taken for what, as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from visionllm_sdk.extras import import_extra

_NOTHING: Final = "nothing"


def draw_confusion(table: Mapping[str, Mapping[str, int]], out: Path) -> None:
    """Draw a table of true class -> predicted class -> cases as a PNG; "nothing" comes last.

    Raises:
        MissingExtraError: `matplotlib` is not installed.
    """
    figure_module = import_extra("matplotlib.figure", extra="finetune")
    seen = dict.fromkeys([*table, *(name for row in table.values() for name in row)])
    names = [*(name for name in seen if name != _NOTHING), _NOTHING]
    counts = [[table.get(true, {}).get(found, 0) for found in names] for true in names]
    side = 2.5 + 0.5 * len(names)
    figure = figure_module.Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    shares = [[value / max(1, sum(row)) for value in row] for row in counts]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, values in enumerate(counts):
        for column, value in enumerate(values):
            if value:
                colour = "white" if shares[row][column] > 0.5 else "black"
                axes.text(column, row, str(value), ha="center", va="center", color=colour)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("found")
    axes.set_ylabel("true")
    figure.savefig(out, dpi=110)
