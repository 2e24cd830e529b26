"""What a reply may call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from visionllm_sdk.agent.choices import answer_format, as_function, function_of, named_choice
from visionllm_sdk.agent.functions import Function
from visionllm_sdk.agent.skills import Skill
from visionllm_sdk.agent.tools import VisionTool
from visionllm_sdk.agent.workspace import Workspace
from visionllm_sdk.errors import InputError

__all__ = ["Binding", "binding_of"]


@dataclass(frozen=True, kw_only=True)
class Binding:
    """What a reply may call.

    Attributes:
        skills: the model's own, by name.
        functions: tools of others.
        choice: "auto", "none", "any", or the name of the tool that must be called.
        tokens: routing tokens that may be used.
        answer: the reply is JSON of this schema where it is not a call.
        copy: arguments are taken from the request.
        grounded: the closing turn says only what the tools reported.
        linked: the tools understand super-link handles of this model.
        parallel: a reply may call several tools.
    """

    skills: Mapping[str, Skill]
    functions: Sequence[Function] = ()
    choice: str = "auto"
    tokens: tuple[str, ...] = ()
    answer: Function | None = None
    copy: bool = True
    grounded: bool = True
    linked: bool = True
    parallel: bool = True

    def skill_of(self, token: str) -> Skill | None:
        """The skill that a routing token calls; the one that must be called goes first.

        None where the token only opens the answer of another skill, such as the kinds of objects of a pose.
        """
        fitting = [skill for skill in self.skills.values() if skill.token == token]
        return next((skill for skill in fitting if skill.name == self.choice), next(iter(fitting), None))


def binding_of(workspace: Workspace, settings: Mapping[str, Any], **manners: bool) -> Binding:
    """What the settings of a call let its reply call.

    Args:
        workspace: the model.
        settings: `tools`, in any form (none: all skills of the model), of which `skills` names its own;
            `tool_choice`, `force`, `forbid`, `response_format`, `parallel_tool_calls`.
        manners: `copy`, `grounded` and `linked` of the binding.

    Raises:
        InputError: a choice that is not bound, or what is forced is forbidden.
    """
    engine = workspace.vlm.engine
    given = settings.get("tools")
    own = {*settings.get("skills", ()), *(one.name for one in given or () if isinstance(one, VisionTool))}
    skills = {one.name: one for one in workspace.skills if given is None or one.name in own}
    others = [tool for one in given or () if (tool := as_function(one)["function"])["name"] not in own]
    barred: str | Sequence[str] = settings["forbid"]
    forbidden = {
        token
        for name in ((barred,) if isinstance(barred, str) else barred)
        for token in engine.tokens_of(name)
    }
    called = {token for skill in skills.values() for token in (skill.token, *skill.before)}
    force = settings["force"]
    return Binding(
        skills=skills,
        functions=[function_of(one) for one in others],
        choice=named_choice(settings.get("tool_choice"), [*skills, *(one["name"] for one in others)])
        if force is None
        else _forced(force, engine.tokens_of(force), skills, forbidden),
        tokens=tuple(token for token in engine.routing_tokens if token in called - forbidden),
        answer=answer_format(settings.get("response_format")),
        parallel=settings.get("parallel_tool_calls") is not False,
        **manners,
    )


def _forced(force: str, tokens: Sequence[str], skills: Mapping[str, Skill], forbidden: set[str]) -> str:
    """The skill that a forced token or skill stands for."""
    fitting = [name for name, skill in skills.items() if name == force or skill.token in tokens]
    if not fitting or set(tokens) <= forbidden:
        raise InputError(
            "what is forced is forbidden, or its tool is not bound",
            value=force,
            limit=", ".join(skills) or "no skill is bound",
            remedy="Bind the tool, or correct `force` and `forbid`.",
        )
    return force if force in fitting else fitting[0]
