"""The safetensors files of a folder, read-only and memory-mapped."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from visionllm_sdk.errors import CheckpointError
from visionllm_sdk.model.checksums import verify
from visionllm_sdk.model.writing import INDEX_SUFFIX, SINGLE_FILE

PICKLES = "pytorch_model*.bin"
"""Names of pickled weights; other pickles, such as ``training_args.bin``, hold none."""
_SHOWN = 8


class WeightFiles:
    """The safetensors files of a folder as one read-only mapping from key to tensor, memory-mapped.

    Args:
        folder: holds ``*.safetensors`` files, with an ``*.index.json`` if there are several.
        check: compare the files with their checksums, where some are known.

    Raises:
        CheckpointError: no file, only pickles, a shard that the index names is absent, or a broken file.
    """

    def __init__(self, folder: Path, *, check: bool = True) -> None:
        self.folder = folder
        index = _read_index(folder)
        names = sorted(set(index["weight_map"].values())) if index else _single_file(folder)
        if check:
            verify(folder, names)
        self._files = {name: _open(folder / name) for name in names}
        self._where: dict[str, str] = {}
        self._aliases: dict[str, str] = dict(index.get("aliases", {})) if index else {}
        for name, file in self._files.items():
            # In the order in which they lie in the file: reading runs from its start to its end.
            self._where |= dict.fromkeys(file.offset_keys(), name)
            self._aliases |= json.loads((file.metadata() or {}).get("aliases", "{}"))
        self._check(index)

    def _check(self, index: dict[str, Any]) -> None:
        absent = sorted(set(index.get("weight_map", ())) - set(self._where))
        if absent:
            raise CheckpointError(
                f"the index names {len(absent)} key(s) that no file holds",
                value=absent[:_SHOWN],
                remedy="Download the checkpoint again: a shard belongs to another version.",
            )
        lost = sorted(key for key, stored in self._aliases.items() if stored not in self._where)
        if lost:
            raise CheckpointError(
                f"{len(lost)} shared key(s) refer to tensors that no file holds",
                value=lost[:_SHOWN],
                remedy="Download the checkpoint again: a file belongs to another version.",
            )

    def __contains__(self, key: object) -> bool:
        return key in self._where or key in self._aliases

    def __iter__(self) -> Iterator[str]:
        return iter([*self._where, *self._aliases])

    def __len__(self) -> int:
        return len(self._where) + len(self._aliases)

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it."""
        stored = self._aliases.get(key, key)
        return tuple(self._files[self._where[stored]].get_slice(stored).get_shape())

    def read(self, key: str) -> Tensor:
        """The tensor as stored, on the CPU.

        Raises:
            CheckpointError: the file is truncated.
        """
        stored = self._aliases.get(key, key)
        try:
            tensor: Tensor = self._files[self._where[stored]].get_tensor(stored)
        except SafetensorError as error:
            raise _broken(self.folder / self._where[stored], error) from error
        return tensor

    def count(self, prefix: str) -> int:
        """Number of values under all keys that start with `prefix`."""
        return sum(math.prod(self.shape(key)) for key in self if key.startswith(prefix))

    def prefixes(self) -> list[str]:
        """Distinct first parts of all keys, each with its dot."""
        return sorted({key.partition(".")[0] + "." for key in self})


def _read_index(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise CheckpointError(
            "the checkpoint folder does not exist", value=str(folder), remedy="Correct the path."
        )
    found = sorted(path for path in folder.glob("*" + INDEX_SUFFIX) if ".bin" not in path.name)
    if not found:
        return {}
    if len(found) > 1:
        raise CheckpointError(
            "the checkpoint folder holds several indexes",
            value=[path.name for path in found],
            limit="one",
            remedy="Keep the one that belongs to the weights.",
        )
    index = read_index_file(found[0])
    require_shards(folder, index)
    return index


def read_index_file(path: Path) -> dict[str, Any]:
    """The index of a sharded checkpoint.

    Raises:
        CheckpointError: it is broken, or names files outside of its folder.
    """
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        names = {str(name) for name in index["weight_map"].values()}
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"the index {path.name} cannot be read: {error}", remedy="Download it again."
        ) from error
    foreign = sorted(name for name in names if Path(name).name != name)
    if foreign:
        raise CheckpointError(
            f"the index {path.name} names files outside of its folder",
            value=foreign,
            remedy="Do not use this checkpoint.",
        )
    return dict(index)


def require_shards(folder: Path, index: dict[str, Any]) -> None:
    """See that every file of an index is there.

    Raises:
        CheckpointError: one is not.
    """
    absent = sorted({name for name in index["weight_map"].values() if not (folder / name).is_file()})
    if absent:
        raise CheckpointError(
            "shards that the index names are absent", value=absent, remedy="Complete the download."
        )


def _single_file(folder: Path) -> list[str]:
    names = sorted(path.name for path in folder.glob("*.safetensors"))
    if len(names) == 1:
        return names
    if names:
        raise CheckpointError(
            "the checkpoint folder holds several safetensors files and no index",
            value=names,
            remedy=f"Add the {SINGLE_FILE}{INDEX_SUFFIX} file of the download.",
        )
    pickles = sorted(path.name for path in folder.glob(PICKLES))
    if pickles:
        raise CheckpointError(
            "the weights are stored as pickles, which can execute code when read",
            value=pickles,
            limit="safetensors",
            remedy="Convert them once with `visionllm convert`.",
        )
    raise CheckpointError(
        "the checkpoint folder holds no safetensors file",
        value=str(folder),
        remedy="Check the path, and that the download is complete.",
    )


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        raise _broken(path, error) from error


def _broken(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"the weight file cannot be read: {error}", value=path.name, remedy="Download it again."
    )
