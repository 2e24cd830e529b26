"""Checkpoints of full size that take no room: the files are all holes."""

from __future__ import annotations

import json
import lzma
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.sdk.model.reference import GOLDENS

SHARD_BYTES = 10 * 10**9  # as published
_SIZES = {"BF16": 2, "I64": 8}


def manifest(name: str) -> dict[str, Any]:
    """Every key of a released family with number format and shape; its configuration."""
    return json.loads(lzma.decompress((GOLDENS / f"manifest_{name}.json.xz").read_bytes()))


def write_full_size(folder: Path, content: Mapping[str, Any], **changes: tuple[int, ...] | None) -> Path:
    """A checkpoint folder with all keys of a manifest.

    Args:
        folder: is created.
        content: the manifest.
        changes: other shapes by key; None leaves the key out.
    """
    folder.mkdir()
    entries = {
        key: ("I64" if kind == "int64" else "BF16", changes.get(key, shape))
        for key, (kind, shape) in content["keys"].items()
        if key not in content["aliases"] and changes.get(key, shape) is not None
    }
    added = {key: ("BF16", shape) for key, shape in changes.items() if key not in content["keys"]}
    shards: list[dict[str, Any]] = [{}]
    ends = [0]
    for key, (kind, shape) in (entries | added).items():
        size = _SIZES[kind]
        for length in shape:
            size *= length
        if ends[-1] + size > SHARD_BYTES:
            shards.append({})
            ends.append(0)
        offsets = [ends[-1], ends[-1] + size]
        shards[-1][key] = {"dtype": kind, "shape": list(shape), "data_offsets": offsets}
        ends[-1] += size
    weight_map = {}
    for number, (shard, end) in enumerate(zip(shards, ends, strict=True), start=1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        header = json.dumps(shard).encode()
        header += b" " * (-len(header) % 8)
        with (folder / name).open("wb") as stream:
            stream.write(len(header).to_bytes(8, "little") + header)
            stream.truncate(8 + len(header) + end)  # a hole
        weight_map |= dict.fromkeys(shard, name)
    index = {"weight_map": weight_map, "aliases": content["aliases"]}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(content["config"]))
    (folder / "added_tokens.json").write_text(json.dumps(content["special_tokens"]))
    shutil.copy(GOLDENS / "tiny_core" / "tokenizer.model", folder)
    return folder
