"""`visionllm generate` and `visionllm edit`: pictures from words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visionllm_sdk.cli.calls import ImageCall, RequestCall, takes
from visionllm_sdk.cli.loading import load_images
from visionllm_sdk.cli.options import ImageArgument

if TYPE_CHECKING:
    from visionllm_sdk.results import Picture

SaveOption = Annotated[
    Path, typer.Option("--save", "-s", metavar="FILE", help="Where to write: .png, .jpg or .webp.")
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", help="Fixes the picture; drawn if not given.", show_default=False)
]
StepsOption = Annotated[
    int | None, typer.Option("--steps", help="Denoising steps; the checkpoint's own.", show_default=False)
]
GuidanceOption = Annotated[
    float | None,
    typer.Option("--guidance", help="How closely to follow the words.", show_default=False),
]
MetadataOption = Annotated[
    bool,
    typer.Option("--metadata/--no-metadata", help="Write prompt, seed and model into the file."),
]


@takes(RequestCall)
def generate(
    prompt: Annotated[str, typer.Argument(help="What to draw.", show_default=False)],
    save: SaveOption = Path("picture.png"),
    count: Annotated[int, typer.Option("--count", "-n", help="How many pictures.")] = 1,
    seed: SeedOption = None,
    steps: StepsOption = None,
    guidance: GuidanceOption = None,
    size: Annotated[
        str | None,
        typer.Option("--size", metavar="WxH", help="In pixels, such as 96x64 or 64.", show_default=False),
    ] = None,
    metadata: MetadataOption = True,
    *,
    call: RequestCall,
) -> None:
    """Draw what a caption says."""
    _check_target(save)
    wanted = None if size is None else parse_size(size)
    vlm, adapter = call.load_adapted()
    (made,) = vlm.generate(
        [prompt], n=count, seed=seed, steps=steps, guidance=guidance, size=wanted, adapter=adapter
    )
    _write(made if isinstance(made, list) else [made], save, metadata=metadata, as_json=call.as_json)


@takes(ImageCall)
def edit(
    image: ImageArgument,
    instruction: Annotated[str, typer.Argument(help="What to change.", show_default=False)],
    save: SaveOption = Path("edited.png"),
    seed: SeedOption = None,
    steps: StepsOption = None,
    guidance: GuidanceOption = None,
    metadata: MetadataOption = True,
    *,
    call: ImageCall,
) -> None:
    """Change an image as told, and leave the rest as it is."""
    _check_target(save)
    (source,) = load_images([image], call.allow_urls)
    vlm, adapter = call.load_adapted()
    made = vlm.edit(source, instruction, seed=seed, steps=steps, guidance=guidance, adapter=adapter)
    _write([made], save, metadata=metadata, as_json=call.as_json)


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of `96x64`, or of `64` for a square.

    Raises:
        InputError: anything else.
    """
    from visionllm_sdk.errors import InputError

    found = re.fullmatch(r"(\d{1,6})(?:[xX](\d{1,6}))?", text.strip())
    if found is None:
        raise InputError(
            "this is not a size", value=text, limit="WxH in pixels", remedy="Write it like 96x64."
        )
    return int(found[1]), int(found[2] or found[1])


def _check_target(save: Path) -> None:
    from visionllm_sdk.cli import show

    show.check_target(save, made=True)


def _write(pictures: Sequence[Picture], save: Path, *, metadata: bool, as_json: bool) -> None:
    """Save the pictures, several with a number in their names, and say where they are."""
    from visionllm_sdk.cli import show

    named = [
        save if len(pictures) == 1 else save.with_stem(f"{save.stem}_{number:03d}")
        for number in range(len(pictures))
    ]
    for picture, path in zip(pictures, named, strict=True):
        picture.save(path, metadata=metadata)
    if as_json:
        data = [
            {**picture.model_dump(mode="json", exclude={"handle", "source"}), "path": str(path)}
            for picture, path in zip(pictures, named, strict=True)
        ]
        show.print_json(data[0] if len(data) == 1 else data)
        return
    for picture, path in zip(pictures, named, strict=True):
        show.messages().print(f"{path} (seed {picture.seed})", markup=False, highlight=False, soft_wrap=True)
