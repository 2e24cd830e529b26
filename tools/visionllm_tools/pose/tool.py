"""The routed tool behind `[POSE]`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from visionllm_sdk.errors import DataError, LimitError, ToolError
from visionllm_sdk.keypoints import sigmas_of, skeleton_of
from visionllm_sdk.model.keys import KeyTable
from visionllm_sdk.model.lanes import side_by_side
from visionllm_sdk.results import Poses
from visionllm_sdk.tool import (
    ForcedLayout,
    QueryTable,
    RoutedTool,
    RoutingToken,
    SuperLink,
    ToolLoss,
    ToolRequest,
)
from visionllm_tools.detection.denoising import DenoisingConfig, plan_denoising
from visionllm_tools.detection.prepare import Size, prepare
from visionllm_tools.pose.config import PoseConfig
from visionllm_tools.pose.decoder import PoseEstimator
from visionllm_tools.pose.keys import PREFIX, pose_key_table
from visionllm_tools.pose.loss import PoseLossConfig, pose_loss
from visionllm_tools.pose.options import PoseOptions, PoseTruth
from visionllm_tools.pose.postprocess import Found, build_poses, choose
from visionllm_tools.pose.targets import PoseTargets
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

Request = ToolRequest[PoseOptions]


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What a request asks for, without repetitions.

    Attributes:
        classes: `[DET]` super-links of the object classes.
        keypoints: `[POSE]` super-links of the keypoint names.
    """

    classes: list[SuperLink]
    keypoints: list[SuperLink]

    @property
    def labels(self) -> tuple[str, ...]:
        """The object classes."""
        return tuple(link.label for link in self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """The keypoint names."""
        return tuple(link.label for link in self.keypoints)


class PoseTool(RoutedTool[PoseOptions, Poses]):
    """Objects of given classes with named keypoints.

    The object classes are the `[DET]` super-links that stood before in the same answer.

    Args:
        decoder: the pose estimator.
        loss: weights and options of the training loss.
        denoising: denoising queries in training; None for none.
    """

    name = "pose"
    description = "Finds the named keypoints, such as nose or left knee, of every object of the named kinds."
    tokens = (
        RoutingToken(
            text="[POSE]",
            label_tag="det",
            purpose="Named keypoints of all objects of the kinds that [DET] named before.",
            layout=ForcedLayout(
                question="Please locate the keypoints {labels}.", answer="The keypoints are: {items}."
            ),
        ),
    )
    table = QueryTable(name="pose", count=4, count_field="num_embs")
    checkpoint_prefix = PREFIX
    context_tokens = ("[DET]",)
    options_type = PoseOptions
    result_type = Poses
    decoder: PoseEstimator

    def __init__(
        self,
        decoder: PoseEstimator,
        *,
        loss: PoseLossConfig | None = None,
        denoising: DenoisingConfig | None = None,
    ) -> None:
        super().__init__(decoder)
        self.loss_config = loss or PoseLossConfig()
        self.denoising = denoising
        self._sights = Sights()

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self | None:
        """Build from the released `config.json`; see `RoutedTool.from_config`."""
        numbers = section_of(config, switch="use_unipose", name="unipose_config", parse=PoseConfig.from_dict)
        if numbers is None:
            return None
        denoising = DenoisingConfig(
            queries=numbers.dn_number,
            flip=numbers.dn_label_noise_ratio,
            noise=numbers.dn_box_noise_scale,
        )
        return cls(PoseEstimator(numbers), denoising=denoising if numbers.dn_number else None)

    def key_table(self) -> KeyTable:
        """See `RoutedTool.key_table`."""
        return pose_key_table(swin=self.decoder.is_swin)

    @torch.inference_mode()
    def run(self, requests: Sequence[Request]) -> list[Poses]:
        """Estimate poses; see `RoutedTool.run`. Results do not depend on what else is in the batch.

        Raises:
            ToolError: a request without image or object class, or super-links of another width.
            LimitError: more object classes or keypoints than the estimator takes.
        """
        asked = [self._asked(request) for request in requests]

        def pose(job: ImageJob) -> dict[int, Poses]:
            sight = self._sights.look(self.decoder, job)
            found = self._find(sight, job, asked)
            return {
                i: self._result(requests[i].options, asked[i], found[i], sight.originals[place])
                for i, place in zip(job.requests, job.places, strict=True)
            }

        jobs = list(image_jobs(requests, self.decoder.config, self.decoder))
        results: dict[int, Poses] = {}
        for posed in side_by_side(pose, jobs, next(self.decoder.parameters()).device):
            results |= posed
        return [results[i] for i in range(len(requests))]

    def read(self, token: str, states: Tensor) -> Tensor:
        """See `RoutedTool.read`: the feature of an object class or of a keypoint's name. (C,)"""
        decoder = self.decoder
        encode = decoder.encode_labels if token in self.context_tokens else decoder.encode_keypoints
        return encode(stack_states([states[None]], decoder)[0])[0, 0]

    def loss(self, requests: Sequence[Request], targets: Sequence[PoseTruth]) -> ToolLoss:
        """Training loss; see `RoutedTool.loss`. Images are padded to one batch.

        Raises:
            DataError: ground truth that does not fit its request.
            ToolError: as for `run`.
            LimitError: as for `run`.
        """
        if len(targets) != len(requests):
            raise DataError(
                "training needs one ground truth per request", value=len(targets), limit=len(requests)
            )
        asked = [self._asked(request) for request in requests]
        place = next(self.decoder.parameters())
        images = [image_of(request) for request in requests]
        batch = prepare(images, self.decoder.config).to(place.device, place.dtype)
        truth = PoseTargets.collate(
            [
                target.at_input(original, sigmas_of(one.names))
                for target, original, one in zip(targets, batch.originals, asked, strict=True)
            ]
        ).to(place.device)
        labels, label_mask, keypoints, keypoint_mask = self._encode(asked)
        plan = None
        if self.denoising is not None:
            learned = self.decoder.config.num_queries
            plan = plan_denoising(truth.objects, labels, label_mask, learned=learned, config=self.denoising)
        output = self.decoder(
            batch.pixels,
            batch.mask,
            labels,
            label_mask,
            keypoints,
            keypoint_mask,
            extra=None if plan is None else plan.queries,
        )
        total, terms = pose_loss(output, truth, self.loss_config, denoising=plan)
        return ToolLoss(total=total, terms=self.loss_config.weighted(terms))

    def _asked(self, request: Request) -> _Asked:
        """The request's object classes and keypoints, checked."""
        config = self.decoder.config
        asked = _Asked(
            classes=distinct([link for link in request.context if link.token in self.context_tokens]),
            keypoints=distinct(request.links),
        )
        if not asked.classes:
            raise ToolError(
                f"{request.token} needs to know whose keypoints to look for",
                value=list(asked.names),
                limit="at least one [DET] before it in the same answer",
                remedy="Ask for the object and its keypoints together.",
            )
        _check_count("object classes", asked.labels, config.max_text_len)
        _check_count("keypoints", asked.names, config.num_body_points)
        check_width([*asked.classes, *asked.keypoints], config.l_hidden_size, "pose estimator")
        return asked

    def _find(self, sight: Sight, job: ImageJob, asked: Sequence[_Asked]) -> dict[int, Found]:
        """Run the transformer, once per request."""
        found: dict[int, Found] = {}
        step = max(1, pixels_at_once(self.decoder) // (sight.padded[0] * sight.padded[1]))
        for part in _alike([asked[i] for i in job.requests], step):
            rows = [asked[job.requests[k]] for k in part]
            view = sight.view.of([job.places[k] for k in part])
            output = self.decoder.estimate(view, *self._encode(rows))
            for row, (k, one) in enumerate(zip(part, rows, strict=True)):
                found[job.requests[k]] = Found.of(
                    output, row, labels=len(one.classes), keypoints=len(one.keypoints)
                )
        return found

    def _encode(self, asked: Sequence[_Asked]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Features and masks of the object classes (B, N, C), (B, N) and the keypoints (B, K, C), (B, K)."""
        classes = [torch.stack([link.states for link in one.classes]) for one in asked]
        keypoints = [torch.stack([link.states for link in one.keypoints]) for one in asked]
        class_states, class_mask = stack_states(classes, self.decoder)
        keypoint_states, keypoint_mask = stack_states(keypoints, self.decoder)
        return (
            self.decoder.encode_labels(class_states),
            class_mask,
            self.decoder.encode_keypoints(keypoint_states),
            keypoint_mask,
        )

    def _result(self, options: PoseOptions, asked: _Asked, found: Found, original: Size) -> Poses:
        config = self.decoder.config
        chosen = choose(
            found,
            original,
            limit=options.limit,
            floor=config.score_threshold if options.threshold is None else options.threshold,
            least=options.at_least,
            suppression=config.suppression,
            covered=config.covered,
            shared=config.shared_scores,
        )
        poses = build_poses(
            found,
            chosen,
            original,
            labels=asked.labels,
            names=asked.names,
            visible_threshold=config.visible_threshold,
        )
        return Poses(
            width=original[1],
            height=original[0],
            poses=tuple(poses),
            label=", ".join(asked.labels),
            names=asked.names,
            skeleton=skeleton_of(asked.names),
        )


def _check_count(what: str, labels: Sequence[str], limit: int) -> None:
    if len(labels) > limit:
        raise LimitError(
            f"too many {what} for one call", value=len(labels), limit=limit, remedy="Ask in several calls."
        )


def _alike(asked: Sequence[_Asked], most: int) -> list[list[int]]:
    """Positions of requests in batches of at most `most` with equally many keypoints.

    So short lists of keypoints do not pay for long ones.
    """
    groups: dict[int, list[int]] = {}
    for i, one in enumerate(asked):
        groups.setdefault(len(one.keypoints), []).append(i)
    return [
        members[start : start + most] for members in groups.values() for start in range(0, len(members), most)
    ]
