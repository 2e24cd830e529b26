"""The commands: what they print, and with which code they leave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from visionllm_sdk.cli.entry import FAILED, OK, USAGE, run


def test_check(labels: Path, val_labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["data", "check", str(labels), "--val", str(val_labels), "--out", str(tmp_path), "--json"]
    assert run(command) == OK
    report = json.loads(capsys.readouterr().out)
    assert report["passed"]
    assert report["classes"] == {"cup": 6, "plate": 6}
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    assert json.loads((tmp_path / "data.json").read_text()) == report


def test_check_of_faulty_data(labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads(labels.read_text())
    content["annotations"][0]["bbox"] = [90, 1, 50, 5]
    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps(content))
    assert run(["data", "check", str(broken), "--images", str(labels.parent)]) == FAILED
    shown = capsys.readouterr().out
    assert "annotation 1 (image 0): box outside" in shown
    assert "1 faulty item(s)" in shown


def test_finetune_and_evaluate(
    tiny_checkpoint: Path,
    labels: Path,
    val_labels: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "adapter"
    model = ["--model", str(tiny_checkpoint)]
    command = ["finetune", str(labels), "--val", str(val_labels), "--output", str(out), "--skill", "detect"]
    quick = ["--steps", "1", "--batch", "2", "--preset", "light", "--replay", "0", "--json"]
    assert run([*command, *quick, *model]) == OK
    report = json.loads(capsys.readouterr().out)
    assert report["progress"]["step"] == 1
    measure = ["evaluate", str(val_labels), "--skill", "detect", "--adapter", str(out), "--json", *model]
    assert run([*measure, "--out", str(tmp_path / "measured")]) == OK
    figures = json.loads(capsys.readouterr().out)
    assert figures["ap"] == pytest.approx(report["skills"]["detect"]["after"]["ap"])
    assert (tmp_path / "measured" / "detect.json").is_file()
    assert run([*command, *quick, *model]) == USAGE
    assert "exists already" in capsys.readouterr().err


def test_evaluate_needs_data_for_an_adapter(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", "--adapter", str(tmp_path), "--model", str(tiny_checkpoint)]) == USAGE
    assert "need DATA" in capsys.readouterr().err
