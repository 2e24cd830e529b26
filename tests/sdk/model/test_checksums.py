"""Files that look sound and are not."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from visionllm_sdk.errors import CheckpointError
from visionllm_sdk.model import checksums
from visionllm_sdk.model.checksums import FileSum, cache_folder, verify, write_checksums
from visionllm_sdk.model.writing import write_folder, write_tensors


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VISIONLLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint of one tensor."""
    write_folder(tmp_path / "checkpoint", {"a": torch.arange(64.0)}, {})
    return tmp_path / "checkpoint"


def flip(path: Path, place: int = -3) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_a_sound_folder_passes(folder: Path) -> None:
    verify(folder, ["model.safetensors"])
    known = json.loads((folder / "checksums.json").read_text())["files"]["model.safetensors"]
    content = (folder / "model.safetensors").read_bytes()
    assert known == {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@pytest.mark.parametrize("place", [-3, 20])
def test_a_flipped_byte(folder: Path, place: int) -> None:
    flip(folder / "model.safetensors", place)
    with pytest.raises(CheckpointError, match=r"model.safetensors is damaged.*Download it again"):
        verify(folder, ["model.safetensors"])


def test_a_truncated_file(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="not complete"):
        verify(folder, ["model.safetensors"])


def test_unknown_files_pass(folder: Path) -> None:
    (folder / "other.safetensors").write_bytes(b"x")
    verify(folder, ["other.safetensors"])


@pytest.mark.parametrize("content", ["{", "[]", '{"files": {"a": {"size": 1}}}', '{"files": 3}'])
def test_a_broken_list(folder: Path, content: str) -> None:
    (folder / "checksums.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"checksums.json cannot be read"):
        verify(folder, ["model.safetensors"])


def test_the_hubs_cache_names_files_by_their_checksum(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    blob = blobs / hashlib.sha256(b"weights").hexdigest()
    blob.write_bytes(b"weights")
    os.symlink(blob, snapshot / "model.safetensors")
    verify(snapshot, ["model.safetensors"])
    blob.write_bytes(b"Weights")
    with pytest.raises(CheckpointError, match="damaged"):
        verify(snapshot, ["model.safetensors"])


def test_a_large_file_is_read_once(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "_REMEMBERED_BYTES", 1)
    verify(folder, ["model.safetensors"])
    assert len(list((cache / "verified").iterdir())) == 1

    def unread(*ignored: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(hashlib, "file_digest", unread)
    verify(folder, ["model.safetensors"])
    monkeypatch.undo()
    monkeypatch.setenv("VISIONLLM_CACHE", str(cache))
    flip(folder / "model.safetensors")  # another time of change: the mark no longer counts
    with pytest.raises(CheckpointError, match="damaged"):
        verify(folder, ["model.safetensors"])


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("VISIONLLM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "visionllm-sdk"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "visionllm-sdk"


# -- writing -----------------------------------------------------------------------------------------------

FORMATS = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
)  # fmt: skip


def test_every_format_reads_back(tmp_path: Path) -> None:
    tensors = {str(kind): torch.arange(6).reshape(2, 3).to(kind) for kind in FORMATS}
    tensors |= {"one": torch.tensor(2.5), "none": torch.zeros(0, 4), "turned": torch.arange(6.0).view(2, 3).T}
    facts = write_tensors(tmp_path / "a.safetensors", tensors, metadata={"note": "é"})
    assert facts.size == (tmp_path / "a.safetensors").stat().st_size
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        assert set(file.keys()) == set(tensors)
        assert file.metadata() == {"format": "pt", "note": "é"}
        for key, tensor in tensors.items():
            assert file.get_tensor(key).dtype == tensor.dtype
            assert torch.equal(file.get_tensor(key), tensor), key
    assert not list(tmp_path.glob("*.partial"))


def test_a_format_that_files_do_not_know(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"'a' has a number format.*complex"):
        write_tensors(tmp_path / "a.safetensors", {"a": torch.zeros(1, dtype=torch.complex64)})
    assert not list(tmp_path.iterdir())


def test_saving_again_leaves_no_old_files(tmp_path: Path) -> None:
    many = {name: torch.full((4,), float(i)) for i, name in enumerate("abc")}
    write_folder(tmp_path, many, {}, shard_bytes=16)
    assert len(list(tmp_path.glob("*.safetensors"))) == 3
    write_folder(tmp_path, many, {})
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", "checksums.json"}
    write_folder(tmp_path, many, {}, shard_bytes=32)
    assert not (tmp_path / "model.safetensors").exists()
    verify(tmp_path, [path.name for path in tmp_path.glob("*.safetensors")])


def test_writing_over_a_file_that_is_in_use(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_tensors(path, {"a": torch.zeros(4096)})
    with safe_open(path, framework="pt") as file:
        mapped = file.get_tensor("a")
        write_tensors(path, {"a": torch.ones(4096)})
        assert not mapped.any()


def test_lists_of_checksums_are_sorted(tmp_path: Path) -> None:
    write_checksums(tmp_path, {name: FileSum(size=1, sha256="0") for name in "ba"})
    assert list(json.loads((tmp_path / "checksums.json").read_text())["files"]) == ["a", "b"]
