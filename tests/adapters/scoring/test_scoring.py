"""Figures from answers whose quality is known beforehand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from visionllm_adapters.data import DataSet, Exchange, read_data
from visionllm_adapters.reporting.confusion import draw_confusion
from visionllm_adapters.scoring.score import Score
from visionllm_adapters.scoring.skills import caption, detect, ground, pose, vqa
from visionllm_adapters.scoring.words import answer_score, bleu4, caption_f1, rouge_l
from visionllm_sdk.errors import DataError
from visionllm_sdk.results import Answer, Detection, Detections, Grounding, Keypoint, Pose, Poses


class Oracle:
    """Answers from the labels themselves, wrong where it is told to be."""

    def __init__(self, data: DataSet, *, wrong: str = "") -> None:
        self.data = data
        self.wrong = wrong
        config = SimpleNamespace(to_released=lambda: {"gdino_config": {"score_threshold": 0.5}})
        self.engine = SimpleNamespace(model=SimpleNamespace(config=config))

    def _record(self, image: Any) -> Any:
        return next(r for r in self.data.records if r.load().digest == image.digest)

    def detect(self, images: Any, labels: Any, **_: Any) -> list[Detections]:
        return [self._found(self._record(image)) for image in images]

    def _found(self, record: Any) -> Detections:
        found = [
            Detection(
                label="plate" if self.wrong == "label" else thing.label,
                score=0.9,
                box=thing.box.shifted(40, 0) if self.wrong == "box" else thing.box,
                mask=thing.mask,
            )
            for thing in record.things
        ]
        return Detections(width=record.width, height=record.height, detections=tuple(found))

    def ground(self, images: Any, expressions: Any, **_: Any) -> list[Grounding]:
        results = []
        for image, text in zip(images, expressions, strict=True):
            record = self._record(image)
            (meant,) = [one.thing for one in record.references if one.expression == text]
            if self.wrong:
                meant = next(thing for thing in record.things if thing != meant)
            found = Detection(label=text, score=1.0, box=meant.box, mask=meant.mask)
            size = {"width": record.width, "height": record.height}
            results.append(Grounding(**size, detections=(found,), expression=text))
        return results

    def pose(self, images: Any, label: str, names: Any, **_: Any) -> list[Poses]:
        return [self._posed(self._record(image), label, names) for image in images]

    def _posed(self, record: Any, label: str, names: Any) -> Poses:
        """The middle of everything of a class."""
        meant = [thing for thing in record.things if thing.label == label]
        places = [(t, dict(zip("xy", t.box.center, strict=True))) for t in meant]
        poses = tuple(
            Pose(
                label=label,
                score=0.9,
                box=thing.box,
                keypoints=tuple(Keypoint(name=name, score=1.0, **place) for name in names),
            )
            for thing, place in places
        )
        return Poses(width=record.width, height=record.height, poses=poses, label=label, names=tuple(names))

    def ask(self, images: Any, questions: Any, **_: Any) -> list[Answer]:
        return [Answer(text="3" if "How many" in question else "Red.") for question in questions]

    def caption(self, images: Any, **_: Any) -> list[Answer]:
        return [Answer(text="a red cup and a blue plate") for _ in images]


@pytest.fixture
def data(labels: Path) -> DataSet:
    return read_data(labels)


def test_perfect_and_useless_detections(data: DataSet, tmp_path: Path) -> None:
    vlm: Any = Oracle(data)
    score = detect(vlm, data, adapter=None, batch=4)
    assert [score.figures[name] for name in ("ap", "ap50", "mask_ap", "ar")] == [1, 1, 1, 1]
    assert score.value == 1
    assert score.classes["cup"]["ap"] == 1
    assert score.sizes["small"]["ap"] == 1
    assert score.confusion == {"cup": {"cup": 6}, "plate": {"plate": 6}}
    assert set(score.verdicts.values()) == {1.0}
    draw_confusion(score.confusion, tmp_path / "table.png")
    assert (tmp_path / "table.png").stat().st_size > 1000
    score.write(tmp_path / "kept")
    again = Score.read(tmp_path / "kept")
    assert again is not None
    assert again.as_dict() == score.as_dict()
    assert again.drawings.keys() == score.drawings.keys()


def test_wrong_boxes_and_wrong_labels(data: DataSet) -> None:
    moved: Any = Oracle(data, wrong="box")
    assert detect(moved, data, adapter=None, batch=4).figures["ap50"] == 0
    renamed: Any = Oracle(data, wrong="label")
    score = detect(renamed, data, adapter=None, batch=4)
    assert score.classes["cup"]["ap50"] == 0
    assert score.confusion["cup"] == {"plate": 6}


def described_first(data: DataSet) -> DataSet:
    """A set whose first picture is described and no more: nobody says which objects it shows."""
    first, *others = data.records
    return replace(data, records=(replace(first, things=None, captions=("a cup",)), *others))


def test_pictures_of_unknown_objects_do_not_shift_the_others(data: DataSet) -> None:
    known = described_first(data)
    vlm: Any = Oracle(known)
    score = detect(vlm, known, adapter=None, batch=4)
    assert (score.figures["ap"], score.figures["mask_ap"]) == (1, 1)
    assert score.counts["pictures"] == len(data) - 1


def test_poses_are_not_asked_of_pictures_of_unknown_objects(data: DataSet) -> None:
    records = [
        replace(
            record,
            things=tuple(
                replace(thing, keypoints=((*thing.box.center, 2),) if thing.label == "cup" else ())
                for thing in record.learnable
            ),
        )
        for record in data.records
    ]
    known = replace(described_first(replace(data, records=tuple(records))), keypoints={"cup": ("handle",)})
    vlm: Any = Oracle(data)
    score = pose(vlm, known, adapter=None, batch=4)
    assert score.figures["ap"] == 1
    assert score.counts == {"pictures": len(data) - 1, "objects": len(data) - 1}


def test_expressions(data: DataSet) -> None:
    right: Any = Oracle(data)
    score = ground(right, data, adapter=None, batch=4)
    assert score.figures == {"acc50": 1, "ciou": 1, "giou": 1}
    assert score.counts["expressions"] == 12
    other: Any = Oracle(data, wrong="thing")
    assert ground(other, data, adapter=None, batch=4).figures == {"acc50": 0, "ciou": 0, "giou": 0}


def test_questions_and_captions(data: DataSet) -> None:
    exchanges = (Exchange("How many?", ("2",)), Exchange("What colour?", ("the red",)))
    records = tuple(replace(r, exchanges=exchanges, captions=("a blue plate", "cup")) for r in data.records)
    known = replace(data, records=records)
    vlm: Any = Oracle(known)
    score = vqa(vlm, known, adapter=None, batch=5)
    assert score.figures == {"accuracy": 0.5}
    assert score.classes == {"2": {"accuracy": 0.0}, "the red": {"accuracy": 1.0}}
    said = caption(vlm, known, adapter=None, batch=5)
    assert said.figures["f1"] == pytest.approx(2 * 2 / (5 + 2))


def test_data_without_what_a_skill_needs(data: DataSet) -> None:
    vlm: Any = Oracle(data)
    with pytest.raises(DataError, match="no questions"):
        vqa(vlm, data, adapter=None, batch=4)
    with pytest.raises(DataError, match="no captions"):
        caption(vlm, data, adapter=None, batch=4)


def test_words() -> None:
    assert answer_score("The Red.", ["red"]) == 1
    assert answer_score("blue", ["red", "green"]) == 0
    assert answer_score("red", ["red"] * 2 + ["blue"] * 8) == pytest.approx(2 / 3)
    assert caption_f1("a dog", "a dog") == 1
    assert rouge_l("a dog runs", "the dog sleeps and runs") == pytest.approx(2 * 2 / (2 + 4))
    assert bleu4([("one two three four five", ["one two three four five"])]) == pytest.approx(1)
    assert bleu4([("one two three four", ["four three two one"])]) == 0
