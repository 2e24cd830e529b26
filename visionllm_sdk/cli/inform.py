"""What a checkpoint holds, read without loading its weights."""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from visionllm_sdk import __version__
from visionllm_sdk.errors import CheckpointError
from visionllm_sdk.model.config import read_config
from visionllm_sdk.model.convert import PICKLE_INDEX, converted_folder, has_pickles_only, pickle_files
from visionllm_sdk.model.weights import read_index_file
from visionllm_sdk.registry import discover_tools
from visionllm_sdk.skills.loading import checkpoint_folder
from visionllm_sdk.tool import RoutedTool

_REGION_ENCODER: Final = "region_encoder."
_WORDS: Final[dict[bool | None, str]] = {True: "yes", False: "no", None: "unknown"}


@dataclass(frozen=True, kw_only=True)
class _Weights:
    """What is known of a checkpoint's weights without loading them.

    Attributes:
        files: that hold them.
        keys: names of the tensors; None if only loading can tell.
        shapes: by name; None for pickles, which tell no shape before they are read.
    """

    files: list[Path]
    keys: set[str] | None
    shapes: Mapping[str, list[int]] | None


def describe(model: str | None) -> dict[str, Any]:
    """Facts about a checkpoint and about this installation, JSON-safe.

    Of pickled weights that were not converted yet, `parameters` is None and `remedy` says what to do.

    Raises:
        CheckpointError: no such checkpoint, or a file of it is broken.
    """
    folder = checkpoint_folder(model)
    config = read_config(folder)
    weights = _weights(folder)
    known = weights.shapes is not None
    parts = _by_part(weights.shapes or {})
    return {
        "version": __version__,
        "checkpoint": str(folder),
        "megabytes": round(sum(file.stat().st_size for file in weights.files) / 1e6, 1),
        "parameters": sum(parts.values()) if known else None,
        "parameters_by_part": parts if known else None,
        "remedy": None if known else f"visionllm convert {folder}",
        "language_model": {
            "type": config.language["model_type"],
            "width": config.width,
            "layers": config.language.get("num_hidden_layers"),
            "vocabulary": config.vocab_size,
            "context": config.language.get("max_position_embeddings"),
        },
        "vision_encoder": {
            "type": config.vision["model_type"],
            "tile": config.image_size,
            "max_tiles": config.max_tiles,
        },
        "region_prompts": _has(weights.keys, _REGION_ENCODER),
        "tools": [_tool(kind, weights.keys) for kind in discover_tools()],
    }


def _weights(folder: Path) -> _Weights:
    """The weight files of a folder; for pickles those of their converted form, once there is one."""
    if has_pickles_only(folder):
        converted = converted_folder(folder)
        if not converted.is_dir():
            return _Weights(files=pickle_files(folder), keys=_pickled_keys(folder), shapes=None)
        folder = converted
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise CheckpointError(
            "the folder holds no weights",
            value=str(folder),
            limit="*.safetensors, or pytorch_model*.bin",
            remedy="Complete the download.",
        )
    shapes = {key: entry["shape"] for file in files for key, entry in _header(file).items()}
    return _Weights(files=files, keys=set(shapes), shapes=shapes)


def _pickled_keys(folder: Path) -> set[str] | None:
    """Names of pickled tensors, if an index tells them."""
    index = folder / PICKLE_INDEX
    return set(read_index_file(index)["weight_map"]) if index.is_file() else None


def _has(keys: set[str] | None, prefix: str) -> bool | None:
    """Whether there are weights under a prefix; None if that is unknown."""
    return None if keys is None else any(key.startswith(prefix) for key in keys)


def _tool(kind: type[RoutedTool[Any, Any]], keys: set[str] | None) -> dict[str, Any]:
    """One installed tool, and whether the checkpoint has a decoder for it."""
    description = kind.describe()
    return {
        "name": description.name,
        "available": _has(keys, kind.checkpoint_prefix),
        "description": description.description,
        "tokens": description.tokens,
    }


def _by_part(shapes: Mapping[str, list[int]]) -> dict[str, int]:
    """Number of values by the first part of their key."""
    counts: Counter[str] = Counter()
    for key, shape in shapes.items():
        counts[key.partition(".")[0]] += math.prod(shape)
    return dict(sorted(counts.items()))


def _header(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > file.stat().st_size:
                raise ValueError("the header is longer than the file")
            header = dict(json.loads(stream.read(length)))
    except (OSError, struct.error, ValueError) as error:
        raise CheckpointError(
            f"the weight file cannot be read: {error}", value=file.name, remedy="Download it again."
        ) from error
    header.pop("__metadata__", None)
    return header


def print_facts(facts: dict[str, Any]) -> None:
    """The facts as tables."""
    console = Console()
    console.print(f"visionllm-sdk {facts['version']}", style="bold")
    console.print(facts["checkpoint"], markup=False, highlight=False, soft_wrap=True)
    grid = Table.grid(padding=(0, 2))
    grid.add_row("size", _size(facts))
    for part in ("language_model", "vision_encoder"):
        grid.add_row(
            part.replace("_", " "), ", ".join(f"{name} {value}" for name, value in facts[part].items())
        )
    grid.add_row("region prompts", _WORDS[facts["region_prompts"]])
    console.print(grid)
    tools = Table("tool", "here", "token", "when", header_style="bold")
    for tool in facts["tools"]:
        for token, purpose in tool["tokens"].items():
            tools.add_row(tool["name"], _WORDS[tool["available"]], token.replace("[", r"\["), purpose)
    console.print(tools)
    if facts["remedy"]:
        console.print(f"To know more: {facts['remedy']}", markup=False, highlight=False, soft_wrap=True)


def _size(facts: dict[str, Any]) -> str:
    if facts["parameters"] is None:
        return f"{facts['megabytes']} MB of pickled weights; shapes are unknown until they are converted"
    return f"{facts['parameters'] / 1e6:.1f} M parameters, {facts['megabytes']} MB"
