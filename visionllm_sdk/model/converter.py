"""The child process of :mod:`visionllm_sdk.model.convert`: takes one request, reports in lines."""

from __future__ import annotations

import json
import pickle
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from visionllm_sdk.errors import CheckpointError
from visionllm_sdk.model.checksums import FileSum, write_checksums
from visionllm_sdk.model.writing import shard_name, write_index, write_tensors

Report = Callable[[dict[str, Any]], None]
_REPORT_BYTES = 2**26


@dataclass(slots=True)
class _Written:
    """What has been written so far."""

    weight_map: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    sums: dict[str, FileSum] = field(default_factory=dict)
    size: int = 0


def convert(shards: Sequence[Path], target: Path, report: Report) -> None:
    """Convert pickled shards, one after the other.

    Args:
        shards: the files.
        target: an existing folder.
        report: takes ``{"done": bytes, "number": shard}``.

    Raises:
        CheckpointError: a file is broken or holds anything but tensors, or two hold the same key.
    """
    written = _Written()
    for number, path in enumerate(shards, start=1):
        _convert_shard(path, target / shard_name(number, len(shards)), number, written, report)
    write_index(target, written.weight_map, written.aliases, size=written.size)
    write_checksums(target, written.sums)


def _convert_shard(path: Path, to: Path, number: int, written: _Written, report: Report) -> None:
    state = _read(path)
    twice = sorted((written.weight_map.keys() | written.aliases.keys()) & state.keys())
    if twice:
        raise CheckpointError(
            f"{path.name} repeats keys of an earlier file", value=twice[:8], remedy="Download it again."
        )
    tensors, aliases = _without_copies(state)
    pending = 0

    def progress(count: int) -> None:
        nonlocal pending
        pending += count
        if pending >= _REPORT_BYTES:
            written.size += pending
            pending = 0
            report({"done": written.size, "number": number})

    written.sums[to.name] = write_tensors(to, tensors, progress=progress)
    written.size += pending
    written.weight_map |= dict.fromkeys(tensors, to.name)
    written.aliases |= aliases
    report({"done": written.size, "number": number})


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a pickle, memory-mapped where its form allows it."""
    try:
        content = torch.load(  # noqa: TID251 - the one reader of pickles, restricted to tensors
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path.name} holds more than tensors and was not read: {_first_line(error)}",
            value=path.name,
            limit="tensors by key",
            remedy="Do not use this checkpoint: a pickle can hold programs.",
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{path.name} cannot be read: {_first_line(error)}",
            value=path.name,
            remedy="Download it again.",
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path.name} does not hold weights",
            value=type(content).__name__,
            limit="tensors by key",
            remedy="Take the file from a VisionLLM v2 download.",
        )
    for key, value in content.items():
        if not (isinstance(key, str) and isinstance(value, Tensor)):
            raise CheckpointError(
                f"{path.name} holds something else than tensors by key",
                value=f"{key!r}: {type(value).__name__}",
                limit="tensors by key",
                remedy="Take the file from a VisionLLM v2 download.",
            )
    return content


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__


def _without_copies(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors that several keys share stand under the first of them; the others become aliases."""
    tensors: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    first: dict[tuple[Any, ...], str] = {}
    for key, tensor in state.items():
        view = (tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        identity = (tensor.untyped_storage().data_ptr(), *view) if tensor.numel() else (key,)
        if identity in first:
            aliases[key] = first[identity]
        else:
            first[identity] = key
            tensors[key] = tensor
    return tensors, aliases


def main() -> None:
    """Carry out the request in the first argument; every line of output is one JSON message."""
    request = json.loads(sys.argv[1])

    def report(message: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()

    try:
        convert([Path(name) for name in request["shards"]], Path(request["target"]), report)
    except CheckpointError as error:
        parts: dict[str, Any] = {"problem": error.problem, "remedy": error.remedy}
        given = {name: part for name in ("value", "limit") if (part := getattr(error, name)) is not None}
        report({"error": parts | given})


if __name__ == "__main__":
    main()
