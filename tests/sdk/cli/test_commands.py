"""The command line, run in process on a model with random weights."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from visionllm_sdk.cli.entry import main, run
from visionllm_sdk.cli.show import print_json
from visionllm_sdk.results import Answer, Count, Detections, Grounding, Reply, SemanticMap, revive

Captured = pytest.CaptureFixture[str]


def test_help_is_instant() -> None:
    code = (
        "import sys\n"
        "from visionllm_sdk.cli.entry import run\n"
        "assert run(['--help']) == 0\n"
        "assert run(['detect', '--help']) == 0\n"
        "heavy = {'torch', 'transformers', 'langchain_core', 'scipy', 'httpx'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in (
        "demo",
        "chat",
        "detect",
        "segment",
        "ground",
        "ask",
        "count",
        "caption",
        "evaluate",
        "info",
        "pose",
        "generate",
        "edit",
        "describe",
        "classify",
        "convert",
    ):
        assert command in done.stdout
    assert "Examples" in done.stdout


def test_detect_prints_one_json_object(scene: str, capsys: Captured) -> None:
    assert run(["detect", scene, "--labels", "red circle, star", "--threshold", "0", "--json"]) == 0
    found = revive(json.loads(capsys.readouterr().out))
    assert isinstance(found, Detections)
    assert (found.width, found.height) == (60, 40)
    assert found.labels == ("red circle", "star")
    assert found[0].mask is not None


def test_detect_for_people(scene: str, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "new" / "found.png"
    arguments = ["detect", scene, "-l", "star", "-t", "0", "--no-masks", "--save", str(out)]
    assert run(arguments) == 0
    shown = capsys.readouterr().out
    assert "score" in shown
    assert "star" in shown
    with Image.open(out) as drawn:
        assert drawn.size == (60, 40)
    assert run(["detect", scene, "-l", "star", "-t", "1"]) == 0
    assert "Nothing found of: star" in capsys.readouterr().out


def test_several_images(scene: str, tmp_path: Path, capsys: Captured) -> None:
    folder = tmp_path / "drawn"
    assert run(["detect", scene, scene, "-l", "star", "--json", "--save", str(folder)]) == 0
    assert len(revive(json.loads(capsys.readouterr().out))) == 2
    assert sorted(path.name for path in folder.iterdir()) == ["000_scene.png", "001_scene.png"]


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (["segment", "SCENE", "--labels", "star,ring"], SemanticMap),
        (["ground", "SCENE", "the star"], Grounding),
        (["count", "SCENE", "star"], Count),
        (["ask", "SCENE", "How many?"], Answer),
        (["caption", "SCENE"], Answer),
        (["chat", "Hello", "--image", "SCENE"], Reply),
    ],
)
def test_every_skill(arguments: list[str], kind: type[object], scene: str, capsys: Captured) -> None:
    given = [scene if argument == "SCENE" else argument for argument in arguments]
    assert run([*given, "--json"]) == 0
    assert isinstance(revive(json.loads(capsys.readouterr().out)), kind)
    assert run(given) == 0
    assert capsys.readouterr().out.strip()


def test_an_image_from_standard_input(scene: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    data = Path(scene).read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert run(["count", "-", "star", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["width"] == 60


def test_a_conversation(scene: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    lines = [
        "Hello",
        "",
        f"/image {scene}",
        "What is it?",
        "/image nowhere.png",
        "/fly",
        "/new",
        "Hi",
        "/quit",
    ]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines) + "\n"))
    assert run(["chat"]) == 0
    shown = capsys.readouterr()
    assert shown.out.count("> ") >= len(lines)
    assert "the image file does not exist" in shown.err
    assert "unknown command" in shown.err
    monkeypatch.setattr(sys, "stdin", io.StringIO("Hello\n"))  # ends without /quit
    assert run(["chat", "-i", scene]) == 0


def test_info(capsys: Captured, random_checkpoint: Path) -> None:
    assert run(["info", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["checkpoint"] == str(random_checkpoint)
    (detect,) = [tool for tool in found["tools"] if tool["name"] == "detect"]
    assert set(detect["tokens"]) == {"[DET]", "[GRD]", "[SEG]"}
    assert run(["info"]) == 0
    assert "[DET]" in capsys.readouterr().out


def test_evaluate(capsys: Captured, tmp_path: Path) -> None:
    arguments = ["evaluate", "--scenes", "1", "--skill", "counting", "--out", str(tmp_path / "report")]
    assert run([*arguments, "--json"]) == 1  # random weights reach no bar
    shown = json.loads(capsys.readouterr().out)
    assert (shown["scenes"], shown["source"]) == (1, "held-out scenes")
    assert (tmp_path / "report" / "report.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["detect", "nowhere.png", "-l", "star"], "does not exist"),
        (["detect", "SCENE", "-l", " , "], "no label"),
        (["detect", "SCENE", "-l", "star", "-t", "2"], "threshold"),
        (["detect", "SCENE", "-l", "star", "-m", "no-such-model"], "no such checkpoint"),
        (["detect", "SCENE", "-l", "star", "-d", "toaster"], "device"),
        (["detect", "SCENE", "-l", "star", "-s", "found.xyz"], "format is unknown"),
        (["detect", "http://localhost/a.png", "-l", "star"], "URLs are not fetched"),
        (["ask", "SCENE", ""], "empty"),
        (["chat", "--json"], "--json needs a message"),
        (["demo", "--save", "SCENE"], "a folder is needed here"),
        (["evaluate", "--out", "SCENE"], "a folder is needed here"),
        (["evaluate", "--skill", "flying"], "unknown skill"),
        (["evaluate", "--images", "."], "--images needs DATA"),
        (["evaluate", "--split", "val"], "--split needs DATA"),
        (["evaluate", "--skip-faulty"], "--skip-faulty needs DATA"),
        (["evaluate", "data.json", "--scenes", "500"], "--scenes is about scenes, and DATA is measured"),
        (["evaluate", "data.json", "--start", "0"], "--start is about scenes, and DATA is measured"),
        (["info", "-m", "no-such-model"], "no such checkpoint"),
        (["fly"], "No such command"),
        (["detect"], "Missing argument"),
        (["count", "SCENE"], "Missing argument"),
        (["detect", "SCENE", "-l", "star", "-t", "high"], "Invalid value"),
    ],
)
def test_faults_are_one_message(
    arguments: list[str], message: str, scene: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert run([scene if argument == "SCENE" else argument for argument in arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in " ".join(shown.err.split())
    assert "Traceback" not in shown.err


def narrow_output(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    """What reaches a standard output that knows only Western letters, from now on."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="cp1252", write_through=True))
    return written


@pytest.mark.parametrize(
    ("text", "written"),
    [("звезда 😀 é", rb'"\u0437\u0432\u0435\u0437\u0434\u0430 \ud83d\ude00 \u00e9"'), ("é", b'"\xe9"')],
)
def test_json_is_escaped_where_it_must_be(text: str, written: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    found = narrow_output(monkeypatch)
    print_json(text)
    assert found.getvalue() == written + b"\n"
    assert json.loads(found.getvalue().decode("cp1252")) == text


def test_people_on_an_output_of_few_letters(
    random_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "é звезда").symlink_to(random_checkpoint)
    found = narrow_output(monkeypatch)
    with pytest.raises(SystemExit, match="0"):
        main(["info", "--model", str(tmp_path / "é звезда")])
    assert r"é \u0437\u0432\u0435\u0437\u0434\u0430" in found.getvalue().decode("cp1252")


def test_debug_shows_where(capsys: Captured) -> None:
    assert run(["detect", "nowhere.png", "-l", "star", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_own_faults(monkeypatch: pytest.MonkeyPatch, scene: str, capsys: Captured) -> None:
    from visionllm_sdk import VisionLLM

    def crash(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(VisionLLM, "caption", crash)
    assert run(["caption", scene]) == 1
    assert "Internal error (ZeroDivisionError)" in capsys.readouterr().err

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(VisionLLM, "caption", interrupt)
    assert run(["caption", scene]) == 130


def test_demo(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    from visionllm_sdk import demo

    monkeypatch.setattr(demo, "REQUESTS", demo.REQUESTS[:2])
    assert run(["demo", "--save", str(tmp_path / "out"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert len(report["steps"]) == 2
    assert isinstance(revive(report["steps"][0]["reply"]), Reply)
    assert all(Path(path).stat().st_size > 0 for path in report["files"])
    assert run(["demo", "--save", str(tmp_path / "out")]) == 0
    assert "request" in capsys.readouterr().out
