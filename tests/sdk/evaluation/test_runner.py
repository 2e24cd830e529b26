from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from visionllm_sdk.errors import DataError, InputError
from visionllm_sdk.evaluation import BARS, SKILLS, Bar, EvaluationReport, Sample, held_out_samples, run
from visionllm_sdk.evaluation.bars import judge, lookup
from visionllm_sdk.evaluation.gallery import Gallery, sheet
from visionllm_sdk.evaluation.report import SkillReport
from visionllm_sdk.scenes import HELD_OUT_SEEDS

if TYPE_CHECKING:
    from visionllm_sdk import VisionLLM

Make = Callable[..., Any]
EVERYWHERE = [name for name, skill in SKILLS.items() if skill.needs is None]
"""Skills that are measured whatever the model has."""


@pytest.fixture(scope="module")
def report(oracle: Make, held_out: list[Sample]) -> EvaluationReport:
    return run(oracle(lambda n: n % 3 == 1), source=held_out, batch=4, progress=False)


class TestRun:
    def test_measures_every_skill(self, report: EvaluationReport) -> None:
        assert list(report.skills) == EVERYWHERE
        assert report.scenes == 12
        assert not report.passed

    def test_perfect_model_meets_every_bar(self, oracle: Make, held_out: list[Sample]) -> None:
        report = run(oracle(), source=held_out, progress=False)
        assert report.failed() == []
        assert report.passed
        assert len(report.bars) == sum(bar.skill in EVERYWHERE for bar in BARS)

    @pytest.mark.parametrize("skill", ["grounding", "vqa", "caption"])
    def test_batches_change_nothing_and_are_no_larger_than_asked(
        self, oracle: Make, held_out: list[Sample], skill: str
    ) -> None:
        figures = []
        for size in (3, 12):
            model = oracle()
            report = run(model, source=held_out, batch=size, skills=[skill], progress=False)
            figures.append((report.skills[skill].counts, report.skills[skill].figures))
            assert model.largest == size
        assert figures[0] == figures[1]

    @pytest.mark.parametrize("start", [0, 2])
    def test_held_out_scenes_are_the_default(self, start: int) -> None:
        (first,) = held_out_samples(1, start=start)
        assert first.key == str(HELD_OUT_SEEDS.start + start)
        seen: list[Any] = []

        class Watching:
            def caption(self, image: Any) -> Any:
                seen.extend(image)
                raise StopAsking

        class StopAsking(Exception):
            pass

        with pytest.raises(StopAsking):
            run(Watching(), scenes=1, start=start, skills=["caption"], progress=False)  # type: ignore[arg-type]
        assert np.array_equal(np.asarray(seen[0]), np.asarray(first.image))

    def test_triples_of_any_source(self, oracle: Make, held_out: list[Sample]) -> None:
        triples = ((s.image, s.facts, s.masks) for s in held_out)
        report = run(oracle(), scenes=3, skills=["segmentation"], source=triples, progress=False)
        assert report.scenes == 3
        assert report.source == "given scenes"
        assert report.skills["segmentation"].figures["miou"] == 1.0

    def test_takes_only_the_skills_named(self, oracle: Make, held_out: list[Sample]) -> None:
        model = oracle()
        report = run(model, skills=["caption", "counting"], source=held_out, progress=False)
        assert list(report.skills) == ["counting", "caption"]
        assert {bar.skill for bar in report.bars} == {"counting", "caption"}

    @pytest.mark.parametrize("names", [["telepathy"], []])
    def test_unknown_skills_are_refused(self, oracle: Make, names: list[str]) -> None:
        with pytest.raises(InputError, match="detection"):
            run(oracle(), skills=names, progress=False)

    def test_no_scene_is_refused(self, oracle: Make) -> None:
        with pytest.raises(InputError, match="no scene"):
            run(oracle(), source=[], progress=False)

    def test_empty_batches_are_refused(self, oracle: Make, held_out: list[Sample]) -> None:
        with pytest.raises(InputError, match="batch"):
            run(oracle(), source=held_out, batch=0, progress=False)


def test_the_real_model_with_random_weights(random_vlm: VisionLLM, held_out: list[Sample]) -> None:
    skills = ["detection", "segmentation", "grounding", "counting"]  # words of a random model never end
    report = run(random_vlm, scenes=2, skills=skills, source=held_out, progress=False)
    assert list(report.skills) == skills
    assert not report.passed
    assert report.skills["detection"].figures["mask_ap"] < 0.5  # type: ignore[operator]
    for skill in skills:
        main = next(bar for bar in report.bars if bar.skill == skill)
        assert main.value is not None
        assert 0 <= main.value < 0.9


def test_a_sample_whose_parts_do_not_fit_is_refused(held_out: list[Sample]) -> None:
    sample = held_out[0]
    with pytest.raises(DataError, match="sample 7"):
        Sample("7", sample.image, sample.facts, sample.masks[:, :-1])


class TestReport:
    def test_json_round_trip(self, report: EvaluationReport) -> None:
        read = EvaluationReport.model_validate_json(report.model_dump_json())
        assert read.model_dump() == report.model_dump()

    def test_files(self, oracle: Make, held_out: list[Sample], tmp_path: Path) -> None:
        folder = tmp_path / "new" / "folder"
        report = run(oracle(), source=held_out, skills=["vqa"], out=folder, progress=False)
        data = json.loads((folder / "report.json").read_text())
        assert data["skills"]["vqa"]["figures"]["accuracy"] == 1.0
        assert report.sheet() is not None
        with Image.open(folder / "sheet.png") as drawn:
            assert np.array_equal(np.asarray(drawn), np.asarray(report.sheet()))

    def test_tables_show_figures_bars_and_slices(self, report: EvaluationReport) -> None:
        console = Console(width=140, record=True, file=io.StringIO())
        console.print(report)
        text = console.export_text()
        for words in (
            "box_ap50",
            ">= 0.97",
            "missed",
            "counting by count",
            "wanted",
            "bars missed",
            "12 scenes",
        ):
            assert words in text


class TestBars:
    def test_limits_include_their_value(self) -> None:
        skill = SkillReport(figures={"good": 0.9, "bad": 0.02})
        assert Bar("s", "good", at_least=0.9).judge(skill).passed
        assert Bar("s", "bad", at_most=0.02).judge(skill).passed
        assert not Bar("s", "good", at_least=0.91).judge(skill).passed
        assert not Bar("s", "bad", at_most=0.01).judge(skill).passed

    def test_what_was_not_measured_does_not_pass(self) -> None:
        result = Bar("s", "absent", at_least=0.0).judge(SkillReport(figures={}))
        assert (result.value, result.passed) == (None, False)

    def test_parts_of_slices(self) -> None:
        skill = SkillReport(figures={}, slices={"kind": {"count": {"accuracy": 0.7}}})
        assert lookup(skill, "kind.count.accuracy") == 0.7
        assert lookup(skill, "kind.colour.accuracy") is None

    def test_only_measured_skills_are_judged(self) -> None:
        assert {bar.skill for bar in judge({"caption": SkillReport(figures={"f1": 1.0})})} == {"caption"}

    def test_eased(self) -> None:
        assert Bar("s", "f", at_least=0.9).eased(0.05).at_least == pytest.approx(0.85)
        assert Bar("s", "f", at_most=0.02).eased(0.05).at_most == pytest.approx(0.07)

    def test_every_bar_names_a_figure_that_is_measured(self, report: EvaluationReport) -> None:
        assert [bar.figure for bar in report.bars if bar.value is None] == []


class TestGallery:
    def test_keeps_a_few_of_each_outcome(self) -> None:
        gallery = Gallery(successes=2, failures=3)
        for number in range(10):
            gallery.add(number % 2 == 0, Image.new("RGB", (40, 40)), str(number))
        assert [example.text for example in gallery.examples] == ["0", "1", "2", "3", "5"]
        assert not gallery.wants(True)
        assert not gallery.wants(False)

    def test_no_kind_of_request_takes_all_the_room(self) -> None:
        gallery = Gallery(failures=3, per_kind=2)
        for text in ("count 1", "count 2", "count 3", "colour 1"):
            gallery.add(False, Image.new("RGB", (40, 40)), text, text.split()[0])
        assert [example.text for example in gallery.examples] == ["count 1", "count 2", "colour 1"]
        assert not gallery.wants(False, "shape")
        assert gallery.wants(True, "count")

    def test_sheet_frames_failures_red_and_successes_green(self) -> None:
        gallery = Gallery()
        gallery.add(True, Image.new("RGB", (400, 200), (0, 0, 255)), "right " * 60)
        gallery.add(False, Image.new("RGB", (30, 60), (0, 0, 255)), "wrong")
        drawn = sheet({"vqa": gallery, "empty": Gallery()}, columns=2)
        assert drawn is not None
        pixels = np.asarray(drawn).reshape(-1, 3).tolist()
        assert [214, 40, 57] in pixels
        assert [0, 150, 90] in pixels
        assert pixels.index([214, 40, 57]) < pixels.index([0, 150, 90])  # failures first
        assert drawn.width > drawn.height

    def test_no_example_no_sheet(self) -> None:
        assert sheet({"vqa": Gallery()}) is None
