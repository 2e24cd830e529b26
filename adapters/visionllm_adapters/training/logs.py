"""What a run writes while it goes: CSV, TensorBoard where it is installed, and curves at the end."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, Final

from visionllm_sdk.errors import MissingExtraError
from visionllm_sdk.extras import import_extra

LOG: Final = "log.csv"
CURVES: Final = "curves.png"
_FIELDS: Final = ("step", "seconds", "kind", "name", "value")


class Log:
    """One line for every number: step, seconds, kind (`loss`, `score`, `rate`), name, value.

    Lines of steps after the one that a run goes on from are dropped: they will be written again.

    Args:
        folder: where `log.csv` and the TensorBoard files go.
        step: where the run goes on.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        self.path = folder / LOG
        kept = [row for row in _lines(self.path) if row["step"] <= step] if self.path.is_file() else []
        unfinished = folder / f"{LOG}.unfinished"
        with unfinished.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, _FIELDS)
            writer.writeheader()
            writer.writerows(kept)
        unfinished.replace(self.path)
        self._board = _board(folder / "tensorboard")

    def add(self, step: int, seconds: float, kind: str, numbers: Mapping[str, float]) -> None:
        """Write numbers of a step."""
        with self.path.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, _FIELDS)
            for name, value in numbers.items():
                row = (step, f"{seconds:.1f}", kind, name, f"{value:.6g}")
                writer.writerow(dict(zip(_FIELDS, row, strict=True)))
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Flush everything."""
        if self._board is not None:
            self._board.close()


def _board(folder: Path) -> Any:
    try:
        import_extra("tensorboard", extra="finetune")
    except MissingExtraError:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder))


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log, numbers as numbers."""
    return list(_lines(path))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as stream:
        text = stream.read()
    whole = text[: text.rfind("\n") + 1]  # a kill cuts the last line: the run that goes on writes it again
    for row in csv.DictReader(StringIO(whole)):
        yield {
            "step": int(row["step"]),
            "seconds": float(row["seconds"]),
            "kind": row["kind"],
            "name": row["name"],
            "value": float(row["value"]),
        }


def draw_curves(path: Path, out: Path) -> None:
    """Losses and scores over the steps of a log, as a PNG.

    Raises:
        MissingExtraError: `matplotlib` is not installed.
    """
    figure_module = import_extra("matplotlib.figure", extra="finetune")
    rows = read_log(path)
    figure = figure_module.Figure(figsize=(10, 4), layout="constrained")
    for axes, kind in zip(figure.subplots(1, 2), ("loss", "score"), strict=True):
        for name in dict.fromkeys(row["name"] for row in rows if row["kind"] == kind):
            points = [(r["step"], r["value"]) for r in rows if r["kind"] == kind and r["name"] == name]
            smooth = _smoothed([value for _, value in points]) if kind == "loss" else [v for _, v in points]
            axes.plot([step for step, _ in points], smooth, label=name, marker="" if kind == "loss" else "o")
        axes.set_xlabel("step")
        axes.set_title(kind)
        axes.grid(alpha=0.3)
        if axes.lines:
            legend = axes.legend(fontsize=8 if len(axes.lines) <= 12 else 5, ncols=-(-len(axes.lines) // 16))
            legend.set_in_layout(False)  # a tall one would leave no room for the curves
    figure.savefig(out, dpi=110)


def _smoothed(values: Sequence[float], inertia: float = 0.85) -> list[float]:
    """Running mean; the raw losses of small batches hide their trend."""
    found: list[float] = []
    for value in values:
        found.append(value if not found else inertia * found[-1] + (1 - inertia) * value)
    return found
