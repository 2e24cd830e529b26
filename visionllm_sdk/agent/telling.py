"""What a skill gave, in words for the model that called it."""

from __future__ import annotations

from typing import Any

from visionllm_sdk.results import (
    Detection,
    Detections,
    Picture,
    Pose,
    RegionDescription,
    RegionLabel,
    Result,
)
from visionllm_sdk.skills.wording import findings_of

__all__ = ["Outcome", "details", "say"]

Outcome = Result | list[Any]
"""What a skill gives: a typed result, or one for each region."""


def say(result: Outcome, *, alike: bool = False) -> str:
    """A result in one short line.

    Args:
        result: what a skill gave.
        alike: whether it was asked for things like an example.
    """
    if isinstance(result, list):
        return "; ".join(f"region {number}: {_of_region(one)}" for number, one in enumerate(result, 1)) + "."
    if isinstance(result, Picture):
        return _picture(result)
    if alike and isinstance(result, Detections):
        return f"{len(result) or 'nothing'} like the example."
    if isinstance(result, Detections) and any(one.region is not None for one in result):
        return _outlines(result)
    found = findings_of(result)
    if found is not None:
        return f"{', '.join(found)}." if found else "nothing."
    text = getattr(result, "text", None)
    return text if isinstance(text, str) and text else f"The result is of type {result.model_dump()['type']}."


def details(result: Outcome) -> str:
    """Labels, scores and places of what was found, one a line; nothing for other kinds of results."""
    if isinstance(result, list):
        return ""
    found: Any = getattr(result, "detections", None) or getattr(result, "poses", ())
    return "\n".join(_line(one) for one in found if hasattr(one, "box"))


def _line(one: Any) -> str:
    text = f"{one.label} ({one.score:.2f}) at {[round(value) for value in one.box.xyxy]}"
    if not isinstance(one, Pose):
        return text
    seen = [f"{point.name} ({point.x:.0f}, {point.y:.0f})" for point in one.keypoints if point.visible]
    hidden = [point.name for point in one.keypoints if not point.visible]
    told = [", ".join(seen) or "no keypoint visible", *([f"hidden: {', '.join(hidden)}"] if hidden else [])]
    return f"{text}: {'; '.join(told)}"


def _picture(picture: Picture) -> str:
    if picture.refused is not None:
        return f"The picture is held back: {picture.refused}"
    return f"Here it is: {picture.handle}, {picture.width} x {picture.height} pixels."


def _outlines(result: Detections) -> str:
    """Where the outlines of regions lie."""
    places = [
        f"region {_number(one)}: {[round(value) for value in one.box.xyxy]} ({one.score:.2f})"
        for one in result
    ]
    return f"{'; '.join(places)}."


def _number(one: Detection) -> str:
    return "?" if one.region is None else str(one.region + 1)


def _of_region(one: Result) -> str:
    if isinstance(one, RegionLabel):
        return f"{one.label} ({one.score:.0%})"
    return one.text if isinstance(one, RegionDescription) else str(one.model_dump()["type"])
