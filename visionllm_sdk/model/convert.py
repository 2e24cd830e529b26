"""Pickled weights (``pytorch_model*.bin``) to safetensors, once, in a process of their own.

Pickles can hold programs. They are read by torch's restricted reader (``weights_only=True``), which knows
tensors and plain containers and refuses everything else, in a child process that has nothing else to lose;
shard by shard, memory-mapped, and written tensor by tensor, so that the peak of memory is one shard. The
result appears under its name only when it is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from visionllm_sdk.errors import CheckpointError
from visionllm_sdk.model.checksums import cache_folder
from visionllm_sdk.model.weights import PICKLES, read_index_file, require_shards

PICKLE_INDEX: Final = "pytorch_model.bin.index.json"
_BESIDE = ("*.json", "tokenizer.model")
"""Files that go along with the weights."""
_NOT_BESIDE = (".index.json", "checksums.json")
_SPARE_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertProgress:
    """How far a conversion is.

    Attributes:
        done: bytes of weights written.
        total: bytes of the source files.
        shard: file that is being read.
        shards: number of files.
        number: of the file, from 1.
    """

    done: int
    total: int
    shard: str
    number: int
    shards: int


Listener = Callable[[ConvertProgress], None]


def has_pickles_only(folder: Path) -> bool:
    """Whether a folder has pickled weights and no safetensors."""
    return any(folder.glob(PICKLES)) and not any(folder.glob("*.safetensors"))


def pickle_files(folder: Path) -> list[Path]:
    """The pickled weight files of a folder, in order.

    Raises:
        CheckpointError: none, one that the index names is absent, or several and no index.
    """
    index = folder / PICKLE_INDEX
    if index.is_file():
        content = read_index_file(index)
        require_shards(folder, content)
        return [folder / name for name in sorted(set(content["weight_map"].values()))]
    found = sorted(folder.glob(PICKLES))
    if len(found) == 1:
        return found
    raise CheckpointError(
        "the folder holds several weight files and no index"
        if found
        else "the folder holds no pickled weights",
        value=[path.name for path in found] or str(folder),
        limit=f"one {PICKLES}, or several with {PICKLE_INDEX}",
        remedy="Check the path, and that the download is complete.",
    )


def converted_folder(source: Path) -> Path:
    """Where in the local cache the converted form of a folder is kept; another one when a file changes."""
    digest = hashlib.sha256()
    for path in pickle_files(source):
        facts = path.stat()
        digest.update(f"{path.resolve()}|{facts.st_size}|{facts.st_mtime_ns}\n".encode())
    for path in _companions(source):
        digest.update(path.read_bytes())
    return cache_folder() / "converted" / f"{source.resolve().name}-{digest.hexdigest()[:16]}"


def convert_checkpoint(source: Path, target: Path, *, listener: Listener | None = None) -> Path:
    """Write a folder's weights as safetensors into another folder, with its configuration and tokenizer.

    Args:
        source: folder with ``pytorch_model*.bin`` files; is not changed.
        target: does not exist yet.
        listener: is told how far it is.

    Returns:
        The target.

    Raises:
        CheckpointError: a file is absent, broken, or holds anything but tensors; the target exists; or the
            disk is too small. Nothing is left behind.
    """
    shards = pickle_files(source)
    if target.exists():
        raise CheckpointError(
            "the folder to write to exists already",
            value=str(target),
            remedy="Name another one, or remove it.",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    total = sum(path.stat().st_size for path in shards)
    free = shutil.disk_usage(target.parent).free
    if free < total + _SPARE_BYTES:
        raise CheckpointError(
            "the disk is too small for the converted weights",
            value=f"{free / 1e9:.1f} GB free",
            limit=f"{total / 1e9:.1f} GB",
            remedy="Make room, name another folder, or set VISIONLLM_CACHE to another disk.",
        )
    with _partial(target) as partial:
        for path in _companions(source):
            shutil.copyfile(path, partial / path.name)
        _run_child(shards, partial, total, listener)
        _publish(partial, target)
    return target


def _companions(source: Path) -> list[Path]:
    found = [path for pattern in _BESIDE for path in sorted(source.glob(pattern))]
    return [path for path in found if not path.name.endswith(_NOT_BESIDE)]


@contextmanager
def _partial(target: Path) -> Iterator[Path]:
    """A folder beside the target that does not outlive an error."""
    partial = target.with_name(f"{target.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _publish(partial: Path, target: Path) -> None:
    try:
        partial.rename(target)
    except OSError as error:
        if not target.is_dir():
            raise CheckpointError(
                f"the converted weights cannot be moved to their place: {error}",
                value=str(target),
                remedy="Check the permissions of that folder.",
            ) from error
        # Another process was faster; its result is as good as ours.


def _run_child(shards: list[Path], partial: Path, total: int, listener: Listener | None) -> None:
    """Let a child process convert; pass on its progress and its error."""
    request = json.dumps({"shards": [str(path.resolve()) for path in shards], "target": str(partial)})
    # The child finds this package where this process found it.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with (
        tempfile.TemporaryFile("w+") as complaints,
        subprocess.Popen(
            [sys.executable, "-m", "visionllm_sdk.model.converter", request],
            stdout=subprocess.PIPE,
            stderr=complaints,
            env=environment,
            text=True,
        ) as child,
    ):
        try:
            error = _listen(child.stdout, shards, total, listener)
            code = child.wait()
        finally:
            child.kill()
        complaints.seek(0)
        last = complaints.read().strip().splitlines()[-1:]
    if error is not None:
        raise error
    if code != 0:
        raise CheckpointError(
            "the conversion of pickled weights stopped",
            value=last[0] if last else f"exit code {code}",
            remedy="Check that there is memory for one shard and room on the disk, then try again.",
        )


def _listen(lines: Any, shards: list[Path], total: int, listener: Listener | None) -> CheckpointError | None:
    """Read the child's messages until it ends; returns what it refused."""
    names = [path.name for path in shards]
    for line in lines:
        message: dict[str, Any] = json.loads(line)
        if "error" in message:
            return CheckpointError(**message["error"])
        if listener is not None:
            number = message["number"]
            listener(
                ConvertProgress(
                    done=message["done"],
                    total=total,
                    shard=names[number - 1],
                    number=number,
                    shards=len(names),
                )
            )
    return None
