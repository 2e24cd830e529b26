"""Stage 4: the pose estimator learns to find figures and their keypoints from stand-in words.

It starts from the trained detector, which knows persons and dogs already: same backbone, same encoder, same
kinds of decoder layers. What is new are the keypoints.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from visionllm_adapters.recipe.pictures import StandInLabels, name_classes
from visionllm_adapters.recipe.pose_names import KEYPOINTS, StandInPoses
from visionllm_adapters.recipe.pose_pictures import PosePictures, collate, draw_batch, questions
from visionllm_adapters.recipe.pose_scores import pose_scores
from visionllm_adapters.recipe.running import Averages, Run, channels_last
from visionllm_adapters.recipe.train_detector import BACKBONE, DETECTOR
from visionllm_adapters.recipe.warm import State, part, prefixed, saved_module, warm_start
from visionllm_sdk.model.precision import native_bfloat16
from visionllm_tools.detection.denoising import DenoisingConfig, DenoisingPlan, plan_denoising
from visionllm_tools.detection.outputs import LayerOutput
from visionllm_tools.pose.config import PoseConfig
from visionllm_tools.pose.decoder import PoseEstimator
from visionllm_tools.pose.loss import PoseLossConfig, pose_loss
from visionllm_tools.pose.outputs import KeypointOutput, PoseOutput

POSE: Final[dict[str, Any]] = {
    "backbone_config": {**BACKBONE, "out_indices": [2, 3, 4]},
    "hidden_dim": DETECTOR["d_model"],
    "nheads": DETECTOR["encoder_attention_heads"],
    "enc_layers": 1,
    "dec_layers": 4,
    "num_box_decoder_layers": 1,
    "num_queries": 20,
    "num_groups": 10,
    "num_body_points": 68,
    "dim_feedforward": DETECTOR["encoder_ffn_dim"],
    "fusion_droppath": 0.0,
    "l_hidden_size": DETECTOR["l_hidden_size"],
    "max_text_len": 16,
    "dn_number": 12,
    "released_group_mask": False,
    "shortest_edge": 224,
    "longest_edge": 448,
    "logit_scale": DETECTOR["logit_scale"],
    "logit_bias": DETECTOR["logit_bias"],
    "score_threshold": 0.22,
    "suppression": 0.7,
    "covered": 0.9,
    "shared_scores": True,
    "keypoint_visibility": True,
    "usable_only": True,
}
GROUPS: Final = 6
"""Groups of keypoints in training: pictures have at most five figures, and groups cost most of the time."""
SIZES: Final = (
    (0.35, (112, 160), 144 * 168),
    (0.75, (128, 208), 176 * 208),
    (float("inf"), (160, 256), 224 * 240),
)
"""Until which share of the budget: range of the shorter side, largest area."""
LOSS: Final = PoseLossConfig(one_to_many=4, keypoint=10.0, oks=6.0, visible=0.5)
DENOISING: Final = DenoisingConfig(queries=POSE["dn_number"], flip=0.5, noise=1.0)
VALIDATION_SEEDS: Final = 850_000_000


class HeatHead(nn.Module):
    """Where each kind of keypoint is on the stride-8 map; a training aid, not shipped.

    Deformable attention finds a joint only after it happens to look there; a dense question teaches the
    features what a left knee is from the first step on.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(channels, len(KEYPOINTS), 1)
        assert self.head.bias is not None
        nn.init.constant_(self.head.bias, -4.0)

    def forward(self, features: Tensor, heat: Tensor) -> Tensor:
        """Focal loss of (B, C, h, w) features against bells (B, rows, h, w), per keypoint (CornerNet)."""
        logits = self.head(features).float()
        share = logits.sigmoid()
        near = heat > 0.6
        missed = -functional.logsigmoid(logits) * (1 - share).square() * near
        wrong = -functional.logsigmoid(-logits) * share.square() * (1 - heat).pow(4) * ~near
        return (missed.sum() + wrong.sum()) / near.sum().clamp_min(1)


def size_of(progress: float) -> tuple[tuple[int, int], int]:
    """(range of the shorter side, largest area) of the pictures at a share of the budget."""
    return next((sides, area) for until, sides, area in SIZES if progress < until)


def from_detector(pose: PoseEstimator, checkpoint: Path) -> StandInLabels:
    """Start from the detector stage: everything but keypoints. Returns its stand-in labels."""
    state = saved_module(checkpoint, "detector")
    model = part(state, "model.")
    known: State = {"transformer.level_embed": model["level_embed"]}
    known |= prefixed("backbone.0.model.", part(model, "backbone.conv_encoder.model."))
    known |= prefixed("input_proj.", part(model, "input_proj_vision."))
    for theirs, ours in (
        ("encoder.", "encoder."),
        ("enc_output.", "enc_output."),
        ("enc_output_norm.", "enc_output_norm."),
        ("encoder_output_bbox_embed.", "enc_out_bbox_embed."),
        ("decoder.layer_norm.", "decoder.norm."),
        ("decoder.reference_points_head.", "decoder.ref_point_head."),
        ("decoder.bbox_embed.0.", "decoder.bbox_embed.0."),
    ):
        known |= prefixed(f"transformer.{ours}", part(model, theirs))
    for layer in range(pose.config.dec_layers):
        source = part(model, f"decoder.layers.{min(layer, DETECTOR['decoder_layers'] - 1)}.")
        known |= prefixed(f"transformer.decoder.layers.{layer}.", source)
    queries = model["query_position_embeddings.weight"][: pose.config.num_queries]
    known["transformer.tgt_embed.weight"] = queries
    strange = pose.load_state_dict(known, strict=False).unexpected_keys
    assert not strange, strange
    labels = StandInLabels(DETECTOR["d_model"])
    labels.load_state_dict(saved_module(checkpoint, "names"))
    return labels


def from_shipped(pose: PoseEstimator, folder: Path) -> StandInLabels:
    """Go on from a finished model. Returns the stand-in labels that its detector learnt from."""
    from visionllm_sdk import VisionLLM

    shipped = VisionLLM.from_pretrained(folder, tools=["detect", "pose"], dtype="float32")
    pose.load_state_dict(shipped.engine.model.tools["pose"].decoder.state_dict())
    labels = StandInLabels(DETECTOR["d_model"])
    warm_start(folder, names=labels)
    return labels


def in_full_precision(output: PoseOutput) -> PoseOutput:
    """The output in fp32: losses and matching are not for half precision."""

    def layer(one: LayerOutput) -> LayerOutput:
        return LayerOutput(logits=one.logits.float(), boxes=one.boxes.float(), queries=one.queries.float())

    def points(one: KeypointOutput) -> KeypointOutput:
        visible = None if one.visible is None else one.visible.float()
        return KeypointOutput(points=one.points.float(), visible=visible)

    return replace(
        output,
        boxes=[layer(one) for one in output.boxes],
        poses=[layer(one) for one in output.poses],
        keypoints=[points(one) for one in output.keypoints],
        extra=[layer(one) for one in output.extra],
        encoder=layer(output.encoder),
        tokens=None if output.tokens is None else layer(output.tokens),
    )


class Trainee:
    """The modules of this stage and one pass of them.

    Args:
        bf16: compute in half precision.
        settled: the backbone keeps the statistics that it normalises by.
    """

    def __init__(self, *, bf16: bool, settled: bool = False) -> None:
        self.config = PoseConfig.from_dict(POSE)
        self.pose = PoseEstimator(self.config)
        channels_last(self.pose)
        self.names = StandInPoses(POSE["hidden_dim"])
        self.heat = HeatHead(POSE["hidden_dim"])
        self.bf16 = bf16
        self.settled = settled
        self.mode(training=True)

    def mode(self, *, training: bool) -> None:
        """Training, or use: then without noise, and with all groups."""
        self.pose.train(training)
        self.pose.backbone.train(training and not self.settled)
        self.names.train(training)
        self.pose.config = replace(self.config, num_groups=GROUPS) if training else self.config

    def hold_eyes(self, held: bool) -> None:
        """Keep what the detector has learnt to see as it is, or let it learn on."""
        pose = self.pose
        for seeing in (pose.backbone, pose.input_proj, pose.transformer.encoder):
            seeing.requires_grad_(not held)
        pose.transformer.level_embed.requires_grad_(not held)

    def forward(self, batch: PosePictures) -> tuple[PoseOutput, DenoisingPlan | None, Tensor]:
        """Output in fp32, the denoising plan (in training), and the loss of the aid."""
        objects, plan = batch.targets.objects, None
        label_mask = torch.ones_like(batch.classes, dtype=torch.bool)
        # Fused attention is slow where sequences are as short as a group.
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16), sdpa_kernel(SDPBackend.MATH):
            labels, keypoints = self.names(batch.classes, batch.keypoints)
            if self.pose.training:
                learned = POSE["num_queries"]
                plan = plan_denoising(objects, labels, label_mask, learned=learned, config=DENOISING)
            pixels = batch.pixels.contiguous(memory_format=torch.channels_last)
            view = self.pose.look(pixels, batch.pixel_mask)
            output = self.pose.estimate(
                view,
                labels,
                label_mask,
                keypoints,
                torch.ones_like(batch.keypoints, dtype=torch.bool),
                extra=None if plan is None else plan.queries,
            )
            aid = self.heat(view.pyramid.level(0), batch.heat)
        return in_full_precision(output), plan, aid

    @torch.no_grad()
    def validate(self, *, pictures: int = 48, batch: int = 8) -> dict[str, float]:
        """Scores on scenes that training never draws, at the size of use."""
        rng, found = Random(5), Averages()
        self.mode(training=False)
        for first in range(VALIDATION_SEEDS, VALIDATION_SEEDS + pictures, batch):
            scenes = draw_batch(rng, range(first, first + batch), sides=(224, 224), area=224 * 448)
            pack = collate(scenes, questions(scenes, rng))
            found.add(**pose_scores(self.forward(pack)[0], pack.targets))
        self.mode(training=True)
        return {f"val_{name}": value for name, value in found.take().items()}


def start(trainee: Trainee, arguments: argparse.Namespace) -> None:
    """Load what is known already: a finished model (`--warm`) or the detector stage."""
    if arguments.warm is not None:
        name_classes(trainee.names, from_shipped(trainee.pose, arguments.warm))
    else:
        name_classes(trainee.names, from_detector(trainee.pose, arguments.detector))


def optimiser_of(trainee: Trainee, rate: float) -> torch.optim.Optimizer:
    """AdamW; the backbone, which has learnt already, moves at half the rate."""
    backbone = list(trainee.pose.backbone.parameters())
    known = set(map(id, backbone))
    rest = [
        p
        for module in (trainee.pose, trainee.heat)
        for name, p in module.named_parameters()
        if id(p) not in known and not name.startswith("projection_")
    ]
    groups = [{"params": backbone, "lr": rate / 2}, {"params": rest, "lr": rate}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=1e-4)


def train(arguments: argparse.Namespace) -> None:
    """Train until the minutes are over; resumes from the output folder."""
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    trainee = Trainee(bf16=arguments.bf16, settled=arguments.warm is not None)
    start(trainee, arguments)
    modules = {"pose": trainee.pose, "pose_names": trainee.names, "pose_heat": trainee.heat}
    optimiser = optimiser_of(trainee, arguments.lr)
    run = Run(arguments.out, modules, [optimiser], arguments.minutes, arguments.every, tail=arguments.tail)
    seen = Averages()
    rng = Random(arguments.seed * 1_000_003 + run.step)
    for step in run.steps(lambda: {**seen.take(), **trainee.validate()}):
        clock = time.monotonic()
        trainee.hold_eyes(run.progress < arguments.held)
        first = 600_000_000 + step * arguments.batch + arguments.seed * 10_000_000
        sides, area = size_of(max(run.progress, arguments.grown))
        scenes = draw_batch(rng, range(first, first + arguments.batch), sides=sides, area=area)
        batch = collate(scenes, questions(scenes, rng))
        drawn = time.monotonic()
        output, plan, aid = trainee.forward(batch)
        loss, terms = pose_loss(output, batch.targets, LOSS, denoising=plan)
        run.update(loss + arguments.aid * aid, clip=5.0)
        kept = ("label", "box", "giou", "keypoint", "oks", "visible", "keypoint_1")
        seen.add(
            loss=float(loss.detach()),
            heat=float(aid.detach()),
            draw=drawn - clock,
            work=time.monotonic() - drawn,
            **{f"loss_{name}": float(terms[name].detach()) for name in kept if name in terms},
            **(pose_scores(output, batch.targets) if step % 5 == 0 else {}),
        )


def main() -> None:
    """`python -m visionllm_adapters.recipe.train_pose --minutes 45`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/embedded/pose"))
    parser.add_argument(
        "--detector",
        type=Path,
        default=Path("runs/embedded/detector/last.pt"),
        help="start from the detector stage",
    )
    parser.add_argument("--warm", type=Path, help="start from the weights of this checkpoint folder")
    parser.add_argument("--minutes", type=float, default=45.0)
    parser.add_argument("--lr", type=float, default=6e-4)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--tail", type=float, default=0.6, help="share of the budget in which rates fall")
    parser.add_argument(
        "--held",
        type=float,
        default=0.2,
        help="share of the budget in which only the decoder learns",
    )
    parser.add_argument(
        "--grown", type=float, default=0.0, help="start with the picture sizes of this share of the budget"
    )
    parser.add_argument("--aid", type=float, default=1.0, help="weight of the dense training aid")
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=native_bfloat16())
    parser.add_argument("--every", type=float, default=150.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
