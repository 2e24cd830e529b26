"""The routed tool behind `[DET]`, `[GRD]` and `[SEG]`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from visionllm_sdk.errors import DataError
from visionllm_sdk.model.keys import KeyTable
from visionllm_sdk.model.lanes import side_by_side
from visionllm_sdk.results import Detections, Grounding, ImageResult, SemanticMap
from visionllm_sdk.tool import (
    ForcedLayout,
    QueryTable,
    RoutedTool,
    RoutingToken,
    ToolLoss,
    ToolRequest,
)
from visionllm_tools.detection.config import DetectorConfig, Look
from visionllm_tools.detection.decoder import Detector
from visionllm_tools.detection.denoising import DenoisingConfig, plan_denoising
from visionllm_tools.detection.found import Found, Row, described
from visionllm_tools.detection.keys import PREFIX, detector_key_table
from visionllm_tools.detection.known import Known
from visionllm_tools.detection.loss import LossConfig, detection_loss
from visionllm_tools.detection.options import DetectionOptions, DetectionTruth, look_for
from visionllm_tools.detection.postprocess import (
    best_of_each,
    best_over_groups,
    drop_duplicates,
    how_many,
    select,
    semantic_map,
)
from visionllm_tools.detection.prepare import Size, prepare
from visionllm_tools.detection.reporting import detections_of, evidence
from visionllm_tools.detection.targets import DetectionTargets
from visionllm_tools.requests import (
    ImageJob,
    check_width,
    distinct,
    image_jobs,
    image_of,
    pixels_at_once,
    stack_states,
)
from visionllm_tools.sections import section_of
from visionllm_tools.sights import Sight, Sights

Request = ToolRequest[DetectionOptions]


class DetectionTool(RoutedTool[DetectionOptions, ImageResult]):
    """Boxes and masks for labels and expressions, and semantic maps.

    Args:
        decoder: the detector.
        loss: weights and options of the training loss.
        denoising: denoising queries in training; None for none.
    """

    name = "detect"
    description = (
        "Finds the objects that labels or a referring expression name, with boxes and masks, "
        "or labels every pixel of the image."
    )
    tokens = (
        RoutingToken(
            text="[DET]",
            label_tag="det",
            purpose="Boxes and masks of all objects of the named kinds.",
            layout=ForcedLayout(
                question="Please find {labels} in the image.", answer="Here is what I found: {items}."
            ),
        ),
        RoutingToken(
            text="[GRD]",
            label_tag="grd",
            grouped=False,  # every expression means a thing of its own
            purpose="Box and mask of what one referring expression points at.",
            layout=ForcedLayout(
                question="Where is {labels}?", answer="Yes, it is {items}.", item="{token}", separator=" and "
            ),
        ),
        RoutingToken(
            text="[SEG]",
            label_tag="det",
            purpose="A label for every pixel, out of the named categories.",
            layout=ForcedLayout(
                question="Please give me masks for every category in {labels}.",
                answer="The masks are: {items}.",
            ),
        ),
    )
    table = QueryTable(name="det", count=4, count_field="num_embs")
    checkpoint_prefix = PREFIX
    options_type = DetectionOptions
    result_type = ImageResult
    decoder: Detector

    def __init__(
        self,
        decoder: Detector,
        *,
        loss: LossConfig | None = None,
        denoising: DenoisingConfig | None = None,
    ) -> None:
        super().__init__(decoder)
        self.loss_config = loss or LossConfig()
        self.denoising = denoising
        self._sights = Sights()

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self | None:
        """Build from the released `config.json`; see `RoutedTool.from_config`."""
        numbers = section_of(config, switch="use_gdino", name="gdino_config", parse=DetectorConfig.from_dict)
        return None if numbers is None else cls(Detector(numbers), denoising=DenoisingConfig())

    def key_table(self) -> KeyTable:
        """See `RoutedTool.key_table`."""
        return detector_key_table(swin=self.decoder.model.backbone.conv_encoder.is_swin)

    def compiled_parts(self) -> Iterable[nn.Module]:
        """The backbone and every layer; what depends on the number of detections stays as it is."""
        model = self.decoder.model
        return (model.backbone, *model.encoder.layers, *model.decoder.layers)

    @torch.inference_mode()
    def run(self, requests: Sequence[Request]) -> list[ImageResult]:
        """Detect; see `RoutedTool.run`. Results do not depend on what else is in the batch.

        Raises:
            ToolError: a request without image, or super-links of another width.
        """
        jobs = list(image_jobs(requests, self.decoder.config, self.decoder))
        place = next(self.decoder.parameters()).device
        results: dict[int, ImageResult] = {}
        for found in side_by_side(lambda job: self._run_images(job, requests), jobs, place):
            results |= found
        return [results[i] for i in range(len(requests))]

    def read(self, token: str, states: Tensor) -> Tensor:
        """See `RoutedTool.read`: the label's feature. (C,)"""
        return self.decoder.encode_labels(stack_states([states[None]], self.decoder)[0])[0, 0]

    def loss(self, requests: Sequence[Request], targets: Sequence[DetectionTruth]) -> ToolLoss:
        """Training loss; see `RoutedTool.loss`. Images are padded to one batch.

        With a second look, an image of which that tells anything is seen so: always if it tells of all that
        is there, otherwise every other time, as torch's generator decides.

        Args:
            requests: each with at most `max_text_len` labels.
            targets: ground truth.

        Raises:
            DataError: too many labels, or ground truth that does not fit its request.
        """
        images = [image_of(request) for request in requests]
        rows = [row for i, request in enumerate(requests) for row in self._rows(i, i, request)]
        if len(rows) != len(requests) or len(targets) != len(requests):
            raise DataError(
                "training needs one ground truth per request, and all labels in one pass",
                value=[len(request.links) for request in requests],
                limit=f"{self.decoder.config.max_text_len} labels",
                remedy="Sample fewer labels per training item.",
            )
        place = next(self.decoder.parameters())
        looks = self.decoder.config.looks()
        each = [look_for(looks, *one) for one in zip(images, targets, strict=True)]
        batch = prepare(images, each).to(place.device, place.dtype)
        truth = DetectionTargets.collate(
            [
                target.at_input(*pair)
                for target, *pair in zip(targets, batch.originals, batch.sizes, strict=True)
            ],
            size=(batch.mask.shape[1], batch.mask.shape[2]),
        ).to(place.device)
        labels, label_mask = self._encode(rows)
        plan = None
        if self.denoising is not None:
            learned = self.decoder.config.num_queries
            plan = plan_denoising(truth, labels, label_mask, learned=learned, config=self.denoising)
        extra = None if plan is None else plan.queries
        output = self.decoder(batch.pixels, batch.mask, labels, label_mask, extra=extra)
        known = [target.known for target in targets]
        total, terms = detection_loss(
            self.decoder, output, truth, self.loss_config, denoising=plan, known=known
        )
        return ToolLoss(total=total, terms=self.loss_config.weighted(terms))

    @torch.no_grad()
    def recall(self, requests: Sequence[Request]) -> list[Known]:
        """What is said of each request now, for `DetectionTruth.known` of a detector that will learn.

        Args:
            requests: as for `loss`.
        """
        place = next(self.decoder.parameters())
        batch = prepare([image_of(request) for request in requests], self.decoder.config)
        batch = batch.to(place.device, place.dtype)
        rows = [row for i, request in enumerate(requests) for row in self._rows(i, i, request)]
        output = self.decoder.predict(self.decoder.look(batch.pixels, batch.mask), *self._encode(rows))
        return [Known.of(output.layers[-1], i, len(row.labels)) for i, row in enumerate(rows)]

    def _run_images(self, job: ImageJob, requests: Sequence[Request]) -> dict[int, ImageResult]:
        """Results, by position, of the requests about images of one padded size."""
        asked = [requests[i] for i in job.requests]
        originals = [(image.height, image.width) for image in map(image_of, asked)]
        found = [self._keep(*one) for one in zip(asked, self._find(asked), originals, strict=True)]
        wanted = [
            seen
            for request, parts in zip(asked, found, strict=True)
            for part in parts
            if self._draws(request, part)
            for seen in part.used()
        ]
        drawn = dict(zip(map(id, wanted), described(self.decoder, wanted), strict=True))
        results = {}
        for i, request, parts, original in zip(job.requests, asked, found, originals, strict=True):
            full = [replace(part, seen=tuple(drawn.get(id(one), one) for one in part.seen)) for part in parts]
            results[i] = self._result(request, full, original)
        return results

    def _find(self, requests: Sequence[Request]) -> list[list[Found]]:
        """What each request's groups of labels found, in all looks at its image."""
        looks: list[list[list[Found]]] = []
        for look in self.decoder.config.looks():
            found: list[list[Found]] = [[] for _ in requests]
            for job in image_jobs(requests, look, self.decoder):
                sight = self._sights.look(self.decoder, job, look)
                own = [requests[i] for i in job.requests]
                for i, parts in zip(job.requests, self._pass(sight, own, job.places, look), strict=True):
                    found[i] = parts
            looks.append(found)
        return [
            [Found.join(parts) for parts in zip(*groups, strict=True)] for groups in zip(*looks, strict=True)
        ]

    def _pass(
        self, sight: Sight, requests: Sequence[Request], places: Sequence[int], look: Look
    ) -> list[list[Found]]:
        """Run the transformer, once per group of labels."""
        rows = [
            row
            for i, (request, image) in enumerate(zip(requests, places, strict=True))
            for row in self._rows(i, image, request)
        ]
        found: list[list[Found]] = [[] for _ in requests]
        step = max(1, pixels_at_once(self.decoder) // (sight.padded[0] * sight.padded[1]))
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            output = self.decoder.predict(sight.view.of([row.image for row in part]), *self._encode(part))
            for i, row in enumerate(part):
                size = sight.sizes[row.image]
                found[row.request].append(Found.of(output, i, row.labels, size=size, look=look))
        return found

    def _rows(self, request: int, image: int, item: Request) -> Iterator[Row]:
        """A request's labels in groups of nearly equal size, each small enough for one pass."""
        links = distinct(item.links)
        check_width(links, self.decoder.config.l_hidden_size, "detector")
        groups = -(-len(links) // self.decoder.config.max_text_len)
        for group in range(groups):
            labels = range(len(links) * group // groups, len(links) * (group + 1) // groups)
            states = torch.stack([links[i].states for i in labels])
            yield Row(request=request, image=image, labels=labels, states=states)

    def _encode(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        """Label features (B, N, C) of all rows, padded, and their mask (B, N)."""
        states, mask = stack_states([row.states for row in rows], self.decoder)
        return self.decoder.encode_labels(states), mask

    def _result(self, request: Request, found: list[Found], original: Size) -> ImageResult:
        labels = [link.label for link in distinct(request.links)]
        return self._BUILD[request.token](self, request, labels, found, original)

    def _detections(
        self, request: Request, labels: list[str], found: list[Found], original: Size
    ) -> Detections:
        detections = detections_of(self.decoder, found, labels, original, masks=request.options.masks)
        return Detections(width=original[1], height=original[0], labels=tuple(labels), detections=detections)

    def _grounding(
        self, request: Request, labels: list[str], found: list[Found], original: Size
    ) -> Grounding:
        detections = detections_of(self.decoder, found, labels, original, masks=request.options.masks)
        return Grounding(
            width=original[1],
            height=original[0],
            labels=tuple(labels),
            expression=", ".join(labels),
            detections=detections,
        )

    def _semantic(
        self, request: Request, labels: list[str], found: list[Found], original: Size
    ) -> SemanticMap:
        shares = (evidence(self.decoder, part) for part in found)
        pixels = semantic_map(shares, original, floor=self.decoder.config.semantic_floor)
        return SemanticMap.from_numpy(pixels.cpu().numpy(), labels)

    _BUILD: ClassVar[Mapping[str, Callable[..., ImageResult]]] = {
        "[DET]": _detections,
        "[GRD]": _grounding,
        "[SEG]": _semantic,
    }

    def _keep(self, request: Request, found: list[Found], original: Size) -> list[Found]:
        """What is reported: the best over all groups of labels; all of it in a semantic map."""
        if request.token == "[SEG]":
            return found
        options, config = request.options, self.decoder.config
        floor = config.score_threshold if options.threshold is None else options.threshold
        least = options.at_least
        if least is None:
            least = 1 if request.token == "[GRD]" else 0
        scores = []
        for part in found:
            if options.of_each is not None:
                limit = part.logits.numel()
            else:
                limit = options.limit or how_many(part.logits, floor=floor, least=least)
            candidates = select(part.logits, part.boxes, original, limit=limit)
            if config.suppression is not None:
                candidates = drop_duplicates(
                    candidates, threshold=config.suppression, shared=config.shared_scores
                )
            scores.append(candidates)
        if options.of_each is None:
            chosen = best_over_groups(scores, options.limit, floor, least)
        else:
            chosen = [best_of_each(candidates, options.of_each) for candidates in scores]
        return [replace(part, kept=kept) for part, kept in zip(found, chosen, strict=True)]

    def _draws(self, request: Request, part: Found) -> bool:
        """Whether masks of a row are needed: as a result, or to find the box that fits them."""
        if part.kept is None:
            return True
        refined = self.decoder.config.boxes_from_masks is not None
        return len(part.kept.scores) > 0 and (request.options.masks or refined)
