"""Stage 2: the language model learns to route, to copy labels and to reason, on symbolic scenes."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from visionllm_adapters.recipe.branching import use_branches
from visionllm_adapters.recipe.dialogues import ALL_MAKERS, Curriculum, branches
from visionllm_adapters.recipe.muon import muon
from visionllm_adapters.recipe.packing import (
    ANY_COLOUR,
    ANY_SIZE,
    TABLE_SIZES,
    UNKNOWN_KIND,
    Packed,
    Packer,
    Row,
    pack,
)
from visionllm_adapters.recipe.running import Averages, Run
from visionllm_adapters.recipe.symbols import (
    GRID,
    KINDS,
    RegionSymbols,
    SymbolEncoder,
    cell_of,
    mark_box,
    random_scene,
    symbol_features,
)
from visionllm_adapters.recipe.vocabulary import SYSTEM_PROMPTS
from visionllm_adapters.recipe.warm import warm_start
from visionllm_sdk.model.precision import native_bfloat16
from visionllm_sdk.scenes.expressions import PLACES
from visionllm_sdk.scenes.facts import COLOURS, SIZES, SceneFacts

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
    use_branches(llm)
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
    """Everything that stage 2 trains: language model, query tables, symbol encoders, link reader."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.llm = build_llm(vocabulary)
        width = LLM_SHAPE["hidden_size"]
        for table, queries in TABLE_SIZES.items():
            embedding = nn.Embedding(queries, width)
            nn.init.normal_(embedding.weight, std=0.5)
            self.add_module(f"emb_embeddings_{table}", embedding)
        self.symbols = SymbolEncoder(width)
        self.region_symbols = RegionSymbols(width)
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

    def hidden(self, batch: Packed, image_tokens: Tensor, regions: Tensor) -> Tensor:
        """(T, C) final hidden states.

        Args:
            batch: the dialogues.
            image_tokens: (n, C), those of all rows in order.
            regions: (r, C), one for each of `batch.regions`.
        """
        embeds = self.llm.model.embed_tokens(batch.ids)
        places = [batch.image_places, batch.region_places]
        vectors = [functional.embedding(batch.image_sources, image_tokens), regions]
        for table, first in batch.links.items():
            queries = torch.as_tensor(self.get_submodule(f"emb_embeddings_{table}").weight)
            places.append((first[:, None] + torch.arange(len(queries))).flatten())
            vectors.append(queries.repeat(len(first), 1))
        embeds = embeds.index_copy(0, torch.cat(places), torch.cat(vectors))
        found = self.llm.model(
            inputs_embeds=embeds[None],
            position_ids=batch.position_ids[None],
            use_cache=False,
            blocks=batch.blocks,
        ).last_hidden_state
        return torch.as_tensor(found[0])

    def loss(
        self, batch: Packed, image_tokens: Tensor, regions: Tensor
    ) -> tuple[Tensor, dict[str, list[bool]], dict[str, Tensor]]:
        """Loss of words and of what the detector's super-links say, in full.

        Returns:
            (total loss, per kind which branches were answered without a fault, per table the super-links
            (m, E, C)).
        """
        hidden = self.hidden(batch, image_tokens, regions)
        logits = self.llm.lm_head(functional.embedding(batch.learn, hidden))
        token_loss = functional.cross_entropy(logits.float(), batch.targets, reduction="none")
        total = (token_loss * batch.weights.sqrt()).sum() / batch.weights.sqrt().sum()
        wrong = torch.zeros(len(batch.kinds)).index_add(
            0, batch.branch_of, (logits.argmax(-1) != batch.targets).float()
        )
        states = {
            table: functional.embedding(first[:, None] + torch.arange(TABLE_SIZES[table]), hidden)
            for table, first in batch.links.items()
        }
        scores: dict[str, list[bool]] = defaultdict(list)
        for kind, faults in zip(batch.kinds, wrong.tolist(), strict=True):
            scores[kind].append(faults == 0)
        if len(states["det"]):
            link_loss, link_right = self.reader.loss(states["det"], batch)
            total = total + 0.25 * link_loss
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
    kinds: Sequence[str] = (),
) -> tuple[Packed, list[SceneFacts], bool]:
    """A batch of thought-up scenes with their questions, of given kinds or as the curriculum says."""
    facts = [random_scene(rng, most=most) for _ in range(scenes)]
    grid = rng.random() < full_grid
    # One system prompt a batch: rows of one length need no padding.
    prefix = packer.prefix(SYSTEM_PROMPTS[0] if rng.random() < 0.8 else rng.choice(SYSTEM_PROMPTS))
    rows: list[Row] = []
    for row, scene in enumerate(facts):
        asked = list(kinds or (ALL_MAKERS if held_out else curriculum.draw(rng, questions)))
        other = rng.randrange(scenes) if scenes == 1 else (row + rng.randrange(1, scenes)) % scenes
        found = branches(scene, asked, rng, packer, held_out=held_out, other=other)
        cells = list(range(GRID * GRID)) if grid else [cell_of(thing, scene) for thing in scene.objects]
        rows.append((prefix, cells, found))
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


def symbolic_regions(model: LanguageTrainee, batch: Packed, scenes: list[SceneFacts], rng: Random) -> Tensor:
    """Vectors of the marked places (R, C) of thought-up scenes."""
    features = [symbol_features(scene) for scene in scenes]
    attributes = [features[row][0][index] for row, index in batch.regions]
    boxes = [mark_box(features[row][1][index], rng) for row, index in batch.regions]
    return torch.as_tensor(
        model.region_symbols(
            model.symbols,
            torch.tensor(attributes, dtype=torch.long).reshape(-1, 3),
            torch.tensor(boxes).reshape(-1, 4),
        )
    )


def make_optimisers(model: nn.Module, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the transformer's layers, AdamW for the rest.

    In a trial of three minutes each, Muon got as far as AdamW with about half of the questions.
    """
    matrices = [p for n, p in model.named_parameters() if ".layers." in n and p.ndim == 2]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.98), weight_decay=0.01),
        muon(matrices, lr=lr * 6, momentum=0.95, weight_decay=0.01, steps=4),
    ]


@torch.no_grad()
def validate(model: LanguageTrainee, packer: Packer, scenes: int = 150) -> dict[str, float]:
    """Share of faultless answers per kind, on fixed scenes and sentences that training never uses."""
    rng = Random(987_654_321)
    scores: dict[str, list[bool]] = defaultdict(list)
    torch.manual_seed(1)
    for _ in range(scenes // 10):
        batch, facts, grid = symbolic_batch(packer, rng, Curriculum(), 10, 0, held_out=True)
        tokens = symbolic_tokens(model.symbols, facts, grid=grid)
        _, found, _ = model.loss(batch, tokens, symbolic_regions(model, batch, facts, rng))
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
            emb_embeddings_det=model.get_submodule("emb_embeddings_det"),
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
    curriculum.resume(run.extra.get("error", {}))
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
            tokens = symbolic_tokens(model.symbols, facts, grid=grid)
            regions = symbolic_regions(model, batch, facts, rng)
            loss, scores, _ = model.loss(batch, tokens, regions)
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
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=native_bfloat16())
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
