"""Prompts laid over one another: what they share from the start - system text, image - stands once.

Every token sees what leads to it and nothing else, and its position is its depth, so that each prompt is
computed exactly as it is alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from visionllm_sdk.model.cache import KeyValues, RowCache
from visionllm_sdk.model.core import VisionLLMCore
from visionllm_sdk.model.prompt import Prompt, RegionPrompt, SequenceLayout, TiledImage, collate
from visionllm_sdk.model.superlink import LinkPosition, find_links


@dataclass(slots=True, eq=False)
class PromptTree:
    """Prompts as one row, parents before children.

    Attributes:
        ids: token of each node.
        parents: of each node; -1 for a root.
        images, regions: whose tokens stand in the tree, in their order.
    """

    ids: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    images: list[TiledImage] = field(default_factory=list)
    regions: list[RegionPrompt] = field(default_factory=list)
    _nodes: dict[tuple[int, Hashable], int] = field(default_factory=dict)
    _grown: list[tuple[list[int], int, int]] = field(default_factory=list)
    """Of each prompt: the nodes that were there already, and where its own start and stop."""

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, prompt: Prompt, layout: SequenceLayout) -> list[int]:
        """Lay a prompt into the tree. An image or a region is the same only if it is the same object.

        Returns:
            The node of each of its tokens.
        """
        node, path, start = -1, [], len(self.ids)
        for index, token in zip(prompt.ids, _contents(prompt, layout), strict=True):
            place = self._nodes.get((node, token))
            node = self._grow(node, index, token) if place is None else place
            path.append(node)
        own = len(self.ids) - start  # below a new node everything is new
        self._grown.append((path[: len(path) - own], start, len(self.ids)))
        return path

    def _grow(self, parent: int, index: int, token: Hashable) -> int:
        place = len(self.ids)
        self._nodes[parent, token] = place
        self.ids.append(index)
        self.parents.append(parent)
        if isinstance(token, _Seen) and token.first:
            if isinstance(token.what, TiledImage):
                self.images.append(token.what)
            else:
                self.regions.append(token.what)
        return place

    @property
    def branches(self) -> bool:
        """Whether some token does not see all tokens before it."""
        return len(self._grown) > 1

    def mask(self) -> Tensor:
        """Which nodes each node sees. (T, T) bool"""
        seen = torch.zeros(len(self.ids), len(self.ids), dtype=torch.bool)
        for shared, start, stop in self._grown:
            seen[start:stop, shared] = True
            seen[start:stop, start:stop] = torch.ones(stop - start, stop - start, dtype=torch.bool).tril()
        return seen

    def depths(self) -> Tensor:
        """Position of each node in its prompt. (T,) int64"""
        return torch.cat([len(shared) + torch.arange(stop - start) for shared, start, stop in self._grown])

    def row(self, nodes: Sequence[int] | None = None) -> Prompt:
        """The tree as a row to be embedded.

        Args:
            nodes: in ascending order, those that are wanted, among them all of images and regions; None: all.
        """
        ids = self.ids if nodes is None else [self.ids[node] for node in nodes]
        return Prompt(
            ids=list(ids),
            marks=[False] * len(ids),
            images=tuple(self.images),
            regions=tuple(self.regions),
        )


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


@dataclass(frozen=True, slots=True, eq=False)
class TreeOutput:
    """What a pass over trees yields.

    Attributes:
        hidden: hidden states after the final norm; padding on the right. (B, T, C)
        links: the routing tokens of the trees, row by row.
        cache: keys and values of each row, its prefix first.
    """

    hidden: Tensor
    links: list[LinkPosition]
    cache: RowCache


def run_trees(
    core: VisionLLMCore,
    trees: Sequence[PromptTree],
    prefixes: Sequence[Sequence[KeyValues]],
    *,
    pad_id: int,
) -> TreeOutput:
    """One pass over trees, each behind what is known already of its prompts.

    Args:
        core: the model.
        trees: one for each row.
        prefixes: keys and values that stand before each tree, by layer; may be empty.
        pad_id: of the tokenizer.

    Raises:
        InputError: a tree contradicts itself, see `VisionLLMCore.embed`.
    """
    known = [prefix[0][0].shape[1] if prefix else 0 for prefix in prefixes]
    slots = max(length + len(tree) for length, tree in zip(known, trees, strict=True))
    cache = RowCache(core.llm.config, rows=len(trees), capacity=slots, device=core.device, dtype=core.dtype)
    for row, prefix in enumerate(prefixes):
        if prefix:
            cache.preload(row, prefix)
    positions, seen = cache.begin(torch.tensor([len(tree) for tree in trees]))
    for row, (length, tree) in enumerate(zip(known, trees, strict=True)):
        if tree.branches:
            size = len(tree)
            positions[row, :size] = length + tree.depths().to(core.device)
            seen[row, 0, :size, :length] = True
            seen[row, 0, :size, length : length + size] = tree.mask().to(core.device)
    batch = collate([tree.row() for tree in trees], pad_id=pad_id)
    links = find_links(batch.ids, core.plan)
    output = core.llm.model(
        inputs_embeds=core.embed(batch, links),
        attention_mask=seen,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
    )
    return TreeOutput(output.last_hidden_state, links, cache)
