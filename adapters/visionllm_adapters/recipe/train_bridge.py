"""Between stages 4 and 5, where the language model is finished already: new eyes say what the old ones said.

A language model that has learnt to read the tokens of one vision encoder reads those of another badly,
however much they tell. Here a new bridge is fitted so that its tokens are those of the finished model, on
pictures that both encoders see alike (without margins). What the new eyes know better stays in what it reads.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from random import Random

import torch
from torch import nn

from visionllm_adapters.recipe.pictures import Drawn, draw_mixed
from visionllm_adapters.recipe.running import Averages, Run, channels_last
from visionllm_adapters.recipe.symbols import MAX_STRETCH, symbol_features
from visionllm_adapters.recipe.train_vision import OUTPUTS, VISION, Eyes, tiles_of
from visionllm_adapters.recipe.warm import saved_module, warm_start
from visionllm_sdk.model.precision import native_bfloat16
from visionllm_sdk.model.tiling import WHOLE, canvas_of

_WIDTH = 256


def has_margins(one: Drawn) -> bool:
    """Whether a picture does not fill its tile."""
    height, width = one.image.shape[:2]
    return canvas_of(width, height, max_stretch=MAX_STRETCH).frame != WHOLE


def occupied(drawn: list[Drawn], cells: int) -> torch.Tensor:
    """Which tokens stand for an object: (B, cells) bool."""
    taken = torch.zeros(len(drawn), cells, dtype=torch.bool)
    for row, one in enumerate(drawn):
        taken[row, symbol_features(one.facts)[2]] = True
    return taken


def train(arguments: argparse.Namespace) -> None:
    """Train until the minutes are over; resumes from the output folder."""
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    eyes, finished = Eyes(_WIDTH), Eyes(_WIDTH)
    eyes.load_state_dict(saved_module(arguments.vision, "eyes"))
    heads = nn.Linear(VISION["hidden_sizes"][-1], OUTPUTS)
    heads.load_state_dict(saved_module(arguments.vision, "heads"))
    warm_start(arguments.warm, vis_encoder=finished.vis_encoder, vl_bridge=finished.vl_bridge)
    for one in (eyes, finished):
        one.eval()
        channels_last(one.vis_encoder)
    eyes.vis_encoder.requires_grad_(False)
    finished.requires_grad_(False)
    optimiser = torch.optim.AdamW(eyes.vl_bridge.parameters(), lr=arguments.lr, weight_decay=1e-4)
    # With the heads, so that its checkpoint can stand where that of stage 4 does.
    modules = {"eyes": eyes, "heads": heads}
    run = Run(arguments.out, modules, [optimiser], arguments.minutes, arguments.every, tail=0.7)
    seen, rng = Averages(), Random(arguments.seed * 3_000_017 + run.step)
    for step in run.steps(seen.take):
        first = 300_000_000 + arguments.seed * 10_000_000 + step * arguments.batch
        scenes = draw_mixed(rng, range(first, first + arguments.batch), sides=(128, 288), area=288 * 288)
        drawn = [one for one in scenes if not has_margins(one)]
        if not drawn:
            continue
        pixels = tiles_of(drawn).contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=arguments.bf16):
            patches, known = (one.vis_encoder(pixels).tokens.float() for one in (eyes, finished))
        with torch.no_grad():
            wanted = finished.vl_bridge(known)
        error = (eyes.vl_bridge(patches) - wanted).square().mean(-1) / wanted.var()
        full = occupied(drawn, wanted.shape[1])
        on_things = error[full].mean() if full.any() else error.new_zeros(())
        elsewhere = error[~full].mean()
        run.update(on_things + 0.5 * elsewhere, clip=5.0)
        seen.add(on_things=float(on_things.detach()), elsewhere=float(elsewhere.detach()))


def main() -> None:
    """`python -m visionllm_adapters.recipe.train_bridge --warm FOLDER`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vision", type=Path, default=Path("runs/embedded/vision/last.pt"))
    parser.add_argument("--warm", type=Path, required=True, help="the finished model")
    parser.add_argument("--out", type=Path, default=Path("runs/embedded/bridge"))
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=native_bfloat16())
    parser.add_argument("--every", type=float, default=30.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
