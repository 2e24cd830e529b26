"""Training losses and gradients equal those of the released model (recorded values)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from visionllm_tools.detection.decoder import Detector
from visionllm_tools.detection.denoising import DenoisingConfig, DenoisingNoise, DenoisingPlan, plan_denoising
from visionllm_tools.detection.loss import LossConfig, detection_loss
from visionllm_tools.detection.targets import DetectionTargets, ImageTargets

TOLERANCE = 1e-4


@dataclass(kw_only=True)
class Case:
    """One recorded training step and our computation of it."""

    losses: dict[str, float]
    norms: dict[str, float]
    golden: dict[str, Tensor]
    total: Tensor
    terms: dict[str, Tensor]
    detector: Detector
    states: Tensor
    plan: DenoisingPlan | None


def recorded_name(term: str) -> str:
    """Our name of a loss term -> the recorded one."""
    kind, *rest = term.split("_")
    words = {"label": "ce", "box": "bbox"}
    place = {"denoising": "dn", "encoder": "enc"}
    return "_".join(["loss", words.get(kind, kind), *(place.get(word, word) for word in rest)])


def read_targets(golden: dict[str, Tensor], metadata: dict[str, str]) -> DetectionTargets:
    items = []
    for image, order in enumerate(json.loads(metadata["label_order"])):
        labels = [order[str(int(label))] for label in golden[f"target.{image}.class_labels"]]
        items.append(
            ImageTargets(
                boxes=golden[f"target.{image}.boxes"],
                labels=torch.tensor(labels),
                masks=golden[f"target.{image}.mask_labels"],
            )
        )
    return DetectionTargets.collate(items, size=(96, 128))


def replay_noise(valid: Tensor, groups: int, labels: int) -> DenoisingNoise:
    """Draw as the released code: all objects in a row, repeated per half and group."""
    image, place = valid.nonzero(as_tuple=True)
    count, copies = len(image), 2 * groups
    flips = torch.rand(count * copies)
    flipped = flips < 0.25
    classes = torch.zeros(count * copies, dtype=torch.long)
    classes[flipped] = torch.randint(0, labels, (int(flipped.sum()),))
    signs = torch.randint(0, 2, (count * copies, 4)) * 2.0 - 1.0
    sizes = torch.rand(count * copies, 4)

    def spread(values: Tensor) -> Tensor:
        table = torch.zeros(*valid.shape, copies, *values.shape[1:], dtype=values.dtype)
        table[image, place] = values.unflatten(0, (copies, count)).transpose(0, 1)
        return table.movedim(2, 1).unflatten(1, (groups, 2))

    return DenoisingNoise(
        flips=spread(flips), classes=spread(classes), signs=spread(signs), sizes=spread(sizes)
    )


class Replay:
    """Mask points in the recorded order: per layer the candidates, then the rest."""

    def __init__(self, objects: list[int]) -> None:
        draws = [[torch.rand(count, points, 2) for points in (37632, 3136)] for count in objects]
        self.pending = {points: [pair[i] for pair in draws] for i, points in enumerate((37632, 3136))}

    def __call__(self, shape: tuple[int, ...]) -> Tensor:
        taken: list[Tensor] = []
        while sum(map(len, taken)) < shape[0]:
            taken.append(self.pending[shape[1]].pop(0))
        return torch.cat(taken)


@pytest.fixture(scope="module", params=["nodn", "dn"])
def case(
    request: pytest.FixtureRequest,
    goldens: Path,
    golden_eval: dict[str, Tensor],
    make_tiny: Callable[..., Detector],
) -> Case:
    def read(name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
        path = goldens / f"golden_gdino_train_{name}.safetensors"
        with safe_open(path, "pt") as file:
            return load_file(path), file.metadata()

    targets = read_targets(*read("nodn"))
    golden, metadata = read(request.param)
    detector = make_tiny(mixed_label_masks=True).train()
    states = golden_eval["text_query"].clone().requires_grad_()
    present = golden_eval["text_query_masks"]
    labels = detector.encode_labels(states)
    torch.manual_seed(1234)  # the recording drew everything below from this seed, in this order
    plan = None
    if request.param == "dn":
        noise = replay_noise(targets.valid, groups=2, labels=5)
        config = DenoisingConfig(queries=4)
        plan = plan_denoising(targets, labels, present, learned=30, config=config, noise=noise)
    random = Replay([3] * 4 + [6] * 3 * (plan is not None))
    extra = None if plan is None else plan.queries
    output = detector(golden_eval["pixel_values"], golden_eval["pixel_mask"], labels, present, extra=extra)
    total, terms = detection_loss(detector, output, targets, LossConfig(), denoising=plan, random=random)
    total.backward()
    return Case(
        losses=json.loads(metadata["losses"]),
        norms=json.loads(metadata["gradient_norms"]),
        golden=golden,
        total=total.detach(),
        terms={name: term.detach() for name, term in terms.items()},
        detector=detector,
        states=states,
        plan=plan,
    )


def test_every_term(case: Case) -> None:
    found = {recorded_name(name): float(term) for name, term in case.terms.items()}
    expected = {name: value for name, value in case.losses.items() if name != "loss" and value != 0.0}
    assert found == pytest.approx(expected, rel=TOLERANCE)


def test_total(case: Case) -> None:
    assert float(case.total) == pytest.approx(case.losses["loss"], rel=TOLERANCE)


def test_gradients(case: Case, error: Callable[[Tensor, Tensor], float]) -> None:
    parameters = dict(case.detector.named_parameters(remove_duplicate=False))
    names = [name for name in case.golden if name.startswith("grad.") and name != "grad.text_query"]
    assert len(names) > 5
    for name in names:
        gradient = parameters[name.removeprefix("grad.")].grad
        assert gradient is not None, name
        assert error(gradient, case.golden[name]) < TOLERANCE, name
    assert case.states.grad is not None
    assert error(case.states.grad, case.golden["grad.text_query"]) < TOLERANCE


def test_gradient_norm_of_every_parameter(case: Case) -> None:
    parameters = dict(case.detector.named_parameters(remove_duplicate=False))
    assert len(case.norms) > 200
    found: dict[str, Any] = {}
    for name in case.norms:
        gradient = parameters[name].grad
        found[name] = -1.0 if gradient is None else float(gradient.norm())
    assert found == pytest.approx(case.norms, rel=TOLERANCE, abs=1e-6)


def test_denoising_queries(case: Case, error: Callable[[Tensor, Tensor], float]) -> None:
    if case.plan is None:
        assert not any("denoising" in name for name in case.terms)
        return
    assert case.plan.groups == 2
    assert error(case.plan.queries.content.detach(), case.golden["dn.input_query_label"]) < TOLERANCE
    assert error(case.plan.queries.boxes, case.golden["dn.input_query_bbox"]) < TOLERANCE
    assert torch.equal(~case.plan.queries.mask, case.golden["dn.attn_mask"].bool())
