"""The skills that an agent can call: their names, what each takes, and how it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from visionllm_sdk.agent import arguments as schemas
from visionllm_sdk.agent.arguments import SkillArguments
from visionllm_sdk.keypoints import KEYPOINT_SETS
from visionllm_sdk.model.conversation import ForcedCall
from visionllm_sdk.skills.engine import SKILL_TOKENS

if TYPE_CHECKING:
    from visionllm_sdk.generation import RoutedCall
    from visionllm_sdk.images import LoadedImage
    from visionllm_sdk.skills import VisionLLM
    from visionllm_sdk.skills.engine import Engine

__all__ = ["BUILT_IN", "Skill", "forced_calls", "skills_of"]


@dataclass(frozen=True, kw_only=True)
class Skill:
    """One skill as an agent sees it.

    Attributes:
        name: of the tool, and of the typed method where there is one.
        description: for the language model that chooses.
        arguments: schema.
        token: its routing token; None if it answers in words.
        subject: the argument that says what is looked for, asked or drawn.
        each: further arguments that differ from call to call.
        options: arguments that the typed method, or the routed tool, takes beside these.
        images: arguments that name images.
        before: routing tokens that open an answer with `token`, such as the kinds of objects of a pose.
        regions: whether it needs a region encoder.
        needs: the routing token whose decoder it uses, where it is not called by one.
        draws: whether it makes a picture.
    """

    name: str
    description: str
    arguments: type[SkillArguments]
    token: str | None = None
    subject: str | None = None
    each: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    images: tuple[str, ...] = ("image",)
    before: tuple[str, ...] = ()
    regions: bool = False
    needs: str | None = None
    draws: bool = False

    @property
    def speaks(self) -> bool:
        """Whether it answers requests in words, without a routing token."""
        return self.token is None and not self.regions

    def labels(self, arguments: SkillArguments) -> tuple[str, ...]:
        """What the arguments look for."""
        given = getattr(arguments, self.subject) if self.subject else ()
        return (given,) if isinstance(given, str) else tuple(given)

    def phrased(self, call: RoutedCall, request: str) -> dict[str, Any]:
        """A routed call as arguments.

        Args:
            call: its labels say what is looked for.
            request: what the user said, which is what a picture is drawn from.
        """
        if self.subject is None:
            return {}
        if self.before:
            kinds = list(dict.fromkeys(link.label for link in call.context if link.token in self.before))
            return {self.subject: kinds[0] if len(kinds) == 1 else kinds, "keypoints": list(call.labels)}
        if self.draws:
            return {self.subject: request}
        return {self.subject: list(call.labels) if self.subject == "labels" else ", ".join(call.labels)}

    def settings(self, arguments: SkillArguments) -> dict[str, Any]:
        """The options among the arguments."""
        return {name: getattr(arguments, name) for name in self.options}

    def values(self, arguments: SkillArguments, images: Sequence[LoadedImage]) -> dict[str, Any]:
        """What the typed method takes that differs from call to call, by name."""
        names = (*((self.subject,) if self.subject else ()), *self.each)
        seen = dict(zip(self.images, images, strict=True))
        return {**seen, **{name: arguments.value(name) for name in names}}

    def method(self, vlm: VisionLLM) -> Callable[..., Any] | None:
        """The typed method, None if there is none of its name."""
        return getattr(vlm, self.name, None) if self in _BUILT_IN else None


def _skill(name: str, description: str, **fields: Any) -> Skill:
    kind = "".join(word.title() for word in name.split("_"))
    given = {"token": SKILL_TOKENS.get(name), "arguments": getattr(schemas, f"{kind}Arguments"), **fields}
    return Skill(name=name, description=description, **given)


_BUILT_IN: Final = (
    _skill(
        "detect",
        "Find every object of the named kinds in an image: boxes in pixels, masks, scores.",
        subject="labels",
        options=("threshold",),
    ),
    _skill(
        "ground",
        "Find the one thing in an image that a referring expression means: its box and mask.",
        subject="expression",
        options=("threshold",),
    ),
    _skill(
        "segment",
        "Give every pixel of an image one of the named categories: one mask for each.",
        subject="labels",
    ),
    _skill(
        "count",
        "Count the objects of one kind in an image.",
        subject="label",
        options=("threshold",),
    ),
    _skill(
        "pose",
        "Find every object of the named kind with its keypoints, such as nose or left knee.",
        subject="label",
        options=("keypoints", "threshold"),
        before=(SKILL_TOKENS["detect"],),
    ),
    _skill(
        "describe",
        "Say in words what each marked place of an image shows.",
        each=("regions",),
        regions=True,
    ),
    _skill(
        "classify",
        "Choose for each marked place of an image which of the offered labels fits best.",
        subject="labels",
        each=("regions",),
        regions=True,
    ),
    _skill(
        "segment_regions",
        "Find the exact outline of what each point or box marks in an image.",
        each=("regions",),
        regions=True,
        needs=SKILL_TOKENS["detect"],
    ),
    _skill(
        "segment_like",
        "Find everything in an image that is of the same kind as what is marked in an example image.",
        each=("example_region",),
        options=("threshold",),
        images=("example_image", "image"),
        regions=True,
        needs=SKILL_TOKENS["detect"],
    ),
    _skill(
        "generate",
        "Draw a new picture from a caption.",
        subject="prompt",
        options=("seed", "steps", "size"),
        images=(),
        draws=True,
    ),
    _skill(
        "edit",
        "Change an image as an instruction says, and leave the rest as it is.",
        subject="instruction",
        options=("seed", "steps"),
        draws=True,
    ),
    _skill(
        "ask",
        "Answer a question about an image in words: colours, shapes, places, comparisons.",
        subject="question",
    ),
    _skill("caption", "Say in a sentence what an image shows."),
)
_BY_NAME: Final[Mapping[str, Skill]] = {skill.name: skill for skill in _BUILT_IN}
BUILT_IN: Final = frozenset(_BY_NAME)
"""Names of the skills that this SDK brings."""


def skills_of(vlm: VisionLLM) -> list[Skill]:
    """The skills that a loaded checkpoint has, those of other packages included."""
    tokens = vlm.engine.routing_tokens
    sees_regions = vlm.engine.model.core.region_encoder is not None
    known = [
        skill
        for skill in _BUILT_IN
        if {skill.token, skill.needs} - {None} <= set(tokens) and (sees_regions or not skill.regions)
    ]
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
        arguments=schemas.LabelArguments,
        token=token,
        subject="labels",
    )


def forced_calls(name: str, arguments: Mapping[str, Any], engine: Engine) -> list[ForcedCall]:
    """The routed calls that stand for a call of a built-in skill; none if it has no routing token here.

    Args:
        name: of the skill.
        arguments: as somebody wrote them; those that do not fit give no calls.
        engine: the model.
    """
    skill = _BY_NAME.get(name)
    if skill is None or skill.token not in engine.routing_tokens or skill.subject is None:
        return []
    given = _texts(arguments.get(skill.subject))
    if skill.draws:
        given = ("",)
    if not skill.before:
        return [ForcedCall(token=engine.token(skill.token), labels=given)] if given else []
    keypoints = arguments.get("keypoints", "coco")
    known = KEYPOINT_SETS.get(keypoints) if isinstance(keypoints, str) else None
    wanted = known.names if known else _texts(keypoints)
    if not given or not wanted:
        return []
    opening = [ForcedCall(token=engine.token(token), labels=given) for token in skill.before]
    return [*opening, ForcedCall(token=engine.token(skill.token), labels=wanted)]


def _texts(given: Any) -> tuple[str, ...]:
    """One text or several; none if it is something else."""
    values = [given] if isinstance(given, str) else given
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        return ()
    return tuple(values)
