"""Reading and writing weights in the released layout: safetensors only, one file or shards with an index.

Everything is checked before anything is loaded: a checkpoint that does not fit leaves the modules untouched
and gives one error that lists every missing, unexpected and misshaped key.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from visionllm_sdk.errors import CheckpointError
from visionllm_sdk.model.keys import KeyTable

INDEX_SUFFIX = ".index.json"
SINGLE_FILE = "model.safetensors"
_SHARD_BYTES = 4 * 1024**3
_SHOWN = 8


class WeightFiles:
    """The safetensors files of a folder as one read-only mapping from key to tensor, memory-mapped.

    Args:
        folder: holds ``*.safetensors`` files, with an ``*.index.json`` if there are several.

    Raises:
        CheckpointError: no file, only pickles, a shard that the index names is absent, or a broken file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        index = _read_index(folder)
        names = sorted(set(index["weight_map"].values())) if index else _single_file(folder)
        self._files = {name: _open(folder / name) for name in names}
        self._where: dict[str, str] = {}
        self._aliases: dict[str, str] = dict(index.get("aliases", {})) if index else {}
        for name, file in self._files.items():
            self._where |= dict.fromkeys(file.keys(), name)
            self._aliases |= json.loads((file.metadata() or {}).get("aliases", "{}"))
        absent = sorted(set(index["weight_map"]) - set(self._where)) if index else []
        if absent:
            raise CheckpointError(
                f"the index names {len(absent)} key(s) that no file holds",
                value=absent[:_SHOWN],
                remedy="Download the checkpoint again: a shard belongs to another version.",
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
    try:
        index = json.loads(found[0].read_text(encoding="utf-8"))
        weight_map = index["weight_map"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"the index {found[0].name} cannot be read: {error}", remedy="Download it again."
        ) from error
    absent = sorted({name for name in weight_map.values() if not (folder / name).is_file()})
    if absent:
        raise CheckpointError(
            "shards that the index names are absent", value=absent, remedy="Complete the download."
        )
    return dict(index)


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
    pickles = sorted(path.name for path in folder.glob("*.bin"))
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


@dataclass(slots=True)
class KeyReport:
    """How the keys of a checkpoint deviate from what the modules expect.

    Attributes:
        missing: released keys that no file holds.
        unexpected: keys under a module's prefix that it has no place for.
        misshaped: key, shape found, shape expected.
    """

    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misshaped: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.misshaped)

    def raise_if_any(self) -> None:
        """Raise one error that names the deviations.

        Raises:
            CheckpointError: there is at least one.
        """
        if not self:
            return
        lines = [*_list("missing", self.missing), *_list("unexpected", self.unexpected)]
        shapes = [f"{key} {found}, expected {wanted}" for key, found, wanted in self.misshaped]
        lines += _list("misshaped", shapes)
        raise CheckpointError(
            "the weights do not fit the configuration: " + "; ".join(lines),
            remedy="Take config.json and the weights from one and the same download.",
        )


def _list(word: str, items: Sequence[str]) -> list[str]:
    more = f", and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return [f"{len(items)} {word} ({', '.join(items[:_SHOWN])}{more})"] if items else []


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Target:
    """A module and the checkpoint keys that belong to it.

    Attributes:
        module: its parameters and persistent buffers are loaded.
        prefix: stands before the module's own keys; the empty string for the core.
        owned: a released key belongs to this module if it starts with one of these.
        table: key table, from released keys to ``prefix`` + module key.
        device: where its tensors go.
        dtype: number format of floating tensors; None keeps what is stored.
    """

    module: nn.Module
    prefix: str = ""
    owned: tuple[str, ...]
    table: KeyTable = field(default_factory=KeyTable)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype | None = None


def load_weights(files: WeightFiles, targets: Sequence[Target]) -> None:
    """Check all targets against the files, then load all of them. Tensors replace the modules' own.

    Raises:
        CheckpointError: any deviation; nothing has been loaded then.
    """
    plans = check_weights(files, targets)
    for target, keys in zip(targets, plans, strict=True):
        _load(files, target, keys)


def check_weights(files: WeightFiles, targets: Sequence[Target]) -> list[list[str]]:
    """The released keys of every target, if all of them fit; reads shapes alone.

    Raises:
        CheckpointError: any deviation.
    """
    plans = [_plan(files, target) for target in targets]
    report = KeyReport()
    for _, part in plans:
        report.missing += part.missing
        report.unexpected += part.unexpected
        report.misshaped += part.misshaped
    report.raise_if_any()
    return [keys for keys, _ in plans]


def _plan(files: WeightFiles, target: Target) -> tuple[list[str], KeyReport]:
    """The released keys to load into a target, and every deviation."""
    state = {target.prefix + name: value for name, value in _state(target.module).items()}
    keys = [key for key in files if key.startswith(target.owned)]
    report = KeyReport()
    covered: set[int] = set()
    for key in keys:
        names, split = target.table.to_module(key)
        unknown = [name for name in names if name not in state]
        if unknown:
            report.unexpected.append(key)
            continue
        covered |= {id(state[name]) for name in names}
        report.misshaped += _misshaped(key, files.shape(key), [state[name] for name in names], split)
    # A tensor that several module keys share needs to be stored under one of them only.
    absent = [name for name, value in state.items() if id(value) not in covered]
    report.missing += sorted({target.table.to_released(name)[0] for name in absent})
    return keys, report


def _misshaped(
    key: str, found: tuple[int, ...], wanted: Sequence[Tensor], split: Any
) -> list[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    try:
        pieces = [tuple(piece.shape) for piece in split(torch.empty(found, device="meta"))]
    except RuntimeError:
        pieces = []  # the stored shape cannot even be split
    shapes = [tuple(tensor.shape) for tensor in wanted]
    if pieces == shapes:
        return []
    expected = shapes[0] if len(shapes) == 1 else (sum(shape[0] for shape in shapes), *shapes[0][1:])
    return [(key, found, expected)]


def _state(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers themselves (shared ones under each of their names)."""
    return dict(module.state_dict(keep_vars=True))


def _load(files: WeightFiles, target: Target, keys: Iterable[str]) -> None:
    owners = _owners(target.module)
    done: dict[int, Tensor] = {}
    for key in keys:
        names, split = target.table.to_module(key)
        for name, piece in zip(names, split(files.read(key)), strict=True):
            holders = owners[name.removeprefix(target.prefix)]
            old = getattr(*holders[0])
            if id(old) in done:
                continue  # another key of a shared tensor
            new = _place(piece, old, target)
            for module, attribute in holders:
                setattr(module, attribute, new)
            done[id(new)] = old  # keeps the old tensor alive, so that its id stays unique
            done[id(old)] = new


def _owners(module: nn.Module) -> dict[str, list[tuple[nn.Module, str]]]:
    """For every state-dict key, all places that hold the same tensor."""
    places: dict[int, list[tuple[nn.Module, str]]] = {}
    keys: dict[str, int] = {}
    for prefix, part in module.named_modules(remove_duplicate=False):
        for name, tensor in (*part._parameters.items(), *part._buffers.items()):
            if tensor is None:
                continue
            keys[f"{prefix}.{name}" if prefix else name] = id(tensor)
            holders = places.setdefault(id(tensor), [])
            if not any(holder is part and attribute == name for holder, attribute in holders):
                holders.append((part, name))
    return {key: places[index] for key, index in keys.items()}


def _place(piece: Tensor, old: Tensor, target: Target) -> Tensor:
    dtype = target.dtype if piece.is_floating_point() and target.dtype is not None else piece.dtype
    value = piece.to(device=target.device, dtype=dtype).contiguous()
    if isinstance(old, nn.Parameter):
        return nn.Parameter(value, requires_grad=old.requires_grad)
    return value


def collect_weights(targets: Sequence[Target]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors of modules under their released keys.

    Returns:
        Tensors by key, and further keys of shared tensors: alias to the key that is stored.
    """
    tensors: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    for target in targets:
        state = {target.prefix + name: value for name, value in _state(target.module).items()}
        stored: dict[tuple[int, ...], str] = {}
        for name in state:
            key, names, join = target.table.to_released(name)
            identity = tuple(id(state[one]) for one in names)
            if identity in stored:
                if stored[identity] != key:
                    aliases[key] = stored[identity]
                continue
            stored[identity] = key
            tensors[key] = join(*(state[one].detach() for one in names))
    return tensors, aliases


def save_weights(
    folder: Path,
    targets: Sequence[Target],
    *,
    dtype: torch.dtype | None = None,
    shard_bytes: int = _SHARD_BYTES,
) -> None:
    """Write modules in the released layout: one file, or shards with an index.

    Args:
        folder: is created.
        targets: modules with their prefixes and key tables.
        dtype: number format of floating tensors in the files; None keeps the modules'.
        shard_bytes: most bytes of one file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors, aliases = collect_weights(targets)
    stored = {key: _for_file(tensor, dtype) for key, tensor in tensors.items()}
    shards = _shards(stored, shard_bytes)
    metadata = {"format": "pt", "aliases": json.dumps(aliases)}
    if len(shards) == 1:
        save_file(shards[0], folder / SINGLE_FILE, metadata=metadata)
        return
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, folder / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, name)
    size = sum(tensor.nbytes for tensor in stored.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map, "aliases": aliases}
    (folder / (SINGLE_FILE + INDEX_SUFFIX)).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def _for_file(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    converted = tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor
    return converted.cpu().contiguous()


def _shards(tensors: Mapping[str, Tensor], limit: int) -> list[dict[str, Tensor]]:
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for key, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > limit:
            shards.append({})
            size = 0
        shards[-1][key] = tensor
        size += tensor.nbytes
    return shards
