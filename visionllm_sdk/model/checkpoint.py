"""Weights in the released layout, from files into modules and back.

Everything is checked before anything is loaded: a checkpoint that does not fit leaves the modules untouched
and gives one error that lists every missing, unexpected and misshaped key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from visionllm_sdk.errors import CheckpointError
from visionllm_sdk.model.keys import KeyTable
from visionllm_sdk.model.weights import WeightFiles
from visionllm_sdk.model.writing import SHARD_BYTES, write_folder

__all__ = [
    "KeyReport", "Maker", "Target", "WeightFiles",
    "check_weights", "collect_weights", "load_weights", "save_weights",
]  # fmt: skip

_SHOWN = 8

Maker = Callable[[Tensor, nn.Parameter, torch.device, torch.dtype], nn.Parameter]
"""Makes a parameter from the stored tensor, the parameter that it replaces, and where and in which format."""


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
        makers: how parameters of special types are made, such as quantised ones.
    """

    module: nn.Module
    prefix: str = ""
    owned: tuple[str, ...]
    table: KeyTable = field(default_factory=KeyTable)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype | None = None
    makers: Mapping[type[nn.Parameter], Maker] = field(default_factory=dict)


def load_weights(files: WeightFiles, targets: Sequence[Target]) -> None:
    """Check all targets against the files, then load all of them. Tensors replace the modules' own.

    A tensor whose number format and device are those of the file stays memory-mapped.

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
        stored = files.read(key)
        if not target.makers:
            stored = stored.to(target.device)  # split, join and convert where it is fast
        for name, piece in zip(names, split(stored), strict=True):
            holders = owners[name.removeprefix(target.prefix)]
            old = getattr(*holders[0])
            if id(old) in done:
                continue  # another key of a shared tensor
            new = _place(piece, old, target)
            for module, attribute in holders:
                setattr(module, attribute, new)
            done[id(new)] = old  # keeps the old tensor alive, so that its id stays unique
            done[id(old)] = new
    _move_buffers(target)


def _move_buffers(target: Target) -> None:
    """Bring buffers that no file stores to the module's device."""
    for module in target.module.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None and not buffer.is_meta and buffer.device != target.device:
                module._buffers[name] = buffer.to(target.device)


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
    if isinstance(old, nn.Parameter) and (maker := target.makers.get(type(old))):
        return maker(piece, old, target.device, dtype)
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
        tensors |= _computed(target, state)
    return tensors, aliases


def _computed(target: Target, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Buffers outside the state that the released form stores nevertheless."""
    found = {}
    for name, buffer in target.module.named_buffers():
        entry = target.table.computed(target.prefix + name)
        if entry is not None and target.prefix + name not in state:
            key, join = entry
            found[key] = join(buffer)
    return found


def save_weights(
    folder: Path,
    targets: Sequence[Target],
    *,
    dtype: torch.dtype | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write modules in the released layout: one file, or shards with an index.

    Args:
        folder: is created.
        targets: modules with their prefixes and key tables.
        dtype: number format of floating tensors in the files; None keeps the modules'.
        shard_bytes: most bytes of one file.

    Raises:
        CheckpointError: a tensor in a number format that the released form does not have.
    """
    tensors, aliases = collect_weights(targets)
    write_folder(folder, tensors, aliases, dtype=dtype, shard_bytes=shard_bytes)
