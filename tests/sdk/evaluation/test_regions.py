"""Figures about region prompts, measured on a model that knows the truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from visionllm_sdk.evaluation import BARS, Sample
from visionllm_sdk.evaluation.bars import judge
from visionllm_sdk.evaluation.skills import SKILLS
from visionllm_sdk.evaluation.skills.regions import (
    LABELS,
    attributes,
    in_context_case,
    questions,
    said_attributes,
)
from visionllm_sdk.geometry import Box, Mask
from visionllm_sdk.results import Detection, Detections, RegionDescription, RegionLabel
from visionllm_sdk.scenes.facts import ObjectFacts
from visionllm_sdk.scenes.labels import article
from visionllm_sdk.scenes.regions import REGION_KINDS

NAMES = ("region_recognition", "region_description", "interactive_segmentation", "in_context_segmentation")


class Knowing:
    """Answers what it is asked about the given pictures from their truth.

    Args:
        samples: the pictures.
        wrong: kinds of prompts that it gets wrong.
    """

    def __init__(self, samples: Sequence[Sample], wrong: Sequence[str] = ()) -> None:
        self.samples = {id(sample.image): sample for sample in samples}
        self.cases = {
            id(sample.image): case for sample in samples if (case := in_context_case(sample)) is not None
        }
        self.wrong = wrong

    def _each(self, image: Any, regions: Sequence[Any]) -> list[tuple[Sample, int, bool, Any]]:
        sample = self.samples[id(image)]
        asked = questions(sample)
        assert [one.region for one in asked] == list(regions)
        return [(sample, one.index, one.kind in self.wrong, one.region) for one in asked]

    def classify(self, image: Any, regions: Any, labels: Any) -> list[list[RegionLabel]]:
        """Wrong: the next label of the list."""
        assert all(tuple(offered) == LABELS for offered in labels)
        return [
            [
                RegionLabel(region=region, label=_shifted(sample.objects[index].kind, wrong), score=1.0)
                for sample, index, wrong, region in self._each(one, own)
            ]
            for one, own in zip(image, regions, strict=True)
        ]

    def describe(self, image: Any, regions: Any) -> list[list[RegionDescription]]:
        """Wrong: words that no scene knows."""
        return [
            [
                RegionDescription(
                    region=region, text="A zeppelin." if wrong else _sentence(sample.objects[index])
                )
                for sample, index, wrong, region in self._each(one, own)
            ]
            for one, own in zip(image, regions, strict=True)
        ]

    def segment_regions(self, image: Any, regions: Any) -> list[Detections]:
        """Wrong: everything but the object."""
        return [
            _found([sample.masks[index] ^ wrong for sample, index, wrong, _ in self._each(one, own)])
            for one, own in zip(image, regions, strict=True)
        ]

    def segment_like(self, example_image: Any, example_region: Any, image: Any) -> list[Detections]:
        """Wrong: nothing."""
        found = []
        for one, region, target in zip(example_image, example_region, image, strict=True):
            case = self.cases[id(one)]
            assert case.question.region == region
            assert np.array_equal(np.array(case.image), np.array(target))
            found.append(_found([case.truth & (case.question.kind not in self.wrong)]))
        return found


def _shifted(kind: str, wrong: bool) -> str:
    return LABELS[(LABELS.index(kind) + wrong) % len(LABELS)]


def _sentence(thing: ObjectFacts) -> str:
    words = (thing.size, thing.colour, thing.kind) if thing.colour else (thing.kind,)
    return f"{article(' '.join(words)).capitalize()}."


def _found(masks: Sequence[Any]) -> Detections:
    height, width = masks[0].shape
    return Detections(
        width=width,
        height=height,
        detections=tuple(
            Detection(label=f"region{i + 1}", score=0.9, box=Box(0, 0, 1, 1), mask=Mask.from_numpy(mask))
            for i, mask in enumerate(masks)
        ),
    )


def measured(name: str, model: Any, samples: Sequence[Sample]) -> Any:
    skill = SKILLS[name]()
    skill.measure(model, samples[:7])
    skill.measure(model, samples[7:])
    return skill.report()


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_knows_meets_every_bar(name: str, held_out: list[Sample]) -> None:
    report = measured(name, Knowing(held_out), held_out)
    own = [bar for bar in BARS if bar.skill == name]
    judged = judge({name: report}, tuple(own))
    assert own
    if name != "in_context_segmentation":
        assert len(judged) == len(own)
    assert all(bar.passed and bar.value == 1 for bar in judged)


@pytest.mark.parametrize(("name", "figure"), [(NAMES[0], "accuracy"), (NAMES[1], "f1"), (NAMES[2], "miou")])
def test_a_fault_shows_in_its_own_slice(name: str, figure: str, held_out: list[Sample]) -> None:
    report = measured(name, Knowing(held_out, wrong=["point"]), held_out)
    values = {kind: report.slices["prompt"][kind][figure] for kind in REGION_KINDS}
    assert values == {"mask": 1, "box": 1, "point": 0, "scribble": 1}
    assert 0.5 < report.figures[figure] < 1
    missed = [bar.figure for bar in judge({name: report}) if not bar.passed]
    assert missed == (["f1"] if figure == "f1" else [f"prompt.point.{figure}"])


def test_nothing_found_in_context_counts(held_out: list[Sample]) -> None:
    report = measured(NAMES[3], Knowing(held_out, wrong=REGION_KINDS), held_out)
    assert report.figures["miou"] == 0


def test_prompts_follow_from_the_sample_alone(held_out: list[Sample]) -> None:
    for sample in held_out:
        asked = questions(sample)
        assert asked == questions(sample)
        assert [one.kind for one in asked] == (list(REGION_KINDS) if sample.objects else [])
        case = in_context_case(sample)
        if case is not None:
            assert case.truth.shape == (case.image.height, case.image.width)
            assert case.truth.any()


def test_attributes_of_words() -> None:
    assert said_attributes("A large red circle.") == Counter(("large", "red", "circle"))
    assert said_attributes("a dog") == Counter(("dog",))
    assert said_attributes("A zeppelin.") == Counter("?")
    thing = ObjectFacts("circle", "red", "large", (0, 0, 9, 9), 9.0)
    assert attributes(thing) == Counter(("large", "red", "circle"))
    assert attributes(ObjectFacts("dog", None, "large", (0, 0, 9, 9), 9.0)) == Counter(("dog",))


def test_a_model_without_region_encoder_is_not_asked(held_out: list[Sample]) -> None:
    assert all(SKILLS[name].needs == "describe" for name in NAMES)


def test_skills_name_the_region_methods(random_vlm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"describe", "classify", "segment_regions", "segment_like"} <= set(random_vlm.skills)
    monkeypatch.setitem(random_vlm.engine.model.core._modules, "region_encoder", None)
    assert "describe" not in random_vlm.skills
