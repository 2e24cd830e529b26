"""The routed tool: any mix of requests, independent of the batch, with typed results."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from visionllm_sdk.errors import ConfigError, DataError, ToolError
from visionllm_sdk.model.compiled import compile_in_place
from visionllm_sdk.registry import ToolRegistry
from visionllm_sdk.results import Detections, Grounding, ImageResult, SemanticMap
from visionllm_sdk.tool import RoutedTool, SuperLink, ToolRequest
from visionllm_tools.detection import found as found_rows
from visionllm_tools.detection.decoder import Detector
from visionllm_tools.detection.denoising import DenoisingConfig
from visionllm_tools.detection.loss import LossConfig
from visionllm_tools.detection.options import DetectionOptions, DetectionTruth
from visionllm_tools.detection.tool import DetectionTool, distinct

Request = ToolRequest[DetectionOptions]


def links(count: int, *, token: str = "[DET]", seed: int = 0, width: int = 64) -> tuple[SuperLink, ...]:
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(count, 4, width, generator=generator)
    return tuple(SuperLink(token=token, label=f"label {i}", states=states[i]) for i in range(count))


def request(
    image: Image.Image | None, count: int = 3, *, token: str = "[DET]", seed: int = 0, **options: Any
) -> Request:
    chosen = links(count, token=token, seed=seed)
    return ToolRequest(token=token, links=chosen, options=DetectionOptions(**options), image=image)


def noise(height: int, width: int, seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def tool(make_tiny: Callable[..., Detector]) -> DetectionTool:
    return DetectionTool(make_tiny(shortest_edge=64, longest_edge=128, logit_scale=0.05))  # unsaturated


def assert_same(one: ImageResult, other: ImageResult) -> None:
    """Equal but for rounding: scores to 1e-5, boxes to 0.01 pixels, masks to 1 % of the pixels."""
    assert type(one) is type(other)
    if isinstance(one, SemanticMap):
        assert isinstance(other, SemanticMap)
        assert (one.to_numpy() == other.to_numpy()).mean() > 0.99
        return
    assert isinstance(one, Detections)
    assert isinstance(other, Detections)
    assert one.labels == other.labels
    assert len(one) == len(other)
    assert [d.score for d in one] == pytest.approx([d.score for d in other], abs=1e-5)
    for mine, theirs in zip(one, other, strict=True):
        assert mine.label == theirs.label
        assert mine.box.xyxy == pytest.approx(theirs.box.xyxy, abs=0.01)
        assert (mine.mask is None) == (theirs.mask is None)
        if mine.mask is not None and theirs.mask is not None:
            assert (mine.mask.to_numpy() == theirs.mask.to_numpy()).mean() > 0.99


def test_a_mixed_batch_equals_single_calls(tool: DetectionTool) -> None:
    shared, tall = noise(60, 90, 0), noise(120, 50, 1)
    requests = [
        request(shared, 3, threshold=0.5, limit=8),
        request(tall, 4, token="[SEG]", seed=1),
        request(shared, 1, token="[GRD]", seed=2, limit=5),
        request(noise(61, 91, 3), 5, seed=3, masks=False, limit=6),
        request(tall, 2, seed=4, limit=4),
    ]
    together = tool.run(requests)
    assert [type(result) for result in together] == [
        Detections,
        SemanticMap,
        Grounding,
        Detections,
        Detections,
    ]
    for item, result in zip(requests, together, strict=True):
        assert item.image is not None
        assert (result.width, result.height) == item.image.size
        assert_same(result, tool.run([item])[0])


def test_results_are_in_the_pixels_of_the_given_image(tool: DetectionTool) -> None:
    image = noise(200, 300, 5)
    (result,) = tool.run([request(image, 3, threshold=0.0, limit=20)])
    assert isinstance(result, Detections)
    assert len(result) == 20
    scores = [detection.score for detection in result]
    assert scores == sorted(scores, reverse=True)
    for detection in result:
        x1, y1, x2, y2 = detection.box.xyxy
        assert 0 <= x1 <= x2 <= 300
        assert 0 <= y1 <= y2 <= 200
        assert detection.mask is not None
        assert detection.mask.size == (200, 300)


def test_threshold_and_at_least(tool: DetectionTool) -> None:
    image = noise(64, 64, 6)
    everything = tool.run([request(image, 2, threshold=0.0, masks=False, limit=30)])[0]
    assert isinstance(everything, Detections)
    cut = everything[4].score
    some = tool.run([request(image, 2, threshold=cut, masks=False, limit=30)])[0]
    assert isinstance(some, Detections)
    assert len(some) == sum(d.score >= cut for d in everything) >= 5
    none = tool.run([request(image, 2, threshold=1.0, masks=False)])[0]
    assert isinstance(none, Detections)
    assert len(none) == 0
    assert none.labels == ("label 0", "label 1")
    one = tool.run([request(image, 1, token="[GRD]", threshold=1.0, masks=False)])[0]
    assert isinstance(one, Grounding)
    assert len(one) == 1
    assert one.expression == "label 0"


def test_more_labels_than_one_pass_takes(make_tiny: Callable[..., Detector]) -> None:
    """300 labels are 150 + 150: the union of the groups' results, the best of all kept."""
    tool = DetectionTool(make_tiny(shortest_edge=64, longest_edge=128))
    image, chosen = noise(64, 64, 7), links(300)
    options = DetectionOptions(threshold=0.0, masks=False, limit=40)

    def run(part: tuple[SuperLink, ...]) -> Detections:
        (result,) = tool.run([ToolRequest(token="[DET]", links=part, options=options, image=image)])
        assert isinstance(result, Detections)
        return result

    whole = run(chosen)
    halves = [detection for part in (chosen[:150], chosen[150:]) for detection in run(part)]
    halves.sort(key=lambda detection: -detection.score)
    assert whole.labels == tuple(link.label for link in chosen)
    assert [d.score for d in whole] == pytest.approx([d.score for d in halves[:40]], abs=1e-5)
    assert {d.label for d in whole if d.score > halves[39].score + 1e-4} <= {d.label for d in halves[:40]}


def test_all_that_reach_the_threshold_unless_a_limit_is_given(tiny: Detector) -> None:
    tool, image, labels = DetectionTool(tiny), noise(64, 64, 7), 30
    pairs = tiny.config.num_queries * labels
    assert pairs > 100
    everything, few = tool.run(
        [
            request(image, labels, threshold=0.0, masks=False),
            request(image, labels, threshold=0.0, masks=False, limit=7),
        ]
    )
    assert isinstance(everything, Detections)
    assert isinstance(few, Detections)
    assert len(everything) == pairs
    assert [d.score for d in few] == pytest.approx([d.score for d in everything.detections[:7]], abs=1e-5)


def test_semantic_map_over_groups(make_tiny: Callable[..., Detector]) -> None:
    """Six labels in passes of four at most: the groups' evidence meets in one argmax."""
    tool = DetectionTool(make_tiny(shortest_edge=64, longest_edge=128, max_text_len=4))
    (result,) = tool.run([request(noise(64, 64, 8), 6, token="[SEG]")])
    assert isinstance(result, SemanticMap)
    assert result.labels == tuple(f"label {i}" for i in range(6))
    assert (result.to_numpy() >= 0).all()


def test_equal_labels_are_asked_once(tool: DetectionTool) -> None:
    doubled = links(2) + links(2)
    assert [link.label for link in distinct(doubled)] == ["label 0", "label 1"]
    unnamed = tuple(dataclasses.replace(link, label="") for link in links(2))
    assert len(distinct(unnamed)) == 2
    item = ToolRequest(token="[SEG]", links=doubled, options=DetectionOptions(), image=noise(64, 64, 9))
    (result,) = tool.run([item])
    assert isinstance(result, SemanticMap)
    assert result.labels == ("label 0", "label 1")


def test_suppression_is_a_matter_of_the_checkpoint(make_tiny: Callable[..., Detector]) -> None:
    image = noise(64, 64, 10)
    item = request(image, 1, threshold=0.0, masks=False, limit=30)
    everything = DetectionTool(make_tiny(shortest_edge=64, longest_edge=64)).run([item])[0]
    fewer = DetectionTool(make_tiny(shortest_edge=64, longest_edge=64, suppression=0.05)).run([item])[0]
    assert isinstance(everything, Detections)
    assert isinstance(fewer, Detections)
    assert 0 < len(fewer) < len(everything)
    for number, detection in enumerate(fewer):
        assert all(detection.box.iou(other.box) <= 0.06 for other in fewer.detections[:number])


def test_boxes_from_masks(make_tiny: Callable[..., Detector]) -> None:
    """The mask's tight box replaces the predicted one exactly where they agree."""
    item = request(noise(64, 64, 11), 2, threshold=0.0, limit=30)
    sizes = {"shortest_edge": 64, "longest_edge": 64}
    plain = DetectionTool(make_tiny(**sizes)).run([item])[0]
    assert isinstance(plain, Detections)
    tight = [detection.mask.box if detection.mask else None for detection in plain]
    agreement = [
        0.0 if box is None else box.iou(before.box) for box, before in zip(tight, plain, strict=True)
    ]
    limit = sorted(agreement)[len(agreement) * 3 // 4]
    assert 0 < limit < max(agreement)
    sharp = DetectionTool(make_tiny(**sizes, boxes_from_masks=limit)).run([item])[0]
    assert isinstance(sharp, Detections)
    expected = [
        box if share >= limit else before.box
        for box, share, before in zip(tight, agreement, plain, strict=True)
    ]
    assert [detection.box for detection in sharp] == expected
    hidden = dataclasses.replace(item, options=item.options.model_copy(update={"masks": False}))
    bare = DetectionTool(make_tiny(**sizes, boxes_from_masks=limit)).run([hidden])[0]
    assert isinstance(bare, Detections)
    assert [detection.box for detection in bare] == expected
    assert all(detection.mask is None for detection in bare)


def test_copies_are_dropped_whose_masks_fit_one_box(make_tiny: Callable[..., Detector]) -> None:
    item = request(noise(64, 64, 11), 2, threshold=0.0, limit=40)
    sizes = {"shortest_edge": 64, "longest_edge": 64, "boxes_from_masks": 0.01}
    every, few = (DetectionTool(make_tiny(**sizes, suppression=iou)).run([item])[0] for iou in (1.0, 0.5))
    assert isinstance(every, Detections)
    assert isinstance(few, Detections)

    def alike(found: Detections) -> int:
        pairs = combinations(found.detections, 2)
        return sum(one.label == other.label and one.box.iou(other.box) > 0.5 for one, other in pairs)

    assert alike(every) > 0
    assert alike(few) == 0
    assert every.detections[0] == few.detections[0]


@pytest.mark.parametrize("token", ["[DET]", "[SEG]"])
def test_masks_end_near_their_boxes(make_tiny: Callable[..., Detector], token: str) -> None:
    item = request(noise(64, 64, 11), 2, token=token, threshold=0.0, limit=30)
    sizes = {"shortest_edge": 64, "longest_edge": 64}
    plain, cut, wide = (
        DetectionTool(make_tiny(**sizes, mask_margin=margin)).run([item])[0] for margin in (None, 0.1, 99.0)
    )
    assert wide == plain
    assert cut != plain
    if not isinstance(plain, Detections) or not isinstance(cut, Detections):
        return
    for before, after in zip(plain, cut, strict=True):
        box, whole, mask = before.box, before.mask, after.mask
        assert whole is not None
        assert mask is not None
        far = 0.1 * (box.x2 - box.x1), 0.1 * (box.y2 - box.y1)
        kept = np.zeros((64, 64), bool)
        # A box is clipped to the image, and the margin is that of the whole one.
        kept[max(0, round(box.y1 - far[1]) - 1) :, max(0, round(box.x1 - far[0]) - 1) :] = True
        assert not (mask.to_numpy() & ~whole.to_numpy()).any()
        if min(box.x1, box.y1) > 0:
            assert not (mask.to_numpy() & ~kept).any()


def test_bad_requests(tool: DetectionTool) -> None:
    with pytest.raises(ToolError, match="needs an image"):
        tool.run([request(None)])
    wide = ToolRequest(
        token="[DET]", links=links(1, width=32), options=DetectionOptions(), image=noise(64, 64, 0)
    )
    with pytest.raises(ToolError, match="does not fit the detector"):
        tool.run([wide])


def test_an_empty_batch(tool: DetectionTool) -> None:
    assert tool.run([]) == []


def test_the_contract(tiny_config: dict[str, Any]) -> None:
    registry = ToolRegistry([DetectionTool])
    assert set(registry.token_texts) == {"[DET]", "[GRD]", "[SEG]"}
    assert issubclass(DetectionTool, RoutedTool)
    config = {"use_gdino": True, "gdino_config": tiny_config, "llm_config": {"hidden_size": 64}}
    built = DetectionTool.from_config(config)
    assert built is not None
    assert built.decoder.config.num_queries == 30
    assert DetectionTool.from_config({**config, "use_gdino": False}) is None
    with pytest.raises(ConfigError, match="gdino_config is missing"):
        DetectionTool.from_config({"use_gdino": True, "llm_config": {"hidden_size": 64}})
    with pytest.raises(ConfigError, match="l_hidden_size"):
        DetectionTool.from_config({**config, "llm_config": {"hidden_size": 65}})


def test_loss_reaches_the_super_links(make_tiny: Callable[..., Detector]) -> None:
    detector = make_tiny(shortest_edge=64, longest_edge=128).train()
    tool = DetectionTool(detector, loss=LossConfig(points=64), denoising=DenoisingConfig(queries=6))
    requests, states = [], []
    for seed, size in enumerate([(60, 90), (64, 64)]):
        chosen = links(3 - seed, seed=seed)
        learning = [link.states.requires_grad_() for link in chosen]
        states += learning
        requests.append(
            ToolRequest(token="[DET]", links=chosen, options=DetectionOptions(), image=noise(*size, seed))
        )
    masks = torch.zeros(2, 60, 90, dtype=torch.bool)
    masks[:, 10:30, 20:60] = True
    targets = [
        DetectionTruth(
            boxes=torch.tensor([[20.0, 10, 60, 30], [5, 5, 50, 50]]), labels=torch.tensor([0, 2]), masks=masks
        ),
        DetectionTruth(
            boxes=torch.zeros(0, 4),
            labels=torch.zeros(0, dtype=torch.long),
            masks=torch.zeros(0, 64, 64, dtype=torch.bool),
        ),
    ]
    torch.manual_seed(0)
    loss = tool.loss(requests, targets)
    torch.testing.assert_close(torch.stack(list(loss.terms.values())).sum(), loss.total)
    assert any("denoising" in name for name in loss.terms)
    loss.total.backward()
    gradients: list[Tensor] = [state.grad for state in states if state.grad is not None]
    assert len(gradients) == len(states)
    assert all(float(gradient.abs().sum()) > 0 for gradient in gradients)


def test_truth_that_does_not_fit(make_tiny: Callable[..., Detector]) -> None:
    tool = DetectionTool(make_tiny(shortest_edge=64, longest_edge=128, max_text_len=4))
    truth = DetectionTruth(boxes=torch.rand(1, 4), labels=torch.zeros(1, dtype=torch.long))
    with pytest.raises(DataError, match="all labels in one pass"):
        tool.loss([request(noise(64, 64, 0), 5)], [truth])
    with pytest.raises(DataError, match="one ground truth per request"):
        tool.loss([request(noise(64, 64, 0), 2)], [])
    small = dataclasses.replace(truth, masks=torch.zeros(1, 9, 9, dtype=torch.bool))
    with pytest.raises(DataError, match="not of the image's size"):
        tool.loss([request(noise(64, 64, 0), 2)], [small])


@pytest.fixture
def described(tool: DetectionTool, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of rows of every pass that makes mask features."""
    passes: list[int] = []
    plain = tool.decoder.model.describe_masks

    def spy(finest: Tensor, encoded: Tensor) -> Tensor:
        passes.append(len(finest))
        return plain(finest, encoded)

    monkeypatch.setattr(tool.decoder.model, "describe_masks", spy)
    return passes


def test_mask_features_only_where_something_is_kept(tool: DetectionTool, described: list[int]) -> None:
    """The most expensive part is left out for images without detections and for boxes alone."""
    nothing, boxes, masks = tool.run(
        [
            request(noise(60, 90, 0), threshold=1.0),
            request(noise(60, 90, 1), threshold=0.0, limit=2, masks=False),
            request(noise(60, 90, 2), threshold=0.0, limit=2),
        ]
    )
    assert (len(nothing), len(boxes), len(masks)) == (0, 2, 2)  # type: ignore[arg-type]
    assert described == [1]


def test_mask_features_of_several_rows_at_once(
    tool: DetectionTool, described: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = noise(60, 90, 1)
    requests = [request(image, 3, seed=seed, threshold=0.0, limit=3) for seed in range(5)]
    expected = tool.run(requests)
    assert described == [5]
    described.clear()
    monkeypatch.setattr(found_rows, "pixels_at_once", lambda _: 2 * 64 * 96)
    for one, other in zip(tool.run(requests), expected, strict=True):
        assert_same(one, other)
    assert described == [2, 2, 1]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")
def test_the_compiled_detector(scratch: Detector) -> None:
    """Traced and not translated, which needs no compiler of C++ or CUDA: also for a size that comes later."""
    tool = DetectionTool(scratch.eval())
    requests = [
        ToolRequest(
            token="[DET]",
            links=links(3, width=24),
            options=DetectionOptions(threshold=0.0, limit=4),
            image=noise(*size, 0),
        )
        for size in ((60, 90), (120, 50))
    ]
    plain, names = tool.run(requests), scratch.state_dict().keys()
    compile_in_place(tool.compiled_parts(), backend="eager")
    programs = torch._dynamo.utils.counters["stats"]
    programs.clear()
    for one, other in zip(plain, tool.run(requests), strict=True):
        assert_same(one, other)
    assert programs["unique_graphs"] >= 3  # of the backbone, an encoder layer and a decoder layer
    assert scratch.state_dict().keys() == names
    torch._dynamo.reset()


def test_a_label_is_read_as_the_detector_sees_it(tool: DetectionTool) -> None:
    (link,) = links(1)
    read = tool.read("[DET]", link.states)
    torch.testing.assert_close(read, tool.decoder.encode_labels(link.states[None, None])[0, 0])
