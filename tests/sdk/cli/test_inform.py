"""`visionllm info`: what can be known of a checkpoint without loading it, however it is stored."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from visionllm_sdk.cli.entry import run
from visionllm_sdk.model.convert import PICKLE_INDEX, convert_checkpoint, converted_folder

Captured = pytest.CaptureFixture[str]
PICKLE = "pytorch_model.bin"


@pytest.fixture
def pickled(random_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkpoint with its weights in one pickle and an index of them."""
    monkeypatch.setenv("VISIONLLM_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "pickled"
    shutil.copytree(
        random_checkpoint, folder, ignore=shutil.ignore_patterns("*.safetensors*", "checksums.json")
    )
    files = sorted(random_checkpoint.glob("*.safetensors"))
    weights = {key: value for file in files for key, value in load_file(file).items()}
    torch.save(weights, folder / PICKLE)
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, PICKLE)}
    (folder / PICKLE_INDEX).write_text(json.dumps(index))
    return folder


def facts(capsys: Captured, folder: Path) -> dict[str, object]:
    assert run(["info", "--model", str(folder), "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def available(found: dict[str, object]) -> dict[str, object]:
    tools = found["tools"]
    assert isinstance(tools, list)
    return {tool["name"]: tool["available"] for tool in tools}


def test_safetensors_tell_everything(random_checkpoint: Path, capsys: Captured) -> None:
    found = facts(capsys, random_checkpoint)
    parts = found["parameters_by_part"]
    assert isinstance(parts, dict)
    assert found["parameters"] == sum(parts.values()) > 100_000
    assert found["region_prompts"] is ("region_encoder" in parts)
    assert found["remedy"] is None
    assert available(found)["detect"] is True
    assert available(found)["generate"] is False


def test_pickles_with_an_index_tell_their_parts(
    pickled: Path, capsys: Captured, random_checkpoint: Path
) -> None:
    found = facts(capsys, pickled)
    assert found["parameters"] is None
    assert found["megabytes"] == round((pickled / PICKLE).stat().st_size / 1e6, 1)
    assert available(found) == available(facts(capsys, random_checkpoint))
    assert found["remedy"] == f"visionllm convert {pickled}"
    assert run(["info", "--model", str(pickled)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "shapes are unknown until they are converted" in shown
    assert f"visionllm convert {pickled}" in shown


def test_a_pickle_without_an_index_leaves_parts_unknown(pickled: Path, capsys: Captured) -> None:
    (pickled / PICKLE_INDEX).unlink()
    found = facts(capsys, pickled)
    assert set(available(found).values()) == {None}
    assert found["region_prompts"] is None


def test_once_converted_pickles_tell_everything(
    pickled: Path, capsys: Captured, random_checkpoint: Path
) -> None:
    convert_checkpoint(pickled, converted_folder(pickled))
    found = facts(capsys, pickled)
    assert found["checkpoint"] == str(pickled)
    assert found["parameters"] == facts(capsys, random_checkpoint)["parameters"]
    assert found["remedy"] is None


def test_a_folder_without_weights_says_so(pickled: Path, capsys: Captured) -> None:
    (pickled / PICKLE).unlink()
    (pickled / PICKLE_INDEX).unlink()
    assert run(["info", "--model", str(pickled)]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "the folder holds no weights" in shown.err
