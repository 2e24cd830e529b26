"""Writing safetensors: tensor by tensor, so that nothing is held twice, and whole files or none.

The library's own writer collects all bytes of a file in memory first; a shard of ten gigabytes would take
twenty. The format is a length, a JSON header and the plain values (https://github.com/huggingface/safetensors).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from visionllm_sdk.errors import CheckpointError
from visionllm_sdk.model.checksums import FileSum, write_checksums

INDEX_SUFFIX: Final = ".index.json"
SINGLE_FILE: Final = "model.safetensors"
SHARD_BYTES: Final = 4 * 1024**3

_FORMATS: Final[Mapping[torch.dtype, str]] = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
_ALIGNMENT = 8
_OWN_NAMES = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")

Progress = Callable[[int], None]
"""Is told how many bytes were written since the last call."""


def _no_progress(count: int) -> None:
    del count


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    *,
    dtype: torch.dtype | None = None,
    metadata: Mapping[str, str] | None = None,
    progress: Progress = _no_progress,
) -> FileSum:
    """Write one safetensors file; it appears under its name only when it is complete.

    Args:
        path: of the file.
        tensors: on any device; brought to the CPU one at a time.
        dtype: number format of floating tensors in the file; None keeps theirs.
        metadata: of the file.
        progress: is told how far it is.

    Raises:
        CheckpointError: a number format that safetensors does not know.
    """
    formats = {key: _format(key, tensor, dtype) for key, tensor in tensors.items()}
    # Wide formats first, so that every tensor lies at a multiple of its own width.
    order = sorted(tensors, key=lambda key: (-formats[key].itemsize, key))
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    end = 0
    for key in order:
        start, end = end, end + tensors[key].numel() * formats[key].itemsize
        shape = list(tensors[key].shape)
        header[key] = {"dtype": _FORMATS[formats[key]], "shape": shape, "data_offsets": [start, end]}
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % _ALIGNMENT)
    partial = path.with_name(path.name + ".partial")
    digest = hashlib.sha256()
    with partial.open("wb") as stream:
        for piece in (len(encoded).to_bytes(8, "little"), encoded):
            digest.update(piece)
            stream.write(piece)
        for key in order:
            values = memoryview(_bytes(tensors[key], formats[key]))
            digest.update(values)
            stream.write(values)
            progress(len(values))
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(partial, path)
    return FileSum(size=8 + len(encoded) + end, sha256=digest.hexdigest())


def _format(key: str, tensor: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    chosen = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
    if chosen not in _FORMATS:
        raise CheckpointError(
            f"the tensor {key!r} has a number format that safetensors files cannot hold",
            value=str(chosen),
            limit=", ".join(sorted(_FORMATS.values())),
            remedy="Convert it first.",
        )
    return chosen


def _bytes(tensor: Tensor, dtype: torch.dtype) -> Any:
    values = tensor.detach().to(device="cpu", dtype=dtype).contiguous()
    return values.reshape(-1).view(torch.uint8).numpy()


def write_folder(
    folder: Path,
    tensors: Mapping[str, Tensor],
    aliases: Mapping[str, str],
    *,
    dtype: torch.dtype | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write weights as one file or as shards with an index, and their checksums.

    Weight files that an earlier call left in the folder are removed at the end. A model that is loaded from
    the folder goes on with the old values.

    Args:
        folder: is created.
        tensors: by key.
        aliases: further keys of stored tensors, to the key that is stored.
        dtype: see :func:`write_tensors`.
        shard_bytes: most bytes of one file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards = _shards(tensors, dtype, shard_bytes)
    if len(shards) == 1:
        metadata = {"aliases": json.dumps(dict(aliases))}
        sums = {SINGLE_FILE: write_tensors(folder / SINGLE_FILE, shards[0], dtype=dtype, metadata=metadata)}
        (folder / (SINGLE_FILE + INDEX_SUFFIX)).unlink(missing_ok=True)
    else:
        names = [shard_name(number, len(shards)) for number in range(1, len(shards) + 1)]
        sums = {
            name: write_tensors(folder / name, shard, dtype=dtype)
            for name, shard in zip(names, shards, strict=True)
        }
        weight_map = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
        write_index(folder, weight_map, aliases, size=_total(tensors, dtype))
    write_checksums(folder, sums)
    for path in folder.iterdir():
        if _OWN_NAMES.fullmatch(path.name) and path.name not in sums:
            path.unlink()


def shard_name(number: int, count: int) -> str:
    """File name of a shard, counted from 1."""
    return f"model-{number:05d}-of-{count:05d}.safetensors"


def write_index(
    folder: Path, weight_map: Mapping[str, str], aliases: Mapping[str, str], *, size: int
) -> None:
    """Write the index of a sharded checkpoint."""
    index = {"metadata": {"total_size": size}, "weight_map": weight_map, "aliases": aliases}
    path = folder / (SINGLE_FILE + INDEX_SUFFIX)
    path.write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def _size(tensor: Tensor, dtype: torch.dtype | None) -> int:
    chosen = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
    return tensor.numel() * chosen.itemsize


def _total(tensors: Mapping[str, Tensor], dtype: torch.dtype | None) -> int:
    return sum(_size(tensor, dtype) for tensor in tensors.values())


def _shards(
    tensors: Mapping[str, Tensor], dtype: torch.dtype | None, limit: int
) -> Sequence[dict[str, Tensor]]:
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for key, tensor in tensors.items():
        more = _size(tensor, dtype)
        if shards[-1] and size + more > limit:
            shards.append({})
            size = 0
        shards[-1][key] = tensor
        size += more
    return shards
