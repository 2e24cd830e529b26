"""Equal to what the released code computes, tensor by tensor. Needs the recordings: VISIONLLM_REFERENCE."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from visionllm_sdk.keypoints import COCO
from visionllm_tools.detection.denoising import DenoisingConfig, DenoisingNoise, DenoisingPlan, plan_denoising
from visionllm_tools.detection.targets import ImageTargets
from visionllm_tools.pose.decoder import PoseEstimator
from visionllm_tools.pose.keys import PREFIX, pose_key_table
from visionllm_tools.pose.loss import PoseLossConfig, pose_loss
from visionllm_tools.pose.outputs import PoseOutput
from visionllm_tools.pose.targets import ImagePoses, PoseTargets

TOLERANCE = 1e-4
MEMBERS, PLACES = 69, 68
COUNTS = (5, 3)  # keypoints asked for in the two recorded images
MakeTiny = Callable[..., PoseEstimator]


def assert_equal(found: Tensor, recorded: Tensor) -> None:
    """Relative to the largest value."""
    assert found.shape == recorded.shape
    found, recorded = found.detach(), recorded.detach()
    assert float((found - recorded).abs().max()) <= TOLERANCE * float(recorded.abs().max())


def points_of(recorded: Tensor) -> Tensor:
    """(..., 3 * 68) with all x, y first -> (..., 68, 2)."""
    return recorded[..., : 2 * PLACES].unflatten(-1, (PLACES, 2))


@pytest.fixture(scope="module")
def golden(reference: Path) -> dict[str, Tensor]:
    """Two images of different sizes, with different numbers of classes and keypoints."""
    return load_file(reference / "goldens" / "golden_unipose_eval.safetensors")


@pytest.fixture(scope="module")
def tiny(make_tiny: MakeTiny) -> PoseEstimator:
    return make_tiny(mixed_label_masks=True)


@pytest.fixture(scope="module")
def output(tiny: PoseEstimator, golden: dict[str, Tensor]) -> PoseOutput:
    with torch.no_grad():
        return tiny(
            golden["tensors"],
            ~golden["mask"],
            tiny.encode_labels(golden["obj_querys"]),
            golden["obj_query_masks"][:, :4],
            tiny.encode_keypoints(golden["kpt_querys"]),
            golden["kpt_query_masks"][:, :8],
        )


@torch.no_grad()
def test_image_side(tiny: PoseEstimator, golden: dict[str, Tensor]) -> None:
    for level, feature in enumerate(tiny.backbone[0](golden["tensors"])):
        assert_equal(feature, golden[f"backbone.feat.{level}"])
    view = tiny.look(golden["tensors"], ~golden["mask"])
    labels = tiny.encode_labels(golden["obj_querys"])
    mask = golden["obj_query_masks"][:, :4]
    pyramid, encoded = tiny.transformer.encoder(view.pyramid, view.positions, labels, mask)
    assert_equal(pyramid.tokens, golden["memory"])
    assert_equal(encoded, golden["memory_text"])


def test_proposals(output: PoseOutput, golden: dict[str, Tensor]) -> None:
    assert_equal(output.encoder.boxes, golden["ref_enc"][0])
    assert_equal(output.encoder.queries, golden["hs_enc"][0])


def test_layers(output: PoseOutput, golden: dict[str, Tensor]) -> None:
    for i, layer in enumerate(output.boxes):
        assert_equal(layer.queries, golden[f"hs.{i}"])
    for i, layer in enumerate(output.poses, start=len(output.boxes)):
        assert_equal(layer.queries[:, :3], golden[f"hs.{i}"][:, ::MEMBERS])


def test_outputs(output: PoseOutput, golden: dict[str, Tensor]) -> None:
    known = golden["pred_logits"].isfinite()
    assert torch.equal(output.poses[-1].logits.isfinite(), known)
    assert_equal(output.poses[-1].logits[known], golden["pred_logits"][known])
    assert_equal(output.poses[-1].boxes, golden["pred_boxes"])
    recorded = points_of(golden["pred_keypoints"])
    for image, count in enumerate(COUNTS):
        assert_equal(output.keypoints[-1].points[image, :, :count], recorded[image, :, :count])


@torch.no_grad()
def test_from_generated_super_links(tiny: PoseEstimator, reference: Path) -> None:
    golden = load_file(reference / "goldens" / "golden_generate_pose.safetensors")
    states = golden["superlink"].unflatten(0, (1, 3, 4))  # person, nose, left eye
    pixels = golden["image_aug"][None]
    output = tiny(
        pixels,
        torch.ones_like(pixels[:, 0], dtype=torch.bool),
        tiny.encode_labels(states[:, :1]),
        torch.ones(1, 1, dtype=torch.bool),
        tiny.encode_keypoints(states[:, 1:]),
        torch.ones(1, 2, dtype=torch.bool),
    )
    assert_equal(output.poses[-1].logits, golden["unipose.pred_logits"][..., :1])
    assert_equal(output.poses[-1].boxes, golden["unipose.pred_boxes"])
    assert_equal(output.keypoints[-1].points, points_of(golden["unipose.pred_keypoints"])[:, :, :2])


@dataclass(kw_only=True)
class Step:
    """One recorded training step and our computation of it."""

    golden: dict[str, Tensor]
    estimator: PoseEstimator
    labels: Tensor
    keypoints: Tensor
    plan: DenoisingPlan | None
    total: Tensor
    terms: dict[str, Tensor]


def read_targets(golden: dict[str, Tensor], metas: list[dict[str, list[list[int]]]]) -> PoseTargets:
    """Recorded keypoints stand under the data set's ids; ours follow the order of the names."""
    items = []
    for image, meta in enumerate(metas):
        order, classes = meta["kpt_id2index"], dict(map(tuple, meta["id2index"]))
        recorded = golden[f"target.{image}.keypoints"]
        placed, flags = points_of(recorded), recorded[:, 2 * PLACES :]
        keypoints, sigmas = torch.zeros(len(recorded), 8, 3), torch.full((8,), 0.1)
        for source, place in order:
            keypoints[:, place, :2] = placed[:, source]
            keypoints[:, place, 2] = 2 * flags[:, source]
            sigmas[place] = COCO.sigmas[source]
        labels = [classes[int(one)] for one in golden[f"target.{image}.class_labels"]]
        items.append(
            ImagePoses(
                objects=ImageTargets(boxes=golden[f"target.{image}.boxes"], labels=torch.tensor(labels)),
                keypoints=keypoints,
                areas=golden[f"target.{image}.area"],
                sigmas=sigmas,
            )
        )
    return PoseTargets.collate(items)


def replay(golden: dict[str, Tensor], labels: int) -> DenoisingNoise:
    """The recorded draws: repetitions of the three objects, (group, half, object), as (B, R, 2, G)."""
    shape = (2, 2, 2, 2)
    flips, classes = torch.ones(shape), torch.zeros(shape, dtype=torch.long)
    signs, sizes = torch.ones(*shape, 4), torch.zeros(*shape, 4)
    replaced = iter(golden["rng.001.randint_like"].tolist())
    places = [(0, 0), (0, 1), (1, 0)]
    for row in range(12):
        (image, target), half, group = places[row % 3], row // 3 % 2, row // 6
        flips[image, group, half, target] = golden["rng.000.rand_like"][row]
        signs[image, group, half, target] = 2.0 * golden["rng.002.randint_like"][row] - 1.0
        sizes[image, group, half, target] = golden["rng.003.rand_like"][row]
        if golden["rng.000.rand_like"][row] < 0.25:
            # Labels beyond those of the image are all alike there: features of an empty super-link.
            classes[image, group, half, target] = min(next(replaced), labels - 1)
    return DenoisingNoise(flips=flips, classes=classes, signs=signs, sizes=sizes)


@pytest.fixture(scope="module", params=["nodn", "dn"])
def step(request: pytest.FixtureRequest, reference: Path, make_tiny: MakeTiny) -> Step:
    path = reference / "goldens" / f"golden_unipose_train_{request.param}.safetensors"
    golden = load_file(path)
    with safe_open(path, "pt") as file:
        metas = json.loads(json.loads(file.metadata()["meta"])["metas"])
    estimator = make_tiny(mixed_label_masks=True).train()
    targets = read_targets(golden, metas)
    labels = torch.nn.functional.pad(golden["obj_querys"], (0, 0, 0, 0, 0, 4)).requires_grad_()
    keypoints = golden["kpt_querys"].requires_grad_()
    features, mask = estimator.encode_labels(labels), golden["obj_query_masks"][:, :8]
    plan = None
    if request.param == "dn":
        plan = plan_denoising(
            targets.objects,
            features,
            mask,
            learned=60,
            config=DenoisingConfig(queries=4),
            noise=replay(golden, labels.shape[1]),
        )
    output = estimator(
        golden["tensors"],
        ~golden["mask"],
        features,
        mask,
        estimator.encode_keypoints(keypoints),
        golden["kpt_query_masks"][:, :8],
        extra=None if plan is None else plan.queries,
    )
    total, terms = pose_loss(output, targets, PoseLossConfig(), denoising=plan)
    total.backward()
    return Step(
        golden=golden,
        estimator=estimator,
        labels=labels,
        keypoints=keypoints,
        plan=plan,
        total=total.detach(),
        terms={name: term.detach() for name, term in terms.items()},
    )


def recorded_name(term: str) -> str:
    """Our name of a loss term -> the recorded one."""
    kind, *rest = term.split("_")
    words = {"label": "ce", "box": "bbox", "keypoint": "keypoints"}
    place = {"denoising": "dn", "encoder": "interm"}
    return "_".join(["loss", words.get(kind, kind), *(place.get(word, word) for word in rest)])


def test_losses(step: Step) -> None:
    assert step.total == pytest.approx(float(step.golden["loss"]), rel=TOLERANCE)
    wanted = {
        name.removeprefix("loss_dict."): float(value)
        for name, value in step.golden.items()
        if name.startswith("loss_dict.") and value != 0
    }
    found = {recorded_name(name): float(value) for name, value in step.terms.items()}
    assert found == pytest.approx(wanted, rel=2 * TOLERANCE)


def test_denoising_queries(step: Step) -> None:
    if step.plan is None:
        assert not any("denoising" in name for name in step.terms)
        return
    assert_equal(step.plan.queries.content, step.golden["dn.input_query_label"])
    # The released code keeps logits within +-6.9, we within +-11.5: the same boxes but for their very edges.
    boxes, recorded = step.plan.queries.boxes.detach().sigmoid(), step.golden["dn.input_query_bbox"].sigmoid()
    assert (boxes - recorded).abs().max() < 2e-3
    assert torch.equal(~step.plan.queries.mask, step.golden["dn.attn_mask"].bool())


def test_gradients(step: Step) -> None:
    assert step.labels.grad is not None
    assert step.keypoints.grad is not None
    assert_equal(step.labels.grad[:, :4], step.golden["grad.obj_querys"])
    assert_equal(step.keypoints.grad, step.golden["grad.kpt_querys"])
    table, parameters = pose_key_table(swin=True), dict(step.estimator.named_parameters())
    for name in parameters:
        key, names, join = table.to_released(PREFIX + name)
        parts = [parameters[one.removeprefix(PREFIX)].grad for one in names]
        norm = float(step.golden["gradnorm." + key.removeprefix(PREFIX)])
        assert float(join(*parts).norm()) == pytest.approx(norm, rel=2 * TOLERANCE, abs=1e-6), key
