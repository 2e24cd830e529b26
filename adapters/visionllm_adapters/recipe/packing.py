"""Many questions behind one image: one token sequence, a block mask, and targets for the super-links.

Every branch (a short dialogue) sees the shared prefix and itself, never another branch, and its
positions go on from the prefix's end: exactly what the model sees when it is asked one question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import torch
from torch import Tensor

from visionllm_adapters.recipe.symbols import KINDS, relative_box
from visionllm_sdk.model.tokenizer import CONTROL_TOKENS
from visionllm_sdk.scenes.facts import COLOURS, SIZES, SceneFacts
from visionllm_sdk.scenes.language import Exchange, Link

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

QUERIES: Final = ("[EMB]", "[EMB2]", "[EMB3]", "[EMB4]")
WRAPPERS: Final = {"[DET]": ("<det>", "</det>"), "[SEG]": ("<det>", "</det>"), "[GRD]": ("<grd>", "</grd>")}
IGNORED: Final = -100
ANY_KIND, UNKNOWN_KIND, ANY_COLOUR, ANY_SIZE = len(KINDS), len(KINDS) + 1, len(COLOURS), len(SIZES)


@dataclass
class LinkTarget:
    """Where a super-link starts in a branch and what it should say: attribute indices and, perhaps, a box."""

    position: int
    attributes: tuple[int, int, int]
    box: tuple[float, float, float, float] | None


@dataclass
class Branch:
    """One dialogue in tokens; `labels` is `IGNORED` where nothing is to be learnt."""

    kind: str
    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    links: list[LinkTarget] = field(default_factory=list)


def link_target(link: Link, scene: SceneFacts, position: int) -> LinkTarget:
    """What the decoder should be told about `link`."""
    if link.label is None:
        return LinkTarget(position, (UNKNOWN_KIND, ANY_COLOUR, ANY_SIZE), None)
    label = link.label
    attributes = (
        KINDS.index(label.kind) if label.kind in KINDS else ANY_KIND,
        COLOURS.index(label.colour) if label.colour else ANY_COLOUR,
        SIZES.index(label.size) if label.size else ANY_SIZE,
    )
    box = None if link.referent is None else relative_box(scene.objects[link.referent], scene)
    return LinkTarget(position, attributes, box)


class Packer:
    """Turns exchanges into tokens with the shipped vocabulary.

    Args:
        pieces: the sentencepiece model.
    """

    def __init__(self, pieces: SentencePieceProcessor) -> None:
        self.pieces = pieces
        self.control = {token: pieces.get_piece_size() + i for i, token in enumerate(CONTROL_TOKENS)}
        self.query_ids = [self.control[token] for token in QUERIES]
        self.size = pieces.get_piece_size() + len(CONTROL_TOKENS)

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """The packer of a `tokenizer.model`."""
        from sentencepiece import SentencePieceProcessor

        return cls(SentencePieceProcessor(model_file=str(path)))

    def text(self, text: str) -> list[int]:
        """Plain text to pieces; control tokens never come out of this."""
        return list(self.pieces.encode(text)) if text else []

    def prefix(self, system: str) -> list[int]:
        """`<s>`, system prompt and the user's name: everything in front of the image."""
        return [self.pieces.bos_id(), *self.text(f"{system} USER: ")]

    def branch(self, exchanges: Sequence[Exchange], scene: SceneFacts, *, opening: str = "\n") -> Branch:
        """One dialogue. `opening` stands before the first question (a line break after an image)."""
        branch = Branch(exchanges[-1].kind)
        for number, exchange in enumerate(exchanges):
            if number:
                opening = "TOOL: " if exchange.role == "tool" else "USER: "
            prompt = self.text(f"{opening}{exchange.question} ASSISTANT:")
            first, rest = self._split(exchange.answer)
            # Blanks in front of a control token are dropped, as the released tokenizer does.
            whole = self.text(f"{opening}{exchange.question} ASSISTANT: {first}".rstrip())
            self._add(branch, whole, learn_from=len(prompt))
            for part in rest:
                if isinstance(part, Link):
                    self._add_link(branch, part, scene)
                else:
                    self._add(branch, self.text(part.rstrip()))
            self._add(branch, [self.pieces.eos_id()])
        return branch

    @staticmethod
    def _split(answer: Sequence[str | Link]) -> tuple[str, Sequence[str | Link]]:
        return (answer[0], answer[1:]) if answer and isinstance(answer[0], str) else ("", answer)

    @staticmethod
    def _add(branch: Branch, ids: list[int], learn_from: int = 0) -> None:
        branch.ids += ids
        branch.labels += [IGNORED] * learn_from + ids[learn_from:]

    def _add_link(self, branch: Branch, link: Link, scene: SceneFacts) -> None:
        start, end = WRAPPERS[link.token]
        ids = [self.control[start], *self.text(link.text), self.control[end], self.control[link.token]]
        self._add(branch, ids)
        branch.links.append(link_target(link, scene, len(branch.ids)))
        branch.ids += self.query_ids
        branch.labels += [IGNORED] * len(self.query_ids)


@dataclass
class Packed:
    """A batch of packed scenes, padded to one length L.

    Attributes:
        ids: (B, L) long; image places hold the `<im_patch>` id.
        position_ids: (B, L) long.
        mask: (B, 1, L, L) bool, True where attention is allowed.
        image_places: (n, 2) long, (row, column) of every image token in order.
        learn: (n, 2) long, (row, column) of positions whose *next* token is learnt.
        targets: (n,) long, that next token.
        weights: (n,) float, 1 / answer length, so that every exchange counts alike.
        branch_of: (n,) long, index into `kinds`.
        kinds: kind of every branch, over the whole batch.
        link_places: (m, 2) long, place of the first query of every super-link.
        link_attributes: (m, 3) long.
        link_boxes: (m, 4) float, relative; zeros where `link_has_box` is False.
        link_has_box: (m,) bool.
    """

    ids: Tensor
    position_ids: Tensor
    mask: Tensor
    image_places: Tensor
    learn: Tensor
    targets: Tensor
    weights: Tensor
    branch_of: Tensor
    kinds: list[str]
    link_places: Tensor
    link_attributes: Tensor
    link_boxes: Tensor
    link_has_box: Tensor


def pack(rows: Sequence[tuple[list[int], list[int], list[Branch]]], patch_id: int, grid: int) -> Packed:
    """Pack rows of (prefix ids, cells of the image tokens, branches) into one batch.

    A row's image tokens take the positions of their cells, so that a symbolic scene (few tokens) and a
    picture (grid * grid tokens) put the text at the same place. An empty cell list means: no image.
    """
    lengths = [len(p) + len(c) + sum(len(b.ids) for b in bs) for p, c, bs in rows]
    size = max(lengths)
    ids = torch.zeros(len(rows), size, dtype=torch.long)
    position_ids = torch.zeros(len(rows), size, dtype=torch.long)
    owner = torch.full((len(rows), size), -1)  # 0: prefix, 1..: branch, -1: padding
    places: dict[str, list[tuple[int, int]]] = {"image": [], "learn": [], "link": []}
    targets: list[int] = []
    weights: list[float] = []
    branch_of: list[int] = []
    kinds: list[str] = []
    link_targets: list[LinkTarget] = []
    for row, (prefix, cells, branches) in enumerate(rows):
        head = len(prefix) + len(cells)
        ids[row, :head] = torch.tensor(prefix + [patch_id] * len(cells))
        position_ids[row, :head] = torch.tensor([*range(len(prefix)), *(len(prefix) + c for c in cells)])
        owner[row, :head] = 0
        places["image"] += [(row, len(prefix) + i) for i in range(len(cells))]
        start, base = head, len(prefix) + (grid * grid if cells else 0)
        for number, branch in enumerate(branches, 1):
            end = start + len(branch.ids)
            ids[row, start:end] = torch.tensor(branch.ids)
            position_ids[row, start:end] = torch.arange(base, base + len(branch.ids))
            owner[row, start:end] = number
            learnt = [i for i, label in enumerate(branch.labels) if label != IGNORED and i > 0]
            places["learn"] += [(row, start + i - 1) for i in learnt]
            targets += [branch.labels[i] for i in learnt]
            weights += [1.0 / max(len(learnt), 1)] * len(learnt)
            branch_of += [len(kinds)] * len(learnt)
            kinds.append(branch.kind)
            places["link"] += [(row, start + link.position) for link in branch.links]
            link_targets += branch.links
            start = end
    order = torch.arange(size)
    causal = order[None, :, None] >= order[None, None, :]
    same = owner[:, :, None] == owner[:, None, :]
    mask = causal & (same | (owner[:, None, :] == 0))
    return Packed(
        ids,
        position_ids,
        mask[:, None],
        _places(places["image"]),
        _places(places["learn"]),
        torch.tensor(targets, dtype=torch.long),
        torch.tensor(weights),
        torch.tensor(branch_of, dtype=torch.long),
        kinds,
        _places(places["link"]),
        torch.tensor([t.attributes for t in link_targets], dtype=torch.long).reshape(-1, 3),
        torch.tensor([t.box or (0.0,) * 4 for t in link_targets]).reshape(-1, 4),
        torch.tensor([t.box is not None for t in link_targets], dtype=torch.bool),
    )


def _places(pairs: list[tuple[int, int]]) -> Tensor:
    return torch.tensor(pairs, dtype=torch.long).reshape(-1, 2)
