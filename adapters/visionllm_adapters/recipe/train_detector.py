"""Stage 3: the detector learns to find, box and mask what stand-in labels name."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from visionllm_adapters.recipe.packing import ANY_COLOUR
from visionllm_adapters.recipe.pictures import Pictures, StandInLabels, collate, draw_batch
from visionllm_adapters.recipe.running import Averages, Run, channels_last
from visionllm_adapters.recipe.symbols import KINDS, symbol_features
from visionllm_adapters.recipe.warm import saved_module, warm_start
from visionllm_sdk.model.assembly import load_model
from visionllm_sdk.model.precision import native_bfloat16
from visionllm_sdk.registry import discover_tools
from visionllm_sdk.scenes.facts import SceneFacts
from visionllm_tools.blocks.boxes import overlap, to_corners
from visionllm_tools.detection.config import DetectorConfig
from visionllm_tools.detection.decoder import Detector
from visionllm_tools.detection.denoising import DenoisingConfig, plan_denoising
from visionllm_tools.detection.loss import LossConfig, detection_loss
from visionllm_tools.detection.outputs import DetectorOutput, LayerOutput
from visionllm_tools.detection.targets import DetectionTargets

BACKBONE: Final[dict[str, Any]] = {
    "model_type": "resnet",
    "embedding_size": 32,
    "hidden_sizes": [48, 96, 160, 192],
    "depths": [1, 2, 2, 2],
    "layer_type": "basic",
    "hidden_act": "relu",
    "out_indices": [1, 2, 3, 4],
}
DETECTOR: Final[dict[str, Any]] = {
    "backbone_config": BACKBONE,
    "num_queries": 100,
    "d_model": 128,
    "mask_dim": 64,
    "l_hidden_size": 256,
    "encoder_layers": 1,
    "encoder_ffn_dim": 256,
    "encoder_attention_heads": 4,
    "decoder_layers": 3,
    "decoder_ffn_dim": 256,
    "decoder_attention_heads": 4,
    "dropout": 0.0,
    "fusion_droppath": 0.0,
    "shortest_edge": 256,
    "longest_edge": 512,
    "score_threshold": 0.48,
    "suppression": 0.75,
    "shared_scores": True,
    "boxes_from_masks": 0.5,
    "mask_margin": 0.15,
    "semantic_floor": 0.4,
    "semantic_gate": 0.1,
    "second_look": 0.5,
    "second_look_from": 0.5,
    "logit_scale": 0.0884,
    "logit_bias": -3.0,
    "usable_only": True,
    "max_text_len": 16,
}
SIZES: Final = (
    (0.15, (96, 144), 128 * 152),
    (0.62, (120, 216), 168 * 192),
    (float("inf"), (144, 256), 224 * 240),
)
LOSS: Final = LossConfig(points=784, mask_layers=1, mask_encoder=False, mask_denoising=True, one_to_many=4)
DENOISING: Final = DenoisingConfig(queries=48, flip=0.5, noise=1.0)


class DenseHeads(nn.Module):
    """Kind and colour of each place of the stride-8 and stride-16 maps; a training aid, not shipped."""

    def __init__(self, channels: tuple[int, int]) -> None:
        super().__init__()
        outputs = len(KINDS) + 1 + ANY_COLOUR + 2
        self.heads = nn.ModuleList([nn.Conv2d(c, outputs, 1) for c in channels])

    def forward(self, features: list[Tensor], dense: Tensor) -> Tensor:
        """Mean cross-entropy; `dense` (B, 2, H, W) as in `Pictures`."""
        kind = torch.where(dense[:, 0] == 255, len(KINDS), dense[:, 0]).long()
        colour = dense[:, 1].long()
        colour = torch.where(colour == 254, ANY_COLOUR, torch.where(colour == 255, ANY_COLOUR + 1, colour))
        total = dense.new_zeros((), dtype=torch.float32)
        for head, feature in zip(self.heads, features, strict=True):
            stride = dense.shape[-1] // feature.shape[-1]
            middle = stride // 2
            logits = head(feature).float()
            for target, part in ((kind, logits[:, : len(KINDS) + 1]), (colour, logits[:, len(KINDS) + 1 :])):
                picked = target[:, middle::stride, middle::stride]
                weight = torch.ones(part.shape[1])
                weight[-1] = 0.2  # mostly background
                total = total + functional.cross_entropy(part, picked, weight)
        return total / 4


class ObjectHeads(nn.Module):
    """Kind and colour of the object under each query of the first and the last layer; a training aid.

    It knows no labels. Where a query stands is learnt long before what stands there: label logits say little
    about shapes while few labels are right. In a trial 94 % of the objects were boxed, and of these the kind
    was right for 45 %.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList([nn.Linear(width, len(KINDS) + ANY_COLOUR + 1) for _ in range(2)])

    def forward(self, output: DetectorOutput, scenes: Sequence[SceneFacts]) -> tuple[Tensor, float]:
        """(mean cross-entropy, share of kinds right at the last layer)."""
        places, truth = self._objects_under(output, scenes)
        if not len(truth):
            return output.logits.new_zeros(()), 1.0
        total, right = output.logits.new_zeros(()), 0.0
        for head, layer in zip(self.heads, (output.layers[0], output.layers[-1]), strict=True):
            logits = head(layer.queries[places[:, 0], places[:, 1]])
            kinds, colours = logits[:, : len(KINDS)], logits[:, len(KINDS) :]
            total = (
                total
                + functional.cross_entropy(kinds, truth[:, 0])
                + functional.cross_entropy(colours, truth[:, 1])
            )
            right = float((kinds.argmax(1) == truth[:, 0]).float().mean())
        return total / 4, right

    @staticmethod
    @torch.no_grad()
    def _objects_under(output: DetectorOutput, scenes: Sequence[SceneFacts]) -> tuple[Tensor, Tensor]:
        """(n, 2) places (image, query) whose box covers an object, and its (n, 2) kind and colour."""
        places, truth = [], []
        for row, scene in enumerate(scenes):
            attributes, boxes, _ = symbol_features(scene)
            if not boxes:
                continue
            iou = overlap(to_corners(output.boxes[row])[:, None], to_corners(torch.tensor(boxes))[None])[0]
            best, which = iou.max(1)
            for query in (best > 0.5).nonzero()[:, 0].tolist():
                places.append((row, query))
                truth.append(attributes[int(which[query])][:2])
        return torch.tensor(places).reshape(-1, 2), torch.tensor(truth).reshape(-1, 2)


def size_of(progress: float) -> tuple[tuple[int, int], int]:
    """(range of the shorter side, largest area) of the pictures at a share of the budget.

    Names are learnt as well from small pictures, which cost less; exact edges need the size of use.
    """
    return next((sides, area) for until, sides, area in SIZES if progress < until)


def targets_of(batch: Pictures) -> DetectionTargets:
    """The truth as the detector's loss wants it; a random one of an object's labels serves in matching."""
    count, most = len(batch.facts), max(1, max(map(len, batch.gt_boxes)))
    size, names = batch.pixel_mask.shape[-2:], batch.label_mask.shape[1]
    boxes, labels = torch.zeros(count, most, 4), torch.zeros(count, most, dtype=torch.long)
    valid, masks = (
        torch.zeros(count, most, dtype=torch.bool),
        torch.zeros(count, most, *size, dtype=torch.uint8),
    )
    bears = torch.zeros(count, most, names, dtype=torch.bool)
    for row, (box, borne, mask) in enumerate(
        zip(batch.gt_boxes, batch.gt_labels, batch.gt_masks, strict=True)
    ):
        n = len(box)
        if n:
            boxes[row, :n], valid[row, :n], masks[row, :n], bears[row, :n] = box, True, mask, borne
            labels[row, :n] = torch.multinomial(borne.float(), 1)[:, 0]
    return DetectionTargets(boxes=boxes, labels=labels, valid=valid, masks=masks, bears=bears)


def in_full_precision(output: DetectorOutput) -> DetectorOutput:
    """The output in fp32: losses and matching are not for half precision."""

    def layer(one: LayerOutput) -> LayerOutput:
        return LayerOutput(logits=one.logits.float(), boxes=one.boxes.float(), queries=one.queries.float())

    return replace(
        output,
        layers=[layer(one) for one in output.layers],
        extra=[layer(one) for one in output.extra],
        encoder=layer(output.encoder),
        tokens=None if output.tokens is None else layer(output.tokens),
        labels=output.labels.float(),
        mask_features=output.mask_features.float(),
        features=[f.float() for f in output.features],
    )


@torch.no_grad()
def quick_score(output: DetectorOutput, batch: Pictures) -> dict[str, float]:
    """Recall at IoU 0.5 and 0.75 of the best-scored queries of a label, and false alarms on absent labels."""
    hits, tight, asked, alarms, silent = 0, 0, 0, 0, 0
    scores = output.logits.sigmoid()
    for row, (truth, borne) in enumerate(zip(batch.gt_boxes, batch.gt_labels, strict=True)):
        for column in range(int(batch.label_mask[row].sum())):
            wanted = truth[borne[:, column]] if len(truth) else truth
            if len(wanted) == 0:
                silent += 1
                alarms += int(scores[row, :, column].max() > 0.4)
                continue
            best = scores[row, :, column].topk(len(wanted)).indices
            found = to_corners(output.boxes[row, best])[:, None]
            iou = overlap(found, to_corners(wanted)[None])[0].amax(0)
            hits, tight, asked = (
                hits + int((iou > 0.5).sum()),
                tight + int((iou > 0.75).sum()),
                asked + len(wanted),
            )
    return {
        "recall50": hits / max(asked, 1),
        "recall75": tight / max(asked, 1),
        "alarms": alarms / max(silent, 1),
    }


def start(arguments: argparse.Namespace, detector: Detector, names: StandInLabels, dense: DenseHeads) -> None:
    """Load what is known already: a finished model (`--warm`), or the backbone stage."""
    if arguments.warm is not None:
        # Through the loader: tensors that bear several names stand in the files once.
        shipped = load_model(arguments.warm, registry=discover_tools(), tools=["detect"], dtype=torch.float32)
        detector.load_state_dict(shipped.tools["detect"].decoder.state_dict())
        warm_start(arguments.warm, names=names, dense=dense)
    elif arguments.backbone is not None:
        detector.model.backbone.conv_encoder.model.load_state_dict(
            saved_module(arguments.backbone, "backbone")
        )


def train(arguments: argparse.Namespace) -> None:
    """Train until the minutes are over; resumes from the output folder."""
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    detector = Detector(DetectorConfig.from_dict(DETECTOR))
    channels_last(detector)
    names = StandInLabels(DETECTOR["d_model"])
    dense = DenseHeads((BACKBONE["hidden_sizes"][1], BACKBONE["hidden_sizes"][2]))
    start(arguments, detector, names, dense)
    objects = ObjectHeads(DETECTOR["d_model"])
    modules = {"detector": detector, "names": names, "dense": dense, "objects": objects}
    parameters = [p for m in modules.values() for p in m.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=arguments.lr, betas=(0.9, 0.98), weight_decay=1e-4)
    run = Run(arguments.out, modules, [optimiser], arguments.minutes, arguments.every, tail=0.4)
    if arguments.freeze_names:  # after the optimiser, so that a run may change its mind and resume
        names.requires_grad_(False)
    # A finished detector knows what its queries stand on; a new head would only shake it.
    inside_weight = 0.0 if arguments.warm is not None else 4.0
    # And normalises by the statistics it will be used with: those of a batch of one shape tell the shape.
    detector.model.backbone.train(arguments.warm is None)
    seen = Averages()
    rng = Random(arguments.seed * 1_000_003 + run.step)
    for step in run.steps(seen.take):
        clock = time.monotonic()
        first = step * arguments.batch + arguments.seed * 10_000_000
        sides, area = size_of(max(run.progress, arguments.grown))
        drawn = draw_batch(rng, range(first, first + arguments.batch), sides=sides, area=area)
        batch = collate(drawn, rng)
        targets = targets_of(batch)
        ready = time.monotonic()
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.bf16):
            labels = names(batch.attributes, batch.boxes, batch.has_box)
            plan = plan_denoising(
                targets, labels, batch.label_mask, learned=DETECTOR["num_queries"], config=DENOISING
            )
            output = detector(
                batch.pixels.contiguous(memory_format=torch.channels_last),
                batch.pixel_mask,
                labels,
                batch.label_mask,
                extra=plan.queries if plan else None,
            )
        output = in_full_precision(output)
        loss, terms = detection_loss(detector, output, targets, LOSS, denoising=plan)
        aids = dense(list(output.features[1:3]), batch.dense)
        inside, kinds_ok = objects(output, batch.facts)
        run.update(loss + 2.0 * aids + inside_weight * inside, clip=5.0)
        named = {k: float(terms[k].detach()) for k in ("label", "box", "giou", "mask", "dice") if k in terms}
        seen.add(
            loss=float(loss.detach()),
            dense=float(aids.detach()),
            kinds_ok=kinds_ok,
            draw=ready - clock,
            work=time.monotonic() - ready,
            **named,
            **(quick_score(output, batch) if step % 5 == 0 else {}),
        )


def main() -> None:
    """`python -m visionllm_adapters.recipe.train_detector --minutes 50`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/embedded/detector"))
    parser.add_argument("--backbone", type=Path, help="start from the backbone of stage 3a")
    parser.add_argument("--warm", type=Path, help="start from the weights of this checkpoint folder")
    parser.add_argument(
        "--freeze-names", action="store_true", help="super-links have been taught to say these names"
    )
    parser.add_argument(
        "--grown", type=float, default=0.0, help="start with the picture sizes of this share of the budget"
    )
    parser.add_argument("--minutes", type=float, default=50.0)
    parser.add_argument("--lr", type=float, default=8e-4)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=native_bfloat16())
    parser.add_argument("--every", type=float, default=120.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
