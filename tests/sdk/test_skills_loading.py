"""Where checkpoints come from, and what is wrong with those that do not load."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
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


# -- damaged and foreign folders ---------------------------------------------------------------------------


def edit_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def flip_a_byte(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def lose_a_shard(folder: Path) -> None:
    weight_map = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors").rename(folder / weight_map["a"])
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def lead_elsewhere(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "../model.safetensors"}})
    )


def hold_no_checkpoint(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_size": 8}))


SPOILT = {
    "a flipped byte": (flip_a_byte, CheckpointError, r"model\.safetensors is damaged"),
    "an absent shard": (lose_a_shard, CheckpointError, r"absent.*model-00002.*Complete the download"),
    "an index that leads elsewhere": (lead_elsewhere, CheckpointError, "outside of its folder"),
    "another model": (hold_no_checkpoint, ConfigError, "another model"),
    "unknown fields": (lambda folder: edit_config(folder, speed=9), ConfigError, "unknown fields.*speed"),
    "remote code": (
        lambda folder: edit_config(folder, auto_map={"AutoModel": "evil.Model"}),
        ConfigError,
        "never runs remote code",
    ),
    "no tokenizer": (lambda folder: (folder / "tokenizer.model").unlink(), CheckpointError, "tokenizer"),
}


@pytest.mark.parametrize("case", list(SPOILT))
def test_a_spoilt_folder_gives_one_clear_error(copy: Path, case: str) -> None:
    spoil, kind, message = SPOILT[case]
    spoil(copy)
    with pytest.raises(kind, match=message) as caught:
        VisionLLM.from_pretrained(copy)
    assert caught.value.remedy


def test_checking_can_be_left_out(copy: Path) -> None:
    (copy / "checksums.json").write_text('{"files": {"model.safetensors": {"size": 1, "sha256": "0"}}}')
    with pytest.raises(CheckpointError, match="not complete"):
        VisionLLM.from_pretrained(copy)
    VisionLLM.from_pretrained(copy, check=False)


# -- pickled weights ---------------------------------------------------------------------------------------


@pytest.fixture
def pickled(copy: Path) -> Path:
    """The checkpoint as it would be published: pickled weights."""
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    (copy / "checksums.json").unlink()
    return copy


def test_pickled_weights_are_converted_once(
    pickled: Path, random_vlm: VisionLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    import subprocess

    vlm = VisionLLM.from_pretrained(pickled)
    image = Image.new("RGB", (40, 30), "red")
    assert vlm.detect(image, ["star"], threshold=0.0) == random_vlm.detect(image, ["star"], threshold=0.0)
    assert sorted(path.name for path in pickled.iterdir() if path.suffix == ".safetensors") == []

    def never(*ignored: object, **settings: object) -> None:
        raise AssertionError("converted again")

    monkeypatch.setattr(subprocess, "Popen", never)
    VisionLLM.from_pretrained(pickled)


def test_pickles_are_downloaded_only_where_there_is_nothing_else(
    random_checkpoint: Path, pickled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub is played by a folder; what is asked of it is what counts."""
    import huggingface_hub

    from visionllm_sdk.skills.loading import checkpoint_folder

    asked: list[tuple[str | None, list[str]]] = []

    def snapshot_of(source: Path):
        def snapshot(name: str, *, allow_patterns: list[str], revision: str | None = None) -> str:
            asked.append((revision, allow_patterns))
            target = tmp_path / "snapshots" / source.name / "abc123"
            target.mkdir(parents=True, exist_ok=True)
            for pattern in allow_patterns:
                for path in source.glob(pattern):
                    shutil.copy(path, target)
            return str(target)

        return snapshot

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_of(random_checkpoint))
    assert (checkpoint_folder("owner/sound") / "model.safetensors").is_file()
    assert len(asked) == 1
    assert not any("bin" in pattern for pattern in asked[0][1])
    asked.clear()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_of(pickled))
    assert (checkpoint_folder("owner/pickled") / "pytorch_model.bin").is_file()
    assert [revision for revision, _ in asked] == [None, "abc123"]


def test_the_convert_command(pickled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from visionllm_sdk.cli.entry import run

    assert run(["convert", str(pickled), str(tmp_path / "new"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["folder"] == str(tmp_path / "new")
    assert told["bytes"] == (tmp_path / "new" / "model-00001-of-00001.safetensors").stat().st_size
    VisionLLM.from_pretrained(tmp_path / "new")
    assert run(["convert", str(pickled), str(tmp_path / "new [red]")]) == 0
    assert "new [red] (" in capsys.readouterr().err
    assert run(["convert", str(tmp_path / "new")]) == 2
    assert "nothing to convert" in capsys.readouterr().err


def test_the_embedded_model_needs_no_drawing_library_until_it_draws() -> None:
    """`diffusers` is in an extra: without it everything but pictures works."""
    code = (
        "import sys; sys.modules['diffusers'] = None\n"
        "import visionllm_sdk as sdk\n"
        "vlm = sdk.VisionLLM.from_pretrained()\n"
        "from visionllm_sdk.demo import demo_scene\n"
        "assert len(vlm.detect(demo_scene(), ['dog'])) == 1\n"
        "assert {'generate', 'edit'} <= set(vlm.skills)\n"
        "try:\n"
        "    vlm.generate('a red star')\n"
        "except sdk.VisionLLMError as error:\n"
        "    print(type(error).__name__, 'generation' in str(error))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["MissingExtraError", "True"]
