"""`visionllm describe`: what region prompts show, in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visionllm_sdk.cli.options import (
    DeviceOption,
    ImageArgument,
    JsonOption,
    ModelOption,
    SaveOption,
    UrlsOption,
    split_labels,
)

if TYPE_CHECKING:
    from visionllm_sdk.images import LoadedImage
    from visionllm_sdk.regions import Region
    from visionllm_sdk.results import RegionDescription, RegionLabel

_FORMS = "box:x1,y1,x2,y2, point:x,y, scribble:x,y;x,y or mask:FILE, in pixels; may be repeated."

RegionOption = Annotated[
    list[str] | None, typer.Option("--region", "-r", metavar="REGION", help=_FORMS, show_default=False)
]


def describe(
    image: ImageArgument,
    region: RegionOption = None,
    labels: Annotated[
        str | None,
        typer.Option("--labels", "-l", help="Choose one of these for each region.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
    save: SaveOption = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    allow_urls: UrlsOption = False,
) -> None:
    """Say what regions of an image show, or choose a label for each."""
    from visionllm_sdk.cli import show
    from visionllm_sdk.cli.loading import load_images, load_model
    from visionllm_sdk.regions import check_regions

    if save is not None:
        show.check_target(save, 1)
    (source,) = load_images([image], allow_urls)
    regions = check_regions(read_regions(region), (source.width, source.height))
    vlm = load_model(model, device)
    found: Sequence[RegionDescription | RegionLabel]
    if labels is None:
        found = vlm.describe(source, regions)
    else:
        found = vlm.classify(source, regions, split_labels(labels))
    if as_json:
        show.print_json([one.model_dump(mode="json") for one in found])
    else:
        _print(found)
    if save is not None:
        _draw(source, regions, save)


def read_regions(texts: Sequence[str] | None) -> list[Region]:
    """The region prompts of a command line.

    Raises:
        RegionError: one that is misspelt; the message says which.
    """
    from visionllm_sdk.errors import InputError
    from visionllm_sdk.regions import parse_region

    regions: list[Region] = []
    for number, text in enumerate(texts or ()):
        try:
            regions.append(parse_region(text))
        except InputError as error:
            raise error.at(f"region {number}") from error
    return regions


def _print(found: Sequence[RegionDescription | RegionLabel]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from visionllm_sdk.results import RegionLabel

    table = Table("", "region", "", header_style="bold")
    for number, one in enumerate(found, 1):
        said = f"{one.label} ({one.score:.2f})" if isinstance(one, RegionLabel) else one.text
        table.add_row(str(number), Text(_spelt(one.region)), Text(said))
    Console().print(table)


def _spelt(region: Region) -> str:
    """A prompt in a few characters."""
    from visionllm_sdk.regions import Box, Point, Scribble

    if isinstance(region, Box):
        return "box:" + ",".join(f"{value:g}" for value in region.xyxy)
    if isinstance(region, Point):
        return f"point:{region.x:g},{region.y:g}"
    if isinstance(region, Scribble):
        return f"scribble of {len(region.points)} points"
    return f"mask of {region.area} pixels"


def _draw(source: LoadedImage, regions: Sequence[Region], to: Path) -> None:
    from visionllm_sdk.drawing import PALETTE, draw_region

    picture = source.image
    for number, region in enumerate(regions):
        picture = draw_region(region, picture, PALETTE[number % len(PALETTE)])
    to.parent.mkdir(parents=True, exist_ok=True)
    picture.save(to)
