"""The commands that make pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from visionllm_sdk.cli.draw import parse_size
from visionllm_sdk.cli.entry import run
from visionllm_sdk.errors import InputError
from visionllm_sdk.results import GeneratedImage


def test_generate_writes_pictures_with_what_made_them(
    drawing_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "new" / "ring.png"
    line = [
        "generate",
        "a ring",
        "-n",
        "2",
        "--seed",
        "4",
        "--size",
        "48x32",
        "--save",
        str(target),
        "--json",
    ]
    assert run([*line, "--model", str(drawing_checkpoint)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [Path(one["path"]).name for one in told] == ["ring_000.png", "ring_001.png"]
    assert [one["seed"] for one in told] == [4, 5]
    again = GeneratedImage.from_png(Path(told[1]["path"]).read_bytes())
    assert (again.prompt, again.seed, again.image.size) == ("a ring", 5, (48, 32))


def test_edit_keeps_the_size_and_can_leave_out_the_record(
    drawing_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "source.png", tmp_path / "edited [red].png"
    Image.new("RGB", (50, 40), "red").save(source)
    line = ["edit", str(source), "make it blue", "--save", str(target), "--no-metadata", "--seed", "1"]
    assert run([*line, "--model", str(drawing_checkpoint)]) == 0
    with Image.open(target) as picture:
        assert picture.size == (50, 40)
    assert b"make it blue" not in target.read_bytes()
    assert "edited [red].png (seed 1)" in capsys.readouterr().err


def test_targets_are_checked_before_the_model_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", "a ring", "--save", "ring.txt", "--model", "/nowhere"]) != 0
    assert "format is unknown" in capsys.readouterr().err


def test_sizes() -> None:
    assert parse_size("96x64") == (96, 64)
    assert parse_size(" 64 ") == (64, 64)
    for text in ("", "x", "64x", "-1", "64x64x64", "big"):
        with pytest.raises(InputError, match="not a size"):
            parse_size(text)
