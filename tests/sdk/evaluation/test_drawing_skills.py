"""Generation and editing are measured against truth: by a painter that draws exactly what is asked."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from PIL import Image

from visionllm_adapters.recipe.drawing_pictures import scene_of
from visionllm_adapters.recipe.layouts import plan_layout
from visionllm_sdk.evaluation import SKILLS, Sample, run
from visionllm_sdk.evaluation.bars import BARS
from visionllm_sdk.evaluation.skills.drawing import caption_of, edit_of, pooled_psnr
from visionllm_sdk.results import EditedImage, GeneratedImage
from visionllm_sdk.scenes import render
from visionllm_sdk.scenes.captions import caption_text
from visionllm_sdk.scenes.edits import edited

NAMES = ["generation", "editing"]


class Exact:
    """Draws what the samples' captions and edits lead to; or always the same picture."""

    skills = ("generate", "edit")

    def __init__(self, samples: Sequence[Sample], *, blind: bool = False) -> None:
        self._blind = blind
        self._captions = {caption_text(asked): asked for _, asked in map(caption_of, samples)}
        tasks = list(map(edit_of, samples))
        self._edits = {(task.text, render(task.before).image.tobytes()): task for task in tasks}

    def generate(self, prompt: list[str], *, seed: int) -> list[GeneratedImage]:
        return [
            GeneratedImage(width=64, height=64, prompt=text, seed=seed, steps=1, guidance=1.0).with_image(
                self._drawn(text)
            )
            for text in prompt
        ]

    def _drawn(self, text: str) -> Image.Image:
        if self._blind:
            return Image.new("RGB", (64, 64), "gray")
        layout = plan_layout(self._captions[text])
        scenes = (scene_of(layout, seed, (64, 64)) for seed in range(100))
        return next(render(scene).image for scene in scenes if scene is not None)

    def edit(self, image: list[Image.Image], instruction: list[str], *, seed: int) -> list[EditedImage]:
        made = []
        for source, text in zip(image, instruction, strict=True):
            task = self._edits[text, source.tobytes()]
            picture = source if self._blind else render(edited(task.before, task.edit)).image
            record = EditedImage(
                width=64, height=64, prompt=text, seed=seed, steps=1, guidance=1.0, image_guidance=1.0
            )
            made.append(record.with_image(picture))
        return made


def test_exact_pictures_meet_the_bars(held_out: list[Sample]) -> None:
    report = run(Exact(held_out), source=held_out, skills=NAMES, progress=False)  # type: ignore[arg-type]
    assert report.skills["generation"].figures["right"] == 1.0
    assert report.skills["editing"].figures["done"] == 1.0
    assert report.skills["editing"].figures["psnr_inside"] == pytest.approx(60.0)
    assert report.skills["generation"].counts == {"captions": len(held_out)}
    measured = {bar.figure for bar in BARS if bar.skill in NAMES}
    assert {bar.figure for bar in report.bars} == measured


def test_a_gray_picture_is_wrong(held_out: list[Sample]) -> None:
    blind = Exact(held_out, blind=True)
    report = run(blind, source=held_out, skills=NAMES, progress=False)  # type: ignore[arg-type]
    assert report.skills["generation"].figures["right"] == 0.0
    done = report.skills["editing"].figures["done"]
    assert done is not None
    assert done < 0.2
    assert not report.passed
    editing = report.skills["editing"]
    mean = {  # squared errors by kind: those of additions, which are drawn anew, are not in the whole
        kind: (figures["cases"], 10 ** (-figures["psnr_inside"] / 10))
        for kind, figures in editing.slices["kind"].items()
        if figures["psnr_inside"] is not None and figures["cases"] is not None and kind != "add"
    }
    pooled = sum(count * error for count, error in mean.values()) / sum(count for count, _ in mean.values())
    assert editing.figures["psnr_inside"] == pytest.approx(-10 * math.log10(pooled))


def test_captions_and_edits_depend_on_the_sample_alone(held_out: list[Sample]) -> None:
    assert list(map(caption_of, held_out)) == list(map(caption_of, held_out))
    assert list(map(edit_of, held_out)) == list(map(edit_of, held_out))
    for kind, asked in map(caption_of, held_out):
        assert kind != "two objects" or asked.relations


def test_models_that_cannot_draw_are_not_asked_to() -> None:
    assert [name for name, skill in SKILLS.items() if skill.needs in ("generate", "edit")] == NAMES


def test_pooled_psnr() -> None:
    assert pooled_psnr([]) is None
    assert pooled_psnr([30.0, 30.0]) == pytest.approx(30.0)
    assert pooled_psnr([math.inf, 20.0]) == pytest.approx(23.01, abs=0.01)
