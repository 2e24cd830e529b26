"""Replayed scenes in which things are marked."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
import torch

from tests.sdk.conftest import write_random_checkpoint
from visionllm_adapters.training.examples import REPLAY, Example
from visionllm_adapters.training.lessons import Classroom
from visionllm_adapters.training.replay_marks import MARKED, MarkedScenes
from visionllm_adapters.training.replay_scenes import replayed_scene
from visionllm_adapters.training.trainee import Trainee
from visionllm_sdk import VisionLLM
from visionllm_sdk.model.assembly import Model
from visionllm_sdk.model.conversation import Turn
from visionllm_sdk.scenes import SceneOptions, render, sample_scene, truth
from visionllm_tools.detection.options import DetectionTruth


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return VisionLLM.from_pretrained(write_random_checkpoint(tmp_path_factory.mktemp("any"))).engine.model


def asked(model: Model, kind: str, seed: int, *, judged: bool = True) -> Example:
    """The first example of a kind from a seed on."""
    random = Random(seed)
    while True:
        example = MarkedScenes(Classroom(model=model), judged).example(kind, *replayed_scene(random), random)
        if example is not None:
            return example


@pytest.mark.parametrize("kind", MARKED)
@pytest.mark.parametrize(
    "seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)]
)
def test_every_call_is_learnt_from_and_every_mark_lies_in_its_picture(
    model: Model, kind: str, seed: int
) -> None:
    example = asked(model, kind, seed)
    assert example.skill == REPLAY
    trainee = Trainee(model, ["detect"])
    total, terms = trainee([example])
    assert torch.isfinite(total)
    assert any(key.startswith("detect_") for key in terms) == (kind != "name")
    assert all(bool(one.mask.any()) for one in example.regions)
    marks = sum(part == "<region>" for turn in example.turns for part in spelled(turn))
    assert marks == len(example.regions)


def spelled(turn: Turn) -> list[str]:
    return [str(getattr(part, "text", part)) for part in turn.question]


def test_an_outline_has_one_answer_for_every_mark(model: Model) -> None:
    for seed in range(6):
        example = asked(model, "outline", seed)
        (call,) = example.calls
        assert isinstance(call.truth, DetectionTruth)
        assert call.truth.labels.tolist() == list(range(len(example.regions)))
        assert len(call.labels) == len(example.regions)


def test_more_of_a_kind_is_looked_for_in_the_second_picture(model: Model) -> None:
    for seed in range(6):
        example = asked(model, "alike", seed)
        assert len(example.shown) == 2
        assert example.image is example.shown[1]
        truth_ = example.calls[0].truth
        assert len(truth_.boxes) >= 1
        assert truth_.masks.shape[-2:] == (example.image.height, example.image.width)


def test_nothing_is_judged_where_the_detector_does_not_learn(model: Model) -> None:
    for kind in ("outline", "alike"):
        assert [call.truth for call in asked(model, kind, 1, judged=False).calls] == [None]


def test_of_an_empty_scene_nothing_is_asked(model: Model) -> None:
    spec = sample_scene(1, options=SceneOptions(objects=(0, 0)))
    drawn = render(spec)
    assert not np.asarray(drawn.visible).any()
    for kind in MARKED:
        marked = MarkedScenes(Classroom(model=model), judged=True)
        assert marked.example(kind, truth(spec, drawn), drawn.image, Random(0)) is None
