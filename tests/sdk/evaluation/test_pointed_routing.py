"""Requests for poses and about regions: what is sent, and how replies to them are scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from visionllm_sdk.evaluation import Sample, held_out_samples
from visionllm_sdk.evaluation.skills.pointed_routing import (
    PointedRequest,
    PointedRoutingSkill,
    pointed_requests,
)
from visionllm_sdk.regions import RegionBlock, check_region, question_with_regions
from visionllm_sdk.results import Reply
from visionllm_sdk.scenes.region_language import RegionExchange


@pytest.fixture(scope="module")
def asked() -> list[PointedRequest]:
    return [one for sample in held_out_samples(40) for one in pointed_requests(sample)]


def test_every_kind_is_asked_in_the_words_of_a_user(asked: list[PointedRequest]) -> None:
    assert {one.exchange.kind for one in asked} == set(PointedRoutingSkill.kinds)
    for one in asked:
        assert "<reg>" not in one.text
        assert "<image>" not in one.text
        question_with_regions(one.text, len(one.regions))  # each prompt has its place
        for region in one.regions:
            inside = region.region if isinstance(region, RegionBlock) else region
            check_region(inside, one.images[0].size)
        assert len(one.images) == (2 if one.exchange.kind == "in_context" else 1)
        if isinstance(one.exchange, RegionExchange):
            assert len(one.regions) == len(one.exchange.regions)


def test_requests_follow_from_the_scene() -> None:
    (sample,) = held_out_samples(1)
    first, second = pointed_requests(sample), pointed_requests(sample)
    assert [(one.text, one.regions) for one in first] == [(one.text, one.regions) for one in second]


class Silent:
    """Calls no tool, whatever is asked."""

    skills = ("pose", "describe")

    def chat(self, text: list[str], images: Sequence[Any], *, regions: Sequence[Any]) -> list[Reply]:
        assert len(text) == len(images) == len(regions)
        return [Reply(text="Yes.", calls=(), probability=1.0) for _ in text]


def test_who_calls_nothing_is_right_where_nothing_is_to_be_called() -> None:
    samples: list[Sample] = list(held_out_samples(12))
    skill = PointedRoutingSkill()
    skill.measure(Silent(), samples)  # type: ignore[arg-type]  # it is only talked to
    report = skill.report()
    exact = {kind: figures["exact"] for kind, figures in report.slices["kind"].items()}
    assert exact["pose"] == exact["whole_pose"] == exact["interactive"] == exact["in_context"] == 0
    assert exact["describe"] == exact["recognise"] == 1
    assert 0 < (report.figures["exact"] or 0) < 1
