"""Laid-out prompts through the language model, with what they have in common run once.

Prompts about the same images stand in one row, in which everything up to the end of the images comes once,
and not at all where a session knows it. Rows run together, in batches of bounded size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from visionllm_sdk.model.cache import KeyValues, RowCache, token_bytes
from visionllm_sdk.model.core import VisionLLMCore
from visionllm_sdk.model.prompt import Prompt, SequenceLayout, TiledImage
from visionllm_sdk.model.session import (
    Session,
    begin_of,
    content_ids,
    cut_prompt,
    images_end,
    rest_of,
)
from visionllm_sdk.model.superlink import LinkPosition, LinkSpec, extract_links
from visionllm_sdk.model.tree import PromptTree, TreeOutput, run_trees

_TOKENS_A_PASS = 16384
_BYTES_A_PASS = 2 * 2**30  # of keys and values
_BRANCHES_A_ROW = 1024
"""Tokens of one row behind what its prompts have in common; each of them looks at all others, to no use."""


@dataclass(frozen=True, slots=True, eq=False)
class LinkState:
    """A routing token of a prompt.

    Attributes:
        spec: which one.
        states: hidden states at its queries. (E, C)
        before: hidden state that the token follows from. (C,)
    """

    spec: LinkSpec
    states: Tensor
    before: Tensor


@dataclass(slots=True, eq=False)
class _Row:
    """Prompts that begin alike.

    Attributes:
        content: what stands up to the end of the last image, see `content_ids`. (n,)
        session: may know the beginning, and keeps it.
        waiting: prompts that have not run, with their numbers.
        paths: where the prompts of the running pass stand in its tree.
        prefix: keys and values of the beginning, as far as they are known.
        known: how far that is.
        cut: where the tree of the running pass begins.
    """

    content: Tensor
    session: Session | None
    waiting: deque[tuple[int, Prompt]] = field(default_factory=deque)
    paths: list[tuple[int, list[int]]] = field(default_factory=list)
    prefix: list[KeyValues] = field(default_factory=list)
    known: int = 0
    cut: int = 0

    @property
    def width(self) -> int:
        """Slots that a pass takes at most."""
        sizes = [len(prompt.ids) for _, prompt in self.waiting]
        shared = len(self.content)
        return max(*sizes, shared + min(sum(sizes) - shared * len(sizes), _BRANCHES_A_ROW))

    def recall(self, layout: SequenceLayout) -> None:
        """Look up what the session knows of the beginning."""
        if self.session is not None and len(self.content):
            more = F.pad(self.content, (0, 1))  # a token always follows
            self.known, self.prefix = self.session.longest_prefix(more)
        self._cut(layout)

    def _cut(self, layout: SequenceLayout) -> None:
        self.cut = min(cut_prompt(prompt, self.known, layout) for _, prompt in self.waiting)

    def lay(self, layout: SequenceLayout) -> PromptTree:
        """Lay out as many prompts as one pass takes."""
        self._cut(layout)
        tree, self.paths = PromptTree(), []
        shared = len(self.content)
        while self.waiting:
            number, prompt = self.waiting[0]
            branches = len(tree) + self.cut + len(prompt.ids) - 2 * shared
            if self.paths and branches > _BRANCHES_A_ROW:
                break
            self.paths.append((number, tree.add(rest_of(prompt, self.cut, layout), layout)))
            self.waiting.popleft()
        return tree

    def before(self) -> list[KeyValues]:
        """Keys and values that stand before the tree."""
        if not self.cut:
            return []
        return [(keys[:, : self.cut], values[:, : self.cut]) for keys, values in self.prefix]

    def learn(self, cache: RowCache, row: int) -> None:
        """Keep the beginning, where somebody may need it again."""
        length = len(self.content)
        if self.known == length or (self.session is None and not self.waiting):
            return
        self.known, self.prefix = length, cache.row(row, length)
        if self.session is not None:
            self.session.keep_prefix(self.content, self.prefix)


@torch.no_grad()
def link_states(
    core: VisionLLMCore, prompts: Sequence[Prompt], sessions: Sequence[Session | None], *, pad_id: int
) -> list[list[LinkState]]:
    """The routing tokens of each prompt that stand behind its last image, from left to right.

    Args:
        core: the model.
        prompts: with their answers. Images without a key are the same only if they are the same object.
        sessions: of each prompt; what it knows is not run, and what is new is kept.
        pad_id: of the tokenizer.

    Raises:
        InputError: a prompt contradicts itself, see `VisionLLMCore.embed`.
    """
    layout = core.layout
    rows = _rows(prompts, sessions, layout)
    for row in rows:
        row.recall(layout)
    _see(core, rows)
    found: dict[int, list[LinkState]] = {}
    for batch in _batches(rows, _slots_a_pass(core)):
        while batch:
            trees = [row.lay(layout) for row in batch]
            output = run_trees(core, trees, [row.before() for row in batch], pad_id=pad_id)
            for place, row in enumerate(batch):
                row.learn(output.cache, place)
            found |= _links(batch, output)
            batch = [row for row in batch if row.waiting]
    return [found[number] for number in range(len(prompts))]


def _rows(
    prompts: Sequence[Prompt], sessions: Sequence[Session | None], layout: SequenceLayout
) -> list[_Row]:
    rows: dict[tuple[int, bytes], _Row] = {}
    for number, (prompt, session) in enumerate(zip(prompts, sessions, strict=True)):
        if any(not image.key for image in prompt.images):
            session = None  # what has no name is not found again
        images = tuple(image if image.key else _called_after(image) for image in prompt.images)
        begin = begin_of(replace(prompt, images=images), images_end(prompt, layout), layout)
        content = content_ids(begin, layout)
        # Without an image there is next to nothing to share.
        key = (id(session), content.numpy().tobytes()) if images else (number, b"")
        rows.setdefault(key, _Row(content, session)).waiting.append((number, prompt))
    return list(rows.values())


def _called_after(image: TiledImage) -> TiledImage:
    """The image under a name that holds while the object lives."""
    return replace(image, key=f"object {id(image)}")


def _see(core: VisionLLMCore, rows: Sequence[_Row]) -> None:
    """Compute the vision features of all images that run, once for each."""
    layout = core.layout
    rests = [rest_of(prompt, row.cut, layout) for row in rows for _, prompt in row.waiting]
    images = list({id(image): image for rest in rests for image in rest.images}.values())
    if not images:
        return
    levels = any(region.embedding is None for rest in rests for region in rest.regions)
    features = core.see_each(images, levels=levels)
    known = {id(image): replace(image, features=seen) for image, seen in zip(images, features, strict=True)}
    for row in rows:
        row.waiting = deque(
            (number, replace(prompt, images=tuple(known.get(id(one), one) for one in prompt.images)))
            for number, prompt in row.waiting
        )


def _batches(rows: Sequence[_Row], slots: int) -> Iterator[list[_Row]]:
    """Rows of similar width together, at most so many slots at once."""
    batch: list[_Row] = []
    for row in sorted(rows, key=lambda row: row.width):
        if batch and (len(batch) + 1) * row.width > slots:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _slots_a_pass(core: VisionLLMCore) -> int:
    return min(_TOKENS_A_PASS, _BYTES_A_PASS // token_bytes(core.llm.config, core.dtype))


def _links(rows: Sequence[_Row], output: TreeOutput) -> dict[int, list[LinkState]]:
    """The routing tokens behind the images, by number of their prompt."""
    at = {(link.row, link.column): link for link in output.links}
    owners: list[int] = []
    links: list[LinkPosition] = []
    before: list[tuple[int, int]] = []
    for place, row in enumerate(rows):
        for number, path in row.paths:
            for i in range(max(1, len(row.content) - row.cut), len(path)):
                if link := at.get((place, path[i])):
                    owners.append(number)
                    links.append(link)
                    before.append((place, path[i - 1]))
    found: dict[int, list[LinkState]] = {number: [] for row in rows for number, _ in row.paths}
    states = extract_links(output.hidden, links)
    places = torch.tensor(before, dtype=torch.long, device=output.hidden.device).reshape(-1, 2)
    causes = output.hidden[places[:, 0], places[:, 1]]  # (N, C)
    for number, link, state, cause in zip(owners, links, states, causes, strict=True):
        found[number].append(LinkState(link.spec, state, cause))
    return found
