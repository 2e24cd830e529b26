"""Poses through the facade, on a checkpoint with random weights: names, lists, limits."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, assert_type

import numpy as np
import pytest
from PIL import Image

from tests.sdk.conftest import pose_sections, write_random_checkpoint
from tests.sdk.scripted import scripted
from visionllm_sdk import VisionLLM
from visionllm_sdk.demo import demo_scene
from visionllm_sdk.errors import InputError, LimitError, ToolError
from visionllm_sdk.generation import GenerationOptions
from visionllm_sdk.keypoints import AP10K, COCO
from visionllm_sdk.registry import ToolRegistry
from visionllm_sdk.results import Poses
from visionllm_sdk.scenes import render, sample_scene
from visionllm_sdk.skills.settings import talk_settings


@pytest.fixture(scope="module")
def vlm(tmp_path_factory: pytest.TempPathFactory) -> VisionLLM:
    folder = write_random_checkpoint(tmp_path_factory.mktemp("posing"), changes=pose_sections())
    return VisionLLM.from_pretrained(folder)


@pytest.fixture(scope="module")
def scenes() -> list[Image.Image]:
    return [render(sample_scene(seed)).image for seed in range(2)]


def test_a_set_by_its_name(vlm: VisionLLM, scenes: list[Image.Image]) -> None:
    found = vlm.pose(scenes[0], "person", threshold=0.0)
    assert_type(found, Poses)
    assert (found.width, found.height) == scenes[0].size
    assert (found.label, found.names, found.skeleton) == ("person", COCO.names, COCO.skeleton)
    assert 0 < len(found) <= 6
    for pose in found:
        assert pose.label == "person"
        assert tuple(point.name for point in pose.keypoints) == COCO.names
        assert all(0 <= p.x <= found.width and 0 <= p.y <= found.height for p in pose.keypoints)
    assert vlm.pose(scenes[0], "dog", "ap10k").names == AP10K.names
    assert len(vlm.pose(scenes[0], "person", threshold=1.0)) == 0


def test_names_and_several_kinds(vlm: VisionLLM, scenes: list[Image.Image]) -> None:
    found = vlm.pose(scenes[0], ["person", "dog"], ["left  knee", "tip"], threshold=0.0)
    assert found.names == ("left knee", "tip")
    assert found.label == "person, dog"
    assert {pose.label for pose in found} <= {"person", "dog"}


def test_lists(vlm: VisionLLM, scenes: list[Image.Image]) -> None:
    together = vlm.pose(scenes, "person", ["nose", "neck"], threshold=0.2)
    assert_type(together, list[Poses])
    for one, scene in zip(together, scenes, strict=True):
        alone = vlm.pose(scene, "person", ["nose", "neck"], threshold=0.2)
        assert len(one) == len(alone)
        for pose, other in zip(one, alone, strict=True):
            places = [[(p.x, p.y) for p in each.keypoints] for each in (pose, other)]
            np.testing.assert_allclose(places[0], places[1], atol=0.05)
    own = vlm.pose(scenes, [["person"], ["dog"]], ["coco", "ap10k"])
    assert [(one.label, one.names) for one in own] == [("person", COCO.names), ("dog", AP10K.names)]
    mixed = vlm.pose(scenes, "dog", [["nose"], "ap10k"])
    assert [one.names for one in mixed] == [("nose",), AP10K.names]
    assert vlm.pose([], "person") == []


def test_kinds_may_be_named_like_sets_of_keypoints(vlm: VisionLLM, scenes: list[Image.Image]) -> None:
    together = vlm.pose(scenes, ["hand", "face68"], ["tip"], threshold=0.0)
    assert [one.label for one in together] == ["hand, face68"] * 2
    assert [one.label for one in vlm.pose(scenes, ["hand"], ["tip"])] == ["hand"] * 2


def test_waiting_calls_run_together(vlm: VisionLLM, scenes: list[Image.Image]) -> None:
    async def ask() -> list[Poses]:
        calls = (vlm.apose(scenes[0], "person"), vlm.apose(scenes[1], "dog", ["nose"]))
        return [*await asyncio.gather(*calls), *await vlm.apose(scenes, "dog", "ap10k")]

    found = asyncio.run(ask())
    assert [one.names for one in found] == [COCO.names, ("nose",), AP10K.names, AP10K.names]


def test_a_call_tells_the_tool_whose_keypoints(vlm: VisionLLM, scenes: list[Image.Image]) -> None:
    reply = vlm.chat(
        "Where is the nose of the dog?",
        images=[scenes[0]],
        options=scripted(vlm, "<det>dog</det>[DET]. <det>nose</det>[POSE]."),
    )
    assert [call.tool for call in reply.calls] == ["detect", "pose"]
    poses = reply.results[1]
    assert isinstance(poses, Poses)
    assert (poses.label, poses.names) == ("dog", ("nose",))


@pytest.mark.parametrize(
    ("keypoints", "error", "words"),
    [
        ("cocoo", InputError, "no keypoint set"),
        ([], InputError, "no keypoint to look for"),
        (["nose", " "], InputError, "empty"),
        (["nose", "Nose"], InputError, "twice"),
        (None, InputError, "name of a set"),
        (17, InputError, "name of a set"),
        (["coco"], InputError, "this is one image.*Pass 'coco' by itself"),
        (["x" * 501], LimitError, "too long"),
        ([f"point {i}" for i in range(200)], LimitError, "too many keypoints"),
        ([f"point {i}" for i in range(30)], LimitError, "too many keypoints"),
    ],
)
def test_bad_keypoints(
    vlm: VisionLLM, scenes: list[Image.Image], keypoints: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        vlm.pose(scenes[0], "person", keypoints)
    with pytest.raises(error, match=words):
        asyncio.run(vlm.apose(scenes[0], "person", keypoints))


def test_other_bad_arguments(vlm: VisionLLM, scenes: list[Image.Image], random_vlm: VisionLLM) -> None:
    with pytest.raises(InputError, match="no label"):
        vlm.pose(scenes[0], [])
    with pytest.raises(InputError, match="not a probability"):
        vlm.pose(scenes[0], "person", threshold=2)
    with pytest.raises(InputError, match="one entry for every image"):
        vlm.pose(scenes, "person", [["nose"], ["neck"], ["tail"]])
    with pytest.raises(InputError, match="entry 1"):
        vlm.pose(scenes, "person", [["nose"], []])
    with pytest.raises(ToolError, match="POSE"):
        random_vlm.pose(scenes[0], "person")


def test_the_command(vlm: VisionLLM, scenes: list[Image.Image], tmp_path: Path) -> None:
    import json

    from typer.testing import CliRunner

    from visionllm_sdk.cli.app import app

    scenes[0].save(tmp_path / "scene.png")
    line = ["pose", str(tmp_path / "scene.png"), "person", "-k", "nose,neck", "--threshold", "0"]
    line += ["--model", vlm.name, "--json", "--save", str(tmp_path / "poses.png")]
    done = CliRunner().invoke(app, line)
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert printed["type"] == "poses"
    assert printed["names"] == ["nose", "neck"]
    drawn = Image.open(tmp_path / "poses.png")
    assert drawn.size == scenes[0].size
    assert (np.asarray(drawn.convert("RGB")) != np.asarray(scenes[0])).any()


def test_a_forced_pose_says_first_whose(vlm: VisionLLM, scenes: list[Image.Image]) -> None:
    settings = talk_settings(vlm.engine, {"force": "pose"}).generation
    assert (settings.before, settings.require) == (("[DET]",), "[POSE]")
    script = "<det>dog</det>[DET]. <det>nose</det>[POSE]."
    reply = vlm.chat("The nose", scenes[0], force="pose", options=scripted(vlm, script))
    assert [call.tool for call in reply.calls] == ["detect", "pose"]
    with pytest.raises(InputError, match="both forced and forbidden"):
        vlm.chat("The nose", scenes[0], force="pose", forbid="detect")
    with pytest.raises(InputError, match="may not use a routing token that it has to use"):
        vlm.chat("The nose", scenes[0], force="pose", options=GenerationOptions(tokens=("[POSE]",)))
    assert talk_settings(vlm.engine, {"forbid": "detect"}).generation.tokens == ("[GRD]", "[SEG]")


def test_a_forced_pose_of_the_embedded_model() -> None:
    reply = VisionLLM.from_pretrained().chat("Show the nose of the dog", demo_scene(), force="pose")
    assert [(call.token, call.labels) for call in reply.calls] == [("[DET]", ("dog",)), ("[POSE]", ("nose",))]


def test_poses_need_the_detector(vlm: VisionLLM) -> None:
    with pytest.raises(ToolError, match=r"'pose' does not work without 'detect'.*Name 'detect', too"):
        VisionLLM.from_pretrained(vlm.name, tools=["pose"])
    assert "pose" in VisionLLM.from_pretrained(vlm.name, tools=["pose", "detect"]).skills


def test_skills_without_what_they_need_are_not_told_of(
    vlm: VisionLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "pose" in vlm.skills
    alone = ToolRegistry([kind for kind in vlm.engine.registry if kind.name == "pose"])
    monkeypatch.setattr(vlm.engine, "registry", alone)
    assert "pose" not in vlm.skills
