"""Stage 2: the language model learns to route, to copy labels and to reason, on symbolic scenes."""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from random import Random
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from visionllm_adapters.recipe.dialogues import Curriculum, branches
from visionllm_adapters.recipe.packing import ANY_COLOUR, ANY_SIZE, UNKNOWN_KIND, Branch, Packed, Packer, pack
from visionllm_adapters.recipe.running import Averages, Run
from visionllm_adapters.recipe.symbols import (
    GRID,
    KINDS,
    SymbolEncoder,
    cell_of,
    random_scene,
    symbol_features,
)
from visionllm_adapters.recipe.vocabulary import SYSTEM_PROMPTS
from visionllm_adapters.recipe.warm import warm_start
from visionllm_sdk.scenes.expressions import PLACES
from visionllm_sdk.scenes.facts import COLOURS, SIZES, SceneFacts
from visionllm_sdk.scenes.language import MAKERS
from visionllm_sdk.scenes.phrases import HELD_OUT

LLM_SHAPE: Final[dict[str, Any]] = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 5,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "initializer_range": 0.03,
}


def build_llm(vocabulary: int) -> LlamaForCausalLM:
    """The library's Llama at the embedded model's size, with random weights."""
    llm = LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, **LLM_SHAPE))
    llm.set_attn_implementation("eager")  # block masks are slow in the library's fused CPU kernel
    nn.init.normal_(llm.model.embed_tokens.weight, std=0.5)
    return llm


class LinkReader(nn.Module):
    """Reads kind, colour, size and box off a super-link; a training aid that is not shipped."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(width, width), nn.GELU())
        self.heads = nn.ModuleList(
            [nn.Linear(width, n) for n in (UNKNOWN_KIND + 1, ANY_COLOUR + 1, ANY_SIZE + 1)]
        )
        self.box = nn.Linear(width, 4)

    def loss(self, states: Tensor, batch: Packed) -> tuple[Tensor, Tensor]:
        """(m, E, C) query states -> (loss, (m,) bool: every attribute right and box near)."""
        mean = self.body(states).mean(1)
        logits = [head(mean) for head in self.heads]
        right = torch.stack(
            [p.argmax(-1) == t for p, t in zip(logits, batch.link_attributes.T, strict=True)]
        ).all(0)
        loss = sum(
            functional.cross_entropy(p, t) for p, t in zip(logits, batch.link_attributes.T, strict=True)
        )
        error = (self.box(mean).sigmoid() - batch.link_boxes).abs()
        if batch.link_has_box.any():
            loss = loss + 8 * error[batch.link_has_box].mean()
        near = ~batch.link_has_box | (error[:, :2].amax(1) < 0.08)
        return torch.as_tensor(loss), right & near


class LanguageTrainee(nn.Module):
    """Everything that stage 2 trains: language model, query table, symbol encoder, link reader."""

    def __init__(self, vocabulary: int, queries: int = 4) -> None:
        super().__init__()
        self.llm = build_llm(vocabulary)
        width = LLM_SHAPE["hidden_size"]
        self.emb_embeddings_det = nn.Embedding(queries, width)
        nn.init.normal_(self.emb_embeddings_det.weight, std=0.5)
        self.symbols = SymbolEncoder(width)
        self.reader = LinkReader(width)

    @torch.no_grad()
    def align(self, packer: Packer) -> None:
        """Start symbols and output layer from the words' own embeddings.

        A "red star" in the text and a red star in the scene then match before anything is learnt, and what
        attention copies from a symbol is already the word to say.
        """
        words = self.llm.model.embed_tokens.weight
        tables = (
            (self.symbols.kind, KINDS),
            (self.symbols.colour, COLOURS),
            (self.symbols.size, SIZES),
            (self.symbols.place, [place for row in PLACES for place in row]),
        )
        for table, names in tables:
            for row, name in enumerate(names):
                table.weight[row] = words[packer.text(name)].mean(0)
        self.llm.lm_head.weight.copy_(0.1 * words)

    def hidden(self, batch: Packed, image_tokens: Tensor) -> Tensor:
        """(B, L, C) final hidden states; `image_tokens` (n, C) fill `batch.image_places` in order."""
        embeds = self.llm.model.embed_tokens(batch.ids)
        if len(batch.image_places):
            embeds = embeds.index_put(tuple(batch.image_places.T), image_tokens)
        if len(batch.link_places):
            rows, columns = batch.link_places.T
            for offset, query in enumerate(self.emb_embeddings_det.weight):
                embeds = embeds.index_put((rows, columns + offset), query.expand(len(rows), -1))
        bias = torch.zeros(batch.mask.shape).masked_fill(~batch.mask, -1e4)
        return self.llm.model(
            inputs_embeds=embeds, attention_mask=bias, position_ids=batch.position_ids, use_cache=False
        ).last_hidden_state

    def loss(self, batch: Packed, image_tokens: Tensor) -> tuple[Tensor, dict[str, list[bool]], Tensor]:
        """(total loss, per kind which branches were answered without a fault, (m, E, C) super-links)."""
        hidden = self.hidden(batch, image_tokens)
        logits = self.llm.lm_head(hidden[tuple(batch.learn.T)])
        token_loss = functional.cross_entropy(logits, batch.targets, reduction="none")
        total = (token_loss * batch.weights.sqrt()).sum() / batch.weights.sqrt().sum()
        wrong = torch.zeros(len(batch.kinds)).index_add(
            0, batch.branch_of, (logits.argmax(-1) != batch.targets).float()
        )
        states = hidden.new_zeros(0, 4, hidden.shape[-1])
        if len(batch.link_places):
            rows, columns = batch.link_places.T
            states = torch.stack([hidden[rows, columns + i] for i in range(4)], 1)
            link_loss, link_right = self.reader.loss(states, batch)
            total = total + 0.25 * link_loss
        scores: dict[str, list[bool]] = defaultdict(list)
        for kind, faults in zip(batch.kinds, wrong.tolist(), strict=True):
            scores[kind].append(faults == 0)
        if len(batch.link_places):
            scores["link_box"] = link_right[batch.link_has_box].tolist()
            scores["link_label"] = link_right[~batch.link_has_box].tolist()
        return total, scores, states


def symbolic_batch(
    packer: Packer,
    rng: Random,
    curriculum: Curriculum,
    scenes: int,
    questions: int,
    *,
    full_grid: float = 0.0,
    most: int = 8,
    held_out: bool = False,
) -> tuple[Packed, list[SceneFacts], bool]:
    """A batch of thought-up scenes with their questions."""
    rows: list[tuple[list[int], list[int], list[Branch]]] = []
    facts: list[SceneFacts] = []
    grid = rng.random() < full_grid
    while len(rows) < scenes:
        scene = random_scene(rng, most=most)
        system = SYSTEM_PROMPTS[0] if rng.random() < 0.8 else rng.choice(SYSTEM_PROMPTS)
        kinds = list(MAKERS) if held_out else curriculum.draw(rng, questions)
        found = branches(scene, kinds, rng, packer, *([HELD_OUT] if held_out else []))
        cells = list(range(GRID * GRID)) if grid else [cell_of(thing, scene) for thing in scene.objects]
        rows.append((packer.prefix(system), cells, found))
        facts.append(scene)
    return pack(rows, packer.control["<im_patch>"], GRID), facts, grid


def symbolic_tokens(
    encoder: SymbolEncoder, scenes: list[SceneFacts], *, grid: bool, jitter: float = 0.01
) -> Tensor:
    """Image tokens of thought-up scenes, with boxes as inexact as eyes are."""
    features = [symbol_features(scene) for scene in scenes]
    attributes = [torch.tensor(a) for a, _, _ in features]
    boxes = [torch.tensor(b) + jitter * torch.randn(len(b), 4) for _, b, _ in features]
    if grid:
        return encoder.grid(attributes, boxes, [torch.tensor(c) for _, _, c in features]).flatten(0, 1)
    return encoder(torch.cat(attributes), torch.cat(boxes))


def make_optimisers(model: nn.Module, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the transformer's layers, AdamW for the rest.

    In a trial of three minutes each, Muon got as far as AdamW with about half of the questions.
    """
    matrices = [p for n, p in model.named_parameters() if ".layers." in n and p.ndim == 2]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.98), weight_decay=0.01),
        torch.optim.Muon(matrices, lr=lr * 6, momentum=0.95, weight_decay=0.01, ns_steps=4),
    ]


@torch.no_grad()
def validate(model: LanguageTrainee, packer: Packer, scenes: int = 150) -> dict[str, float]:
    """Share of faultless answers per kind, on fixed scenes and sentences that training never uses."""
    rng = Random(987_654_321)
    scores: dict[str, list[bool]] = defaultdict(list)
    torch.manual_seed(1)
    for _ in range(scenes // 10):
        batch, facts, grid = symbolic_batch(packer, rng, Curriculum(), 10, 0, held_out=True)
        _, found, _ = model.loss(batch, symbolic_tokens(model.symbols, facts, grid=grid))
        for kind, right in found.items():
            scores[kind] += right
    return {kind: round(sum(right) / max(len(right), 1), 3) for kind, right in scores.items()}


def train(arguments: argparse.Namespace) -> None:
    """Train until the minutes are over; resumes from the output folder."""
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    packer = Packer.from_file(arguments.vocabulary)
    model = LanguageTrainee(packer.size)
    model.align(packer)
    if arguments.warm is not None:
        warm_start(
            arguments.warm,
            llm=model.llm,
            emb_embeddings_det=model.emb_embeddings_det,
            symbols=model.symbols,
            reader=model.reader,
        )
    run = Run(
        arguments.out,
        {"model": model},
        make_optimisers(model, arguments.lr),
        arguments.minutes,
        arguments.every,
    )
    curriculum, rng = Curriculum(), Random(arguments.seed + run.step)
    curriculum.error.update(run.extra.get("error", {}))
    seen = Averages()
    pairs = int(run.extra.get("pairs", 0))

    def report() -> dict[str, Any]:
        return {"pairs": pairs, **seen.take(), **validate(model, packer)}

    for _ in run.steps(report):
        batch, facts, grid = symbolic_batch(
            packer,
            rng,
            curriculum,
            arguments.scenes,
            arguments.questions,
            full_grid=arguments.full_grid * min(1.0, 2 * run.progress),
            # Few objects at first: finding the right one comes before comparing many.
            most=min(8, 2 + int(10 * run.progress)),
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.bf16):
            loss, scores, _ = model.loss(batch, symbolic_tokens(model.symbols, facts, grid=grid))
        run.update(loss)
        curriculum.note(scores)
        pairs += len(batch.kinds)
        seen.add(loss=float(loss.detach()))
        run.extra = {"error": dict(curriculum.error), "pairs": pairs}


def main() -> None:
    """`python -m visionllm_adapters.recipe.train_language --minutes 90`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocabulary", type=Path, default=Path("runs/embedded/vocabulary/tokenizer.model"))
    parser.add_argument("--out", type=Path, default=Path("runs/embedded/language"))
    parser.add_argument("--warm", type=Path, help="start from the weights of this checkpoint folder")
    parser.add_argument("--minutes", type=float, default=90.0)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--scenes", type=int, default=20)
    parser.add_argument("--questions", type=int, default=3)
    parser.add_argument(
        "--full-grid", type=float, default=0.3, help="share of batches with all 64 cells, at the end"
    )
    parser.add_argument(
        "--every", type=float, default=120.0, help="seconds between validations and checkpoints"
    )
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
