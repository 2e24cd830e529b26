"""How results reach a person, a program, or a picture file."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Sequence
from functools import singledispatch
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Column, Table
from rich.text import Text

from visionllm_sdk._pictures import FORMATS
from visionllm_sdk._saving import write_image
from visionllm_sdk.errors import InputError
from visionllm_sdk.images import LoadedImage
from visionllm_sdk.results import (
    Answer,
    Count,
    Detections,
    ImageResult,
    Picture,
    Poses,
    Reply,
    Result,
    SemanticMap,
)


def messages() -> Console:
    """Where progress and remarks go: standard error."""
    return Console(stderr=True)


def print_json(value: Any) -> None:
    """Data as JSON, alone on standard output; escaped where its encoding cannot hold the text."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value)
    sys.stdout.write(text + "\n")


def print_figures(figures: dict[str, Any], *, as_json: bool) -> None:
    """Names and values, nested ones left to JSON."""
    if as_json:
        print_json(figures)
        return
    table = Table("figure", Column("value", justify="right"))
    for name, value in figures.items():
        if not isinstance(value, dict | list):
            shown = f"{value:.3f}" if isinstance(value, float) else str(value)
            table.add_row(Text(name), Text(shown))
    Console().print(table)


def print_results(results: Sequence[Result], names: Sequence[str], *, as_json: bool) -> None:
    """Show one result per image: a single one by itself, several as a list."""
    if as_json:
        data = [result.model_dump(mode="json") for result in results]
        print_json(data[0] if len(data) == 1 else data)
        return
    console = Console()
    for name, result in zip(names, results, strict=True):
        if len(results) > 1:
            console.print(Text(name, style="bold"))
        console.print(table_of(result))


@singledispatch
def table_of(result: Any) -> RenderableType:
    """A result for people."""
    return Text(result.model_dump_json())


@table_of.register
def _(result: Detections) -> RenderableType:
    if not result.detections:
        asked = ", ".join(result.labels) or "anything"
        return Text(f"Nothing found of: {asked}.")
    table = _table("label", "score >", "x1 >", "y1 >", "x2 >", "y2 >", "mask pixels >")
    for found in result:
        corners = [f"{value:.1f}" for value in found.box.xyxy]
        area = str(found.mask.area) if found.mask else "-"
        table.add_row(Text(found.label), f"{found.score:.2f}", *corners, area)
    return table


@table_of.register
def _(result: SemanticMap) -> RenderableType:
    table = _table("label", "pixels >", "share >")
    for label, mask in zip(result.labels, result.masks, strict=True):
        table.add_row(Text(label), str(mask.area), f"{mask.area / (result.width * result.height):.1%}")
    return table


@table_of.register
def _(result: Poses) -> RenderableType:
    table = _table("label", "score >", "keypoint", "x >", "y >", "visible")
    for pose in result:
        for joint in pose.keypoints:
            place = (f"{joint.x:.1f}", f"{joint.y:.1f}", "yes" if joint.visible else "no")
            table.add_row(Text(pose.label), f"{pose.score:.2f}", Text(joint.name), *place)
    return table


@table_of.register
def _(result: Count) -> RenderableType:
    return Text(str(result.count))


@table_of.register
def _(result: Answer) -> RenderableType:
    return Text(result.text)


@table_of.register
def _(result: Reply) -> RenderableType:
    lines = Table.grid()
    lines.add_row(Text(result.text))
    for call in result.calls:
        title = f"{call.token} {call.tool}: {', '.join(call.labels)} (probability {call.probability:.2f})"
        lines.add_row(Text(title, style="dim"))
        if call.result is not None:
            lines.add_row(table_of(call.result))
    return lines


def _table(*columns: str) -> Table:
    """A table with these headings; a `>` behind one aligns its column to the right.

    Cells that are plain strings may hold markup: words of others, such as labels, go in as `Text`.
    """
    table = Table(header_style="bold")
    for column in columns:
        name, right, _ = column.partition(" >")
        table.add_column(name, justify="right" if right else "left")
    return table


def check_targets(to: Path, images: int) -> None:
    """Refuse a place where `save_pictures` could not write, before any work is done for it.

    Raises:
        InputError: a file stands where a folder is needed, or the name tells no format that can be written.
    """
    if images == 1 and not to.is_dir():
        check_target(to)
    else:
        check_folder(to)


def check_target(to: Path, *, made: bool = False) -> None:
    """Refuse one picture that could not be written, before any work is done for it.

    Args:
        to: the file.
        made: the picture may be one that the model makes; these are written in fewer formats.

    Raises:
        InputError: a folder, a place in a file, or a name that tells no format that can be written.
    """
    if to.is_dir():
        raise InputError(
            "one picture is written, and this is a folder",
            value=str(to),
            remedy=f"Name a file in it, such as {to / 'picture.png'}.",
        )
    check_folder(to.parent)
    suffix = to.suffix.lower()
    if not _can_write(suffix) or (made and suffix not in FORMATS):
        raise InputError(
            "the picture's format is unknown", value=to.name, limit=".png, .jpg, .webp", remedy="Rename it."
        )


def _can_write(suffix: str) -> bool:
    """Whether pictures can be written with this ending: some formats hold no colours, some are only read."""
    from PIL import Image

    kind = Image.registered_extensions().get(suffix)
    if kind not in Image.SAVE:
        return False
    try:
        Image.new("RGB", (1, 1)).save(io.BytesIO(), kind)
    except (OSError, ValueError, KeyError):
        return False
    return True


def check_folder(folder: Path) -> None:
    """Refuse a folder that could not be made.

    Raises:
        InputError: a file stands in its place or above it.
    """
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise InputError(
                "a folder is needed here, and this is a file",
                value=str(place),
                remedy="Name another folder; one that does not exist is created.",
            )


def save_pictures(
    results: Sequence[Result], images: Sequence[LoadedImage], names: Sequence[str], to: Path
) -> None:
    """Draw each result over its image; several images go into a folder under their own names."""
    if len(results) == 1 and not to.is_dir():
        save_picture(results[0], images[0], to)
        return
    to.mkdir(parents=True, exist_ok=True)
    for number, (result, image, name) in enumerate(zip(results, images, names, strict=True)):
        save_picture(result, image, to / f"{number:03d}_{Path(name).stem or 'image'}.png")


def save_picture(result: Result, image: LoadedImage | None, to: Path) -> None:
    """Draw a result, or all results of a reply, over its image and write the file.

    A picture that the model made is itself what is written; with it a reply's other results, which lie in the
    image that it was made from, are not drawn.

    Raises:
        InputError: there is neither an image nor a picture that the model made, or it cannot be written.
    """
    parts = result.results if isinstance(result, Reply) else (result,)
    made = [part for part in parts if isinstance(part, Picture)]
    if not made and image is None:
        raise InputError(
            "there is no picture to write: none was made, and there is no image to draw on",
            value=str(to),
            remedy="Name an image with --image, or ask for a picture.",
        )
    if made:
        made[-1].save(to)
        return
    assert image is not None, "checked above"
    picture = image.image
    for part in parts:
        if isinstance(part, ImageResult):
            picture = part.draw(picture)
    write_image(to, picture)


def with_progress(
    items: Sequence[Any], work: Callable[[list[Any]], Sequence[Any]], *, chunk: int = 16
) -> list[Any]:
    """Work through many items in chunks, with a bar on standard error if a person is watching.

    Raises:
        InputError: what `work` raised; it counts from the start of its chunk, which is said in front of it.
    """
    from rich.progress import Progress

    done: list[Any] = []
    quiet = len(items) <= chunk or not sys.stderr.isatty()
    with Progress(console=messages(), disable=quiet, transient=True) as progress:
        task = progress.add_task("Images", total=len(items))
        for start in range(0, len(items), chunk):
            part = list(items[start : start + chunk])
            try:
                done += work(part)
            except InputError as error:
                if not start:
                    raise
                raise error.at(f"among images {start} to {start + len(part) - 1}") from error
            progress.advance(task, len(part))
    return done
