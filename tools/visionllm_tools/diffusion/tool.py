"""What the tools behind `[GEN]` and `[EDIT]` have in common."""

from __future__ import annotations

import secrets
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol, Self, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from visionllm_sdk.errors import DataError, InputError, ToolError
from visionllm_sdk.results import Picture
from visionllm_sdk.tool import RoutedTool, SuperLink, ToolLoss, ToolRequest
from visionllm_tools.diffusion.captions import caption_ids
from visionllm_tools.diffusion.config import DiffusionConfig, PartsConfig
from visionllm_tools.diffusion.decoder import DiffusionDecoder, build_decoder
from visionllm_tools.diffusion.hints import Hints
from visionllm_tools.diffusion.loss import DiffusionBatch, Draws, Weigh, diffusion_loss
from visionllm_tools.diffusion.options import PictureOptions, check_prompt
from visionllm_tools.diffusion.painting import Order, Plan, paint
from visionllm_tools.sections import section_of

OptionsT = TypeVar("OptionsT", bound=PictureOptions)
PictureT = TypeVar("PictureT", bound=Picture)
Request = ToolRequest[Any]

_DRAWN_SEEDS: Final = 2**32
_NEED_GUIDANCE: Final = ("negative_prompt", "image_guidance")


class SafetyChecker(Protocol):
    """A user's own look at every picture before anyone sees it."""

    def __call__(self, image: Image.Image, prompt: str) -> str | None:
        """Why the picture must not be shown, in words; None lets it pass."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PictureTruth:
    """Ground truth of one request, for training.

    Attributes:
        image: the wanted picture, RGB, or uint8 (3, H, W); sides that the autoencoder can halve.
        source: editing: the picture to start from, in the same form; None takes the request's image.
        caption: its words, for the text encoder's features.
        caption_ids: the same as token ids, padded, (Q,) long; spares the tokenizer.
    """

    image: Image.Image | Tensor
    source: Image.Image | Tensor | None = None
    caption: str | None = None
    caption_ids: Tensor | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Lesson:
    """How the training loss is computed.

    Attributes:
        draws: random numbers; None takes torch's global ones.
        weigh: how much an error counts at each time step; None: all alike.
        hints: what to add to the conditioning of a picture.
        looks: how often a picture is looked at in one step, each time through other noise.
    """

    draws: Draws | None = None
    weigh: Weigh | None = None
    hints: Hints | None = None
    looks: int = 1


class DiffusionTool(RoutedTool[OptionsT, PictureT]):
    """A tool that makes one picture per request.

    Subclasses say which section of `config.json` is theirs and what an order and a result look like.

    Args:
        decoder: the diffusion decoder.
        safety: looks at every picture; None lets all pass. The released model's own checker is not part of
            its weights, so nothing is checked unless the application says how.
        lesson: how the training loss is computed.
    """

    section: ClassVar[str]
    """Name of its section: `{section}_config`, switched on by `use_{section}`."""
    defaults: ClassVar[PartsConfig]
    """Parts of the released model."""
    decoder: DiffusionDecoder

    def __init__(
        self,
        decoder: DiffusionDecoder,
        *,
        safety: SafetyChecker | None = None,
        lesson: Lesson | None = None,
    ) -> None:
        super().__init__(decoder)
        self.safety = safety
        self.lesson = lesson or Lesson()

    @property
    def config(self) -> DiffusionConfig:
        """Numbers of the decoder."""
        return self.decoder.config

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self | None:
        """Build from the released `config.json`; see `RoutedTool.from_config`."""
        numbers = cls._numbers(config)
        return None if numbers is None else cls(build_decoder(numbers))

    @classmethod
    def described(cls, config: Mapping[str, Any]) -> bool:
        """See `RoutedTool.described`: importing the diffusion library takes longer than all else."""
        return cls._numbers(config) is not None

    @classmethod
    def _numbers(cls, config: Mapping[str, Any]) -> DiffusionConfig | None:
        """This tool's section; None if the checkpoint has none."""
        return section_of(
            config,
            switch=f"use_{cls.section}",
            name=f"{cls.section}_config",
            parse=lambda section: DiffusionConfig.from_dict(section, defaults=cls.defaults),
            width="llm_hidden_size",
        )

    @torch.no_grad()
    def run(self, requests: Sequence[Request]) -> list[PictureT]:
        """Make pictures; see `RoutedTool.run`. Requests with the same settings run together.

        Raises:
            InputError: a size or a sampler that this checkpoint cannot do, or a negative prompt or image
                guidance without guidance above 1.
            ToolError: super-links of another width, several of them in one request, or no input image.
            GenerationCancelled: all requests that run together were cancelled.
        """
        seeds = [self._seed(request) for request in requests]
        conditions = self._conditions([self._link(request) for request in requests])
        orders = [
            self._order(request, seed, condition)
            for request, seed, condition in zip(requests, seeds, conditions, strict=True)
        ]
        pictures = paint(self.decoder, orders)
        return [
            self._result(request, order, self._finish(request, picture))
            for request, order, picture in zip(requests, orders, pictures, strict=True)
        ]

    def loss(self, requests: Sequence[Request], targets: Sequence[PictureTruth]) -> ToolLoss:
        """Training loss; see `RoutedTool.loss`. All pictures of a batch have one size.

        Raises:
            DataError: pictures of several sizes, or fewer targets than requests.
        """
        if len(requests) != len(targets):
            raise DataError(
                "training needs one ground truth per request", value=len(targets), limit=len(requests)
            )
        states, images = self._taught(requests, targets)
        lesson = self.lesson
        batch = DiffusionBatch(
            states=states,
            images=images,
            sources=self._sources(requests, targets),
            caption_ids=self._caption_ids(targets),
            hints=None if lesson.hints is None else lesson.hints(states.detach(), images),
        )
        return diffusion_loss(
            self.decoder,
            batch,
            drop_rate=self.config.cfg_drop_rate,
            draws=lesson.draws,
            weigh=lesson.weigh,
            looks=lesson.looks,
        )

    @torch.no_grad()
    def study(self, requests: Sequence[Request], targets: Sequence[PictureTruth]) -> None:
        """Look at a sample of what will be taught, before it is; see `Hints`. Nothing without hints."""
        if self.lesson.hints is not None:
            self.lesson.hints.study(*self._taught(requests, targets))

    def _taught(self, requests: Sequence[Request], targets: Sequence[PictureTruth]) -> tuple[Tensor, Tensor]:
        """Super-link states (B, G, C) and wanted pictures (B, 3, H, W), -1..1."""
        place = self.decoder.llm2sd_mapper_queries
        states = torch.stack([self._link(request).states for request in requests]).to(place)
        return states, pixels([target.image for target in targets]).to(place)

    @abstractmethod
    def _order(self, request: Request, seed: int, condition: Tensor) -> Order:
        """What to paint for a request."""

    @abstractmethod
    def _finish(self, request: Request, picture: Image.Image) -> Image.Image:
        """The painted picture as the caller gets it."""

    @abstractmethod
    def _result(self, request: Request, order: Order, picture: Image.Image) -> PictureT:
        """The typed result."""

    @abstractmethod
    def _sources(self, requests: Sequence[Request], targets: Sequence[PictureTruth]) -> Tensor | None:
        """Pictures that training starts from, (B, 3, H, W) in -1..1."""

    def _plan(self, options: PictureOptions, size: tuple[int, int], image_guidance: float | None) -> Plan:
        parts = self.config.parts
        guidance = self.config.cfg_scale if options.guidance is None else options.guidance
        for name in _NEED_GUIDANCE:
            if guidance <= 1 and getattr(options, name, None) is not None:
                raise InputError(
                    f"{name} does nothing without guidance",
                    value=f"guidance {guidance}",
                    limit="guidance above 1",
                    remedy=f"Pass guidance=2.0 or more with it, or leave {name} out.",
                )
        return Plan(
            size=size,
            steps=parts.steps if options.steps is None else options.steps,
            guidance=guidance,
            image_guidance=image_guidance,
            sampler=options.sampler,
        )

    def _seed(self, request: Request) -> int:
        seed: int | None = request.options.seed
        return secrets.randbelow(_DRAWN_SEEDS) if seed is None else seed

    def _link(self, request: Request) -> SuperLink:
        if len(request.links) != 1:
            raise ToolError(
                f"a {request.token} call makes one picture from one super-link",
                value=len(request.links),
                limit=1,
                remedy="Make one request for every picture.",
            )
        return self._checked(request.links[0])

    def _checked(self, link: SuperLink) -> SuperLink:
        width = self.config.llm_hidden_size
        if link.states.dim() != 2 or link.states.shape[1] != width:
            raise ToolError(
                f"the super-link of {link.token} does not fit the decoder",
                value=tuple(link.states.shape),
                limit=f"(queries, {width})",
                remedy="Use the decoder and the language model of one checkpoint.",
            )
        return link

    def _conditions(self, links: Sequence[SuperLink]) -> Tensor:
        """Conditioning of several super-links at once, (B, Q, d)."""
        states = torch.stack([link.states for link in links])
        return self.decoder.condition(states.to(self.decoder.llm2sd_mapper_queries))

    def _negative(self, request: Request) -> Tensor | None:
        """Conditioning of what to stay away from, (Q, d); None: of "anything".

        A super-link of the negative prompt comes as the request's context; without one, its words go through
        the text encoder.
        """
        if request.context:
            return self._conditions([self._checked(request.context[-1])])[0]
        words: str | None = request.options.negative_prompt
        if words is None:
            return None
        if self.decoder.sd_text_encoder is None:
            raise ToolError(
                "a negative prompt came without its super-link, and this checkpoint has no text encoder",
                value=words,
                remedy="Route the negative prompt too, and pass its super-link as context.",
            )
        ids = caption_ids(self.config, [words]).to(self.decoder.llm2sd_mapper_queries.device)
        return self.decoder.caption_features(ids)[0]

    def _caption_ids(self, targets: Sequence[PictureTruth]) -> Tensor | None:
        """Token ids of all captions, (B, Q); None where there is nothing to compare them with."""
        if self.decoder.sd_text_encoder is None:
            return None
        place = self.decoder.llm2sd_mapper_queries.device
        given = [target.caption_ids for target in targets if target.caption_ids is not None]
        if len(given) == len(targets):
            return torch.stack(given).to(place)
        words = [target.caption for target in targets if target.caption is not None]
        if len(words) == len(targets):
            return caption_ids(self.config, words).to(place)
        return None

    def _refusal(self, picture: Image.Image, prompt: str) -> str | None:
        return None if self.safety is None else self.safety(picture, prompt)


def words_of(request: Request) -> str:
    """The caption or instruction behind a request: as given, else the label, else the user's text."""
    given: str | None = request.options.prompt
    if given is not None:
        return given
    return check_prompt(request.links[0].label or request.instruction or request.token)


def pixels(images: Sequence[Image.Image | Tensor]) -> Tensor:
    """Pictures of one size as one tensor, (B, 3, H, W) in -1..1.

    Raises:
        DataError: pictures of several sizes.
    """
    tensors = [_bytes(image) for image in images]
    if len({tensor.shape for tensor in tensors}) > 1:
        raise DataError(
            "the pictures of a training batch differ in size",
            value=[tuple(tensor.shape) for tensor in tensors],
            remedy="Group pictures by size.",
        )
    return torch.stack(tensors).float() / 127.5 - 1


def _bytes(image: Image.Image | Tensor) -> Tensor:
    if isinstance(image, Tensor):
        return image
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
