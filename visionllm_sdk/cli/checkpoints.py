"""The commands about a checkpoint on the disk: `info` and `convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visionllm_sdk.cli.options import JsonOption, ModelOption


def info(model: ModelOption = None, as_json: JsonOption = False) -> None:
    """Show what a checkpoint holds: tools, sizes, limits."""
    from visionllm_sdk.cli import inform, show

    facts = inform.describe(model)
    if as_json:
        show.print_json(facts)
    else:
        inform.print_facts(facts)


def convert(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Folder with .bin files, or hub name.", show_default=False)
    ],
    target: Annotated[
        Path | None,
        typer.Argument(
            metavar="[TARGET]", help="Folder to write. (default: the local cache)", show_default=False
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Convert a checkpoint's pickled weights to safetensors, without executing what they may hold."""
    from visionllm_sdk.cli import show
    from visionllm_sdk.errors import CheckpointError
    from visionllm_sdk.model.convert import convert_checkpoint, converted_folder, has_pickles_only
    from visionllm_sdk.skills.converting import conversion_bar
    from visionllm_sdk.skills.loading import checkpoint_folder

    folder = checkpoint_folder(source)
    if not has_pickles_only(folder):
        raise CheckpointError(
            "there is nothing to convert: the folder has no pickled weights, or safetensors beside them",
            value=str(folder),
            remedy="Load it as it is.",
        )
    place = target or converted_folder(folder)
    if target is not None or not place.is_dir():
        with conversion_bar(show.messages()) as listener:
            convert_checkpoint(folder, place, listener=listener)
    size = sum(path.stat().st_size for path in place.glob("*.safetensors"))
    if as_json:
        show.print_json({"folder": str(place), "bytes": size})
    else:
        show.messages().print(f"{place} ({size / 1e9:.2f} GB)", markup=False, highlight=False, soft_wrap=True)
