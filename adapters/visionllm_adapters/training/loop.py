"""The training loop: steps, measurements, saved states - on one process or several."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from visionllm_adapters.training.batches import Schedule
from visionllm_adapters.training.examples import Example
from visionllm_adapters.training.logs import Log
from visionllm_adapters.training.nearness import Validate, stay_near
from visionllm_adapters.training.selection import Learning, copy_values, put_values
from visionllm_adapters.training.settings import FinetuneSettings
from visionllm_adapters.training.sizes import InputSizes
from visionllm_adapters.training.state import Progress, RunFolder
from visionllm_adapters.training.trainee import Trainee
from visionllm_sdk.errors import AdapterError, InputError
from visionllm_sdk.extras import import_extra

Say = Callable[[str], None]
_MEMORY_WORDS: Final = ("out of memory", "can't allocate memory", "not enough memory")
_LEAST_RATE: Final = 0.05
_MOST_LOST: Final = 4
"""Steps in a row without a finite gradient that end a run."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out; torch has one class for each way."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).casefold()
    return isinstance(error, RuntimeError) and any(words in text for words in _MEMORY_WORDS)


@dataclass(frozen=True, kw_only=True)
class Ingredients:
    """What a run is made of.

    Attributes:
        trainee: the model.
        learning: what of it learns.
        schedule: what it learns from.
        sizes: of the pictures, step by step.
        settings: all numbers.
        folder: where the state is kept.
        validate: measures the task metric.
        say: tells the user what happens.
    """

    trainee: Trainee
    learning: Learning
    schedule: Schedule
    sizes: InputSizes
    settings: FinetuneSettings
    folder: RunFolder
    validate: Validate
    say: Say


class Loop:
    """Trains until the steps, the minutes or the patience are over.

    Args:
        parts: what the run is made of.
        accelerator: from :func:`make_accelerator`.
        resume: go on from a saved state, if there is one.

    Raises:
        InputError: more processes than examples in a step.
        AdapterError: a saved state of another run.
    """

    def __init__(self, parts: Ingredients, accelerator: Any, *, resume: bool) -> None:
        self.parts = parts
        settings = parts.settings
        self.accelerator = accelerator
        self.world = self.accelerator.num_processes
        if settings.batch < self.world:
            raise InputError(
                "a step needs at least one example for every process",
                value=settings.batch,
                limit=f"{self.world} or more",
            )
        self.parameters = parts.learning.parameters()
        self.optimiser = torch.optim.AdamW(
            parts.learning.groups(settings), betas=(0.9, 0.98), weight_decay=settings.weight_decay
        )
        self.progress = Progress(
            steps=self._planned(), micro=min(settings.micro_batch, settings.batch // self.world)
        )
        self.best: dict[str, Tensor] = {}
        self.base = copy_values(self.parameters)
        if resume:
            self.progress, self.best = parts.folder.load(self.parameters, self.optimiser)
        self.log = Log(parts.folder.path, self.progress.step) if self.accelerator.is_main_process else None
        self.trainee, self._stepper = self.accelerator.prepare(parts.trainee, self.optimiser)
        self._started = time.monotonic() - self.progress.elapsed
        self._saved = self.progress.elapsed
        self._lost = 0

    def _planned(self) -> int:
        """Optimiser steps; 0: the clock alone decides."""
        settings = self.parts.settings
        if settings.steps is not None:
            return settings.steps
        if settings.minutes is not None:
            return 0
        return max(1, math.ceil(settings.epochs * self.parts.schedule.steps_per_epoch))

    @property
    def fraction(self) -> float:
        """How much of the run is done, 0 to 1."""
        progress, minutes = self.progress, self.parts.settings.minutes
        by_steps = progress.step / progress.steps if progress.steps else 0.0
        by_clock = progress.elapsed / (60 * minutes) if minutes else 0.0
        return min(1.0, max(by_steps, by_clock))

    def run(self) -> Progress:
        """Train; the model then has the best values that were measured, or others nearer to the base."""
        settings = self.parts.settings
        while self.fraction < 1 and not self._patience_is_over():
            self.trainee.train()
            numbers = self._step_that_fits()
            self.progress.step += 1
            self.progress.elapsed = self._elapsed()
            self._note("loss", numbers)
            due = len(self.progress.history) < math.floor(self.fraction * settings.validate + 1e-9)
            if due:
                self._measure()
            if due or self.progress.elapsed - self._saved > settings.save_seconds:
                self._save()
        if not self.progress.history or self.progress.history[-1]["step"] != self.progress.step:
            self._measure()
            self._save()
        self.trainee.eval()
        if self.best:
            put_values(self.parameters, self.best)
            self._stay_near()
        if self.log is not None:
            self.log.close()
        return self.progress

    def _elapsed(self) -> float:
        """Seconds of work by the clock of the first process.

        When to measure, to save and to end hangs on it: two that go by their own clocks part, and wait for
        each other for ever.
        """
        own = time.monotonic() - self._started
        if self.world == 1:
            return own
        told = torch.tensor(
            [own if self.accelerator.is_main_process else 0.0], device=self.accelerator.device
        )
        return float(self.accelerator.reduce(told, "sum")[0])

    def _patience_is_over(self) -> bool:
        patience = self.parts.settings.patience
        return patience is not None and self.progress.since_best >= patience

    # -- one step ------------------------------------------------------------------------------------------

    def _step_that_fits(self) -> dict[str, float]:
        """One step; out of memory, it is done again in smaller portions."""
        while True:
            try:
                return self._step()
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or self.progress.micro == 1:
                    raise
                self._stepper.zero_grad(set_to_none=True)
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                self.progress.micro //= 2
                note = (
                    f"step {self.progress.step}: out of memory; going on with {self.progress.micro} "
                    "example(s) at once"
                )
                self.progress.notes.append(note)
                self.parts.say(note)

    def _step(self) -> dict[str, float]:
        settings, step = self.parts.settings, self.progress.step
        rate = learning_rate(self.fraction, settings.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = group["initial"] * rate
        portions = self.parts.schedule.step(step, self.progress.micro)
        own = list(enumerate(portions))[self.accelerator.process_index :: self.world]
        with self.parts.sizes.at(step, self.fraction):
            sums = self._accumulate(step, own)
        norm = self.accelerator.clip_grad_norm_(list(self.parameters.values()), settings.clip)
        if norm is None or math.isfinite(float(norm)):
            self._lost = 0
            self._stepper.step()
        else:
            self._leave_out(step, sums)
        self._stepper.zero_grad(set_to_none=True)
        return self._averaged(sums)

    def _leave_out(self, step: int, terms: dict[str, float]) -> None:
        """Learn nothing from a step: its gradient would make a NaN of every weight.

        Raises:
            AdapterError: several steps in a row are like that.
        """
        told = ", ".join(f"{name} {number:.3g}" for name, number in terms.items())
        note = f"step {step}: left out, its gradient is not finite ({told})"
        self.progress.notes.append(note)
        self.parts.say(note)
        self._lost += 1
        if self._lost >= _MOST_LOST:
            raise AdapterError(
                f"the gradients of {self._lost} steps in a row are not finite",
                value=told,
                remedy="Look for extreme labels with `visionllm data check`, or lower the rates.",
            )

    def _accumulate(self, step: int, own: Sequence[tuple[int, Sequence[Example]]]) -> dict[str, float]:
        """Gradients of this process's portions, and the mean of their losses."""
        sums: dict[str, float] = {}
        share = 1 / len(own)
        for number, (place, portion) in enumerate(own):
            last = number == len(own) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.trainee):
                for name, value in self._learn(step, place, portion, share).items():
                    sums[name] = sums.get(name, 0.0) + value * share
        return sums

    def _learn(self, step: int, place: int, portion: Sequence[Example], share: float) -> dict[str, float]:
        """Forward and backward of one portion, with random numbers of its own."""
        torch.manual_seed(zlib.crc32(f"{self.parts.settings.seed}/{step}/{place}".encode()))
        loss, terms = self.trainee(portion)
        self.accelerator.backward(loss * share)
        numbers = {name: float(value.detach()) for name, value in terms.items()}
        return {"total": float(loss.detach()), **numbers}

    def _averaged(self, numbers: dict[str, float]) -> dict[str, float]:
        """The mean over all processes of the loss; its parts are this process's own."""
        if self.world == 1:
            return numbers
        total = torch.tensor([numbers["total"]], device=self.accelerator.device)
        return {**numbers, "total": float(self.accelerator.reduce(total, "mean")[0])}

    # -- measuring and saving ------------------------------------------------------------------------------

    def _measure(self) -> None:
        self.trainee.eval()
        value, figures = self.parts.validate()
        progress = self.progress
        progress.elapsed = self._elapsed()
        progress.history.append(
            {"step": progress.step, "value": value, "seconds": round(progress.elapsed, 1), **figures}
        )
        if value > progress.best:
            progress.best, progress.best_step, progress.since_best = value, progress.step, 0
            self.best = copy_values(self.parameters)
        else:
            progress.since_best += 1
        self._note("score", figures)
        left = progress.elapsed * (1 - self.fraction) / max(self.fraction, 1e-6)
        shown = ", ".join(f"{name} {number:.3f}" for name, number in figures.items())
        self.parts.say(f"step {progress.step}: {shown}; {_clock(progress.elapsed)} done, {_clock(left)} left")

    def _stay_near(self) -> None:
        """Go back towards the base as far as the task allows."""
        slack, progress = self.parts.settings.slack, self.progress
        if not slack or progress.best <= 0:  # of nothing, any share is as good
            return
        enough = (1 - slack) * progress.best
        share = stay_near(self.parameters, self.base, self.best, self.parts.validate, enough=enough)
        if share < 1:
            note = f"kept {share:.0%} of the way from the base: within {slack:.0%} of the best measured"
            progress.notes.append(note)
            self.parts.say(note)

    def _note(self, kind: str, numbers: dict[str, float]) -> None:
        if self.log is not None:
            self.log.add(self.progress.step, self.progress.elapsed, kind, numbers)

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            self.parts.folder.save(self.progress, self.parameters, self.optimiser, self.best)
        self.accelerator.wait_for_everyone()
        self._saved = self._elapsed()


def make_accelerator(settings: FinetuneSettings, device: torch.device) -> Any:
    """Accelerate's handle on processes and devices; `accelerate launch` says how many there are.

    Raises:
        MissingExtraError: `accelerate` is not installed.
    """
    accelerate = import_extra("accelerate", extra="finetune")
    unused = accelerate.DistributedDataParallelKwargs(find_unused_parameters=True)
    return accelerate.Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="bf16" if _half(settings.precision, device) else "no",
        kwargs_handlers=[unused],
    )


def _half(precision: str, device: torch.device) -> bool:
    """Whether to compute in bfloat16."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def learning_rate(fraction: float, warmup: float) -> float:
    """Factor of the peak rate: a linear rise, then half a cosine down to a twentieth."""
    if fraction < warmup:
        return max(0.02, fraction / warmup)
    done = (fraction - warmup) / (1 - warmup)
    return _LEAST_RATE + (1 - _LEAST_RATE) * 0.5 * (1 + math.cos(math.pi * done))


def _clock(seconds: float) -> str:
    return f"{int(seconds // 60)}:{int(seconds % 60):02d}"
