"""Checksums of weight files: written beside them, checked before they are read.

A safetensors file with a flipped byte looks sound and gives wrong numbers. ``checksums.json`` in a checkpoint
folder tells; for files in the model hub's cache, the name under which the cache keeps them is their checksum.
Large files are read once for this: afterwards a mark in the local cache says which file, of which size and
time of change, was found to be whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from visionllm_sdk.errors import CheckpointError

CHECKSUM_FILE: Final = "checksums.json"
CACHE_VARIABLE: Final = "VISIONLLM_CACHE"
_REMEMBERED_BYTES: Final = 64 * 2**20
"""Files below this size are checked every time; larger ones once."""
_REMEDY: Final = f"Download it again, or remove {CHECKSUM_FILE} if the file was changed on purpose."
_BLOB = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSum:
    """Size in bytes and SHA-256 of a file."""

    size: int
    sha256: str


def cache_folder() -> Path:
    """Where this package keeps what it can make again: ``$VISIONLLM_CACHE``, or below the user's cache."""
    if CACHE_VARIABLE in os.environ:
        return Path(os.environ[CACHE_VARIABLE]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "visionllm-sdk"


def write_checksums(folder: Path, sums: Mapping[str, FileSum]) -> None:
    """Write the checksums of a folder's weight files."""
    content = {"files": {name: asdict(one) for name, one in sorted(sums.items())}}
    (folder / CHECKSUM_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def verify(folder: Path, names: Iterable[str]) -> None:
    """Compare files with their checksums; a file that none is known of passes.

    Raises:
        CheckpointError: another size or another checksum, or a list of checksums that cannot be read.
    """
    known = _read(folder / CHECKSUM_FILE)
    for name in names:
        path = folder / name
        expected = known.get(name) or _hub_sum(path)
        if expected is not None:
            _check(path, expected)


def _read(path: Path) -> dict[str, FileSum]:
    if not path.is_file():
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["files"]
        return {name: FileSum(**entry) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path.name} cannot be read: {error}",
            value=str(path),
            remedy="Download it again, or remove it to load without checking.",
        ) from error


def _hub_sum(path: Path) -> FileSum | None:
    """The checksum that the hub's cache names a large file by."""
    real = path.resolve()
    if path.is_symlink() and real.parent.name == "blobs" and _BLOB.fullmatch(real.name) and real.is_file():
        return FileSum(size=real.stat().st_size, sha256=real.name)
    return None


def _check(path: Path, expected: FileSum) -> None:
    facts = path.stat()
    if facts.st_size != expected.size:
        raise CheckpointError(
            f"the weight file {path.name} cannot be read: it is not complete",
            value=f"{facts.st_size} bytes",
            limit=f"{expected.size} bytes",
            remedy=_REMEDY,
        )
    mark = _mark(path, expected)
    if facts.st_size >= _REMEMBERED_BYTES and mark.is_file():
        return
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != expected.sha256:
        raise CheckpointError(
            f"the weight file {path.name} is damaged: its checksum differs from the recorded one",
            value=found,
            limit=expected.sha256,
            remedy=_REMEDY,
        )
    if facts.st_size >= _REMEMBERED_BYTES:
        # Without a cache that can be written to, the file is read again next time; nothing else is lost.
        with contextlib.suppress(OSError):
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()


def _mark(path: Path, expected: FileSum) -> Path:
    real = path.resolve()
    facts = real.stat()
    text = f"{real}|{facts.st_size}|{facts.st_mtime_ns}|{facts.st_ino}|{expected.sha256}"
    return cache_folder() / "verified" / hashlib.sha256(text.encode()).hexdigest()
