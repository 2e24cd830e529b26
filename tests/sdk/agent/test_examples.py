"""The agents of the examples run as a reader would run them, on the embedded model."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visionllm_sdk.scenes import held_out_seeds, render, sample_scene

EXAMPLES = Path(__file__).parents[3] / "examples" / "agents"

pytestmark = pytest.mark.quality


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> object:
    """Runs an example in an empty folder, and returns what it prints."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, *arguments: str) -> str:
        script = str(EXAMPLES / name)
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        runpy.run_path(script, run_name="__main__")
        return capsys.readouterr().out

    return run


def test_inspection_report(play: object, tmp_path: Path) -> None:
    assert "report.md" in play("inspection_report.py")  # type: ignore[operator]
    report = (tmp_path / "report" / "report.md").read_text()
    assert report.count("## ") == 4
    assert "![heart](crop_0.png)" in report
    assert (tmp_path / "report" / "crop_0.png").exists()
    assert (tmp_path / "report" / "overview.png").exists()


def test_count_and_crop(play: object, tmp_path: Path) -> None:
    shown = play("count_and_crop.py")  # type: ignore[operator]
    pieces = sorted((tmp_path / "pieces").glob("[0-9]*.png"))
    assert (tmp_path / "pieces" / "sheet.png").exists()
    assert f"{len(pieces)} pieces" in shown
    alpha = np.asarray(Image.open(pieces[0]))[..., 3]
    assert 0.2 < (alpha > 0).mean() < 1


def test_privacy_blur(play: object, tmp_path: Path) -> None:
    shown = play("privacy_blur.py")  # type: ignore[operator]
    assert "% of the picture is blurred" in shown
    assert "0.0%" not in shown
    assert (tmp_path / "blurred.png").exists()


def test_prelabel_to_coco(play: object, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed, ending in zip(held_out_seeds(3), ("png", "JPG", "jpeg"), strict=True):
        render(sample_scene(seed)).image.save(folder / f"{seed}.{ending}")
    shown = play("prelabel_to_coco.py", str(folder), "Circles, star, square")  # type: ignore[operator]
    coco = json.loads((tmp_path / "labels.json").read_text())
    assert f"{len(coco['annotations'])} objects in 3 pictures" in shown
    assert [one["name"] for one in coco["categories"]] == ["Circles", "star", "square"]
    assert 1 in {one["category_id"] for one in coco["annotations"]}
    assert [one["id"] for one in coco["annotations"]] == list(range(1, len(coco["annotations"]) + 1))


def test_two_models(play: object) -> None:
    shown = play("two_models.py")  # type: ignore[operator]
    assert "count: Count\nground: Grounding\ncaption: Answer\n" in shown
    assert "- caption: " in shown


@pytest.mark.parametrize("verdict", ["approve", "reject"])
def test_human_approval(play: object, verdict: str) -> None:
    shown = play("human_approval.py", verdict)  # type: ignore[operator]
    assert f"You say: {verdict}" in shown
    assert ("found" in shown) is (verdict == "approve")
    assert ("Not on Sundays." in shown) is (verdict == "reject")


@pytest.mark.timeout(200)
def test_resume_after_kill(play: object) -> None:
    shown = play("resume_after_kill.py")  # type: ignore[operator]
    assert "ended with -9" in shown
    assert "The second one finished: I found" in shown
    assert "(1 result)" in shown
