"""Where checkpoints come from, and what is wrong with those that do not load."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from visionllm_sdk import VisionLLM
from visionllm_sdk.errors import CheckpointError, ConfigError, ToolError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONLLM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def copy(random_checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint to spoil."""
    return Path(shutil.copytree(random_checkpoint, tmp_path / "copy"))


def test_unknown_places(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        VisionLLM.from_pretrained("no-such-folder")
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        VisionLLM.from_pretrained(tmp_path / "nothing")
    file = tmp_path / "file"
    file.write_text("weights")
    with pytest.raises(CheckpointError, match="this is a file"):
        VisionLLM.from_pretrained(file)
    with pytest.raises(CheckpointError, match="hub did not deliver"):  # tests run offline
        VisionLLM.from_pretrained("nobody/nothing")


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        VisionLLM.from_pretrained(tmp_path)


def test_missing_and_misshaped_weights(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = copy / "model.safetensors"
    weights = load_file(path)
    gone = next(key for key in weights if key.startswith("gdino."))
    odd = "llm.model.norm.weight"
    spoilt = {key: value for key, value in weights.items() if key != gone}
    spoilt[odd] = weights[odd][:-1].clone()
    save_file(spoilt, path)
    (copy / "checksums.json").unlink()
    with pytest.raises(CheckpointError) as caught:  # at once, although decoders are built later
        VisionLLM.from_pretrained(copy)
    assert gone in str(caught.value)
    assert odd in str(caught.value)


@pytest.mark.parametrize("size", [0, 7, 500])
def test_truncated_weights(copy: Path, size: int) -> None:
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match="cannot be read"):
        VisionLLM.from_pretrained(copy)


def test_what_is_no_pickle_of_tensors_is_refused(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin"):
        VisionLLM.from_pretrained(copy)


def test_a_config_of_another_model(copy: Path) -> None:
    (copy / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ConfigError, match="another model"):
        VisionLLM.from_pretrained(copy)


def test_tools_are_chosen_and_built_when_used(random_checkpoint: Path) -> None:
    from visionllm_sdk.model.lazy import LazyTools

    vlm = VisionLLM.from_pretrained(random_checkpoint, tools=["detect"])
    tools = vlm.engine.model.tools
    assert isinstance(tools, LazyTools)
    assert list(tools) == ["detect"]
    assert not tools.built("detect")
    vlm.detect(Image.new("RGB", (8, 8)), ["star"])
    assert tools.built("detect")
    assert tools["detect"] is tools["detect"]


def test_tools_that_are_not_there(random_checkpoint: Path) -> None:
    with pytest.raises(ToolError, match="unknown tool"):
        VisionLLM.from_pretrained(random_checkpoint, tools=["fly"])
    blind = VisionLLM.from_pretrained(random_checkpoint, tools=[])
    with pytest.raises(ToolError, match="no tool claims"):
        blind.detect(Image.new("RGB", (8, 8)), ["star"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "cuda:7"}, "cannot run on this device"),
        ({"device": "toaster"}, "cannot run on this device"),
        ({"dtype": "int8"}, "not a number format"),
        ({"dtype": "tiny"}, "not a number format"),
    ],
)
def test_devices_and_formats(random_checkpoint: Path, settings: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VisionLLM.from_pretrained(random_checkpoint, **settings)


def test_half_precision(random_checkpoint: Path) -> None:
    import torch

    vlm = VisionLLM.from_pretrained(random_checkpoint, dtype="bfloat16")
    assert vlm.engine.model.core.dtype is torch.bfloat16
