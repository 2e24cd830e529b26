"""What programs bind to a chat model, in all the forms in which they do it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from visionllm_sdk.agent.functions import Function
from visionllm_sdk.errors import InputError

__all__ = ["answer_format", "function_of", "named_choice"]


def named_choice(choice: str | bool | Mapping[str, Any] | None, names: Sequence[str]) -> str:
    """One form of all the forms in which programs choose tools."""
    if isinstance(choice, Mapping):  # {"type": "function", "function": {"name": ...}} or {"name": ...}
        choice = choice.get("function", choice).get("name", choice.get("type"))
    words: dict[Any, str] = {None: "auto", False: "auto", True: "any", "required": "any"}
    chosen = words.get(choice, str(choice))
    if chosen not in ("auto", "any", "none", *names):
        raise InputError(
            "tool_choice names no bound tool",
            value=chosen,
            limit=", ".join(("auto", "any", "none", *names)),
            remedy="Correct the name, or bind the tool.",
        )
    return chosen


def function_of(data: Mapping[str, Any]) -> Function:
    """A tool of somebody else, from its OpenAI form."""
    return Function(
        name=data["name"], description=data.get("description") or "", parameters=data.get("parameters") or {}
    )


def answer_format(data: Any) -> Function | None:
    """The schema of `response_format`, as for OpenAI models."""
    inner = data.get("json_schema") if isinstance(data, Mapping) else None
    if not isinstance(inner, Mapping):
        return None
    return Function(name=str(inner.get("name", "answer")), parameters=inner.get("schema") or {})
