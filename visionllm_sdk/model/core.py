"""The core: images, regions, text and super-link queries in one sequence through the language model.

The core receives built submodules. Attribute names equal the released checkpoint keys, so that the key table
only has to name what differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaForCausalLM

from visionllm_sdk.errors import InputError
from visionllm_sdk.model.bridge import build_bridge, pixel_shuffle
from visionllm_sdk.model.compiled import CompiledStep
from visionllm_sdk.model.config import ModelConfig
from visionllm_sdk.model.language import build_language
from visionllm_sdk.model.prompt import IGNORED, Batch, RegionPrompt, SequenceLayout, TiledImage
from visionllm_sdk.model.region import RegionEncoder
from visionllm_sdk.model.superlink import (
    LinkPlan,
    LinkPosition,
    extract_links,
    find_links,
    link_plan,
    place_queries,
    query_mask,
)
from visionllm_sdk.model.tiling import Frame
from visionllm_sdk.model.tokenizer import PATCH, REGION, TextTokenizer
from visionllm_sdk.model.vision import VisionEncoder, VisionFeatures, build_vision, frozen_features

TABLE_PREFIX = "emb_embeddings_"


@dataclass(frozen=True, slots=True, eq=False)
class CoreOutput:
    """Result of a forward pass over laid-out text.

    Attributes:
        hidden: hidden states after the final norm. (B, L, C)
        links: the routing tokens, row by row from left to right.
        states: hidden states at the queries of each link. Each (E, C)
        loss: language loss over supervised tokens without queries; None if not asked for. ()
    """

    hidden: Tensor
    links: list[LinkPosition]
    states: list[Tensor]
    loss: Tensor | None

    def of_row(self, row: int) -> list[tuple[LinkPosition, Tensor]]:
        """The links of one row with their states, each (E, C)."""
        return [pair for pair in zip(self.links, self.states, strict=True) if pair[0].row == row]


class VisionLLMCore(nn.Module):
    """Vision encoder, bridge, region encoder, query tables and language model.

    Args:
        vision: frozen; it runs without gradient and in evaluation mode.
        bridge: vision width (after pixel shuffle) to language width.
        region_encoder: None if the checkpoint has none.
        language: the library's Llama.
        tables: learned queries by table name.
        plan: routing tokens of the vocabulary.
        patch_id: id of ``<im_patch>``.
        region_id: id of ``<region>``.
        shuffles: merge 2x2 patches before the bridge.
    """

    def __init__(
        self,
        *,
        vision: VisionEncoder,
        bridge: nn.Module,
        region_encoder: RegionEncoder | None,
        language: LlamaForCausalLM,
        tables: Mapping[str, nn.Embedding],
        plan: LinkPlan,
        patch_id: int,
        region_id: int,
        shuffles: bool,
    ) -> None:
        super().__init__()
        self.vis_encoder = vision
        self.vl_bridge = bridge
        self.region_encoder = region_encoder
        self.llm = language
        self.table_names = tuple(tables)
        for name, table in tables.items():
            self.add_module(TABLE_PREFIX + name, table)
        self.plan = plan
        self.patch_id = patch_id
        self.region_id = region_id
        self.shuffles = shuffles
        self.step: CompiledStep | None = None
        """Compiled decode step, where one was asked for."""
        self.vis_encoder.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Training mode for everything but the frozen vision encoder."""
        super().train(mode)
        self.vis_encoder.eval()
        return self

    @property
    def tokens_per_tile(self) -> int:
        """Language-model tokens of one tile."""
        return self.vis_encoder.grid**2 // (4 if self.shuffles else 1)

    @property
    def layout(self) -> SequenceLayout:
        """Which ids of a sequence stand for something else than a word."""
        return SequenceLayout(
            patch_id=self.patch_id,
            region_id=self.region_id,
            placeholder_ids=self.plan.placeholder_ids,
            tokens_per_tile=self.tokens_per_tile,
        )

    @property
    def word_embedding(self) -> nn.Embedding:
        """Embedding of the vocabulary."""
        embedding: nn.Embedding = self.llm.model.embed_tokens
        return embedding

    @property
    def device(self) -> torch.device:
        """Where the language model is."""
        return self._norm.device

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the language model."""
        return self._norm.dtype

    @property
    def _norm(self) -> Tensor:
        """A tensor that no adapter stands in front of, to ask for device and format."""
        weight: Tensor = self.llm.model.norm.weight
        return weight

    def tables(self) -> dict[str, Tensor]:
        """Learned queries by table name. Each (E, C)"""
        return {name: getattr(self, TABLE_PREFIX + name).weight for name in self.table_names}

    def forward(self, batch: Batch, *, loss: bool = True) -> CoreOutput:
        """One pass over laid-out text: training, teacher forcing, forced routing.

        Args:
            batch: prompts with placeholders after every routing token.
            loss: compute the language loss.

        Raises:
            InputError: the batch contradicts itself, see :meth:`embed`.
        """
        links = find_links(batch.ids, self.plan)
        hidden = self.run(self.embed(batch, links), batch.mask)
        value = None
        if loss:
            labels = batch.labels.masked_fill(query_mask(batch.ids, links), IGNORED)
            value = self.language_loss(hidden, labels)
        return CoreOutput(hidden, links, extract_links(hidden, links), value)

    def run(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """Hidden states after the final norm, without cache.

        Args:
            embeddings: (B, L, C)
            mask: True at real tokens, which come first. (B, L)
        """
        padded = None if bool(mask.all()) else mask.long().to(embeddings.device)
        output = self.llm.model(inputs_embeds=embeddings, attention_mask=padded, use_cache=False)
        hidden: Tensor = output.last_hidden_state
        return hidden

    def language_loss(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of the next token; only supervised positions go through the output layer.

        Args:
            hidden: (B, L, C)
            labels: ids, or ``IGNORED``. (B, L)
        """
        labels = labels.to(hidden.device)
        wanted = labels[:, 1:] != IGNORED  # (B, L - 1)
        logits = self.llm.lm_head(hidden[:, :-1][wanted]).float()  # (N, vocabulary)
        if logits.shape[0] == 0:
            return hidden.sum() * 0.0
        return F.cross_entropy(logits, labels[:, 1:][wanted])

    # -- the embedding sequence ----------------------------------------------------------------------------

    def embed(self, batch: Batch, links: Sequence[LinkPosition] | None = None) -> Tensor:
        """Input embeddings: text, image patches, regions and queries in their places.

        Args:
            batch: prompts; images may carry their vision features.
            links: the routing tokens, if already found.

        Returns:
            (B, L, C)

        Raises:
            InputError: the number of patch or region tokens of a row differs from its images or regions, or
                the checkpoint has no region encoder.
        """
        ids = batch.ids.to(self.device)
        embeddings: Tensor = self.word_embedding(ids)
        self._check_rows(batch)
        images = [image for row in batch.images for image in row]
        features = VisionFeatures(embeddings.new_zeros(0))
        if images:
            features = self.see(images, levels=_has_unknown(batch.regions))
            tokens = self.bridge(features.tokens).flatten(0, 1).to(embeddings.dtype)  # (patches, C)
            embeddings = embeddings.masked_scatter((ids == self.patch_id)[..., None], tokens)
        if any(batch.regions):
            regions = self._embed_regions(batch, images, features).to(embeddings.dtype)
            embeddings = embeddings.masked_scatter((ids == self.region_id)[..., None], regions)
        found = find_links(batch.ids, self.plan) if links is None else links
        return place_queries(embeddings, found, self.tables())

    def see(self, images: Sequence[TiledImage], *, levels: bool = False) -> VisionFeatures:
        """Vision features of all tiles of all images, in order; see :meth:`see_each`."""
        return VisionFeatures.join(self.see_each(images, levels=levels), levels=levels)

    def see_each(self, images: Sequence[TiledImage], *, levels: bool = False) -> list[VisionFeatures]:
        """Vision features per image. Known features, and an image that occurs again, cost nothing.

        Args:
            images: at least one.
            levels: also the feature maps for the region encoder.
        """
        known = {
            id(image): image.features
            for image in images
            if image.features is not None and (image.features.levels or not levels)
        }
        missing = {id(image): image for image in images if id(image) not in known}
        if missing:
            pixels = torch.cat([image.pixels for image in missing.values()])
            parameter = next(self.vis_encoder.parameters())
            fresh = frozen_features(
                self.vis_encoder, pixels.to(parameter.device, parameter.dtype), levels=levels
            )
            sizes = [image.tiles for image in missing.values()]
            known |= dict(zip(missing, fresh.split(sizes), strict=True))
        return [known[id(image)] for image in images]

    def bridge(self, tokens: Tensor) -> Tensor:
        """Patch tokens to language width. (T, P, V) -> (T, tokens per tile, C)"""
        merged = pixel_shuffle(tokens, self.vis_encoder.grid) if self.shuffles else tokens
        parameter = next(self.vl_bridge.parameters())
        output: Tensor = self.vl_bridge(merged.to(parameter.device, parameter.dtype))
        return output

    def encode_regions(
        self,
        pixels: Tensor,
        levels: Sequence[Tensor],
        masks: Sequence[Tensor],
        owners: Sequence[int],
        frames: Sequence[Frame],
    ) -> Tensor:
        """Embeddings of region prompts.

        Args:
            pixels: thumbnails, normalised. (N, 3, S, S)
            levels: their feature maps, see :meth:`see`. Each (N, V_k, h_k, w_k)
            masks: one per region, at thumbnail resolution. Each (S, S)
            owners: which thumbnail each region lies in.
            frames: where each region's image lies on its thumbnail.

        Returns:
            (R, C)

        Raises:
            InputError: the checkpoint has no region encoder.
            RegionError: an empty mask.
        """
        if self.region_encoder is None:
            raise InputError(
                "this checkpoint has no region encoder", remedy="Ask without region prompts, or use another."
            )
        parameter = self.region_encoder.up_dim.weight
        encoded: Tensor = self.region_encoder(
            pixels.to(parameter.device, parameter.dtype),
            torch.stack(list(masks)).to(parameter.device),
            tuple(level.to(parameter.device, parameter.dtype) for level in levels),
            torch.tensor(owners, device=parameter.device),
            torch.tensor(frames, device=parameter.device),
        )
        return encoded

    def _embed_regions(self, batch: Batch, images: Sequence[TiledImage], features: VisionFeatures) -> Tensor:
        """Embeddings of all regions of a batch, known ones as they are. (R, C)"""
        regions = [region for row in batch.regions for region in row]
        known = {
            place: one.embedding.to(self.device, self.dtype)
            for place, one in enumerate(regions)
            if one.embedding is not None
        }
        missing = [place for place in range(len(regions)) if place not in known]
        if missing:
            tiles = self._region_tiles(batch, images)
            used = sorted({tiles[place] for place in missing})
            chosen = torch.tensor(used, device=features.tokens.device)
            fresh = self.encode_regions(
                torch.cat([image.pixels for image in images])[chosen.cpu()],
                [level[chosen] for level in features.levels],
                [regions[place].mask for place in missing],
                [used.index(tiles[place]) for place in missing],
                [regions[place].frame for place in missing],
            )
            known |= dict(zip(missing, fresh, strict=True))
        return torch.stack([known[place] for place in range(len(regions))])

    def _region_tiles(self, batch: Batch, images: Sequence[TiledImage]) -> list[int]:
        """Which tile, over all images of a batch, is the thumbnail that each region lies in."""
        tiles, first = [], 0
        for row_images, row_regions in zip(batch.images, batch.regions, strict=True):
            tiles += [_thumbnail(images, first + region.image) for region in row_regions]
            first += len(row_images)
        return tiles

    def _check_rows(self, batch: Batch) -> None:
        expected = [sum(image.tiles for image in row) * self.tokens_per_tile for row in batch.images]
        _compare("<im_patch>", (batch.ids == self.patch_id).sum(1).tolist(), expected)
        _compare(
            "<region>", (batch.ids == self.region_id).sum(1).tolist(), [len(row) for row in batch.regions]
        )


def _compare(token: str, present: Sequence[int], expected: Sequence[int]) -> None:
    for row, (there, wanted) in enumerate(zip(present, expected, strict=True)):
        if there != wanted:
            raise InputError(
                f"row {row} has {there} {token} token(s), but its inputs make {wanted}",
                value=there,
                limit=wanted,
                remedy="Build the row with PromptBuilder, and do not cut it off inside an image.",
            )


def _has_unknown(regions: Sequence[Sequence[RegionPrompt]]) -> bool:
    return any(region.embedding is None for row in regions for region in row)


def _thumbnail(images: Sequence[TiledImage], index: int) -> int:
    """Position of an image's thumbnail among the tiles of all images."""
    return sum(image.tiles for image in images[: index + 1]) - 1


def build_core(config: ModelConfig, tokenizer: TextTokenizer) -> VisionLLMCore:
    """Build the core with random weights.

    Args:
        config: numbers.
        tokenizer: ids of the control tokens.

    Raises:
        ConfigError: an unknown kind of part, or a vocabulary that lacks a control token.
    """
    vision = build_vision(config)
    regions = None
    if config.region_encoder:
        regions = RegionEncoder(
            level_widths=vision.level_widths,
            stem_width=vision.width,
            width=config.width,
            kernels=config.sdk.region_kernels,
            stem_widths=config.sdk.region_widths,
            place=config.sdk.region_place,
        )
    merged = vision.width * (4 if config.pixel_shuffle else 1)
    return VisionLLMCore(
        vision=vision,
        bridge=build_bridge(config.bridge_type, merged, config.width),
        region_encoder=regions,
        language=build_language(config),
        tables={name: nn.Embedding(count, config.width) for name, count in config.query_tables.items()},
        plan=link_plan(config, tokenizer),
        patch_id=tokenizer.control_id(PATCH),
        region_id=tokenizer.control_id(REGION),
        shuffles=config.pixel_shuffle,
    )
