"""The first load of a checkpoint whose weights are pickled: converted once, kept in the local cache."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from visionllm_sdk.model.convert import ConvertProgress, Listener

_log = logging.getLogger(__name__)


def readable_folder(folder: Path) -> Path:
    """The folder itself, or the converted form of its pickled weights, which is made if need be.

    Raises:
        CheckpointError: a pickle that is broken or holds anything but tensors, or no room on the disk.
    """
    from visionllm_sdk.model.convert import convert_checkpoint, converted_folder, has_pickles_only

    if not has_pickles_only(folder):
        return folder
    target = converted_folder(folder)
    if not target.is_dir():
        from rich.console import Console

        _log.info("converting the pickled weights of %s to safetensors in %s", folder, target)
        with conversion_bar(Console(stderr=True)) as listener:
            convert_checkpoint(folder, target, listener=listener)
    return target


@contextmanager
def conversion_bar(console: Console) -> Iterator[Listener]:
    """A progress bar that listens to a conversion; where the console is no terminal nothing is shown."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("Converting the weights", total=None)

        def listen(state: ConvertProgress) -> None:
            text = f"Converting {state.shard} ({state.number}/{state.shards})"
            bar.update(task, description=text, total=state.total, completed=state.done)

        yield listen
