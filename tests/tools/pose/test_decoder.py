"""The estimator: shapes, and what its outputs may and may not depend on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from visionllm_sdk.errors import ConfigError
from visionllm_tools.pose.decoder import PoseEstimator
from visionllm_tools.pose.outputs import PoseOutput
from visionllm_tools.pose.stacks import Seats, inverse_sigmoid

Inputs = Callable[..., tuple[Tensor, ...]]


@torch.no_grad()
def estimate(estimator: PoseEstimator, inputs: tuple[Tensor, ...]) -> PoseOutput:
    pixels, mask, labels, label_mask, keypoints, keypoint_mask = inputs
    features = estimator.encode_labels(labels), estimator.encode_keypoints(keypoints)
    return estimator(pixels, mask, features[0], label_mask, features[1], keypoint_mask)


def assert_close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_shapes(small: PoseEstimator, inputs: Inputs) -> None:
    output = estimate(small, inputs())
    assert [tuple(layer.logits.shape) for layer in output.boxes] == [(2, 14, 2)]
    assert [tuple(layer.boxes.shape) for layer in output.poses] == [(2, 5, 4)] * 2
    assert [tuple(layer.points.shape) for layer in output.keypoints] == [(2, 5, 4, 2)] * 2
    assert output.tokens is None
    assert output.keypoints[0].visible is None


def test_a_visibility_head(make_small: Callable[..., PoseEstimator], inputs: Inputs) -> None:
    output = estimate(make_small(keypoint_visibility=True), inputs())
    assert output.keypoints[-1].visible is not None
    assert output.keypoints[-1].visible.shape == (2, 5, 4)


@pytest.mark.parametrize("released", [False, True])
def test_absent_labels_and_keypoints_change_nothing(
    make_small: Callable[..., PoseEstimator], inputs: Inputs, released: bool
) -> None:
    estimator = make_small(released_group_mask=released)
    pixels, mask, labels, label_mask, keypoints, keypoint_mask = inputs()
    plain = estimate(estimator, (pixels, mask, labels, label_mask, keypoints, keypoint_mask))
    more = torch.cat([keypoints, torch.randn(2, 2, 4, 24)], dim=1)
    more_mask = torch.cat([keypoint_mask, torch.zeros(2, 2, dtype=torch.bool)], dim=1)
    padded = torch.cat([labels, torch.zeros(2, 3, 4, 24)], dim=1)
    padded_mask = torch.cat([label_mask, torch.zeros(2, 3, dtype=torch.bool)], dim=1)
    longer = estimate(estimator, (pixels, mask, padded, padded_mask, more, more_mask))
    assert_close(longer.poses[-1].boxes, plain.poses[-1].boxes)
    assert_close(longer.poses[-1].logits[..., :2], plain.poses[-1].logits)
    assert longer.poses[-1].logits[..., 2:].eq(float("-inf")).all()
    assert_close(longer.keypoints[-1].points[:, :, :4], plain.keypoints[-1].points)


def test_items_of_a_batch_are_apart(small: PoseEstimator, inputs: Inputs) -> None:
    batch = inputs()
    both = estimate(small, batch)
    for row in range(2):
        alone = estimate(small, tuple(part[row : row + 1] for part in batch))
        assert_close(alone.poses[-1].boxes[0], both.poses[-1].boxes[row])
        assert_close(alone.keypoints[-1].points[0], both.keypoints[-1].points[row])


def test_groups_do_not_see_one_another(make_small: Callable[..., PoseEstimator], inputs: Inputs) -> None:
    """More groups leave the best ones as they are; with the released mask they do not."""
    batch = inputs(1)
    few, many = (estimate(make_small(num_groups=count), batch) for count in (3, 6))
    assert_close(few.keypoints[-1].points, many.keypoints[-1].points[:, :3])
    wrong = [
        estimate(make_small(num_groups=count, released_group_mask=True), batch).keypoints[-1].points[:, :3]
        for count in (3, 6)
    ]
    assert (wrong[0] - wrong[1]).abs().max() > 1e-4


def test_keypoints_follow_their_names(small: PoseEstimator, inputs: Inputs) -> None:
    """The order of names matters little: each place has a size of its own to start from, no more."""
    pixels, mask, labels, label_mask, keypoints, keypoint_mask = inputs(1)
    plain = estimate(small, (pixels, mask, labels, label_mask, keypoints, keypoint_mask))
    other = estimate(small, (pixels, mask, labels, label_mask, keypoints * 1.5, keypoint_mask))
    assert (plain.keypoints[-1].points - other.keypoints[-1].points).abs().max() > 1e-3
    assert_close(plain.boxes[-1].boxes, other.boxes[-1].boxes)


def test_a_view_serves_several_questions(small: PoseEstimator, inputs: Inputs) -> None:
    pixels, mask, labels, label_mask, keypoints, keypoint_mask = inputs()
    with torch.no_grad():
        view = small.look(pixels, mask).rows(torch.tensor([1, 1]))
        features = small.encode_labels(labels), small.encode_keypoints(keypoints)
        twice = small.estimate(view, features[0], label_mask, features[1], keypoint_mask)
    whole = estimate(small, (pixels, mask, labels, label_mask, keypoints, keypoint_mask))
    assert_close(twice.poses[-1].boxes[1], whole.poses[-1].boxes[1])


@pytest.mark.parametrize(("labels", "keypoints"), [(0, 4), (2, 0), (2, 7), (257, 4)])
def test_limits(small: PoseEstimator, inputs: Inputs, labels: int, keypoints: int) -> None:
    with pytest.raises(ConfigError, match="limited number"):
        estimate(small, inputs(1, labels=labels, keypoints=keypoints))


def test_training_mode_shows_all_tokens(make_small: Callable[..., PoseEstimator], inputs: Inputs) -> None:
    output = estimate(make_small().train(), inputs())
    assert output.tokens is not None
    assert output.tokens.boxes.shape[1] == output.usable.shape[1] > 14


def test_every_parameter_learns(make_small: Callable[..., PoseEstimator], inputs: Inputs) -> None:
    estimator = make_small(keypoint_visibility=True).train()
    pixels, mask, labels, label_mask, keypoints, keypoint_mask = inputs()
    features = estimator.encode_labels(labels), estimator.encode_keypoints(keypoints)
    output = estimator(pixels, mask, features[0], label_mask, features[1], keypoint_mask)
    total = sum(layer.boxes.sum() + layer.logits.sum() for layer in (*output.boxes, *output.poses))
    total = total + output.encoder.boxes.sum() + output.encoder.logits.sum()
    for layer in output.keypoints:
        assert layer.visible is not None
        total = total + layer.points.sum() + layer.visible.sum()
    total.backward()
    without = {name for name, one in estimator.named_parameters() if one.grad is None and one.numel()}
    assert without == set()


def test_seats_split_and_join() -> None:
    seats = Seats(extra=2, groups=3, points=4)
    x = torch.randn(2, 2 + 3 * 5, 6)
    boxes, points = seats.split(x)
    assert boxes.shape == (2, 5, 6)
    assert points.shape == (2, 3, 4, 6)
    assert torch.equal(boxes[:, 2], x[:, 2])
    assert torch.equal(points[:, 1, 0], x[:, 2 + 5 + 1])
    assert torch.equal(seats.join(boxes, points), x)


def test_inverse_sigmoid() -> None:
    x = torch.linspace(0.01, 0.99, 50)
    assert_close(inverse_sigmoid(x).sigmoid(), x)
    assert inverse_sigmoid(torch.tensor([-1.0, 0.0, 1.0, 2.0])).isfinite().all()
