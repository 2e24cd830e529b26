"""How probable given answers are: many prompts that begin alike, each with its answer, in one pass.

Prompts are laid into one tree, in which what they share - system text, image, question - stands once. Every
token sees what leads to it and nothing else, and its position is its depth: each answer gets exactly the
probability that it has alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from visionllm_sdk.errors import LimitError
from visionllm_sdk.model.core import VisionLLMCore
from visionllm_sdk.model.prompt import Prompt, RegionPrompt, SequenceLayout, TiledImage, collate

_TOKENS_A_PASS = 2048


@dataclass(slots=True, eq=False)
class _Tree:
    """Prompts laid over one another.

    Attributes:
        ids: token of each node, in the order of their creation, parents first.
        parents: of each node; -1 for a root.
        images, regions: whose tokens are new in this tree, in their order.
        answers: nodes of each prompt's answer.
    """

    ids: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    images: list[TiledImage] = field(default_factory=list)
    regions: list[RegionPrompt] = field(default_factory=list)
    answers: list[list[int]] = field(default_factory=list)
    nodes: dict[tuple[int, Hashable], int] = field(default_factory=dict)

    def add(self, prompt: Prompt, layout: SequenceLayout) -> None:
        """Lay a prompt into the tree. An image or a region is the same only if it is the same object."""
        node, answer = -1, []
        for index, mark, token in zip(prompt.ids, prompt.marks, _contents(prompt, layout), strict=True):
            place = self.nodes.get((node, token))
            if place is None:
                place = self._grow(node, index, token)
            node = place
            if mark:
                answer.append(node)
        self.answers.append(answer)

    def _grow(self, parent: int, index: int, token: Hashable) -> int:
        place = len(self.ids)
        self.nodes[parent, token] = place
        self.ids.append(index)
        self.parents.append(parent)
        if isinstance(token, _Seen) and token.first:
            if isinstance(token.what, TiledImage):
                self.images.append(token.what)
            else:
                self.regions.append(token.what)
        return place

    def mask(self) -> Tensor:
        """Which nodes each node sees. (T, T) bool"""
        seen = torch.eye(len(self.ids), dtype=torch.bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                seen[node] |= seen[parent]
        return seen


@dataclass(frozen=True, slots=True)
class _Seen:
    """A token that stands for a patch of an image or for a region."""

    what: TiledImage | RegionPrompt
    offset: int = 0

    @property
    def first(self) -> bool:
        return self.offset == 0


def _contents(prompt: Prompt, layout: SequenceLayout) -> Iterator[Hashable]:
    """What stands at each position: a word's id, or which patch or region it is."""
    patches = iter(
        [
            _Seen(image, offset)
            for image in prompt.images
            for offset in range(image.tiles * layout.tokens_per_tile)
        ]
    )
    regions = iter([_Seen(region) for region in prompt.regions])
    for index in prompt.ids:
        if index == layout.patch_id:
            yield next(patches)
        elif index == layout.region_id:
            yield next(regions)
        else:
            yield index


@torch.no_grad()
def score_answers(core: VisionLLMCore, prompts: Sequence[Prompt], *, pad_id: int) -> list[float]:
    """Log-probability of the supervised tokens of each prompt.

    Args:
        core: the model.
        prompts: with their answers, which hold no routing token. Prompts that share an image or a region
            share the very object.
        pad_id: of the tokenizer.

    Raises:
        LimitError: a prompt that is longer than the language model can read.
    """
    limit = int(core.llm.config.max_position_embeddings)
    longest = max((len(prompt.ids) for prompt in prompts), default=0)
    if longest > limit:
        raise LimitError(
            "question and answer are longer than the language model can read",
            value=f"{longest} tokens",
            limit=limit,
            remedy="Use shorter texts.",
        )
    scores: list[float] = []
    for tree in _trees(prompts, core.layout):
        scores += _score(core, tree, pad_id)
    return scores


def _trees(prompts: Sequence[Prompt], layout: SequenceLayout) -> Iterator[_Tree]:
    """The prompts in trees of bounded size, in order."""
    tree = _Tree()
    for prompt in prompts:
        if tree.answers and len(tree.ids) + len(prompt.ids) > _TOKENS_A_PASS:
            yield tree
            tree = _Tree()
        tree.add(prompt, layout)
    if tree.answers:
        yield tree


def _score(core: VisionLLMCore, tree: _Tree, pad_id: int) -> list[float]:
    kept = sorted({parent for parent in tree.parents if parent >= 0})  # what nothing follows need not run
    place = {node: number for number, node in enumerate(kept)}
    ids = [tree.ids[node] for node in kept]
    row = Prompt(ids=ids, marks=[False] * len(ids), images=tuple(tree.images), regions=tuple(tree.regions))
    seen = tree.mask()[kept][:, kept]
    output = core.llm.model(
        inputs_embeds=core.embed(collate([row], pad_id=pad_id)),
        attention_mask=seen[None, None].to(core.device),
        position_ids=(seen.sum(1) - 1)[None].to(core.device),
        use_cache=False,
    )
    wanted = sorted({node for answer in tree.answers for node in answer})
    before = torch.tensor([place[tree.parents[node]] for node in wanted], device=core.device)
    tokens = torch.tensor([tree.ids[node] for node in wanted], device=core.device)
    logits = core.llm.lm_head(output.last_hidden_state[0, before]).float()  # (N, vocabulary)
    found = logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0]
    value = dict(zip(wanted, found.tolist(), strict=True))
    return [sum(value[node] for node in answer) for answer in tree.answers]
