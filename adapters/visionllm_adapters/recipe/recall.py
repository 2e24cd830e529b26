"""Stand-ins of drawing from a finished model: what its super-links say, written down for the drawing stages.

A shipped model holds no stand-in tokens. Fitted to what its mappers hear, they let the drawing stages go on
from the shipped denoisers without a language model beside them.
"""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from visionllm_adapters.recipe.drawing_tokens import EditTokens, SceneTokens, layout_tensors, order_tensors
from visionllm_adapters.recipe.layouts import plan_layout
from visionllm_adapters.recipe.packing import Packer
from visionllm_adapters.recipe.running import Averages, Run
from visionllm_adapters.recipe.teachers import Teachers
from visionllm_adapters.recipe.train_joint import Maker, Student, start
from visionllm_adapters.recipe.train_language import LanguageTrainee
from visionllm_adapters.recipe.train_vision import Eyes
from visionllm_adapters.recipe.warm import AIDS, load_aids, save_aids
from visionllm_sdk.model.precision import native_bfloat16
from visionllm_sdk.scenes.checker import Asked
from visionllm_sdk.scenes.drawing_language import EditWords, Order

_WIDTH: Final = 256
_BATCH: Final = 64
_KEPT: Final = 8000
_STEPS: Final = 20


class Recalled(nn.Module):
    """The stand-in tokens of both drawing decoders."""

    def __init__(self) -> None:
        super().__init__()
        self.scene_tokens = SceneTokens()
        self.edit_tokens = EditTokens()

    def forward(self, table: str, orders: Sequence[Order]) -> Tensor:
        """(B, 64, d) tokens of the orders of one query table, `gen` or `edit`."""
        if table == "gen":
            layouts = [plan_layout(one) for one in orders if isinstance(one, Asked)]
            return torch.as_tensor(self.scene_tokens(*layout_tensors(layouts)))
        words = [one for one in orders if isinstance(one, EditWords)]
        return torch.as_tensor(self.edit_tokens(*order_tensors(words)))


@torch.no_grad()
def hear(student: Student, maker: Maker) -> dict[str, list[tuple[Order, Tensor]]]:
    """What the mappers hear in the super-links of one batch of requests, by query table."""
    batch = maker.requests_to_draw()
    with torch.autocast("cpu", torch.bfloat16, enabled=native_bfloat16()):
        _, _, states = student.model.loss(batch.packed, batch.tokens, batch.regions)
    heard: dict[str, list[tuple[Order, Tensor]]] = {}
    for table, mapper in (("gen", student.sd), ("edit", student.ip2p)):
        orders = batch.packed.orders[table]
        if orders:
            heard[table] = list(zip(orders, mapper.condition(states[table].float()), strict=True))
    return heard


def train(arguments: argparse.Namespace) -> None:
    """Fit until the minutes are over, then write the tokens beside the other training aids."""
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    packer = Packer.from_file(arguments.warm / "tokenizer.model")
    eyes = Eyes(_WIDTH)
    student = Student(LanguageTrainee(packer.size), eyes)
    start(arguments, student, eyes.vis_encoder, Teachers())
    student.requires_grad_(False)
    recalled = Recalled()
    optimiser = torch.optim.AdamW(recalled.parameters(), lr=arguments.lr, betas=(0.9, 0.98))
    run = Run(
        arguments.out, {"recalled": recalled}, [optimiser], arguments.minutes, arguments.every, tail=0.7
    )
    rng = Random(arguments.seed * 9_000_001 + run.step)
    maker = Maker(student, eyes.vis_encoder, packer, rng, arguments)
    kept: dict[str, deque[tuple[Order, Tensor]]] = {name: deque(maxlen=_KEPT) for name in ("gen", "edit")}
    seen = Averages()
    for _ in run.steps(seen.take):
        for table, heard in hear(student, maker).items():
            kept[table] += heard
        for _ in range(_STEPS):
            losses = []
            for table, pairs in kept.items():
                if pairs:
                    orders, wanted = zip(*rng.choices(pairs, k=_BATCH), strict=True)
                    target = torch.stack(wanted)
                    losses.append(functional.mse_loss(recalled(table, orders), target) / target.var())
                    seen.add(**{f"{table}_distance": float(losses[-1].detach())})
            run.update(torch.stack(losses).sum())
    tokens = {name: recalled.get_submodule(name).state_dict() for name in ("scene_tokens", "edit_tokens")}
    save_aids({**load_aids(), **tokens}, AIDS)


def main() -> None:
    """`python -m visionllm_adapters.recipe.recall --minutes 8`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--warm", type=Path, default=Path("visionllm_sdk/embedded"))
    parser.add_argument("--out", type=Path, default=Path("runs/embedded/recall"))
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--every", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.set_defaults(
        skills=["pose", "regions", "drawing"], generation=None, editing=None, student=None, only_drawing=True
    )
    train(parser.parse_args())


if __name__ == "__main__":
    main()
