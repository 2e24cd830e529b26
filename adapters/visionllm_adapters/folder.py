"""The folder of an adapter: a standard PEFT folder, the modules saved beside it, and what they are.

adapter_config.json, adapter_model.safetensors   the low-rank updates, as PEFT writes and reads them
modules.safetensors                              full copies of the other trained tensors
adapter.json                                     base model, contents with checksums, training, metrics
README.md                                        the model card
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from visionllm_sdk.errors import AdapterError

MANIFEST: Final = "adapter.json"
LORA: Final = "adapter_model.safetensors"
LORA_CONFIG: Final = "adapter_config.json"
MODULES: Final = "modules.safetensors"
CARD: Final = "README.md"
_VERSION: Final = 1


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What an adapter is.

    Attributes:
        base: fingerprint of the model that it was made for.
        base_name: its name.
        skills: what it was trained for.
        labels: classes of its data.
        training: the configuration.
        data: name, size and fingerprint of its sets.
        metrics: figures before and after.
        score_shift: tool -> constant added to its class logits, see `training.calibration`.
        files: name -> SHA-256 of the files whose change would change its answers.
        version: of this layout.
    """

    base: str
    base_name: str
    skills: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    score_shift: Mapping[str, float] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    version: int = _VERSION


def write_folder(
    folder: Path,
    manifest: Manifest,
    *,
    lora: Callable[[Path], None],
    modules: Mapping[str, Tensor],
    extra: Callable[[Path], None] | None = None,
) -> Path:
    """Write an adapter; the folder appears when all of it is on the disk, or not at all.

    Args:
        folder: must not exist.
        manifest: its `files` are filled in here.
        lora: writes the PEFT part into a folder.
        modules: other trained tensors by checkpoint key.
        extra: writes reports and logs into a folder.

    Raises:
        AdapterError: the folder exists, or the disk is full or read-only; nothing is left behind then.
    """
    check_target(folder)
    unfinished = folder.with_name(f".{folder.name}.unfinished-{os.getpid()}")
    try:
        unfinished.mkdir(parents=True)
        _fill(unfinished, manifest, lora, modules, extra)
        unfinished.replace(folder)
    except (OSError, RuntimeError) as error:  # safetensors has its own
        shutil.rmtree(unfinished, ignore_errors=True)
        raise AdapterError(
            f"the adapter could not be saved: {error}",
            value=str(folder),
            remedy="Free some space or choose another folder; training can be resumed by the same command.",
        ) from error
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return folder


def check_target(folder: Path) -> None:
    """Refuse a folder that is taken, before any time is spent.

    Raises:
        AdapterError: it exists.
    """
    if folder.exists():
        raise AdapterError(
            "the output folder exists already",
            value=str(folder),
            remedy="Choose another, or remove it first: adapters are never overwritten.",
        )


def _fill(
    folder: Path,
    manifest: Manifest,
    lora: Callable[[Path], None],
    modules: Mapping[str, Tensor],
    extra: Callable[[Path], None] | None,
) -> None:
    from safetensors.torch import save_file

    lora(folder)
    if modules:
        save_file({key: value.contiguous() for key, value in modules.items()}, folder / MODULES)
    if extra is not None:
        extra(folder)
    names = [name for name in (LORA_CONFIG, LORA, MODULES) if (folder / name).is_file()]
    content = asdict(manifest) | {"files": {name: _checksum(folder / name) for name in names}}
    (folder / MANIFEST).write_text(
        json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8"
    )


def _checksum(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """What an adapter is, once it is certain that its files are those that were written.

    Raises:
        AdapterError: no adapter, a missing file, or a file that was changed.
    """
    if not (folder / MANIFEST).is_file():
        raise AdapterError(
            "this is not an adapter folder" if folder.is_dir() else "there is no such adapter",
            value=str(folder),
            limit=f"a folder with {MANIFEST}, as `visionllm finetune` writes it",
        )
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if content.get("version", _VERSION) != _VERSION:  # before its fields, which may be others
            raise AdapterError(
                "the adapter is of another layout",
                value=content["version"],
                limit=_VERSION,
                remedy="Use the version of visionllm-sdk that wrote it.",
            )
        manifest = Manifest(**content | {name: tuple(content[name]) for name in ("skills", "labels")})
        if not all(math.isfinite(shift) for shift in manifest.score_shift.values()):
            raise ValueError(f"score_shift is {manifest.score_shift}")
        if not isinstance(manifest.base, str) or not isinstance(manifest.files, Mapping):
            raise ValueError("`base` is no text, or `files` no object")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise AdapterError(f"{MANIFEST} cannot be read: {error}", value=str(folder)) from error
    for name in {LORA_CONFIG, LORA, *manifest.files}:
        _check_file(folder, name, manifest.files.get(name))
    if (folder / MODULES).is_file() and MODULES not in manifest.files:
        raise _changed(MODULES)
    return manifest


def _check_file(folder: Path, name: str, wanted: str | None) -> None:
    if Path(name).name != name:
        raise _changed(name)
    if not (folder / name).is_file():
        raise AdapterError(
            "the adapter is incomplete", value=f"{name} is missing", remedy="Copy the whole folder again."
        )
    if _checksum(folder / name) != wanted:
        raise _changed(name)


def _changed(name: str) -> AdapterError:
    return AdapterError(
        "a file of the adapter was changed after it was written",
        value=name,
        remedy="Take the folder from its source again, or train anew.",
    )


def read_modules(folder: Path) -> dict[str, Tensor]:
    """Full copies of trained tensors by checkpoint key; empty if there are none."""
    from safetensors.torch import load_file

    path = folder / MODULES
    return load_file(path) if path.is_file() else {}
