"""Results in words: answers, region texts, and replies with their routed calls."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import NonNegativeInt, SerializeAsAny, field_validator

from visionllm_sdk._result import Probability, Result
from visionllm_sdk.geometry import Region

__all__ = ["Alternative", "Answer", "RegionDescription", "RegionLabel", "Reply", "RoutedCall", "Usage"]


class RegionDescription(Result):
    """What the model says about one region."""

    type: Literal["region_description"] = "region_description"
    region: Region
    text: str


class RegionLabel(Result):
    """The label of one region, out of the labels that were offered."""

    type: Literal["region_label"] = "region_label"
    region: Region
    label: str
    score: Probability


class Answer(Result):
    """A reply in words.

    `probability` is the geometric mean over the tokens of the text that was generated last, as the model sees
    them: of the words themselves, also where a tool was asked first.
    """

    type: Literal["answer"] = "answer"
    text: str
    question: str = ""
    probability: Probability | None = None

    def __str__(self) -> str:
        return self.text


class Usage(Result):
    """Tokens of one request; `image_tokens` (tiles x patches) are part of `input_tokens`."""

    type: Literal["usage"] = "usage"
    input_tokens: NonNegativeInt
    image_tokens: NonNegativeInt
    output_tokens: NonNegativeInt


class Alternative(Result):
    """What stood beside a routing decision: another token, or no tool (`token` is "")."""

    type: Literal["alternative"] = "alternative"
    token: str
    probability: Probability


class RoutedCall(Result):
    """One use of a routed tool inside a reply.

    `token` is the routing token ("[DET]"), `tool` the name of the routed tool ("detect" for three tokens) or,
    in replies of agents, of the skill that was called ("ground"), `labels` the text spans that stood
    before the tokens of this call, `probability` that of the routing decision, `alternatives` what else was
    close. `image` and `superlink` are handles, where a session keeps them.
    """

    type: Literal["routed_call"] = "routed_call"
    token: str
    tool: str
    labels: tuple[str, ...] = ()
    probability: Probability
    alternatives: tuple[Alternative, ...] = ()
    result: SerializeAsAny[Result] | None = None
    image: str | None = None
    superlink: str | None = None

    @field_validator("result", mode="before")
    @classmethod
    def _revive_data(cls, value: Any) -> Any:
        from visionllm_sdk.results import revive  # the closed list of types includes this one

        return revive(value) if isinstance(value, dict) else value


class Reply(Result):
    """A turn of the model: its text, without control tokens, and the routed calls in the order of the text.

    `probability` is the geometric mean over the tokens that were generated last: the closing sentence where
    tools have reported, else the whole reply. Each call says how certain its own routing was. `seen` are the
    digests of the conversation's images: they tell later turns of a history where an image belongs.
    """

    type: Literal["reply"] = "reply"
    text: str
    calls: tuple[RoutedCall, ...] = ()
    finish_reason: Literal["stop", "stop_string", "length", "cancelled"] = "stop"
    usage: Usage | None = None
    probability: Probability | None = None
    seen: tuple[str, ...] | None = None

    def __str__(self) -> str:
        return self.text

    @property
    def results(self) -> tuple[Result, ...]:
        """The results of the calls that have one."""
        return tuple(call.result for call in self.calls if call.result is not None)
