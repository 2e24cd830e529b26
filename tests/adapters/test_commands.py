"""The commands: what they print, and with which code they leave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from visionllm_sdk import VisionLLM
from visionllm_sdk.cli.entry import FAILED, OK, USAGE, run
from visionllm_sdk.evaluation import adapted
from visionllm_sdk.evaluation import run as measure
from visionllm_sdk.skills.engine import Engine


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


def test_scenes_are_measured_with_an_adapter(
    tiny_checkpoint: Path, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", "-n", "2", "--skill", "grounding", "--json", "--model", str(tiny_checkpoint)]
    used: list[dict[str, float]] = []
    for more in ([], ["--adapter", str(adapter)]):
        run([*command, *more, "--out", str(tmp_path)])  # bars are missed: random weights
        used.append(json.loads(capsys.readouterr().out)["skills"]["grounding"]["figures"])
    vlm = VisionLLM.from_pretrained(tiny_checkpoint)
    report = measure(adapted(vlm, vlm.load_adapter(adapter)), scenes=2, skills=("grounding",), progress=False)
    assert used[1] == pytest.approx(report.skills["grounding"].figures)
    assert used[0] != used[1]


def test_evaluate_needs_data_for_pictures(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", "--images", str(tmp_path), "--model", str(tiny_checkpoint)]) == USAGE
    assert "needs DATA" in capsys.readouterr().err


def test_requests_answer_with_an_adapter(
    tiny_checkpoint: Path, adapter: Path, labels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = str(labels.parent / "0.png")
    command = ["detect", picture, "-l", "cup,plate", "-t", "0", "--json", "--model", str(tiny_checkpoint)]
    said = {}
    for name, more in {"without": [], "with": ["--adapter", str(adapter)]}.items():
        assert run([*command, *more]) == OK
        said[name] = json.loads(capsys.readouterr().out)
    vlm = VisionLLM.from_pretrained(tiny_checkpoint)
    name = vlm.load_adapter(adapter)
    found = vlm.detect(picture, ["cup", "plate"], threshold=0.0, adapter=name)
    assert said["with"] == found.model_dump(mode="json")
    assert said["without"] == vlm.detect(picture, ["cup", "plate"], threshold=0.0).model_dump(mode="json")
    assert said["with"] != said["without"]


@pytest.mark.parametrize(
    "words",
    [
        ["ground", "{}", "the cup"],
        ["count", "{}", "cup"],
        ["segment", "{}", "-l", "cup"],
        ["ask", "{}", "what is it?"],
        ["caption", "{}"],
        ["chat", "Find the cup", "--image", "{}"],
    ],
    ids=lambda words: str(words[0]),
)
def test_every_request_takes_an_adapter(
    words: list[str], tiny_checkpoint: Path, adapter: Path, labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[str | None] = []
    using = Engine.using
    monkeypatch.setattr(Engine, "using", lambda own, name: used.append(name) or using(own, name))
    command = [word.format(labels.parent / "0.png") for word in words]
    assert run([*command, "--adapter", str(adapter), "--model", str(tiny_checkpoint), "--json"]) == OK
    assert set(used) == {"kitchen"}


def test_an_unknown_adapter_is_refused(
    tiny_checkpoint: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["caption", str(labels.parent / "0.png"), "--model", str(tiny_checkpoint)]
    assert run([*command, "--adapter", str(tmp_path / "nowhere")]) == USAGE
    assert "nowhere" in capsys.readouterr().err
