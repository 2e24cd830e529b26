"""Options that several commands share, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

ImageArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="IMAGE", help="Image file; '-' reads standard input.", show_default=False)
]
ImagesArgument: TypeAlias = Annotated[
    list[str],
    typer.Argument(
        metavar="IMAGE...", help="One image file or several; '-' reads standard input.", show_default=False
    ),
]
LabelsOption: TypeAlias = Annotated[
    str,
    typer.Option("--labels", "-l", help="What to look for, separated by commas.", show_default=False),
]
REGION_FORMS: Final = "box:x1,y1,x2,y2, point:x,y, scribble:x,y;x,y or mask:FILE, in pixels; may be repeated."
OptionalLabelsOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--labels", "-l", help="The categories, separated by commas.", show_default=False),
]
RegionOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--region",
        "-r",
        metavar="REGION",
        help=REGION_FORMS,
        show_default=False,
    ),
]
KeypointsOption: TypeAlias = Annotated[
    str,
    typer.Option("--keypoints", "-k", help="coco, ap10k, hand, face68, or names with commas (one: 'lid,')."),
]
ThresholdOption: TypeAlias = Annotated[
    float | None,
    typer.Option("--threshold", "-t", help="Lowest score, 0 to 1. (default: the checkpoint's own)"),
]
MasksOption: TypeAlias = Annotated[bool, typer.Option("--masks/--no-masks", help="With masks.")]
JsonOption: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on standard output.")
]
SaveOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--save",
        "-s",
        metavar="PICTURE",
        help="Write the image with the result drawn on it; a folder if there are several images.",
    ),
]
ModelOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="Checkpoint folder or hub name. (default: the embedded model)",
        envvar="VISIONLLM_MODEL",
    ),
]
AdapterOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--adapter", "-a", metavar="FOLDER", help="Adapter to answer with.", show_default=False),
]
DeviceOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--device", "-d", help="Where to compute: cpu, cuda, cuda:1, mps. (default: cpu)"),
]
UrlsOption: TypeAlias = Annotated[
    bool, typer.Option("--allow-urls", help="Fetch images that are given as http(s) URLs.")
]


def split_keypoints(text: str) -> str | list[str]:
    """A keypoint set by its name, or keypoint names of a comma-separated list.

    One word without a comma that is no keypoint of any set is taken for a set's name: a misspelt set shall be
    refused, not looked for as a keypoint.
    """
    from visionllm_sdk.keypoints import KEYPOINT_SETS

    if "," in text or any(text in known.names for known in KEYPOINT_SETS.values()):
        return split_labels(text)
    return text.strip()


def split_labels(text: str) -> list[str]:
    """The labels of a comma-separated list; empty entries are left out.

    Raises:
        InputError: nothing is left. Said here, before a model is loaded.
    """
    from visionllm_sdk.errors import InputError

    labels = [label.strip() for label in text.split(",") if label.strip()]
    if not labels:
        raise InputError(
            "no label is given", value=repr(text), remedy='Write names with commas: "circle,star".'
        )
    return labels
