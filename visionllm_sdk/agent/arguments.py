"""What the skills take when an agent calls them: schemas that a language model understands."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from langchain_core.tools import InjectedToolArg
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from visionllm_sdk.geometry import Box, Point
from visionllm_sdk.regions import MAX_REGIONS

__all__ = [
    "AskArguments", "CaptionArguments", "ClassifyArguments", "CountArguments", "DescribeArguments",
    "DetectArguments", "EditArguments", "GenerateArguments", "GroundArguments", "LabelArguments",
    "PoseArguments", "SegmentArguments", "SegmentLikeArguments", "SegmentRegionsArguments", "SkillArguments",
]  # fmt: skip

_LATEST: Final = (
    "Handle of the image, such as img_1_0123456789abcdef. "
    "Leave it out for the latest image of the conversation."
)
_LABELS: Final = "What to look for, one short noun phrase each, such as ['red circle', 'person']."
_REGIONS: Final = (
    "Places in the image in its pixels: each a point [x, y], or a box [x1, y1, x2, y2] from its left upper "
    "to its right lower corner."
)
_MAX_LABELS: Final = 1000
_MAX_SEED: Final = 2**63 - 1
_MAX_STEPS: Final = 1000
_MAX_SIDE: Final = 4096
_Text = Annotated[str, Field(min_length=1, max_length=500)]
_Labels = Annotated[list[_Text], Field(min_length=1, max_length=_MAX_LABELS)]


def _two_or_four(numbers: list[float]) -> list[float]:
    if len(numbers) not in (2, 4):
        raise ValueError(f"a place is [x, y] or [x1, y1, x2, y2], not {len(numbers)} numbers")
    return numbers


_Place = Annotated[
    list[Annotated[float, Field(allow_inf_nan=False)]],
    Field(min_length=2, max_length=4),
    AfterValidator(_two_or_four),
]


def _region(numbers: list[float]) -> Box | Point:
    return Box(*numbers) if len(numbers) == 4 else Point(*numbers)


class SkillArguments(BaseModel):
    """What every skill takes."""

    model_config = ConfigDict(extra="forbid")

    # Graphs put the state of the conversation here; it is never dumped and never shown to a model.
    runtime: Annotated[Any, InjectedToolArg()] = Field(default=None, exclude=True)

    def value(self, name: str) -> Any:
        """An argument as the typed method takes it."""
        return getattr(self, name)


class ImageArguments(SkillArguments):
    """What every skill takes that looks at an image."""

    image: str | None = Field(default=None, description=_LATEST)


class Routed(SkillArguments):
    """What every skill behind a routing token takes."""

    superlink: str | None = Field(
        default=None,
        description="Handle that the vision model itself passes on; others leave it out.",
    )


class Threshold(BaseModel):
    """A lower limit of scores."""

    threshold: float | None = Field(
        default=None, ge=0, le=1, description="Lowest score, 0 to 1; leave it out for the usual one."
    )


class DetectArguments(Threshold, Routed, ImageArguments):
    """Arguments of `detect`."""

    labels: _Labels = Field(description=_LABELS)


class GroundArguments(Threshold, Routed, ImageArguments):
    """Arguments of `ground`."""

    expression: _Text = Field(description="The one thing that is meant, such as 'the star left of the ring'.")


class SegmentArguments(Routed, ImageArguments):
    """Arguments of `segment`."""

    labels: _Labels = Field(description="The categories that share out the pixels.")


class CountArguments(Threshold, Routed, ImageArguments):
    """Arguments of `count`."""

    label: _Text = Field(description="What to count, one short noun phrase, such as 'red circle'.")


class PoseArguments(Threshold, Routed, ImageArguments):
    """Arguments of `pose`."""

    label: _Text | _Labels = Field(description="Whose keypoints, such as 'person'; or a list of kinds.")
    keypoints: Literal["coco", "ap10k", "hand", "face68"] | _Labels = Field(
        default="coco",
        description="'coco' is the body of a person, 'ap10k' a four-legged animal, 'hand' a hand, 'face68' a "
        "face; or names of keypoints, such as ['nose', 'left knee'].",
    )

    def value(self, name: str) -> Any:
        """Kinds of objects always as a list."""
        given = super().value(name)
        return [given] if name == "label" and isinstance(given, str) else given


class AskArguments(ImageArguments):
    """Arguments of `ask`."""

    question: str = Field(
        min_length=1, description="A question about the image, answered in a word or a phrase."
    )


class CaptionArguments(ImageArguments):
    """Arguments of `caption`."""


class LabelArguments(Routed, ImageArguments):
    """Arguments of a skill that another package adds."""

    labels: _Labels = Field(description=_LABELS)


class DescribeArguments(ImageArguments):
    """Arguments of `describe`."""

    regions: Annotated[list[_Place], Field(min_length=1, max_length=MAX_REGIONS)] = Field(
        description=_REGIONS
    )

    def value(self, name: str) -> Any:
        """Regions as typed ones."""
        given = super().value(name)
        return [_region(numbers) for numbers in given] if name == "regions" else given


class ClassifyArguments(DescribeArguments):
    """Arguments of `classify`."""

    labels: _Labels = Field(description="What to choose from, one short noun phrase each.")


class SegmentRegionsArguments(DescribeArguments):
    """Arguments of `segment_regions`."""


class SegmentLikeArguments(Threshold, ImageArguments):
    """Arguments of `segment_like`."""

    example_region: _Place = Field(
        description="Marks the example in its pixels: a point [x, y] or a box [x1, y1, x2, y2]."
    )
    example_image: str = Field(description="Handle of the image that shows the example.")

    def value(self, name: str) -> Any:
        """The region as a typed one."""
        given = super().value(name)
        return _region(given) if name == "example_region" else given


class _Drawn(Routed):
    """What every skill takes that makes a picture."""

    seed: int | None = Field(
        default=None,
        ge=0,
        le=_MAX_SEED,
        description="The same seed gives the same picture; leave it out for chance.",
    )
    steps: int | None = Field(
        default=None, ge=1, le=_MAX_STEPS, description="Drawing steps; leave it out for the usual number."
    )


class GenerateArguments(_Drawn):
    """Arguments of `generate`."""

    prompt: _Text = Field(description="What the picture shows, such as 'a red star on a blue background'.")
    size: Annotated[int, Field(ge=1, le=_MAX_SIDE)] | None = Field(
        default=None, description="Side of the square picture in pixels; leave it out for the usual one."
    )


class EditArguments(_Drawn, ImageArguments):
    """Arguments of `edit`."""

    instruction: _Text = Field(description="What to change, such as 'make the star yellow'.")
