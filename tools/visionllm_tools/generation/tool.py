"""The routed tool behind `[GEN]`: a picture from a caption."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image
from pydantic import field_validator
from torch import Tensor

from visionllm_sdk.errors import InputError
from visionllm_sdk.model.conversation import GENERATION_LAYOUT
from visionllm_sdk.results import GeneratedImage
from visionllm_sdk.tool import QueryTable, RoutingToken, ToolRequest
from visionllm_tools.diffusion.config import GENERATION_PARTS
from visionllm_tools.diffusion.options import PictureOptions
from visionllm_tools.diffusion.painting import Order
from visionllm_tools.diffusion.sizes import Size, check_size, working_size
from visionllm_tools.diffusion.tool import DiffusionTool, PictureTruth, words_of


class GenerationOptions(PictureOptions):
    """Arguments of generation; see `PictureOptions`.

    Attributes:
        size: width and height in pixels, or one side of a square; None takes the checkpoint's own.
    """

    size: tuple[int, int] | int | None = None

    @field_validator("size")
    @classmethod
    def _positive(cls, size: tuple[int, int] | int | None) -> tuple[int, int] | None:
        if size is None:
            return None
        pair = (size, size) if isinstance(size, int) else size
        if min(pair) < 1:
            raise InputError(
                "a picture needs a width and a height", value=size, limit="whole numbers of pixels from 1"
            )
        return pair


Request = ToolRequest[GenerationOptions]


class GenerationTool(DiffusionTool[GenerationOptions, GeneratedImage]):
    """Draws pictures; see `DiffusionTool`."""

    name = "generate"
    description = "Draws a new picture from a caption."
    tokens = (
        RoutingToken(
            text="[GEN]",
            purpose="A new picture that shows what the caption says.",
            layout=GENERATION_LAYOUT,
            grouped=False,
        ),
    )
    table = QueryTable(name="gen", count=64, count_field="num_embs_gen")
    checkpoint_prefix = "sd."
    needs_image = False
    context_tokens = ("[GEN]",)
    options_type = GenerationOptions
    result_type = GeneratedImage
    section = "sd"
    defaults = GENERATION_PARTS

    def _order(self, request: Request, seed: int, condition: Tensor) -> Order:
        return Order(
            plan=self._plan(request.options, self._working(self._wanted(request)), None),
            condition=condition,
            negative=self._negative(request),
            seed=seed,
            watch=request.options.watch,
            cancel=request.options.cancel,
        )

    def _wanted(self, request: Request) -> Size:
        """Size of the picture that the caller gets."""
        native, size = self.decoder.native_side, request.options.size
        if size is None:
            return native, native
        pair = (size, size) if isinstance(size, int) else size
        return check_size(pair, step=self.decoder.side_step, native=native)

    def _working(self, wanted: Size) -> Size:
        if not self.config.parts.fixed_size:
            return wanted
        return working_size(wanted, step=self.decoder.side_step, native=self.decoder.native_side)

    def _finish(self, request: Request, picture: Image.Image) -> Image.Image:
        wanted = self._wanted(request)
        return picture if picture.size == wanted else picture.resize(wanted, Image.Resampling.LANCZOS)

    def _result(self, request: Request, order: Order, picture: Image.Image) -> GeneratedImage:
        words = words_of(request)
        result = GeneratedImage(
            width=picture.width,
            height=picture.height,
            prompt=words,
            negative_prompt=request.options.negative_prompt,
            seed=order.seed,
            steps=order.plan.steps,
            guidance=order.plan.guidance,
            sampler=order.plan.sampler,
            refused=self._refusal(picture, words),
        )
        return result.with_image(picture)

    def _sources(self, requests: Sequence[Any], targets: Sequence[PictureTruth]) -> Tensor | None:
        return None
