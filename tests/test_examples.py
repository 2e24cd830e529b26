"""The examples run as a reader would run them, on the embedded model."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

from visionllm_sdk.results import Picture
from visionllm_sdk.scenes import held_out_seeds, render, sample_scene

EXAMPLES = Path(__file__).parents[1] / "examples"
EMBEDDED = Path(__file__).parents[1] / "visionllm_sdk" / "embedded"


def play(name: str, *arguments: str) -> None:
    script = str(EXAMPLES / name)
    before = sys.argv
    sys.argv = [script, *arguments]
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        sys.argv = before


def test_detect_and_draw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    play("detect_and_draw.py")
    assert "dog" in capsys.readouterr().out
    assert (tmp_path / "found.png").stat().st_size > 1000


def test_conversation(capsys: pytest.CaptureFixture[str]) -> None:
    play("conversation.py")
    shown = capsys.readouterr().out
    assert "> And the dog?" in shown
    assert "[detect " in shown


def test_folder_to_coco(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in held_out_seeds(3):
        render(sample_scene(seed)).image.save(tmp_path / f"{seed}.png")
    out = tmp_path / "labels.json"
    play("folder_to_coco.py", str(tmp_path), "Circle, red star,object", str(out))
    assert "3 of 3 images" in capsys.readouterr().out
    coco = json.loads(out.read_text())
    assert len(coco["images"]) == 3
    assert [entry["name"] for entry in coco["categories"]] == ["Circle", "red star", "object"]
    ids = [annotation["id"] for annotation in coco["annotations"]]
    assert ids == list(range(1, len(ids) + 1))
    assert ids


@pytest.mark.parametrize("name", ["folder_to_coco.py", "agents/prelabel_to_coco.py"])
def test_without_arguments_the_usage_is_shown(name: str) -> None:
    with pytest.raises(SystemExit, match=f"python examples/{name} FOLDER"):
        play(name)


@pytest.mark.skipif(
    not json.loads((EMBEDDED / "config.json").read_text()).get("use_sd"),
    reason="the shipped model cannot draw",
)
def test_drawing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    play("drawing.py", str(tmp_path / "drawn.png"))
    shown = capsys.readouterr().out
    assert "drawn: a red circle left of a blue star" in shown
    picture = Picture.from_png((tmp_path / "drawn.png").read_bytes())
    assert picture.seed == 0
