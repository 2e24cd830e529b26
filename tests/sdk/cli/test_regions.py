"""`visionllm describe` and `classify`, and `--region` of `segment` and `ask`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visionllm_sdk.cli.entry import run
from visionllm_sdk.results import Answer, Box, Detections, Mask, Point, RegionDescription, revive

Captured = pytest.CaptureFixture[str]


def test_classify(scene: str, tmp_path: Path, capsys: Captured) -> None:
    pixels = np.zeros((40, 60), dtype=np.uint8)
    pixels[:20] = 255
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    save = tmp_path / "out" / "marked.png"
    words = ["classify", scene, "-r", "box:1,2,30,20", "--region", "point:60,40", "-r"]
    words += [f"mask:{tmp_path / 'mask.png'}", "--labels", "star, dog", "--save", str(save)]
    assert run([*words, "--json"]) == 0
    found = revive(json.loads(capsys.readouterr().out))
    assert [one.region for one in found] == [Box(1, 2, 30, 20), Point(60, 40), Mask.from_numpy(pixels)]
    assert {one.label for one in found} <= {"star", "dog"}
    with Image.open(save) as picture:
        assert picture.size == (60, 40)


def test_describe_prints_a_table(scene: str, capsys: Captured) -> None:
    assert run(["classify", scene, "-r", "scribble:1,1;20,20;5,9", "-l", "star"]) == 0
    shown = capsys.readouterr().out
    assert "scribble of 3 points" in shown
    assert "star (1.00)" in shown


def test_describe(scene: str, capsys: Captured) -> None:
    assert run(["describe", scene, "-r", "point:5,5", "-r", "box:1,2,30,20", "--json"]) == 0
    found = revive(json.loads(capsys.readouterr().out))
    assert [type(one) for one in found] == [RegionDescription] * 2
    assert [one.region for one in found] == [Point(5, 5), Box(1, 2, 30, 20)]


def test_segment_regions(scene: str, tmp_path: Path, capsys: Captured) -> None:
    save = tmp_path / "outline.png"
    assert run(["segment", scene, "-r", "point:5,5", "-r", "point:50,30", "--json", "--save", str(save)]) == 0
    found = revive(json.loads(capsys.readouterr().out))
    assert isinstance(found, Detections)
    assert [one.region for one in found] == [0, 1]
    assert save.is_file()


@pytest.mark.parametrize("words", [[], ["-l", "star", "-r", "point:5,5"]])
def test_segment_needs_labels_or_regions(scene: str, words: list[str], capsys: Captured) -> None:
    assert run(["segment", scene, *words]) == 2
    assert "segment needs either labels or regions" in capsys.readouterr().err


def test_ask_about_regions(scene: str, capsys: Captured) -> None:
    assert run(["ask", scene, "What is <region>?", "--region", "point:5,5", "--json"]) == 0
    assert isinstance(revive(json.loads(capsys.readouterr().out)), Answer)


def test_of_many_images_the_one_that_a_region_does_not_fit_is_named(
    scene: str, tmp_path: Path, capsys: Captured
) -> None:
    small = tmp_path / "small.png"
    Image.new("RGB", (8, 8)).save(small)
    words = ["segment", *[scene] * 16, str(small), "-r", "point:20,20", "--model", "nowhere"]
    assert run(words) == 2
    assert f"{small}: region 0: the point lies outside the image" in capsys.readouterr().err


def test_a_region_of_a_question_is_checked_before_the_model_is_loaded(scene: str, capsys: Captured) -> None:
    assert run(["ask", scene, "What is <region>?", "-r", "point:99,1", "--model", "nowhere"]) == 2
    assert "region 0: the point lies outside the image" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Missing option '--region'"),
        (["-r", "circle:1,2"], "region 0: this is not a region prompt"),
        (["-r", "point:1,1", "-r", "box:1,2,3"], "region 1: a region prompt has the wrong numbers"),
        (["-r", "point:100,1"], "region 0: the point lies outside the image"),
        (["-r", "mask:nowhere.png"], "the image file does not exist"),
    ],
)
def test_bad_regions(scene: str, words: list[str], message: str, capsys: Captured) -> None:
    assert run(["describe", scene, *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
