"""Stage 4: the vision encoder learns to put into each patch what the symbolic token of its cell says.

It starts from the backbone of stage 3a, which already knows shapes and colours. First attribute heads teach
it what lies in which cell; then the bridge is fitted to the symbol vectors of the finished language model.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from random import Random
from typing import Any, Final

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from visionllm_adapters.recipe.packing import ANY_COLOUR
from visionllm_adapters.recipe.pictures import MEAN, STD, Drawn, draw_mixed
from visionllm_adapters.recipe.running import Averages, Run, channels_last
from visionllm_adapters.recipe.symbols import GRID, KINDS, MAX_STRETCH, SymbolEncoder, symbol_features
from visionllm_adapters.recipe.train_detector import BACKBONE
from visionllm_adapters.recipe.warm import part, saved_module, warm_start
from visionllm_sdk.model.bridge import build_bridge
from visionllm_sdk.model.precision import native_bfloat16
from visionllm_sdk.model.tiling import cut_tiles, tile_array
from visionllm_sdk.model.vision import VisionEncoder, build_resnet
from visionllm_sdk.scenes.facts import SIZES, SceneFacts

TILE: Final = 256
MARGIN: Final = (round(255 * MEAN[0]), round(255 * MEAN[1]), round(255 * MEAN[2]))
VISION: Final[dict[str, Any]] = {**BACKBONE, "image_size": TILE}
OUTPUTS: Final = 1 + len(KINDS) + ANY_COLOUR + 1 + len(SIZES) + 4


class Eyes(nn.Module):
    """Vision encoder and bridge of the embedded model, with random weights.

    Args:
        width: of the language model's embeddings.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.vis_encoder: VisionEncoder = build_resnet(VISION, -1)
        self.vl_bridge: nn.Module = build_bridge("mlp2x_gelu", self.vis_encoder.width, width)


def tiles_of(drawn: list[Drawn]) -> Tensor:
    """(B, 3, TILE, TILE): each picture as its one tile, exactly as the model core makes it."""
    images = [
        cut_tiles(
            Image.fromarray(one.image), max_tiles=1, tile_size=TILE, max_stretch=MAX_STRETCH, fill=MARGIN
        )[0]
        for one in drawn
    ]
    return torch.from_numpy(tile_array(images, mean=MEAN, std=STD))


def cell_targets(scenes: list[SceneFacts]) -> Tensor:
    """(B, cells, OUTPUTS): occupied, kinds, colours, sizes (several in a shared cell), box of one."""
    table = torch.zeros(len(scenes), GRID * GRID, OUTPUTS)
    for row, scene in enumerate(scenes):
        for (kind, colour, size), box, cell in zip(*symbol_features(scene), strict=True):
            slots = [0, 1 + kind, 1 + len(KINDS) + colour, 2 + len(KINDS) + ANY_COLOUR + size]
            table[row, cell, slots] = 1.0
            table[row, cell, -4:] = torch.tensor(box)
    return table


def attribute_loss(logits: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Attributes of every cell against the truth: (B, cells, OUTPUTS) each."""
    full = targets[..., 0] > 0
    occupied = functional.binary_cross_entropy_with_logits(logits[..., 0], targets[..., 0], reduction="none")
    weight = torch.where(full, 1.0, 0.25)
    loss = (occupied * weight).mean() * 4
    if not full.any():
        return loss, {}
    names = functional.binary_cross_entropy_with_logits(logits[full][:, 1:-4], targets[full][:, 1:-4])
    boxes = (logits[full][:, -4:].sigmoid() - targets[full][:, -4:]).abs().mean()
    ends = (1, 1 + len(KINDS), 2 + len(KINDS) + ANY_COLOUR, 2 + len(KINDS) + ANY_COLOUR + len(SIZES))
    right = {
        f"{name}_ok": float(
            targets[full][:, a:b].gather(1, logits[full][:, a:b].argmax(1, keepdim=True)).mean()
        )
        for name, a, b in zip(("kind", "colour", "size"), ends, ends[1:], strict=False)
    }
    found = logits[..., 0] > 0
    right |= {"cells_ok": float((found == full).all(1).float().mean()), "box_l1": float(boxes.detach())}
    return loss + 10 * names + 5 * boxes, right


def start(arguments: argparse.Namespace, eyes: Eyes, heads: nn.Linear, symbols: SymbolEncoder) -> None:
    """Load what the earlier stages learnt: their checkpoints, or (`--warm`) a finished model."""
    if arguments.warm is not None:
        warm_start(
            arguments.warm,
            vis_encoder=eyes.vis_encoder,
            vl_bridge=eyes.vl_bridge,
            heads=heads,
            symbols=symbols,
        )
    else:
        symbols.load_state_dict(part(saved_module(arguments.language, "model"), "symbols."))
    if arguments.student is not None:
        eyes.load_state_dict(saved_module(arguments.student, "eyes"))
        heads.load_state_dict(saved_module(arguments.student, "heads"))
    if arguments.detector is not None:
        learnt = part(saved_module(arguments.detector, "detector"), "model.backbone.conv_encoder.model.")
        eyes.vis_encoder.get_submodule("vision_model").load_state_dict(learnt)
    elif arguments.warm is None:
        learnt = saved_module(arguments.backbone, "backbone")
        eyes.vis_encoder.get_submodule("vision_model").load_state_dict(learnt)


def train(arguments: argparse.Namespace) -> None:
    """Train until the minutes are over; resumes from the output folder."""
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    width = 256
    eyes, heads = Eyes(width), nn.Linear(VISION["hidden_sizes"][-1], OUTPUTS)
    symbols = SymbolEncoder(width).requires_grad_(False)
    start(arguments, eyes, heads, symbols)
    channels_last(eyes.vis_encoder)
    # A finished encoder keeps the statistics that it normalises by: those that it will be used with.
    eyes.vis_encoder.train(arguments.warm is None)
    optimiser = torch.optim.AdamW(
        [*eyes.parameters(), *heads.parameters()], lr=arguments.lr, weight_decay=1e-4
    )
    run = Run(
        arguments.out,
        {"eyes": eyes, "heads": heads},
        [optimiser],
        arguments.minutes,
        arguments.every,
        tail=0.7,
    )
    seen = Averages()
    rng = Random(arguments.seed * 7_000_003 + run.step)
    for step in run.steps(seen.take):
        first = 200_000_000 + arguments.seed * 10_000_000 + step * arguments.batch
        drawn = draw_mixed(rng, range(first, first + arguments.batch), sides=(128, 288), area=288 * 288)
        pixels = tiles_of(drawn).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.bf16):
            tokens = eyes.vis_encoder(pixels).tokens
        tokens = tokens.float()
        scenes = [one.facts for one in drawn]
        targets = cell_targets(scenes)
        loss, right = attribute_loss(heads(tokens), targets)
        with torch.no_grad():
            features = [symbol_features(scene) for scene in scenes]
            wanted = symbols.grid(*([torch.tensor(f[i]) for f in features] for i in range(3)))
        error = (eyes.vl_bridge(tokens) - wanted).square().mean(-1) / wanted.var()
        full = targets[..., 0] > 0
        fitted = error[full].mean() + 0.5 * error[~full].mean()
        loss = loss + 3 * fitted
        right |= {
            "fit_full": float(error[full].mean().detach()),
            "fit_empty": float(error[~full].mean().detach()),
        }
        run.update(loss, clip=5.0)
        seen.add(loss=float(loss.detach()), **right)


def main() -> None:
    """`python -m visionllm_adapters.recipe.train_vision --minutes 25`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", type=Path, default=Path("runs/embedded/backbone/last.pt"))
    parser.add_argument("--detector", type=Path, help="start from the backbone of stage 3 instead")
    parser.add_argument(
        "--language",
        type=Path,
        default=Path("runs/embedded/language/last.pt"),
        help="checkpoint of stage 2, whose symbols the bridge is fitted to",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/embedded/vision"))
    parser.add_argument("--warm", type=Path, help="start from the weights of this checkpoint folder")
    parser.add_argument("--student", type=Path, help="and from those of another run of this stage")
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--lr", type=float, default=6e-4)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=native_bfloat16())
    parser.add_argument("--every", type=float, default=120.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
