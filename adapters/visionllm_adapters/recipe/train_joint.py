"""Stage 5: the language model on real image tokens, and super-links that say what stand-ins said.

The vision encoder is frozen and the decoders do not take part. Batches of drawn pictures alternate with
symbolic ones, which cost less and keep the questions varied.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

import torch
from torch import Tensor, nn

from visionllm_adapters.recipe.dialogues import SKILLS, Curriculum, branches, kinds_of
from visionllm_adapters.recipe.marked import frames, marks
from visionllm_adapters.recipe.order_reader import OrderReader
from visionllm_adapters.recipe.packing import Packed, Packer, Row, pack
from visionllm_adapters.recipe.pictures import Drawn, draw_mixed
from visionllm_adapters.recipe.running import Averages, Run, channels_last
from visionllm_adapters.recipe.symbols import GRID, random_scene, symbol_features
from visionllm_adapters.recipe.teachers import Projections, Teachers
from visionllm_adapters.recipe.train_language import (
    LanguageTrainee,
    make_optimisers,
    symbolic_batch,
    symbolic_regions,
    symbolic_tokens,
)
from visionllm_adapters.recipe.train_vision import Eyes, tiles_of
from visionllm_adapters.recipe.vocabulary import SYSTEM_PROMPTS
from visionllm_adapters.recipe.warm import part, saved_extra, saved_module, warm_start
from visionllm_sdk.errors import CheckpointError
from visionllm_sdk.model.precision import native_bfloat16
from visionllm_sdk.model.region import RegionEncoder, mask_boxes
from visionllm_sdk.model.vision import VisionEncoder

PARTS: Final[dict[str, tuple[str, ...]]] = {
    "pose": ("projection_llava.", "projection_kpt_llava.", "model.emb_embeddings_pose."),
    "generation": ("sd.", "model.emb_embeddings_gen."),
    "editing": ("ip2p.", "model.emb_embeddings_edit."),
    "regions": ("region_encoder.", "model.region_symbols."),
}
"""Weights of the student that only some runs teach: the others leave them as chance made them."""
WORDS_ONLY: Final = ("detect", "segment", "mixed", "small_talk", "pose", "whole_pose", "generate")
REGION_SHAPE: Final[dict[str, Any]] = {"kernels": (4, 2), "stem_widths": (32, 64), "place": True}
_LATER_IN_MODEL: Final = (
    "emb_embeddings_pose",
    "emb_embeddings_gen",
    "emb_embeddings_edit",
    "region_symbols",
)
_LATER: Final = ("region_encoder", "projection_llava", "projection_kpt_llava", "sd", "ip2p")
"""Parts that a finished model may not have yet."""
_WIDTH: Final = 256
_VISION: Final = Path("runs/embedded/vision/last.pt")


class Student(Projections):
    """What this stage trains.

    Args:
        model: language model, queries, symbols and reader.
        eyes: the vision encoder, which is not trained here, and the bridge, which is.
    """

    def __init__(self, model: LanguageTrainee, eyes: Eyes) -> None:
        super().__init__()
        self.model = model
        self.vl_bridge = eyes.vl_bridge
        encoder = eyes.vis_encoder
        self.region_encoder = RegionEncoder(
            level_widths=encoder.level_widths, stem_width=encoder.width, width=_WIDTH, **REGION_SHAPE
        )
        self.order_reader = OrderReader(_WIDTH)


@dataclass
class Batch:
    """Dialogues with what stands in for their images and marks.

    Attributes:
        packed: the dialogues.
        tokens: (n, C) image tokens.
        regions: (R, C) vectors of region prompts.
        aid: further loss, of learning to see marks.
        kind: symbolic, text, drawing, drill or picture.
    """

    packed: Packed
    tokens: Tensor
    regions: Tensor
    aid: Tensor
    kind: str


class Maker:
    """Makes batches of every kind.

    Args:
        student: sees them.
        encoder: the vision encoder, frozen.
        packer: text to tokens.
        rng: chooses everything.
        arguments: of the command line.
    """

    def __init__(
        self,
        student: Student,
        encoder: VisionEncoder,
        packer: Packer,
        rng: Random,
        arguments: argparse.Namespace,
    ) -> None:
        self.student, self.encoder, self.packer = student, encoder, packer
        self.rng, self.arguments = rng, arguments
        self.curriculum = Curriculum(kinds_of(arguments.skills))
        self.words_only = [kind for kind in WORDS_ONLY if kind in self.curriculum.error]

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        arguments, rng = self.arguments, self.rng
        if arguments.only_drawing or rng.random() < arguments.drawing:
            return self.requests_to_draw()
        if rng.random() < arguments.drill:
            return self.drill()
        if rng.random() < arguments.symbolic:
            return self.symbolic()
        return self.words() if rng.random() < arguments.text else self.pictures(step)

    def symbolic(self) -> Batch:
        """Thought-up scenes."""
        packed, facts, grid = symbolic_batch(
            self.packer, self.rng, self.curriculum, 10, self.arguments.questions - 1, full_grid=0.3
        )
        model = self.student.model
        tokens = symbolic_tokens(model.symbols, facts, grid=grid)
        regions = symbolic_regions(model, packed, facts, self.rng)
        return Batch(packed, tokens, regions, torch.zeros(()), "symbolic")

    def drill(self, rows: int = 10) -> Batch:
        """Only questions how things stand to each other: to find a word of the question again in a report is
        learnt from many examples at once, or not at all."""
        kinds = ["position"] * 9 + ["comparison"] * 2 + ["existence"]
        packed, facts, grid = symbolic_batch(
            self.packer, self.rng, self.curriculum, rows, len(kinds), kinds=kinds
        )
        tokens = symbolic_tokens(self.student.model.symbols, facts, grid=grid)
        return Batch(packed, tokens, torch.zeros(0, _WIDTH), torch.zeros(()), "drill")

    def words(self, kind: str = "text", kinds: Sequence[str] = (), rows: int = 8) -> Batch:
        """Requests without any image, of given kinds or of many: routing must not depend on one."""
        prefix, made = self.packer.prefix(SYSTEM_PROMPTS[0]), list[Row]()
        for _ in range(rows):
            asked = list(kinds) or self.rng.choices(self.words_only, k=5)
            made.append(
                (prefix, [], branches(random_scene(self.rng), asked, self.rng, self.packer, opening=""))
            )
        nothing = torch.zeros(0, _WIDTH)
        packed = pack(made, self.packer.control["<im_patch>"], GRID)
        return Batch(packed, nothing, nothing, torch.zeros(()), kind)

    def requests_to_draw(self, rows: int = 10) -> Batch:
        """Captions without an image, and instructions behind symbolic ones: super-links of 64 queries."""
        kinds = [
            kind
            for kind, path in (("generate", self.arguments.generation), ("edit", self.arguments.editing))
            if path is not None
        ] or ["generate", "edit"]
        if "edit" not in kinds or (len(kinds) > 1 and self.rng.random() < 0.5):
            return self.words("drawing", ["generate"] * 5, rows)
        packed, facts, grid = symbolic_batch(
            self.packer, self.rng, self.curriculum, rows, 5, kinds=[*["edit"] * 4, self.rng.choice(kinds)]
        )
        tokens = symbolic_tokens(self.student.model.symbols, facts, grid=grid)
        return Batch(packed, tokens, torch.zeros(0, _WIDTH), torch.zeros(()), "drawing")

    def pictures(self, step: int) -> Batch:
        """Drawn pictures."""
        arguments, rng, count = self.arguments, self.rng, self.arguments.pictures
        first = 400_000_000 + arguments.seed * 10_000_000 + step * count
        drawn = draw_mixed(rng, range(first, first + count), sides=(128, 288), area=288 * 288)
        # One system prompt a batch: rows of one length need no padding.
        system = SYSTEM_PROMPTS[0] if rng.random() < 0.85 else rng.choice(SYSTEM_PROMPTS)
        prefix = self.packer.prefix(system)
        rows: list[Row] = []
        for row, one in enumerate(drawn):
            kinds = self.curriculum.draw(rng, arguments.questions)
            other = (row + rng.randrange(1, max(2, count))) % count
            found = branches(one.facts, kinds, rng, self.packer, other=other)
            rows.append((prefix, list(range(GRID * GRID)), found))
        packed = pack(rows, self.packer.control["<im_patch>"], GRID)
        tiles = tiles_of(drawn)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=arguments.bf16):
            seen = self.encoder(tiles.contiguous(memory_format=torch.channels_last), levels=True)
        tokens = self.student.vl_bridge(seen.tokens.float()).flatten(0, 1)
        if not packed.regions:
            return Batch(packed, tokens, torch.zeros(0, _WIDTH), torch.zeros(()), "picture")
        regions, distance = self.marked(drawn, packed, tiles, seen.levels)
        return Batch(packed, tokens, regions, distance, "picture")

    def marked(
        self, drawn: list[Drawn], packed: Packed, tiles: Tensor, maps: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Vectors of the region prompts, and how far they lie from those of the symbols."""
        masks, lie = marks(drawn, packed.regions, self.rng), frames(drawn, packed.regions)
        owners = torch.tensor([row for row, _ in packed.regions])
        levels = tuple(level.float().contiguous() for level in maps)
        regions = self.student.region_encoder(tiles, masks, levels, owners, lie)
        features = [symbol_features(one.facts)[0] for one in drawn]
        attributes = torch.tensor([features[row][index] for row, index in packed.regions])
        model = self.student.model
        with torch.no_grad():
            wanted = model.region_symbols(model.symbols, attributes, mask_boxes(masks, lie))
        return regions, (regions.float() - wanted).square().mean() / wanted.float().var()


def start(
    arguments: argparse.Namespace, student: Student, encoder: nn.Module, teachers: Teachers
) -> dict[str, Any]:
    """Load what is known: the earlier stages' checkpoints, an earlier run of this stage (`--student`), or a
    finished model (`--warm`).

    Returns:
        what the earlier run of this stage noted beside its weights.
    """
    model = student.model
    if arguments.warm is not None:
        warm_start(
            arguments.warm,
            llm=model.llm,
            emb_embeddings_det=model.get_submodule("emb_embeddings_det"),
            symbols=model.symbols,
            reader=model.reader,
            vl_bridge=student.vl_bridge,
            vis_encoder=encoder,
            names=teachers.names,
            patch2query=student.patch2query,
            optional={
                **{name: model.get_submodule(name) for name in _LATER_IN_MODEL},
                **{name: student.get_submodule(name) for name in _LATER},
            },
        )
        return {}
    _open_eyes(arguments.vision or _VISION, student, encoder)
    teachers.names.load_state_dict(saved_module(arguments.detector, "names"))
    if arguments.student is not None:
        known = saved_module(arguments.student, "student")
        strange = student.load_state_dict(known, strict=False).unexpected_keys
        if strange:
            raise CheckpointError(
                f"{arguments.student} holds weights that this stage does not have", value=strange[:4]
            )
        return saved_extra(arguments.student)
    model.load_state_dict(saved_module(arguments.language, "model"), strict=False)
    return {}


def _open_eyes(checkpoint: Path, student: Student, encoder: nn.Module) -> None:
    eyes = saved_module(checkpoint, "eyes")
    encoder.load_state_dict(part(eyes, "vis_encoder."))
    student.vl_bridge.load_state_dict(part(eyes, "vl_bridge."))


def only_drawing(student: Student, rate: float) -> list[torch.optim.Optimizer]:
    """Freeze everything but how pictures are asked for: 64 queries and the layers that read them.

    These need many captions and few skills; the language model stays as all skills want it. Queries of a
    frozen model have far to go: they move twenty times as fast as the rest.
    """
    student.requires_grad_(False)
    names = (*PARTS["generation"], *PARTS["editing"], "order_reader")
    parts = [student.get_submodule(name.rstrip(".")) for name in names]
    for one in parts:
        one.requires_grad_(True)
    queries = [p for one in parts if isinstance(one, nn.Embedding) for p in one.parameters()]
    readers = [p for one in parts if not isinstance(one, nn.Embedding) for p in one.parameters()]
    return [torch.optim.AdamW([{"params": queries, "lr": 20 * rate}, {"params": readers, "lr": 2 * rate}])]


def optimisers_of(student: Student, rate: float) -> list[torch.optim.Optimizer]:
    """Those of the language model, and AdamW for what stands around it: new parts move faster."""
    known = set(map(id, student.model.parameters()))
    bridge = list(student.vl_bridge.parameters())
    known |= set(map(id, bridge))
    rest = [p for p in student.parameters() if id(p) not in known]
    around = [{"params": bridge, "lr": rate}, {"params": rest, "lr": 2 * rate}]
    return [*make_optimisers(student.model, rate), torch.optim.AdamW(around)]


def train(arguments: argparse.Namespace) -> None:
    """Train until the minutes are over; resumes from the output folder."""
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    packer = Packer.from_file(arguments.vocabulary)
    eyes = Eyes(_WIDTH)
    student = Student(LanguageTrainee(packer.size), eyes)
    given = {"pose": arguments.pose, "generation": arguments.generation, "editing": arguments.editing}
    recalled = arguments.warm is not None and not any(given.values())
    teachers = Teachers.recalled() if recalled else Teachers(**given)
    earlier = start(arguments, student, eyes.vis_encoder, teachers)
    if arguments.warm is not None and arguments.vision is not None:
        _open_eyes(arguments.vision, student, eyes.vis_encoder)
    encoder = eyes.vis_encoder.eval().requires_grad_(False)
    channels_last(encoder)
    chosen = only_drawing if arguments.only_drawing else optimisers_of
    optimisers = chosen(student, arguments.lr)
    run = Run(arguments.out, {"student": student}, optimisers, arguments.minutes, arguments.every, tail=0.75)
    rng = Random(arguments.seed * 9_000_001 + run.step)
    maker = Maker(student, encoder, packer, rng, arguments)
    maker.curriculum.resume({**earlier, **run.extra}.get("error", {}))
    seen = Averages()
    taught = sorted(
        {*earlier.get("taught", ()), *run.extra.get("taught", ()), *_lessons(arguments, teachers)}
    )
    for step in run.steps(seen.take):
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.bf16):
            batch = maker.batch(step)
            loss, scores, states = student.model.loss(batch.packed, batch.tokens, batch.regions)
        said, figures = teachers.loss(student, states, batch.packed)
        read, shares = student.order_reader.loss(states, batch.packed.orders)
        run.update(loss + said + 0.2 * read + 0.3 * batch.aid)
        seen.add(**figures, **shares)
        note(seen, batch, scores)
        if batch.kind == "picture":
            maker.curriculum.note(scores)
        run.extra = {"error": dict(maker.curriculum.error), "taught": taught}


def _lessons(arguments: argparse.Namespace, teachers: Teachers) -> set[str]:
    """Parts of the student that this run teaches, as `PARTS` names them."""
    known = {"pose": teachers.poses, "generation": teachers.scenes, "editing": teachers.edits}
    decoders = {name for name, teacher in known.items() if teacher is not None}
    return decoders | ({"regions"} & set(arguments.skills))


def note(seen: Averages, batch: Batch, scores: Mapping[str, list[bool]]) -> None:
    """Shares of faultless answers, by kind of batch and of question."""
    if len(batch.packed.regions) and batch.kind == "picture":
        seen.add(region_fit=float(batch.aid.detach()))
    for name, right in scores.items():
        for one in right:
            seen.add(**{f"{batch.kind}_{name}": float(one)})


def main() -> None:
    """`python -m visionllm_adapters.recipe.train_joint --minutes 40`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocabulary", type=Path, default=Path("runs/embedded/vocabulary/tokenizer.model"))
    parser.add_argument("--language", type=Path, default=Path("runs/embedded/language/last.pt"))
    parser.add_argument(
        "--vision", type=Path, help=f"checkpoint of stage 4; {_VISION}, or with --warm the finished model's"
    )
    parser.add_argument("--detector", type=Path, default=Path("runs/embedded/detector/last.pt"))
    parser.add_argument("--pose", type=Path, help="checkpoint of the pose stage, to teach its super-links")
    parser.add_argument("--generation", type=Path, help="checkpoint of the drawing stage, likewise")
    parser.add_argument("--editing", type=Path, help="checkpoint of the editing stage, likewise")
    parser.add_argument("--out", type=Path, default=Path("runs/embedded/joint"))
    parser.add_argument("--warm", type=Path, help="go on from this checkpoint folder and what it says")
    parser.add_argument("--student", type=Path, help="start from the weights of another run of this stage")
    parser.add_argument(
        "--skills", nargs="*", choices=tuple(SKILLS), default=list(SKILLS), help="beside those of the first"
    )
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--lr", type=float, default=8e-4)
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--questions", type=int, default=7)
    parser.add_argument("--symbolic", type=float, default=0.35, help="share of symbolic batches")
    parser.add_argument("--text", type=float, default=0.15, help="share of the rest without any image")
    parser.add_argument("--drawing", type=float, default=0.0, help="share of batches that only ask to draw")
    parser.add_argument("--only-drawing", action="store_true", help="teach nothing but to ask for pictures")
    parser.add_argument("--drill", type=float, default=0.08, help="share of the rest that asks for relations")
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=native_bfloat16())
    parser.add_argument("--every", type=float, default=180.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
