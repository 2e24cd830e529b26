"""What programs bind to a chat model, in all the forms in which they do it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from langchain_core.tools import BaseTool, Tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, RootModel, TypeAdapter
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema
from typing_extensions import is_typeddict

from visionllm_sdk.agent.functions import Function
from visionllm_sdk.errors import InputError

__all__ = ["answer_format", "as_function", "function_of", "named_choice"]

_WORDS: Final = {"auto": "auto", "any": "any", "required": "any", "none": "none"}


class _Written(GenerateJsonSchema):
    """Schemas that also say whether a time has a zone and is past: pydantic checks it untold."""

    def datetime_schema(self, schema: core_schema.DatetimeSchema) -> JsonSchemaValue:
        zone = schema.get("tz_constraint")
        form = "date-time" if zone is None else "local-date-time" if zone == "naive" else "zoned-date-time"
        return {"type": "string", "format": form, **_side(schema.get("now_op"))}

    def date_schema(self, schema: core_schema.DateSchema) -> JsonSchemaValue:
        return {"type": "string", "format": "date", **_side(schema.get("now_op"))}


def _side(of_now: str | None) -> dict[str, str]:
    """Which side of now a day or a time must be on."""
    return {} if of_now is None else {"x-when": of_now}


def named_choice(choice: Any, names: Sequence[str]) -> str:
    """One form of all the forms in which programs choose tools: "auto", "any", "none", or a name.

    Args:
        choice: None, a bool, a word, a name, or what OpenAI and Anthropic take: `{"type": "auto"}`,
            `{"type": "function", "function": {"name": ...}}`, `{"type": "tool", "name": ...}`.
        names: of the tools that are bound.

    Raises:
        InputError: anything else, or a name that is not bound.
    """
    chosen: Any = choice
    if isinstance(choice, Mapping):
        inner = choice.get("function")
        kind = choice.get("type")
        named = inner.get("name") if isinstance(inner, Mapping) else choice.get("name")
        chosen = kind if named is None else named
    elif choice is None or isinstance(choice, bool):
        chosen = "any" if choice else "auto"
    if isinstance(chosen, str) and chosen in names:
        return chosen
    if not isinstance(chosen, str) or chosen not in _WORDS:
        raise InputError(
            "tool_choice names no bound tool",
            value=choice if chosen is None else chosen,
            limit=", ".join((*_WORDS, *names)),
            remedy="Correct the name, or bind the tool.",
        )
    return _WORDS[chosen]


def as_function(tool: Any) -> dict[str, Any]:
    """A tool of somebody else in OpenAI's form, from any form that LangChain knows, or OpenAI's flat one.

    Classes of pydantic keep their definitions, so that one may refer to itself; what a `RootModel` holds
    becomes the argument `root`, for arguments have names.

    Raises:
        InputError: nothing that a model can call, such as a service of another provider, or a field
            whose type has no JSON schema.
    """
    if isinstance(tool, Mapping) and tool.get("type") == "function" and "name" in tool:
        tool = {"type": "function", "function": {key: tool[key] for key in tool if key != "type"}}
    form = _form_of(tool)
    parameters = None if form is None else _schema_of(form)  # which names the field that has none
    try:
        made: dict[str, Any] = convert_to_openai_tool(tool)
    except (TypeError, ValueError, PydanticUserError) as error:
        raise _no_function(tool) from error
    if not isinstance(made.get("function"), Mapping) or not isinstance(made["function"].get("name"), str):
        raise _no_function(tool)
    if form is not None and parameters is not None:
        if issubclass(form, RootModel):
            definitions = parameters.pop("$defs", {})
            parameters = {"type": "object", "properties": {"root": parameters}, "required": ["root"]}
            parameters |= {"$defs": definitions} if definitions else {}
        made = {**made, "function": {**made["function"], "parameters": parameters}}
    return made


def _form_of(tool: Any) -> type[BaseModel] | None:
    """The class of pydantic that describes a tool's arguments, if one does."""
    if isinstance(tool, Tool) and not tool.args_schema:  # takes one text, which LangChain names
        return None
    form = tool.tool_call_schema if isinstance(tool, BaseTool) else tool
    return form if isinstance(form, type) and issubclass(form, BaseModel) else None


def _schema_of(form: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a class with its definitions."""
    try:
        schema = form.model_json_schema(schema_generator=_Written)
    except PydanticUserError as error:
        name, kind = next(
            ((name, part.annotation) for name, part in form.model_fields.items() if not _has_schema(part)),
            ("", form),
        )
        raise InputError(
            f"the field {name!r} of {form.__name__} has a type without a JSON schema",
            value=kind,
            limit="texts, numbers, truths, dates, choices, lists, dicts and models of them",
            remedy="Give the field another type, or leave it out of the form and set it afterwards.",
        ) from error
    if "$ref" in schema:  # it refers to itself
        schema = {**schema["$defs"][schema["$ref"].rpartition("/")[2]], "$defs": schema["$defs"]}
    return {key: value for key, value in schema.items() if key not in ("title", "description")}


def _has_schema(part: Any) -> bool:
    try:
        TypeAdapter(part.annotation).json_schema()
    except PydanticUserError:
        return False
    return True


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
    """The schema of `response_format`; None where the answer is free text.

    Args:
        data: None, `{"type": "text"}`, a class of pydantic, a TypedDict, a JSON schema of an object, or
            OpenAI's `{"type": "json_schema", "json_schema": {"name": ..., "schema": ...}}`, flat or not.

    Raises:
        InputError: anything else, such as `{"type": "json_object"}`, which says nothing about the object.
    """
    if data is None or (isinstance(data, Mapping) and data.get("type") == "text"):
        return None
    if isinstance(data, type) and (issubclass(data, BaseModel) or is_typeddict(data)):
        form = _form_of(data)
        function = as_function(data)["function"]
        return function_of(function if form is None else {**function, "parameters": _schema_of(form)})
    schema = None
    if isinstance(data, Mapping):
        inner = data.get("json_schema", data)
        whole = isinstance(data.get("properties"), Mapping)
        schema = data if whole else inner.get("schema") if isinstance(inner, Mapping) else None
        if isinstance(inner, Mapping) and isinstance(schema, Mapping):
            name = inner.get("name", schema.get("title", "answer"))
            return Function(name=str(name), parameters=schema)
    raise InputError(
        "response_format gives no schema, by which the answer is written",
        value=data,
        limit="a pydantic model, a TypedDict, a JSON schema, "
        '{"type": "json_schema", "json_schema": {"name": ..., "schema": ...}}, {"type": "text"}',
        remedy="Describe the object that is wanted, for instance as a pydantic model.",
    )
