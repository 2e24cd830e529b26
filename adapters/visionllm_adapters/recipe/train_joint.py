"""Stage 5: the language model on real image tokens, and super-links that say what stand-in labels said.

The vision encoder and the detector are frozen. Batches of drawn pictures alternate with symbolic ones, which
cost less and keep the questions varied.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional

from visionllm_adapters.recipe.dialogues import Curriculum, branches
from visionllm_adapters.recipe.packing import Branch, Packed, Packer, pack
from visionllm_adapters.recipe.pictures import StandInLabels, draw_batch
from visionllm_adapters.recipe.running import Averages, Run, channels_last
from visionllm_adapters.recipe.symbols import GRID, random_scene
from visionllm_adapters.recipe.train_detector import DETECTOR
from visionllm_adapters.recipe.train_language import (
    LanguageTrainee,
    make_optimisers,
    symbolic_batch,
    symbolic_tokens,
)
from visionllm_adapters.recipe.train_vision import Eyes, tiles_of
from visionllm_adapters.recipe.vocabulary import SYSTEM_PROMPTS
from visionllm_adapters.recipe.warm import part, saved_module, warm_start
from visionllm_tools.detection.config import DetectorConfig
from visionllm_tools.detection.decoder import Detector

WORDS_ONLY = ("detect", "segment", "mixed", "small_talk")


def picture_batch(
    packer: Packer, rng: Random, curriculum: Curriculum, first: int, pictures: int, questions: int
) -> tuple[Packed, Tensor]:
    """Drawn pictures with their questions -> (packed batch, tiles (B, 3, S, S))."""
    drawn = draw_batch(rng, range(first, first + pictures), sides=(128, 288), area=288 * 288)
    rows: list[tuple[list[int], list[int], list[Branch]]] = []
    for one in drawn:
        system = SYSTEM_PROMPTS[0] if rng.random() < 0.85 else rng.choice(SYSTEM_PROMPTS)
        found = branches(one.facts, curriculum.draw(rng, questions), rng, packer)
        rows.append((packer.prefix(system), list(range(GRID * GRID)), found))
    return pack(rows, packer.control["<im_patch>"], GRID), tiles_of(drawn)


def text_batch(packer: Packer, rng: Random, rows: int) -> Packed:
    """Requests without any image: routing must not depend on one."""
    made: list[tuple[list[int], list[int], list[Branch]]] = []
    for _ in range(rows):
        scene = random_scene(rng)
        kinds = rng.choices(WORDS_ONLY, k=4)
        made.append((packer.prefix(SYSTEM_PROMPTS[0]), [], branches(scene, kinds, rng, packer, opening="")))
    return pack(made, packer.control["<im_patch>"], GRID)


class SuperLinkTeacher(nn.Module):
    """The detector's view of super-links: stand-in labels are what `patch2query` must come to say."""

    def __init__(self) -> None:
        super().__init__()
        self.names = StandInLabels(DETECTOR["d_model"]).requires_grad_(False)

    def loss(self, patch2query: nn.Module, states: Tensor, batch: Packed) -> tuple[Tensor, float]:
        """(m, E, C) states -> (distance relative to the labels' variance, mean cosine)."""
        with torch.no_grad():
            wanted = self.names(batch.link_attributes, batch.link_boxes, batch.link_has_box)
        said = patch2query(states).mean(1)
        distance = functional.mse_loss(said, wanted) / wanted.var(0).mean().clamp_min(1e-4)
        return distance, float(functional.cosine_similarity(said, wanted).mean().detach())


class Student(nn.Module):
    """What this stage trains.

    Args:
        model: language model, queries, symbols and reader.
        vl_bridge: vision width to language width.
        patch2query: the detector's projection of super-links.
    """

    def __init__(self, model: LanguageTrainee, vl_bridge: nn.Module, patch2query: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.vl_bridge = vl_bridge
        self.patch2query = patch2query


def start(
    arguments: argparse.Namespace, student: Student, encoder: nn.Module, teacher: SuperLinkTeacher
) -> None:
    """Load what the earlier stages learnt: their checkpoints, or (`--warm`) a finished model."""
    model = student.model
    if arguments.warm is not None:
        warm_start(
            arguments.warm,
            llm=model.llm,
            emb_embeddings_det=model.emb_embeddings_det,
            symbols=model.symbols,
            reader=model.reader,
            vl_bridge=student.vl_bridge,
            vis_encoder=encoder,
            names=teacher.names,
            patch2query=student.patch2query,
        )
        return
    model.load_state_dict(saved_module(arguments.language, "model"))
    eyes = saved_module(arguments.vision, "eyes")
    encoder.load_state_dict(part(eyes, "vis_encoder."))
    student.vl_bridge.load_state_dict(part(eyes, "vl_bridge."))
    teacher.names.load_state_dict(saved_module(arguments.detector, "names"))


def train(arguments: argparse.Namespace) -> None:
    """Train until the minutes are over; resumes from the output folder."""
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    packer = Packer.from_file(arguments.vocabulary)
    model, eyes, teacher = LanguageTrainee(packer.size), Eyes(256), SuperLinkTeacher()
    patch2query = Detector(DetectorConfig.from_dict(DETECTOR)).patch2query
    student = Student(model, eyes.vl_bridge, patch2query)
    start(arguments, student, eyes.vis_encoder, teacher)
    encoder = eyes.vis_encoder.eval().requires_grad_(False)
    channels_last(encoder)
    optimisers = make_optimisers(model, arguments.lr)
    optimisers.append(torch.optim.AdamW(eyes.vl_bridge.parameters(), lr=arguments.lr))
    optimisers.append(torch.optim.AdamW(patch2query.parameters(), lr=arguments.lr * 2))
    run = Run(arguments.out, {"student": student}, optimisers, arguments.minutes, arguments.every, tail=0.75)
    curriculum = Curriculum()
    curriculum.error.update(run.extra.get("error", {}))
    seen = Averages()
    rng = Random(arguments.seed * 9_000_001 + run.step)
    for step in run.steps(seen.take):
        if rng.random() < arguments.symbolic:
            batch, facts, grid = symbolic_batch(packer, rng, curriculum, 10, 4, full_grid=0.3)
            tokens, kind = symbolic_tokens(model.symbols, facts, grid=grid), "symbolic"
        elif rng.random() < arguments.text:
            batch, tokens, kind = text_batch(packer, rng, 8), torch.zeros(0, 256), "text"
        else:
            first = 400_000_000 + arguments.seed * 10_000_000 + step * arguments.pictures
            batch, tiles = picture_batch(
                packer, rng, curriculum, first, arguments.pictures, arguments.questions
            )
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=arguments.bf16):
                patches = encoder(tiles.contiguous(memory_format=torch.channels_last)).tokens.float()
            tokens, kind = eyes.vl_bridge(patches).flatten(0, 1), "picture"
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.bf16):
            loss, scores, states = model.loss(batch, tokens)
        if len(states):
            distance, cosine = teacher.loss(patch2query, states.float(), batch)
            loss = loss + 0.5 * distance
            seen.add(cosine=cosine, distance=float(distance.detach()))
        run.update(loss)
        if kind == "picture":
            curriculum.note(scores)
        for name, right in scores.items():
            for one in right:
                seen.add(**{f"{kind}_{name}": float(one)})
        run.extra = {"error": dict(curriculum.error)}


def main() -> None:
    """`python -m visionllm_adapters.recipe.train_joint --minutes 40`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocabulary", type=Path, default=Path("runs/embedded/vocabulary/tokenizer.model"))
    parser.add_argument("--language", type=Path, default=Path("runs/embedded/language/last.pt"))
    parser.add_argument("--vision", type=Path, default=Path("runs/embedded/vision/last.pt"))
    parser.add_argument("--detector", type=Path, default=Path("runs/embedded/detector/last.pt"))
    parser.add_argument("--out", type=Path, default=Path("runs/embedded/joint"))
    parser.add_argument("--warm", type=Path, help="start from the weights of this checkpoint folder")
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--lr", type=float, default=8e-4)
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--questions", type=int, default=6)
    parser.add_argument("--symbolic", type=float, default=0.35, help="share of symbolic batches")
    parser.add_argument("--text", type=float, default=0.15, help="share of the rest without any image")
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--every", type=float, default=180.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
