"""The routed tool behind `[EDIT]`: an image changed as an instruction says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image
from pydantic import Field
from torch import Tensor

from visionllm_sdk.errors import ToolError
from visionllm_sdk.model.conversation import EDITING_LAYOUT
from visionllm_sdk.results import EditedImage
from visionllm_sdk.tool import QueryTable, RoutingToken, ToolRequest
from visionllm_tools.diffusion.config import EDITING_PARTS
from visionllm_tools.diffusion.options import MAX_GUIDANCE, PictureOptions
from visionllm_tools.diffusion.painting import Order
from visionllm_tools.diffusion.sizes import working_size
from visionllm_tools.diffusion.tool import DiffusionTool, PictureTruth, pixels, words_of
from visionllm_tools.editing.keeping import keep_unchanged


class EditingOptions(PictureOptions):
    """Arguments of editing; see `PictureOptions`.

    Attributes:
        image_guidance: how closely to keep to the input image; 1 does not exaggerate at all. It counts only
            while `guidance` is above 1.
    """

    image_guidance: float | None = Field(default=None, ge=1, le=MAX_GUIDANCE, allow_inf_nan=False)


Request = ToolRequest[EditingOptions]


class EditingTool(DiffusionTool[EditingOptions, EditedImage]):
    """Edits images; see `DiffusionTool`. The edited image has the size of its input."""

    name = "edit"
    description = "Changes an image as an instruction says, and leaves the rest as it is."
    tokens = (
        RoutingToken(
            text="[EDIT]",
            purpose="The given image, changed as the instruction says.",
            layout=EDITING_LAYOUT,
            grouped=False,
        ),
    )
    table = QueryTable(name="edit", count=64, count_field="num_embs_gen")
    checkpoint_prefix = "ip2p."
    context_tokens = ("[EDIT]",)
    options_type = EditingOptions
    result_type = EditedImage
    section = "ip2p"
    defaults = EDITING_PARTS

    def _order(self, request: Request, seed: int, condition: Tensor) -> Order:
        options, source = request.options, self._source(request)
        wanted = options.image_guidance
        image_guidance = self.config.parts.image_guidance if wanted is None else wanted
        return Order(
            plan=self._plan(options, source.size, image_guidance),
            condition=condition,
            negative=self._negative(request),
            seed=seed,
            source=source,
            watch=options.watch,
            cancel=options.cancel,
        )

    def _source(self, request: Request) -> Image.Image:
        """The request's image at the size at which it is worked on."""
        image = _image(request)
        size = working_size(image.size, step=self.decoder.side_step, native=self.decoder.native_side)
        return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)

    def _finish(self, request: Request, picture: Image.Image) -> Image.Image:
        image, threshold = _image(request), self.config.parts.keep_threshold
        if threshold is not None:
            return keep_unchanged(image, self._source(request), picture, threshold=threshold)
        return picture if picture.size == image.size else picture.resize(image.size, Image.Resampling.LANCZOS)

    def _result(self, request: Request, order: Order, picture: Image.Image) -> EditedImage:
        words, image_guidance = words_of(request), order.plan.image_guidance
        assert image_guidance is not None
        result = EditedImage(
            width=picture.width,
            height=picture.height,
            prompt=words,
            negative_prompt=request.options.negative_prompt,
            seed=order.seed,
            steps=order.plan.steps,
            guidance=order.plan.guidance,
            image_guidance=image_guidance,
            sampler=order.plan.sampler,
            refused=self._refusal(picture, words),
        )
        return result.with_image(picture)

    def _sources(self, requests: Sequence[Any], targets: Sequence[PictureTruth]) -> Tensor | None:
        given = [
            _image(request) if target.source is None else target.source
            for request, target in zip(requests, targets, strict=True)
        ]
        return pixels(given).to(self.decoder.llm2sd_mapper_queries)


def _image(request: Request) -> Image.Image:
    if request.image is None:
        raise ToolError(
            f"{request.token} needs an image", remedy="Pass the image to edit with the instruction."
        )
    return request.image
