"""What a reply may call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from visionllm_sdk.agent.functions import Function
from visionllm_sdk.agent.skills import Skill

__all__ = ["Binding"]


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
    """

    skills: Mapping[str, Skill]
    functions: Sequence[Function] = ()
    choice: str = "auto"
    tokens: tuple[str, ...] = ()
    answer: Function | None = None
    copy: bool = True
    grounded: bool = True
    linked: bool = True

    def skill_of(self, token: str) -> Skill | None:
        """The skill that a routing token calls; the one that must be called goes first.

        None where the token only opens the answer of another skill, such as the kinds of objects of a pose.
        """
        fitting = [skill for skill in self.skills.values() if skill.token == token]
        return next((skill for skill in fitting if skill.name == self.choice), next(iter(fitting), None))
