"""From turns and images to token ids, and from prompts to one padded batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from visionllm_sdk.errors import InputError
from visionllm_sdk.model.conversation import ConversationFormat, Turn
from visionllm_sdk.model.superlink import LinkPlan, insert_queries
from visionllm_sdk.model.tiling import WHOLE, Frame
from visionllm_sdk.model.tokenizer import IMAGE, PATCH, REGION, TextTokenizer
from visionllm_sdk.model.vision import VisionFeatures

IGNORED = -100
"""Label of tokens that the language loss leaves out."""


@dataclass(frozen=True, slots=True, eq=False)
class TiledImage:
    """One image as the language side sees it.

    Attributes:
        pixels: normalised tiles, the thumbnail last. (T, 3, S, S)
        features: what the frozen vision encoder makes of them, if already known.
        key: names the content, so that sessions can reuse work; empty if unknown.
    """

    pixels: Tensor
    features: VisionFeatures | None = None
    key: str = ""

    @property
    def tiles(self) -> int:
        """T."""
        return int(self.pixels.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class RegionPrompt:
    """A region of one of the prompt's images.

    Attributes:
        mask: 1 inside, at thumbnail resolution. (S, S)
        image: index of the image in the prompt; negative where the image stands before the part that runs.
        embedding: what the region encoder makes of it, if already known. (C,)
        frame: where the image lies on its thumbnail.
    """

    mask: Tensor
    image: int = 0
    embedding: Tensor | None = None
    frame: Frame = WHOLE


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Prompt:
    """One row, ready for the model.

    Attributes:
        ids: token ids; images are expanded to patches, routing tokens are followed by their placeholders.
        marks: which ids the language loss supervises.
        images: in the order of their ``<image>`` tokens.
        regions: in the order of their ``<region>`` tokens.
    """

    ids: list[int]
    marks: list[bool]
    images: tuple[TiledImage, ...] = ()
    regions: tuple[RegionPrompt, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceLayout:
    """Which ids of a sequence stand for something else than a word.

    Attributes:
        patch_id: ``<im_patch>``.
        region_id: ``<region>``.
        placeholder_ids: query placeholders.
        tokens_per_tile: patches of one tile.
    """

    patch_id: int
    region_id: int
    placeholder_ids: frozenset[int]
    tokens_per_tile: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptBuilder:
    """Turns conversations into prompts for one checkpoint.

    Attributes:
        tokenizer: of the checkpoint.
        plan: routing tokens of the checkpoint.
        format: conversation format.
        system: replaces the format's system text.
        tokens_per_tile: language-model tokens of one tile.
    """

    tokenizer: TextTokenizer
    plan: LinkPlan
    format: ConversationFormat
    tokens_per_tile: int
    system: str | None = None

    def build(
        self, turns: Sequence[Turn], images: Sequence[TiledImage] = (), regions: Sequence[RegionPrompt] = ()
    ) -> Prompt:
        """Encode a conversation.

        Args:
            turns: questions and answers; without the last answer the prompt asks for one.
            images: one per ``<image>`` token.
            regions: one per ``<region>`` token.

        Raises:
            InputError: the number of images or regions does not fit the turns.
        """
        ids, marks = self.tokenizer.encode(self.format.render(turns, system=self.system))
        self._check_count(ids, IMAGE, len(images), "image")
        self._check_count(ids, REGION, len(regions), "region")
        bad = [region.image for region in regions if not 0 <= region.image < len(images)]
        if bad:
            raise InputError(
                "a region refers to an image that is not there",
                value=bad[0],
                limit=f"0 to {len(images) - 1}",
                remedy="Correct RegionPrompt.image.",
            )
        ids, marks = insert_queries(ids, marks, self.plan)
        ids, marks = self._expand_images(ids, marks, images)
        return Prompt(ids=ids, marks=marks, images=tuple(images), regions=tuple(regions))

    def _check_count(self, ids: Sequence[int], token: str, given: int, word: str) -> None:
        present = list(ids).count(self.tokenizer.control_id(token))
        if present != given:
            raise InputError(
                f"the conversation has {present} {token} token(s) but {given} {word}(s) were given",
                value=given,
                limit=present,
                remedy=f"Pass one {word} for every {token}.",
            )

    def _expand_images(
        self, ids: Sequence[int], marks: Sequence[bool], images: Sequence[TiledImage]
    ) -> tuple[list[int], list[bool]]:
        image_id, patch_id = self.tokenizer.control_id(IMAGE), self.tokenizer.control_id(PATCH)
        remaining = iter(images)
        new_ids: list[int] = []
        new_marks: list[bool] = []
        for index, mark in zip(ids, marks, strict=True):
            length = next(remaining).tiles * self.tokens_per_tile if index == image_id else 1
            new_ids += [patch_id if index == image_id else index] * length
            new_marks += [mark] * length
        return new_ids, new_marks


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Batch:
    """Prompts padded on the right.

    Attributes:
        ids: token ids. (B, L) int64
        mask: True at real tokens. (B, L) bool
        labels: ids at supervised tokens, ``IGNORED`` elsewhere. (B, L) int64
        images: per row.
        regions: per row.
    """

    ids: Tensor
    mask: Tensor
    labels: Tensor
    images: tuple[tuple[TiledImage, ...], ...]
    regions: tuple[tuple[RegionPrompt, ...], ...]

    def to(self, device: torch.device | str) -> Batch:
        """The batch with its id tensors on another device; images follow when they are encoded."""
        return Batch(
            ids=self.ids.to(device),
            mask=self.mask.to(device),
            labels=self.labels.to(device),
            images=self.images,
            regions=self.regions,
        )


def collate(prompts: Sequence[Prompt], *, pad_id: int) -> Batch:
    """Pad prompts on the right to one batch."""
    length = max(len(prompt.ids) for prompt in prompts)
    ids = torch.full((len(prompts), length), pad_id)
    mask = torch.zeros((len(prompts), length), dtype=torch.bool)
    labels = torch.full((len(prompts), length), IGNORED)
    for row, prompt in enumerate(prompts):
        size = len(prompt.ids)
        ids[row, :size] = torch.tensor(prompt.ids)
        mask[row, :size] = True
        labels[row, :size] = torch.where(torch.tensor(prompt.marks), ids[row, :size], IGNORED)
    return Batch(
        ids=ids,
        mask=mask,
        labels=labels,
        images=tuple(prompt.images for prompt in prompts),
        regions=tuple(prompt.regions for prompt in prompts),
    )
