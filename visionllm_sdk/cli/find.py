"""The commands that find named things: `detect`, `segment`, `ground`, `count` and `pose`."""

from __future__ import annotations

from typing import Annotated

import typer

from visionllm_sdk.cli.calls import DrawnCall, look, takes
from visionllm_sdk.cli.options import (
    ImageArgument,
    ImagesArgument,
    KeypointsOption,
    LabelsOption,
    MasksOption,
    OptionalLabelsOption,
    RegionOption,
    ThresholdOption,
    split_keypoints,
    split_labels,
)
from visionllm_sdk.cli.regions import read_regions


@takes(DrawnCall)
def detect(
    image: ImagesArgument,
    labels: LabelsOption,
    threshold: ThresholdOption = None,
    masks: MasksOption = True,
    *,
    call: DrawnCall,
) -> None:
    """Find all objects of the named kinds, with boxes and masks."""
    wanted = split_labels(labels)
    look(
        call,
        image,
        lambda vlm, images, adapter: vlm.detect(
            images, wanted, threshold=threshold, masks=masks, adapter=adapter
        ),
    )


@takes(DrawnCall)
def segment(
    image: ImagesArgument,
    labels: OptionalLabelsOption = None,
    region: RegionOption = None,
    *,
    call: DrawnCall,
) -> None:
    """Give every pixel one of the named categories, or outline what regions mark."""
    from visionllm_sdk.errors import InputError

    if (labels is None) == (not region):
        raise InputError(
            "segment needs either labels or regions",
            value="both" if region else "neither",
            remedy='Write --labels "circle,star", or --region point:40,30.',
        )
    if region:
        marked = read_regions(region)
        look(
            call,
            image,
            lambda vlm, images, adapter: vlm.segment_regions(images, marked, adapter=adapter),
            regions=marked,
        )
        return
    wanted = split_labels(labels or "")
    look(call, image, lambda vlm, images, adapter: vlm.segment(images, wanted, adapter=adapter))


@takes(DrawnCall)
def ground(
    image: ImageArgument,
    expression: Annotated[str, typer.Argument(help="What to point at.", show_default=False)],
    threshold: ThresholdOption = None,
    masks: MasksOption = True,
    *,
    call: DrawnCall,
) -> None:
    """Find the one thing that an expression describes."""
    look(
        call,
        [image],
        lambda vlm, images, adapter: vlm.ground(
            images, expression, threshold=threshold, masks=masks, adapter=adapter
        ),
    )


@takes(DrawnCall)
def count(
    image: ImageArgument,
    label: Annotated[str, typer.Argument(help="What to count.", show_default=False)],
    threshold: ThresholdOption = None,
    *,
    call: DrawnCall,
) -> None:
    """Count the objects of one kind."""
    look(
        call,
        [image],
        lambda vlm, images, adapter: vlm.count(images, label, threshold=threshold, adapter=adapter),
    )


@takes(DrawnCall)
def pose(
    image: ImageArgument,
    label: Annotated[str, typer.Argument(help="Whose keypoints, such as person.", show_default=False)],
    keypoints: KeypointsOption = "coco",
    threshold: ThresholdOption = None,
    *,
    call: DrawnCall,
) -> None:
    """Find all objects of the named kinds with their keypoints."""
    kinds, points = split_labels(label), split_keypoints(keypoints)
    look(
        call,
        [image],
        lambda vlm, images, adapter: vlm.pose(images, kinds, points, threshold=threshold, adapter=adapter),
    )
