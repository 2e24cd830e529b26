"""What a caller may say beside a message, and what that means for the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypedDict

from visionllm_sdk.adapters import AdapterChoice
from visionllm_sdk.errors import InputError
from visionllm_sdk.generation import CancelToken, GenerationOptions
from visionllm_sdk.skills.arguments import check_threshold
from visionllm_sdk.skills.engine import Engine
from visionllm_sdk.skills.marking import Regions

_PICTURE_OPTIONS: Final = ("seed", "steps", "guidance", "watch")


class ChatSettings(TypedDict, total=False):
    """What a caller may say beside the message.

    Attributes:
        system: replaces the checkpoint's system prompt; the empty string leaves it out.
        force: routing token or skill (``"[DET]"``, ``"detect"``) that the reply must use.
        forbid: routing tokens or skills that it must not use.
        threshold: lowest score of what tools return; None takes the checkpoint's own.
        seed: of the noise of produced pictures; None draws one.
        steps: denoising steps of produced pictures; None takes the checkpoint's own number.
        guidance: how closely produced pictures follow the words; None takes the checkpoint's own.
        watch: is called after every denoising step, also while streaming; its argument draws previews.
        regions: region prompts of the message; for a list of messages one such entry for each.
        options: limits and sampling.
        cancel: stops the request from another thread: the reply ends there, with the finish reason
            "cancelled"; a picture that is being made is left out.
        adapter: name of a loaded adapter to answer with; for a list of messages also one for each.
    """

    system: str | None
    force: str | None
    forbid: str | Sequence[str]
    threshold: float | None
    regions: Regions | Sequence[Regions | None] | None
    seed: int | None
    steps: int | None
    guidance: float | None
    watch: Callable[[Any], None] | None
    options: GenerationOptions | None
    cancel: CancelToken | None
    adapter: AdapterChoice


@dataclass(frozen=True, slots=True, kw_only=True)
class TalkSettings:
    """How a message is answered.

    Attributes:
        generation: limits, sampling, and which routing tokens may be used.
        tool_options: options of the tools by name; those that a tool does not have are left out.
        system: replaces the checkpoint's system prompt.
        cancel: stops the request from another thread.
    """

    generation: GenerationOptions
    tool_options: Mapping[str, Any] = field(default_factory=dict)
    system: str | None = None
    cancel: CancelToken | None = None


def talk_settings(engine: Engine, settings: ChatSettings) -> TalkSettings:
    """Check what a caller said beside the message.

    Raises:
        InputError: an unknown setting, token or skill, one that is both forced and forbidden, or a threshold
            out of range.
    """
    unknown = sorted(settings.keys() - ChatSettings.__annotations__.keys())
    if unknown:
        known = ", ".join(ChatSettings.__annotations__)
        raise InputError("unknown setting", value=unknown[0], limit=known, remedy="Correct its name.")
    return TalkSettings(
        generation=_routing(engine, settings),
        tool_options={
            "threshold": check_threshold(settings.get("threshold")),
            **{name: settings.get(name) for name in _PICTURE_OPTIONS},
            "cancel": settings.get("cancel"),
        },
        system=settings.get("system"),
        cancel=settings.get("cancel"),
    )


def _routing(engine: Engine, settings: ChatSettings) -> GenerationOptions:
    """The generation options with routing tokens forced or forbidden."""
    chosen = settings.get("options") or GenerationOptions()
    forbid, force = settings.get("forbid") or (), settings.get("force")
    names = (forbid,) if isinstance(forbid, str) else forbid
    barred = {token for name in names for token in engine.tokens_of(name)}
    required, before = chosen.require, chosen.before
    if force is not None:
        required = engine.tokens_of(force)[0]
    if required in engine.routing_tokens:
        before = tuple(dict.fromkeys((*before, *engine.kind(required).needed_tokens())))
    both = barred.intersection((*before, required))
    if both:
        raise InputError(
            "a routing token is both forced and forbidden",
            value=", ".join(sorted(map(str, both))),
            remedy="Leave it out of forbid, or force another.",
        )
    allowed = engine.routing_tokens if chosen.tokens is None else chosen.tokens
    tokens = engine.usable([token for token in allowed if token not in barred])
    return replace(chosen, tokens=tokens, require=required, before=before)
