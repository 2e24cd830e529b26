"""Many questions behind one image: one line of tokens, who sees what, and targets for the super-links.

Every branch (a short dialogue) sees the shared prefix and itself, never another branch, and its
positions go on from the prefix's end: exactly what the model sees when it is asked one question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import torch
from torch import Tensor

from visionllm_adapters.recipe.branching import Blocks, group_of, group_sizes
from visionllm_adapters.recipe.pose_names import keypoint_index
from visionllm_adapters.recipe.symbols import KINDS, relative_box
from visionllm_sdk.model.tokenizer import CONTROL_TOKENS, Control, MarkedPart, TextTokenizer
from visionllm_sdk.scenes.drawing_language import DrawLink, Order
from visionllm_sdk.scenes.facts import COLOURS, SIZES, SceneFacts
from visionllm_sdk.scenes.language import Exchange, Link
from visionllm_sdk.scenes.region_language import RegionExchange

QUERIES: Final = ("[EMB]", "[EMB2]", "[EMB3]", "[EMB4]")
WRAPPERS: Final = {
    "[DET]": ("<det>", "</det>"),
    "[SEG]": ("<det>", "</det>"),
    "[POSE]": ("<det>", "</det>"),
    "[GRD]": ("<grd>", "</grd>"),
}
TABLES: Final = {
    "[DET]": "det",
    "[GRD]": "det",
    "[SEG]": "det",
    "[POSE]": "pose",
    "[GEN]": "gen",
    "[EDIT]": "edit",
}
"""Which table of queries follows each routing token."""
TABLE_SIZES: Final = {"det": 4, "pose": 4, "gen": 64, "edit": 64}
IGNORED: Final = -100
ANY_KIND, UNKNOWN_KIND, ANY_COLOUR, ANY_SIZE = len(KINDS), len(KINDS) + 1, len(COLOURS), len(SIZES)
UNKNOWN: Final = (UNKNOWN_KIND, ANY_COLOUR, ANY_SIZE)


@dataclass
class LinkTarget:
    """Where a super-link starts in a branch and what it should say.

    Attributes:
        position: of its first query.
        attributes: indices of kind, colour and size, for the detector.
        box: of the one object meant, if one is.
        table: of its queries.
        keypoint: row of `StandInPoses.keypoints`, for keypoint names.
        order: what to draw, for pictures.
    """

    position: int
    attributes: tuple[int, int, int] = UNKNOWN
    box: tuple[float, float, float, float] | None = None
    table: str = "det"
    keypoint: int = 0
    order: Order | None = None


@dataclass
class Branch:
    """One dialogue in tokens; `labels` is `IGNORED` where nothing is to be learnt.

    Attributes:
        regions: (position, index of the object) of every region prompt.
        images: (position, row whose image it is) of every further image, one id each.
    """

    kind: str
    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    links: list[LinkTarget] = field(default_factory=list)
    regions: list[tuple[int, int]] = field(default_factory=list)
    images: list[tuple[int, int]] = field(default_factory=list)


def link_target(link: Link, scene: SceneFacts, position: int) -> LinkTarget:
    """What the decoder should be told about `link`."""
    table = TABLES[link.token]
    if isinstance(link, DrawLink):
        return LinkTarget(position, table=table, order=link.order)
    if table == "pose":
        return LinkTarget(position, table=table, keypoint=keypoint_index(link.text))
    if link.label is None:
        return LinkTarget(position)
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
        model: the serialised sentencepiece model.
    """

    def __init__(self, model: bytes) -> None:
        first = TextTokenizer(model, {}).vocab_size
        self.control = {token: first + i for i, token in enumerate(CONTROL_TOKENS)}
        self.tokenizer = TextTokenizer(model, self.control)
        self.query_ids = [self.control[token] for token in QUERIES]
        self.size = self.tokenizer.vocab_size

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """The packer of a `tokenizer.model`."""
        return cls(path.read_bytes())

    def text(self, text: str) -> list[int]:
        """Plain text to pieces; control tokens never come out of this."""
        return self.tokenizer.encode_user_text(text) if text else []

    def prefix(self, system: str) -> list[int]:
        """`<s>`, system prompt and the user's name: everything in front of the image."""
        return [self.tokenizer.bos_id, *self.text(f"{system} USER: ")]

    def queries(self, token: str) -> list[int]:
        """Placeholders behind a routing token."""
        count = TABLE_SIZES[TABLES[token]]
        return self.query_ids if count == len(self.query_ids) else self.query_ids[:1] * count

    def branch(
        self, exchanges: Sequence[Exchange], scene: SceneFacts, *, opening: str = "\n", other: int = 0
    ) -> Branch:
        """One dialogue.

        Args:
            exchanges: its turns.
            scene: what they are about.
            opening: stands before the first question (a line break after an image).
            other: row of the batch whose image a second image shows.
        """
        branch = Branch(exchanges[-1].kind)
        for number, exchange in enumerate(exchanges):
            if number:
                opening = "TOOL: " if exchange.role == "tool" else "USER: "
            first, rest = self._split(exchange.answer)
            if isinstance(exchange, RegionExchange):
                self._add_pointed(branch, f"{opening}{exchange.question}", first, bool(rest), exchange, other)
            else:
                prompt = self.text(f"{opening}{exchange.question} ASSISTANT:")
                # Blanks in front of a control token are dropped, as the released tokenizer does.
                whole = self.text(f"{opening}{exchange.question} ASSISTANT: {first}".rstrip())
                self._add(branch, whole, learn_from=len(prompt))
            for part in rest:
                if isinstance(part, Link):
                    self._add_link(branch, part, scene)
                else:
                    self._add(branch, self.text(part.rstrip()))
            self._add(branch, [self.tokenizer.eos_id])
        return branch

    @staticmethod
    def _split(answer: Sequence[str | Link]) -> tuple[str, Sequence[str | Link]]:
        return (answer[0], answer[1:]) if answer and isinstance(answer[0], str) else ("", answer)

    def _add_pointed(
        self, branch: Branch, question: str, first: str, routed: bool, exchange: RegionExchange, other: int
    ) -> None:
        """A question with region prompts, and the words in which its answer starts."""
        parts: list[MarkedPart] = [
            (part, False) for part in self.tokenizer.parse_template(f"{question} ASSISTANT:")
        ]
        parts.append((" " + first, True))
        # What follows is a control token: it takes the blank in front of it away.
        parts += [(Control("<det>"), False)] if routed else []
        ids, marks = self.tokenizer.encode(parts)
        ids, marks = (ids[:-1], marks[:-1]) if routed else (ids, marks)
        start, regions = len(branch.ids), iter(exchange.regions)
        for place, index in enumerate(ids, start):
            if index == self.control["<region>"]:
                branch.regions.append((place, next(regions)))
            if index == self.control["<image>"]:
                branch.images.append((place, other))
        branch.ids += ids
        branch.labels += [i if mark else IGNORED for i, mark in zip(ids, marks, strict=True)]

    @staticmethod
    def _add(branch: Branch, ids: list[int], learn_from: int = 0) -> None:
        branch.ids += ids
        branch.labels += [IGNORED] * learn_from + ids[learn_from:]

    def _add_link(self, branch: Branch, link: Link, scene: SceneFacts) -> None:
        named: list[int] = []
        if link.token in WRAPPERS:
            start, end = WRAPPERS[link.token]
            named = [self.control[start], *self.text(link.text), self.control[end]]
        self._add(branch, [*named, self.control[link.token]])
        branch.links.append(link_target(link, scene, len(branch.ids)))
        queries = self.queries(link.token)
        branch.ids += queries
        branch.labels += [IGNORED] * len(queries)


@dataclass
class Packed:
    """A batch of dialogues as one line of T tokens, padding included.

    Attributes:
        ids: (T,) long; image places hold the `<im_patch>` id.
        position_ids: (T,) long.
        blocks: who sees what.
        image_places: (n,) long, place of every image token.
        image_sources: (n,) long, which of the given image tokens each is: those of all rows in order.
        learn: (n,) long, places whose *next* token is learnt.
        targets: (n,) long, that next token.
        weights: (n,) float, 1 / answer length, so that every exchange counts alike.
        branch_of: (n,) long, index into `kinds`.
        kinds: kind of every branch, over the whole batch.
        links: by table, (m,) long, place of the first query of every super-link.
        link_attributes: (m, 3) long, of table `det`.
        link_boxes: (m, 4) float, relative; zeros where `link_has_box` is False; of table `det`.
        link_has_box: (m,) bool, of table `det`.
        keypoints: (m,) long, of table `pose`.
        orders: what to draw, by table.
        region_places: (r,) long, place of every region prompt.
        regions: (row, index of the object) of every region prompt.
    """

    ids: Tensor
    position_ids: Tensor
    blocks: Blocks
    image_places: Tensor
    image_sources: Tensor
    learn: Tensor
    targets: Tensor
    weights: Tensor
    branch_of: Tensor
    kinds: list[str]
    links: dict[str, Tensor]
    link_attributes: Tensor
    link_boxes: Tensor
    link_has_box: Tensor
    keypoints: Tensor
    orders: dict[str, list[Order]]
    region_places: Tensor
    regions: list[tuple[int, int]]


Row = tuple[list[int], list[int], list[Branch]]
"""Prefix ids, cells of the image tokens, branches."""


class _Line:
    """The line of a batch while it is laid out."""

    def __init__(self, rows: Sequence[Row], patch_id: int, grid: int) -> None:
        self.rows, self.patch_id, self.grid = rows, patch_id, grid
        self.ids: list[int] = []
        self.positions: list[int] = []
        self.image: list[tuple[int, int]] = []
        self.learn: list[tuple[int, int, float, int]] = []
        self.kinds: list[str] = []
        self.links: dict[str, list[tuple[int, LinkTarget]]] = {table: [] for table in TABLE_SIZES}
        self.regions: list[tuple[int, int, int]] = []
        counts = [len(cells) for _, cells, _ in rows]
        self.sources = [sum(counts[:row]) for row in range(len(rows))]

    def add_prefix(self, row: int, length: int) -> None:
        """The prefix of a row, padded."""
        prefix = self.rows[row][0]
        start = len(self.ids)
        self.ids += prefix
        self.positions += range(len(prefix))
        self._add_image(row, len(prefix))
        self._pad(start + length)

    def base(self, row: int) -> int:
        """Position of the first token of a row's branches."""
        prefix, cells, _ = self.rows[row]
        return len(prefix) + (self.grid * self.grid if cells else 0)

    def _add_image(self, row: int, position: int) -> None:
        cells = self.rows[row][1]
        self.image += [(len(self.ids) + i, self.sources[row] + i) for i in range(len(cells))]
        self.ids += [self.patch_id] * len(cells)
        self.positions += [position + cell for cell in cells]

    def length(self, branch: Branch) -> int:
        """Tokens of a branch with its further images."""
        return len(branch.ids) + sum(len(self.rows[row][1]) - 1 for _, row in branch.images)

    def add_branch(self, row: int, branch: Branch, length: int) -> None:
        """A branch of a row, padded."""
        start, position = len(self.ids), self.base(row)
        images = dict(branch.images)
        places: list[int] = []
        for at, index in enumerate(branch.ids):
            places.append(len(self.ids))
            if at in images:
                self._add_image(images[at], position)
                position += self.grid * self.grid
            else:
                self.ids.append(index)
                self.positions.append(position)
                position += 1
        learnt = [(i, label) for i, label in enumerate(branch.labels) if label != IGNORED and i > 0]
        share = 1.0 / max(len(learnt), 1)
        self.learn += [(places[i] - 1, label, share, len(self.kinds)) for i, label in learnt]
        self.kinds.append(branch.kind)
        for link in branch.links:
            self.links[link.table].append((places[link.position], link))
        self.regions += [(places[at], row, index) for at, index in branch.regions]
        self._pad(start + length)

    def _pad(self, end: int) -> None:
        missing = end - len(self.ids)
        self.ids += [0] * missing
        self.positions += [0] * missing

    def packed(self, blocks: Blocks) -> Packed:
        """As tensors."""
        detector = [link for _, link in self.links["det"]]
        return Packed(
            ids=torch.tensor(self.ids),
            position_ids=torch.tensor(self.positions),
            blocks=blocks,
            image_places=_column(self.image, 0),
            image_sources=_column(self.image, 1),
            learn=_column(self.learn, 0),
            targets=_column(self.learn, 1),
            weights=torch.tensor([one[2] for one in self.learn]),
            branch_of=_column(self.learn, 3),
            kinds=self.kinds,
            links={table: _column(found, 0) for table, found in self.links.items()},
            link_attributes=torch.tensor([t.attributes for t in detector], dtype=torch.long).reshape(-1, 3),
            link_boxes=torch.tensor([t.box or (0.0,) * 4 for t in detector]).reshape(-1, 4),
            link_has_box=torch.tensor([t.box is not None for t in detector], dtype=torch.bool),
            keypoints=torch.tensor([t.keypoint for _, t in self.links["pose"]], dtype=torch.long),
            orders={
                table: [t.order for _, t in self.links[table] if t.order is not None]
                for table in ("gen", "edit")
            },
            region_places=_column(self.regions, 0),
            regions=[(row, index) for _, row, index in self.regions],
        )


def pack(rows: Sequence[Row], patch_id: int, grid: int) -> Packed:
    """Pack rows into one batch.

    A row's image tokens take the positions of their cells, so that a symbolic scene (few tokens) and a
    picture (grid * grid tokens) put the text at the same place. An empty cell list means: no image.
    """
    line = _Line(rows, patch_id, grid)
    prefixes = [len(prefix) + len(cells) for prefix, cells, _ in rows]
    for row in range(len(rows)):
        line.add_prefix(row, max(prefixes))
    branches = [(row, branch) for row, (_, _, found) in enumerate(rows) for branch in found]
    branches.sort(key=lambda one: -line.length(one[1]))
    lengths = [line.length(branch) for _, branch in branches]
    groups, start = [], 0
    for count in group_sizes(lengths):
        chosen = slice(start, start + count)
        groups.append(group_of(lengths[chosen], [row for row, _ in branches[chosen]], prefixes))
        for row, branch in branches[chosen]:
            line.add_branch(row, branch, lengths[start])
        start += count
    return line.packed(Blocks((len(rows), max(prefixes)), groups))


def _column(table: Sequence[tuple[int | float | LinkTarget, ...]], index: int) -> Tensor:
    return torch.tensor([row[index] for row in table], dtype=torch.long)
