"""Pickled weights become safetensors, in a process of their own; everything else in a pickle is refused."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.sdk.model.reference import GOLDENS, golden, golden_batch, reference_model
from visionllm_sdk.errors import CheckpointError
from visionllm_sdk.model.assembly import load_model
from visionllm_sdk.model.convert import (
    ConvertProgress,
    convert_checkpoint,
    converted_folder,
    has_pickles_only,
    pickle_files,
)
from visionllm_sdk.model.converter import convert
from visionllm_sdk.model.weights import WeightFiles
from visionllm_sdk.registry import ToolRegistry

INDEX = "pytorch_model.bin.index.json"
NAMES = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")


def write_published(folder: Path) -> dict[str, Tensor]:
    """The small reference checkpoint in the published form: two bfloat16 pickles with shared tensors."""
    folder.mkdir()
    for name in ("config.json", "tokenizer.model", "added_tokens.json"):
        shutil.copy(GOLDENS / "tiny_core" / name, folder)
    stored = load_file(GOLDENS / "tiny_core" / "model.safetensors")
    weights = {key: tensor.bfloat16() for key, tensor in stored.items()}
    extra = torch.randn(6, 4)
    # A shared tensor, a part of a larger one, and formats beside bfloat16, as in the published files.
    weights |= {"gdino.a": extra, "gdino.b": extra, "gdino.part": extra[1:3, ::2], "gdino.n": torch.tensor(7)}
    keys = sorted(weights)
    halves = (keys[: len(keys) // 2], keys[len(keys) // 2 :])
    for name, half in zip(NAMES, halves, strict=True):
        torch.save({key: weights[key] for key in half}, folder / name)
    weight_map = {key: name for name, half in zip(NAMES, halves, strict=True) for key in half}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return weights


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VISIONLLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def published(tmp_path: Path) -> Path:
    write_published(tmp_path / "published")
    return tmp_path / "published"


def convert_here(folder: Path, target: Path) -> list[dict[str, Any]]:
    """The work of the child process, in this one."""
    target.mkdir()
    reports: list[dict[str, Any]] = []
    convert(pickle_files(folder), target, reports.append)
    return reports


def test_a_published_folder_is_converted_and_loads(tmp_path: Path) -> None:
    weights = write_published(tmp_path / "published")
    heard: list[ConvertProgress] = []
    target = convert_checkpoint(tmp_path / "published", tmp_path / "new", listener=heard.append)
    assert target == tmp_path / "new"
    files = WeightFiles(target)
    assert set(files) == set(weights)
    for key, tensor in weights.items():
        assert torch.equal(files.read(key), tensor), key
        assert files.read(key).dtype == tensor.dtype
    assert [(state.number, state.shard) for state in heard] == list(enumerate(NAMES, start=1))
    assert heard[-1].done == sum(
        tensor.nbytes for key, tensor in weights.items() if key != "gdino.b"
    )  # shared tensors are written once
    assert not list(tmp_path.glob("new.partial*"))
    model = load_model(target, registry=ToolRegistry())
    assert model.unclaimed == ("gdino.",)
    batch = golden_batch("golden_mm_det", golden("golden_mm_det"))
    rounded = reference_model("tiny_core").core(batch).hidden
    assert (model.core(batch).hidden - rounded).abs().max() < 0.1 * rounded.abs().max()


def test_the_cache_knows_a_folder_until_a_file_changes(published: Path, cache: Path) -> None:
    assert has_pickles_only(published)
    place = converted_folder(published)
    assert place.parent == cache / "converted"
    assert converted_folder(published) == place
    (published / "config.json").write_text("{}")
    assert converted_folder(published) != place


def test_only_weights_are_read(published: Path) -> None:
    shards = pickle_files(published)
    (published / "training_args.bin").write_bytes(b"")
    assert pickle_files(published) == shards
    (published / INDEX).unlink()
    for shard in shards[1:]:
        shard.unlink()
    (single := published / "pytorch_model.bin").write_bytes(shards[0].read_bytes())
    shards[0].unlink()
    assert pickle_files(published) == [single]
    single.unlink()
    assert not has_pickles_only(published)


class Program:
    """A pickle of this creates a file when a careless reader opens it."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (self.path, "w")


def test_a_program_in_a_pickle_is_refused_and_not_run(published: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    torch.save({"a": torch.ones(1), "b": Program(str(trace))}, published / NAMES[1])
    with pytest.raises(CheckpointError, match="more than tensors and was not read"):
        convert_checkpoint(published, tmp_path / "new")
    assert not trace.exists()
    assert not list(tmp_path.glob("new*"))


def bare_pickle(folder: Path) -> None:
    (folder / NAMES[0]).write_bytes(pickle.dumps(Program(str(folder / "trace")), protocol=2))


def truncated(folder: Path) -> None:
    path = folder / NAMES[0]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def absent(folder: Path) -> None:
    (folder / NAMES[1]).unlink()


def no_index(folder: Path) -> None:
    (folder / INDEX).unlink()


def outside(folder: Path) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": {"a": "../other.bin"}}))


def repeated(folder: Path) -> None:
    shutil.copy(folder / NAMES[0], folder / NAMES[1])


def numbers(folder: Path) -> None:
    torch.save({"a": 3}, folder / NAMES[0])


def a_list(folder: Path) -> None:
    torch.save([torch.ones(1)], folder / NAMES[0])


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "a bare pickle": (bare_pickle, "more than tensors|cannot be read"),
    "truncated": (truncated, "cannot be read|more than tensors"),
    "an absent shard": (absent, "absent.*Complete the download"),
    "no index": (no_index, "no index"),
    "an index that leads elsewhere": (outside, "outside of its folder"),
    "the same keys twice": (repeated, "repeats keys"),
    "numbers": (numbers, "something else than tensors"),
    "no keys": (a_list, "does not hold weights"),
}


@pytest.mark.parametrize("case", list(BROKEN))
def test_what_cannot_be_converted(published: Path, tmp_path: Path, case: str) -> None:
    spoil, message = BROKEN[case]
    spoil(published)
    with pytest.raises(CheckpointError, match=message):
        convert_here(published, tmp_path / "new")
    assert not (published / "trace").exists()


def test_the_child_process_ends_with_an_error(published: Path, tmp_path: Path) -> None:
    """What the child refuses arrives here as the same error, and nothing stays behind."""
    truncated(published)
    with pytest.raises(CheckpointError, match=NAMES[0]):
        convert_checkpoint(published, tmp_path / "new")
    assert not list(tmp_path.glob("new*"))


def test_nothing_is_overwritten(published: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    with pytest.raises(CheckpointError, match="exists already"):
        convert_checkpoint(published, tmp_path / "new")


def test_a_full_disk_is_noticed_before(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(CheckpointError, match="disk is too small"):
        convert_checkpoint(published, tmp_path / "new")
    assert not (tmp_path / "new").exists()
