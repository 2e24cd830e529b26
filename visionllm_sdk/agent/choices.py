"""What programs bind to a chat model, in all the forms in which they do it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.utils.function_calling import convert_to_openai_tool

from visionllm_sdk.agent.functions import Function
from visionllm_sdk.errors import InputError

__all__ = ["answer_format", "as_function", "function_of", "named_choice"]


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


def as_function(tool: Any) -> dict[str, Any]:
    """A tool of somebody else in OpenAI's form, from any form that LangChain knows, or OpenAI's flat one.

    Raises:
        InputError: nothing that a model can call, such as a service of another provider.
    """
    if isinstance(tool, Mapping) and tool.get("type") == "function" and "name" in tool:
        tool = {"type": "function", "function": {key: tool[key] for key in tool if key != "type"}}
    try:
        made: dict[str, Any] = convert_to_openai_tool(tool)
    except (TypeError, ValueError) as error:
        raise _no_function(tool) from error
    if not isinstance(made.get("function"), Mapping) or not isinstance(made["function"].get("name"), str):
        raise _no_function(tool)
    return made


def _no_function(tool: Any) -> InputError:
    return InputError(
        "this is no tool that the model can call",
        value=tool,
        limit="tools of LangChain, functions with a docstring, pydantic models, schemas of named functions",
        remedy="Services of other providers, such as web_search, work with their own models only.",
    )


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
