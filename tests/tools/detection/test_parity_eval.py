"""The detector computes what the released model computed (recorded values)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from visionllm_tools.detection.decoder import Detector
from visionllm_tools.detection.masks import mask_logits
from visionllm_tools.detection.outputs import DetectorOutput

TOLERANCE = 1e-4
Error = Callable[[Tensor, Tensor], float]


@pytest.fixture(scope="module")
def output(tiny: Detector, golden_eval: dict[str, Tensor]) -> DetectorOutput:
    with torch.inference_mode():
        labels = tiny.encode_labels(golden_eval["text_query"])
        return tiny(
            golden_eval["pixel_values"], golden_eval["pixel_mask"], labels, golden_eval["text_query_masks"]
        )


def test_labels(tiny: Detector, golden_eval: dict[str, Tensor], error: Error) -> None:
    with torch.inference_mode():
        found = tiny.encode_labels(golden_eval["text_query"])
    assert error(found, golden_eval["text_features"]) < TOLERANCE


@pytest.mark.parametrize("level", [2, 3])
def test_backbone(output: DetectorOutput, golden_eval: dict[str, Tensor], error: Error, level: int) -> None:
    assert error(output.features[level], golden_eval[f"backbone.feat.{level}"]) < TOLERANCE


def test_encoder(output: DetectorOutput, golden_eval: dict[str, Tensor], error: Error) -> None:
    assert error(output.labels, golden_eval["inner.encoder_last_hidden_state_text"]) < TOLERANCE
    assert error(output.encoder.logits, golden_eval["inner.enc_topk_class_logits"]) < TOLERANCE
    assert error(output.encoder.boxes, golden_eval["inner.init_reference_points"]) < TOLERANCE
    assert error(output.mask_features, golden_eval["inner.mask_features"]) < TOLERANCE


def test_every_decoder_layer(output: DetectorOutput, golden_eval: dict[str, Tensor], error: Error) -> None:
    states = golden_eval["inner.intermediate_hidden_states"]
    assert len(output.layers) == states.shape[1]
    for number, layer in enumerate(output.layers):
        assert error(layer.queries, states[:, number]) < TOLERANCE


def test_predictions(output: DetectorOutput, golden_eval: dict[str, Tensor], error: Error) -> None:
    assert error(output.logits, golden_eval["logits"]) < TOLERANCE
    assert error(output.boxes, golden_eval["pred_boxes"]) < TOLERANCE


def test_masks(tiny: Detector, output: DetectorOutput, golden_eval: dict[str, Tensor], error: Error) -> None:
    everything = torch.arange(30).expand(2, -1)
    with torch.inference_mode():
        assert error(tiny.masks(output, everything), golden_eval["pred_masks"]) < TOLERANCE
        of_encoder = mask_logits(tiny.model.mask_embed(output.encoder.queries), output.mask_features)
    assert error(of_encoder, golden_eval["inner.output_mask_intermediate"]) < TOLERANCE


def test_masks_of_chosen_queries_only(tiny: Detector, output: DetectorOutput) -> None:
    chosen = torch.tensor([[3, 17], [29, 0]])
    with torch.inference_mode():
        everything = tiny.masks(output, torch.arange(30).expand(2, -1))
        found = tiny.masks(output, chosen)
    expected = torch.stack([everything[row, indices] for row, indices in enumerate(chosen)])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_gradient_mode_computes_the_same(tiny: Detector, output: DetectorOutput, error: Error) -> None:
    """Training and inference take different ways through the deformable attention."""
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randn(1, 3, 64, 96, generator=generator)
    mask = torch.ones(1, 64, 96, dtype=torch.bool)
    labels, present = torch.randn(1, 3, 64, generator=generator), torch.ones(1, 3, dtype=torch.bool)
    learning = tiny(pixels, mask, labels, present)
    with torch.inference_mode():
        still = tiny(pixels, mask, labels, present)
    assert learning.logits.requires_grad
    assert error(still.logits.clone(), learning.logits.detach()) < TOLERANCE
    assert error(still.boxes.clone(), learning.boxes.detach()) < TOLERANCE
