"""The commands about marked places, `describe` and `classify`, and how region prompts are written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visionllm_sdk.cli.calls import DrawnCall, takes
from visionllm_sdk.cli.loading import load_images
from visionllm_sdk.cli.options import REGION_FORMS, ImageArgument, LabelsOption, split_labels

if TYPE_CHECKING:
    from visionllm_sdk.images import LoadedImage
    from visionllm_sdk.regions import Region
    from visionllm_sdk.results import RegionDescription, RegionLabel
    from visionllm_sdk.skills import VisionLLM

    Told = Sequence[RegionDescription | RegionLabel]

RegionsOption = Annotated[
    list[str], typer.Option("--region", "-r", metavar="REGION", help=REGION_FORMS, show_default=False)
]


@takes(DrawnCall)
def describe(image: ImageArgument, region: RegionsOption, *, call: DrawnCall) -> None:
    """Say what regions of an image show."""
    _tell(call, image, region, lambda vlm, source, regions, own: vlm.describe(source, regions, adapter=own))


@takes(DrawnCall)
def classify(image: ImageArgument, region: RegionsOption, labels: LabelsOption, *, call: DrawnCall) -> None:
    """Choose one of the offered labels for each region of an image."""
    offered = split_labels(labels)
    _tell(
        call,
        image,
        region,
        lambda vlm, source, regions, own: vlm.classify(source, regions, offered, adapter=own),
    )


def _tell(
    call: DrawnCall,
    image: str,
    written: Sequence[str],
    work: Callable[[VisionLLM, LoadedImage, Sequence[Region], str | None], Told],
) -> None:
    """Load, ask about the regions, show the answers, and draw the regions where that is wanted."""
    from visionllm_sdk.cli import show
    from visionllm_sdk.regions import check_regions

    if call.save is not None:
        show.check_target(call.save)
    (source,) = load_images([image], call.allow_urls)
    regions = check_regions(read_regions(written), (source.width, source.height))
    vlm, adapter = call.load_adapted()
    found = work(vlm, source, regions, adapter)
    if call.as_json:
        show.print_json([one.model_dump(mode="json") for one in found])
    else:
        _print(found)
    if call.save is not None:
        _draw(source, regions, call.save)


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


def _print(found: Told) -> None:
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
    from visionllm_sdk._saving import write_image
    from visionllm_sdk.drawing import PALETTE, draw_region

    picture = source.image
    for number, region in enumerate(regions):
        picture = draw_region(region, picture, PALETTE[number % len(PALETTE)])
    write_image(to, picture)
