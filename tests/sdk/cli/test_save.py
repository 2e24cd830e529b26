"""`--save`: where pictures may go, and which ones `chat` writes."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visionllm_sdk.cli import calls, show
from visionllm_sdk.cli.entry import run
from visionllm_sdk.errors import InputError
from visionllm_sdk.results import (
    Box,
    Detection,
    Detections,
    EditedImage,
    GeneratedImage,
    Picture,
    Reply,
    Result,
    RoutedCall,
)
from visionllm_sdk.skills.arguments import ImageRules
from visionllm_sdk.skills.history import History, conversation

Captured = pytest.CaptureFixture[str]

MADE: dict[str, Any] = {"seed": 1, "steps": 2, "guidance": 3.0}


class Talker:
    """Draws, edits, finds or speaks, as a message begins, about the image that a model would look at."""

    rules = ImageRules()

    def __init__(self) -> None:
        self.results: list[Result] = []

    def chat(self, text: str, *, images: Any, history: History = (), adapter: None) -> Reply:
        seen = conversation(text, images, history, self.rules).image
        size = (seen.width, seen.height) if seen else (0, 0)
        done: Result
        if text.startswith("generate"):
            picture = GeneratedImage(width=32, height=16, prompt=text, **MADE)
            done = picture.with_image(Image.new("RGB", (32, 16), "red"))
        elif text.startswith("make"):
            edited = EditedImage(width=size[0], height=size[1], prompt=text, image_guidance=1.0, **MADE)
            done = edited.with_image(Image.new("RGB", size, "green"))
        elif text.startswith("find"):
            star = Detection("star", 0.5, Box(2, 2, 12, 12))
            done = Detections(width=size[0], height=size[1], detections=(star,))
        else:
            return Reply(text="Nothing.")
        self.results.append(done)
        return Reply(text="Done.", calls=(RoutedCall(token="[X]", tool="x", probability=1.0, result=done),))


@pytest.fixture
def talker(monkeypatch: pytest.MonkeyPatch) -> Talker:
    """The model of `chat`."""
    model = Talker()
    monkeypatch.setattr(calls, "load_model", lambda *_: model)
    return model


def talk(monkeypatch: pytest.MonkeyPatch, lines: list[str], *options: str) -> int:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines) + "\n"))
    return run(["chat", *options])


def pixels(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_chat_writes_the_picture_that_it_made(scene: str, tmp_path: Path, talker: Talker) -> None:
    out = tmp_path / "new" / "out.png"
    assert run(["chat", "make it green", "-i", scene, "--save", str(out)]) == 0
    (edited,) = talker.results
    assert isinstance(edited, EditedImage)
    assert (pixels(out) == np.asarray(edited.image)).all()
    assert EditedImage.from_png(out.read_bytes()).prompt == "make it green"


def test_a_picture_is_written_where_no_image_was_given(
    tmp_path: Path, talker: Talker, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    out = tmp_path / "out.png"
    assert run(["chat", "generate a ring", "--save", str(out)]) == 0
    first, *_ = talker.results
    assert isinstance(first, Picture)
    assert (pixels(out) == np.asarray(first.image)).all()
    out.unlink()
    assert talk(monkeypatch, ["what is it?", "generate a ring"], "--save", str(out)) == 0
    assert pixels(out).shape == (16, 32, 3)
    assert "Error" not in capsys.readouterr().err
    out.unlink()
    assert run(["chat", "what is it?", "--save", str(out)]) == 2
    said = capsys.readouterr()
    assert "Nothing." in said.out
    assert "there is no picture to write" in said.err


def test_a_conversation_draws_on_what_the_model_looks_at(
    scene: str, tmp_path: Path, talker: Talker, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    out, options = tmp_path / "out.png", ["-i", scene, "--save", str(tmp_path / "out.png")]
    assert talk(monkeypatch, ["generate a ring", "find the star", "what is it?"], *options) == 0
    made, found = talker.results
    assert isinstance(made, Picture)
    assert isinstance(found, Detections)
    assert (pixels(out) == np.asarray(found.draw(made.image))).all()
    # An edit is as large as what it changes: only its pixels tell on what was drawn.
    assert talk(monkeypatch, ["make it green", "find the star"], *options) == 0
    edited, found = talker.results[2:]
    assert isinstance(edited, Picture)
    assert isinstance(found, Detections)
    assert (pixels(out) == np.asarray(found.draw(edited.image))).all()
    # An image that is added comes after the picture.
    assert talk(monkeypatch, ["generate a ring", f"/image {scene}", "find the star"], *options) == 0
    assert pixels(out).shape == (40, 60, 3)
    assert "Error" not in capsys.readouterr().err


def test_a_failed_save_does_not_end_the_conversation(
    scene: str, tmp_path: Path, talker: Talker, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr(GeneratedImage, "save", lambda *_: (tmp_path / "nowhere").read_bytes())
    lines = ["generate a ring", "make it green"]
    assert talk(monkeypatch, lines, "-i", scene, "--save", str(tmp_path / "out.png")) == 0
    assert "No such file" in capsys.readouterr().err
    assert pixels(tmp_path / "out.png").shape == (16, 32, 3)


@pytest.mark.parametrize("options", [[], ["--allow-urls"]])
def test_a_conversation_fetches_urls_where_allowed(
    options: list[str], scene: str, talker: Talker, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    from visionllm_sdk import images

    monkeypatch.setattr(images, "fetch", lambda url, **_: (Path(scene).read_bytes(), url))
    assert talk(monkeypatch, ["/image http://localhost/a.png"], *options) == 0
    assert ("URLs are not fetched" in capsys.readouterr().err) is (not options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["detect", "SCENE", "SCENE", "-l", "star", "-s", "SCENE"], "a folder is needed here"),
        (["detect", "SCENE", "-l", "star", "-s", "SCENE/found.png"], "a folder is needed here"),
        (["describe", "SCENE", "-r", "point:5,5", "-s", "."], "such as picture.png"),
        (["classify", "SCENE", "-r", "point:5,5", "-l", "star", "-s", "marked"], "format is unknown"),
        (["chat", "Hi", "-i", "SCENE", "-s", "."], "such as picture.png"),
        (["chat", "Hi", "-i", "SCENE", "-s", "said.gif"], "format is unknown"),
        (["generate", "a ring", "-s", "ring.gif"], "format is unknown"),
        (["detect", "SCENE", "-l", "star", "-s", "found.xbm"], "format is unknown"),
        (["edit", "SCENE", "make it blue", "-s", "."], "such as picture.png"),
    ],
)
def test_targets_are_refused_before_the_model_is_loaded(
    arguments: list[str], message: str, scene: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    given = [argument.replace("SCENE", scene) for argument in arguments]
    assert run([*given, "--model", "nowhere"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["xbm", "msp", "palm", "h5", "wmf", "bufr", "blp"])
def test_formats_without_colours_and_those_only_read_are_refused(ending: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="format is unknown"):
        show.check_target(tmp_path / f"found.{ending}")


def test_what_passes_the_check_can_be_written(tmp_path: Path) -> None:
    for ending in Image.registered_extensions():
        target = tmp_path / f"found{ending}"
        try:
            show.check_target(target)
        except InputError:
            continue
        Image.new("RGB", (60, 40)).save(target)


@pytest.mark.parametrize(("name", "images"), [("", 1), ("", 2), ("new/folder", 2), ("new/found.gif", 1)])
def test_targets_that_can_be_written(name: str, images: int, tmp_path: Path) -> None:
    show.check_targets(tmp_path / name, images)
