"""A run on the disk: everything that is needed to go on after a kill, as safetensors and JSON."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from visionllm_sdk.errors import AdapterError

STATE: Final = "state.safetensors"
_MOMENTS: Final = ("exp_avg", "exp_avg_sq")


@dataclass(slots=True, kw_only=True)
class Progress:
    """Where a run is.

    Attributes:
        step: optimiser steps done.
        steps: planned ones.
        micro: examples computed together.
        elapsed: seconds of work in all sittings.
        best: best value of the task metric.
        best_step: when.
        since_best: measurements since then.
        history: measurements: step, value and figures.
        notes: what happened, for the report.
    """

    step: int = 0
    steps: int = 0
    micro: int = 1
    elapsed: float = 0.0
    best: float = -1.0
    best_step: int = 0
    since_best: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        return {name: getattr(self, name) for name in self.__slots__}


def write_json(path: Path, content: Any) -> None:
    """Write JSON in one move: a kill never leaves half of it for the run that goes on."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(path)


class RunFolder:
    """Where a run keeps its state: beside the output, until that is finished.

    Args:
        output: folder of the adapter to be.
        identity: settings and data; a run of others is not continued.
    """

    def __init__(self, output: Path, identity: Mapping[str, Any]) -> None:
        self.path = output.with_name(f"{output.name}.training")
        self.identity = json.loads(json.dumps(identity, sort_keys=True, default=str))

    def open(self, *, resume: bool) -> bool:
        """Make the folder, or find a state to go on from; True if there is one.

        Raises:
            AdapterError: the folder holds a run of other settings or data, or cannot be written.
        """
        try:
            return self._open(resume=resume)
        except OSError as error:
            raise AdapterError(
                f"the run cannot keep its state beside the output: {error.strerror}",
                value=str(self.path),
                remedy="Choose an output in a folder that can be written to.",
            ) from error

    def _open(self, *, resume: bool) -> bool:
        known = self.path / "run.json"
        if known.is_file():
            if resume and self._identity_in(known) == self.identity:
                return (self.path / STATE).is_file()
            if resume:
                raise AdapterError(
                    "there is an unfinished run with other settings or data",
                    value=str(self.path),
                    remedy="Repeat its command to go on, remove the folder, or pass --restart.",
                )
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(known, self.identity)
        return False

    @staticmethod
    def _identity_in(path: Path) -> Any:
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise _damaged(path, error) from error

    def save(
        self,
        progress: Progress,
        parameters: Mapping[str, nn.Parameter],
        optimiser: torch.optim.Optimizer,
        best: Mapping[str, Tensor],
    ) -> None:
        """Write the state in one move, so that a kill never leaves half of it.

        Raises:
            AdapterError: the disk is full or read-only.
        """
        from safetensors.torch import save_file

        tensors = {f"value/{name}": value.detach().cpu().contiguous() for name, value in parameters.items()}
        for name, parameter in parameters.items():
            kept = optimiser.state.get(parameter, {})
            tensors |= {f"{moment}/{name}": kept[moment].cpu().contiguous() for moment in _MOMENTS if kept}
            if kept:
                tensors[f"count/{name}"] = torch.as_tensor(float(kept["step"]))
        tensors |= {f"best/{name}": value.contiguous() for name, value in best.items()}
        unfinished = self.path / f"{STATE}.unfinished"
        try:
            save_file(tensors, unfinished, metadata={"progress": json.dumps(progress.as_dict())})
            unfinished.replace(self.path / STATE)
        except (OSError, RuntimeError) as error:
            unfinished.unlink(missing_ok=True)
            raise AdapterError(
                f"the state of the run could not be saved: {error}",
                value=str(self.path),
                remedy="Free some space and repeat the command: it goes on from the last saved step.",
            ) from error

    @torch.no_grad()
    def load(
        self, parameters: Mapping[str, nn.Parameter], optimiser: torch.optim.Optimizer
    ) -> tuple[Progress, dict[str, Tensor]]:
        """Put everything back; returns the progress and the best values so far.

        Raises:
            AdapterError: a state of other parameters, or a damaged one.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path / STATE, framework="pt") as file:
                progress = Progress(**json.loads(file.metadata()["progress"]))
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
        except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
            raise _damaged(self.path / STATE, error) from error
        missing = [name for name in parameters if f"value/{name}" not in tensors]
        if missing:
            raise AdapterError(
                "the unfinished run trained other parameters",
                value=missing[0],
                remedy="Remove its folder, or pass resume=False (--restart).",
            )
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"value/{name}"])
            if f"count/{name}" in tensors:
                moments = {m: tensors[f"{m}/{name}"].to(parameter) for m in _MOMENTS}
                optimiser.state[parameter] = {"step": tensors[f"count/{name}"], **moments}
        best = {k.removeprefix("best/"): v for k, v in tensors.items() if k.startswith("best/")}
        return progress, best

    def close(self) -> None:
        """Remove the folder: the adapter is finished."""
        shutil.rmtree(self.path, ignore_errors=True)


def _damaged(path: Path, error: Exception) -> AdapterError:
    return AdapterError(
        f"the state of the unfinished run cannot be read: {error}",
        value=str(path),
        remedy="Remove its folder, or pass resume=False (--restart).",
    )
