"""Two looks at an image: small things come from the first, large ones from the second, with their masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch

from tests.tools.detection.test_tool import assert_same, noise, request
from visionllm_sdk.errors import ConfigError
from visionllm_sdk.results import Detection, Detections, SemanticMap
from visionllm_tools.detection.config import DetectorConfig, Look
from visionllm_tools.detection.decoder import Detector
from visionllm_tools.detection.known import Known
from visionllm_tools.detection.options import DetectionTruth, look_for
from visionllm_tools.detection.tool import DetectionTool

_FROM = 0.4
_ALL: dict[str, Any] = {"threshold": 0.0, "limit": 1000}


def tool_of(make_tiny: Callable[..., Detector], share: float = 1.0, **more: Any) -> DetectionTool:
    sizes = {"shortest_edge": round(64 * share), "longest_edge": round(128 * share)}
    return DetectionTool(make_tiny(**sizes, logit_scale=0.05, **more))


@pytest.fixture(scope="module")
def twice(make_tiny: Callable[..., Detector]) -> DetectionTool:
    return tool_of(make_tiny, second_look=0.5, second_look_from=_FROM)


def extent(one: Detection, found: Detections) -> float | None:
    """The longer side over the image's shorter one; None where the box may have been cut at the border."""
    box = one.box
    whole = min(box.x1, box.y1) > 0.1 and box.x2 < found.width - 0.1 and box.y2 < found.height - 0.1
    return max(box.width, box.height) / min(found.width, found.height) if whole else None


def is_among(one: Detection, others: Iterable[Detection]) -> bool:
    return any(
        one.label == other.label
        and one.score == pytest.approx(other.score, abs=1e-5)
        and one.box.xyxy == pytest.approx(other.box.xyxy, abs=0.02)
        and one.mask is not None
        and other.mask is not None
        and bool((one.mask.to_numpy() == other.mask.to_numpy()).mean() > 0.99)
        for other in others
    )


@pytest.mark.parametrize("size", [(64, 64), (90, 120), (150, 60)])
def test_each_look_tells_of_its_own_things(
    make_tiny: Callable[..., Detector], twice: DetectionTool, size: tuple[int, int]
) -> None:
    asked = request(noise(*size, 3), 2, **_ALL)
    both, near, far = (t.run([asked])[0] for t in (twice, tool_of(make_tiny), tool_of(make_tiny, 0.5)))
    assert isinstance(both, Detections)
    assert isinstance(near, Detections)
    assert isinstance(far, Detections)
    assert all(is_among(one, [*near, *far]) for one in both)
    counts = [0, 0]
    for place, (found, least, most) in enumerate(((near, 0.0, _FROM * 1.1), (far, _FROM, np.inf))):
        for one in found:
            side = extent(one, found)
            if side is not None and min(abs(side - least), abs(side - most)) > 0.01:
                assert is_among(one, both) == (least <= side <= most)
                counts[place] += 1
    assert min(counts) > 0


def test_the_best_of_both_looks_count(twice: DetectionTool) -> None:
    image = noise(90, 120, 3)
    everything, few = (twice.run([request(image, 2, threshold=0.0, limit=limit)])[0] for limit in (1000, 5))
    assert isinstance(everything, Detections)
    assert isinstance(few, Detections)
    best = sorted((one.score for one in everything), reverse=True)[:5]
    assert [one.score for one in few] == pytest.approx(best, abs=1e-6)


def test_a_mixed_batch_equals_single_calls(twice: DetectionTool) -> None:
    requests = [
        request(noise(60, 90, 0), 3, **_ALL),
        request(noise(120, 50, 1), 4, token="[SEG]", seed=1),
        request(noise(61, 91, 3), 1, token="[GRD]", seed=2, limit=5),
        request(noise(60, 90, 0), 5, seed=3, masks=False, limit=6),
    ]
    for one, together in zip(requests, twice.run(requests), strict=True):
        assert_same(together, twice.run([one])[0])


def test_a_map_hears_both_looks(make_tiny: Callable[..., Detector], twice: DetectionTool) -> None:
    asked = request(noise(90, 120, 3), 3, token="[SEG]")
    maps = [t.run([asked])[0] for t in (twice, tool_of(make_tiny), tool_of(make_tiny, 0.5))]
    pixels = []
    for one in maps:
        assert isinstance(one, SemanticMap)
        assert (one.width, one.height) == (120, 90)
        pixels.append(one.to_numpy())
    assert (pixels[0] != pixels[1]).any()
    assert (pixels[0] != pixels[2]).any()


def test_looks(tiny_config: dict[str, Any]) -> None:
    config = DetectorConfig.from_dict({**tiny_config, "shortest_edge": 64, "longest_edge": 128})
    assert config.looks() == (Look(64, 128),)
    twice = DetectorConfig.from_dict({**config.to_dict(), "second_look": 0.5, "second_look_from": 0.5})
    first, second = twice.looks()
    assert (first.shortest_edge, second.shortest_edge, second.longest_edge) == (64, 32, 64)
    assert first.least == 0
    assert second.least == 0.5 < first.most
    for share in (0, 1, 1.5, -0.5):
        with pytest.raises(ConfigError, match="second_look is not a smaller share"):
            DetectorConfig.from_dict({**tiny_config, "second_look": share})


def truth(*boxes: tuple[float, float, float, float], known: Known | None = None) -> DetectionTruth:
    return DetectionTruth(
        boxes=torch.tensor(boxes).reshape(-1, 4),
        labels=torch.zeros(len(boxes), dtype=torch.long),
        known=known,
    )


def test_training_sees_large_things_as_they_will_be_seen() -> None:
    first, second = looks = Look(64, 128, most=0.55), Look(32, 64, least=0.5)
    image = noise(200, 400, 0)
    small, large = (10.0, 10.0, 100.0, 60.0), (10.0, 10.0, 120.0, 60.0)
    said = Known(logits=torch.zeros(1, 1), boxes=torch.zeros(1, 4))
    assert look_for(looks[:1], image, truth(large)) is first
    assert look_for(looks, image, truth()) is first
    assert look_for(looks, image, truth(small, small)) is first
    assert look_for(looks, image, truth(large, large)) is second
    assert look_for(looks, image, truth(large, known=said)) is first
    torch.manual_seed(0)
    both = [look_for(looks, image, truth(small, large)) for _ in range(20)]
    assert {first, second} == set(both)


def test_the_loss_of_images_in_different_looks(make_tiny: Callable[..., Detector]) -> None:
    tool = tool_of(make_tiny, second_look=0.5, second_look_from=0.5)
    seen: list[tuple[int, ...]] = []
    tool.decoder.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[1].sum((1, 2)).tolist())))
    requests = [request(noise(64, 64, seed), 1) for seed in range(2)]
    loss = tool.loss(requests, [truth((5.0, 5.0, 20.0, 20.0)), truth((1.0, 1.0, 60.0, 60.0))])
    assert seen == [(64 * 64, 32 * 32)]
    assert loss.total.isfinite()
