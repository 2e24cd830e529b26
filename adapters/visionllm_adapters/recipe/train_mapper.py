"""Last stage of drawing: how each denoiser reads super-links, with everything else frozen.

The language model is by far the dearest part and stays as it is here: what it says for a batch of captions is
kept, and the small mappers learn from what is kept, ten steps for every batch it speaks.
"""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from visionllm_adapters.recipe.drawing_tokens import layout_tensors, order_tensors
from visionllm_adapters.recipe.layouts import plan_layout
from visionllm_adapters.recipe.packing import Packer
from visionllm_adapters.recipe.running import Averages, Run
from visionllm_adapters.recipe.teachers import Teachers
from visionllm_adapters.recipe.train_joint import Maker, Student
from visionllm_adapters.recipe.train_language import LanguageTrainee
from visionllm_adapters.recipe.train_vision import Eyes
from visionllm_adapters.recipe.warm import saved_extra, saved_module
from visionllm_sdk.model.precision import native_bfloat16
from visionllm_sdk.scenes.checker import Asked
from visionllm_sdk.scenes.drawing_language import EditWords, Order

WIDTH: Final = 256
BATCH: Final = 64
KEPT: Final = 8000
"""Super-links of each kind that are kept: about half a gigabyte in all."""
STEPS: Final = 10


class Pool:
    """What the language model said, and what the denoiser should hear.

    Args:
        rng: draws batches.
    """

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._pairs: deque[tuple[Tensor, Tensor]] = deque(maxlen=KEPT)

    def __len__(self) -> int:
        return len(self._pairs)

    def add(self, states: Tensor, wanted: Tensor) -> None:
        """Keep super-links (m, 64, C) and conditioning tokens (m, 64, d)."""
        self._pairs += zip(states.bfloat16(), wanted.bfloat16(), strict=True)

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """`count` pairs by chance, (count, 64, C) and (count, 64, d)."""
        chosen = self._rng.choices(self._pairs, k=count)
        states, wanted = zip(*chosen, strict=True)
        return torch.stack(states).float(), torch.stack(wanted).float()


class Speaker:
    """Asks for pictures and keeps what the language model says.

    Args:
        student: speaks; nothing of it but the mappers is trained.
        teachers: know what should be heard.
        maker: thinks requests up.
        rng: draws from what is kept.
    """

    def __init__(self, student: Student, teachers: Teachers, maker: Maker, rng: Random) -> None:
        self.student, self.teachers, self.maker = student, teachers, maker
        self.pools = {"gen": Pool(rng), "edit": Pool(rng)}
        self.mappers = {"gen": student.sd, "edit": student.ip2p}

    @torch.no_grad()
    def speak(self) -> None:
        """One batch of requests."""
        batch = self.maker.requests_to_draw()
        with torch.autocast("cpu", torch.bfloat16, enabled=native_bfloat16()):
            _, _, states = self.student.model.loss(batch.packed, batch.tokens, batch.regions)
        for table, pool in self.pools.items():
            orders = batch.packed.orders[table]
            if orders:
                pool.add(states[table], self._wanted(table, orders))

    def _wanted(self, table: str, orders: Sequence[Order]) -> Tensor:
        if table == "gen" and self.teachers.scenes is not None:
            asked = [one for one in orders if isinstance(one, Asked)]
            scenes: Tensor = self.teachers.scenes(*layout_tensors([plan_layout(one) for one in asked]))
            return scenes
        assert self.teachers.edits is not None
        edits: Tensor = self.teachers.edits(*order_tensors([o for o in orders if isinstance(o, EditWords)]))
        return edits

    def losses(self) -> dict[str, Tensor]:
        """Distance of what is heard from what should be, as a share of its variance, by table."""
        found: dict[str, Tensor] = {}
        for table, pool in self.pools.items():
            if len(pool):
                states, wanted = pool.draw(BATCH)
                heard = self.mappers[table].condition(states)
                found[table] = functional.mse_loss(heard, wanted) / wanted.var()
        return found


def train(arguments: argparse.Namespace) -> None:
    """Train until the minutes are over; resumes from the output folder."""
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    packer = Packer.from_file(arguments.vocabulary)
    eyes = Eyes(WIDTH)
    student = Student(LanguageTrainee(packer.size), eyes)
    student.load_state_dict(saved_module(arguments.student, "student"), strict=False)
    student.requires_grad_(False)
    mappers = [student.sd, student.ip2p]
    for mapper in mappers:
        mapper.requires_grad_(True)
    given = {"generation": arguments.generation, "editing": arguments.editing}
    teachers = Teachers.recalled() if arguments.recalled else Teachers(**given)
    parameters = [p for mapper in mappers for p in mapper.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=arguments.lr, betas=(0.9, 0.98), weight_decay=0.01)
    run = Run(arguments.out, {"student": student}, [optimiser], arguments.minutes, arguments.every, tail=0.7)
    rng = Random(arguments.seed * 9_000_001 + run.step)
    maker = Maker(student, eyes.vis_encoder, packer, rng, arguments)
    speaker, seen = Speaker(student, teachers, maker, rng), Averages()
    earlier = saved_extra(arguments.student)
    run.extra = {**earlier, "taught": sorted({*earlier.get("taught", ()), "generation", "editing"})}
    for _ in run.steps(seen.take):
        speaker.speak()
        for _ in range(STEPS):
            losses = speaker.losses()
            run.update(torch.stack(list(losses.values())).sum())
            seen.add(**{f"{table}_distance": float(loss.detach()) for table, loss in losses.items()})


def main() -> None:
    """`python -m visionllm_adapters.recipe.train_mapper --minutes 10`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocabulary", type=Path, default=Path("runs/embedded/vocabulary/tokenizer.model"))
    parser.add_argument("--student", type=Path, default=Path("runs/embedded/joint/last.pt"))
    parser.add_argument("--generation", type=Path, default=Path("runs/embedded/generation/last.pt"))
    parser.add_argument("--editing", type=Path, default=Path("runs/embedded/editing/last.pt"))
    parser.add_argument(
        "--recalled", action="store_true", help="teach what the finished model's stand-ins say, not a run's"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/embedded/mapper"))
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--every", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.set_defaults(skills=["pose", "regions", "drawing"])
    train(parser.parse_args())


if __name__ == "__main__":
    main()
