"""The routed tool: typed poses, independent of the batch, and a loss to train with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from visionllm_sdk.errors import ConfigError, DataError, LimitError, ToolError
from visionllm_sdk.registry import ToolRegistry
from visionllm_sdk.results import Poses
from visionllm_sdk.tool import RoutedTool, SuperLink, ToolRequest
from visionllm_tools.detection.denoising import DenoisingConfig
from visionllm_tools.detection.tool import DetectionTool
from visionllm_tools.pose.decoder import PoseEstimator
from visionllm_tools.pose.options import PoseOptions, PoseTruth
from visionllm_tools.pose.tool import PoseTool

Request = ToolRequest[PoseOptions]
NAMES = ("nose", "left knee", "left ankle", "tail", "left eye", "right eye")


def links(labels: tuple[str, ...], token: str, *, seed: int = 0, width: int = 24) -> tuple[SuperLink, ...]:
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(len(labels), 4, width, generator=generator)
    return tuple(SuperLink(token=token, label=label, states=states[i]) for i, label in enumerate(labels))


def request(
    image: Image.Image | None, names: int = 3, *, labels: tuple[str, ...] = ("dog",), **options: Any
) -> Request:
    return ToolRequest(
        token="[POSE]",
        links=links(NAMES[:names], "[POSE]"),
        options=PoseOptions(**{"threshold": 0.0, **options}),
        image=image,
        context=links(labels, "[DET]", seed=1),
    )


def noise(height: int, width: int, seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def tool(make_small: Callable[..., PoseEstimator]) -> PoseTool:
    return PoseTool(make_small(logit_scale=0.1))


def assert_same(one: Poses, other: Poses) -> None:
    """Equal but for rounding: scores to 1e-4, places to 0.05 pixels."""
    assert (one.label, one.names, len(one)) == (other.label, other.names, len(other))
    for mine, theirs in zip(one, other, strict=True):
        assert mine.label == theirs.label
        assert mine.score == pytest.approx(theirs.score, abs=1e-4)
        assert mine.box.xyxy == pytest.approx(theirs.box.xyxy, abs=0.05)
        places = [(k.x, k.y) for k in mine.keypoints]
        assert np.allclose(places, [(k.x, k.y) for k in theirs.keypoints], atol=0.05)


def test_contract() -> None:
    registry = ToolRegistry([DetectionTool, PoseTool])
    assert registry.by_token("[POSE]") is PoseTool
    assert PoseTool.context_tokens == ("[DET]",)
    assert issubclass(PoseTool, RoutedTool)
    assert "poses" in PoseTool.describe().result_schema["properties"]


def test_typed_result(tool: PoseTool) -> None:
    (poses,) = tool.run([request(noise(50, 70, 0))])
    assert (poses.width, poses.height) == (70, 50)
    assert (poses.label, poses.names) == ("dog", NAMES[:3])
    assert poses.skeleton == (("left ankle", "left knee"),)
    assert len(poses) == 5
    assert [k.name for k in poses[0].keypoints] == list(NAMES[:3])
    assert all(0 <= k.x <= 70 and 0 <= k.y <= 50 for pose in poses for k in pose.keypoints)
    coco = poses.to_coco()
    assert coco["categories"][0]["keypoints"] == list(NAMES[:3])
    assert len(coco["annotations"]) == 5


def test_results_do_not_depend_on_the_batch(tool: PoseTool) -> None:
    tall, wide = noise(90, 60, 1), noise(50, 70, 2)
    mixed = [
        request(wide, 2, labels=("dog", "cat")),
        request(tall, 6),
        request(wide, 6, limit=2),
        request(tall, 1, at_least=1, threshold=1.0),
    ]
    together = tool.run(mixed)
    assert [len(poses) for poses in together] == [10, 5, 2, 1]
    for one, result in zip(mixed, together, strict=True):
        assert_same(tool.run([one])[0], result)


def test_several_classes(tool: PoseTool) -> None:
    (poses,) = tool.run([request(noise(50, 70, 0), labels=("dog", "cat"))])
    assert poses.label == "dog, cat"
    assert {pose.label for pose in poses} == {"dog", "cat"}


def test_repeated_labels_are_one_question(tool: PoseTool) -> None:
    image = noise(50, 70, 0)
    once = request(image)
    twice = dataclasses.replace(once, links=once.links * 2, context=once.context * 2)
    assert_same(tool.run([twice])[0], tool.run([once])[0])


def test_only_object_classes_are_read_from_the_context(tool: PoseTool) -> None:
    image = noise(50, 70, 0)
    plain = request(image)
    more = dataclasses.replace(plain, context=(*plain.context, *links(("sky",), "[SEG]", seed=9)))
    assert_same(tool.run([more])[0], tool.run([plain])[0])


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"image": None}, ToolError, "needs an image"),
        ({"context": ()}, ToolError, "whose keypoints"),
        ({"links": links(tuple(map(str, range(200))), "[POSE]")}, LimitError, "too many keypoints"),
        ({"context": links(tuple(map(str, range(300))), "[DET]")}, LimitError, "too many object classes"),
        ({"links": links(NAMES, "[POSE]", width=8)}, ToolError, "does not fit the pose estimator"),
        ({"context": links(("dog",), "[DET]", width=8)}, ToolError, "does not fit the pose estimator"),
    ],
)
def test_requests_that_cannot_be_answered(
    tool: PoseTool, changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    bad = dataclasses.replace(request(noise(50, 70, 0)), **changes)
    with pytest.raises(error, match=words):
        tool.run([bad])


def truth(count: int, keypoints: int) -> PoseTruth:
    generator = torch.Generator().manual_seed(count)
    corners = torch.rand(count, 2, generator=generator) * 20 + 5
    places = torch.rand(count, keypoints, 2, generator=generator) * 40
    return PoseTruth(
        boxes=torch.cat([corners, corners + 20], dim=-1),
        labels=torch.zeros(count, dtype=torch.long),
        keypoints=torch.cat([places, torch.full((count, keypoints, 1), 2.0)], dim=-1),
    )


def test_loss_reaches_the_super_links(make_small: Callable[..., PoseEstimator]) -> None:
    tool = PoseTool(make_small().train(), denoising=DenoisingConfig(queries=8))
    requests = [request(noise(60, 90, 0), 3), request(noise(90, 60, 1), 2, labels=("dog", "cat"))]
    for link in (*requests[0].links, *requests[1].context):
        link.states.requires_grad_()
    loss = tool.loss(requests, [truth(2, 3), truth(0, 2)])
    assert loss.total.isfinite()
    assert {"keypoint", "oks", "label_denoising_0", "box_encoder"} <= set(loss.terms)
    torch.testing.assert_close(torch.stack(list(loss.terms.values())).sum(), loss.total)
    loss.total.backward()
    for link in (*requests[0].links, *requests[1].context):
        assert link.states.grad is not None
    assert requests[0].links[0].states.grad.abs().sum() > 0


def test_truth_in_pixels_becomes_shares() -> None:
    item = truth(1, 2).at_input((50, 100), [0.05, 0.05])
    boxes, places = truth(1, 2).boxes, truth(1, 2).keypoints
    torch.testing.assert_close(item.keypoints[0, :, 0], places[0, :, 0] / 100)
    torch.testing.assert_close(item.keypoints[0, :, 1], places[0, :, 1] / 50)
    torch.testing.assert_close(item.objects.boxes[0, 2:], torch.tensor([0.2, 0.4]))
    assert item.areas.tolist() == pytest.approx([20 * 20 / 5000])
    assert boxes.shape == (1, 4)


@pytest.mark.parametrize("targets", [[], [truth(1, 5)]])
def test_truth_that_does_not_fit(tool: PoseTool, targets: list[PoseTruth]) -> None:
    with pytest.raises(DataError):
        tool.loss([request(noise(50, 70, 0), 3)], targets)


class TestFromConfig:
    """Built from config.json."""

    def test_absent(self) -> None:
        assert PoseTool.from_config({"use_unipose": False}) is None
        assert PoseTool.from_config({}) is None

    def test_without_section(self) -> None:
        with pytest.raises(ConfigError, match="unipose_config is missing"):
            PoseTool.from_config({"use_unipose": True})

    def test_another_width(self) -> None:
        section = {"l_hidden_size": 64}
        with pytest.raises(ConfigError, match="l_hidden_size"):
            PoseTool.from_config(
                {"use_unipose": True, "unipose_config": section, "llm_config": {"hidden_size": 32}}
            )

    def test_numbers(self, small: PoseEstimator) -> None:
        config = {
            "use_unipose": True,
            "unipose_config": small.config.to_dict(),
            "llm_config": {"hidden_size": 24},
        }
        tool = PoseTool.from_config(config)
        assert tool is not None
        assert tool.decoder.config == small.config
        assert tool.denoising == DenoisingConfig(queries=8)
        assert PoseTool.table.size({"num_embs": 4}) == 4


def test_what_is_read_of_a_super_link_depends_on_its_token(tool: PoseTool) -> None:
    state = torch.randn(4, 24)
    as_class, as_name = (tool.read(token, state) for token in ("[DET]", "[POSE]"))
    torch.testing.assert_close(as_class, tool.decoder.encode_labels(state[None, None])[0, 0])
    torch.testing.assert_close(as_name, tool.decoder.encode_keypoints(state[None, None])[0, 0])
    assert not torch.allclose(as_class, as_name)
