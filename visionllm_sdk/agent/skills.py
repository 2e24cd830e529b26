"""The skills that an agent can call: their names, their arguments, and how they run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

from langchain_core.tools import InjectedToolArg
from pydantic import BaseModel, ConfigDict, Field

from visionllm_sdk.images import LoadedImage
from visionllm_sdk.results import Result
from visionllm_sdk.skills.engine import SKILL_TOKENS
from visionllm_sdk.skills.wording import findings_of

if TYPE_CHECKING:
    from visionllm_sdk.skills import VisionLLM

__all__ = ["Skill", "SkillArguments", "say", "skills_of"]


class SkillArguments(BaseModel):
    """What every skill takes."""

    model_config = ConfigDict(extra="forbid")

    image: str | None = Field(
        default=None,
        description="Handle of the image, such as img_1_0123456789abcdef. "
        "Leave it out for the latest image of the conversation.",
    )
    # Graphs put the state of the conversation here; it is never dumped and never shown to a model.
    runtime: Annotated[Any, InjectedToolArg()] = Field(default=None, exclude=True)


class RoutedArguments(SkillArguments):
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


_Label = Annotated[str, Field(min_length=1, max_length=500)]
_LABELS: Final = "What to look for, one short noun phrase each, such as ['red circle', 'person']."


class DetectArguments(Threshold, RoutedArguments):
    """Arguments of `detect`."""

    labels: list[_Label] = Field(min_length=1, description=_LABELS)


class GroundArguments(Threshold, RoutedArguments):
    """Arguments of `ground`."""

    expression: _Label = Field(
        description="The one thing that is meant, such as 'the star left of the ring'."
    )


class SegmentArguments(RoutedArguments):
    """Arguments of `segment`."""

    labels: list[_Label] = Field(min_length=1, description="The categories that share out the pixels.")


class CountArguments(Threshold, RoutedArguments):
    """Arguments of `count`."""

    label: _Label = Field(description="What to count, one short noun phrase, such as 'red circle'.")


class AskArguments(SkillArguments):
    """Arguments of `ask`."""

    question: str = Field(
        min_length=1, description="A question about the image, answered in a word or a phrase."
    )


class CaptionArguments(SkillArguments):
    """Arguments of `caption`."""


class LabelArguments(RoutedArguments):
    """Arguments of a skill that another package adds."""

    labels: list[_Label] = Field(min_length=1, description=_LABELS)


@dataclass(frozen=True, kw_only=True)
class Skill:
    """One skill as an agent sees it.

    Attributes:
        name: of the tool, and of the typed method where there is one.
        description: for the language model that chooses.
        arguments: schema.
        token: its routing token; None if it answers in words.
        subject: the argument that says what is looked for.
        options: arguments that the typed method, or the routed tool, takes beside that.
    """

    name: str
    description: str
    arguments: type[SkillArguments]
    token: str | None = None
    subject: str | None = None
    options: tuple[str, ...] = ()

    def labels(self, arguments: SkillArguments) -> tuple[str, ...]:
        """What the arguments look for."""
        given = getattr(arguments, self.subject) if self.subject else ()
        return (given,) if isinstance(given, str) else tuple(given)

    def phrased(self, labels: Sequence[str]) -> dict[str, Any]:
        """Labels as arguments."""
        if self.subject is None:
            return {}
        return {self.subject: list(labels) if self.subject == "labels" else ", ".join(labels)}

    def settings(self, arguments: SkillArguments) -> dict[str, Any]:
        """The options among the arguments."""
        return {name: getattr(arguments, name) for name in self.options}


_BUILT_IN: Final = (
    Skill(
        name="detect",
        description="Find every object of the named kinds in an image: boxes in pixels, masks, scores.",
        arguments=DetectArguments,
        token=SKILL_TOKENS["detect"],
        subject="labels",
        options=("threshold",),
    ),
    Skill(
        name="ground",
        description="Find the one thing in an image that a referring expression means: its box and mask.",
        arguments=GroundArguments,
        token=SKILL_TOKENS["ground"],
        subject="expression",
        options=("threshold",),
    ),
    Skill(
        name="segment",
        description="Give every pixel of an image one of the named categories: one mask for each.",
        arguments=SegmentArguments,
        token=SKILL_TOKENS["segment"],
        subject="labels",
    ),
    Skill(
        name="count",
        description="Count the objects of one kind in an image.",
        arguments=CountArguments,
        token=SKILL_TOKENS["count"],
        subject="label",
        options=("threshold",),
    ),
    Skill(
        name="ask",
        description="Answer a question about an image in words: colours, shapes, places, comparisons.",
        arguments=AskArguments,
        subject="question",
    ),
    Skill(
        name="caption",
        description="Say in a sentence what an image shows.",
        arguments=CaptionArguments,
    ),
)


def skills_of(vlm: VisionLLM) -> list[Skill]:
    """The skills that a loaded checkpoint has, those of other packages included."""
    tokens = vlm.engine.routing_tokens
    known = [skill for skill in _BUILT_IN if skill.token is None or skill.token in tokens]
    taken = {skill.token for skill in known}
    return known + [_further(vlm, token) for token in tokens if token not in taken]


def _further(vlm: VisionLLM, token: str) -> Skill:
    """A skill for a routing token that no typed method is named after."""
    tool = vlm.engine.registry.by_token(token)
    purpose = vlm.engine.token(token).purpose
    alone = len(tool.tokens) == 1
    return Skill(
        name=tool.name if alone else token.strip("[]").lower(),
        description=purpose or tool.description,
        arguments=LabelArguments,
        token=token,
        subject="labels",
    )


def direct(skill: Skill, vlm: VisionLLM) -> Callable[..., Any] | None:
    """The typed method of a skill, None if there is none of its name."""
    return getattr(vlm, skill.name, None) if skill in _BUILT_IN else None


def method_arguments(
    skill: Skill, image: LoadedImage, arguments: SkillArguments
) -> tuple[list[Any], dict[str, Any]]:
    """How the typed method of a skill is called."""
    subject = [getattr(arguments, skill.subject)] if skill.subject else []
    return [image, *subject], skill.settings(arguments)


def say(result: Result) -> str:
    """A result in one short line, for the model that reads it."""
    found = findings_of(result)
    if found is not None:
        return f"{', '.join(found)}." if found else "nothing."
    text = getattr(result, "text", None)
    return text if isinstance(text, str) and text else f"The result is of type {result.model_dump()['type']}."


def details(result: Result) -> str:
    """Labels, scores and boxes of what was found, one a line; nothing for other kinds of results."""
    found: Any = getattr(result, "detections", ())
    lines = [
        f"{one.label} ({one.score:.2f}) at {[round(value) for value in one.box.xyxy]}"
        for one in found
        if hasattr(one, "box")
    ]
    return "\n".join(lines)


def question_of(skill: Skill, request: str) -> Mapping[str, Any]:
    """Arguments of a skill that answers in words: the request is the question."""
    return {skill.subject: request} if skill.subject else {}
