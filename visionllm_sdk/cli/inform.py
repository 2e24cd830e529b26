"""What a checkpoint holds, read without loading its weights."""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from visionllm_sdk import __version__
from visionllm_sdk.errors import CheckpointError
from visionllm_sdk.model.config import read_config
from visionllm_sdk.skills.loading import checkpoint_folder
from visionllm_sdk.tool import RoutedTool, discover_tools


def describe(model: str | None) -> dict[str, Any]:
    """Facts about a checkpoint and about this installation, JSON-safe.

    Raises:
        CheckpointError: no such checkpoint, or a file of it is broken.
    """
    folder = checkpoint_folder(model)
    config = read_config(folder)
    weights = sorted(folder.glob("*.safetensors"))
    shapes = {key: entry["shape"] for file in weights for key, entry in _header(file).items()}
    return {
        "version": __version__,
        "checkpoint": str(folder),
        "megabytes": round(sum(file.stat().st_size for file in weights) / 1e6, 1),
        "parameters": sum(math.prod(shape) for shape in shapes.values()),
        "parameters_by_part": _by_part(shapes),
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
        "tools": [_tool(kind, shapes) for kind in discover_tools()],
    }


def _tool(kind: type[RoutedTool[Any, Any]], keys: Iterable[str]) -> dict[str, Any]:
    """One installed tool, and whether the checkpoint has a decoder for it."""
    description = kind.describe()
    return {
        "name": description.name,
        "available": any(key.startswith(kind.checkpoint_prefix) for key in keys),
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
    console.print(f"{facts['checkpoint']}", markup=False)
    grid = Table.grid(padding=(0, 2))
    language, vision = facts["language_model"], facts["vision_encoder"]
    millions = f"{facts['parameters'] / 1e6:.1f} M parameters, {facts['megabytes']} MB"
    grid.add_row("size", millions)
    grid.add_row("language model", ", ".join(f"{name} {value}" for name, value in language.items()))
    grid.add_row("vision encoder", ", ".join(f"{name} {value}" for name, value in vision.items()))
    console.print(grid)
    tools = Table("tool", "here", "token", "when", header_style="bold")
    for tool in facts["tools"]:
        for token, purpose in tool["tokens"].items():
            tools.add_row(
                tool["name"], "yes" if tool["available"] else "no", token.replace("[", r"\["), purpose
            )
    console.print(tools)
