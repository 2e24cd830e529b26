"""The typed vocabulary of answers: what every tool, every method, every server and every agent returns.

Results are frozen pydantic objects of JSON-safe data. Each carries the size of the image it speaks about
and its coordinate frame (pixels of the given image after EXIF orientation; see `visionllm_sdk.geometry`),
also when nothing was found. `result.model_dump_json()` and `revive(json.loads(...))` are an exact round trip.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from visionllm_sdk._image_results import Count, Detection, Detections, Grounding, ImageResult, SemanticMap
from visionllm_sdk._pictures import EditedImage, GeneratedImage, Picture
from visionllm_sdk._poses import Keypoint, Pose, Poses
from visionllm_sdk._replies import (
    Alternative,
    Answer,
    RegionDescription,
    RegionLabel,
    Reply,
    RoutedCall,
    Usage,
)
from visionllm_sdk._result import Result
from visionllm_sdk.errors import ArtifactError, InputError
from visionllm_sdk.geometry import Box, Mask, Point, Region, Scribble

__all__ = [
    "Alternative",
    "Answer",
    "Box",
    "Count",
    "Detection",
    "Detections",
    "EditedImage",
    "GeneratedImage",
    "Grounding",
    "ImageResult",
    "Keypoint",
    "Mask",
    "Picture",
    "Point",
    "Pose",
    "Poses",
    "Region",
    "RegionDescription",
    "RegionLabel",
    "Reply",
    "Result",
    "RoutedCall",
    "Scribble",
    "SemanticMap",
    "Usage",
    "revive",
]

_KINDS: tuple[type[Result], ...] = (
    Alternative,
    Answer,
    Box,
    Count,
    Detection,
    Detections,
    EditedImage,
    GeneratedImage,
    Grounding,
    Keypoint,
    Mask,
    Point,
    Pose,
    Poses,
    RegionDescription,
    RegionLabel,
    Reply,
    RoutedCall,
    Scribble,
    SemanticMap,
    Usage,
)

_MAX_DEPTH = 16  # a reply is eight levels deep; hostile data could be a million


def revive(artifact: Any, *, extra: Sequence[type[Result]] = ()) -> Any:
    """Turn data that a store or a wire gave back - dicts, lists - into the typed result that it was.

    The `type` field chooses the class from a closed list: no name in the data is ever looked up or
    imported, and every value is validated again. What is typed already passes unchanged; a list gives a list.

    Args:
        artifact: a result, a dict of one, or a list of these.
        extra: result classes of third-party tools that may occur besides the built-in ones.

    Raises:
        ArtifactError: no known type, or data that does not validate.
    """
    kinds = {kind.model_fields["type"].default: kind for kind in (*_KINDS, *extra)}
    if isinstance(artifact, list | tuple):
        return [_revive(item, kinds, _MAX_DEPTH) for item in artifact]
    revived = _revive(artifact, kinds, _MAX_DEPTH)
    if not isinstance(revived, Result):
        raise _unknown(artifact)
    return revived


def _revive(value: Any, kinds: dict[str, type[Result]], depth: int) -> Any:
    """Revive from the innermost dict outwards, so that every level validates typed parts."""
    if depth == 0:
        raise ArtifactError("the data is nested too deeply", limit=f"{_MAX_DEPTH} levels")
    if isinstance(value, list | tuple):
        return tuple(_revive(item, kinds, depth - 1) for item in value)
    if not isinstance(value, dict):
        return value
    tag = value.get("type")
    kind = kinds.get(tag) if isinstance(tag, str) else None
    if kind is None or not all(isinstance(key, str) for key in value):
        raise _unknown(value)
    fields = {key: _revive(item, kinds, depth - 1) for key, item in value.items()}
    try:
        return kind(**fields)
    except InputError as error:
        raise ArtifactError(
            f"the data of a {tag!r} result was changed or damaged: {error.problem}",
            value=error.value,
            remedy="Compute the result again from the image.",
        ) from error


def _unknown(value: Any) -> ArtifactError:
    tag = value.get("type") if isinstance(value, dict) else type(value).__name__
    return ArtifactError(
        "this is not the data of a typed result",
        value=tag,
        limit="a dict whose `type` names a result of this SDK",
        remedy="Pass model_dump() of a result; name the result classes of third-party tools in `extra`.",
    )
