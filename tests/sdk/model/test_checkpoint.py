from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.sdk.model.reference import GOLDENS, TOLERANCE, error, golden, golden_batch, reference_model
from visionllm_sdk.errors import CheckpointError
from visionllm_sdk.model.assembly import load_model
from visionllm_sdk.model.checkpoint import Target, WeightFiles, collect_weights, load_weights, save_weights
from visionllm_sdk.model.config import ModelConfig
from visionllm_sdk.model.core import build_core
from visionllm_sdk.model.keys import core_key_table
from visionllm_sdk.model.tokenizer import CONTROL_TOKENS, TextTokenizer
from visionllm_sdk.registry import ToolRegistry

NO_TOOLS = ToolRegistry()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the small reference checkpoint."""
    return Path(shutil.copytree(GOLDENS / "tiny_core", tmp_path / "checkpoint"))


def change(folder: Path, edit: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize("name", ["tiny_core", "variant_core"])
@pytest.mark.parametrize("shard_bytes", [None, 300_000])
def test_saving_gives_the_released_layout_back(tmp_path: Path, name: str, shard_bytes: int | None):
    reference_model(name).save(tmp_path, shard_bytes=shard_bytes)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard_bytes is not None)
    written, released = WeightFiles(tmp_path), load_file(GOLDENS / name / "model.safetensors")
    assert set(written) == set(released)
    assert all(torch.equal(written.read(key), released[key].float()) for key in released)
    again = load_model(tmp_path, registry=NO_TOOLS)
    batch = golden_batch("", golden("golden_mm_det" if name == "tiny_core" else "variant_golden_mm_det"))
    assert torch.equal(again.core(batch).hidden, reference_model(name).core(batch).hidden)


def test_half_precision_files_run_in_single_precision_on_the_cpu(tmp_path: Path):
    reference_model("tiny_core").save(tmp_path, dtype=torch.float16)
    assert WeightFiles(tmp_path).read("llm.lm_head.weight").dtype == torch.float16
    model = load_model(tmp_path, registry=NO_TOOLS)
    assert {value.dtype for value in model.core.parameters()} == {torch.float32}
    values = golden("golden_mm_det")
    assert error(model.core(golden_batch("golden_mm_det", values)).loss, values["loss"]) < 100 * TOLERANCE


def test_a_bfloat16_model_keeps_its_number_format():
    model = load_model(GOLDENS / "tiny_core", registry=NO_TOOLS, dtype=torch.bfloat16)
    assert model.core.dtype == torch.bfloat16
    batch = golden_batch("golden_mm_interactive_anyres", golden("golden_mm_interactive_anyres"))
    assert model.core(batch).hidden.dtype == torch.bfloat16


def test_nothing_stays_without_memory():
    core = reference_model("tiny_core").core
    assert not any(value.is_meta for value in (*core.parameters(), *core.buffers()))


def test_internlm2_logits_equal_the_recorded_ones():
    values, llm = golden("golden_internlm2_llama"), reference_model("variant_core").core.llm
    mask = values["attention_mask"].long()
    with torch.no_grad():
        logits = llm(input_ids=values["input_ids"].long(), attention_mask=mask).logits[:, ::6]
    real = mask[:, ::6].bool()
    assert error(logits[real], values["logits"][real]) < TOLERANCE
    attention = llm.model.layers[0].self_attn
    assert torch.equal(attention.k_proj.weight, values["llama.model.layers.0.self_attn.k_proj.weight"])
    assert torch.equal(attention.v_proj.weight, values["llama.model.layers.0.self_attn.v_proj.weight"])


class FullVocabulary(TextTokenizer):
    """Control token ids of a full-size checkpoint; it never encodes."""

    def __init__(self, ids: dict[str, int]) -> None:
        self._ids = ids


@pytest.mark.parametrize("size", ["7b", "26b"])
def test_every_key_and_shape_of_the_full_size_core(size: str):
    """0 missing, 0 unexpected, every shape right, without taking memory."""
    manifest = json.loads((GOLDENS / f"manifest_core_{size}.json").read_text())
    config = ModelConfig.from_released(manifest["config"])
    assert list(manifest["special_tokens"]) == list(CONTROL_TOKENS)
    with torch.device("meta"):
        core = build_core(config, FullVocabulary(manifest["special_tokens"]))
    table = core_key_table(config)
    state = core.state_dict()
    covered: set[str] = set()
    for key, shape in manifest["keys"].items():
        names, split = table.to_module(key)
        for name, piece in zip(names, split(torch.empty(shape, device="meta")), strict=True):
            assert state[name].shape == piece.shape, key
            covered.add(name)
            assert table.to_released(name)[0] == key
    assert covered == set(state)


DEVIATIONS: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "missing": (
        lambda tensors: [tensors.pop(key) for key in ("llm.lm_head.weight", "vl_bridge.0.bias")],
        r"2 missing \(llm.lm_head.weight, vl_bridge.0.bias\)",
    ),
    "unexpected": (
        lambda tensors: tensors.update({"llm.model.layers.9.x": torch.zeros(1)}),
        r"1 unexpected \(llm.model.layers.9.x\)",
    ),
    "misshaped": (
        lambda tensors: tensors.update({"vl_bridge.0.bias": torch.zeros(3)}),
        r"1 misshaped \(vl_bridge.0.bias \(3,\), expected \(64,\)\)",
    ),
}


@pytest.mark.parametrize("case", list(DEVIATIONS))
def test_deviating_keys_are_named(folder: Path, case: str):
    edit, message = DEVIATIONS[case]
    change(folder, edit)
    with pytest.raises(CheckpointError, match=message):
        load_model(folder, registry=NO_TOOLS)


def test_a_fused_weight_of_the_wrong_shape_is_named(tmp_path: Path):
    folder = Path(shutil.copytree(GOLDENS / "variant_core", tmp_path / "checkpoint"))
    key = "llm.model.layers.0.attention.wqkv.weight"
    change(folder, lambda tensors: tensors.update({key: torch.zeros(7, 64)}))
    with pytest.raises(CheckpointError, match=r"wqkv.weight \(7, 64\), expected \(128, 64\)"):
        load_model(folder, registry=NO_TOOLS)


def test_nothing_is_loaded_when_something_deviates(tmp_path: Path):
    save_file({"a.weight": torch.ones(2, 2)}, tmp_path / "model.safetensors")
    module = nn.Linear(2, 2)
    before = module.weight
    with pytest.raises(CheckpointError, match=r"1 missing \(a.bias\)"):
        load_weights(WeightFiles(tmp_path), [Target(module=module, prefix="a.", owned=("a.",))])
    assert module.weight is before


class Shared(nn.Module):
    """Two names for one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.second = self.first
        self.register_buffer("steps", torch.tensor(3))


@pytest.mark.parametrize("shard_bytes", [1, 2**20])
def test_shared_tensors_stay_shared(tmp_path: Path, shard_bytes: int):
    source, target = Shared(), Shared()
    save_weights(tmp_path, [Target(module=source, prefix="x.", owned=("x.",))], shard_bytes=shard_bytes)
    files = WeightFiles(tmp_path)
    assert files.shape("x.second.weight") == (2, 2)
    load_weights(files, [Target(module=target, prefix="x.", owned=("x.",))])
    assert target.first is target.second
    assert torch.equal(target.first.weight, source.first.weight)
    assert target.steps == 3
    assert target.first.weight.requires_grad


def test_what_older_libraries_stored_needlessly_is_passed_over(folder: Path):
    needless = {
        "llm.model.layers.1.self_attn.rotary_emb.inv_freq": torch.zeros(8),
        "vis_encoder.vision_model.embeddings.position_ids": torch.zeros(1, 5, dtype=torch.long),
    }
    change(folder, lambda tensors: tensors.update(needless))
    model = load_model(folder, registry=NO_TOOLS)
    assert model.core.llm.model.rotary_emb.inv_freq.any()
    assert not set(needless) & set(collect_weights(model.targets())[0])


def test_another_owner_of_keys_is_reported_not_refused(folder: Path):
    change(folder, lambda tensors: tensors.update({"gdino.x": torch.zeros(1)}))
    assert load_model(folder, registry=NO_TOOLS).unclaimed == ("gdino.",)


def write_index(folder: Path, weight_map: object) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no weights": (lambda path: (path / "model.safetensors").unlink(), "no safetensors file"),
    "pickles": (
        lambda path: (path / "model.safetensors").rename(path / "pytorch_model.bin"),
        "visionllm convert",
    ),
    "truncated": (
        lambda path: (path / "model.safetensors").write_bytes(
            (path / "model.safetensors").read_bytes()[:5000]
        ),
        "cannot be read.*Download it again",
    ),
    "not safetensors": (
        lambda path: (path / "model.safetensors").write_bytes(b"x" * 100),
        "cannot be read",
    ),
    "absent shard": (lambda path: write_index(path, {"a": "model-00002.safetensors"}), "shards.*absent"),
    "keys that no shard holds": (
        lambda path: write_index(path, {"nowhere": "model.safetensors"}),
        "no file holds",
    ),
    "broken index": (
        lambda path: (path / "model.safetensors.index.json").write_text("{"),
        "index.*cannot be read",
    ),
    "two indexes": (
        lambda path: [write_index(path, {}), (path / "b.index.json").write_text("{}")],
        "several indexes",
    ),
    "two files": (
        lambda path: shutil.copy(path / "model.safetensors", path / "more.safetensors"),
        "several safetensors files and no index",
    ),
    "a larger tokenizer": (
        lambda path: (path / "added_tokens.json").write_text(
            json.dumps({text: 700 + n for n, text in enumerate(CONTROL_TOKENS)})
        ),
        "more tokens than the language model",
    ),
}


@pytest.mark.parametrize("case", list(BROKEN))
def test_broken_folders_are_named(folder: Path, case: str):
    break_it, message = BROKEN[case]
    break_it(folder)
    with pytest.raises(CheckpointError, match=message):
        load_model(folder, registry=NO_TOOLS)


def test_a_missing_folder_is_named(tmp_path: Path):
    with pytest.raises(CheckpointError, match="does not exist"):
        WeightFiles(tmp_path / "nowhere")
